//! Reservations by what else a client is known by, and the options and rules that go with them.

use std::net::Ipv6Addr;

use dhcp6_common::{
    Vlan,
    wire::{MessageType, OptionCode},
};

use super::{
    message::{Ia, Message, Reply, duid, on_link},
    relaying::{forward, open},
    server::{SMALL, Server},
};
use crate::engine::{Arrival, DropReason};

/// [`SMALL`] with reservations of `::1` to `::5` by each key, and a prefix for the subscriber.
fn config() -> String {
    let reservation = |key: &str, host: u8, rest: &str| {
        format!("[[link.reservation]]\n{key}\naddress = \"2001:db8:1::{host}\"\n{rest}")
    };
    [
        SMALL.to_owned(),
        reservation(&format!("duid = \"{}\"", duid(1)), 1, ""),
        reservation("mac = \"02:00:00:00:00:02\"", 2, ""),
        reservation("remote_id = { enterprise = 4242, text = \"olt-7\" }", 3, ""),
        reservation("subscriber_id = \"smith\"", 4, "prefix = \"2001:db8:8000::/48\"\n"),
        reservation("interface_id = { hex = \"00ff\" }", 5, ""),
    ]
    .concat()
}

const MAC: (OptionCode, &[u8]) = (OptionCode::CLIENT_LINKLAYER_ADDRESS, &[0, 1, 2, 0, 0, 0, 0, 2]);
const REMOTE_ID: (OptionCode, &[u8]) = (OptionCode::REMOTE_ID, b"\0\0\x10\x92olt-7");
const SUBSCRIBER_ID: (OptionCode, &[u8]) = (OptionCode::SUBSCRIBER_ID, b"smith");
const INTERFACE_ID: (OptionCode, &[u8]) = (OptionCode::INTERFACE_ID, &[0, 255]);

/// The answer to a message that a relay agent on the link forwards with these options.
fn relayed(server: &mut Server, options: &[(OptionCode, &[u8])], message: &Message) -> Reply {
    nested(server, &[options], message)
}

/// The same for several relay agents, the one that is next to the client first.
fn nested(server: &mut Server, hops: &[&[(OptionCode, &[u8])]], message: &Message) -> Reply {
    let mut octets = message.octets().to_vec();
    for (index, options) in hops.iter().enumerate() {
        octets = forward(index as u8, on_link(0xffff), options, &octets);
    }
    let arrival = Arrival { link: None, vlan: Vlan::NONE, mac: None, multicast: false };
    let mut answer = server.engine.handle(server.now, arrival, &octets).expect("an answer").message;
    let changes = server.engine.take_changes();
    server.engine.committed(server.now, &changes);
    for _ in hops {
        answer = open(&answer).1.pop().expect("a Relay Message").1;
    }
    Reply::decode(&answer)
}

#[test]
fn a_client_is_known_by_what_its_relay_agent_says() {
    for (options, host) in [
        (&[MAC][..], 2),
        (&[REMOTE_ID], 3),
        (&[SUBSCRIBER_ID], 4),
        (&[INTERFACE_ID], 5),
        // The first in the order of the keys counts, not that of the options.
        (&[INTERFACE_ID, SUBSCRIBER_ID, REMOTE_ID], 3),
        (&[SUBSCRIBER_ID, MAC], 2),
    ] {
        let mut server = Server::start(&config());
        let reply = relayed(&mut server, options, &Message::rapid(9));
        assert_eq!(reply.address(), on_link(host), "matrix rows E-6, E-7, E-8: {options:?}");
        assert_eq!(reply.codes(), [3, 2, 14, 1], "matrix rows E-6, E-7, O-9: nothing of the relay agent's");
        let owner = relayed(&mut server, options, &Message::rapid(1));
        assert_eq!(owner.address(), on_link(1), "its DUID goes before");
    }
}

