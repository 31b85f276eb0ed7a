//! Request: RFC 9915, section 18.3.2; matrix section 6.

use dhcp6_common::wire::{INFINITY, MessageType, OptionCode, StatusCode};

use super::{
    message::{Ia, Message, SERVER, duid, off_link, on_link},
    server::{SMALL, Server, with_reservations},
};

fn request(client: u8) -> Message {
    Message::with_ia(MessageType::Request, client, &[])
}

#[test]
fn a_request_is_answered_with_a_lease() {
    let mut server = Server::start(SMALL);
    let reply = server.ask(&request(1).transaction([0, 0, 1]));
    assert_eq!(reply.kind, MessageType::Reply, "matrix rows R-1, R-10");
    assert_eq!(reply.transaction, [0, 0, 1], "matrix rows R-1, V-25");
    assert_eq!(reply.values(OptionCode::SERVER_ID), [SERVER], "matrix rows R-1, U-9");
    assert_eq!(reply.values(OptionCode::CLIENT_ID), [duid(1).as_slice()], "matrix row R-1");
    assert!(!reply.has(OptionCode::RAPID_COMMIT), "matrix row Q-6");
    let expected = Ia {
        code: OptionCode::IA_NA,
        iaid: 1,
        t1: 500,
        t2: 800,
        addresses: vec![(on_link(0x1000), 1000, 2000)],
        prefixes: vec![],
        excluded: vec![],
        status: vec![],
        others: 0,
    };
    assert_eq!(reply.ia(), expected, "matrix rows R-13, R-14, R-16, R-17, O-4, O-8");
    let leases = server.store.contents().leases;
    assert_eq!((leases[0].resource, leases[0].iaid), (on_link(0x1000).into(), 1), "matrix row R-1");
}

#[test]
fn a_request_for_what_the_client_has_renews_it() {
    let mut server = Server::start(SMALL);
    let address = server.ask(&request(1)).address();
    server.ask(&request(2));
    for hints in [&[][..], &[address], &[on_link(0x1003)]] {
        server.advance(100);
        let message = Message::with_ia(MessageType::Request, 1, hints);
        assert_eq!(server.ask(&message).address(), address, "matrix rows R-8, R-9");
    }
    let first = server.engine.leases()[0].valid_until;
    server.advance(100);
    server.ask(&request(1));
    assert!(server.engine.leases()[0].valid_until > first, "matrix row R-9: processed again");
    server.restart();
    assert_eq!(server.ask(&request(1)).address(), address, "matrix rows R-8, R-10: after a restart");
}

#[test]
fn an_address_of_another_link_is_not_on_link() {
    let mut server = Server::start(SMALL);
    let message = Message::of(MessageType::Request, &duid(1))
        .ia_na(1, &[on_link(0x1000), off_link()])
        .ia_na(2, &[on_link(0x1001)]);
    let ias = server.ask(&message).ias();
    assert!(ias[0].is_only(StatusCode::NotOnLink), "matrix rows R-2, O-6");
    assert_eq!(ias[1].addresses[0].0, on_link(0x1001), "matrix row R-2: each IA by itself");
    assert_eq!(server.engine.leases().len(), 1, "matrix row R-2");
}

#[test]
fn nobody_gets_what_another_client_has() {
    for (first, wanted, row) in [
        (3, 0x1000, "R-5, R-11: leased"),
        (3, 0x1001, "R-5, S-18: reserved in the pool"),
        (3, 5, "R-5, S-18: reserved outside of the pool"),
        (1, 0x1001, "R-5: reserved and leased"),
    ] {
        let mut server = Server::start(&with_reservations());
        let owned = server.ask(&request(first)).address();
        let wants = Message::with_ia(MessageType::Request, 4, &[on_link(wanted)]);
        let given = server.ask(&wants).address();
        assert!(given != on_link(wanted) && given != owned, "matrix row {row}");
        assert_eq!(server.ask(&request(first)).address(), owned, "matrix row {row}");
    }
}

#[test]
fn a_reservation_may_name_the_iaid() {
    let of = |iaid: &str, address: &str| {
        let duid = duid(1);
        format!("[[link.reservation]]\nduid = \"{duid}\"\niaid = {iaid}\naddress = \"{address}\"\n")
    };
    let config = [SMALL, &of("8", "2001:db8:1::8"), &of("9", "2001:db8:1::9")].concat();
    let message = Message::of(MessageType::Request, &duid(1)).ia_na(9, &[]).ia_na(8, &[]).ia_na(1, &[]);
    let reply = Server::start(&config).ask(&message);
    let addresses: Vec<_> = reply.ias().iter().map(|ia| ia.addresses[0].0).collect();
    assert_eq!(addresses, [9, 8, 0x1000].map(on_link), "matrix rows S-16, U-10");
}

#[test]
fn all_leases_of_a_reply_have_the_same_times() {
    let mut server = Server::start(SMALL);
    server.ask(&Message::of(MessageType::Request, &duid(1)).ia_na(1, &[]));
    server.advance(700);
    for kind in [MessageType::Request, MessageType::Renew, MessageType::Rebind] {
        let reply = server.ask(&Message::of(kind, &duid(1)).ia_na(1, &[]).ia_na(2, &[]).ia_na(3, &[]));
        let times: Vec<_> = reply.ias().iter().map(|ia| (ia.t1, ia.t2)).collect();
        assert_eq!(times, [(500, 800); 3], "matrix rows R-6, R-7, N-8: {kind:?}");
    }
}

#[test]
fn lifetimes_may_be_infinite() {
    let config =
        SMALL.replace("\"1000s\"\nvalid", "\"infinity\"\nvalid").replace("\"2000s\"", "\"infinity\"");
    let ia = Server::start(&config).ask(&request(1)).ia();
    assert_eq!((ia.t1, ia.t2), (INFINITY, INFINITY), "matrix row R-15");
    assert_eq!(ia.addresses, [(on_link(0x1000), INFINITY, INFINITY)], "matrix row R-15");
}
