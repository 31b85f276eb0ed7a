//! What holds for every answer, whatever the message: what it always has, and what the server never sends.

use dhcp6_common::{
    Vlan,
    wire::{MessageType, OptionCode},
};

use super::{
    message::{Message, Reply, SERVER, duid, on_link},
    relaying::{forward, open},
    server::{SMALL, Server},
    validation::TAKEN,
};
use crate::engine::{Arrival, DropReason};

/// [`SMALL`] with all that can be configured to be sent.
fn config() -> String {
    let rest = r#"
[[link.prefix_pool]]
prefix = "2001:db8:8000::/54"
delegated_length = 56
pd_exclude = "0:0:0:ff::/64"

[link.options]
dns_servers = ["2001:db8::53"]
domain_search = ["example.net"]
ntp_servers = ["2001:db8::123"]
sntp_servers = ["2001:db8::123"]
sol_max_rt = "1h"
inf_max_rt = "1h"
information_refresh_time = "1h"
custom = [{ code = 17, hex = "00000009" }, { code = 65000, hex = "" }]
"#;
    format!("[server]\npreference = 9\n{SMALL}{rest}")
}

/// Messages of each type: plain ones, and ones that ask for all there is and show what the client would accept.
fn messages() -> Vec<Message> {
    let mut messages = vec![Message::rapid(1), Message::bare(MessageType::InformationRequest as u8)];
    for kind in TAKEN {
        messages.push(match kind {
            MessageType::InformationRequest => Message::of(kind, &duid(1)),
            _ => Message::with_ia(kind, 1, &[on_link(0x1000)]).ia_pd(1, &[]),
        });
    }
    let all: Vec<_> = (0..=300).chain([65000, 65535]).collect();
    let eager = messages.clone().into_iter().map(|message| {
        let authentication = [&[3, 1, 0][..], &[0; 8]].concat();
        message
            .requests(&all)
            .option(OptionCode::RECONFIGURE_ACCEPT, &[])
            .option(OptionCode::AUTHENTICATION, &authentication)
            .option(OptionCode::CLIENT_FQDN, b"\x01\x04host")
            .option(OptionCode::INTERFACE_ID, b"port")
            .option(OptionCode::SERVER_UNICAST, &[0; 16])
    });
    messages.extend(eager.collect::<Vec<_>>());
    messages
}

/// What no answer to a client has outside of its IAs: what stands within them only, and what is of clients, of relay
/// agents, or of what this server does not do.
const NEVER: [(u16, &str); 21] = [
    (4, "S-19"),
    (5, "O-8"),
    (6, "O-2"),
    (8, "O-2"),
    (9, "O-9"),
    (11, "O-16"),
    (12, "S-20"),
    (15, "O-2"),
    (16, "O-10"),
    (18, "O-9"),
    (19, "O-16"),
    (20, "O-11"),
    (26, "O-8"),
    (37, "Y-18"),
    (38, "Y-18"),
    (39, "E-17"),
    (43, "Y-18"),
    (66, "Y-18"),
    (67, "E-12"),
    (79, "Y-18"),
    (148, "E-24"),
];