#[test]
fn what_is_almost_the_same_is_somebody_else() {
    for option in [
        (OptionCode::CLIENT_LINKLAYER_ADDRESS, &[0, 6, 2, 0, 0, 0, 0, 2][..]),
        (OptionCode::CLIENT_LINKLAYER_ADDRESS, &[0, 1, 2, 0, 0, 0, 0, 2, 0]),
        (OptionCode::CLIENT_LINKLAYER_ADDRESS, &[]),
        (OptionCode::REMOTE_ID, b"\0\0\x10\x92olt-7\0"),
        (OptionCode::REMOTE_ID, b"\0\0\x10\x93olt-7"),
        (OptionCode::REMOTE_ID, b"\0"),
        (OptionCode::SUBSCRIBER_ID, b"Smith"),
        (OptionCode::SUBSCRIBER_ID, &[b'x'; 1400]),
        (OptionCode::INTERFACE_ID, &[0]),
    ] {
        let reply = relayed(&mut Server::start(&config()), &[option], &Message::rapid(9));
        assert_eq!(reply.address(), on_link(0x1000), "matrix rows E-6, E-7: {option:?}");
    }
    // What clients write into their own messages is nothing that a relay agent says.
    let (code, value) = MAC;
    let forged = Message::rapid(9).option(code, value);
    let mut server = Server::start(&config());
    assert_eq!(server.ask(&forged).address(), on_link(0x1000), "matrix row E-8");
    assert_eq!(relayed(&mut server, &[], &forged).address(), on_link(0x1000), "matrix row E-8");
}

#[test]
fn the_relay_agent_nearest_to_the_client_counts() {
    let mut server = Server::start(&config());
    let reply = nested(&mut server, &[&[], &[SUBSCRIBER_ID]], &Message::rapid(9));
    assert_eq!(reply.address(), on_link(4), "the nearest that says something");
    let other: (OptionCode, &[u8]) = (OptionCode::SUBSCRIBER_ID, b"jones");
    let reply = nested(&mut Server::start(&config()), &[&[other], &[SUBSCRIBER_ID]], &Message::rapid(9));
    assert_eq!(reply.address(), on_link(0x1000));
}

#[test]
fn a_direct_client_is_known_by_its_frame() {
    let mut server = Server::start(&config());
    let mut ask = |mac, multicast| {
        let arrival = Arrival { link: Some(0), vlan: Vlan::NONE, mac, multicast };
        let octets = Message::rapid(9).octets().to_vec();
        let answer = server.engine.handle(server.now, arrival, &octets).expect("an answer").message;
        let changes = server.engine.take_changes();
        let bindings = server.engine.committed(server.now, &changes);
        assert_eq!(bindings, [], "the kernel does not look at MAC addresses");
        Reply::decode(&answer).address()
    };
    assert_eq!(ask(Some([2, 0, 0, 0, 0, 2]), true), on_link(2));
    assert_eq!(ask(Some([2, 0, 0, 0, 0, 3]), true), on_link(0x1000), "another host with this DUID");
    let arrival = Arrival { link: Some(0), vlan: Vlan::NONE, mac: None, multicast: true };
    let unseen = server.engine.handle(server.now, arrival, Message::rapid(9).octets());
    assert_eq!(unseen.err(), Some(DropReason::UnknownMac), "not taken for a client without a reservation");
}

#[test]
fn a_subscriber_gets_its_address_and_its_prefix() {
    let mut server = Server::start(&config());
    let reply = relayed(&mut server, &[SUBSCRIBER_ID], &Message::rapid(9).ia_pd(1, &[]));
    let leases: Vec<_> = reply.ias().iter().flat_map(Ia::leases).map(|(lease, _, _)| lease).collect();
    let prefix: crate::pool::Prefix = "2001:db8:8000::/48".parse().unwrap();
    assert_eq!(leases, [on_link(4).into(), prefix.into()]);
    let other = relayed(&mut server, &[], &Message::rapid(8).ia_pd(1, &[prefix]));
    assert!(other.ias()[1].prefixes.is_empty(), "matrix row S-18");
}

