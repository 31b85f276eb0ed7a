//! What is answered at all: RFC 9915, sections 11 and 16; matrix sections 2 and 3, and.

use dhcp6_common::{
    Vlan,
    wire::{Duid, MessageType, OptionCode},
};
use proptest::prelude::*;

use super::{
    message::{Message, SERVER, duid, on_link},
    relaying::forward,
    server::{SMALL, Server, with_reservations},
};
use crate::engine::{Answer, Arrival, DropReason};

/// The messages that a server takes.
pub(super) const TAKEN: [MessageType; 8] = [
    MessageType::Solicit,
    MessageType::Request,
    MessageType::Confirm,
    MessageType::Renew,
    MessageType::Rebind,
    MessageType::Release,
    MessageType::Decline,
    MessageType::InformationRequest,
];

/// A message of a type with these identifiers and an IA_NA that names `::1000`.
fn with_ids(kind: MessageType, client: Option<&[u8]>, server: Option<&[u8]>) -> Message {
    let mut message = Message::bare(kind as u8);
    if let Some(client) = client {
        message = message.option(OptionCode::CLIENT_ID, client);
    }
    if let Some(server) = server {
        message = message.option(OptionCode::SERVER_ID, server);
    }
    if kind == MessageType::InformationRequest { message } else { message.ia_na(1, &[on_link(0x1000)]) }
}

/// A message that a relay agent on the link forwards.
fn relayed(server: &mut Server, octets: &[u8]) -> Result<Answer, DropReason> {
    let arrival = Arrival { link: None, vlan: Vlan::NONE, mac: None, multicast: false };
    server.engine.handle(server.now, arrival, &forward(0, on_link(0xffff), &[], octets))
}

#[test]
fn messages_without_the_right_identifiers_are_dropped_and_change_nothing() {
    use DropReason as D;
    use MessageType as M;
    let longer = [&SERVER[..], &[0]].concat();
    let [ours, other, longer] = [&SERVER[..], &[0, 2, 9], &longer].map(Some);
    for (kind, has_client, server_id, expected, row) in [
        (M::Solicit, false, None, D::NoClientId, "V-1"),
        (M::Solicit, true, ours, D::ServerIdPresent, "V-2, Q-11"),
        (M::Solicit, true, other, D::ServerIdPresent, "V-2, Q-11"),
        (M::Request, true, None, D::NoServerId, "V-3"),
        (M::Request, true, other, D::OtherServer, "V-4"),
        (M::Request, true, longer, D::OtherServer, "V-4"),
        (M::Request, false, ours, D::NoClientId, "V-5"),
        (M::Confirm, false, None, D::NoClientId, "V-6"),
        (M::Confirm, true, ours, D::ServerIdPresent, "V-7"),
        (M::Renew, true, None, D::NoServerId, "V-8"),
        (M::Renew, true, other, D::OtherServer, "V-8"),
        (M::Renew, true, longer, D::OtherServer, "V-8"),
        (M::Renew, false, ours, D::NoClientId, "V-8"),
        (M::Rebind, false, None, D::NoClientId, "V-9"),
        (M::Rebind, true, ours, D::ServerIdPresent, "V-10"),
        (M::Decline, true, None, D::NoServerId, "V-11"),
        (M::Decline, true, other, D::OtherServer, "V-11"),
        (M::Decline, false, ours, D::NoClientId, "V-11"),
        (M::Release, true, None, D::NoServerId, "V-12"),
        (M::Release, true, other, D::OtherServer, "V-12"),
        (M::Release, false, ours, D::NoClientId, "V-12"),
        (M::InformationRequest, true, other, D::OtherServer, "V-13"),
        (M::InformationRequest, false, longer, D::OtherServer, "V-13"),
    ] {
        let mut server = Server::start(SMALL);
        server.ask(&Message::rapid(1));
        let before = server.store.contents();
        let client = duid(1);
        let message = with_ids(kind, has_client.then_some(client.as_slice()), server_id);
        assert_eq!(server.send(&message), Err(expected), "matrix row V-26: {row}, {kind:?}");
        assert!(server.changes.is_empty() && server.forgotten.is_empty(), "matrix row {row}: {kind:?}");
        assert_eq!(relayed(&mut server, message.octets()), Err(expected), "matrix row V-27: {row}, {kind:?}");
        assert!(server.engine.take_changes().is_empty(), "matrix row V-27: {row}, {kind:?}");
        assert_eq!(server.store.contents(), before, "matrix row {row}: {kind:?}");
        assert_eq!(server.ask(&Message::rapid(1)).address(), on_link(0x1000), "matrix row {row}: {kind:?}");
    }
}

