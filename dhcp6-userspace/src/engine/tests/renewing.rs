//! Renew and Rebind: RFC 9915, sections 18.3.4 and 18.3.5; matrix section 7.

use dhcp6_common::wire::{MessageType, OptionCode, StatusCode};

use super::{
    message::{Message, SERVER, duid, off_link, on_link},
    server::{SMALL, Server},
};

const BOTH: [MessageType; 2] = [MessageType::Renew, MessageType::Rebind];

fn without_rapid_commit() -> String {
    SMALL.replace("rapid_commit = true", "rapid_commit = false")
}

#[test]
fn a_binding_is_extended() {
    for config in [SMALL.to_owned(), without_rapid_commit()] {
        for kind in BOTH {
            let mut server = Server::start(&config);
            let address = server.ask(&Message::with_ia(MessageType::Request, 1, &[])).address();
            server.advance(900);
            let reply = server.ask(&Message::with_ia(kind, 1, &[address]));
            assert_eq!(reply.kind, MessageType::Reply, "matrix row N-2: {kind:?}");
            assert_eq!(reply.values(OptionCode::SERVER_ID), [SERVER], "matrix row N-2: {kind:?}");
            assert_eq!(reply.values(OptionCode::CLIENT_ID), [duid(1).as_slice()], "matrix row N-2: {kind:?}");
            let ia = reply.ia();
            assert_eq!(ia.addresses, [(address, 1000, 2000)], "matrix rows N-1, N-9: {kind:?}");
            assert_eq!((ia.t1, ia.t2, ia.status), (500, 800, vec![]), "matrix rows N-1, N-9: {kind:?}");
            let lease = &server.engine.leases()[0];
            assert_eq!(lease.valid_until.since(server.now).as_secs(), 2000, "matrix row N-1: {kind:?}");
        }
    }
}

#[test]
fn addresses_that_the_client_may_not_use_get_lifetimes_of_zero() {
    for kind in BOTH {
        let mut server = Server::start(SMALL);
        let owner = server.ask(&Message::with_ia(MessageType::Request, 2, &[])).address();
        let address = server.ask(&Message::with_ia(MessageType::Request, 1, &[])).address();
        let reply = server.ask(&Message::with_ia(kind, 1, &[off_link(), owner, address, off_link()]));
        let ia = reply.ia();
        assert_eq!(ia.addresses[0], (address, 1000, 2000), "matrix rows N-1, N-9: {kind:?}");
        let withdrawn = [(owner, 0, 0), (off_link(), 0, 0)];
        assert_eq!(ia.addresses[1..], withdrawn, "matrix rows N-3, N-10, N-13, N-14: {kind:?}");
        let lease = &server.engine.leases()[0];
        assert_eq!((lease.resource, lease.duid), (owner.into(), duid(2)), "matrix row N-14: {kind:?}");
    }
}

#[test]
fn an_address_that_left_the_configuration_is_withdrawn() {
    for (kind, pool, given) in [
        (MessageType::Renew, "2001:db8:1::2000", Some(on_link(0x2000))),
        (MessageType::Rebind, "2001:db8:1::2000", Some(on_link(0x2000))),
        (MessageType::Renew, "2001:db8:1::", None),
    ] {
        let mut server = Server::start(SMALL);
        let address = server.ask(&Message::with_ia(MessageType::Request, 1, &[])).address();
        server.restart_with(&SMALL.replace("2001:db8:1::1000-2001:db8:1::1003", pool));
        assert!(server.kernel.is_empty(), "the kernel does not serve it");
        let ia = server.ask(&Message::with_ia(kind, 1, &[address])).ia();
        let valid: Vec<_> = ia.addresses.iter().map(|(address, _, valid)| (*address, *valid)).collect();
        let expected: Vec<_> = given.map(|given| (given, 2000)).into_iter().chain([(address, 0)]).collect();
        assert_eq!(valid, expected, "matrix rows N-3, N-7, N-10: {kind:?}");
        let held = server.store.contents().leases.iter().any(|lease| lease.resource == address.into());
        assert!(!held, "matrix row N-7: {kind:?}");
    }
}

