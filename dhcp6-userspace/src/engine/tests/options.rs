//! Options of answers: RFC 9915, sections 18.3 and 21; matrix section 9.

use dhcp6_common::{
    Vlan,
    wire::{MessageType, OptionCode, StatusCode},
};
use proptest::prelude::*;

use super::{
    message::{Message, duid, on_link, put},
    server::{SMALL, Server},
};
use crate::engine::{Arrival, Engine};

/// The codes of [`config`].
const CONFIGURED: [u16; 4] = [23, 24, 56, 65000];

/// [`SMALL`] with options, three of which have the code 56.
fn config() -> String {
    let options = r#"
[link.options]
dns_servers = ["2001:db8::53", "2001:db8::54"]
domain_search = ["example.net", "a.example.net"]
ntp_servers = ["2001:db8::123", "ff05::101", "ntp.example.net"]
custom = [{ code = 65000, hex = "00ff" }]
"#;
    format!("[server]\npreference = 9\n{SMALL}{options}")
}

/// Each subset of the configured codes.
fn subsets() -> impl Iterator<Item = Vec<u16>> {
    (0..1 << CONFIGURED.len()).map(|subset: u32| {
        let chosen = CONFIGURED.iter().enumerate().filter(move |(bit, _)| subset >> bit & 1 == 1);
        chosen.map(|(_, code)| *code).collect()
    })
}

/// The codes in the order of the configuration, the NTP servers one by one.
fn sent(requested: &[u16]) -> Vec<u16> {
    [23, 24, 56, 56, 56, 65000].into_iter().filter(|code| requested.contains(code)).collect()
}

#[test]
fn options_come_in_one_order() {
    let all = [65000, 56, 24, 23];
    let two = |kind| Message::of(kind, &duid(1)).requests(&all).ia_na(2, &[]).ia_na(1, &[]).ia_pd(3, &[]);
    for (message, head) in [
        (two(MessageType::Solicit), &[3, 3, 25, 2, 7][..]),
        (two(MessageType::Solicit).option(OptionCode::RAPID_COMMIT, &[]), &[3, 3, 25, 2, 14]),
        (two(MessageType::Request), &[3, 3, 25, 2]),
        (two(MessageType::Renew), &[3, 3, 25, 2]),
        (two(MessageType::Rebind), &[3, 3, 25, 2]),
        (Message::of(MessageType::InformationRequest, &duid(1)).requests(&all), &[2]),
    ] {
        let reply = Server::start(&config()).ask(&message);
        let expected = [head, &sent(&all), &[1]].concat();
        assert_eq!(reply.codes(), expected, "matrix rows S-10, N-15: {message:?}");
        let iaids: Vec<_> = reply.ias().iter().map(|ia| ia.iaid).collect();
        assert_eq!(iaids, [2, 1, 3][..iaids.len()], "matrix row O-7");
    }
}

#[test]
fn only_requested_options_are_sent() {
    for requested in subsets() {
        for kind in [MessageType::Solicit, MessageType::Request, MessageType::Renew, MessageType::Rebind] {
            let message = Message::with_ia(kind, 1, &[]).requests(&requested);
            let mut codes = Server::start(&config()).ask(&message).codes();
            codes.retain(|code| *code > 20);
            assert_eq!(codes, sent(&requested), "matrix rows O-1, S-10, N-15: {kind:?}");
        }
    }
    let mut server = Server::start(&config());
    assert_eq!(server.ask(&Message::rapid(1)).codes(), [3, 2, 14, 1], "matrix row O-1: no Option Request");
}

#[test]
fn values_are_sent_as_configured() {
    let reply = Server::start(&config()).ask(&Message::rapid(1).requests(&CONFIGURED));
    let address = |last: u16| [0x2001, 0xdb8, 0, 0, 0, 0, 0, last].map(u16::to_be_bytes).concat();
    let value = |code| reply.values(OptionCode(code));
    assert_eq!(value(23), [[address(0x53), address(0x54)].concat()], "matrix row E-1");
    // The second name ends as the first one, and says so in full.
    let names = b"\x07example\x03net\0\x01a\x07example\x03net\0";
    assert_eq!(value(24), [names], "matrix rows E-2, O-15");
    let by_address = [&[0, 1, 0, 16][..], &address(0x123)].concat();
    let by_group = [&[0, 2, 0, 16, 0xff, 5][..], &[0; 12], &[1, 1]].concat();
    let by_name = b"\0\x03\0\x11\x03ntp\x07example\x03net\0";
    assert_eq!(value(56), [&by_address[..], &by_group, by_name], "matrix row E-4");
    assert_eq!(value(65000), [[0, 0xff]]);
}

