//! Confirm, Release, Decline and Information-request: RFC 9915, sections 18.3.3 and 18.3.6 to 18.3.8; matrix
//! section 8.

use dhcp6_common::wire::{MessageType, OptionCode, StatusCode};

use super::{
    message::{Message, Reply, SERVER, duid, off_link, on_link},
    server::{SMALL, Server, with_reservations},
};
use crate::{
    engine::{DropReason, ResourceState},
    lease::LeaseState,
    pool::IaKind,
};

const BOTH: [MessageType; 2] = [MessageType::Release, MessageType::Decline];

fn bound(server: &Server) -> usize {
    server.engine.leases().iter().filter(|lease| lease.state == LeaseState::Bound).count()
}

#[track_caller]
fn assert_success(reply: &Reply, client: u8, row: &str) {
    assert_eq!(reply.kind, MessageType::Reply, "matrix row {row}");
    assert_eq!(reply.status(), Some(StatusCode::Success), "matrix row {row}");
    assert_eq!(reply.values(OptionCode::SERVER_ID), [SERVER], "matrix row {row}");
    assert_eq!(reply.values(OptionCode::CLIENT_ID), [duid(client).as_slice()], "matrix row {row}");
}

#[test]
fn a_confirm_is_judged_by_the_link_alone() {
    for (addresses, expected, row) in [
        (&[on_link(0x1000)][..], StatusCode::Success, "C-1, C-6"),
        (&[on_link(0xffff), on_link(0x1001)], StatusCode::Success, "C-1, C-5"),
        (&[off_link()], StatusCode::NotOnLink, "C-2"),
        (&[on_link(0x1000), off_link()], StatusCode::NotOnLink, "C-2"),
    ] {
        let mut server = Server::start(SMALL);
        let reply = server.ask(&Message::with_ia(MessageType::Confirm, 1, addresses));
        assert_eq!(reply.codes(), [2, 13, 1], "matrix row C-7");
        assert_eq!(reply.status(), Some(expected), "matrix row {row}");
        assert_eq!(reply.values(OptionCode::CLIENT_ID), [duid(1).as_slice()], "matrix row C-7");
        assert!(server.is_untouched(), "matrix row {row}");
    }
    let of_two = Message::of(MessageType::Confirm, &duid(1)).ia_na(1, &[on_link(1)]).ia_na(2, &[off_link()]);
    let reply = Server::start(SMALL).ask(&of_two);
    assert_eq!(reply.status(), Some(StatusCode::NotOnLink), "matrix row C-2");
}

#[test]
fn a_confirm_without_an_address_is_dropped() {
    let bare = Message::of(MessageType::Confirm, &duid(1));
    for message in [bare.clone(), bare.clone().ia_na(1, &[]), bare.ia_pd(1, &[])] {
        let outcome = Server::start(SMALL).send(&message);
        assert_eq!(outcome, Err(DropReason::NothingToConfirm), "matrix row C-3");
    }
}

#[test]
fn who_gives_back_its_lease_has_none() {
    for (kind, row) in [(MessageType::Release, "L-1"), (MessageType::Decline, "X-1, X-2")] {
        let mut server = Server::start(SMALL);
        let address = server.ask(&Message::rapid(1)).address();
        let message = Message::with_ia(kind, 1, &[address]);
        let reply = server.ask(&message);
        assert_success(&reply, 1, row);
        assert_eq!(reply.ias(), [], "matrix row {row}");
        assert_eq!(bound(&server), 0, "matrix row {row}");
        let again = server.ask(&message);
        assert_success(&again, 1, "L-6");
        assert!(again.ia().is_only(StatusCode::NoBinding), "matrix rows L-6, L-2, X-3");
    }
}

#[test]
fn an_unknown_ia_has_no_binding_and_the_message_succeeds() {
    for (kind, row) in [(MessageType::Release, "L-2"), (MessageType::Decline, "X-3")] {
        let mut server = Server::start(SMALL);
        let address = server.ask(&Message::rapid(1)).address();
        let message = Message::of(kind, &duid(1)).ia_na(9, &[address]).ia_na(1, &[address]).ia_pd(1, &[]);
        let reply = server.ask(&message);
        assert_success(&reply, 1, row);
        let [na, pd] = reply.ias().try_into().expect("the IAs without a binding");
        assert!(na.iaid == 9 && na.is_only(StatusCode::NoBinding), "matrix row {row}");
        assert_eq!((na.t1, na.t2), (0, 0), "matrix row {row}");
        assert!(pd.code == OptionCode::IA_PD && pd.is_only(StatusCode::NoBinding), "matrix row L-7");
        assert_eq!(bound(&server), 0, "matrix row {row}");
    }
}

#[test]
fn what_is_another_clients_or_not_in_the_ia_stays() {
    for kind in BOTH {
        let mut server = Server::start(SMALL);
        let owned = server.ask(&Message::rapid(1)).address();
        let other = server.ask(&Message::rapid(2)).address();
        for addresses in [&[owned][..], &[on_link(0x1003), off_link()], &[]] {
            let reply = server.ask(&Message::with_ia(kind, 2, addresses));
            assert_success(&reply, 2, "L-3, L-4, X-4");
            assert_eq!(reply.ias(), [], "matrix rows L-4, X-4");
            let reply = server.ask(&Message::with_ia(kind, 3, addresses));
            assert!(reply.ia().is_only(StatusCode::NoBinding), "matrix rows L-3, X-4");
        }
        assert_eq!(bound(&server), 2, "matrix rows L-3, L-4, X-4: {kind:?}");
        assert_eq!(server.ask(&Message::rapid(1)).address(), owned, "matrix rows L-3, X-4: {kind:?}");
        assert_eq!(server.ask(&Message::rapid(2)).address(), other, "matrix rows L-4, X-4: {kind:?}");
        assert_eq!(
            server.engine.resources(0, IaKind::Na, Some(ResourceState::Conflict), 9),
            [],
            "matrix row X-4"
        );
    }
}