fn check(message: &Message, reply: &Reply) {
    let kind = MessageType::from_code(message.octets()[0]);
    let is_rapid = reply.has(OptionCode::RAPID_COMMIT);
    assert!(!is_rapid || kind == Some(MessageType::Solicit), "matrix row Q-6: {message:?}");
    // Neither a Reconfigure nor anything else.
    let expected = match kind {
        Some(MessageType::Solicit) if !is_rapid => MessageType::Advertise,
        _ => MessageType::Reply,
    };
    assert_eq!(reply.kind, expected, "matrix rows O-16, Y-20: {message:?}");
    assert_eq!(reply.transaction, message.octets()[1..4], "matrix row V-25: {message:?}");
    assert_eq!(reply.values(OptionCode::SERVER_ID), [SERVER], "matrix row U-9: {message:?}");
    let is_anonymous = message.octets().get(4..6) != Some(&[0, 1]);
    let identifiers = reply.values(OptionCode::CLIENT_ID);
    let client = duid(1);
    let expected: &[&[u8]] = if is_anonymous { &[] } else { &[client.as_slice()] };
    assert_eq!(identifiers, expected, "matrix rows S-2, R-1, I-2: {message:?}");
    for (code, row) in NEVER {
        assert!(!reply.has(OptionCode(code)), "matrix row {row}: option {code} for {message:?}");
    }
    let is_inform = kind == Some(MessageType::InformationRequest);
    assert!(
        is_inform || !reply.has(OptionCode::INFORMATION_REFRESH_TIME),
        "matrix rows I-6, E-5: {message:?}"
    );
    assert!(!is_inform || reply.ias().is_empty(), "matrix row I-4: {message:?}");
    assert!(reply.values(OptionCode::VENDOR_OPTIONS).len() <= 1, "matrix row O-10: {message:?}");
}

#[test]
fn clients_get_what_is_for_clients() {
    for message in messages() {
        check(&message, &Server::start(&config()).ask(&message));
        let mut server = Server::start(&config());
        server.ask(&Message::rapid(1).ia_pd(1, &[]));
        check(&message, &server.ask(&message));
    }
}

#[test]
fn relay_agents_get_the_same_in_relay_replies() {
    for message in messages() {
        let direct = Server::start(&config()).ask(&message);
        let mut server = Server::start(&config());
        let arrival = Arrival { link: None, vlan: Vlan::NONE, mac: None, multicast: false };
        let octets = forward(0, on_link(0xffff), &[(OptionCode::INTERFACE_ID, b"port")], message.octets());
        let octets = forward(1, on_link(0xfffe), &[], &octets);
        let answer = server.engine.handle(server.now, arrival, &octets).expect("an answer");
        assert_eq!(answer.kind, MessageType::RelayReply, "matrix row Y-20: {message:?}");
        let (_, outer) = open(&answer.message);
        let (_, inner) = open(&outer[0].1);
        let reply = Reply::decode(&inner[1].1);
        check(&message, &reply);
        assert_eq!(reply, direct, "matrix rows Y-12, Y-13, Y-19: {message:?}");
        assert_eq!(server.engine.leases().is_empty(), !gives_a_lease(&reply), "matrix row Y-12: {message:?}");
    }
}

fn gives_a_lease(reply: &Reply) -> bool {
    reply.kind == MessageType::Reply && reply.ias().iter().any(|ia| !ia.leases().is_empty())
}

#[test]
fn on_a_link_that_is_not_configured_nothing_is_answered() {
    for message in messages() {
        let mut server = Server::start(&config());
        let arrival = Arrival { link: None, vlan: Vlan::NONE, mac: None, multicast: true };
        let outcome = server.engine.handle(server.now, arrival, message.octets());
        assert_eq!(outcome, Err(DropReason::UnknownLink), "matrix rows C-4, Y-10: {message:?}");
        assert!(server.is_untouched(), "matrix row C-4: {message:?}");
    }
}

#[test]
fn vendor_options_are_sent_to_who_asks_once() {
    for kind in [MessageType::Solicit, MessageType::Request, MessageType::Renew, MessageType::Rebind] {
        let message = Message::with_ia(kind, 1, &[]).option(OptionCode::VENDOR_OPTIONS, &[0, 0, 0, 9]);
        let reply = Server::start(&config()).ask(&message);
        assert!(!reply.has(OptionCode::VENDOR_OPTIONS), "matrix row O-10: {kind:?}, not asked for");
        let reply = Server::start(&config()).ask(&message.requests(&[17, 17]));
        assert_eq!(reply.values(OptionCode::VENDOR_OPTIONS), [[0, 0, 0, 9]], "matrix row O-10: {kind:?}");
    }
}
