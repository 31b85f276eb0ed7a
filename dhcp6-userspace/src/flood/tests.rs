//! A population and the real engine in one memory, in virtual time.

mod mix;
mod neighbors;
mod steps;
mod wrong;

use std::{
    collections::BTreeMap,
    net::Ipv6Addr,
    sync::Arc,
    time::{Duration, Instant},
};

use dhcp6_common::{Vlan, wire::Duid};

use super::{
    Ask, Frame, Mix, Mode, Pace, Plan, Summary,
    client::Identity,
    frame::{HEADERS_LEN, udp},
    population::Population,
    shared::Shared,
};
use crate::{
    config::Config,
    engine::{Arrival, Engine},
    lease::Contents,
    time::Time,
};

const SERVER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const SERVER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
/// From a client to the server and back, each.
const WAY: Duration = Duration::from_micros(50);

/// How long a run may take.
const MINUTE: Duration = Duration::from_mins(1);

/// Which of the frames to the server are lost.
type Lost = fn(usize) -> bool;
/// What is done to a frame from the server, by its number.
type Fault<'a> = &'a dyn Fn(usize, Vec<u8>) -> Vec<Vec<u8>>;

/// The network between a population and an engine.
struct Simulation<'a> {
    engine: Engine,
    /// Which of the frames to the server are lost.
    lost: &'a dyn Fn(usize) -> bool,
    fault: Fault<'a>,
}

fn plan(clients: u32, mode: Mode) -> Plan {
    let (ask, then, relays, by_preference) = (Ask::Address, Vec::new(), None, false);
    Plan {
        clients,
        mode,
        ask,
        then,
        mix: Mix::default(),
        dad: None,
        relays,
        by_preference,
        pace: Pace::Window(8),
        duration: None,
        patience: MINUTE,
        messages: u64::MAX,
    }
}

fn engine(rapid_commit: bool, last_address: &str) -> Engine {
    let text = format!(
        r#"
        [[link]]
        name = "access0"
        interface = "eth1"
        prefix = "2001:db8:1::/64"
        rapid_commit = {rapid_commit}
        [[link.pool]]
        range = "2001:db8:1::1000-2001:db8:1::{last_address}"
        [[link.prefix_pool]]
        prefix = "2001:db8:8000::/48"
        delegated_length = 56
        "#
    );
    let config = Config::parse(&text, "test.toml").unwrap();
    let duid = Duid::new(&[0, 3, 0, 1, 2, 0, 0, 0, 0, 1]).unwrap();
    Engine::new(&config, duid, Contents::default(), Time::from_millis(1_700_000_000_000), 1)
}

fn unharmed(_number: usize, frame: Vec<u8>) -> Vec<Vec<u8>> {
    vec![frame]
}

/// All clients of a plan.
fn population(plan: Plan, start: Instant) -> Population {
    let numbers = 0..plan.clients;
    Population::new(plan, numbers, Arc::new(Shared::new()), start, 1)
}

/// The next frame that is to be sent now.
fn transmit(population: &mut Population, now: Instant) -> Option<Vec<u8>> {
    let mut frame = vec![9; 300];
    population.poll_transmit(now, &mut frame).then_some(frame)
}

