//! Prefixes, and what clients do with their leases.

use std::time::Duration;

use dhcp6_common::wire::{MessageType, OptionCode};

use super::{
    Simulation, engine, plan, unharmed,
    wrong::{with_message, with_option},
};
use crate::flood::{Ask, Mode, Plan, Relays, Step, Summary, Wrong, frame::HEADERS_LEN};

/// Runs clients with the real engine, without losses.
fn run(plan: Plan) -> Summary {
    Simulation { engine: engine(plan.mode == Mode::RapidCommit, "1fff"), lost: &|_| false, fault: &unharmed }
        .run(plan)
}

#[test]
fn clients_get_prefixes() {
    for ask in [Ask::Prefix, Ask::Both] {
        for (mode, sent) in [(Mode::RapidCommit, 50), (Mode::FourMessage, 100)] {
            let summary = run(Plan { ask, ..plan(50, mode) });
            assert!(summary.is_fine(), "{ask:?} {mode:?}: {summary:?}");
            assert_eq!((summary.answered, summary.sent), (50, sent), "{ask:?} {mode:?}");
            assert!(summary.refused.is_empty(), "{summary:?}");
        }
    }
    // There are 256 prefixes.
    let summary = run(Plan { ask: Ask::Prefix, ..plan(300, Mode::RapidCommit) });
    assert_eq!(summary.refused, [("no_prefix_avail".to_owned(), 44)].into());
    let summary = run(Plan { ask: Ask::Both, ..plan(300, Mode::RapidCommit) });
    assert_eq!(summary.answered, 300, "those without a prefix have an address");
    assert_eq!(summary.refused, [("no_prefix_avail".to_owned(), 44)].into());
}

#[test]
fn steps_are_taken_one_after_the_other() {
    use Step::{Decline, InformationRequest, Rebind, Release, Renew};
    for (then, ask, expected) in [
        (
            vec![Renew, Rebind, InformationRequest, Release],
            Ask::Both,
            [("renew", 20), ("rebind", 20), ("information_request", 20), ("release", 20)],
        ),
        (vec![Decline, Renew], Ask::Both, [("decline", 20), ("renew", 20), ("release", 0), ("rebind", 0)]),
        // Nothing is left for the Renew and the Release, and prefixes cannot be declined.
        (
            vec![Decline, Renew, Release],
            Ask::Address,
            [("decline", 20), ("renew", 0), ("release", 0), ("rebind", 0)],
        ),
        (vec![Decline, Release], Ask::Prefix, [("decline", 0), ("release", 20), ("renew", 0), ("rebind", 0)]),
    ] {
        let summary = run(Plan { then: then.clone(), ask, ..plan(20, Mode::RapidCommit) });
        assert!(summary.is_fine() && summary.answered == 20, "{then:?}: {summary:?}");
        for (kind, count) in expected {
            let answered = summary.steps.get(kind).map_or(0, |step| step.answered);
            assert_eq!(answered, count, "{kind} of {then:?}: {summary:?}");
        }
        let steps: u64 = summary.steps.values().map(|step| step.answered).sum();
        assert_eq!(summary.sent, 20 + steps, "{then:?}: {summary:?}");
    }
}

#[test]
fn addresses_that_were_given_back_are_free_for_others() {
    for (step, declined) in [(Step::Release, false), (Step::Decline, true)] {
        let engine = engine(true, "1009");
        let plan = Plan { then: vec![step], ..plan(30, Mode::RapidCommit) };
        let summary = Simulation { engine, lost: &|_| false, fault: &unharmed }.run(plan);
        assert!(summary.is_fine() && summary.answered > 10, "{step:?} with ten addresses: {summary:?}");
        // The server believes few Declines where it has few addresses.
        assert_eq!(summary.declined_again > 0, declined, "{step:?}: {summary:?}");
        assert!(summary.declined_again <= summary.answered - 10, "{step:?}: {summary:?}");
    }
}

#[test]
fn steps_that_are_not_answered_are_repeated_or_given_up() {
    for (step, patience, expected) in [
        // The Solicit, then five Releases in vain.
        (Step::Release, 120, (6, 0, 1)),
        (Step::Decline, 120, (6, 0, 1)),
        // Until the run is over: after 10 and 30 seconds.
        (Step::Renew, 60, (4, 0, 1)),
    ] {
        let simulation =
            Simulation { engine: engine(true, "1fff"), lost: &|number| number > 0, fault: &unharmed };
        let patience = Duration::from_secs(patience);
        let summary = simulation.run(Plan { then: vec![step], patience, ..plan(1, Mode::RapidCommit) });
        let counted = summary.steps.values().next().map_or((0, 0), |it| (it.answered, it.unanswered));
        assert_eq!((summary.sent, counted.0, counted.1), expected, "{step:?}: {summary:?}");
    }
    let simulation =
        Simulation { engine: engine(true, "1fff"), lost: &|number| number == 1, fault: &unharmed };
    let summary = simulation.run(Plan { then: vec![Step::Release], ..plan(1, Mode::RapidCommit) });
    assert_eq!(summary.steps["release"].answered, 1, "the second time");
}

