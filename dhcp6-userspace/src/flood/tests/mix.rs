//! Clients that do different things when it is their turn again.

use std::time::Duration;

use super::{Simulation, engine, plan, unharmed};
use crate::flood::{Mix, MixError, Mode, Plan, Step, Summary};

fn run(shares: &[(Step, u8)]) -> Summary {
    let mix = Mix::new(shares.to_vec()).unwrap();
    let duration = Some(Duration::from_millis(200));
    Simulation { engine: engine(true, "1fff"), lost: &|_| false, fault: &unharmed }.run(Plan {
        mix,
        duration,
        ..plan(50, Mode::RapidCommit)
    })
}

#[test]
fn shares_are_kept() {
    let shares = [
        (Step::Renew, 60),
        (Step::Rebind, 5),
        (Step::Release, 5),
        (Step::Decline, 1),
        (Step::InformationRequest, 10),
    ];
    let summary = run(&shares);
    assert!(summary.is_fine(), "{summary:?}");
    let taken = |name: &str| summary.steps.get(name).map_or(0, |step| step.answered);
    let names = ["renew", "rebind", "release", "decline", "information_request"];
    let turns = summary.answered + names.map(taken).iter().sum::<u64>();
    assert!(turns > 10_000, "8 at a time, 100 µs each, 200 ms: {turns}");
    for (name, (_, share)) in names.into_iter().zip(shares) {
        // Who has given its lease back has to begin anew, which makes the others' shares a little smaller.
        let part = 100 * taken(name) / turns;
        assert!(part.abs_diff(share.into()) <= 4, "{name}: {part} instead of {share}");
    }
    let given_back = taken("release") + taken("decline");
    assert!(summary.answered >= given_back, "who has given its lease back gets another: {summary:?}");
}

#[test]
fn without_a_share_left_clients_solicit_once() {
    let summary = run(&[(Step::Renew, 100)]);
    assert_eq!((summary.answered, summary.started), (50, 50), "{summary:?}");
    assert!(summary.steps["renew"].answered > 10_000, "{summary:?}");
    assert!(summary.steps["renew"].latency_us.is_some());
    assert_eq!(summary.unanswered, 0, "a Renew is no exchange that was begun: {summary:?}");
}

#[test]
fn mixes_have_limits() {
    for (shares, expected) in [
        (vec![], Ok(())),
        (vec![(Step::Renew, 100)], Ok(())),
        (vec![(Step::Renew, 60), (Step::Rebind, 41)], Err(MixError::TooMuch(101))),
        (vec![(Step::Renew, 1), (Step::Renew, 1)], Err(MixError::Twice("renew"))),
    ] {
        assert_eq!(Mix::new(shares.clone()).map(drop), expected, "{shares:?}");
    }
}
