//! Links in VLANs, without and with the fast path.

use std::{
    net::Ipv6Addr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use dhcp6_common::wire::{MessageType, OptionCode, OptionWalker, Sum};
use tests::{
    describe::hex,
    frame::{C_TAG, MessageBuilder, Received, Route, S_TAG, split_tags, with_tags},
    netns::{SERVER_INTERFACE, SERVER_LINK_LOCAL, SERVER_MAC, Wire, privileged, run},
    raw::TaggedClient,
    server::{Additions, Plane, Server},
    service_manager::ServiceManager,
    subscriber::{address_in, server_id_in},
};

/// How long an answer may take.
const SOON: Duration = Duration::from_secs(2);
/// Time in which an answer would have come.
const SILENCE: Duration = Duration::from_millis(200);

/// Links in VLANs beside the untagged one of 2001:db8:1::/64.
const LINKS: &str = r#"
[[link]]
name = "alone"
interface = "srv0"
vlan = [100]
prefix = "2001:db8:2::/64"
rapid_commit = true
[[link.pool]]
range = "2001:db8:2::1000-2001:db8:2::1fff"

[[link]]
name = "stacked"
interface = "srv0"
vlan = [100, 7]
prefix = "2001:db8:3::/64"
rapid_commit = true
[[link.pool]]
range = "2001:db8:3::1000-2001:db8:3::1fff"

[[link]]
name = "many"
interface = "srv0"
vlan = ["2000-2999", "1-4094"]
prefix = "2001:db8:4::/64"
rapid_commit = true
[[link.pool]]
range = "2001:db8:4::1000-2001:db8:4::1fff"

[[link]]
name = "range"
interface = "srv0"
vlan = ["3000-3999"]
prefix = "2001:db8:5::/64"
rapid_commit = true
[[link.pool]]
range = "2001:db8:5::1000-2001:db8:5::1fff"
"#;

const ADDITIONS: Additions<'_> = Additions { server: "", fast_path: "", link: "", pool: "", file: LINKS };

/// Tags, and the third group of the addresses of the link that they belong to. The highest bits are the priority.
const TAGS: [(&[(u16, u16)], u16); 7] = [
    (&[], 1),
    (&[(C_TAG, 100)], 2),
    (&[(S_TAG, 0xa064)], 2),
    (&[(S_TAG, 100), (C_TAG, 7)], 3),
    (&[(C_TAG, 100), (C_TAG, 0x6007)], 3),
    (&[(S_TAG, 2999), (C_TAG, 4094)], 4),
    (&[(C_TAG, 3000)], 5),
];

/// That of the link "alone".
const TAG: [(u16, u16); 1] = [(C_TAG, 100)];

/// Offsets in an untagged frame; of lengths, that of the lower octet.
const SOURCE_MAC: usize = 6;
const VERSION: usize = 14;
const PAYLOAD_LENGTH: usize = 19;
const SOURCE: usize = 22;
const UDP: usize = 54;
const UDP_LENGTH: usize = 59;
const CHECKSUM: usize = 60;

/// How many clients come while no daemon runs.
const CLIENTS: u8 = 100;

/// Where a client's messages come from.
fn route(client: u8) -> Route {
    Route {
        source_mac: [2, 0, 0, 0, 1, client],
        source: Ipv6Addr::from(0xfe80 << 112 | 0x100 | u128::from(client)),
        ..Route::default()
    }
}

fn message(kind: MessageType, client: u8) -> MessageBuilder {
    MessageBuilder::new(kind, [kind as u8, client, 1]).client_id(&[0, 3, 0, 1, 2, 0, 0, 0, 1, client])
}

fn solicit(client: u8) -> Vec<u8> {
    message(MessageType::Solicit, client).ia_na(1, &[]).build()
}

fn rapid(client: u8) -> Vec<u8> {
    message(MessageType::Solicit, client).rapid_commit().ia_na(1, &[]).build()
}

/// Has the server's host know the clients' MAC addresses, which it would ask for before it answers in untagged frames.
fn introduce(wire: &Wire, clients: impl IntoIterator<Item = u8>) -> Result<()> {
    for client in clients {
        let Route { source, source_mac, .. } = route(client);
        let mut command = wire.server.command("ip");
        let (source, mac) = (source.to_string(), hex(&source_mac, ":"));
        run(command.args(["neigh", "add", &source, "lladdr", &mac, "dev", SERVER_INTERFACE]))?;
    }
    Ok(())
}

/// Makes sure that an answer came in a frame with these tags, for this client, from the server's interface.
fn check(frame: &[u8], tags: &[(u16, u16)], client: u8) -> Result<Vec<u8>> {
    let (answered_in, frame) = split_tags(frame);
    ensure!(answered_in == tags, "{answered_in:x?}, not {tags:x?}");
    let received = if tags.is_empty() { Received::parse_unsummed(&frame)? } else { Received::parse(&frame)? };
    let route = route(client);
    ensure!(received.destination_mac == route.source_mac, "for {:x?}", received.destination_mac);
    ensure!(received.source_mac == SERVER_MAC, "from {:x?}", received.source_mac);
    ensure!(received.source == SERVER_LINK_LOCAL, "from {}", received.source);
    ensure!(received.destination == route.source, "for {}", received.destination);
    ensure!(received.ports == (547, 546), "{:?}", received.ports);
    if !tags.is_empty() {
        ensure!(frame[14..18] == [0x60, 0, 0, 0] && frame[21] == 64, "IPv6 header {:x?}", &frame[14..22]);
    }
    Ok(received.message)
}

/// Sends a client's message in a frame with these tags, and returns the answer.
fn exchange(on: &TaggedClient, tags: &[(u16, u16)], client: u8, message: &[u8]) -> Result<Vec<u8>> {
    on.send(&with_tags(&route(client).frame(message), tags))?;
    let deadline = Instant::now() + SOON;
    while let Some(frame) = on.receive(deadline)? {
        let (_, untagged) = split_tags(&frame);
        if let Ok(received) = Received::parse_unsummed(&untagged)
            && received.ports.0 == 547
        {
            return check(&frame, tags, client);
        }
    }
    bail!("no answer to client {client} with {tags:x?}")
}

/// Makes sure that nothing is answered to a frame.
fn is_ignored(on: &TaggedClient, frame: &[u8]) -> Result<()> {
    on.send(frame)?;
    while let Some(frame) = on.receive(Instant::now() + SILENCE)? {
        let (tags, untagged) = split_tags(&frame);
        let answer = Received::parse_unsummed(&untagged).is_ok_and(|received| received.ports.0 == 547);
        ensure!(!answer, "an answer with {tags:x?}");
    }
    Ok(())
}

/// What an untagged frame has in the place of its checksum where a network card is to finish that.
fn pseudo_header_sum(frame: &[u8]) -> [u8; 2] {
    let Route { source, destination, .. } = route(1);
    let len = (frame.len() - 54) as u16;
    Sum::ZERO.add_pseudo_header(source.octets(), destination.octets(), len).fold().to_ne_bytes()
}

fn dropped(server: &Server<'_>, reason: &str) -> Result<u64> {
    let stats = server.ctl_json(&["stats"])?;
    stats["slow_path"]["dropped"][reason].as_u64().with_context(|| format!("no count of {reason}"))
}

fn status_code(message: &[u8]) -> Option<u16> {
    let mut options = OptionWalker::new(&message[4..]).filter_map(Result::ok);
    let status = options.find(|option| option.code == OptionCode::STATUS_CODE)?;
    Some(u16::from_be_bytes(*status.value.first_chunk()?))
}

#[test]
fn every_exchange_goes_on_in_the_clients_vlan() -> Result<()> {
    if !privileged("every_exchange_goes_on_in_the_clients_vlan") {
        return Ok(());
    }
    let wire = Wire::new()?;
    let server = Server::start_with(&wire, Plane::DaemonOnly, &ADDITIONS)?;
    let on = TaggedClient::open(&wire.client)?;
    introduce(&wire, [1])?;
    for (client, (tags, link)) in (1..).zip(TAGS) {
        let whole = || -> Result<()> {
            let advertise = exchange(&on, tags, client, &solicit(client))?;
            ensure!(advertise[0] == MessageType::Advertise as u8, "not an Advertise");
            let address = address_in(&advertise)?;
            ensure!(address.segments()[2] == link, "{address} is of another link");
            let id = server_id_in(&advertise)?;
            for (kind, status) in
                [(MessageType::Request, None), (MessageType::Renew, None), (MessageType::Release, Some(0))]
            {
                let request = message(kind, client).server_id(&id).ia_na(1, &[address]).build();
                let reply = exchange(&on, tags, client, &request)?;
                ensure!(reply[..4] == [MessageType::Reply as u8, kind as u8, client, 1], "{reply:x?}");
                ensure!(status.is_some() || address_in(&reply)? == address, "{kind:?}: another address");
                ensure!(status_code(&reply) == status, "{kind:?}: {:?}", status_code(&reply));
            }
            let reply = exchange(&on, tags, client, &rapid(client))?;
            ensure!(address_in(&reply)?.segments()[2] == link, "{}", address_in(&reply)?);
            Ok(())
        };
        whole().with_context(|| format!("{tags:x?}: {}", server.log()))?;
    }
    let stats = &server.ctl_json(&["stats"])?["slow_path"];
    let exchanges = TAGS.len() as u64;
    for (kind, count) in [("solicit", 2), ("request", 1), ("renew", 1), ("release", 1)] {
        assert_eq!(stats["received"][kind], count * exchanges, "{stats}");
    }
    assert_eq!(stats["sent"]["reply"], 4 * exchanges, "{stats}");
    let document = server.ctl_json(&["status"])?;
    let links = document["links"].as_array().context("links")?;
    assert_eq!(links.len(), 5, "{document}");
    for link in links {
        assert_eq!(link["address"], SERVER_LINK_LOCAL.to_string(), "{document}");
    }
    Ok(())
}

/// Has the server's end of the wire show VLAN tags to the XDP program.
fn show_tags(wire: &Wire) -> Result<()> {
    let mut command = wire.server.command("ethtool");
    command.args(["-K", SERVER_INTERFACE, "rx-vlan-offload", "off", "rx-vlan-stag-hw-parse", "off"]);
    run(&mut command).map(drop)
}

#[test]
fn the_kernel_answers_in_the_clients_vlan_what_the_daemon_would() -> Result<()> {
    if !privileged("the_kernel_answers_in_the_clients_vlan_what_the_daemon_would") {
        return Ok(());
    }
    for plane in [Plane::Native, Plane::Generic] {
        let wire = Wire::new()?;
        show_tags(&wire)?;
        let server = Server::start_with(&wire, plane, &ADDITIONS)?;
        let on = TaggedClient::open(&wire.client)?;
        introduce(&wire, [1])?;
        for (client, (tags, link)) in (1..).zip(TAGS) {
            let both = || -> Result<()> {
                let by_daemon = exchange(&on, tags, client, &rapid(client))?;
                ensure!(address_in(&by_daemon)?.segments()[2] == link, "of another link");
                let before = server.answered()?;
                let by_kernel = exchange(&on, tags, client, &rapid(client))?;
                ensure!(by_kernel == by_daemon, "{by_kernel:x?} and not {by_daemon:x?}");
                ensure!(server.answered()? == before + 1, "by the kernel");
                Ok(())
            };
            both().with_context(|| format!("{plane:?}, {tags:x?}: {}", server.log()))?;
        }
        // Somebody in another VLAN of the same link who claims to be a client is another one.
        let [owner, thief] = [2000, 2001].map(|outer| [(S_TAG, outer), (C_TAG, 5)]);
        let given = address_in(&exchange(&on, &owner, 99, &rapid(99))?)?;
        let other = address_in(&exchange(&on, &thief, 99, &rapid(99))?)?;
        assert_ne!(given, other, "{plane:?}: the owner's address");
        assert_eq!(address_in(&exchange(&on, &owner, 99, &rapid(99))?)?, given, "{plane:?}");
        assert_eq!(address_in(&exchange(&on, &thief, 99, &rapid(99))?)?, other, "{plane:?}");
        assert_eq!(server.answered()?, TAGS.len() as u64 + 2, "{plane:?}: {}", server.log());
    }
    Ok(())
}

#[test]
fn frames_of_nobodys_vlan_are_counted_and_not_answered() -> Result<()> {
    if !privileged("frames_of_nobodys_vlan_are_counted_and_not_answered") {
        return Ok(());
    }
    let wire = Wire::new()?;
    let server = Server::start_with(&wire, Plane::DaemonOnly, &ADDITIONS)?;
    let on = TaggedClient::open(&wire.client)?;
    let frame = route(1).frame(&rapid(1));
    let foreign: [&[(u16, u16)]; 5] = [
        &[(C_TAG, 101)],
        &[(C_TAG, 2000)],
        &[(C_TAG, 4095)],
        &[(S_TAG, 100), (C_TAG, 8)],
        &[(C_TAG, 3000), (C_TAG, 7)],
    ];
    for (count, tags) in (1..).zip(foreign) {
        is_ignored(&on, &with_tags(&frame, tags)).with_context(|| format!("{tags:x?}"))?;
        assert_eq!(dropped(&server, "unknown_link")?, count, "{tags:x?}");
    }
    // What is no tagged frame of the kind that the server takes does not reach it.
    let others: [&[(u16, u16)]; 4] = [
        &[(C_TAG, 100), (C_TAG, 7), (C_TAG, 7)],
        &[(C_TAG, 100), (C_TAG, 0)],
        &[(C_TAG, 0), (C_TAG, 100)],
        &[(C_TAG, 100), (S_TAG, 7)],
    ];
    for tags in others {
        is_ignored(&on, &with_tags(&frame, tags)).with_context(|| format!("{tags:x?}"))?;
    }
    introduce(&wire, [2])?;
    exchange(&on, &[], 2, &rapid(2))?;
    let stats = &server.ctl_json(&["stats"])?["slow_path"];
    assert_eq!(stats["received"]["solicit"], foreign.len() + 1, "{stats}");
    Ok(())
}

#[test]
fn damaged_frames_are_counted_and_not_answered() -> Result<()> {
    if !privileged("damaged_frames_are_counted_and_not_answered") {
        return Ok(());
    }
    let wire = Wire::new()?;
    let server = Server::start_with(&wire, Plane::DaemonOnly, &ADDITIONS)?;
    let on = TaggedClient::open(&wire.client)?;
    let good = route(1).frame(&rapid(1));
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut frame = good.clone();
        change(&mut frame);
        with_tags(&frame, &TAG)
    };
    let cases: [(&str, &str, Vec<u8>); 9] = [
        ("wrong checksum", "bad_checksum", with(&|frame| frame[CHECKSUM] ^= 1)),
        ("no checksum", "bad_checksum", with(&|frame| frame[CHECKSUM..CHECKSUM + 2].fill(0))),
        ("damaged message", "bad_checksum", with(&|frame| *frame.last_mut().unwrap() ^= 1)),
        ("not IPv6", "bad_frame", with(&|frame| frame[VERSION] = 0x40)),
        ("longer than the frame", "bad_frame", with(&|frame| frame[PAYLOAD_LENGTH] += 1)),
        ("UDP longer than IPv6", "bad_frame", with(&|frame| frame[UDP_LENGTH] += 1)),
        ("UDP shorter than its header", "bad_frame", with(&|frame| frame[UDP_LENGTH] = 7)),
        ("from a group", "bad_frame", with(&|frame| frame[SOURCE] = 0xff)),
        ("from a group's MAC address", "bad_frame", with(&|frame| frame[SOURCE_MAC] |= 1)),
    ];
    let mut counts = std::collections::BTreeMap::new();
    for (what, reason, frame) in &cases {
        is_ignored(&on, frame).with_context(|| (*what).to_owned())?;
        let count = counts.entry(*reason).or_insert(0);
        *count += 1;
        assert_eq!(dropped(&server, reason)?, *count, "{what}");
    }
    assert_eq!(server.ctl_json(&["stats"])?["slow_path"]["received"]["unknown"], cases.len());
    // A sender on this machine leaves the checksum to its network card, which there is none of.
    let sum = pseudo_header_sum(&good);
    let unsummed = with(&|frame| frame[CHECKSUM..CHECKSUM + 2].copy_from_slice(&sum));
    on.send_unsummed(&unsummed, UDP + 4)?;
    let answer = on.receive(Instant::now() + SOON)?.context("no answer to a frame without its checksum")?;
    check(&answer, &TAG, 1)?;
    is_ignored(&on, &unsummed)?;
    assert_eq!(dropped(&server, "bad_checksum")?, counts["bad_checksum"] + 1);
    // Ethernet pads what is short.
    on.send(&with(&|frame| frame.extend([0; 20])))?;
    let answer = on.receive(Instant::now() + SOON)?.context("no answer to a padded frame")?;
    check(&answer, &TAG, 1)?;
    Ok(())
}

