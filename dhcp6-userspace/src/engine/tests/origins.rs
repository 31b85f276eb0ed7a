//! Clients of one link that call themselves the same: told apart by their VLANs and MAC addresses.

use dhcp6_common::{
    Vlan,
    wire::{MessageType, OptionCode},
};

use super::{
    message::{MAC, Message, duid, on_link},
    server::{SMALL, Server, parse},
};
use crate::{
    config::{Config, VlanSet},
    engine::{Arrival, DropReason},
    lease::LeaseState,
    pool::IaKind,
};

const OTHER_MAC: [u8; 6] = [2, 0, 0, 0, 9, 8];
const FIRST: Vlan = Vlan { outer: 100, inner: 0 };
const SECOND: Vlan = Vlan { outer: 101, inner: 0 };

/// What a link tells clients apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Looks {
    AtNothing,
    AtVlans,
    AtMacs,
    AtBoth,
}

impl Looks {
    /// A configuration whose only link looks at that.
    fn of(self, text: &str) -> Config {
        let mut config = parse(text);
        let link = &mut config.links[0];
        if matches!(self, Self::AtVlans | Self::AtBoth) {
            link.vlans = Some(VlanSet { outer: vec![100..=101], inner: Vec::new() });
        }
        link.bind_to_mac = matches!(self, Self::AtMacs | Self::AtBoth);
        config
    }

    /// The message of a neighbour, and not of the client.
    fn neighbours(self, message: Message) -> Message {
        match self {
            Self::AtNothing => message,
            Self::AtVlans => message.in_vlan(SECOND),
            Self::AtMacs | Self::AtBoth => message.in_vlan(FIRST).from_mac(OTHER_MAC),
        }
    }
}

fn solicit() -> Message {
    Message::rapid(1).in_vlan(FIRST)
}

#[test]
fn a_neighbour_that_claims_a_duid_is_a_stranger() {
    for looks in [Looks::AtVlans, Looks::AtMacs, Looks::AtBoth] {
        // Given a client with a lease.
        let mut server = Server::start_as(looks.of(SMALL));
        let address = server.ask(&solicit()).address();
        let ias = [(IaKind::Na, 1)];
        // When a neighbour claims its DUID, then it gets an address of its own, and ends nothing of the client's.
        let of = |kind| looks.neighbours(Message::with_ia(kind, 1, &[address]));
        for kind in [MessageType::Release, MessageType::Decline] {
            let reply = server.ask(&of(kind));
            assert_eq!(reply.ia().status, [3], "{looks:?}: no such binding, {kind:?}");
        }
        let reply = server.ask(&looks.neighbours(Message::rapid(1)));
        assert_eq!(reply.address(), on_link(0x1001), "{looks:?}");
        let renewed = server.ask(&of(MessageType::Renew));
        assert!(renewed.ia().addresses.contains(&(address, 0, 0)), "{looks:?}: {renewed:?}");
        let leases = server.engine.leases();
        assert_eq!(leases.iter().filter(|lease| lease.state == LeaseState::Bound).count(), 2, "{looks:?}");
        // Both planes know both.
        for (message, expected) in
            [(solicit(), address), (looks.neighbours(Message::rapid(1)), on_link(0x1001))]
        {
            let entry = server.ask_kernel_for(&duid(1), &message, &ias).expect("the kernel knows it");
            assert_eq!(entry.address, Some((1, expected)), "{looks:?}");
            assert_eq!(server.ask(&message).address(), expected, "{looks:?}");
        }
        server.restart();
        assert_eq!(server.kernel.len(), 2, "{looks:?}");
        assert_eq!(server.ask(&solicit()).address(), address, "{looks:?}");
    }
}

#[test]
fn without_a_mac_address_nobody_is_served_where_it_counts() {
    let mut server = Server::start_as(Looks::AtMacs.of(SMALL));
    let arrival = Arrival { link: Some(0), vlan: Vlan::NONE, mac: None, multicast: true };
    let outcome = server.engine.handle(server.now, arrival, Message::rapid(1).octets());
    assert_eq!(outcome.err(), Some(DropReason::UnknownMac));
    assert!(server.is_untouched());
    let arrival = Arrival { mac: Some(MAC), ..arrival };
    assert!(server.engine.handle(server.now, arrival, Message::rapid(1).octets()).is_ok());
}

#[test]
fn a_reservation_is_for_whoever_has_it_first() {
    let text = super::server::with_reservations();
    let mut server = Server::start_as(Looks::AtVlans.of(&text));
    let neighbours = Looks::AtVlans.neighbours(Message::rapid(1));
    assert_eq!(server.ask(&neighbours).address(), on_link(0x1001));
    assert_eq!(server.ask(&solicit()).address(), on_link(0x1000), "it is taken");
    let held = |message: &Message| message.clone().option(OptionCode::ELAPSED_TIME, &[0, 0]);
    assert_eq!(server.ask(&held(&neighbours)).address(), on_link(0x1001));
    // The kernel serves who has it, and not who would have to move.
    let ias = [(IaKind::Na, 1)];
    assert!(server.ask_kernel_for(&duid(1), &neighbours, &ias).is_some());
    assert!(server.ask_kernel_for(&duid(1), &solicit(), &ias).is_none());
}
