//! What arrives while no daemon runs waits in sockets that the service manager keeps, and the next daemon answers it.

use std::{
    collections::BTreeSet,
    fs::File,
    net::{Ipv6Addr, SocketAddrV6},
    os::fd::OwnedFd,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use dhcp6_common::wire::{
    CLIENT_PORT, IA_NA_HEADER_LEN, MESSAGE_HEADER_LEN, MessageType, OptionCode, OptionWalker, SERVER_PORT,
};
use dhcp6_userspace::net::Interface;
use socket2::{Domain, Protocol, Socket, Type};
use tests::{
    client::BareClient,
    frame::MessageBuilder,
    netns::{CLIENT_INTERFACE, Namespace, SERVER_INTERFACE, SERVER_LINK_LOCAL, Wire, privileged, run},
    server::{Additions, Plane, Server},
    service_manager::ServiceManager,
};

/// How long an answer may take that needs nothing but a daemon which runs.
const SOON: Duration = Duration::from_secs(2);
/// How many clients come while no daemon runs.
const CLIENTS: u8 = 50;
const LINK_PREFIX: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0);

fn message(kind: MessageType, client: u8, transaction: u8) -> MessageBuilder {
    MessageBuilder::new(kind, [kind as u8, client, transaction]).client_id(&duid(client))
}

fn duid(client: u8) -> [u8; 10] {
    [0, 3, 0, 1, 2, 0, 0, 0, 0, client]
}

fn solicit(client: u8, transaction: u8) -> Vec<u8> {
    message(MessageType::Solicit, client, transaction).rapid_commit().ia_na(1, &[]).build()
}

fn option(options: &[u8], code: OptionCode) -> Result<&[u8]> {
    let mut options = OptionWalker::new(options).filter_map(Result::ok);
    options.find(|option| option.code == code).map(|option| option.value).context("an option is missing")
}

/// The only address in a Reply.
fn address(message: &[u8]) -> Result<Ipv6Addr> {
    ensure!(message[0] == MessageType::Reply as u8, "not a Reply");
    let ia = option(&message[MESSAGE_HEADER_LEN..], OptionCode::IA_NA)?;
    let address = option(&ia[IA_NA_HEADER_LEN..], OptionCode::IA_ADDRESS)?;
    Ok((*address.first_chunk::<16>().context("an address")?).into())
}

/// The name under which the socket on an interface of the server is kept.
fn kept_as(kind: &str, wire: &Wire, interface: &str) -> Result<String> {
    let index = wire.server.enter(|| Interface::find(interface))?.index;
    Ok(format!("{kind}-{index}-{interface}"))
}

/// The names of the sockets on an interface.
fn names(wire: &Wire, interface: &str) -> Result<[String; 3]> {
    let [frames, member, udp] = ["frames", "member", "udp"].map(|kind| kept_as(kind, wire, interface));
    Ok([frames?, member?, udp?])
}

/// A socket as the server opens it.
fn udp_socket(namespace: &Namespace, device: Option<&str>, port: u16, is_shared: bool) -> Result<OwnedFd> {
    namespace.enter(|| {
        let socket = Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_only_v6(true)?;
        socket.set_reuse_address(is_shared)?;
        socket.bind_device(device.map(str::as_bytes))?;
        socket.bind(&SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0).into())?;
        Ok(socket.into())
    })
}

fn prepare<'a>(
    wire: &'a Wire,
    plane: Plane,
    additions: &Additions<'_>,
) -> Result<(Server<'a>, ServiceManager)> {
    Ok((Server::prepare(wire, plane, additions)?, ServiceManager::new()?))
}