#[test]
fn what_is_not_for_servers_is_dropped() {
    let solicit = Message::rapid(1);
    for (code, expected, row) in [
        (2, DropReason::NotForServers, "V-15"),
        (7, DropReason::NotForServers, "V-16"),
        (10, DropReason::NotForServers, "V-17"),
        (13, DropReason::NotForServers, "V-18"),
        (12, DropReason::NoRelayMessage, "Y-15"),
        (0, DropReason::UnknownType, "V-20"),
        (14, DropReason::UnknownType, "V-20"),
        (99, DropReason::UnknownType, "V-20"),
        (255, DropReason::UnknownType, "V-20"),
    ] {
        let mut server = Server::start(SMALL);
        let mut octets = solicit.octets().to_vec();
        octets[0] = code;
        assert_eq!(server.handle(&octets, true), Err(expected), "matrix row {row}: type {code}");
        assert!(server.is_untouched(), "matrix row {row}: type {code}");
    }
}

#[test]
fn whole_messages_of_servers_are_dropped() {
    let reconfigure = Message::bare(MessageType::Reconfigure as u8)
        .transaction([0; 3])
        .option(OptionCode::SERVER_ID, &SERVER)
        .option(OptionCode::CLIENT_ID, duid(1).as_slice())
        .option(OptionCode::RECONFIGURE_MESSAGE, &[5])
        .option(OptionCode::AUTHENTICATION, &[&[3, 1, 0][..], &[0; 8], &[2], &[7; 16]].concat());
    let mut relay_reply = forward(0, on_link(0xffff), &[], Message::rapid(1).octets());
    relay_reply[0] = MessageType::RelayReply as u8;
    for (octets, row) in [(reconfigure.octets(), "V-17, O-16"), (&relay_reply, "V-18")] {
        let mut server = Server::start(SMALL);
        assert_eq!(server.handle(octets, true), Err(DropReason::NotForServers), "matrix row {row}");
        assert_eq!(relayed(&mut server, octets), Err(DropReason::NotForServers), "matrix rows {row}, V-19");
        assert!(server.is_untouched(), "matrix row {row}");
    }
}

#[test]
fn types_of_other_protocols_are_dropped_from_clients_and_from_relay_agents() {
    // LEASEQUERY by client identifier, for whoever asks: RFC 5007, section 4.1.2.1.
    let query = [&[2][..], &[0; 16], &[0, 1, 0, 10], duid(1).as_slice()].concat();
    let mut address = on_link(0x1000).octets().to_vec();
    address.extend([1000u32, 2000].map(u32::to_be_bytes).concat());
    for code in (14..=255).chain([0]) {
        let row = match code {
            14 => "E-18",
            36 => "E-22",
            _ => "E-28",
        };
        let message = Message::bare(code)
            .option(OptionCode::CLIENT_ID, duid(1).as_slice())
            .option(OptionCode(44), &query)
            .option(OptionCode::IA_ADDRESS, &address);
        let mut server = Server::start(SMALL);
        server.ask(&Message::rapid(1));
        let outcome = server.handle(message.octets(), true);
        assert_eq!(outcome, Err(DropReason::UnknownType), "matrix row {row}: type {code}");
        let outcome = relayed(&mut server, message.octets());
        assert_eq!(outcome, Err(DropReason::UnknownType), "matrix row {row}: type {code}, relayed");
        assert!(server.engine.take_changes().is_empty(), "matrix row {row}: type {code}");
    }
}

#[test]
fn what_is_sent_to_a_unicast_address_is_dropped() {
    for kind in TAKEN {
        let mut server = Server::start(SMALL);
        let message = with_ids(kind, Some(duid(1).as_slice()), needs_server(kind).then_some(&SERVER));
        assert_eq!(
            server.handle(message.octets(), false),
            Err(DropReason::Unicast),
            "matrix row V-24: {kind:?}"
        );
        assert!(server.is_untouched(), "matrix row V-24: {kind:?}");
    }
}

fn needs_server(kind: MessageType) -> bool {
    use MessageType as M;
    matches!(kind, M::Request | M::Renew | M::Release | M::Decline)
}

