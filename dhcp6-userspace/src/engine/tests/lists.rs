//! The four lists that operators see.

use dhcp6_common::wire::MessageType;

use super::{
    message::{Message, on_link},
    server::{SMALL, Server, with_reservations},
};
use crate::{engine::ResourceState, pool::IaKind};

/// How many addresses of each list the counts say there are.
fn counts(server: &Server) -> [u128; 4] {
    let counts = server.engine.links().next().expect("a link").addresses;
    [counts.idle, counts.used.into(), counts.conflict.into(), counts.excluded]
}

fn lists(server: &Server) -> [u128; 4] {
    [ResourceState::Idle, ResourceState::Used, ResourceState::Conflict, ResourceState::Excluded]
        .map(|state| server.engine.resources(0, IaKind::Na, Some(state), usize::MAX).len() as u128)
}

#[test]
fn counts_are_those_of_the_lists() {
    let excluding = "::1003\"\nexclude = [\"2001:db8:1::1001\"]\n";
    for config in [with_reservations(), with_reservations().replacen("::1003\"\n", excluding, 1)] {
        let mut server = Server::start(&config);
        assert_eq!(counts(&server), lists(&server));
        for client in 1..=3 {
            let address = server.ask(&Message::rapid(client)).address();
            assert_eq!(counts(&server), lists(&server), "client {client} has a lease");
            server.ask(&Message::with_ia(MessageType::Release, client, &[address]));
            assert_eq!(counts(&server), lists(&server), "client {client} released it");
            server.ask(&Message::rapid(client));
            server.ask(&Message::with_ia(MessageType::Decline, client, &[address]));
            assert_eq!(counts(&server), lists(&server), "client {client} declined it");
            server.restart();
            assert_eq!(counts(&server), lists(&server), "and the server is started again");
        }
        server.advance(5000);
        assert_eq!(counts(&server), lists(&server), "at the end");
    }
}

#[test]
fn lists_say_who_has_what() {
    let mut server = Server::start(SMALL);
    server.ask(&Message::rapid(1));
    server.ask(&Message::rapid(2));
    server.ask(&Message::with_ia(MessageType::Decline, 2, &[on_link(0x1001)]));
    let all: Vec<_> = { server.engine.resources(0, IaKind::Na, None, 9).into_iter() }
        .map(|view| (view.resource, view.state, view.duid))
        .collect();
    let [one, other] = [1, 2].map(|client| Some(super::message::duid(client)));
    assert_eq!(
        all,
        [
            (on_link(0x1000).into(), ResourceState::Used, one),
            (on_link(0x1001).into(), ResourceState::Conflict, other),
        ],
        "matrix row X-1"
    );
    assert_eq!(server.engine.resources(0, IaKind::Na, None, 1).len(), 1);
}

#[test]
fn idle_ones_are_listed_in_ascending_order() {
    let config = format!("{SMALL}[[link.pool]]\nrange = \"2001:db8:1::10-2001:db8:1::11\"\n");
    let server = Server::start(&config);
    let idle = server.engine.resources(0, IaKind::Na, Some(ResourceState::Idle), 3);
    let idle: Vec<_> = idle.into_iter().map(|view| view.resource).collect();
    assert_eq!(idle, [0x10, 0x11, 0x1000].map(|host| on_link(host).into()));
}
