//! What a packet socket hears of clients, and how it answers.

use std::{
    net::{Ipv6Addr, SocketAddrV6, UdpSocket},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use dhcp6_common::wire::{MessageType, SERVER_PORT};
use dhcp6_userspace::{
    engine::{AnswerPort, DropReason},
    net::{FrameSocket, Heard, Interface, Path},
};
use tests::{
    frame::{
        C_TAG, MULTICAST, MessageBuilder, Received, Route, in_fragments, on_vlan, with_destination_options,
        with_tags,
    },
    netns::{SERVER_INTERFACE, Wire, privileged},
    raw::{RawClient, TaggedClient},
};
use tokio::runtime::{Builder, Runtime};

const SOON: Duration = Duration::from_secs(3);
const ALL: Heard = Heard { untagged: true, tagged: true };

/// The server's socket and a client.
struct Setting {
    // Sockets wait in it.
    runtime: Runtime,
    interface: Interface,
    server: FrameSocket,
    client: RawClient,
}

/// What was heard of one message.
#[derive(Debug, PartialEq, Eq)]
struct Heeded {
    source: Ipv6Addr,
    mac: Option<[u8; 6]>,
    outer: u16,
    message: Vec<u8>,
    fault: Option<DropReason>,
}

impl Setting {
    fn new(wire: &Wire, heard: Heard) -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (interface, server) = wire.server.enter(|| -> Result<_> {
            let interface = Interface::find(SERVER_INTERFACE)?;
            let _entered = runtime.enter();
            let server = FrameSocket::open(interface.clone(), SERVER_PORT, heard)?;
            Ok((interface, server))
        })?;
        Ok(Self { runtime, interface, server, client: RawClient::open(&wire.client)? })
    }

    /// Sends a message behind what was sent before, and hears all up to that.
    fn heard(&mut self) -> Result<(Vec<Heeded>, Vec<Path>)> {
        const FENCE: [u8; 4] = [MessageType::InformationRequest as u8, 0xfe, 0xfe, 0xfe];
        self.client.send(&client(0xfffe).frame(&FENCE))?;
        let mut heard = Vec::new();
        let mut paths = Vec::new();
        let started = Instant::now();
        while started.elapsed() < SOON {
            let Self { runtime, server, .. } = self;
            runtime.block_on(async {
                let readable = std::future::poll_fn(|context| server.poll_readable(context));
                tokio::time::timeout(SOON, readable).await.context("nothing arrives")
            })??;
            while let Some(datagram) = server.receive()? {
                if datagram.payload == FENCE {
                    return Ok((heard, paths));
                }
                paths.push(datagram.path);
                heard.push(Heeded {
                    source: *datagram.path.source.ip(),
                    mac: datagram.path.mac(),
                    outer: datagram.path.vlan().outer,
                    message: datagram.payload.to_vec(),
                    fault: datagram.fault,
                });
            }
        }
        anyhow::bail!("the last message does not arrive")
    }
}

/// Where a client's messages come from.
fn client(number: u16) -> Route {
    let [high, low] = number.to_be_bytes();
    Route {
        source_mac: [2, 0, 0, 1, high, low],
        source: Ipv6Addr::from(0xfe80 << 112 | u128::from(number)),
        ..Route::default()
    }
}

fn message() -> Vec<u8> {
    MessageBuilder::new(MessageType::Solicit, [0; 3]).client_id(&[0, 3, 0, 1, 2, 0]).build()
}

fn solicit(route: &Route) -> Vec<u8> {
    route.frame(&message())
}

/// A message as it was sent.
fn whole(route: &Route, outer: u16) -> Heeded {
    Heeded { source: route.source, mac: Some(route.source_mac), outer, message: message(), fault: None }
}

