//! What is seen of a message before it is handled.

use std::time::Duration;

use dhcp6_common::{
    Vlan,
    wire::{MessageType, OptionCode},
};

use super::{
    message::{Message, duid},
    relaying::forward,
    server::{SMALL, Server, with_reservations},
    validation::TAKEN,
};
use crate::engine::{Arrival, Glance};

const ARRIVAL: Arrival =
    Arrival { link: Some(0), vlan: Vlan::NONE, mac: Some([2, 0, 0, 0, 9, 9]), multicast: true };

fn is_known(server: &Server, message: &Message) -> bool {
    server.engine.glance(ARRIVAL, message.octets()).expect("a message").is_known
}

fn solicit(client: u8, iaid: u32) -> Message {
    Message::of(MessageType::Solicit, &duid(client)).ia_na(iaid, &[])
}

#[test]
fn type_client_and_elapsed_time_are_those_of_the_innermost_message() {
    let server = Server::start(SMALL);
    let client = duid(1);
    for kind in TAKEN {
        for (value, elapsed) in [
            (&[0, 0][..], Duration::ZERO),
            (&[1, 44], Duration::from_secs(3)),
            (&[0xff, 0xff], Duration::MAX),
            (&[9], Duration::ZERO),
        ] {
            let message = Message::of(kind, &client).option(OptionCode::ELAPSED_TIME, value);
            let once = forward(0, "2001:db8:1::1".parse().unwrap(), &[], message.octets());
            let twice = forward(1, "::".parse().unwrap(), &[], &once);
            for octets in [message.octets(), &once, &twice] {
                let client = Some(client.as_slice());
                let expected = Glance { kind, client, elapsed, is_known: false };
                assert_eq!(server.engine.glance(ARRIVAL, octets), Some(expected), "{octets:?}");
            }
        }
    }
}

#[test]
fn who_has_or_had_a_binding_or_has_a_reservation_is_known() {
    let mac = "[[link.reservation]]\nmac = \"02:00:00:00:0a:0a\"\naddress = \"2001:db8:1::6\"\n";
    let mut server = Server::start(&[&with_reservations(), mac].concat());
    server.ask(&Message::rapid(7));
    for (message, expected, why) in [
        (solicit(7, 1), true, "has a binding"),
        (solicit(7, 2), false, "of another IA"),
        (solicit(7, 2).ia_na(1, &[]), true, "of the second IA"),
        (solicit(7, 2).ia_pd(1, &[]), false, "of an IA of the other kind"),
        (solicit(8, 1), false, "is unknown"),
        (solicit(1, 9), true, "has a reservation"),
    ] {
        assert_eq!(is_known(&server, &message), expected, "{why}");
    }
    let known = solicit(8, 1);
    let by_mac = Arrival { mac: Some([2, 0, 0, 0, 10, 10]), ..ARRIVAL };
    assert!(server.engine.glance(by_mac, known.octets()).unwrap().is_known, "a reservation by MAC address");
    let relayed = forward(0, "2001:db8:1::1".parse().unwrap(), &[], known.octets());
    assert!(!server.engine.glance(by_mac, &relayed).unwrap().is_known, "that is the relay agent's");
    let relayed = forward(0, "2001:db8:1::1".parse().unwrap(), &[], solicit(7, 1).octets());
    assert!(server.engine.glance(ARRIVAL, &relayed).unwrap().is_known, "behind a relay agent");
    let elsewhere = Arrival { link: None, ..ARRIVAL };
    assert!(!server.engine.glance(elsewhere, solicit(7, 1).octets()).unwrap().is_known, "on no link");
    server.send(&Message::with_ia(MessageType::Release, 7, &[super::message::on_link(0x1000)])).ok();
    assert!(is_known(&server, &solicit(7, 1)), "had a binding");
}

#[test]
fn what_is_not_seen_is_refused_and_changes_nothing() {
    let mut server = Server::start(SMALL);
    let client = duid(1);
    let cut = Message::rapid(1).octets().split_last().unwrap().1.to_vec();
    for octets in [
        Vec::new(),
        vec![1, 2, 3],
        vec![99, 0, 0, 0],
        Message::of(MessageType::Reply, &client).octets().to_vec(),
        Message::of(MessageType::RelayReply, &client).octets().to_vec(),
        Message::bare(MessageType::Solicit as u8).octets().to_vec(),
        Message::of(MessageType::Solicit, &client).option(OptionCode::IA_NA, &[1]).octets().to_vec(),
        forward(0, "::".parse().unwrap(), &[], &cut),
        cut,
        vec![12; 40],
    ] {
        assert_eq!(server.engine.glance(ARRIVAL, &octets), None, "{octets:?}");
        assert!(server.handle(&octets, true).is_err(), "{octets:?}");
        assert!(server.engine.take_changes().is_empty());
    }
}