#[test]
fn codes_that_the_protocol_owns_are_not_sent_for_being_requested() {
    let owned: Vec<u16> = (0..=22).chain(25..=55).chain([82, 83, 0xffff]).collect();
    for (message, codes) in [
        (Message::with_ia(MessageType::Solicit, 1, &[]), &[3, 2, 7, 1][..]),
        (Message::rapid(1), &[3, 2, 14, 1]),
        (Message::with_ia(MessageType::Request, 1, &[]), &[3, 2, 1]),
        (Message::with_ia(MessageType::Renew, 1, &[]), &[3, 2, 1]),
        (Message::with_ia(MessageType::Release, 1, &[]), &[3, 2, 13, 1]),
        (Message::with_ia(MessageType::Confirm, 1, &[on_link(1)]), &[2, 13, 1]),
        (Message::of(MessageType::InformationRequest, &duid(1)), &[2, 1]),
    ] {
        let message = message.option(OptionCode::RECONFIGURE_ACCEPT, &[]).requests(&owned);
        let reply = Server::start(&config()).ask(&message);
        assert_eq!(reply.codes(), codes, "matrix rows O-2, O-9, O-11, O-12, S-20, I-6: {message:?}");
    }
}

#[test]
fn timers_are_sent_where_they_belong() {
    let options = "[link.options]\nsntp_servers = [\"2001:db8::123\"]\nsol_max_rt = \"1h\"\ninf_max_rt = 60\n\
                   information_refresh_time = \"10m\"\n";
    let config = format!("{SMALL}{options}");
    let requested = [31, 32, 82, 83];
    for (message, codes) in [
        (Message::with_ia(MessageType::Solicit, 1, &[]), &[31, 82, 83][..]),
        (Message::rapid(1), &[31, 82, 83]),
        (Message::with_ia(MessageType::Request, 1, &[]), &[31, 82, 83]),
        (Message::with_ia(MessageType::Renew, 1, &[]), &[31, 82, 83]),
        (Message::with_ia(MessageType::Rebind, 1, &[]), &[31, 82, 83]),
        (Message::with_ia(MessageType::Confirm, 1, &[on_link(1)]), &[]),
        (Message::with_ia(MessageType::Release, 1, &[on_link(1)]), &[]),
        (Message::with_ia(MessageType::Decline, 1, &[on_link(1)]), &[]),
        (Message::of(MessageType::InformationRequest, &duid(1)), &[31, 82, 83, 32]),
    ] {
        let reply = Server::start(&config).ask(&message.clone().requests(&requested));
        let sent: Vec<_> = reply.codes().into_iter().filter(|code| requested.contains(code)).collect();
        assert_eq!(sent, codes, "matrix rows I-5, I-6, E-5, O-12: {message:?}");
        let unasked = Server::start(&config).ask(&message);
        assert!(requested.iter().all(|code| !unasked.has(OptionCode(*code))), "matrix rows O-1, O-12");
        for (code, value) in [(82, 3600u32), (83, 60), (32, 600)] {
            let expected = codes.contains(&code).then(|| value.to_be_bytes().to_vec());
            let actual = reply.values(OptionCode(code)).first().map(|value| value.to_vec());
            assert_eq!(actual, expected, "matrix rows I-5, O-12: option {code}");
        }
        let server = [0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x123].map(u16::to_be_bytes).concat();
        assert!(reply.values(OptionCode(31)).iter().all(|value| **value == *server), "matrix row E-4");
    }
    let server = Server::start(&config);
    let block = server.engine.rapid_commit_block(0, |_| true);
    let codes: Vec<_> =
        dhcp6_common::wire::OptionWalker::new(&block).map(|o| o.expect("whole").code.0).collect();
    assert_eq!(codes, [2, 14, 31, 82, 83], "matrix row I-6: the kernel does not send it either");
}

