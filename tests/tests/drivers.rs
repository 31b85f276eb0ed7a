//! Kinds of interfaces, frames of all lengths, and what is left to network cards: on all of them each Solicit is
//! answered once, and the same whichever plane does it.

use std::{
    collections::BTreeMap,
    net::Ipv6Addr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use dhcp6_common::wire::{MessageType, OptionCode, Sum};
use dhcp6_userspace::net::Interface;
use tests::{
    client::BareClient,
    frame::{C_TAG, MessageBuilder, Received, Route, split_tags, with_tags},
    netns::{CLIENT_INTERFACE, Namespace, SERVER_INTERFACE, Wire, privileged, run},
    raw::{TaggedClient, Tunnel, TunnelKind},
    server::{Additions, Plane, Server, pass_all},
    subscriber::address_in,
};

/// How long an answer may take.
const SOON: Duration = Duration::from_secs(3);
/// Time in which an answer would have come.
const SILENCE: Duration = Duration::from_millis(200);
const PLANES: [Plane; 2] = [Plane::Native, Plane::Generic];
/// Lengths of messages on both sides of what the program reads; the longest are in several pieces of memory.
const LENGTHS: [usize; 9] = [0, 1400, 1986, 1987, 2000, 2100, 3300, 4000, 8500];
/// What is in front of a message: Ethernet, IPv6 and UDP.
const HEADERS: usize = 14 + 40 + 8;
/// Messages that reach beyond this offset in the frame are the daemon's.
const LONGEST_FOR_KERNEL: usize = 2048;
/// How many clients come at once.
const CLIENTS: u8 = 50;
/// Offset of the UDP header.
const UDP: usize = 54;
/// Offset of its checksum.
const CHECKSUM: usize = 60;

/// A link beside the first, on another interface.
const OTHER: &str = r#"
[[link]]
name = "other"
interface = "srv1"
prefix = "2001:db8:2::/64"
rapid_commit = true
[[link.pool]]
range = "2001:db8:2::1000-2001:db8:2::1fff"
"#;

/// A link in a VLAN of the first's interface.
const TAGGED: &str = r#"
[[link]]
name = "tagged"
interface = "srv0"
vlan = [100]
prefix = "2001:db8:3::/64"
rapid_commit = true
[[link.pool]]
range = "2001:db8:3::1000-2001:db8:3::1fff"
"#;

/// By how much counters have grown.
type Counts = BTreeMap<String, u64>;

/// A Solicit for an address in two messages, made long by a vendor's option where it is shorter than `len`.
fn solicit(client: u8, transaction: u8, len: usize) -> Vec<u8> {
    let mut message = MessageBuilder::new(MessageType::Solicit, [9, client, transaction])
        .client_id(&[0, 3, 0, 1, 2, 0, 0, 0, 2, client])
        .rapid_commit()
        .ia_na(1, &[])
        .request(&[23, 24]);
    let so_far = message.clone().build().len();
    if so_far < len {
        let mut value = vec![0xab; len - so_far - 4];
        value[..4].copy_from_slice(&[0, 0, 0x80, 0]);
        message = message.option(OptionCode::VENDOR_OPTIONS, &value);
    }
    message.build()
}

/// Where the messages of a client with its own interface come from.
fn route(of: &Namespace) -> Result<Route> {
    let Interface { mac, link_local, .. } = of.enter(|| Interface::find(CLIENT_INTERFACE))?;
    Ok(Route { source_mac: mac, source: link_local, ..Route::default() })
}

/// The answer to a transaction, without its header: one, and no more.
fn answer(on: &TaggedClient, transaction: [u8; 3], tags: &[(u16, u16)]) -> Result<Option<Vec<u8>>> {
    let mut answer = None;
    let mut deadline = Instant::now() + SOON;
    while let Some(frame) = on.receive(deadline)? {
        let (answered_in, untagged) = split_tags(&frame);
        let Ok(received) = Received::parse_unsummed(&untagged) else { continue };
        if received.ports != (547, 546) || received.message[1..4] != transaction {
            continue;
        }
        ensure!(answer.is_none(), "answered twice");
        ensure!(received.message[0] == MessageType::Reply as u8, "not a Reply");
        ensure!(answered_in == tags, "answered in {answered_in:x?}, not {tags:x?}");
        answer = Some(received.message[4..].to_vec());
        deadline = Instant::now() + SILENCE;
    }
    Ok(answer)
}

/// The address in a Reply without its header.
fn address(reply: &[u8]) -> Result<Ipv6Addr> {
    address_in(&[&[7, 0, 0, 0], reply].concat())
}

/// What the planes have counted so far, without the interface's other traffic.
fn counts(server: &Server<'_>, interface: &str) -> Result<Counts> {
    let stats = server.ctl_json(&["stats"])?;
    let mut counts = Counts::new();
    let kernel = &stats["interfaces"][interface];
    for verdict in ["passed", "dropped"] {
        for (reason, count) in kernel[verdict].as_object().into_iter().flatten() {
            if !["not_ipv6", "not_dhcpv6", "not_multicast"].contains(&reason.as_str()) {
                counts.insert(reason.clone(), count.as_u64().context("a count")?);
            }
        }
    }
    counts.insert("answered".to_owned(), kernel["answered"].as_u64().unwrap_or_default());
    let slow = &stats["slow_path"];
    counts.insert("daemon".to_owned(), slow["received"]["solicit"].as_u64().context("no count of Solicits")?);
    Ok(counts)
}

/// What the planes count while something happens.
fn counted<T>(server: &Server<'_>, interface: &str, what: impl FnOnce() -> Result<T>) -> Result<(T, Counts)> {
    let before = counts(server, interface)?;
    let outcome = what()?;
    let mut counts = counts(server, interface)?;
    for (name, count) in &mut counts {
        *count -= before.get(name).copied().unwrap_or_default();
    }
    counts.retain(|_, count| *count != 0);
    Ok((outcome, counts))
}

/// Each of these, once.
fn once(names: &[&str]) -> Counts {
    names.iter().map(|name| ((*name).to_owned(), 1)).collect()
}

fn ip(namespace: &Namespace, arguments: &[&str]) -> Result<()> {
    run(namespace.command("ip").args(arguments)).map(drop)
}

fn ethtool(namespace: &Namespace, interface: &str, features: &[&str]) -> Result<()> {
    run(namespace.command("ethtool").args(["-K", interface]).args(features)).map(drop)
}

/// The mode of the fast path on an interface, and the warning about it.
fn mode(server: &Server<'_>, interface: &str) -> Result<(Option<String>, Option<String>)> {
    let status = server.ctl_json(&["status"])?;
    let rows = status["fast_path"].as_array().context("fast_path")?;
    let row = rows.iter().find(|row| row["interface"] == interface);
    let text = |key: &str| row.and_then(|row| row[key].as_str().map(str::to_owned));
    Ok((text("mode"), text("warning")))
}

/// A client gets its address from the daemon and then the same from the kernel, on this interface of the server's.
fn both_planes_answer(
    server: &Server<'_>,
    interface: &str,
    client: &Namespace,
    number: u8,
) -> Result<Ipv6Addr> {
    let on = TaggedClient::open(client)?;
    let route = route(client)?;
    let ask = |transaction, expected: &[&str]| {
        let (reply, counts) = counted(server, interface, || {
            on.send(&route.frame(&solicit(number, transaction, 0)))?;
            answer(&on, [9, number, transaction], &[])
        })?;
        let reply = reply.with_context(|| format!("no answer, {counts:?}: {}", server.log()))?;
        ensure!(counts == once(expected), "{counts:?}, not {expected:?}");
        Ok(reply)
    };
    let by_daemon = ask(1, &["daemon", "unknown_client"])?;
    let by_kernel = ask(2, &["answered"])?;
    ensure!(by_kernel == by_daemon, "{by_kernel:x?} and not {by_daemon:x?}");
    address(&by_kernel)
}

#[test]
fn each_interface_has_links_clients_and_counters_of_its_own() -> Result<()> {
    if !privileged("each_interface_has_links_clients_and_counters_of_its_own") {
        return Ok(());
    }
    for plane in PLANES {
        let wire = Wire::new()?;
        let other = wire.add_client("srv1")?;
        let _peer = (plane == Plane::Native).then(|| pass_all(&other)).transpose()?;
        let server = Server::start_with(&wire, plane, &Additions { file: OTHER, ..Additions::default() })?;
        let name = if plane == Plane::Native { "native" } else { "generic" };
        for interface in [SERVER_INTERFACE, "srv1"] {
            assert_eq!(mode(&server, interface)?, (Some(name.to_owned()), None), "{plane:?}");
        }
        // The same client on both: a stranger on the second, where it gets another address.
        for (interface, client, link) in [(SERVER_INTERFACE, &wire.client, 1), ("srv1", &other, 2)] {
            let elsewhere = if interface == "srv1" { SERVER_INTERFACE } else { "srv1" };
            let (address, counts) = counted(&server, elsewhere, || {
                both_planes_answer(&server, interface, client, 1)
                    .with_context(|| format!("{plane:?}, {interface}"))
            })?;
            assert_eq!(address.segments()[2], link, "{plane:?}: {address} on {interface}");
            assert_eq!(counts, once(&["daemon"]), "{plane:?}: the other interface counts nothing");
        }
        assert_eq!(server.answered()?, 2, "{plane:?}: the sum");
    }
    Ok(())
}

#[test]
fn messages_of_any_length_get_the_same_answer() -> Result<()> {
    if !privileged("messages_of_any_length_get_the_same_answer") {
        return Ok(());
    }
    for (plane, mtu) in PLANES.into_iter().flat_map(|plane| [1280, 1500, 9000].map(|mtu| (plane, mtu))) {
        let wire = Wire::new()?;
        for (namespace, interface) in [(&wire.server, SERVER_INTERFACE), (&wire.client, CLIENT_INTERFACE)] {
            ip(namespace, &["link", "set", interface, "mtu", &mtu.to_string()])?;
        }
        let server = Server::start(&wire, plane)?;
        let on = TaggedClient::open(&wire.client)?;
        let socket = BareClient::open(&wire.client)?;
        let route = route(&wire.client)?;
        let mut expected = None;
        let mut transaction = 0;
        for len in [0].into_iter().chain(LENGTHS) {
            // By the network stack, which splits what is too long, and leaves the checksum to the card; and whole.
            for is_raw in [false, true] {
                let is_split = len + HEADERS - 14 > mtu;
                if is_raw && is_split {
                    continue;
                }
                transaction += 1;
                let message = solicit(1, transaction, len);
                let what = format!("{plane:?}, MTU {mtu}, {len} octets, raw: {is_raw}");
                let (reply, counts) = counted(&server, SERVER_INTERFACE, || {
                    if is_raw {
                        on.send(&route.frame(&message))?;
                    } else {
                        socket.send(&message)?;
                    }
                    answer(&on, [9, 1, transaction], &[])
                })
                .with_context(|| what.clone())?;
                let reply = reply.with_context(|| format!("{what}: no answer, {counts:?}"))?;
                let counters: &[&str] = if transaction == 1 {
                    &["daemon", "unknown_client"]
                } else if is_split {
                    &["daemon"]
                } else if message.len() + HEADERS > LONGEST_FOR_KERNEL {
                    &["daemon", "too_long"]
                } else {
                    &["answered"]
                };
                assert_eq!(counts, once(counters), "{what}");
                assert_eq!(*expected.get_or_insert_with(|| reply.clone()), reply, "{what}");
            }
        }
    }
    Ok(())
}

#[test]
fn checksums_are_looked_at_where_a_card_is_not_to_add_them() -> Result<()> {
    if !privileged("checksums_are_looked_at_where_a_card_is_not_to_add_them") {
        return Ok(());
    }
    for plane in PLANES {
        let wire = Wire::new()?;
        let server = Server::start(&wire, plane)?;
        let client = route(&wire.client)?;
        let expected = both_planes_answer(&server, SERVER_INTERFACE, &wire.client, 1)?;
        let on = TaggedClient::open(&wire.client)?;
        let socket = BareClient::open(&wire.client)?;
        let mut transaction = 2;
        let mut ask = |what: &str, counters: &[&str], send: &dyn Fn(&[u8]) -> Result<()>| {
            transaction += 1;
            let message = solicit(1, transaction, 0);
            let (reply, counts) = counted(&server, SERVER_INTERFACE, || {
                send(&message)?;
                answer(&on, [9, 1, transaction], &[])
            })?;
            assert_eq!(counts, once(counters), "{plane:?}: {what}");
            match reply {
                Some(reply) => assert_eq!(address(&reply)?, expected, "{plane:?}: {what}"),
                None => assert!(!counters.contains(&"answered"), "{plane:?}: {what}: no answer"),
            }
            anyhow::Ok(())
        };
        let with_sum = |message: &[u8], change: &dyn Fn(u16) -> u16| {
            let mut frame = client.frame(message);
            let sum = change(u16::from_be_bytes([frame[CHECKSUM], frame[CHECKSUM + 1]]));
            frame[CHECKSUM..CHECKSUM + 2].copy_from_slice(&sum.to_be_bytes());
            frame
        };
        let pseudo = |message: &[u8]| {
            let len = (8 + message.len()) as u16;
            let Route { source, destination, .. } = client;
            let sum = Sum::ZERO.add_pseudo_header(source.octets(), destination.octets(), len);
            with_sum(message, &|_| u16::from_be(sum.fold()))
        };
        ask("left to the card by a socket", &["answered"], &|message| socket.send(message))?;
        ask("left to the card", &["answered"], &|message| on.send_unsummed(&pseudo(message), UDP))?;
        ask("whole", &["answered"], &|message| on.send(&client.frame(message)))?;
        ask("wrong", &["bad_checksum"], &|message| on.send(&with_sum(message, &|sum| sum ^ 1)))?;
        ask("none", &["bad_checksum"], &|message| on.send(&with_sum(message, &|_| 0)))?;
        ethtool(&wire.client, CLIENT_INTERFACE, &["tx", "off"])?;
        ask("added by the socket's host", &["answered"], &|message| socket.send(message))?;
        ethtool(&wire.client, CLIENT_INTERFACE, &["rx", "off", "tx", "on"])?;
        ask("compared by the client's host", &["answered"], &|message| socket.send(message))?;
        let reply = socket.receive(SOON)?.context("the client's host has taken no answer")?;
        assert_eq!(address_in(&reply)?, expected, "{plane:?}");
    }
    Ok(())
}

/// Has the server's interface hold frames for a while, so that those to be joined find each other.
fn hold_frames(server: &Namespace) -> Result<()> {
    let set = |what: &str, value: u32| format!("echo {value} > /sys/class/net/{SERVER_INTERFACE}/{what}");
    let script = ["mount -t sysfs sysfs /sys", &set("gro_flush_timeout", 20_000_000)].join(" && ");
    run(server.command("unshare").args(["--mount", "sh", "-c", &script])).map(drop)
}

#[test]
fn offloads_that_join_and_split_frames_make_no_difference() -> Result<()> {
    if !privileged("offloads_that_join_and_split_frames_make_no_difference") {
        return Ok(());
    }
    for plane in PLANES {
        for features in [
            &["gro", "off"][..],
            &["gro", "on", "gso", "on"],
            &["gro", "on", "rx-udp-gro-forwarding", "on", "rx-gro-list", "on"],
        ] {
            let wire = Wire::new()?;
            let server = Server::start(&wire, plane)?;
            ethtool(&wire.server, SERVER_INTERFACE, features)?;
            ethtool(&wire.client, CLIENT_INTERFACE, &["gro", "on"])?;
            hold_frames(&wire.server)?;
            let on = TaggedClient::open(&wire.client)?;
            let route = route(&wire.client)?;
            // All from one address and port and as long as each other, as if they were one stream. In generic mode the
            // kernel joins no frames, in native mode not before the program has seen them.
            let mut addresses = BTreeMap::new();
            for round in 0..2 {
                let what = format!("{plane:?}, {features:?}, round {round}");
                let (answered, counts) = counted(&server, SERVER_INTERFACE, || {
                    for client in 0..CLIENTS {
                        on.send(&route.frame(&solicit(client, round, 0)))?;
                    }
                    let mut answered = BTreeMap::new();
                    let deadline = Instant::now() + SOON;
                    while answered.len() < CLIENTS.into() {
                        let Some(frame) = on.receive(deadline)? else { break };
                        let Ok(received) = Received::parse_unsummed(&frame) else { continue };
                        if received.ports.0 == 547 && received.message[3] == round {
                            let address = address_in(&received.message)?;
                            ensure!(answered.insert(received.message[2], address).is_none(), "twice");
                        }
                    }
                    Ok(answered)
                })
                .with_context(|| what.clone())?;
                let each = u64::from(CLIENTS);
                let expected: &[(&str, u64)] = if round == 0 {
                    &[("daemon", each), ("unknown_client", each)]
                } else {
                    &[("answered", each)]
                };
                let expected = expected.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
                assert_eq!(counts, expected, "{what}");
                if round == 0 {
                    addresses = answered;
                } else {
                    assert_eq!(addresses, answered, "{what}");
                }
            }
        }
    }
    Ok(())
}

/// Puts the server's interface into a bridge, which is called `name`; the port is called `port`.
fn bridge(wire: &Wire, name: &str, port: &str) -> Result<()> {
    let ip = |arguments: &[&str]| ip(&wire.server, arguments);
    ip(&["link", "set", SERVER_INTERFACE, "down"])?;
    if port != SERVER_INTERFACE {
        ip(&["link", "set", SERVER_INTERFACE, "name", port])?;
    }
    ip(&["link", "add", name, "type", "bridge"])?;
    ip(&["link", "set", port, "master", name])?;
    for interface in [port, name] {
        ip(&["link", "set", interface, "up"])?;
        wire.server.wait_for_link_local(interface)?;
    }
    wire.client.wait_for_link_local(CLIENT_INTERFACE)
}

#[test]
fn a_bridge_is_served_in_generic_mode() -> Result<()> {
    if !privileged("a_bridge_is_served_in_generic_mode") {
        return Ok(());
    }
    let wire = Wire::new()?;
    bridge(&wire, SERVER_INTERFACE, "port0")?;
    let mut server = Server::prepare(&wire, Plane::Native, &Additions::default())?;
    let log = server.fail_to_start()?;
    assert!(log.contains("on srv0 in its driver") && log.contains("set `mode = \"auto\"`"), "{log}");
    for (setting, warns) in [("generic", false), ("auto", true)] {
        server.configure(|config| {
            let of = |line: &str| {
                if line.starts_with("mode = ") { format!("mode = \"{setting}\"") } else { line.to_owned() }
            };
            config.lines().map(of).collect::<Vec<_>>().join("\n")
        })?;
        server.restart()?;
        let (mode, warning) = mode(&server, SERVER_INTERFACE)?;
        assert_eq!(mode.as_deref(), Some("generic"), "{setting}");
        assert_eq!(warning.is_some(), warns, "{setting}: {warning:?}");
        both_planes_answer(&server, SERVER_INTERFACE, &wire.client, u8::from(warns))?;
        server.stop()?;
    }
    Ok(())
}

#[test]
fn a_port_of_a_bridge_is_served() -> Result<()> {
    if !privileged("a_port_of_a_bridge_is_served") {
        return Ok(());
    }
    for plane in PLANES {
        let wire = Wire::new()?;
        bridge(&wire, "br0", SERVER_INTERFACE)?;
        ethtool(&wire.server, SERVER_INTERFACE, &["rx-vlan-offload", "off", "rx-vlan-stag-hw-parse", "off"])?;
        let server = Server::start_with(&wire, plane, &Additions { file: TAGGED, ..Additions::default() })?;
        let on = TaggedClient::open(&wire.client)?;
        let route = route(&wire.client)?;
        let ask = |transaction, tags: &[(u16, u16)]| {
            counted(&server, SERVER_INTERFACE, || {
                on.send(&with_tags(&route.frame(&solicit(1, transaction, 0)), tags))?;
                answer(&on, [9, 1, transaction], tags)
            })
        };
        for (tags, first) in [(&[(C_TAG, 100)][..], 1), (&[], 3)] {
            let (by_daemon, counts) = ask(first, tags)?;
            assert_eq!(counts, once(&["daemon", "unknown_client"]), "{plane:?}, {tags:?}");
            let (by_kernel, counts) = ask(first + 1, tags)?;
            assert_eq!(counts, once(&["answered"]), "{plane:?}, {tags:?}");
            assert!(by_kernel.is_some() && by_kernel == by_daemon, "{plane:?}, {tags:?}: {by_kernel:x?}");
        }
    }
    Ok(())
}

#[test]
fn a_macvlan_is_served_in_generic_mode() -> Result<()> {
    if !privileged("a_macvlan_is_served_in_generic_mode") {
        return Ok(());
    }
    let wire = Wire::new()?;
    for arguments in [
        &["link", "add", "mv0", "link", SERVER_INTERFACE, "type", "macvlan", "mode", "bridge"][..],
        &["link", "set", "mv0", "up"],
    ] {
        ip(&wire.server, arguments)?;
    }
    wire.server.wait_for_link_local("mv0")?;
    let mut server = Server::prepare(&wire, Plane::Generic, &Additions::default())?;
    server.configure(|config| {
        config.replace("mode = \"generic\"", "mode = \"auto\"").replace(SERVER_INTERFACE, "mv0")
    })?;
    server.restart()?;
    let (mode, warning) = mode(&server, "mv0")?;
    assert_eq!(mode.as_deref(), Some("generic"));
    assert!(warning.is_some_and(|warning| warning.contains("mv0 has no native XDP")));
    both_planes_answer(&server, "mv0", &wire.client, 1)?;
    Ok(())
}

/// Exchanges a Solicit over a tunnel. Returns the Reply without its header.
fn ask_through(tunnel: &Tunnel, route: &Route, transaction: u8, is_tap: bool) -> Result<Vec<u8>> {
    let frame = route.frame(&solicit(1, transaction, 0));
    tunnel.send(if is_tap { &frame } else { &frame[14..] })?;
    let deadline = Instant::now() + SOON;
    while let Some(packet) = tunnel.receive(deadline)? {
        let packet = if is_tap { packet } else { [&frame[..14], &packet].concat() };
        let Ok(received) = Received::parse_unsummed(&packet) else { continue };
        if received.ports == (547, 546) && received.message[1..4] == [9, 1, transaction] {
            return Ok(received.message[4..].to_vec());
        }
    }
    bail!("no answer")
}

#[test]
fn a_tap_is_served_in_both_modes() -> Result<()> {
    if !privileged("a_tap_is_served_in_both_modes") {
        return Ok(());
    }
    for mode in ["native", "generic"] {
        let wire = Wire::new()?;
        let tap = Tunnel::open(&wire.server, "tap0", TunnelKind::Tap)?;
        wire.server.wait_for_link_local("tap0")?;
        let mut server = Server::prepare(&wire, Plane::Generic, &Additions::default())?;
        server.configure(|config| {
            let config = config.replace("mode = \"generic\"", &format!("mode = \"{mode}\""));
            config.replace(SERVER_INTERFACE, "tap0")
        })?;
        server.restart()?;
        let route = Route::default();
        let neighbor = ["neigh", "add", "fe80::ff:fe00:c1", "lladdr", "02:00:00:00:00:c1", "dev", "tap0"];
        ip(&wire.server, &neighbor)?;
        let mut replies = Vec::new();
        for (transaction, expected) in [(1, &["daemon", "unknown_client"][..]), (2, &["answered"])] {
            let (reply, counts) =
                counted(&server, "tap0", || ask_through(&tap, &route, transaction, true)).context(mode)?;
            assert_eq!(counts, once(expected), "{mode}");
            replies.push(reply);
        }
        assert_eq!(replies[0], replies[1], "{mode}");
    }
    Ok(())
}

#[test]
fn a_tunnel_without_ethernet_is_served_by_the_daemon() -> Result<()> {
    if !privileged("a_tunnel_without_ethernet_is_served_by_the_daemon") {
        return Ok(());
    }
    let wire = Wire::new()?;
    let tun = Tunnel::open(&wire.server, "srv1", TunnelKind::Tun)?;
    ip(&wire.server, &["addr", "add", "fe80::5/64", "dev", "srv1"])?;
    wire.server.wait_for_link_local("srv1")?;
    let mut server =
        Server::start_with(&wire, Plane::Generic, &Additions { file: OTHER, ..Additions::default() })?;
    assert_eq!(mode(&server, SERVER_INTERFACE)?.0.as_deref(), Some("generic"));
    assert_eq!(mode(&server, "srv1")?.0, None);
    assert!(server.log().contains("srv1 has no Ethernet headers"), "{}", server.log());
    let by_daemon = ask_through(&tun, &Route::default(), 1, false)?;
    assert_eq!(address(&by_daemon)?.segments()[2], 2);
    assert_eq!(ask_through(&tun, &Route::default(), 2, false)?, by_daemon);
    let stats = server.ctl_json(&["stats"])?;
    assert_eq!(stats["slow_path"]["received"]["solicit"], 2, "{stats}");
    assert!(stats["interfaces"].get("srv1").is_none(), "{stats}");
    both_planes_answer(&server, SERVER_INTERFACE, &wire.client, 1)?;
    // Where there is nothing else, there is no fast path at all.
    server.stop()?;
    server.configure(|config| config.replace(OTHER, "").replace(SERVER_INTERFACE, "srv1"))?;
    server.restart()?;
    ask_through(&tun, &Route::default(), 3, false)?;
    assert_eq!(server.ctl_json(&["status"])?["fast_path"].as_array().map(Vec::len), Some(0));
    Ok(())
}