#[test]
fn a_released_address_is_free() {
    let mut server = Server::start(SMALL);
    let address = server.ask(&Message::rapid(1)).address();
    server.ask(&Message::with_ia(MessageType::Release, 1, &[address]));
    let hint = Message::with_ia(MessageType::Request, 2, &[address]);
    assert_eq!(server.ask(&hint).address(), address, "matrix row L-5");
    assert_ne!(server.ask(&Message::rapid(1)).address(), address, "matrix row L-5: and is not shared");
}

#[test]
fn a_declined_address_is_out_of_use_for_a_while() {
    let mut server = Server::start(SMALL);
    let address = server.ask(&Message::rapid(1)).address();
    server.ask(&Message::with_ia(MessageType::Decline, 1, &[address]));
    for client in [1, 2, 3, 4] {
        let hint = Message::with_ia(MessageType::Request, client, &[address]);
        let given = server.ask(&hint).ia().addresses;
        assert!(given.iter().all(|(given, _, _)| *given != address), "matrix rows X-1, X-5");
        server.restart();
    }
    let [conflict] = &server.engine.resources(0, IaKind::Na, Some(ResourceState::Conflict), 9)[..] else {
        panic!("matrix row X-6: the conflict survives a restart")
    };
    assert_eq!((conflict.resource, conflict.duid), (address.into(), Some(duid(1))), "matrix row X-6");
    server.advance(4999);
    assert_eq!(server.store.contents().conflicts.len(), 1, "matrix row X-6");
    server.advance(1);
    assert_eq!(server.store.contents().conflicts, [], "matrix row X-6: it ends");
    let hint = Message::with_ia(MessageType::Request, 7, &[address]);
    assert_eq!(server.ask(&hint).address(), address, "matrix row X-6: it ends");
}

#[test]
fn a_declined_reservation_is_not_handed_out_meanwhile() {
    for (client, reserved) in [(1, on_link(0x1001)), (2, on_link(5))] {
        let mut server = Server::start(&with_reservations());
        assert_eq!(server.ask(&Message::rapid(client)).address(), reserved);
        server.ask(&Message::with_ia(MessageType::Decline, client, &[reserved]));
        server.restart();
        let other = server.ask(&Message::rapid(client)).address();
        assert_ne!(other, reserved, "matrix rows Q-15, X-5");
        server.advance(5000);
        let renewed = server.ask(&Message::with_ia(MessageType::Renew, client, &[other]));
        assert_eq!(renewed.address(), reserved, "matrix rows S-16, X-6: afterwards it is");
    }
}

#[test]
fn declines_cost_each_client_a_lease_first() {
    let mut server = Server::start(SMALL);
    for host in 0x1000..0x1100 {
        server.ask(&Message::with_ia(MessageType::Decline, 1, &[on_link(host)]));
    }
    assert!(server.is_untouched(), "matrix row X-7: nobody declines what it does not have");
}

#[test]
fn information_is_given_to_anybody() {
    let config = format!("{SMALL}[link.options]\ndns_servers = [\"2001:db8::53\"]\n");
    let mut server = Server::start(&config);
    let bare = Message::bare(MessageType::InformationRequest as u8).requests(&[23, 24]);
    let identified = bare.clone().option(OptionCode::CLIENT_ID, duid(1).as_slice());
    for (message, codes, row) in [
        (bare.clone(), &[2, 23][..], "I-2, I-4"),
        (identified.clone(), &[2, 23, 1], "I-1, I-4"),
        (bare.option(OptionCode::SERVER_ID, &SERVER), &[2, 23], "I-3"),
        (identified.option(OptionCode::SERVER_ID, &SERVER), &[2, 23, 1], "I-3"),
    ] {
        let reply = server.ask(&message);
        assert_eq!((reply.kind, reply.codes()), (MessageType::Reply, codes.to_vec()), "matrix row {row}");
        assert!(server.is_untouched(), "matrix row I-7");
    }
}

#[test]
fn an_operator_may_end_a_conflict() {
    let mut server = Server::start(SMALL);
    let address = server.ask(&Message::rapid(1)).address();
    server.ask(&Message::with_ia(MessageType::Decline, 1, &[address]));
    assert!(!server.engine.clear_conflict(on_link(0x1001).into()), "that address is in no conflict");
    assert!(server.engine.clear_conflict(address.into()));
    assert!(!server.engine.clear_conflict(address.into()), "not twice");
    server.round(&[], None);
    assert_eq!(server.store.contents().conflicts, [], "matrix row X-6: it stays ended");
    let hint = Message::with_ia(MessageType::Solicit, 2, &[address]).option(OptionCode::RAPID_COMMIT, &[]);
    assert_eq!(server.ask(&hint).address(), address, "matrix row X-6: the address is assignable again");
}