#[test]
fn confirm_release_and_decline_bring_no_configuration() {
    for kind in [MessageType::Confirm, MessageType::Release, MessageType::Decline] {
        let message = Message::with_ia(kind, 1, &[on_link(1)]).requests(&CONFIGURED);
        let codes = Server::start(&config()).ask(&message).codes();
        assert!(codes.iter().all(|code| *code <= 20), "matrix rows O-1, E-3: {kind:?} {codes:?}");
        let unasked = Message::with_ia(kind, 1, &[on_link(1)]);
        let codes = Server::start(&config()).ask(&unasked).codes();
        assert!(codes.iter().all(|code| *code <= 20), "matrix row E-3: {kind:?} {codes:?}");
    }
}

#[test]
fn a_status_is_one_text_and_no_lease_goes_with_it() {
    // Reading a Reply checks the form of each status: matrix row O-3.
    let mut server = Server::start(SMALL);
    for client in 1..=5 {
        let ia = server.ask(&Message::rapid(client)).ia();
        assert_eq!(ia.addresses.is_empty(), ia.status == [StatusCode::NoAddrsAvail as u16], "matrix row O-6");
        assert!(ia.status.len() <= 1 && ia.others == 0, "matrix rows O-3, O-8");
    }
}

#[test]
fn the_block_for_the_kernel_is_that_of_a_reply() {
    for requested in subsets() {
        let mut server = Server::start(&config());
        let message = Message::rapid(1).requests(&requested);
        let arrival = Arrival { link: Some(0), vlan: Vlan::NONE, mac: None, multicast: true };
        let answer = server.engine.handle(server.now, arrival, message.octets());
        let octets = answer.expect("an answer").message;
        let mut client = Vec::new();
        put(&mut client, OptionCode::CLIENT_ID, duid(1).as_slice());
        // Header, then an IA_NA with one address.
        let before = 4 + (4 + 12) + (4 + 24);
        let block = server.engine.rapid_commit_block(0, |code| requested.contains(&code.0));
        assert_eq!(octets[before..octets.len() - client.len()], block, "{requested:?}");
        assert_eq!(octets[octets.len() - client.len()..], client, "the Client Identifier is last");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn options_that_the_kernel_may_ignore_do_not_change_the_answer(
        further in prop::collection::vec((ignored(), prop::collection::vec(any::<u8>(), 0..60)), 1..8),
        place in 0..=5_usize,
        is_rapid in any::<bool>(),
    ) {
        let reply = |further: &[(OptionCode, Vec<u8>)]| {
            let codes = CONFIGURED.map(u16::to_be_bytes).concat();
            let mut options = vec![
                (OptionCode::CLIENT_ID, duid(1).as_slice().to_vec()),
                (OptionCode::IA_NA, vec![0; 12]),
                (OptionCode::IA_PD, vec![0; 12]),
                (OptionCode::OPTION_REQUEST, codes),
            ];
            options.extend(is_rapid.then_some((OptionCode::RAPID_COMMIT, Vec::new())));
            let place = place.min(options.len());
            options.splice(place..place, further.iter().cloned());
            let message = options.iter().fold(
                Message::bare(MessageType::Solicit as u8),
                |message, (code, value)| message.option(*code, value),
            );
            Server::start(&config()).ask(&message)
        };
        let (expected, found) = (reply(&[]), reply(&further));
        prop_assert_eq!(found, expected, "matrix rows O-10, O-11, V-23: {:?}", further);
    }
}

/// Codes that have a meaning to somebody, and others.
fn ignored() -> impl Strategy<Value = OptionCode> {
    let code = prop_oneof![0..=150_u16, any::<u16>()].prop_map(OptionCode);
    code.prop_filter("it counts", |code| Engine::ignores(*code))
}

#[test]
fn only_what_a_solicit_is_made_of_counts() {
    let counts: Vec<_> = (0..=u16::MAX).filter(|code| !Engine::ignores(OptionCode(*code))).collect();
    assert_eq!(counts, [1, 2, 3, 6, 14, 25]);
}