#[test]
fn a_declined_reservation_is_not_served_until_its_hold_ends() {
    let mut server = Server::start(&config());
    let address = server.ask(&Message::rapid(1)).address();
    server.ask(&Message::with_ia(MessageType::Decline, 1, &[address]));
    assert_eq!(server.ask(&Message::rapid(1)).address(), on_link(0x1000), "matrix row Q-15");
    server.advance(5001);
    assert_eq!(server.ask(&Message::rapid(1)).address(), address, "matrix row Q-15");
}

/// Options of the link, of a pool, of a prefix pool and of a reservation, with one code in all of them.
fn with_options() -> String {
    let options = |code: u16, hex: &str| {
        format!("custom = [{{ code = 65000, hex = \"{hex}\" }}, {{ code = {code}, hex = \"\" }}]\n")
    };
    let reserved = format!("[[link.reservation]]\nduid = \"{}\"\naddress = \"2001:db8:1::5\"\n", duid(1));
    [
        SMALL.to_owned(),
        "[link.pool.options]\n".to_owned() + &options(65002, "02"),
        "[[link.pool]]\nrange = \"2001:db8:1::2000\"\n".to_owned(),
        "[[link.prefix_pool]]\nprefix = \"2001:db8:8000::/56\"\ndelegated_length = 56\n".to_owned(),
        "[link.prefix_pool.options]\n".to_owned() + &options(65003, "03"),
        reserved + "[link.reservation.options]\n" + &options(65004, "04"),
        "[link.options]\n".to_owned() + &options(65001, "01"),
    ]
    .concat()
}

#[test]
fn the_most_specific_option_wins() {
    let all = [65000, 65001, 65002, 65003, 65004];
    let sent = |message: Message, wanted: &[(u16, &[u8])]| {
        let reply = Server::start(&with_options()).ask(&message.clone().requests(&all));
        let found: Vec<_> = reply.options.iter().filter(|(code, _)| code.0 >= 65000).collect();
        let found: Vec<(u16, &[u8])> = found.iter().map(|(code, value)| (code.0, value.as_slice())).collect();
        assert_eq!(found, wanted, "matrix row E-32: {message:?}");
    };
    let of = |client, kind| Message::with_ia(kind, client, &[]);
    for kind in [MessageType::Solicit, MessageType::Request, MessageType::Renew, MessageType::Rebind] {
        sent(of(2, kind), &[(65000, &[2]), (65002, &[]), (65001, &[])]);
        sent(of(1, kind), &[(65000, &[4]), (65004, &[]), (65001, &[])]);
        let both = of(2, kind).ia_pd(1, &[]);
        sent(both, &[(65000, &[2]), (65002, &[]), (65003, &[]), (65001, &[])]);
        let prefix = Message::of(kind, &duid(2)).ia_pd(1, &[]);
        sent(prefix, &[(65000, &[3]), (65003, &[]), (65001, &[])]);
        let second = Message::with_ia(kind, 2, &[on_link(0x2000)]);
        sent(second, &[(65000, &[1]), (65001, &[])]);
    }
    let inform = |client| Message::of(MessageType::InformationRequest, &duid(client));
    sent(inform(1), &[(65000, &[4]), (65004, &[]), (65001, &[])]);
    sent(inform(2), &[(65000, &[1]), (65001, &[])]);
}

#[test]
fn the_kernel_serves_no_client_that_gets_other_options() {
    let mut server = Server::start(&with_options());
    for (client, host) in [(1, 5), (2, 0x1000)] {
        assert_eq!(server.ask(&Message::rapid(client)).address(), on_link(host));
        assert_eq!(server.ask_kernel(&duid(client), 1), None);
    }
    let plain = Message::with_ia(MessageType::Solicit, 3, &[on_link(0x2000)]);
    server.ask(&plain.option(OptionCode::RAPID_COMMIT, &[]));
    assert_eq!(server.ask_kernel(&duid(3), 1), Some(on_link(0x2000)));
}