#[test]
fn messages_are_heard_with_their_mac_addresses() -> Result<()> {
    if !privileged("messages_are_heard_with_their_mac_addresses") {
        return Ok(());
    }
    let wire = Wire::new()?;
    let mut setting = Setting::new(&wire, ALL)?;
    let [plain, extended, fragmented, both, priority, tagged] = [1, 2, 3, 4, 5, 6].map(client);
    setting.client.send(&solicit(&plain))?;
    setting.client.send(&with_destination_options(&solicit(&extended)))?;
    // The last one first.
    for fragment in in_fragments(&solicit(&fragmented), 8).iter().rev() {
        setting.client.send(fragment)?;
    }
    for fragment in in_fragments(&with_destination_options(&solicit(&both)), 16) {
        setting.client.send(&with_destination_options(&fragment))?;
    }
    // VLAN 0 is none: the tag carries a priority.
    setting.client.send(&on_vlan(&solicit(&priority), 0xe000))?;
    setting.client.send(&on_vlan(&solicit(&tagged), 100))?;
    let expected = [
        whole(&plain, 0),
        whole(&extended, 0),
        whole(&fragmented, 0),
        whole(&both, 0),
        whole(&priority, 0),
        whole(&tagged, 100),
    ];
    assert_eq!(setting.heard()?.0, expected);
    Ok(())
}

#[test]
fn only_what_is_for_the_server_is_heard() -> Result<()> {
    if !privileged("only_what_is_for_the_server_is_heard") {
        return Ok(());
    }
    let wire = Wire::new()?;
    let mut setting = Setting::new(&wire, ALL)?;
    let [one, unicast, ..] = [1, 2].map(client);
    let to_server = Route {
        destination: setting.interface.link_local,
        destination_mac: setting.interface.mac,
        ..unicast
    };
    let other_port = solicit(&Route { destination_port: 546, ..one });
    let mut echo = solicit(&one);
    echo[20] = 58;
    let mut routed = with_destination_options(&solicit(&one));
    routed[20] = 43;
    let others = [
        solicit(&to_server),
        solicit(&Route { destination: "ff02::1".parse()?, ..one }),
        solicit(&Route { destination_mac: [2, 9, 9, 9, 9, 9], ..one }),
        with_tags(&solicit(&one), &[(C_TAG, 0), (C_TAG, 7)]),
        with_tags(&solicit(&one), &[(C_TAG, 7), (C_TAG, 0)]),
        other_port.clone(),
        with_destination_options(&other_port),
        echo,
        routed,
    ];
    for frame in others {
        setting.client.send(&frame)?;
    }
    // What the server's own host sends is no client's.
    wire.server.enter(|| -> Result<()> {
        let sender =
            UdpSocket::bind(SocketAddrV6::new(setting.interface.link_local, 0, 0, setting.interface.index))?;
        sender
            .send_to(&[1, 0, 0, 0], SocketAddrV6::new(MULTICAST, SERVER_PORT, 0, setting.interface.index))?;
        Ok(())
    })?;
    assert_eq!(setting.heard()?.0, []);
    Ok(())
}

#[test]
fn what_is_damaged_is_told_of() -> Result<()> {
    if !privileged("what_is_damaged_is_told_of") {
        return Ok(());
    }
    let wire = Wire::new()?;
    let mut setting = Setting::new(&wire, ALL)?;
    let altered = |mut frame: Vec<u8>, at: usize| {
        frame[at] ^= 1;
        frame
    };
    let frame = solicit(&client(1));
    let [head, tail] = in_fragments(&frame, 16);
    setting.client.send(&altered(frame.clone(), 61))?;
    // Beyond the packet.
    setting.client.send(&altered(frame.clone(), 58))?;
    setting.client.send(&with_destination_options(&altered(frame, 61)))?;
    setting.client.send(&head)?;
    setting.client.send(&head)?;
    setting.client.send(&tail)?;
    let faults: Vec<_> = setting.heard()?.0.into_iter().map(|heard| heard.fault).collect();
    let expected = [
        DropReason::BadChecksum,
        DropReason::BadFrame,
        DropReason::BadChecksum,
        // The same fragment twice.
        DropReason::BadFrame,
    ];
    assert_eq!(faults, expected.map(Some));
    Ok(())
}