#[test]
fn a_long_answer_comes_in_fragments() -> Result<()> {
    if !privileged("a_long_answer_comes_in_fragments") {
        return Ok(());
    }
    let wire = Wire::new()?;
    let options = format!("[link.options]\ncustom = [{{ code = 65000, hex = \"{}\" }}]\n", "ab".repeat(3000));
    let file = format!("{LINKS}{options}");
    let server = Server::start_with(&wire, Plane::DaemonOnly, &Additions { file: &file, ..ADDITIONS })?;
    let on = TaggedClient::open(&wire.client)?;
    for tags in [&[(C_TAG, 3999)][..], &[(S_TAG, 3999)][..]] {
        let request = message(MessageType::Solicit, 1).rapid_commit().ia_na(1, &[]).request(&[65000]).build();
        on.send(&with_tags(&route(1).frame(&request), tags))?;
        let mut datagram = Vec::new();
        loop {
            let Some(frame) = on.receive_ip(44, Instant::now() + SOON)? else {
                bail!("fragments are missing: {}", server.log())
            };
            let (answered_in, frame) = split_tags(&frame);
            assert_eq!(answered_in, tags);
            assert!(frame.len() <= 1514);
            let offset = u16::from_be_bytes([frame[56], frame[57]]);
            assert_eq!(usize::from(offset & !7), datagram.len());
            datagram.extend_from_slice(&frame[62..]);
            if offset & 1 == 0 {
                let len = (datagram.len() as u16).to_be_bytes();
                let whole = [&frame[..18], &len, &[17], &frame[21..54], &datagram].concat();
                let message = Received::parse(&whole)?.message;
                assert_eq!(address_in(&message)?.segments()[2], 5);
                assert!(message.len() > 3000);
                break;
            }
        }
    }
    Ok(())
}