impl Simulation<'_> {
    fn run(mut self, plan: Plan) -> Summary {
        let start = Instant::now();
        let mut now = start;
        let whole = plan.clone();
        let mut population = population(plan, start);
        // What arrives when, in the order it was sent.
        let mut to_server: BTreeMap<(Instant, usize), Vec<u8>> = BTreeMap::new();
        let mut to_clients: BTreeMap<(Instant, usize), Vec<u8>> = BTreeMap::new();
        let (mut requests, mut answers, mut copies) = (0, 0, 0);
        while !population.is_finished(now) {
            while let Some(frame) = transmit(&mut population, now) {
                if !(self.lost)(requests) {
                    to_server.insert((now + WAY, requests), frame);
                }
                requests += 1;
            }
            if population.is_finished(now) {
                break;
            }
            let next = [
                Some(population.next_timeout()),
                to_server.first_key_value().map(|((at, _), _)| *at),
                to_clients.first_key_value().map(|((at, _), _)| *at),
            ];
            now = next.into_iter().flatten().min().expect("a run has an end").max(now);
            while let Some(entry) = to_server.first_entry().filter(|entry| entry.key().0 <= now) {
                let request = entry.remove();
                if let Some(answer) = self.serve(now - start, &request) {
                    for frame in (self.fault)(answers, answer) {
                        to_clients.insert((now + WAY, copies), frame);
                        copies += 1;
                    }
                    answers += 1;
                }
            }
            while let Some(entry) = to_clients.first_entry().filter(|entry| entry.key().0 <= now) {
                population.handle(now, Frame { octets: &entry.remove(), checksum_offloaded: false });
            }
        }
        Summary::new(&whole, 1, vec![population.tally(now)], 0)
    }

    /// The server's answer to a client's frame, in a frame.
    fn serve(&mut self, passed: Duration, request: &[u8]) -> Option<Vec<u8>> {
        let now = Time::from_millis(1_700_000_000_000).after(passed);
        let arrival = Arrival { link: Some(0), vlan: Vlan::NONE, mac: None, multicast: true };
        let answer = self.engine.handle(now, arrival, &request[HEADERS_LEN..]).ok()?;
        let changes = self.engine.take_changes();
        self.engine.committed(now, &changes);
        let client: [u8; 6] = *request[6..].first_chunk().unwrap();
        let address: [u8; 16] = *request[22..].first_chunk().unwrap();
        // To the port that it came from: a client's, or a relay agent's.
        let port = u16::from_be_bytes(*request[54..].first_chunk().unwrap());
        Some(udp((SERVER_MAC, SERVER, 547), (client, address.into(), port), &answer.message))
    }
}

fn to_client(mac: [u8; 6], address: Ipv6Addr, message: &[u8]) -> Vec<u8> {
    udp((SERVER_MAC, SERVER, 547), (mac, address, 546), message)
}

#[test]
fn clients_get_their_addresses() {
    let none_lost = (|_| false) as Lost;
    let every_third_lost = (|number| number % 3 == 2) as Lost;
    let (four, rapid) = (Mode::FourMessage, Mode::RapidCommit);
    let window = Pace::Window(8);
    let cases = [
        // what, mode, rapid commit allowed, pace, lost, [Solicits, Requests, Advertises, Replies]
        ("four messages", four, false, window, none_lost, [100, 100, 100, 100]),
        ("nobody asks for rapid commit", four, true, window, none_lost, [100, 100, 100, 100]),
        ("rapid commit", rapid, true, window, none_lost, [100, 0, 0, 100]),
        ("rapid commit refused", rapid, false, window, none_lost, [100, 100, 100, 100]),
        ("at a rate", rapid, true, Pace::Rate(1000.0), none_lost, [100, 0, 0, 100]),
        ("losses", rapid, true, window, every_third_lost, [149, 0, 0, 100]),
        ("losses at a rate", rapid, true, Pace::Rate(1000.0), every_third_lost, [149, 0, 0, 100]),
    ];
    for (what, mode, rapid_commit, pace, lost, [solicits, requests, advertises, replies]) in cases {
        let simulation = Simulation { engine: engine(rapid_commit, "1fff"), lost: &lost, fault: &unharmed };
        let summary = simulation.run(Plan { pace, ..plan(100, mode) });
        assert!(summary.is_fine(), "{what}: {summary:?}");
        assert_eq!((summary.started, summary.answered, summary.unanswered), (100, 100, 0), "{what}");
        let sent = [("request", requests), ("solicit", solicits)].into();
        assert_eq!(summary.sent_by_type, sent, "{what}");
        assert_eq!(
            summary.received_by_type,
            [("advertise", advertises), ("reply", replies)].into(),
            "{what}"
        );
        assert_eq!(summary.retransmissions, solicits - 100, "{what}");
        let latency = summary.latency_us.unwrap();
        let round_trips = if requests > 0 { 2 } else { 1 };
        let expected = 2 * WAY * round_trips;
        assert!(latency.p50.abs_diff(expected) < expected / 100, "{what}: {latency:?}");
        let lossy = latency.max > Duration::from_secs(1);
        assert_eq!(lossy, solicits > 100, "{what}: SOL_TIMEOUT is 1 s: {latency:?}");
    }
}