#[test]
fn the_kernel_serves_no_client_whose_mac_address_may_bring_options() {
    // The DUID has a reservation for one IAID only, so the MAC address's, for any, counts for the options.
    let config = format!(
        "{SMALL}[[link.reservation]]\nduid = \"{}\"\niaid = 1\naddress = \"2001:db8:1::5\"\n\
         [[link.reservation]]\nmac = \"02:00:00:00:09:09\"\n\
         options = {{ custom = [{{ code = 65000, hex = \"01\" }}] }}\n",
        duid(1)
    );
    let mut server = Server::start(&config);
    let reply = server.ask(&Message::rapid(1).requests(&[65000]));
    assert_eq!((reply.address(), reply.has(OptionCode(65000))), (on_link(5), true));
    assert_eq!(server.ask_kernel(&duid(1), 1), None);
}

#[test]
fn a_link_may_serve_its_own_clients_only() {
    let config = config().replace("[[link.pool]]", "reserved_only = true\n[[link.pool]]");
    let known = [1u8];
    for kind in [MessageType::Solicit, MessageType::Request, MessageType::Renew, MessageType::Rebind] {
        let mut server = Server::start(&config);
        assert_eq!(server.ask(&Message::with_ia(kind, known[0], &[])).address(), on_link(1));
        let stranger = server.send(&Message::with_ia(kind, 9, &[]));
        assert_eq!(stranger, Err(DropReason::RefusedByPolicy), "matrix row S-15: {kind:?}");
    }
    let mut server = Server::start(&config);
    let inform = Message::of(MessageType::InformationRequest, &duid(9));
    assert_eq!(server.send(&inform), Err(DropReason::RefusedByPolicy), "matrix row S-15");
    // Who came before the rule did is told that it is over.
    let mut server = Server::start(&config.replace("reserved_only = true", ""));
    let address = server.ask(&Message::rapid(9)).address();
    server.restart_with(&config);
    let renewed = server.ask(&Message::with_ia(MessageType::Renew, 9, &[address])).ia();
    assert_eq!(renewed.addresses, [(address, 0, 0)], "matrix row N-7");
}

#[test]
fn a_client_cannot_decline_a_pool_away() {
    let pool = |last: &str| SMALL.replace("::1003", last) + "[[link.pool]]\nrange = \"2001:db8:1::2000\"\n";
    for (config, clients, most) in [
        // One client: its own limit. Many: half of the link's addresses.
        (pool("::10ff").replace("decline_hold", "decline_limit = 3\ndecline_hold"), 1, 3),
        (pool("::10ff"), 1, 8),
        (SMALL.replace("::1003", "::1009"), 20, 5),
        (SMALL.replace("::1003", "::1000"), 1, 1),
    ] {
        let mut server = Server::start(&config);
        for round in 0..60u8 {
            let client = 1 + round % clients;
            let ias = server.ask(&Message::with_ia(MessageType::Request, client, &[])).ia().addresses;
            let Some((address, _, _)) = ias.first() else { continue };
            server.ask(&Message::with_ia(MessageType::Decline, client, &[*address]));
            let conflicts = server.engine.links().next().unwrap().addresses.conflict;
            assert!(conflicts <= most, "matrix row X-7: {conflicts} of at most {most}");
            assert_eq!(server.store.contents().conflicts.len() as u64, conflicts, "matrix row X-6");
        }
        if config.contains("::1009") {
            let other = server.ask(&Message::with_ia(MessageType::Request, 99, &[]));
            assert_eq!(other.ia().addresses.len(), 1, "matrix row X-7");
        }
    }
}

