//! Server, clients and the interface between them, in network namespaces.

use std::{
    collections::BTreeSet,
    io::ErrorKind,
    net::{Ipv6Addr, SocketAddrV6, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use dhcp6_common::wire::{
    ALL_SERVERS, CLIENT_PORT, IA_NA_HEADER_LEN, MESSAGE_HEADER_LEN, MessageType, OptionCode, OptionWalker,
    SERVER_PORT, StatusCode,
};
use dhcp6_userspace::net::Interface;
use serde_json::Value;
use tests::{
    client::{BareClient, Program, Subscriber},
    frame::{MessageBuilder, Received},
    netns::{CLIENT_INTERFACE, SERVER_LINK_LOCAL, Wire, privileged},
    raw::RawClient,
    server::{Additions, Plane, Server},
};

const DUID: [u8; 10] = [0, 3, 0, 1, 2, 0, 0, 0, 0, 0x0a];
const DUID_TEXT: &str = "00:03:00:01:02:00:00:00:00:0a";

/// A Solicit with Rapid Commit from the bare client.
fn solicit(transaction: u8) -> Vec<u8> {
    MessageBuilder::new(MessageType::Solicit, [0, 0, transaction])
        .client_id(&DUID)
        .rapid_commit()
        .elapsed_time()
        .ia_na(1, &[])
        .request(&[23, 24])
        .build()
}

fn option(message: &[u8], code: OptionCode) -> Result<&[u8]> {
    option_of(&message[MESSAGE_HEADER_LEN..], code)
}

fn option_of(options: &[u8], code: OptionCode) -> Result<&[u8]> {
    OptionWalker::new(options)
        .filter_map(Result::ok)
        .find(|option| option.code == code)
        .map(|option| option.value)
        .with_context(|| format!("no option {code:?}"))
}

/// The address in the first IA_NA of a message.
fn address(message: &[u8]) -> Result<Ipv6Addr> {
    let ia = option(message, OptionCode::IA_NA)?;
    let value = option_of(&ia[IA_NA_HEADER_LEN..], OptionCode::IA_ADDRESS)?;
    let octets: [u8; 16] = *value.first_chunk().context("an IA Address is too short")?;
    Ok(octets.into())
}

fn sum(counters: &Value) -> u64 {
    counters.as_object().into_iter().flat_map(|counters| counters.values()).filter_map(Value::as_u64).sum()
}

/// The daemon answers a real client the first time, the kernel the second time.
fn answered_by_both_planes(program: Program, plane: Plane) -> Result<()> {
    let wire = Wire::new()?;
    let server = Server::start(&wire, plane)?;
    let subscriber = Subscriber::new(program)?;

    let first = subscriber.power_up(&wire.client)?;
    assert_eq!((server.replies()?, server.answered()?), (1, 0), "the daemon answers a stranger");

    let second = subscriber.power_up(&wire.client)?;
    assert_eq!(first, second, "matrix row S-17");
    assert_eq!((server.replies()?, server.answered()?), (1, 1), "the kernel answers a known client");
    Ok(())
}

#[test]
fn both_planes_answer_real_clients() -> Result<()> {
    if !privileged("both_planes_answer_real_clients") {
        return Ok(());
    }
    for program in Program::ALL.into_iter().filter(|program| program.is_installed()) {
        for plane in [Plane::Native, Plane::Generic] {
            answered_by_both_planes(program, plane).with_context(|| format!("{program:?}, {plane:?}"))?;
        }
    }
    Ok(())
}

#[test]
fn the_daemon_alone_gives_the_same_answers() -> Result<()> {
    if !privileged("the_daemon_alone_gives_the_same_answers") {
        return Ok(());
    }
    for program in Program::ALL.into_iter().filter(|program| program.is_installed()) {
        let wire = Wire::new()?;
        let server = Server::start(&wire, Plane::DaemonOnly)?;
        let subscriber = Subscriber::new(program)?;
        let first = subscriber.power_up(&wire.client)?;
        assert_eq!(first, subscriber.power_up(&wire.client)?, "{program:?}");
        assert_eq!(server.replies()?, 2, "{program:?}");
    }
    Ok(())
}

#[test]
fn a_lease_survives_the_death_of_the_server() -> Result<()> {
    if !privileged("a_lease_survives_the_death_of_the_server") {
        return Ok(());
    }
    let wire = Wire::new()?;
    let mut server = Server::start(&wire, Plane::Generic)?;
    let client = BareClient::open(&wire.client)?;
    let first = client.exchange(&solicit(1))?;
    let server_id = option(&first, OptionCode::SERVER_ID)?.to_vec();

    server.kill()?;
    let looked_up = server.ctl_json(&["map", "lookup", DUID_TEXT])?;
    assert_eq!(looked_up[0]["ia_na"]["address"], address(&first)?.to_string(), "the maps outlive the daemon");
    assert!(server.ctl_json(&["stats"])?["slow_path"].is_null(), "stats work while the daemon is down");
    assert_eq!(server.ctl(&["status"])?.status.code(), Some(3), "status cannot");

    server.restart()?;
    let second = client.exchange(&solicit(2))?;
    assert_eq!(address(&first)?, address(&second)?, "matrix row S-17");
    assert_eq!(option(&second, OptionCode::SERVER_ID)?, server_id, "matrix row U-8");
    assert_eq!(server.answered()?, 1, "the restarted server has filled the kernel's map");

    let stranger = MessageBuilder::new(MessageType::Solicit, [0, 0, 3])
        .client_id(&[0, 3, 0, 1, 2, 0, 0, 0, 0, 0x0b])
        .rapid_commit()
        .ia_na(1, &[address(&first)?])
        .build();
    assert_ne!(address(&client.exchange(&stranger)?)?, address(&first)?, "the owner keeps it");
    Ok(())
}

#[test]
fn a_direct_client_is_known_by_its_frame() -> Result<()> {
    if !privileged("a_direct_client_is_known_by_its_frame") {
        return Ok(());
    }
    let wire = Wire::new()?;
    let mac = wire.client.enter(|| Interface::find(CLIENT_INTERFACE))?.mac;
    let mac = mac.map(|octet| format!("{octet:02x}")).join(":");
    let reservation = |mac: &str, host: u8| {
        format!("[[link.reservation]]\nmac = \"{mac}\"\naddress = \"2001:db8:1::{host}\"\n")
    };
    let reservations = reservation(&mac, 5) + &reservation("02:00:00:00:00:05", 6);
    let additions = Additions { file: &reservations, ..Additions::default() };
    let server = Server::start_with(&wire, Plane::Generic, &additions)?;
    let client = BareClient::open(&wire.client)?;
    for transaction in 1..=3 {
        let given = address(&client.exchange(&solicit(transaction))?)?;
        assert_eq!(given.to_string(), "2001:db8:1::5");
    }
    assert_eq!(server.answered()?, 0, "the kernel does not look at MAC addresses");
    Ok(())
}

#[test]
fn both_planes_send_the_same_reply() -> Result<()> {
    if !privileged("both_planes_send_the_same_reply") {
        return Ok(());
    }
    let wire = Wire::new()?;
    let server = Server::start(&wire, Plane::Generic)?;
    let client = BareClient::open(&wire.client)?;
    let from_daemon = client.exchange(&solicit(7))?;
    let from_kernel = client.exchange(&solicit(7))?;
    assert_eq!((server.replies()?, server.answered()?), (1, 1));
    assert_eq!(from_daemon, from_kernel, "matrix row T-17");
    assert!(client.receive(Duration::from_millis(200))?.is_none(), "matrix row T-16");
    Ok(())
}

#[test]
fn the_kernel_forgets_before_the_client_is_told() -> Result<()> {
    if !privileged("the_kernel_forgets_before_the_client_is_told") {
        return Ok(());
    }
    for kind in [MessageType::Release, MessageType::Decline] {
        let wire = Wire::new()?;
        let server = Server::start(&wire, Plane::Generic)?;
        let client = BareClient::open(&wire.client)?;
        let reply = client.exchange(&solicit(1))?;
        let given = address(&reply)?;
        server.ctl_json(&["map", "lookup", DUID_TEXT])?;

        let message = MessageBuilder::new(kind, [0, 0, 2])
            .client_id(&DUID)
            .server_id(option(&reply, OptionCode::SERVER_ID)?)
            .ia_na(1, &[given])
            .build();
        let reply = client.exchange(&message)?;
        let status = option(&reply, OptionCode::STATUS_CODE)?;
        assert_eq!(status[..2], (StatusCode::Success as u16).to_be_bytes(), "matrix rows L-1 and X-2");
        let looked_up = server.ctl(&["map", "lookup", DUID_TEXT])?;
        assert_eq!(looked_up.status.code(), Some(1), "{kind:?}: the kernel has forgotten the client");

        let again = address(&client.exchange(&solicit(3))?)?;
        assert_eq!(server.answered()?, 0, "{kind:?}: the daemon answers");
        if kind == MessageType::Release {
            assert_eq!(again, given, "matrix row Q-17");
        } else {
            assert_ne!(again, given, "matrix row X-5");
            let pool = server.ctl_json(&["pool", "show", "access0", "--state", "conflict"])?;
            assert_eq!(pool["addresses"][0]["address"], given.to_string(), "matrix row X-1");
            let clear = ["conflict", "clear", &given.to_string()];
            assert_eq!(server.ctl_json(&clear)?["cleared"], given.to_string(), "matrix row X-6");
            assert_eq!(server.ctl(&clear)?.status.code(), Some(1), "there is nothing left to clear");
        }
    }
    Ok(())
}

#[test]
fn relay_agents_are_heard_on_their_own_group() -> Result<()> {
    if !privileged("relay_agents_are_heard_on_their_own_group") {
        return Ok(());
    }
    let wire = Wire::new()?;
    let server = Server::start(&wire, Plane::Generic)?;
    let relay = BareClient::open_on(&wire.client, SERVER_PORT, SERVER_PORT)?;
    let link: Ipv6Addr = "2001:db8:1::1".parse()?;
    let forward = [&[MessageType::RelayForward as u8, 0][..], &link.octets(), &[0xfe; 16]].concat();
    let forward = MessageBuilder::from(forward).option(OptionCode::RELAY_MESSAGE, &solicit(1)).build();
    relay.send_to(ALL_SERVERS.into(), &forward)?;
    let reply = relay.receive(Duration::from_secs(3))?.context("matrix row T-2: no answer")?;
    assert_eq!(reply[0], MessageType::RelayReply as u8, "matrix row T-2");
    let inner = option_of(&reply[34..], OptionCode::RELAY_MESSAGE)?;
    assert_eq!(address(inner)?, "2001:db8:1::1000".parse::<Ipv6Addr>()?, "matrix row T-2");
    assert_eq!(server.answered()?, 0, "relayed messages are the daemon's");
    Ok(())
}

/// A Relay-forward of a message, from a relay agent on the link, with an option.
fn forward(code: OptionCode, value: &[u8], message: &[u8]) -> Result<Vec<u8>> {
    let link: Ipv6Addr = "2001:db8:1::1".parse()?;
    let header = [&[MessageType::RelayForward as u8, 0][..], &link.octets(), &[0xfe; 16]].concat();
    Ok(MessageBuilder::from(header).option(code, value).option(OptionCode::RELAY_MESSAGE, message).build())
}

#[test]
fn answers_go_to_the_ports_of_the_rfcs() -> Result<()> {
    const PORT: u16 = 30_000;
    if !privileged("answers_go_to_the_ports_of_the_rfcs") {
        return Ok(());
    }
    let wire = Wire::new()?;
    let _server = Server::start(&wire, Plane::Generic)?;
    let elsewhere = BareClient::open_on(&wire.client, PORT, SERVER_PORT)?;
    let relay = BareClient::open_on(&wire.client, SERVER_PORT, SERVER_PORT)?;
    let client = BareClient::open(&wire.client)?;
    let soon = Duration::from_secs(3);
    let relayed = |reply: Option<Vec<u8>>, codes: &[OptionCode], row| -> Result<()> {
        let reply = reply.with_context(|| format!("matrix row {row}: no answer"))?;
        assert_eq!(reply[0], MessageType::RelayReply as u8, "matrix row {row}");
        let found = OptionWalker::new(&reply[34..]).filter_map(Result::ok).map(|option| option.code);
        assert_eq!(found.collect::<Vec<_>>(), codes, "matrix row {row}");
        Ok(())
    };
    let unasked = forward(OptionCode::REMOTE_ID, &[0, 0, 0, 9, 1], &solicit(1))?;
    elsewhere.send_to(ALL_SERVERS.into(), &unasked)?;
    relayed(relay.receive(soon)?, &[OptionCode::RELAY_MESSAGE], "T-6")?;
    let asked = forward(OptionCode::RELAY_SOURCE_PORT, &[0, 0], &solicit(2))?;
    elsewhere.send_to(ALL_SERVERS.into(), &asked)?;
    let codes = [OptionCode::RELAY_SOURCE_PORT, OptionCode::RELAY_MESSAGE];
    relayed(elsewhere.receive(soon)?, &codes, "E-15")?;
    // The daemon answers the first Solicit, the kernel the second.
    for transaction in [3, 4] {
        elsewhere.send(&solicit(transaction))?;
        let reply = client.receive(soon)?.context("matrix row T-4: no answer")?;
        assert_eq!(reply[3], transaction, "matrix row T-4");
    }
    for (socket, row) in [(&elsewhere, "T-4, T-6"), (&relay, "E-15"), (&client, "T-16")] {
        assert_eq!(socket.receive(Duration::from_millis(100))?, None, "matrix row {row}: nothing more");
    }
    Ok(())
}

#[test]
fn answers_are_plain_datagrams_of_no_other_type() -> Result<()> {
    if !privileged("answers_are_plain_datagrams_of_no_other_type") {
        return Ok(());
    }
    let wire = Wire::new()?;
    let mut server = Server::start(&wire, Plane::Generic)?;
    let raw = RawClient::open(&wire.client)?;
    let client = BareClient::open(&wire.client)?;
    let relay = BareClient::open_on(&wire.client, SERVER_PORT, SERVER_PORT)?;
    let first = client.exchange(&solicit(1))?;
    let given = address(&first)?;
    let server_id = option(&first, OptionCode::SERVER_ID)?;
    let message = |kind| {
        let message = MessageBuilder::new(kind, [0, 0, 9]).client_id(&DUID);
        let message = message.option(OptionCode::RECONFIGURE_ACCEPT, &[]).request(&[23, 24]);
        let message = match kind {
            MessageType::Request | MessageType::Renew | MessageType::Release => message.server_id(server_id),
            _ => message,
        };
        if kind == MessageType::InformationRequest { message } else { message.ia_na(1, &[given]) }
    };
    for kind in [
        MessageType::Solicit,
        MessageType::Request,
        MessageType::Confirm,
        MessageType::Renew,
        MessageType::Rebind,
        MessageType::InformationRequest,
    ] {
        client.exchange(&message(kind).build())?;
        relay.send_to(ALL_SERVERS.into(), &forward(OptionCode(65_000), &[], &message(kind).build())?)?;
        relay.receive(Duration::from_secs(3))?.with_context(|| format!("{kind:?}, relayed: no answer"))?;
    }
    client.exchange(&solicit(2))?;
    assert!(server.answered()? > 0, "the kernel answers, too");
    // Who restarts a server may have changed its configuration, and clients are not told: they ask when they renew.
    server.stop()?;
    server.restart()?;
    client.exchange(&message(MessageType::Release).build())?;

    let mut seen = BTreeSet::new();
    let deadline = Instant::now() + Duration::from_millis(500);
    while let Some(frame) = raw.receive(deadline)? {
        let (ethernet, packet) = frame.split_at(14);
        assert_eq!(ethernet[12..], [0x86, 0xdd], "IPv6");
        // Neighbor Discovery and the groups of the server's kernel are beside the point.
        let (is_group, is_icmp) = (packet[24] == 0xff, packet[6] == 58);
        if packet[8..24] != SERVER_LINK_LOCAL.octets() || is_group || is_icmp {
            continue;
        }
        // UDP is what follows the IPv6 header, without an extension header or a fragment in between.
        assert_eq!(packet[6], 17, "matrix row E-27: {packet:02x?}");
        let Received { ports, message, .. } = Received::parse_unsummed(&frame)?;
        let port = if message[0] == MessageType::RelayReply as u8 { SERVER_PORT } else { CLIENT_PORT };
        assert_eq!(ports, (SERVER_PORT, port), "matrix rows T-3, T-5");
        seen.insert(message[0]);
    }
    let expected = [MessageType::Advertise, MessageType::Reply, MessageType::RelayReply];
    assert_eq!(seen, expected.map(|kind| kind as u8).into(), "matrix rows O-16, Y-20: no Reconfigure");
    Ok(())
}

#[test]
fn an_answer_that_is_longer_than_the_link_takes_arrives_whole() -> Result<()> {
    if !privileged("an_answer_that_is_longer_than_the_link_takes_arrives_whole") {
        return Ok(());
    }
    let wire = Wire::new()?;
    let long = format!("custom = [{{ code = 65000, hex = \"{}\" }}]\n", "5a".repeat(3000));
    let server =
        Server::start_with(&wire, Plane::Generic, &Additions { file: &long, ..Additions::default() })?;
    let client = BareClient::open(&wire.client)?;
    for transaction in 1..=2 {
        let solicit = MessageBuilder::from(solicit(transaction)[..MESSAGE_HEADER_LEN].to_vec());
        let solicit = solicit.client_id(&DUID).rapid_commit().ia_na(1, &[]).request(&[65_000]).build();
        let reply = client.exchange(&solicit)?;
        assert_eq!(option(&reply, OptionCode(65_000))?, [0x5a; 3000], "matrix row T-22");
    }
    assert_eq!(
        (server.replies()?, server.answered()?),
        (2, 0),
        "matrix row T-22: the kernel sends no such frame"
    );
    Ok(())
}

#[test]
fn nobody_listens_for_connections() -> Result<()> {
    if !privileged("nobody_listens_for_connections") {
        return Ok(());
    }
    let wire = Wire::new()?;
    let _server = Server::start(&wire, Plane::Generic)?;
    let refused = wire.client.enter(|| -> Result<_> {
        let scope = nix::net::if_::if_nametoindex(CLIENT_INTERFACE)?;
        let server = SocketAddrV6::new(SERVER_LINK_LOCAL, SERVER_PORT, 0, scope);
        Ok(TcpStream::connect_timeout(&server.into(), Duration::from_secs(3)))
    })?;
    let error = refused.err().map(|error| error.kind());
    assert_eq!(error, Some(ErrorKind::ConnectionRefused), "matrix row E-19: no leasequery on TCP");
    Ok(())
}

#[test]
fn the_link_is_that_of_the_interface() -> Result<()> {
    if !privileged("the_link_is_that_of_the_interface") {
        return Ok(());
    }
    let wire = Wire::new()?;
    let other = "[[link]]\nname = \"other\"\nprefix = \"2001:db8:2::/64\"\nrapid_commit = true\n\
                 [[link.pool]]\nrange = \"2001:db8:2::1000-2001:db8:2::1fff\"\n";
    let server =
        Server::start_with(&wire, Plane::Generic, &Additions { file: other, ..Additions::default() })?;
    let client = BareClient::open(&wire.client)?;
    // An address of the other link is no reason to be served from it.
    let hint = "2001:db8:2::1000".parse()?;
    let solicit = MessageBuilder::new(MessageType::Solicit, [0, 0, 1]).client_id(&DUID).rapid_commit();
    let given = address(&client.exchange(&solicit.ia_na(1, &[hint]).build())?)?;
    assert_eq!(given, "2001:db8:1::1000".parse::<Ipv6Addr>()?, "matrix row S-14");
    assert_eq!(server.ctl_json(&["lease", "list"])?[0]["link"], "access0", "matrix row S-14");
    Ok(())
}

#[test]
fn a_burst_is_answered_once_each() -> Result<()> {
    const BURST: u8 = 200;
    if !privileged("a_burst_is_answered_once_each") {
        return Ok(());
    }
    let wire = Wire::new()?;
    let _server = Server::start(&wire, Plane::Generic)?;
    let client = BareClient::open(&wire.client)?;
    for number in 0..BURST {
        let duid = [&DUID[..9], &[number]].concat();
        let solicit = MessageBuilder::new(MessageType::Solicit, [0, 1, number]).client_id(&duid);
        client.send(&solicit.rapid_commit().ia_na(1, &[]).build())?;
    }
    let mut answered = BTreeSet::new();
    while let Some(reply) = client.receive(Duration::from_secs(1))? {
        assert!(answered.insert(reply[3]), "matrix row Q-14: transaction {} twice", reply[3]);
    }
    assert!(answered.len() * 100 >= usize::from(BURST) * 95, "matrix row Q-14: {} answered", answered.len());
    Ok(())
}

#[test]
fn garbage_is_counted_and_not_answered() -> Result<()> {
    if !privileged("garbage_is_counted_and_not_answered") {
        return Ok(());
    }
    let wire = Wire::new()?;
    let server = Server::start(&wire, Plane::Generic)?;
    let client = BareClient::open(&wire.client)?;
    let whole = solicit(1);
    let mut garbage: Vec<Vec<u8>> = (0..4).map(|len| whole[..len].to_vec()).collect();
    // Each of these cuts lies inside an option; between two options it would leave a message.
    garbage.extend([5, 7, 15, 25, 31, whole.len() - 1].map(|len| whole[..len].to_vec()));
    garbage.push([&whole[..], &[0xff; 3]].concat());
    garbage.push([&whole[..], &[0, 6, 0xff, 0xff]].concat());
    garbage.push(vec![0xff; 1200]);
    garbage.push((0..=255).collect());
    garbage.push(MessageBuilder::new(MessageType::Solicit, [1; 3]).client_id(&[]).rapid_commit().build());
    garbage.push(MessageBuilder::new(MessageType::Solicit, [1; 3]).client_id(&[9; 300]).build());
    for message in &garbage {
        client.send(message)?;
    }
    assert_eq!(client.receive(Duration::from_millis(500))?, None, "no answer");

    let stats = server.ctl_json(&["stats"])?;
    let slow_path = &stats["slow_path"];
    let in_kernel = sum(&stats["fast_path"]["dropped"]);
    assert_eq!(sum(&slow_path["received"]), garbage.len() as u64 - in_kernel, "{stats}");
    assert_eq!(sum(&slow_path["dropped"]), sum(&slow_path["received"]), "{stats}");
    assert!(in_kernel * 2 > garbage.len() as u64, "most does not reach the daemon: {stats}");
    assert_eq!(sum(&slow_path["sent"]), 0, "{stats}");
    assert_eq!(address(&client.exchange(&whole)?)?, "2001:db8:1::1000".parse::<Ipv6Addr>()?, "still serving");
    Ok(())
}

#[test]
fn the_daemon_needs_no_privileges_without_the_fast_path() -> Result<()> {
    if !privileged("the_daemon_needs_no_privileges_without_the_fast_path") {
        return Ok(());
    }
    let wire = Wire::new()?;
    let mut server = Server::start_unprivileged(&wire, 10547)?;
    let status = server.ctl_json(&["status"])?;
    let [octets, wanted] =
        ["octets", "asked_for"].map(|key| status["receive_buffer"][key].as_u64().unwrap_or_default());
    let most: u64 = std::fs::read_to_string("/proc/sys/net/core/rmem_max")?.trim().parse()?;
    assert_eq!((octets, wanted), (most.min(16 << 20), 16 << 20), "{status}");
    let text = String::from_utf8(server.ctl(&["status"])?.stdout)?;
    assert_eq!(text.contains("raise net.core.rmem_max to 16777216"), octets < wanted, "{text}");
    let client = BareClient::open_on(&wire.client, 10546, 10547)?;
    let advertise = client.exchange(
        &MessageBuilder::new(MessageType::Solicit, [0, 0, 1]).client_id(&DUID).ia_na(1, &[]).build(),
    )?;
    assert_eq!(advertise[0], MessageType::Advertise as u8, "matrix row S-1");
    let offered = address(&advertise)?;
    let request = MessageBuilder::new(MessageType::Request, [0, 0, 2])
        .client_id(&DUID)
        .server_id(option(&advertise, OptionCode::SERVER_ID)?)
        .ia_na(1, &[offered])
        .build();
    let reply = client.exchange(&request)?;
    assert_eq!((reply[0], address(&reply)?), (MessageType::Reply as u8, offered), "matrix row S-11");
    assert!(server.stop()? < Duration::from_secs(5));
    Ok(())
}

#[test]
fn a_stopped_server_is_detached_when_that_is_wanted() -> Result<()> {
    if !privileged("a_stopped_server_is_detached_when_that_is_wanted") {
        return Ok(());
    }
    let wire = Wire::new()?;
    let mut server = Server::start(&wire, Plane::Native)?;
    let client = BareClient::open(&wire.client)?;
    client.exchange(&solicit(1))?;
    let attached = || tests::netns::run(wire.server.command("ip").args(["link", "show", "srv0"]));
    ensure!(attached()?.contains("xdp"), "attached while it runs");
    assert!(server.detach().is_err(), "it is running");
    assert!(server.stop()? < Duration::from_secs(5));
    ensure!(attached()?.contains("xdp"), "and goes on answering when it has stopped");
    server.detach()?;
    ensure!(!attached()?.contains("xdp"), "detached");
    server.detach()?;
    server.restart()?;
    client.exchange(&solicit(2))?;
    assert_eq!(server.answered()?, 1, "and back");
    Ok(())
}

#[test]
fn dhcp6ctl_shows_both_planes() -> Result<()> {
    if !privileged("dhcp6ctl_shows_both_planes") {
        return Ok(());
    }
    let wire = Wire::new()?;
    let server = Server::start(&wire, Plane::Generic)?;
    let client = BareClient::open(&wire.client)?;
    let given = address(&client.exchange(&solicit(1))?)?.to_string();
    client.exchange(&solicit(2))?;

    let pool_of = ["pool", "show", "access0"];
    let lookup = ["map", "lookup", DUID_TEXT];
    for (arguments, pointer, expected) in [
        (&["status"][..], "/fast_path/0/interface", Value::from("srv0")),
        (&["status"], "/fast_path/0/mode", "generic".into()),
        (&pool_of, "/link", "access0".into()),
        (&pool_of, "/counts/idle", 61439.into()),
        (&pool_of, "/counts/used", 1.into()),
        (&pool_of, "/counts/conflict", 0.into()),
        (&pool_of, "/counts/excluded", 0.into()),
        (&pool_of, "/addresses/0/address", given.clone().into()),
        (&pool_of, "/addresses/0/state", "used".into()),
        (&pool_of, "/addresses/0/duid", DUID_TEXT.into()),
        (&["pool", "list"], "/0/counts/used", 1.into()),
        (&["lease", "list", "--duid", DUID_TEXT], "/0/address", given.clone().into()),
        (&["lease", "list"], "/0/kind", "na".into()),
        (&["lease", "list"], "/0/iaid", 1.into()),
        (&["lease", "list"], "/0/state", "bound".into()),
        (&["lease", "list"], "/0/link", "access0".into()),
        (&lookup, "/0/link", "access0".into()),
        (&lookup, "/0/duid", DUID_TEXT.into()),
        (&lookup, "/0/ia_na/iaid", 1.into()),
        (&lookup, "/0/ia_na/address", given.clone().into()),
        (&lookup, "/0/grants", 1.into()),
        (&["map", "show", "--link", "access0"], "/0/ia_na/address", given.clone().into()),
        (&["map", "list"], "/0/name", "BINDINGS".into()),
        (&["map", "list"], "/0/entries", 1.into()),
        (&["stats"], "/fast_path/answered", 1.into()),
        (&["stats"], "/fast_path/passed/unknown_client", 1.into()),
        (&["stats"], "/fast_path/dropped/internal", 0.into()),
        (&["stats"], "/slow_path/received/solicit", 1.into()),
        (&["stats"], "/slow_path/sent/reply", 1.into()),
        (&["stats"], "/slow_path/dropped/malformed", 0.into()),
        (&["stats"], "/socket_drops", 0.into()),
    ] {
        let document = server.ctl_json(arguments)?;
        assert_eq!(document.pointer(pointer), Some(&expected), "{arguments:?} {pointer}: {document}");
    }
    let entry = &server.ctl_json(&lookup)?[0];
    ensure!(entry["last_grant"].is_string() && entry["serve_until"].is_string(), "times are text: {entry}");
    let idle = server.ctl_json(&[&pool_of[..], &["--state", "idle", "--limit", "2"]].concat())?;
    assert_eq!(idle["addresses"].as_array().map(Vec::len), Some(2));

    for (arguments, status) in [
        (&["pool", "show", "nowhere"][..], 1),
        (&["map", "lookup", "00:03:00:01:02:00:00:00:00:ff"], 1),
        (&["lease", "list", "--link", "nowhere"], 1),
        (&["nonsense"], 2),
    ] {
        let output = server.ctl(arguments)?;
        assert_eq!(output.status.code(), Some(status), "{arguments:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?} says why");
    }
    for arguments in
        [&["status"][..], &["pool", "list"], &pool_of, &["lease", "list"], &["map", "list"], &["stats"]]
    {
        let output = server.ctl(arguments)?;
        assert!(output.status.success() && !output.stdout.is_empty(), "{arguments:?}");
    }
    Ok(())
}