#[test]
fn a_lost_request_is_sent_again() {
    let simulation =
        Simulation { engine: engine(false, "1fff"), lost: &|number| number == 1, fault: &unharmed };
    let summary = simulation.run(plan(1, Mode::FourMessage));
    assert_eq!(summary.sent_by_type, [("request", 2), ("solicit", 1)].into());
    assert_eq!((summary.answered, summary.retransmissions), (1, 1));
    let waited = summary.latency_us.unwrap().max;
    assert!((0.9..1.11).contains(&waited.as_secs_f64()), "REQ_TIMEOUT is 1 s: {waited:?}");
}

#[test]
fn clients_have_their_turn_again_and_keep_their_addresses() {
    for (pace, expected, what) in [
        // 8 at a time, 100 µs each.
        (Pace::Window(8), 19_900..=20_000, "window"),
        // There are no more than 10 clients.
        (Pace::Window(1000), 24_900..=25_000, "window beyond the clients"),
        (Pace::Rate(400.0), 100..=100, "rate"),
    ] {
        let simulation = Simulation { engine: engine(true, "1fff"), lost: &|_| false, fault: &unharmed };
        let duration = Some(Duration::from_millis(250));
        let summary = simulation.run(Plan { pace, duration, ..plan(10, Mode::RapidCommit) });
        assert!(summary.is_fine(), "{what}: {summary:?}");
        assert!(expected.contains(&summary.answered), "{what}: {}", summary.answered);
        assert_eq!(summary.answered, summary.started, "{what}");
        assert_eq!(summary.seconds.as_millis(), 250, "{what}");
    }
}

#[test]
fn a_run_is_bounded() {
    let duration = Some(Duration::from_secs(5));
    let (silence, some) = ((|_| true) as Lost, (|number| number >= 40) as Lost);
    for (plan, lost, seconds, what) in [
        (plan(100, Mode::FourMessage), silence, 60, "silence"),
        (Plan { duration, ..plan(100, Mode::FourMessage) }, silence, 6, "silence, and grace"),
        (Plan { messages: 50, ..plan(100, Mode::FourMessage) }, some, 60, "messages"),
    ] {
        let start = Instant::now();
        let summary =
            Simulation { engine: engine(false, "1fff"), lost: &lost, fault: &unharmed }.run(plan.clone());
        assert!(start.elapsed() < Duration::from_secs(5), "{what}: virtual time");
        assert!(summary.seconds <= Duration::from_secs(seconds), "{what}: {summary:?}");
        assert_eq!(summary.unanswered, 8, "{what}: the window");
        assert_eq!(summary.started, summary.answered + summary.unanswered, "{what}");
        assert!(summary.sent <= plan.messages, "{what}");
        assert_eq!(summary.is_fine(), summary.answered > 0, "{what}");
    }
}

