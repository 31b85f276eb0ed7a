//! Solicit: RFC 9915, sections 18.3.1, 18.3.9 and 21.14; matrix sections 4 and 5.

use dhcp6_common::wire::{MessageType, OptionCode, StatusCode};

use super::{
    message::{Message, SERVER, TRANSACTION, duid, off_link, on_link},
    server::{SMALL, Server, with_reservations},
};
use crate::engine::DropReason;

fn solicit(client: u8) -> Message {
    Message::with_ia(MessageType::Solicit, client, &[])
}

fn request(client: u8) -> Message {
    Message::with_ia(MessageType::Request, client, &[])
}

#[test]
fn without_rapid_commit_it_is_an_advertise_that_binds_nothing() {
    let mut server = Server::start(SMALL);
    let reply = server.ask(&solicit(1).transaction([9, 8, 7]));
    assert_eq!(reply.kind, MessageType::Advertise, "matrix rows S-1, Q-5, S-21");
    assert_eq!(reply.transaction, [9, 8, 7], "matrix row V-25");
    assert_eq!(reply.values(OptionCode::SERVER_ID), [SERVER], "matrix rows S-2, U-9");
    assert_eq!(reply.values(OptionCode::CLIENT_ID), [duid(1).as_slice()], "matrix row S-2");
    assert!(!reply.has(OptionCode::PREFERENCE), "matrix row S-8");
    assert!(!reply.has(OptionCode::RAPID_COMMIT), "matrix row Q-4");
    let ia = reply.ia();
    assert_eq!(ia.addresses, [(on_link(0x1000), 1000, 2000)], "matrix row S-3");
    assert_eq!((ia.iaid, ia.t1, ia.t2), (1, 500, 800), "matrix row R-13");
    assert!(
        server.changes.is_empty() && server.forgotten.is_empty() && server.engine.leases().is_empty(),
        "matrix row S-22"
    );
    assert_eq!(server.ask(&request(1)).address(), on_link(0x1000), "matrix rows S-3, S-11, Q-9");
}

#[test]
fn an_address_is_chosen_in_the_order_of_the_design() {
    for (given, client, hints, expected, row) in [
        (&[][..], 1, &[][..], 0x1001, "S-16: the reservation"),
        (&[], 1, &[0x1003], 0x1001, "S-16, S-6: the reservation before a hint"),
        (&[], 2, &[], 5, "S-16: a reservation outside of the pool"),
        (&[], 3, &[0x1002], 0x1002, "S-7: the hint"),
        (&[], 3, &[0x1001], 0x1000, "S-18: not what is reserved"),
        (&[], 3, &[5], 0x1000, "S-18: not what is reserved outside of the pool"),
        (&[], 3, &[6], 0x1000, "S-6: not what is in no pool"),
        (&[3], 3, &[0x1003], 0x1000, "S-17: what the client has"),
        (&[3], 4, &[0x1000], 0x1002, "R-11, S-6: not what another has"),
    ] {
        let mut server = Server::start(&with_reservations());
        for client in given {
            server.ask(&Message::rapid(*client));
        }
        let hints: Vec<_> = hints.iter().copied().map(on_link).collect();
        let reply = server.ask(&Message::with_ia(MessageType::Solicit, client, &hints));
        // Nothing else is there, not even with lifetimes of zero.
        assert_eq!(reply.ia().addresses, [(on_link(expected), 1000, 2000)], "matrix row {row}");
        let reply = server.ask(&Message::with_ia(MessageType::Request, client, &hints));
        assert_eq!(reply.address(), on_link(expected), "matrix row S-11: {row}");
    }
}

#[test]
fn who_released_gets_the_same_address_again() {
    let mut server = Server::start(SMALL);
    server.ask(&Message::rapid(1));
    let address = server.ask(&Message::rapid(2)).address();
    server.ask(&Message::with_ia(MessageType::Release, 2, &[address]));
    assert_eq!(server.ask(&Message::rapid(2)).address(), address, "matrix rows S-17, Q-17, L-5");
    server.ask(&Message::with_ia(MessageType::Release, 2, &[address]));
    server.restart();
    assert_eq!(server.ask(&Message::rapid(2)).address(), address, "matrix row S-17, after a restart");
    server.advance(4000);
    assert_eq!(server.ask(&Message::rapid(2)).address(), address, "matrix row S-17, after its end");
}

