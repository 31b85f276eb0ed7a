//! Relay agents: RFC 9915, sections 9 and 19.

use std::net::Ipv6Addr;

use dhcp6_common::{
    Vlan,
    wire::{MessageType, OptionCode, StatusCode},
};

use super::{
    message::{Message, Reply, duid, on_link, put},
    server::{SMALL, Server},
};
use crate::{
    engine::{AnswerPort, Arrival, DropReason},
    lease::LeaseState,
};

/// [`SMALL`], and a link that only relay agents reach, `2001:db8:2::/64`, with four addresses from `::1000` on.
fn two_links() -> String {
    let relayed = SMALL.replace("access0", "relayed").replace("interface = \"eth1\"\n", "");
    let link = relayed.split_once("[[link]]").expect("a link").1.replace("db8:1:", "db8:2:");
    format!("{SMALL}[[link]]{link}")
}

/// An address of the relayed link.
fn relayed(host: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, host)
}

const PEER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 9);

/// A Relay-forward of these options and this message, which comes last.
pub(super) fn forward(hops: u8, link: Ipv6Addr, options: &[(OptionCode, &[u8])], inner: &[u8]) -> Vec<u8> {
    let mut octets = vec![MessageType::RelayForward as u8, hops];
    octets.extend(link.octets());
    octets.extend(PEER.octets());
    for (code, value) in options {
        put(&mut octets, *code, value);
    }
    put(&mut octets, OptionCode::RELAY_MESSAGE, inner);
    octets
}

/// A Relay-reply, taken apart: its first 34 octets, and its options.
pub(super) fn open(octets: &[u8]) -> (Vec<u8>, Vec<(OptionCode, Vec<u8>)>) {
    let options = dhcp6_common::wire::OptionWalker::new(&octets[34..]);
    let options = options.map(|option| option.expect("a strict sequence of options"));
    (octets[..34].to_vec(), options.map(|option| (option.code, option.value.to_vec())).collect())
}

/// The answer to a relay agent's datagram that came in on an interface without a link.
fn answer(server: &mut Server, octets: &[u8]) -> Result<(Vec<u8>, AnswerPort), DropReason> {
    answer_on(server, None, octets)
}

fn answer_on(
    server: &mut Server,
    link: Option<u32>,
    octets: &[u8],
) -> Result<(Vec<u8>, AnswerPort), DropReason> {
    let answer = server.engine.handle(
        server.now,
        Arrival { link, vlan: Vlan::NONE, mac: None, multicast: false },
        octets,
    )?;
    assert_eq!(answer.kind, MessageType::RelayReply);
    Ok((answer.message, answer.port))
}

#[test]
fn echoed_options_come_in_the_order_of_the_request() {
    let mut server = Server::start(&two_links());
    let wanted: Vec<_> = [200u16, 9, 38, 201, 37, 38].iter().flat_map(|code| code.to_be_bytes()).collect();
    let code = OptionCode;
    let options: [(OptionCode, &[u8]); 5] = [
        (code(37), &[1]),
        (code(38), &[2]),
        (OptionCode::ECHO_REQUEST, &wanted),
        (code(38), &[3]),
        (code(201), &[4]),
    ];
    let octets = forward(0, relayed(1), &options, Message::rapid(1).octets());
    let (message, _) = answer(&mut server, &octets).expect("an answer");
    let mut echoed = open(&message).1;
    echoed.pop().expect("the Relay Message");
    let expected = [(38, vec![2]), (38, vec![3]), (201, vec![4]), (37, vec![1])];
    assert_eq!(echoed, expected.map(|(number, value)| (code(number), value)), "matrix row E-10");
}

#[test]
fn a_relayed_solicit_is_answered_in_a_relay_reply() {
    let mut server = Server::start(&two_links());
    let interface_id = [0, 255, 7];
    let octets =
        forward(0, relayed(1), &[(OptionCode::INTERFACE_ID, &interface_id)], Message::rapid(1).octets());
    let (message, port) = answer(&mut server, &octets).expect("an answer");
    let (header, options) = open(&message);
    assert_eq!(header[0], 13, "matrix row Y-12");
    assert_eq!(header[1..], octets[1..34], "matrix row Y-1");
    let codes: Vec<_> = options.iter().map(|(code, _)| code.0).collect();
    assert_eq!(codes, [18, 9], "matrix rows Y-2, Y-3 and Y-18");
    assert_eq!(options[0].1, interface_id, "matrix row Y-3");
    let reply = Reply::decode(&options[1].1);
    assert_eq!(reply.kind, MessageType::Reply, "matrix row Y-19");
    assert_eq!(reply.address(), relayed(0x1000), "the link of the link-address");
    assert_eq!(port, AnswerPort::Relay, "matrix row T-6");
}