#[test]
fn what_arrives_while_no_daemon_runs_is_answered_by_the_next() -> Result<()> {
    if !privileged("what_arrives_while_no_daemon_runs_is_answered_by_the_next") {
        return Ok(());
    }
    for plane in [Plane::DaemonOnly, Plane::Native, Plane::Generic] {
        let wire = Wire::new()?;
        let (mut server, manager) = prepare(&wire, plane, &Additions::default())?;
        server.restart_under(&manager)?;
        let [frames, member, udp] = names(&wire, SERVER_INTERFACE)?;
        let client = BareClient::open(&wire.client)?;
        let mut given = BTreeSet::new();
        let mut said = vec!["READY=1"];
        // The second time, what was taken over is taken over again.
        for (round, orderly) in [(0, true), (1, false), (2, false), (3, true)] {
            manager.keeps(&[&frames, &member, &udp])?;
            manager.has_heard(&said)?;
            if orderly {
                server.stop()?;
                said.push("STOPPING=1");
            } else {
                server.kill()?;
            }
            for number in 0..CLIENTS {
                client.send(&solicit(round * CLIENTS + number, 1))?;
            }
            assert_eq!(client.receive(Duration::from_millis(50))?, None, "{plane:?}: nobody is there");
            server.restart_under(&manager)?;
            said.push("READY=1");
            for number in 0..CLIENTS {
                let reply = client.receive(SOON)?.with_context(|| format!("{plane:?} {round}: {number}"))?;
                given.insert(address(&reply)?);
            }
            assert_eq!(client.receive(Duration::from_millis(50))?, None, "{plane:?}: each was asked once");
        }
        assert_eq!(given.len(), 4 * usize::from(CLIENTS), "{plane:?}: to each client its own");
        assert_eq!(server.ctl_json(&["stats"])?["slow_path"]["socket_drops"], 0, "{plane:?}");
    }
    Ok(())
}

#[test]
fn who_a_waiting_message_came_from_is_known() -> Result<()> {
    if !privileged("who_a_waiting_message_came_from_is_known") {
        return Ok(());
    }
    let wire = Wire::new()?;
    let mac = wire.client.enter(|| Interface::find(CLIENT_INTERFACE))?.mac;
    let mac: Vec<_> = mac.iter().map(|octet| format!("{octet:02x}")).collect();
    let file = format!("[[link.reservation]]\nmac = \"{}\"\naddress = \"2001:db8:1::77\"\n", mac.join(":"));
    let (mut server, manager) =
        prepare(&wire, Plane::DaemonOnly, &Additions { file: &file, ..Additions::default() })?;
    server.restart_under(&manager)?;
    let names = names(&wire, SERVER_INTERFACE)?;
    manager.keeps(&[&names[0], &names[1], &names[2]])?;
    let client = BareClient::open(&wire.client)?;
    for transaction in 0..3 {
        server.kill()?;
        client.send(&solicit(1, transaction))?;
        server.restart_under(&manager)?;
        let reply = client.receive(SOON)?.with_context(|| server.log())?;
        assert_eq!(address(&reply)?, "2001:db8:1::77".parse::<Ipv6Addr>()?);
        manager.keeps(&[&names[0], &names[1], &names[2]])?;
    }
    Ok(())
}