#[test]
fn no_address_is_said_inside_the_ia() {
    let mut server = Server::start(SMALL);
    let clients: Vec<_> = (1..=4).map(|client| server.ask(&Message::rapid(client)).address()).collect();
    assert_eq!(clients, [0x1000, 0x1001, 0x1002, 0x1003].map(on_link), "matrix row S-23");
    for (message, kind) in [
        (solicit(5), MessageType::Advertise),
        (Message::rapid(5), MessageType::Reply),
        (request(5), MessageType::Reply),
    ] {
        let reply = server.ask(&message);
        assert_eq!(reply.kind, kind);
        assert!(reply.ia().is_only(StatusCode::NoAddrsAvail), "matrix rows S-4, R-3, Q-7, O-6");
        assert_eq!(reply.status(), None, "matrix row O-4");
    }
    let offered = on_link(0x1001);
    assert_eq!(server.ask(&solicit(2)).address(), offered, "matrix row S-17: a full pool serves its clients");
}

#[test]
fn offers_do_not_drain_the_pool() {
    let mut server = Server::start(SMALL);
    for client in 1..=200 {
        assert_eq!(server.ask(&solicit(client)).ia().status, [0; 0], "matrix row S-22: client {client}");
    }
    for client in 1..=4 {
        server.ask(&request(client)).address();
    }
    let mut server = Server::start(SMALL);
    server.ask(&solicit(1));
    assert_eq!(server.ask(&solicit(2)).address(), on_link(0x1001), "an offer keeps its address");
    server.advance(60);
    let hint = Message::with_ia(MessageType::Solicit, 3, &[on_link(0x1000)]);
    assert_eq!(server.ask(&hint).address(), on_link(0x1000), "matrix row S-22: an offer ends");
}

#[test]
fn a_request_to_another_server_ends_the_offer() {
    let mut server = Server::start(SMALL);
    let address = server.ask(&solicit(1)).address();
    let other = Message::bare(MessageType::Request as u8)
        .option(OptionCode::CLIENT_ID, duid(1).as_slice())
        .option(OptionCode::SERVER_ID, &[0, 2, 9])
        .ia_na(1, &[address]);
    assert_eq!(server.send(&other), Err(DropReason::OtherServer), "matrix rows R-12, V-4");
    let hint = Message::with_ia(MessageType::Solicit, 2, &[address]);
    assert_eq!(server.ask(&hint).address(), address, "matrix row R-12");
}

#[test]
fn an_advertise_offers_no_address_in_two_ias() {
    let only = SMALL.replace("-2001:db8:1::1003", "-2001:db8:1::1000");
    let two = |kind| Message::of(kind, &duid(1)).ia_na(1, &[]).ia_na(2, &[]);
    for (config, first, rest) in [
        (with_reservations(), 0x1001, Some(0x1000)),
        (SMALL.to_owned(), 0x1000, Some(0x1001)),
        (only, 0x1000, None),
    ] {
        let mut server = Server::start(&config);
        for kind in [MessageType::Solicit, MessageType::Request] {
            let [one, other] = server.ask(&two(kind)).ias().try_into().expect("matrix row U-13: both");
            assert_eq!((one.iaid, other.iaid), (1, 2), "matrix row T-24: in their order");
            assert_eq!(one.addresses[0].0, on_link(first), "matrix row U-13");
            let other = other.addresses.first().map(|(address, _, _)| *address);
            assert_eq!(other, rest.map(on_link), "matrix rows U-13, S-11: {kind:?}");
        }
    }
}

#[test]
fn the_oldest_offer_that_a_client_may_have_gives_way() {
    let mut server = Server::start(&with_reservations());
    server.ask(&solicit(1));
    for client in 3..=5 {
        server.ask(&solicit(client));
        server.advance(1);
    }
    assert_eq!(server.ask(&solicit(6)).address(), on_link(0x1000), "matrix row S-3: not a reserved one");
    assert_eq!(server.ask(&request(7)).address(), on_link(0x1002), "matrix row R-3");
}

#[test]
fn with_rapid_commit_it_is_a_reply_that_binds() {
    let mut server = Server::start(SMALL);
    let reply = server.ask(&Message::rapid(1));
    assert_eq!(reply.kind, MessageType::Reply, "matrix row Q-1");
    assert_eq!(reply.values(OptionCode::RAPID_COMMIT), [&[0; 0]], "matrix row Q-2");
    assert_eq!(reply.transaction, TRANSACTION, "matrix row V-25");
    let address = reply.address();
    for kind in [MessageType::Renew, MessageType::Rebind, MessageType::Request, MessageType::Confirm] {
        let reply = server.ask(&Message::with_ia(kind, 1, &[address]));
        assert!(!reply.has(OptionCode::RAPID_COMMIT), "matrix row Q-6: {kind:?}");
        if kind != MessageType::Confirm {
            assert_eq!(reply.address(), address, "matrix rows Q-3, Q-9: {kind:?}");
        }
    }
    let again = server.ask(&Message::rapid(1).transaction([1, 2, 3]));
    assert_eq!((again.transaction, again.address()), ([1, 2, 3], address), "matrix row Q-8");
    assert_eq!(server.engine.leases().len(), 1, "matrix row Q-8");
}