#[test]
fn nested_relay_agents_are_answered_in_their_order() {
    for hops in 1..=8 {
        let mut server = Server::start(&two_links());
        let mut octets = Message::rapid(1).octets().to_vec();
        let mut headers = Vec::new();
        for hop in 0..hops {
            // Only the agent next to the client tells the link; the others have addresses of other links.
            let link = if hop == 0 { relayed(1) } else { on_link(hop.into()) };
            octets = forward(hop, link, &[(OptionCode::INTERFACE_ID, &[hop])], &octets);
            // Each has heard the message from another peer.
            octets[33] = hop;
            headers.push(octets[1..34].to_vec());
        }
        let (mut message, _) = answer(&mut server, &octets).expect("matrix row Y-6");
        for hop in (0..hops).rev() {
            let (header, options) = open(&message);
            assert_eq!(header[0], MessageType::RelayReply as u8, "matrix row Y-5");
            assert_eq!(header[1..], headers[usize::from(hop)], "matrix rows Y-1, Y-5");
            assert_eq!(options.len(), 2, "matrix row Y-2: one Relay Message");
            assert_eq!(options[0], (OptionCode::INTERFACE_ID, vec![hop]), "matrix row Y-3");
            message = options[1].1.clone();
        }
        assert_eq!(Reply::decode(&message).address(), relayed(0x1000), "{hops} relay agents");
    }
}

#[test]
fn an_interface_id_comes_back_as_it_is() {
    for len in 0..=200u8 {
        let interface_id: Vec<_> = (0..len).map(|octet| octet.wrapping_mul(7).wrapping_sub(3)).collect();
        let options = [(OptionCode::INTERFACE_ID, interface_id.as_slice())];
        let octets = forward(0, relayed(1), &options, Message::rapid(1).octets());
        let (message, _) = answer(&mut Server::start(&two_links()), &octets).expect("an answer");
        let returned = &open(&message).1[0];
        assert_eq!(*returned, (OptionCode::INTERFACE_ID, interface_id), "matrix row Y-3: {len} octets");
    }
}

#[test]
fn more_relay_agents_than_the_protocol_allows_are_dropped() {
    for hops in [9u8, 32, 255] {
        let mut server = Server::start(&two_links());
        let mut octets = Message::rapid(1).octets().to_vec();
        for hop in 0..hops {
            octets = forward(hop, relayed(1), &[], &octets);
        }
        assert_eq!(answer(&mut server, &octets), Err(DropReason::TooManyRelays), "matrix row Y-7");
    }
}

#[test]
fn the_link_is_the_one_of_the_innermost_link_address() {
    const NONE: Ipv6Addr = Ipv6Addr::UNSPECIFIED;
    let id: (OptionCode, &[u8]) = (OptionCode::INTERFACE_ID, b"port 7");
    for (outer, inner, options, arrival, expected, row) in [
        (NONE, relayed(1), &[][..], None, Ok(relayed(0x1000)), "Y-8"),
        (relayed(1), NONE, &[], None, Ok(relayed(0x1000)), "Y-8"),
        (on_link(1), relayed(1), &[], Some(0), Ok(relayed(0x1000)), "Y-8"),
        (relayed(1), on_link(1), &[], None, Ok(on_link(0x1000)), "Y-8"),
        (NONE, NONE, &[], Some(0), Err(DropReason::UnknownLink), "Y-9"),
        (NONE, NONE, &[id], Some(0), Ok(on_link(0x1000)), "E-9"),
        (NONE, NONE, &[id], None, Err(DropReason::UnknownLink), "Y-9"),
        (
            NONE,
            "2001:db8:99::1".parse().expect("an address"),
            &[],
            Some(0),
            Err(DropReason::UnknownLink),
            "Y-10",
        ),
    ] {
        let mut server = Server::start(&two_links());
        let octets = forward(0, inner, options, Message::rapid(1).octets());
        let octets = forward(1, outer, &[], &octets);
        let address = answer_on(&mut server, arrival, &octets).map(|(message, _)| {
            let (_, outer) = open(&message);
            let (_, inner) = open(&outer[0].1);
            Reply::decode(&inner.last().expect("a message").1).address()
        });
        assert_eq!(address, expected, "matrix row {row}: {outer} {inner}");
    }
}