#[test]
fn a_storm_is_timed() {
    const AT_ONCE: Duration = Duration::from_millis(1);
    let none = (|_| false) as Lost;
    let every_tenth = (|number| number < 100 && number % 10 == 0) as Lost;
    let all_but_one_twice = (|number| number < 200 && number % 100 < 99) as Lost;
    let (at_once, delayed) = (Pace::Storm { initial_delay: false }, Pace::Storm { initial_delay: true });
    // Round trip: 100 µs. SOL_TIMEOUT: 1 s to 1.1 s.
    for (what, pace, mode, lost, [to_50, to_99, to_100], first_try, most) in [
        ("none lost", at_once, Mode::RapidCommit, none, [(0.0, 0.001); 3], 100..=100, 0..=0),
        ("four messages", at_once, Mode::FourMessage, none, [(0.0, 0.001); 3], 100..=100, 0..=0),
        (
            "delayed",
            delayed,
            Mode::RapidCommit,
            none,
            [(0.3, 0.7), (0.8, 1.01), (0.9, 1.01)],
            100..=100,
            0..=0,
        ),
        (
            "a tenth lost",
            at_once,
            Mode::RapidCommit,
            every_tenth,
            [(0.0, 0.001), (1.0, 1.11), (1.0, 1.11)],
            90..=90,
            1..=1,
        ),
        (
            "all but one lost twice",
            at_once,
            Mode::RapidCommit,
            all_but_one_twice,
            [(2.8, 3.5); 3],
            1..=1,
            2..=2,
        ),
    ] {
        let simulation = Simulation { engine: engine(true, "1fff"), lost: &lost, fault: &unharmed };
        let summary = simulation.run(Plan { pace, ..plan(100, mode) });
        assert!(summary.is_fine(), "{what}: {summary:?}");
        let storm = summary.storm.expect("a storm");
        assert_eq!(storm.initial_delay, pace == delayed, "{what}");
        for (took, (least, most)) in [(storm.to_50, to_50), (storm.to_99, to_99), (storm.to_100, to_100)] {
            let took = took.expect("everybody is served").as_secs_f64();
            assert!((least..=most).contains(&took), "{what}: {took} of {least} to {most}: {storm:?}");
        }
        assert!(first_try.contains(&summary.first_try), "{what}: {summary:?}");
        assert!(most.contains(&summary.most_retransmissions), "{what}: {summary:?}");
        assert_eq!(summary.histogram.iter().map(|class| class.count).sum::<u64>(), 100, "{what}");
        let slow: u64 = summary.histogram.iter().filter(|it| it.below_us > AT_ONCE).map(|it| it.count).sum();
        let expected = 100 - summary.first_try;
        assert_eq!(slow, expected, "{what}: SOL_TIMEOUT is 1 s: {:?}", summary.histogram);
    }
}

#[test]
fn a_storm_that_is_not_over_in_time_says_how_far_it_got() {
    let half = |number| number >= 60;
    let simulation = Simulation { engine: engine(true, "1fff"), lost: &half, fault: &unharmed };
    let pace = Pace::Storm { initial_delay: false };
    let patience = Duration::from_secs(10);
    let summary = simulation.run(Plan { pace, patience, ..plan(100, Mode::RapidCommit) });
    let storm = summary.storm.expect("a storm");
    assert!(storm.to_50.is_some() && storm.to_99.is_none() && storm.to_100.is_none(), "{storm:?}");
    assert_eq!((summary.answered, summary.unanswered), (60, 40));
    assert_eq!(summary.seconds, patience.min(summary.seconds), "bounded");
    // After 1, 3 and 7 seconds.
    assert_eq!((summary.most_retransmissions, summary.retransmissions), (3, 120));
}

#[test]
fn clients_of_a_storm_look_for_a_server_again() {
    // Nobody hears Requests for 5 minutes: eleven of them, then a Solicit.
    let simulation = Simulation {
        engine: engine(false, "1fff"),
        lost: &|number| (1..12).contains(&number),
        fault: &unharmed,
    };
    let (pace, patience) = (Pace::Storm { initial_delay: false }, Duration::from_mins(10));
    let summary = simulation.run(Plan { pace, patience, ..plan(1, Mode::FourMessage) });
    assert!(summary.is_fine(), "{summary:?}");
    assert_eq!(summary.sent_by_type, [("request", 12), ("solicit", 2)].into());
    let latency = summary.latency_us.expect("an answer").max;
    assert!(latency > Duration::from_mins(2), "from when the power came back: {latency:?}");
}

