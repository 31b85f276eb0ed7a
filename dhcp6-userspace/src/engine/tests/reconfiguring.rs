//! Leases outlive the configuration that they were given under, and keep their one owner.

use dhcp6_common::{Vlan, wire::MessageType};

use super::{
    message::{Message, duid, on_link},
    server::{SMALL, Server},
};
use crate::pool::Prefix;

fn prefixes(pool: &str, length: u8) -> String {
    format!("{SMALL}[[link.prefix_pool]]\nprefix = \"{pool}\"\ndelegated_length = {length}\n")
}

fn request(client: u8) -> Message {
    Message::of(MessageType::Request, &duid(client)).ia_pd(1, &[])
}

/// What others get while client 1 may still use what it was given.
fn given_to_others(server: &mut Server) -> Vec<Prefix> {
    let given = |client| server.ask(&request(client)).ia().prefixes.first().map(|(prefix, _, _)| *prefix);
    (2..40).filter_map(given).collect()
}

#[test]
fn a_pool_of_another_length_spares_what_was_delegated_before() {
    for (before, after, left) in [(56, 60, 48), (60, 56, 3), (56, 57, 6), (56, 56, 3)] {
        let mut server = Server::start(&prefixes("2001:db8:8000::/54", before));
        let owned = server.ask(&request(1)).prefix();
        server.restart_with(&prefixes("2001:db8:8000::/54", after));
        let others = given_to_others(&mut server);
        assert!(others.len() >= left.min(38), "{before} to {after}: {others:?}");
        for other in &others {
            assert!(!other.range().overlaps(&owned.range()), "{owned} overlaps {other}");
        }
        // The client is told, and moves; what it had is free when all that was promised of it has ended.
        let renewed = server.ask(&Message::of(MessageType::Renew, &duid(1)).ia_pd(1, &[owned])).ia().prefixes;
        let gone = renewed.iter().any(|(prefix, _, valid)| *prefix == owned && *valid == 0);
        assert_eq!(gone, before != after, "matrix rows N-4, N-7: {renewed:?}");
        server.restart();
        for other in given_to_others(&mut server) {
            assert!(!other.range().overlaps(&owned.range()), "{owned} overlaps {other} after a restart");
        }
        server.advance(4000);
        if before != after {
            let free = server.engine.links().next().unwrap().prefixes.idle > 0;
            assert!(free, "all leases have ended");
            let hint = Message::of(MessageType::Request, &duid(99)).ia_pd(1, &[]);
            server.ask(&hint).prefix();
        }
    }
}

#[test]
fn a_renamed_link_spares_what_its_old_name_leased() {
    let mut server = Server::start(&prefixes("2001:db8:8000::/54", 56));
    let owned = server.ask(&request(1)).prefix();
    let address = server.ask(&Message::rapid(1)).address();
    server.restart_with(&prefixes("2001:db8:8000::/54", 56).replace("access0", "access1"));
    let others = given_to_others(&mut server);
    assert_eq!(others.len(), 3, "{others:?}");
    assert!(!others.contains(&owned));
    for client in 2..9 {
        let given = server.ask(&Message::with_ia(MessageType::Request, client, &[address])).ia().addresses;
        assert!(given.iter().all(|(other, _, _)| *other != address), "client {client}");
    }
    server.advance(3001);
    let hint = Message::with_ia(MessageType::Request, 50, &[address]);
    assert_eq!(server.ask(&hint).address(), address, "its time is over");
}

#[test]
fn the_operator_can_end_what_has_outlived_its_link() {
    let mut server = Server::start(SMALL);
    let address = server.ask(&Message::rapid(1)).address();
    server.restart_with(&SMALL.replace("access0", "access1"));
    let hint = Message::with_ia(MessageType::Request, 2, &[address]);
    assert_ne!(server.ask(&hint).address(), address);
    assert!(server.engine.clear_conflict(address.into()));
    assert!(!server.engine.clear_conflict(address.into()), "not twice");
    server.round(&[], None);
    assert!(server.store.contents().leases.iter().all(|lease| lease.resource != address.into()));
    let hint = Message::with_ia(MessageType::Request, 3, &[address]);
    assert_eq!(server.ask(&hint).address(), address);
}