#[test]
fn relay_agents_get_back_what_they_ask_for() {
    let mut server = Server::start(&two_links());
    let remote_id = (OptionCode(37), &[0, 0, 0, 9, 1, 2][..]);
    let subscriber_id = (OptionCode(38), &b"subscriber"[..]);
    let mac = (OptionCode::CLIENT_LINKLAYER_ADDRESS, &[0, 1, 2, 0, 0, 0, 0, 9][..]);
    for (options, expected, port, row) in [
        (&[remote_id, subscriber_id, mac][..], &[9][..], AnswerPort::Relay, "Y-18"),
        (
            &[remote_id, subscriber_id, (OptionCode::ECHO_REQUEST, &[0, 37])],
            &[37, 9],
            AnswerPort::Relay,
            "E-10",
        ),
        (&[(OptionCode::ECHO_REQUEST, &[0, 37])], &[9], AnswerPort::Relay, "E-10"),
        (&[(OptionCode::ECHO_REQUEST, &[0, 9, 0, 18, 1])], &[9], AnswerPort::Relay, "E-10"),
        (&[(OptionCode::RELAY_SOURCE_PORT, &[0, 0])], &[135, 9], AnswerPort::Source, "E-15"),
        (&[(OptionCode(65000), &[1])], &[9], AnswerPort::Relay, "Y-17"),
        (&[], &[9], AnswerPort::Relay, "Y-4"),
    ] {
        let octets = forward(0, relayed(1), options, Message::rapid(1).octets());
        let (message, actual_port) = answer(&mut server, &octets).expect("an answer");
        let codes: Vec<_> = open(&message).1.iter().map(|(code, _)| code.0).collect();
        assert_eq!((codes.as_slice(), actual_port), (expected, port), "matrix row {row}");
        for (code, value) in open(&message).1.iter().filter(|(code, _)| code.0 != 9) {
            let sent = options.iter().find(|(other, _)| other == code).expect("it was asked for");
            assert_eq!(value, sent.1, "matrix row {row}: as it came");
        }
    }
}

#[test]
fn every_message_is_taken_from_a_relay_agent() {
    let mut server = Server::start(&two_links());
    for (kind, row) in [
        (MessageType::Request, "Y-12"),
        (MessageType::Renew, "Y-12"),
        (MessageType::Rebind, "Y-12"),
        (MessageType::Confirm, "Y-12"),
        (MessageType::Release, "Y-12"),
        (MessageType::Request, "Y-12"),
        (MessageType::Decline, "Y-13"),
    ] {
        let message = Message::with_ia(kind, 1, &[relayed(0x1000)]);
        let (message, _) =
            answer(&mut server, &forward(0, relayed(1), &[], message.octets())).expect("an answer");
        let reply = Reply::decode(&open(&message).1[0].1);
        assert_eq!(reply.kind, MessageType::Reply, "matrix row {row}: {kind:?}");
        server.round(&[], None);
        let is_end = [MessageType::Release, MessageType::Decline].contains(&kind);
        let bound = server.engine.leases().iter().any(|lease| lease.state == LeaseState::Bound);
        assert_eq!(bound, !is_end, "matrix row {row}: {kind:?}");
        if is_end || kind == MessageType::Confirm {
            assert_eq!(reply.status(), Some(StatusCode::Success), "matrix row {row}: {kind:?}");
        } else {
            assert_eq!(reply.address(), relayed(0x1000), "matrix row {row}: {kind:?}");
        }
    }
    let conflicts = server.store.contents().conflicts;
    assert_eq!(conflicts[0].resource, relayed(0x1000).into(), "matrix row Y-13: out of use");
    let inform = Message::of(MessageType::InformationRequest, &duid(1));
    assert!(answer(&mut server, &forward(0, relayed(1), &[], inform.octets())).is_ok(), "matrix row Y-12");
    // The link of the relay agent counts, not that of the server.
    let confirm = Message::with_ia(MessageType::Confirm, 1, &[on_link(0x1000)]);
    let octets = forward(0, relayed(1), &[], confirm.octets());
    let (message, _) = answer_on(&mut server, Some(0), &octets).expect("an answer");
    let status = Reply::decode(&open(&message).1[0].1).status();
    assert_eq!(status, Some(StatusCode::NotOnLink), "matrix row Y-14");
    // Of a link that is not configured nothing can be said.
    let octets = forward(0, "2001:db8:99::1".parse().expect("an address"), &[], confirm.octets());
    assert_eq!(answer(&mut server, &octets), Err(DropReason::UnknownLink), "matrix row C-4");
}

#[test]
fn envelopes_without_a_message_are_dropped() {
    let whole = forward(0, relayed(1), &[], Message::rapid(1).octets());
    let mut reply_inside = Message::rapid(1).octets().to_vec();
    reply_inside[0] = MessageType::RelayReply as u8;
    let mut advertise = Message::rapid(1).octets().to_vec();
    advertise[0] = MessageType::Advertise as u8;
    let twice = [&whole[..], &whole[34..]].concat();
    for (octets, expected, row) in [
        (whole[..34].to_vec(), DropReason::NoRelayMessage, "Y-15"),
        (whole[..33].to_vec(), DropReason::TooShort, "Y-16"),
        (whole[..whole.len() - 1].to_vec(), DropReason::Malformed, "Y-16"),
        (forward(0, relayed(1), &[], &[]), DropReason::TooShort, "Y-16"),
        (forward(0, relayed(1), &[], &reply_inside), DropReason::NotForServers, "V-19"),
        (forward(0, relayed(1), &[], &advertise), DropReason::NotForServers, "V-27"),
        (twice, DropReason::RepeatedOption, "Y-2"),
    ] {
        let mut server = Server::start(&two_links());
        assert_eq!(answer(&mut server, &octets).map(|_| ()), Err(expected), "matrix row {row}");
    }
}