#[test]
fn an_information_request_has_no_ia() {
    let message = Message::of(MessageType::InformationRequest, &duid(1));
    for message in [message.clone().ia_na(1, &[]), message.ia_pd(1, &[])] {
        let dropped = Server::start(SMALL).send(&message);
        assert_eq!(dropped, Err(DropReason::IaInInformationRequest), "matrix row V-14");
    }
}

#[test]
fn unknown_options_are_as_good_as_absent() {
    let unknown: &[u8] = &[0xfe, 0xed, 0, 2, 1, 2, 0, 17, 0, 4, 0, 0, 0xff, 0xff];
    let plain = |kind| Message::of(kind, &duid(1));
    for kind in TAKEN {
        let mut with_unknown = plain(kind)
            .option(OptionCode(0xfeed), &[1, 2, 3])
            .option(OptionCode::VENDOR_CLASS, &[0, 0, 0xff, 0xff, 0, 1, 7])
            .option(OptionCode::VENDOR_OPTIONS, &[0, 0, 0xff, 0xff])
            .option(OptionCode(0xfeed), &[])
            .option(OptionCode(138), &[0; 12]);
        let mut without = plain(kind);
        if kind != MessageType::InformationRequest {
            without = without.ia_na(1, &[on_link(0x1000)]);
            with_unknown = with_unknown.ia_na_with(1, &[on_link(0x1000)], unknown).ia_pd(1, &[]);
            without = without.ia_pd(1, &[]);
        }
        let [expected, reply] = [without, with_unknown].map(|message| Server::start(SMALL).ask(&message));
        assert_eq!(reply, expected, "matrix rows V-21, V-22, V-23, Q-10, E-33: {kind:?}");
    }
    let with_ia_ta = Message::rapid(1).option(OptionCode::IA_TA, &[0, 0, 0, 1]);
    let replies = [Message::rapid(1), with_ia_ta].map(|message| Server::start(SMALL).ask(&message));
    assert_eq!(replies[0], replies[1], "matrix row S-19");
    assert_eq!(replies[0].address(), on_link(0x1000), "matrix row S-19");
}

#[test]
fn a_client_fqdn_of_any_form_is_as_good_as_absent() {
    // Without flags, flags alone, with set bits that are reserved, and names that do not end.
    let values: [&[u8]; 7] = [&[], &[0], &[0xff], &[1, 0], b"\0\x04host", b"\x05\x3fhost\0", &[0x80; 300]];
    for kind in TAKEN {
        for value in values {
            let message = with_ids(kind, Some(duid(1).as_slice()), needs_server(kind).then_some(&SERVER));
            let messages = [message.clone(), message.option(OptionCode::CLIENT_FQDN, value)];
            let [expected, reply] =
                messages.map(|message| Server::start(SMALL).ask(&message.requests(&[39])));
            assert_eq!(reply, expected, "matrix row E-17: {kind:?} {value:02x?}");
            assert!(!reply.has(OptionCode::CLIENT_FQDN), "matrix row E-17: {kind:?}");
        }
    }
}

#[test]
fn the_order_of_the_options_is_free() {
    for kind in [MessageType::Request, MessageType::Renew, MessageType::Release, MessageType::Decline] {
        let forward = Message::of(kind, &duid(1)).ia_na(1, &[on_link(0x1000)]).requests(&[23]);
        let backward = Message::bare(kind as u8)
            .requests(&[23])
            .ia_na(1, &[on_link(0x1000)])
            .option(OptionCode::SERVER_ID, &SERVER)
            .option(OptionCode::CLIENT_ID, duid(1).as_slice());
        let [expected, reply] = [forward, backward].map(|message| Server::start(SMALL).ask(&message));
        assert_eq!(reply, expected, "matrix rows T-24, Q-10: {kind:?}");
    }
}

#[test]
fn a_long_message_is_answered_as_a_short_one() {
    let mut message = Message::rapid(1);
    for code in 0..120 {
        message = message.option(OptionCode(30_000 + code), &[0xaa; 8]);
    }
    assert!(message.octets().len() > 1400, "matrix row T-23");
    let [expected, reply] = [Message::rapid(1), message].map(|message| Server::start(SMALL).ask(&message));
    assert_eq!(reply, expected, "matrix row T-23");
}