#[test]
fn what_is_kept_follows_the_configuration() -> Result<()> {
    if !privileged("what_is_kept_follows_the_configuration") {
        return Ok(());
    }
    let wire = Wire::new()?;
    run(wire.server.command("ip").args(["link", "add", "extra0", "type", "bridge"]))?;
    run(wire.server.command("ip").args(["link", "set", "extra0", "up"]))?;
    let more = "[[link]]\nname = \"extra\"\ninterface = \"extra0\"\nprefix = \"2001:db8:2::/64\"\n\
                [[link.pool]]\nrange = \"2001:db8:2::/64\"\n";
    let (mut server, manager) =
        prepare(&wire, Plane::DaemonOnly, &Additions { file: more, ..Additions::default() })?;
    server.restart_under(&manager)?;
    let [frames, member, udp] = names(&wire, SERVER_INTERFACE)?;
    let [more_frames, more_member, more_udp] = names(&wire, "extra0")?;
    let mut all = [&*frames, &more_frames, &member, &more_member, &udp, &more_udp];
    all.sort_unstable();
    manager.keeps(&all)?;
    manager.has_heard(&["READY=1"])?;

    server.configure(|text| text.replace("interface = \"extra0\"", ""))?;
    server.ctl_json(&["config", "reload"])?;
    manager.keeps(&[&frames, &member, &udp, "udp-all"])?;
    let reload = ["RELOADING=1", "MONOTONIC_USEC=", "READY=1"];
    manager.has_heard(&[&["READY=1"], &reload[..]].concat())?;

    // What comes from a relay agent, to a socket that was opened by the reload, waits too.
    server.kill()?;
    let relay = BareClient::open_on(&wire.client, SERVER_PORT, SERVER_PORT)?;
    let message = solicit(7, 1);
    let mut forward = vec![MessageType::RelayForward as u8, 0];
    forward.extend(LINK_PREFIX.octets());
    forward.extend(SERVER_LINK_LOCAL.octets());
    forward.extend(OptionCode::RELAY_MESSAGE.0.to_be_bytes());
    forward.extend(u16::try_from(message.len())?.to_be_bytes());
    forward.extend(message);
    // Without an interface of its own, the link's messages come in through the socket for all.
    server.configure(|text| text.replace(&format!("interface = \"{SERVER_INTERFACE}\""), ""))?;
    relay.send_to(SERVER_LINK_LOCAL, &forward)?;
    server.restart_under(&manager)?;
    manager.keeps(&["udp-all"])?;
    assert_eq!(relay.receive(Duration::from_millis(100))?, None, "it waited in the other socket");
    server.kill()?;
    relay.send_to(SERVER_LINK_LOCAL, &forward)?;
    server.restart_under(&manager)?;
    let answer = relay.receive(SOON)?.with_context(|| server.log())?;
    assert_eq!(answer[0], MessageType::RelayReply as u8);

    // A reload that is refused ends as well.
    server.configure(|text| text.replace("prefix =", "prefixes ="))?;
    server.ctl(&["config", "reload"])?;
    let all = [&["READY=1"], &reload[..], &["READY=1", "READY=1"], &reload[..]].concat();
    manager.has_heard(&all)?;
    Ok(())
}

#[test]
fn descriptors_that_do_not_fit_are_closed() -> Result<()> {
    if !privileged("descriptors_that_do_not_fit_are_closed") {
        return Ok(());
    }
    let wire = Wire::new()?;
    let (mut server, manager) = prepare(&wire, Plane::DaemonOnly, &Additions::default())?;
    let [frames, member, fresh] = names(&wire, SERVER_INTERFACE)?;
    // The second of them under the name of what fits.
    let ip = |namespace: &Namespace, arguments: &[&str]| run(namespace.command("ip").args(arguments));
    ip(&wire.server, &["link", "add", "gone0", "type", "bridge"])?;
    ip(&wire.client, &["link", "add", SERVER_INTERFACE, "type", "bridge"])?;
    let tcp = || {
        let socket = Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP))?;
        socket.bind(&SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, SERVER_PORT, 0, 0).into())?;
        socket.listen(1)?;
        anyhow::Ok(OwnedFd::from(socket))
    };
    let client = BareClient::open(&wire.client)?;
    for transaction in 0..2 {
        let set: [(&str, OwnedFd); 3] = if transaction == 0 {
            [
                ("another port", udp_socket(&wire.server, Some(SERVER_INTERFACE), CLIENT_PORT, false)?),
                (&fresh, wire.server.enter(tcp)?),
                ("no socket", File::open("/dev/null")?.into()),
            ]
        } else {
            let gone = udp_socket(&wire.server, Some("gone0"), SERVER_PORT, true)?;
            ip(&wire.server, &["link", "del", "gone0"])?;
            [
                ("interface gone", gone),
                (&fresh, udp_socket(&wire.client, Some(SERVER_INTERFACE), SERVER_PORT, false)?),
                ("for relay agents", udp_socket(&wire.server, None, SERVER_PORT, true)?),
            ]
        };
        let names: Vec<_> = set.iter().map(|(name, _)| (*name).to_owned()).collect();
        for (name, descriptor) in set {
            manager.put(name, descriptor);
        }
        server.restart_under(&manager)?;
        client.exchange(&solicit(1, transaction)).with_context(|| format!("{names:?}"))?;
        manager.keeps(&[&frames, &member, &fresh])?;
        for name in names {
            assert!(server.log().contains(&name), "{name}: {}", server.log());
        }
        // Nobody has them any more.
        udp_socket(&wire.server, Some(SERVER_INTERFACE), CLIENT_PORT, false)?;
        wire.server.enter(tcp)?;
        udp_socket(&wire.client, Some(SERVER_INTERFACE), SERVER_PORT, false)?;
        server.stop()?;
        // What fits is taken from among what does not.
        manager.put("more", File::open("/dev/null")?.into());
        client.send(&solicit(2, transaction))?;
        server.restart_under(&manager)?;
        client.receive(SOON)?.with_context(|| server.log())?;
        manager.keeps(&[&frames, &member, &fresh])?;
        server.stop()?;
        if transaction == 0 {
            manager.forget();
        }
    }
    Ok(())
}