#[test]
fn what_arrives_in_vlans_while_no_daemon_runs_is_answered_by_the_next() -> Result<()> {
    if !privileged("what_arrives_in_vlans_while_no_daemon_runs_is_answered_by_the_next") {
        return Ok(());
    }
    let wire = Wire::new()?;
    let mut server = Server::prepare(&wire, Plane::DaemonOnly, &ADDITIONS)?;
    let manager = ServiceManager::new()?;
    server.restart_under(&manager)?;
    let index = wire.server.enter(|| dhcp6_userspace::net::Interface::find(SERVER_INTERFACE))?.index;
    let [frames, member, udp] =
        ["frames", "member", "udp"].map(|kind| format!("{kind}-{index}-{SERVER_INTERFACE}"));
    let on = TaggedClient::open(&wire.client)?;
    for orderly in [true, false] {
        manager.keeps(&[&frames, &member, &udp])?;
        if orderly {
            server.stop()?;
        } else {
            server.kill()?;
        }
        for client in 0..CLIENTS {
            on.send(&with_tags(&route(client).frame(&rapid(client)), &TAG))?;
        }
        server.restart_under(&manager)?;
        let mut answered = std::collections::BTreeSet::new();
        while answered.len() < CLIENTS.into() {
            let frame = on.receive(Instant::now() + SOON)?;
            let frame = frame.with_context(|| format!("{} answers, {}", answered.len(), server.log()))?;
            let (_, untagged) = split_tags(&frame);
            let client = untagged[5];
            check(&frame, &TAG, client)?;
            assert!(answered.insert(client), "{client} was answered twice");
        }
    }
    assert!(server.log().contains("the socket of an earlier daemon goes on: srv0"), "{}", server.log());
    Ok(())
}