#[test]
fn options_that_stand_alone_are_not_repeated() {
    for (code, value, row) in [
        (OptionCode::CLIENT_ID, duid(2).as_slice(), "V-28"),
        (OptionCode::CLIENT_ID, duid(1).as_slice(), "V-28"),
        (OptionCode::OPTION_REQUEST, &[0, 24], "V-29"),
    ] {
        let mut server = Server::start(SMALL);
        let message = Message::rapid(1).requests(&[23]).option(code, value);
        assert_eq!(server.send(&message), Err(DropReason::RepeatedOption), "matrix row {row}");
        assert!(server.is_untouched(), "matrix row {row}");
    }
}

#[test]
fn values_of_a_wrong_length_do_no_harm() {
    let mut server = Server::start(SMALL);
    let odd = Message::rapid(1).option(OptionCode::OPTION_REQUEST, &[0, 23, 0]);
    assert_eq!(server.ask(&odd).address(), on_link(0x1000), "matrix row V-29");
    let solicit = Message::with_ia(MessageType::Solicit, 2, &[]);
    // Of these options, only the header is there, and a value of other options behind it.
    let beyond = |code: OptionCode, len: u16| {
        let octets = [&code.0.to_be_bytes()[..], &len.to_be_bytes(), &[0; 9]].concat();
        Message::from_octets([Message::rapid(2).octets(), &octets].concat())
    };
    for (message, row) in [
        (beyond(OptionCode::CLIENT_ID, 10), "T-20"),
        (beyond(OptionCode::OPTION_REQUEST, 0xffff), "T-21"),
        (solicit.clone().option(OptionCode::RAPID_COMMIT, &[0]), "Q-16"),
        (Message::rapid(2).option(OptionCode::IA_NA, &[0; 11]), "Q-12"),
        (Message::rapid(2).option(OptionCode::IA_PD, &[0; 11]), "Q-12"),
        (solicit.option(OptionCode::IA_NA, &[&[0; 12][..], &[0, 5, 0, 23], &[0; 23]].concat()), "Q-12"),
    ] {
        assert_eq!(server.send(&message), Err(DropReason::Malformed), "matrix row {row}");
        assert!(server.changes.is_empty() && server.forgotten.is_empty(), "matrix row {row}");
    }
    for len in 0..4 {
        let whole = Message::rapid(2);
        assert_eq!(
            server.handle(&whole.octets()[..len], true),
            Err(DropReason::TooShort),
            "matrix row T-18: {len} octets"
        );
    }
    assert_eq!(server.ask(&Message::rapid(2)).address(), on_link(0x1001), "matrix row T-18: alive");
}

#[test]
fn duids_of_every_allowed_length_and_type_are_served() {
    for (octets, row) in [
        (vec![0xaa; 130], "U-1"),
        (vec![0, 3, 7], "U-2"),
        (vec![0xab, 0xcd, 1, 2, 3], "U-5"),
        (vec![0, 3, 0, 99, 1, 2, 3, 4, 5, 6], "U-7"),
        (vec![1], "U-2"),
    ] {
        let mut server = Server::start(SMALL);
        let duid = Duid::new(&octets).expect("an allowed length");
        let message = Message::of(MessageType::Request, &duid).ia_na(1, &[]);
        let reply = server.ask(&message);
        assert_eq!(reply.values(OptionCode::CLIENT_ID), [octets], "matrix row {row}");
        assert_eq!(server.store.contents().leases[0].duid, duid, "matrix row {row}");
    }
}

#[test]
fn duids_of_other_lengths_are_refused_in_every_message() {
    for kind in TAKEN {
        for (len, row) in [(0, "U-3"), (131, "U-4"), (300, "U-4")] {
            let mut server = Server::start(SMALL);
            let message = with_ids(kind, Some(&vec![7; len]), needs_server(kind).then_some(&SERVER));
            assert_eq!(server.send(&message), Err(DropReason::BadClientId), "matrix row {row}: {kind:?}");
            assert!(server.is_untouched(), "matrix row {row}: {kind:?}");
        }
    }
}

#[test]
fn duids_that_nearly_agree_are_different_clients() {
    let mut server = Server::start(SMALL);
    let known = duid(1);
    let reply = server.ask(&Message::rapid(1));
    let known_address = reply.address();
    let shorter = known.as_slice()[..9].to_vec();
    let longer = [known.as_slice(), &[0]].concat();
    for octets in [shorter, longer, duid(2).as_slice().to_vec()] {
        let other = Duid::new(&octets).expect("an allowed length");
        let message = Message::of(MessageType::Solicit, &other).ia_na(1, &[known_address]);
        let message = message.option(OptionCode::RAPID_COMMIT, &[]);
        assert_ne!(server.ask(&message).address(), known_address, "matrix rows U-6, U-11, Q-13");
    }
    assert_eq!(server.ask(&Message::rapid(1)).address(), known_address, "matrix rows U-6, U-11, Q-13");
}