#[test]
fn a_socket_goes_on_with_an_interface_that_comes_again() -> Result<()> {
    if !privileged("a_socket_goes_on_with_an_interface_that_comes_again") {
        return Ok(());
    }
    let wire = Wire::new()?;
    let (mut server, manager) = prepare(&wire, Plane::DaemonOnly, &Additions::default())?;
    server.restart_under(&manager)?;
    let [frames, member, udp] = names(&wire, SERVER_INTERFACE)?;
    manager.keeps(&[&frames, &member, &udp])?;
    server.stop()?;
    // The multicast groups go with the interface, and the socket still has the index.
    wire.reconnect()?;
    server.restart_under(&manager)?;
    assert!(server.log().contains("the socket of an earlier daemon goes on"), "{}", server.log());
    let client = BareClient::open(&wire.client)?;
    client.exchange(&solicit(1, 1))?;
    manager.keeps(&[&frames, &member, &udp])?;
    Ok(())
}

#[test]
fn a_release_that_waited_does_not_take_what_was_granted_since() -> Result<()> {
    if !privileged("a_release_that_waited_does_not_take_what_was_granted_since") {
        return Ok(());
    }
    for plane in [Plane::Native, Plane::Generic] {
        let wire = Wire::new()?;
        let (mut server, manager) = prepare(&wire, plane, &Additions::default())?;
        server.restart_under(&manager)?;
        let [frames, member, udp] = names(&wire, SERVER_INTERFACE)?;
        manager.keeps(&[&frames, &member, &udp])?;
        let client = BareClient::open(&wire.client)?;
        let reply = client.exchange(&solicit(1, 1))?;
        let given = address(&reply)?;
        let server_id = option(&reply[MESSAGE_HEADER_LEN..], OptionCode::SERVER_ID)?.to_vec();
        let release = |transaction| {
            message(MessageType::Release, 1, transaction).server_id(&server_id).ia_na(1, &[given]).build()
        };
        let state_of = |server: &Server<'_>| -> Result<_> {
            Ok(server.ctl_json(&["lease", "show", &given.to_string()])?["state"].clone())
        };
        server.kill()?;
        client.send(&release(2))?;
        // Frames that come together are handled together, and their order in time is not known.
        thread::sleep(Duration::from_millis(10));
        assert_eq!(address(&client.exchange(&solicit(1, 3))?)?, given, "{plane:?}: the kernel answers");
        server.restart_under(&manager)?;
        assert_eq!(client.receive(Duration::from_millis(200))?, None, "{plane:?}: {}", server.log());
        assert_eq!(state_of(&server)?, "bound", "{plane:?}: it is the client's, who came back");
        let stats = server.ctl_json(&["stats"])?;
        assert_eq!(stats["slow_path"]["dropped"]["outdated"], 1, "{plane:?}: {stats}");

        // One that was sent after the last grant holds, whether it waits or not.
        assert_eq!(address(&client.exchange(&solicit(1, 4))?)?, given, "{plane:?}");
        server.kill()?;
        client.send(&release(5))?;
        server.restart_under(&manager)?;
        let reply = client.receive(SOON)?.with_context(|| server.log())?;
        assert_eq!(reply[..4], [MessageType::Reply as u8, MessageType::Release as u8, 1, 5], "{plane:?}");
        assert_ne!(state_of(&server).ok(), Some("bound".into()), "{plane:?}");
        client.exchange(&solicit(1, 6))?;
        client.exchange(&solicit(1, 7))?;
        let reply = client.exchange(&release(8))?;
        assert_eq!(reply[..4], [MessageType::Reply as u8, MessageType::Release as u8, 1, 8], "{plane:?}");
        assert_eq!(server.ctl_json(&["stats"])?["slow_path"]["dropped"]["outdated"], 0, "{plane:?}");
    }
    Ok(())
}