#[test]
fn fragments_without_end_keep_nobody_waiting() -> Result<()> {
    const FRAGMENTS: u16 = 1000;
    if !privileged("fragments_without_end_keep_nobody_waiting") {
        return Ok(());
    }
    let wire = Wire::new()?;
    let mut setting = Setting::new(&wire, ALL)?;
    for number in 0..FRAGMENTS {
        let [head, _] = in_fragments(&solicit(&client(number)), 8);
        setting.client.send(&head)?;
    }
    let whole_one = client(FRAGMENTS);
    setting.client.send(&solicit(&whole_one))?;
    let Setting { runtime, server, .. } = &mut setting;
    // All has arrived: a veth pair keeps nothing.
    runtime.block_on(std::future::poll_fn(|context| server.poll_readable(context)))?;
    assert!(server.receive()?.is_none(), "all fragments were looked at before anything else was done");
    assert_eq!(setting.heard()?.0, [whole(&whole_one, 0)]);
    Ok(())
}

#[test]
fn a_socket_hears_what_it_is_told_to() -> Result<()> {
    if !privileged("a_socket_hears_what_it_is_told_to") {
        return Ok(());
    }
    let wire = Wire::new()?;
    let mut setting = Setting::new(&wire, ALL)?;
    let [untagged, tagged] = [1, 2].map(client);
    let frames = [solicit(&untagged), on_vlan(&solicit(&tagged), 9)];
    let both = [whole(&untagged, 0), whole(&tagged, 9)];
    setting.server.hear(Heard { tagged: false, ..ALL })?;
    for frame in &frames {
        setting.client.send(frame)?;
    }
    assert_eq!(setting.heard()?.0, both[..1]);
    setting.server.hear(ALL)?;
    for frame in &frames {
        setting.client.send(frame)?;
    }
    assert_eq!(setting.heard()?.0, both);
    Ok(())
}

/// Answers go where the messages came from, more of them than are sent at once, short ones and long ones.
#[test]
fn answers_take_the_way_back() -> Result<()> {
    const CLIENTS: u16 = 150;
    if !privileged("answers_take_the_way_back") {
        return Ok(());
    }
    let wire = Wire::new()?;
    let mut setting = Setting::new(&wire, ALL)?;
    let ears = TaggedClient::open(&wire.client)?;
    for number in 0..CLIENTS {
        setting.client.send(&solicit(&client(number)))?;
    }
    let (_, paths) = setting.heard()?;
    ensure!(paths.len() == usize::from(CLIENTS), "{} of {CLIENTS} were heard", paths.len());
    let answers: Vec<Vec<u8>> = (0..CLIENTS).map(|number| vec![7; 100 + usize::from(number)]).collect();
    let too_long = vec![MessageType::Reply as u8; 70_000];
    let mut results = Vec::new();
    let all = paths.iter().zip(&answers).map(|(path, answer)| (path, AnswerPort::Client, &answer[..]));
    let one_more = (&paths[0], AnswerPort::Client, &too_long[..]);
    setting.server.send(all.chain([one_more]), |place, result| results.push((place, result.is_ok())));
    results.sort_unstable();
    let expected: Vec<_> = (0..=usize::from(CLIENTS)).map(|place| (place, place < CLIENTS.into())).collect();
    assert_eq!(results, expected);
    for (number, answer) in (0..).zip(&answers) {
        let deadline = Instant::now() + SOON;
        let frame = ears.receive(deadline)?.context("an answer is missing")?;
        let received = Received::parse(&frame)?;
        let route = client(number);
        assert_eq!(received.destination_mac, route.source_mac);
        assert_eq!(received.destination, route.source);
        assert_eq!(received.source, setting.interface.link_local);
        assert_eq!(&received.message, answer);
    }
    Ok(())
}