#[test]
fn the_longest_duids_are_compared_whole() {
    let mut server = Server::start(SMALL);
    let mut octets = vec![0xaa; 130];
    let mut ask = |octets: &[u8]| {
        let duid = Duid::new(octets).expect("an allowed length");
        server.ask(&Message::of(MessageType::Request, &duid).ia_na(1, &[])).address()
    };
    let first = ask(&octets);
    assert_ne!(ask(&octets[..129]), first, "matrix rows U-1, U-6");
    octets[129] ^= 1;
    assert_ne!(ask(&octets), first, "matrix rows U-1, U-6");
    octets[129] ^= 1;
    assert_eq!(ask(&octets), first, "matrix row U-1");
}

#[test]
fn ias_are_told_apart_by_type_and_iaid() {
    let mut server = Server::start(SMALL);
    let message = Message::of(MessageType::Request, &duid(1)).ia_na(7, &[]).ia_pd(7, &[]).ia_na(8, &[]);
    let message = message.ia_na(7, &[on_link(0x1003)]).ia_pd(7, &[]);
    let ias = server.ask(&message).ias();
    let kinds: Vec<_> = ias.iter().map(|ia| (ia.code, ia.iaid)).collect();
    let (na, pd) = (OptionCode::IA_NA, OptionCode::IA_PD);
    assert_eq!(kinds, [(na, 7), (na, 8), (pd, 7)], "matrix rows U-10, U-13, U-14, O-7");
    assert_ne!(ias[0].addresses, ias[1].addresses, "matrix row U-13");
    assert_eq!(server.engine.leases().len(), 2, "matrix row U-14");
}

/// A message of each type with all kinds of options, from a client that is known to the server.
fn full(kind: MessageType, client: u8) -> Message {
    let mut message = Message::of(kind, &duid(client)).requests(&[23, 24, 56]);
    if kind == MessageType::Solicit {
        message = message.option(OptionCode::RAPID_COMMIT, &[]);
    }
    if kind != MessageType::InformationRequest {
        message =
            message.ia_pd(1, &[]).ia_na_with(1, &[on_link(0x1000), on_link(0x1002)], &[0xfe, 0xed, 0, 0]);
    }
    message
}

#[test]
fn no_truncated_message_binds_or_ends_a_lease() {
    for kind in TAKEN {
        let mut server = Server::start(SMALL);
        server.ask(&Message::with_ia(MessageType::Request, 1, &[on_link(0x1000)]));
        let before = server.store.contents();
        let message = full(kind, 1);
        for len in 0..message.octets().len() {
            // At a border between options the rest is a message of its own, but one without the IA_NA.
            let outcome = server.handle(&message.octets()[..len], true);
            assert!(
                outcome.is_err() || server.engine.take_changes().is_empty(),
                "matrix row Q-12: {kind:?} {len}"
            );
            assert_eq!(server.engine.leases().len(), before.leases.len(), "matrix row Q-12: {kind:?} {len}");
        }
        assert!(server.handle(message.octets(), true).is_ok(), "{kind:?}");
        for tail in 1..=3 {
            let longer = [message.octets(), &[0; 3][..tail]].concat();
            assert_eq!(server.handle(&longer, true), Err(DropReason::Malformed), "matrix row T-19");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_octets_are_survived(octets: Vec<u8>, kind in 0..16u8) {
        let mut server = Server::start(&with_reservations());
        let _ = server.handle(&octets, true);
        let typed = [&[kind, 1, 2, 3][..], &octets].concat();
        let _ = server.handle(&typed, true);
    }

    #[test]
    fn any_change_of_a_message_is_survived(
        kind in prop::sample::select(TAKEN.to_vec()),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut server = Server::start(&with_reservations());
        server.ask(&Message::rapid(1));
        let mut octets = full(kind, 1).octets().to_vec();
        for (at, octet) in changes {
            let at = at.index(octets.len());
            octets[at] = octet;
        }
        let _ = server.handle(&octets, true);
    }
}