#[test]
fn the_fast_path_refuses_an_interface_that_hides_vlans() -> Result<()> {
    if !privileged("the_fast_path_refuses_an_interface_that_hides_vlans") {
        return Ok(());
    }
    let wire = Wire::new()?;
    let mut server = Server::prepare(&wire, Plane::Generic, &ADDITIONS)?;
    let log = server.fail_to_start()?;
    assert!(log.contains("`ethtool -K srv0 rx-vlan-offload off`"), "{log}");
    // A reload that adds VLANs is refused as a start is.
    server.configure(|config| config.replace(LINKS, ""))?;
    server.restart()?;
    server.configure(|config| format!("{config}{LINKS}"))?;
    let refused = server.ctl(&["config", "reload"])?;
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("rx-vlan-offload off"), "{said}");
    // Links without the fast path do not mind.
    server.stop()?;
    server.configure(|config| config.replace("mode = \"generic\"", "enabled = false"))?;
    server.restart()?;
    exchange(&TaggedClient::open(&wire.client)?, &[(C_TAG, 100)], 1, &rapid(1))?;
    Ok(())
}

#[test]
fn links_in_vlans_come_back_with_their_interface() -> Result<()> {
    if !privileged("links_in_vlans_come_back_with_their_interface") {
        return Ok(());
    }
    let wire = Wire::new()?;
    let server = Server::start_with(&wire, Plane::DaemonOnly, &ADDITIONS)?;
    let address = address_in(&exchange(&TaggedClient::open(&wire.client)?, &TAG, 1, &rapid(1))?)?;
    // Down and up: a packet socket hears of that, once.
    for state in ["down", "up"] {
        run(wire.server.command("ip").args(["link", "set", SERVER_INTERFACE, state]))?;
    }
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(address_in(&exchange(&TaggedClient::open(&wire.client)?, &TAG, 1, &rapid(1))?)?, address);
    wire.reconnect()?;
    let started = Instant::now();
    while !server.log().contains("interface srv0 is back") {
        ensure!(started.elapsed() < 3 * SOON, "{}", server.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(address_in(&exchange(&TaggedClient::open(&wire.client)?, &TAG, 1, &rapid(1))?)?, address);
    let stats = server.ctl_json(&["stats"])?;
    assert_eq!(stats["slow_path"]["receive_errors"], 0, "{stats}");
    Ok(())
}