#[test]
fn a_full_pool_refuses() {
    let simulation = Simulation { engine: engine(true, "1009"), lost: &|_| false, fault: &unharmed };
    let summary = simulation.run(plan(15, Mode::RapidCommit));
    assert!(summary.is_fine(), "that is no mistake of the server: {summary:?}");
    assert_eq!((summary.answered, summary.unanswered), (10, 0));
    assert_eq!(summary.refused, [("no_addrs_avail".to_owned(), 5)].into());
}

#[test]
fn late_and_foreign_replies_are_not_wrong() {
    let stranger = |frame: &[u8]| to_client([2, 9, 9, 9, 9, 9], SERVER, &frame[HEADERS_LEN..]);
    for (fault, late, foreign, what) in [
        ((&|_, frame: Vec<u8>| vec![frame.clone(), frame]) as Fault<'_>, 20, 0, "each answer twice"),
        (&|_, frame: Vec<u8>| vec![stranger(&frame), frame], 0, 20, "and one to a stranger"),
    ] {
        let simulation = Simulation { engine: engine(false, "1fff"), lost: &|_| false, fault };
        let summary = simulation.run(plan(10, Mode::FourMessage));
        assert!(summary.is_fine(), "{what}: {summary:?}");
        // The run is over with the last answer, whatever comes behind it.
        assert!(summary.late.abs_diff(late) <= 1, "{what}: {}", summary.late);
        assert!(summary.foreign == foreign, "{what}: {}", summary.foreign);
    }
}

#[test]
fn solicitations_for_clients_are_answered() {
    let start = Instant::now();
    let client = Identity(3);
    let idle = Plan { messages: 0, ..plan(4, Mode::FourMessage) };
    for (target, hop_limit, answered) in [
        (client.link_local(), 255, true),
        (client.link_local(), 64, false),
        (Identity(4).link_local(), 255, false),
        (SERVER, 255, false),
    ] {
        let mut population = population(idle.clone(), start);
        let octets = solicitation(target, hop_limit);
        population.handle(start, Frame { octets: &octets, checksum_offloaded: false });
        let advertisement = transmit(&mut population, start);
        assert_eq!(advertisement.is_some(), answered, "{target} {hop_limit}");
        let Some(advertisement) = advertisement else { continue };
        assert_eq!(advertisement[..6], SERVER_MAC, "to who asked");
        assert_eq!(advertisement[6..12], client.mac());
        assert_eq!(advertisement[22..38], target.octets());
        assert_eq!(advertisement[38..54], SERVER.octets());
        assert_eq!((advertisement[54], advertisement[58]), (136, 0x60), "Solicited and Override");
        assert_eq!(advertisement[62..78], target.octets());
        assert_eq!(advertisement[78..80], [2, 1], "Target Link-Layer Address");
    }
}

/// A server's Neighbor Solicitation.
fn solicitation(target: Ipv6Addr, hop_limit: u8) -> Vec<u8> {
    let [.., x, y, z] = target.octets();
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(x), u16::from(y) << 8 | u16::from(z));
    let mut message = vec![135, 0, 0, 0, 0, 0, 0, 0];
    message.extend(target.octets());
    message.extend([1, 1]);
    message.extend(SERVER_MAC);
    let sum = dhcp6_common::wire::Sum::ZERO
        .add_octets(&SERVER.octets())
        .add_octets(&group.octets())
        .add_octets(&[0, 0, 0, message.len() as u8, 0, 0, 0, 58])
        .add_octets(&message);
    message[2..4].copy_from_slice(&sum.finish().to_ne_bytes());
    let mut frame = vec![0x33, 0x33, 0xff, x, y, z];
    frame.extend(SERVER_MAC);
    frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, message.len() as u8, 58, hop_limit]);
    frame.extend(SERVER.octets());
    frame.extend(group.octets());
    frame.extend(message);
    frame
}