#[test]
fn wrong_answers_to_steps_are_found() {
    type Change = fn(Vec<u8>) -> Vec<u8>;
    let other_server: Change =
        |message| with_option(&message, OptionCode::SERVER_ID, |_| Some(vec![0, 2, 9, 9]));
    let advertise: Change = |message| [&[MessageType::Advertise as u8], &message[1..]].concat();
    let other_address: Change = |message| {
        with_option(&message, OptionCode::IA_NA, |ia| Some([&ia[..31], &[ia[31] ^ 1], &ia[32..]].concat()))
    };
    let no_prefix: Change = |message| with_option(&message, OptionCode::IA_PD, |_| None);
    let long_prefix: Change = |message| {
        with_option(&message, OptionCode::IA_PD, |ia| Some([&ia[..24], &[129], &ia[25..]].concat()))
    };
    let with_address: Change = |message| [&message[..], &[0, 3, 0, 12], &[0; 12]].concat();
    for (step, change, expected, what) in [
        (Step::Renew, other_server, Some(Wrong::ServerId), "another server renews"),
        (Step::Rebind, other_server, None, "another server rebinds"),
        (Step::Renew, advertise, Some(Wrong::MessageType), "an Advertise"),
        (Step::Rebind, other_address, Some(Wrong::AddressChanged), "another address"),
        (Step::Renew, no_prefix, Some(Wrong::IaPd), "no IA_PD"),
        (Step::Renew, long_prefix, Some(Wrong::Malformed), "a prefix of 129 bits"),
        (Step::InformationRequest, with_address, Some(Wrong::IaNa), "an address for who wants none"),
    ] {
        let fault = |number, frame: Vec<u8>| {
            assert!(frame.len() > HEADERS_LEN);
            vec![if number == 1 { with_message(&frame, change) } else { frame }]
        };
        let simulation = Simulation { engine: engine(true, "1fff"), lost: &|_| false, fault: &fault };
        let summary = simulation.run(Plan { then: vec![step], ask: Ask::Both, ..plan(1, Mode::RapidCommit) });
        let found: Vec<_> =
            summary.wrong.iter().filter(|(_, count)| **count > 0).map(|(kind, _)| *kind).collect();
        assert_eq!(found, expected.iter().map(|wrong| wrong.name()).collect::<Vec<_>>(), "{what}");
    }
}

#[test]
fn one_prefix_for_all_is_found() {
    let give = |_, frame: Vec<u8>| {
        let same = |ia: &[u8]| Some([&ia[..31], &[7], &ia[32..]].concat());
        vec![with_message(&frame, |message| with_option(&message, OptionCode::IA_PD, same))]
    };
    let simulation = Simulation { engine: engine(true, "1fff"), lost: &|_| false, fault: &give };
    let summary = simulation.run(Plan { ask: Ask::Prefix, ..plan(3, Mode::RapidCommit) });
    assert_eq!(summary.wrong["duplicate_address"], 2, "{summary:?}");
}

#[test]
fn clients_are_served_behind_relay_agents() {
    let then = vec![Step::Renew, Step::Release];
    for (depth, link_address) in [(1, "2001:db8:1::1"), (2, "2001:db8:1::1"), (8, "2001:db8:1::1"), (1, "::")]
    {
        let relays = Some(Relays { depth, link_address: link_address.parse().unwrap(), chain: 0 });
        let summary = run(Plan { relays, then: then.clone(), ask: Ask::Both, ..plan(30, Mode::FourMessage) });
        assert!(summary.is_fine(), "{depth} {link_address}: {summary:?}");
        assert_eq!((summary.answered, summary.steps["release"].answered), (30, 30), "{depth} {link_address}");
    }
}

#[test]
fn the_server_with_the_highest_preference_is_taken() {
    const OTHER: [u8; 4] = [0, 2, 9, 9];
    // A second server's Advertise comes behind each of the first one's; its Reply is made of the first one's.
    for (preference, by_preference, taken, seconds, what) in [
        (Some(7), true, true, 1, "the better one"),
        (Some(7), false, false, 0, "the first one"),
        (None, true, false, 1, "both are the same"),
        (Some(255), true, true, 0, "the best, at once"),
    ] {
        let other = |message: Vec<u8>| {
            let mut message = with_option(&message, OptionCode::SERVER_ID, |_| Some(OTHER.to_vec()));
            message.extend(preference.iter().flat_map(|preference| [0, 7, 0, 1, *preference]));
            message
        };
        let fault = |_, frame: Vec<u8>| match frame[HEADERS_LEN] {
            2 => vec![frame.clone(), with_message(&frame, other)],
            _ => vec![frame],
        };
        let simulation = Simulation { engine: engine(false, "1fff"), lost: &|_| false, fault: &fault };
        let patience = Duration::from_secs(3);
        let summary = simulation.run(Plan { by_preference, patience, ..plan(1, Mode::FourMessage) });
        // The engine does not answer a Request that names another server.
        let asked_other = summary.answered == 0 && summary.sent_by_type["request"] > 0;
        assert_eq!(asked_other, taken, "{what}: {summary:?}");
        assert!(summary.wrong_replies == 0, "{what}: {summary:?}");
        let latency = summary.latency_us.map_or(seconds, |latency| latency.max.as_secs());
        assert_eq!(latency, seconds, "{what}: {summary:?}");
        let requests = if taken && seconds == 0 { 2 } else { 1 };
        assert!(summary.sent_by_type["request"] >= requests, "{what}: {summary:?}");
    }
}
