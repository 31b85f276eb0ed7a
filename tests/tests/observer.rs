//! MAC addresses of clients, from their frames.

use std::{
    net::{Ipv6Addr, SocketAddrV6, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use dhcp6_common::wire::{MessageType, SERVER_PORT};
use dhcp6_userspace::net::{FrameObserver, Interface};
use tests::{
    frame::{MULTICAST, MessageBuilder, Route, in_fragments, on_vlan, with_destination_options},
    netns::{SERVER_INTERFACE, Wire, privileged},
    raw::RawClient,
};

/// The server's socket, the observer beside it, and a client.
struct Setting {
    server: UdpSocket,
    interface: Interface,
    observer: FrameObserver,
    client: RawClient,
}

impl Setting {
    fn new(wire: &Wire) -> Result<Self> {
        let (server, interface, observer) = wire.server.enter(|| -> Result<_> {
            let interface = Interface::find(SERVER_INTERFACE)?;
            let server =
                UdpSocket::bind(SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, SERVER_PORT, 0, interface.index))?;
            server.join_multicast_v6(&MULTICAST, interface.index)?;
            server.set_read_timeout(Some(Duration::from_secs(3)))?;
            let observer = FrameObserver::open(&interface, SERVER_PORT)?;
            Ok((server, interface, observer))
        })?;
        Ok(Self { server, interface, observer, client: RawClient::open(&wire.client)? })
    }

    /// Sends a client's message behind what was sent before, and waits for it: all that is gone by then.
    fn fence(&self) -> Result<()> {
        const FENCE: [u8; 4] = [MessageType::InformationRequest as u8, 0xfe, 0xfe, 0xfe];
        self.client.send(&client(0xfffe).frame(&FENCE))?;
        let mut buffer = [0; 2048];
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(3) {
            let len = self.server.recv(&mut buffer)?;
            if buffer[..len] == FENCE {
                return Ok(());
            }
        }
        anyhow::bail!("nothing arrives")
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

fn solicit(route: &Route) -> Vec<u8> {
    route.frame(&MessageBuilder::new(MessageType::Solicit, [0; 3]).client_id(&[0, 3, 0, 1, 2, 0]).build())
}

#[test]
fn the_mac_address_is_that_of_the_latest_message() -> Result<()> {
    if !privileged("the_mac_address_is_that_of_the_latest_message") {
        return Ok(());
    }
    let wire = Wire::new()?;
    let mut setting = Setting::new(&wire)?;
    let [plain, moved, extended, fragmented, long_way] = [1, 2, 3, 4, 5].map(client);
    setting.client.send(&solicit(&plain))?;
    setting.client.send(&solicit(&moved))?;
    let moved = Route { source_mac: [2, 0, 0, 0, 0, 0xff], ..moved };
    setting.client.send(&solicit(&moved))?;
    setting.client.send(&with_destination_options(&solicit(&extended)))?;
    for fragment in in_fragments(&solicit(&fragmented), 8) {
        setting.client.send(&fragment)?;
    }
    // VLAN 0 is none: the tag carries a priority.
    setting.client.send(&on_vlan(&solicit(&long_way), 0))?;
    setting.fence()?;
    for (what, route) in [
        ("a plain message", plain),
        ("another MAC address", moved),
        ("a Destination Options header", extended),
        ("two fragments", fragmented),
        ("a priority tag", long_way),
    ] {
        let mac = setting.observer.mac_of(route.source);
        assert_eq!(mac, Some(route.source_mac), "{what}");
    }
    assert_eq!(setting.observer.mac_of(client(99).source), None, "one who sent nothing");
    Ok(())
}

#[test]
fn only_messages_to_the_server_are_looked_at() -> Result<()> {
    if !privileged("only_messages_to_the_server_are_looked_at") {
        return Ok(());
    }
    let wire = Wire::new()?;
    let mut setting = Setting::new(&wire)?;
    let [port, unicast, group, vlan, icmp] = [1, 2, 3, 4, 5].map(client);
    setting.client.send(&solicit(&Route { destination_port: 546, ..port }))?;
    let to_server = Route {
        destination: setting.interface.link_local,
        destination_mac: setting.interface.mac,
        ..unicast
    };
    setting.client.send(&solicit(&to_server))?;
    setting.client.send(&solicit(&Route { destination: "ff02::1".parse()?, ..group }))?;
    setting.client.send(&on_vlan(&solicit(&vlan), 100))?;
    let mut echo = solicit(&icmp);
    echo[20] = 58;
    setting.client.send(&echo)?;
    // What the server's own host sends is no client's.
    wire.server.enter(|| -> Result<()> {
        let sender =
            UdpSocket::bind(SocketAddrV6::new(setting.interface.link_local, 0, 0, setting.interface.index))?;
        sender
            .send_to(&[1, 0, 0, 0], SocketAddrV6::new(MULTICAST, SERVER_PORT, 0, setting.interface.index))?;
        Ok(())
    })?;
    setting.fence()?;
    for (what, source) in [
        ("another port", port.source),
        ("to an address of the server", unicast.source),
        ("to another group", group.source),
        ("on a VLAN", vlan.source),
        ("not UDP", icmp.source),
        ("the host itself", setting.interface.link_local),
    ] {
        assert_eq!(setting.observer.mac_of(source), None, "{what}");
    }
    assert!(setting.observer.mac_of(client(0xfffe).source).is_some(), "it observes");
    Ok(())
}

/// However quick the server is, the frame was there before the datagram.
#[test]
fn the_mac_address_is_known_when_the_datagram_is_there() -> Result<()> {
    const MESSAGES: u16 = 20_000;
    if !privileged("the_mac_address_is_known_when_the_datagram_is_there") {
        return Ok(());
    }
    let wire = Wire::new()?;
    let Setting { server, interface: _, mut observer, client: sender } = Setting::new(&wire)?;
    server.set_nonblocking(true)?;
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..MESSAGES {
                sender.send(&solicit(&client(number))).expect("the interface is up");
            }
        });
        let mut buffer = [0; 2048];
        let mut last = Instant::now();
        let mut received = 0;
        // Asked at once, without sleeping in between.
        while last.elapsed() < Duration::from_millis(500) && received < MESSAGES {
            let Ok((_, source)) = server.recv_from(&mut buffer) else { continue };
            let std::net::SocketAddr::V6(source) = source else { continue };
            let number = source.ip().to_bits() as u16;
            assert_eq!(observer.mac_of(*source.ip()), Some(client(number).source_mac), "message {number}");
            (received, last) = (received + 1, Instant::now());
        }
        assert!(received > MESSAGES / 20, "{received} of {MESSAGES} arrived; the rest found no room");
    });
    Ok(())
}
