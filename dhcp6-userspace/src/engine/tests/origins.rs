//! Clients of one link that call themselves the same: told apart by their VLANs and MAC addresses.

use std::collections::BTreeSet;

use dhcp6_common::{
    Vlan,
    wire::{MessageType, OptionCode},
};

use super::{
    message::{MAC, Message, Reply, duid, on_link},
    relaying::{forward, open},
    server::{SMALL, Server, parse},
};
use crate::{
    config::{Config, VlanSet},
    engine::{Arrival, DropReason},
    lease::LeaseState,
    pool::IaKind,
};

const PREFIXES: &str = "[[link.prefix_pool]]\nprefix = \"2001:db8:8000::/54\"\ndelegated_length = 56\n";
const OTHER_MAC: [u8; 6] = [2, 0, 0, 0, 9, 8];
const FIRST: Vlan = Vlan { outer: 100, inner: 0 };
const SECOND: Vlan = Vlan { outer: 101, inner: 0 };

/// What a link tells clients apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LooksAt {
    Nothing,
    Vlans,
    Macs,
    Both,
}

impl LooksAt {
    /// A configuration whose only link looks at that.
    fn of(self, text: &str) -> Config {
        let mut config = parse(text);
        let link = &mut config.links[0];
        if matches!(self, Self::Vlans | Self::Both) {
            link.vlans = Some(VlanSet { outer: vec![100..=101], inner: Vec::new() });
        }
        link.bind_to_mac = matches!(self, Self::Macs | Self::Both);
        config
    }

    /// The message of a neighbour, and not of the client.
    fn neighbours(self, message: Message) -> Message {
        match self {
            Self::Nothing => message,
            Self::Vlans => message.in_vlan(SECOND),
            Self::Macs | Self::Both => message.in_vlan(FIRST).with_mac(OTHER_MAC),
        }
    }
}

fn solicit() -> Message {
    Message::rapid(1).in_vlan(FIRST)
}