#[test]
fn what_was_declined_last_does_not_come_back_first() {
    let pool = SMALL.replace("::1003", "::10ff").replace("decline_hold", "decline_limit = 1\ndecline_hold");
    let mut server = Server::start(&pool);
    let decline = |server: &mut Server| {
        let address = server.ask(&Message::rapid(1)).address();
        server.ask(&Message::with_ia(MessageType::Decline, 1, &[address]));
        address
    };
    decline(&mut server);
    // What is declined from now on ends before what was.
    server.restart_with(&pool.replace("5000s", "30s"));
    let last = decline(&mut server);
    assert_ne!(server.ask(&Message::rapid(1)).address(), last, "matrix row X-1");
    let hint = Message::with_ia(MessageType::Request, 2, &[last]);
    assert_ne!(server.ask(&hint).address(), last, "matrix row X-1");
}

#[test]
fn relay_agents_may_supply_options() {
    let config = format!("{SMALL}[link.options]\ncustom = [{{ code = 103, hex = \"aa\" }}]\n")
        .replace("[fast_path]", "[server]\nrelay_supplied_options = [65, 103]\n[fast_path]");
    let supplied = |options: &[(u16, &[u8])]| {
        let mut value = Vec::new();
        for (code, content) in options {
            super::message::put(&mut value, OptionCode(*code), content);
        }
        value
    };
    // 65 is the server's to pass on, 23 is not, and 103 it sets itself.
    let near = supplied(&[(65, b"\x03erp\0"), (23, &[0; 16]), (103, &[0xbb])]);
    let far = supplied(&[(65, b"\x05other\0")]);
    let rsoo = OptionCode::RELAY_SUPPLIED_OPTIONS;
    let hops: [&[(OptionCode, &[u8])]; 2] = [&[(rsoo, &near)], &[(rsoo, &far)]];
    for kind in [MessageType::Solicit, MessageType::Request, MessageType::Renew] {
        let message = Message::with_ia(kind, 1, &[]).requests(&[23, 65, 103]);
        let reply = nested(&mut Server::start(&config), &hops, &message);
        assert_eq!(reply.values(OptionCode(65)), [b"\x03erp\0"], "matrix row E-11: {kind:?}");
        assert_eq!(reply.values(OptionCode(103)), [[0xaa]], "matrix row E-11: the server's value");
        assert!(!reply.has(OptionCode(23)), "matrix row E-11");
    }
    // By default, 65 alone; damaged ones are passed over.
    let reply = nested(&mut Server::start(SMALL), &hops, &Message::rapid(1));
    assert_eq!(reply.codes(), [3, 2, 14, 65, 1], "matrix row E-11");
    let reply = relayed(&mut Server::start(SMALL), &[(rsoo, &[0, 65, 0])], &Message::rapid(1));
    assert_eq!(reply.codes(), [3, 2, 14, 1], "matrix row E-11");
}

#[test]
fn an_interface_id_may_select_a_link() {
    let second = SMALL.split_once("[[link]]").unwrap().1.replace("db8:1:", "db8:2:");
    let second =
        second.replace("access0", "access1").replace("interface = \"eth1\"", "interface_ids = [\"port-2\"]");
    let config = format!("{SMALL}[[link]]{second}");
    let at = |link: Option<u32>, interface_id: &[u8]| {
        let mut server = Server::start(&config);
        let options = [(OptionCode::INTERFACE_ID, interface_id)];
        let octets = forward(0, Ipv6Addr::UNSPECIFIED, &options, Message::rapid(1).octets());
        let arrival = Arrival { link, vlan: Vlan::NONE, mac: None, multicast: true };
        let answer = server.engine.handle(server.now, arrival, &octets).map(|answer| answer.message)?;
        Ok(Reply::decode(&open(&answer).1[1].1).address().segments()[2])
    };
    assert_eq!(at(None, b"port-2"), Ok(2), "matrix row Y-9");
    assert_eq!(at(Some(0), b"port-2"), Ok(2), "matrix rows Y-9, E-9");
    assert_eq!(at(Some(0), b"port-3"), Ok(1), "matrix rows Y-9, E-9");
    assert_eq!(at(None, b"port-3"), Err(DropReason::UnknownLink), "matrix row Y-9");
}