#[test]
fn an_address_of_a_link_that_was_renumbered_is_withdrawn() {
    for kind in BOTH {
        let mut server = Server::start(SMALL);
        let old = server.ask(&Message::with_ia(MessageType::Request, 1, &[])).address();
        server.restart_with(&SMALL.replace("2001:db8:1:", "2001:db8:7:"));
        let ia = server.ask(&Message::with_ia(kind, 1, &[old])).ia();
        let new = "2001:db8:7::1000".parse().expect("an address");
        assert_eq!(ia.addresses, [(new, 1000, 2000), (old, 0, 0)], "matrix rows N-3, N-10: {kind:?}");
    }
}

#[test]
fn an_unknown_ia_is_bound_where_the_server_may() {
    for (kind, config, binds, row) in [
        (MessageType::Renew, SMALL.to_owned(), true, "N-5"),
        (MessageType::Renew, without_rapid_commit(), true, "N-5"),
        (MessageType::Rebind, SMALL.to_owned(), true, "N-12"),
        (MessageType::Rebind, without_rapid_commit(), false, "N-12"),
    ] {
        let mut server = Server::start(&config);
        let ia = server.ask(&Message::with_ia(kind, 1, &[on_link(0x1002)])).ia();
        if binds {
            assert_eq!(ia.addresses, [(on_link(0x1002), 1000, 2000)], "matrix row {row}: {kind:?}");
        } else {
            assert!(ia.is_only(StatusCode::NoBinding), "matrix row {row}: {kind:?}");
            assert!(server.is_untouched(), "matrix row {row}: {kind:?}");
        }
    }
}

#[test]
fn an_unknown_ia_off_link_is_never_granted() {
    let mut server = Server::start(&without_rapid_commit());
    let ia = server.ask(&Message::with_ia(MessageType::Rebind, 1, &[off_link(), on_link(0x1000)])).ia();
    assert_eq!(ia.addresses, [(off_link(), 0, 0)], "matrix row N-11");
    assert!(server.is_untouched(), "matrix row N-11");
    for kind in BOTH {
        let ia = Server::start(SMALL).ask(&Message::with_ia(kind, 1, &[off_link()])).ia();
        let leased = [(on_link(0x1000), 1000, 2000), (off_link(), 0, 0)];
        assert_eq!(ia.addresses, leased, "matrix rows N-3, N-5, N-11: {kind:?}");
    }
}

#[test]
fn a_full_pool_has_no_address_for_an_unknown_ia() {
    for kind in BOTH {
        let mut server = Server::start(SMALL);
        for client in 1..=4 {
            server.ask(&Message::rapid(client));
        }
        let ia = server.ask(&Message::with_ia(kind, 5, &[])).ia();
        assert!(ia.is_only(StatusCode::NoAddrsAvail), "matrix row N-5: {kind:?}");
        let ia = server.ask(&Message::with_ia(kind, 5, &[on_link(0x1000)])).ia();
        assert_eq!(ia.addresses, [(on_link(0x1000), 0, 0)], "matrix rows N-13, N-14: {kind:?}");
        assert_eq!(server.ask(&Message::rapid(1)).address(), on_link(0x1000), "matrix row N-14: {kind:?}");
    }
}

#[test]
fn a_bound_and_a_new_ia_are_both_answered() {
    for kind in BOTH {
        let mut server = Server::start(SMALL);
        let address = server.ask(&Message::rapid(1)).address();
        let reply = server.ask(&Message::of(kind, &duid(1)).ia_na(2, &[]).ia_na(1, &[address]));
        let [new, bound] = reply.ias().try_into().expect("matrix row N-6: both");
        assert_eq!((new.iaid, new.addresses.len()), (2, 1), "matrix row N-6: {kind:?}");
        assert_eq!((bound.iaid, bound.addresses[0].0), (1, address), "matrix row N-6: {kind:?}");
    }
}

#[test]
fn an_address_named_twice_is_withdrawn_once() {
    for kind in BOTH {
        let message = Message::with_ia(kind, 1, &[off_link(), off_link()]);
        let withdrawn = Server::start(&without_rapid_commit()).ask(&message).ia().addresses;
        let withdrawn: Vec<_> = withdrawn.iter().filter(|(_, _, valid)| *valid == 0).collect();
        assert_eq!(withdrawn, [&(off_link(), 0, 0)], "matrix rows N-3, N-11: {kind:?}");
    }
}