#[test]
fn a_neighbour_that_claims_a_duid_is_a_stranger() {
    for looks in [LooksAt::Vlans, LooksAt::Macs, LooksAt::Both] {
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
    let mut server = Server::start_as(LooksAt::Macs.of(SMALL));
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
    let mut server = Server::start_as(LooksAt::Vlans.of(&text));
    let neighbours = LooksAt::Vlans.neighbours(Message::rapid(1));
    assert_eq!(server.ask(&neighbours).address(), on_link(0x1001));
    assert_eq!(server.ask(&solicit()).address(), on_link(0x1000), "it is taken");
    let held = |message: &Message| message.clone().option(OptionCode::ELAPSED_TIME, &[0, 0]);
    assert_eq!(server.ask(&held(&neighbours)).address(), on_link(0x1001));
    // The kernel serves who has it, and not who would have to move.
    let ias = [(IaKind::Na, 1)];
    assert!(server.ask_kernel_for(&duid(1), &neighbours, &ias).is_some());
    assert!(server.ask_kernel_for(&duid(1), &solicit(), &ias).is_none());
}

#[test]
fn a_link_that_begins_to_look_renumbers_nobody() {
    for (before, after) in [
        (LooksAt::Nothing, LooksAt::Vlans),
        (LooksAt::Nothing, LooksAt::Macs),
        (LooksAt::Nothing, LooksAt::Both),
        (LooksAt::Vlans, LooksAt::Both),
        (LooksAt::Macs, LooksAt::Both),
    ] {
        for release in [false, true] {
            // Given a client with a lease, or that had one.
            let text = format!("{SMALL}{PREFIXES}");
            let mut server = Server::start_as(before.of(&text));
            let ask = || solicit().ia_pd(1, &[]);
            server.ask(&ask());
            if release {
                server.ask(&Message::with_ia(MessageType::Release, 1, &[on_link(0x1000)]).in_vlan(FIRST));
            }
            // When the link looks at more.
            server.restart_as(after.of(&text));
            assert!(server.kernel.is_empty(), "{before:?} {after:?}: it may be anybody's");
            let bound = server.engine.leases().iter().filter(|it| it.state == LeaseState::Bound).count();
            // Then the first one that comes takes it over, part by part, once the store knows.
            server.store.fail_next(1);
            assert_eq!(server.send(&solicit()), Err(DropReason::StoreFailed));
            server.restart();
            assert_eq!(server.ask(&solicit()).address(), on_link(0x1000), "{before:?} {after:?}");
            assert_eq!(server.forgotten.len(), 1);
            let leases = server.store.contents().leases;
            let origin = server.config.links[0].origin_of(FIRST, Some(MAC));
            let known: Vec<_> = leases.iter().filter(|lease| lease.origin == origin).collect();
            assert_eq!(known.len(), 1, "{before:?} {after:?}: {leases:?}");
            assert_eq!(server.kernel.len(), 1, "{before:?} {after:?}");
            server.ask(&ask());
            assert!(
                server.ask_kernel_for(&duid(1), &solicit(), &[(IaKind::Na, 1), (IaKind::Pd, 1)]).is_some()
            );
            // And others are strangers, of all that it has.
            let reply = server.ask(&after.neighbours(Message::rapid(1)).ia_pd(1, &[]));
            let ias = reply.ias();
            assert_eq!(ias[0].addresses[0].0, on_link(0x1001), "{before:?} {after:?}");
            assert_eq!(ias[1].prefixes[0].0, "2001:db8:8000:100::/56".parse().unwrap());
            assert_eq!(server.engine.leases().len(), 4);
            server.restart();
            assert_eq!(server.ask(&solicit()).address(), on_link(0x1000), "{before:?} {after:?}");
            assert_eq!(bound, if release { 1 } else { 2 });
        }
    }
}

#[test]
fn a_client_that_was_not_known_whole_keeps_others_away_once_it_has_come() {
    // Given a client behind a relay agent that does not know MAC addresses, on a link that looks at them.
    let mut server = Server::start_as(LooksAt::Macs.of(SMALL));
    let relayed = |server: &mut Server| {
        let message = Message::rapid(1);
        let octets = forward(0, on_link(0xffff), &[], message.octets());
        let arrival = Arrival { link: None, vlan: Vlan::NONE, mac: Some(OTHER_MAC), multicast: false };
        let answer = server.engine.handle(server.now, arrival, &octets).expect("an answer").message;
        server.round(&[], None).expect("no crash");
        Reply::decode(&open(&answer).1.pop().expect("a Relay Message").1).address()
    };
    assert_eq!(relayed(&mut server), on_link(0x1000));
    assert!(server.kernel.is_empty(), "the kernel does not tell it from others");
    // Then a neighbour with its DUID is a stranger, after a restart, too, if the client comes first.
    for _ in 0..2 {
        assert_eq!(server.ask(&Message::rapid(1)).address(), on_link(0x1001));
        server.restart();
        assert_eq!(relayed(&mut server), on_link(0x1000));
    }
}

#[test]
fn a_relay_agent_tells_clients_apart_by_their_mac_addresses() {
    let mut server = Server::start_as(LooksAt::Both.of(SMALL));
    let mut ask = |mac: [u8; 6]| {
        let link_layer = [&[0, 1][..], &mac].concat();
        let options = [(OptionCode::CLIENT_LINKLAYER_ADDRESS, link_layer.as_slice())];
        let octets = forward(0, on_link(0xffff), &options, Message::rapid(1).octets());
        let arrival = Arrival { link: None, vlan: FIRST, mac: None, multicast: false };
        let answer = server.engine.handle(server.now, arrival, &octets).expect("an answer").message;
        server.round(&[], None).expect("no crash");
        let origins: Vec<_> = server.engine.leases().iter().map(|lease| lease.origin.vlan).collect();
        assert!(origins.iter().all(|vlan| *vlan == Vlan::NONE), "the VLAN is the relay agent's");
        Reply::decode(&open(&answer).1.pop().expect("a Relay Message").1).address()
    };
    assert_eq!((ask(MAC), ask(OTHER_MAC), ask(MAC)), (on_link(0x1000), on_link(0x1001), on_link(0x1000)));
}

#[test]
fn a_link_that_looks_no_more_goes_on_with_one_of_those_that_were_told_apart() {
    let mut server = Server::start_as(LooksAt::Vlans.of(SMALL));
    server.ask(&solicit());
    server.advance(10);
    server.ask(&LooksAt::Vlans.neighbours(Message::rapid(1)));
    server.restart_as(LooksAt::Nothing.of(SMALL));
    // The later one counts, and what the other one has is kept from everybody until it ends.
    assert_eq!(server.ask(&solicit()).address(), on_link(0x1001));
    let addresses: Vec<_> = (2..=3).map(|client| server.ask(&Message::rapid(client)).address()).collect();
    assert_eq!(addresses, [on_link(0x1002), on_link(0x1003)]);
    assert_eq!(server.ask(&Message::rapid(4)).ia().status, [2]);
    server.advance(2990);
    assert_eq!(server.ask(&Message::rapid(4)).address(), on_link(0x1000));
}

#[test]
fn a_reservation_by_mac_address_is_sure_where_the_kernel_looks_at_it() {
    let reserved =
        format!("{SMALL}[[link.reservation]]\nmac = \"02:00:00:00:09:09\"\naddress = \"2001:db8:1::5\"\n");
    for (looks, is_served) in [(LooksAt::Nothing, false), (LooksAt::Vlans, false), (LooksAt::Macs, true)] {
        let mut server = Server::start_as(looks.of(&reserved));
        assert_eq!(server.ask(&solicit()).address(), on_link(5), "{looks:?}");
        let other = solicit().with_mac(OTHER_MAC).ia_na(2, &[]);
        server.ask(&other);
        assert_eq!(
            server.ask_kernel_for(&duid(1), &solicit(), &[(IaKind::Na, 1)]).is_some(),
            is_served,
            "{looks:?}"
        );
        assert_eq!(
            server.ask_kernel_for(&duid(1), &other, &[(IaKind::Na, 2)]).is_some(),
            is_served,
            "{looks:?}"
        );
    }
}

#[test]
fn one_message_offers_nothing_twice_although_a_neighbour_has_been_offered_all() {
    let mut server = Server::start_as(LooksAt::Vlans.of(SMALL));
    let offer = |iaids: [u32; 4]| {
        let message = Message::of(MessageType::Solicit, &duid(1));
        iaids.into_iter().fold(message, |message, iaid| message.ia_na(iaid, &[]))
    };
    let all = |reply: &Reply| reply.ias().iter().map(|ia| ia.addresses[0].0).collect::<BTreeSet<_>>().len();
    let reply = server.ask(&LooksAt::Vlans.neighbours(offer([1, 2, 3, 4])));
    assert_eq!(all(&reply), 4);
    let reply = server.ask(&offer([5, 6, 7, 8]).in_vlan(FIRST));
    assert_eq!(all(&reply), 4, "the neighbour's offers go to who comes later");
}