#[test]
fn an_address_that_moves_to_another_link_keeps_its_owner() {
    let links = |first: &str, second: &str| {
        let link = |name: &str, eth: &str, net: u8, pool: &str| {
            let pool =
                if pool.is_empty() { String::new() } else { format!("[[link.pool]]\nrange = \"{pool}\"\n") };
            format!(
                "[[link]]\nname = \"{name}\"\ninterface = \"{eth}\"\nprefix = \"2001:db8:{net}::/48\"\n\
                 preferred_lifetime = 1000\nvalid_lifetime = 2000\nrapid_commit = true\n{pool}"
            )
        };
        link("a", "eth1", 1, first) + &link("b", "eth2", 1, second)
    };
    let pool = "2001:db8:1::1000-2001:db8:1::1001";
    let mut server = Server::start(&links("", pool));
    let arrival =
        |link| crate::engine::Arrival { link: Some(link), vlan: Vlan::NONE, mac: None, multicast: true };
    let on_second = server.engine.handle(server.now, arrival(1), Message::rapid(1).octets()).unwrap().message;
    assert_eq!(super::message::Reply::decode(&on_second).address(), on_link(0x1000));
    server.round(&[], None);
    server.restart_with(&links(pool, ""));
    assert_eq!(server.ask(&Message::rapid(2)).address(), on_link(0x1001), "the other one");
    assert!(server.ask(&Message::rapid(3)).ia().addresses.is_empty());
}

#[test]
fn a_reservation_of_a_leased_address_is_told_to_the_operator() {
    let mut server = Server::start(SMALL);
    let address = server.ask(&Message::rapid(1)).address();
    assert!(server.engine.waiting_reservations().is_empty());
    let reserved = |client| {
        format!("{SMALL}[[link.reservation]]\nduid = \"{}\"\naddress = \"{address}\"\n", duid(client))
    };
    server.restart_with(&reserved(1));
    assert!(server.engine.waiting_reservations().is_empty(), "its owner has it");
    server.restart_with(&reserved(2));
    let [waiting] = &server.engine.waiting_reservations()[..] else { panic!("one reservation waits") };
    assert_eq!((waiting.resource, waiting.holder), (address.into(), duid(1)));
    assert_eq!(waiting.until, server.store.contents().leases[0].expires_at);
}

#[test]
fn a_reservation_across_a_pool_waits_for_who_is_there() {
    let reserved = |text: &str| {
        let owner = duid(9);
        format!("[[link.reservation]]\nduid = \"{owner}\"\nprefix = \"{text}\"\n")
    };
    for wanted in ["2001:db8:8000::/55", "2001:db8:8000::/56", "2001:db8:8000:10::/60"] {
        let mut server = Server::start(&prefixes("2001:db8:8000::/54", 56));
        let owned = server.ask(&request(1)).prefix();
        server.restart_with(&(prefixes("2001:db8:8000::/54", 56) + &reserved(wanted)));
        let wanted: Prefix = wanted.parse().unwrap();
        let meanwhile = server.ask(&request(9)).prefix();
        assert!(!meanwhile.range().overlaps(&owned.range()), "{meanwhile} while {owned} is somebody's");
        assert!(!given_to_others(&mut server).iter().any(|other| other.range().overlaps(&wanted.range())));
        let named = Message::of(MessageType::Renew, &duid(1)).ia_pd(1, &[owned]);
        let told = server.ask(&named).ia().prefixes;
        assert!(told.contains(&(owned, 0, 0)), "matrix row N-7: {told:?}");
        server.advance(3001);
        assert_eq!(server.ask(&request(9)).prefix(), wanted, "matrix row S-16");
    }
}