#[test]
fn rapid_commit_has_to_be_configured() {
    let mut server = Server::start(&SMALL.replace("rapid_commit = true", "rapid_commit = false"));
    let reply = server.ask(&Message::rapid(1));
    assert_eq!(reply.kind, MessageType::Advertise, "matrix row Q-4");
    assert!(!reply.has(OptionCode::RAPID_COMMIT), "matrix row Q-4");
    assert!(server.is_untouched(), "matrix row Q-4");
}

#[test]
fn every_ia_of_a_rapid_commit_is_answered() {
    let mut server = Server::start(SMALL);
    let mut message = Message::of(MessageType::Solicit, &duid(1)).option(OptionCode::RAPID_COMMIT, &[]);
    for iaid in [9, 0, u32::MAX, 3, 7] {
        message = message.ia_na(iaid, &[off_link()]);
    }
    let ias = server.ask(&message).ias();
    assert_eq!(
        ias.iter().map(|ia| ia.iaid).collect::<Vec<_>>(),
        [9, 0, u32::MAX, 3, 7],
        "matrix rows Q-7, U-12"
    );
    assert!(ias[..4].iter().all(|ia| ia.addresses.len() == 1 && ia.status.is_empty()), "matrix row Q-7");
    assert!(ias[4].is_only(StatusCode::NoAddrsAvail), "matrix row Q-7");
}

#[test]
fn the_preference_is_in_advertises_only() {
    let config = format!("[server]\npreference = 200\n{SMALL}");
    let mut server = Server::start(&config);
    assert_eq!(server.ask(&solicit(1)).values(OptionCode::PREFERENCE), [&[200]], "matrix row S-9");
    for message in [Message::rapid(1), request(1), Message::bare(MessageType::InformationRequest as u8)] {
        assert!(!server.ask(&message).has(OptionCode::PREFERENCE), "matrix row S-9: {message:?}");
    }
}

#[test]
fn random_allocation_is_not_predictable() {
    let config = SMALL
        .replace("rapid_commit", "allocation = \"random\"\nrapid_commit")
        .replace("2001:db8:1::1000-2001:db8:1::1003", "2001:db8:1::/64");
    let mut server = Server::start(&config);
    let mut addresses: Vec<_> =
        (1..=12).map(|client| server.ask(&Message::rapid(client)).address()).collect();
    let far_apart = |pair: &[std::net::Ipv6Addr]| pair[0].octets()[8..12] != pair[1].octets()[8..12];
    assert!(addresses.windows(2).all(far_apart), "matrix row S-12: {addresses:?}");
    addresses.sort_unstable();
    addresses.dedup();
    assert_eq!(addresses.len(), 12, "matrix row S-23");
}

#[test]
fn reserved_interface_identifiers_are_not_allocated() {
    let range = "2001:db8:1::fdff:ffff:ffff:ff7f-2001:db8:1::fdff:ffff:ffff:ffff";
    let mut server = Server::start(&SMALL.replace("2001:db8:1::1000-2001:db8:1::1003", range));
    let hint = "2001:db8:1::fdff:ffff:ffff:ff80".parse().expect("an address");
    let first = server.ask(&Message::with_ia(MessageType::Request, 1, &[hint])).address();
    assert_eq!(first.to_string(), "2001:db8:1:0:fdff:ffff:ffff:ff7f", "matrix row S-13");
    assert!(server.ask(&request(2)).ia().is_only(StatusCode::NoAddrsAvail), "matrix row S-13");
    let whole = SMALL.replace("2001:db8:1::1000-2001:db8:1::1003", "2001:db8:1::/64");
    for reserved in ["::", "::200:5eff:fe00:0", "::200:5eff:fe00:5213", "::fdff:ffff:ffff:ffff"] {
        let hint = format!("2001:db8:1{reserved}").parse().expect("an address");
        for kind in [MessageType::Solicit, MessageType::Request, MessageType::Renew, MessageType::Rebind] {
            let given = Server::start(&whole).ask(&Message::with_ia(kind, 1, &[hint])).address();
            assert_ne!(given, hint, "matrix row S-13: {kind:?}");
        }
    }
}

#[test]
fn clients_that_change_their_identity_do_not_exhaust_a_pool() {
    // A DUID-LL of a new random MAC address at each visit, and nothing else that tells the client: RFC 7844. Each
    // visit lasts as long as a lease, and four addresses are enough for it.
    let mut server = Server::start(SMALL);
    for visit in 1..=200 {
        let reply = server.ask(&Message::rapid(visit).requests(&[23, 24]));
        assert_eq!(reply.ia().addresses.len(), 1, "matrix row E-34: visit {visit}");
        assert_eq!(reply.values(OptionCode::CLIENT_ID), [duid(visit).as_slice()], "matrix row E-34");
        server.advance(1000);
    }
}
