//! What a run has found.

use std::{collections::BTreeMap, time::Duration};

use dhcp6_common::wire::MessageType;
use hdrhistogram::Histogram;
use serde::{Serialize, Serializer};

use super::{Ask, Mode, Pace, Plan, Step, Wrong};

/// The longest latency that is told apart from longer ones.
const LONGEST: u64 = 3600 * 1_000_000_000;

/// Hundredths of the clients whose service is timed.
const PARTS: [u64; 3] = [50, 99, 100];
/// The upper end of the histogram's first class; each class reaches twice as far as the one before.
const FIRST_CLASS: Duration = Duration::from_micros(1);

/// Transmissions of a client that are told apart: those beyond are counted with the last.
const TRANSMISSIONS: usize = 16;

/// What a population counts.
#[derive(Debug)]
pub(super) struct Counters {
    pub(super) started: u64,
    pub(super) answered: u64,
    /// By status code.
    refused: BTreeMap<u16, u64>,
    /// Exchanges without an end.
    pub(super) unanswered: u64,
    pub(super) not_started: u64,
    /// By the code of the message type.
    sent: [u64; TYPES],
    received: [u64; TYPES],
    pub(super) retransmissions: u64,
    /// Completed exchanges by the number of retransmissions that they took.
    by_retransmissions: [u64; TRANSMISSIONS],
    /// In one exchange.
    pub(super) most_retransmissions: u32,
    /// When the parts [`PARTS`] of the clients had completed an exchange, in nanoseconds from the start of the run.
    milestones: [Option<u64>; PARTS.len()],
    wrong: [u64; Wrong::ALL.len()],
    pub(super) late: u64,
    pub(super) foreign: u64,
    /// Leases of addresses that a client had declined.
    pub(super) declined_again: u64,
    pub(super) neighbor_solicitations: u64,
    pub(super) dad: Dad,
    latencies: Latencies,
    steps: [StepCounters; Step::ALL.len()],
}

/// Message types that are counted by their code; others are counted as 0.
const TYPES: usize = 16;

impl Counters {
    pub(super) fn new() -> Self {
        Self {
            started: 0,
            answered: 0,
            refused: BTreeMap::new(),
            unanswered: 0,
            not_started: 0,
            sent: [0; TYPES],
            received: [0; TYPES],
            retransmissions: 0,
            by_retransmissions: [0; TRANSMISSIONS],
            most_retransmissions: 0,
            milestones: [None; PARTS.len()],
            wrong: [0; Wrong::ALL.len()],
            late: 0,
            foreign: 0,
            declined_again: 0,
            neighbor_solicitations: 0,
            dad: Dad { checked: 0, conflicts: 0 },
            latencies: Latencies::new(),
            steps: Default::default(),
        }
    }

    pub(super) fn sent(&mut self, kind: MessageType) {
        self.sent[kind as usize % TYPES] += 1;
    }

    /// Counts a message by the code of its type.
    pub(super) fn received(&mut self, code: u8) {
        let known = usize::from(code) < TYPES;
        self.received[if known { usize::from(code) } else { 0 }] += 1;
    }

    /// Counts a lease that was refused with a status.
    pub(super) fn refused(&mut self, status: u16) {
        *self.refused.entry(status).or_default() += 1;
    }

    /// Counts a completed exchange. Times are in nanoseconds, `now` from the start of the run; `served` is how many
    /// clients were served by now, of how many.
    pub(super) fn answered(&mut self, latency: u64, retransmissions: u32, now: u64, served: (u64, u32)) {
        self.answered += 1;
        self.by_retransmissions[(retransmissions as usize).min(TRANSMISSIONS - 1)] += 1;
        for (part, milestone) in PARTS.iter().zip(&mut self.milestones) {
            if milestone.is_none() && served.0 * 100 >= u64::from(served.1) * part {
                *milestone = Some(now);
            }
        }
        self.latencies.record(latency, 1);
    }

    pub(super) fn wrong(&mut self, wrong: Wrong) {
        self.wrong[wrong as usize] += 1;
    }

    /// What is counted of a step.
    pub(super) fn step(&mut self, step: Step) -> &mut StepCounters {
        &mut self.steps[step as usize]
    }

    /// Adds what other clients of the same run have counted.
    fn add(&mut self, other: &Self) {
        let Self {
            started,
            answered,
            refused,
            unanswered,
            not_started,
            sent,
            received,
            retransmissions,
            by_retransmissions,
            most_retransmissions,
            milestones,
            wrong,
            late,
            foreign,
            declined_again,
            neighbor_solicitations,
            dad,
            latencies,
            steps,
        } = self;
        *started += other.started;
        *answered += other.answered;
        for (status, count) in &other.refused {
            *refused.entry(*status).or_default() += count;
        }
        *unanswered += other.unanswered;
        *not_started += other.not_started;
        add_each(sent, &other.sent);
        add_each(received, &other.received);
        *retransmissions += other.retransmissions;
        add_each(by_retransmissions, &other.by_retransmissions);
        *most_retransmissions = other.most_retransmissions.max(*most_retransmissions);
        for (milestone, other) in milestones.iter_mut().zip(other.milestones) {
            *milestone = [*milestone, other].into_iter().flatten().min();
        }
        add_each(wrong, &other.wrong);
        *late += other.late;
        *foreign += other.foreign;
        *declined_again += other.declined_again;
        *neighbor_solicitations += other.neighbor_solicitations;
        dad.checked += other.dad.checked;
        dad.conflicts += other.dad.conflicts;
        latencies.add(&other.latencies);
        for (step, other) in steps.iter_mut().zip(&other.steps) {
            step.answered += other.answered;
            step.refused += other.refused;
            step.unanswered += other.unanswered;
            step.latencies.add(&other.latencies);
        }
    }

    /// What was counted of each step.
    fn steps(&self) -> BTreeMap<&'static str, StepSummary> {
        let summary = |(step, counters): (Step, &StepCounters)| {
            let StepCounters { answered, refused, unanswered, latencies } = counters;
            let (answered, refused, unanswered) = (*answered, *refused, *unanswered);
            let latency_us = latencies.quantiles();
            let taken = answered + refused + unanswered > 0;
            taken
                .then_some((step.message().name(), StepSummary { answered, refused, unanswered, latency_us }))
        };
        Step::ALL.into_iter().zip(&self.steps).filter_map(summary).collect()
    }
}

fn add_each(sums: &mut [u64], others: &[u64]) {
    for (sum, other) in sums.iter_mut().zip(others) {
        *sum += other;
    }
}

/// Counts by message type: those that are not 0, and these types anyway.
fn by_type(counts: &[u64; TYPES], always: [MessageType; 2]) -> BTreeMap<&'static str, u64> {
    let counted = counts.iter().enumerate().filter(|(_, count)| **count > 0).map(|(code, count)| {
        (MessageType::from_code(code as u8).map_or("unknown", MessageType::name), *count)
    });
    let mut counts: BTreeMap<_, _> = always.into_iter().map(|kind| (kind.name(), 0)).collect();
    counts.extend(counted);
    counts
}

/// What some of the clients of a run have found.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) counters: Counters,
    /// From the start to the last answer, or to the end of a run of a given length or one that is not complete.
    pub(super) seconds: Duration,
}

impl Summary {
    /// What all clients have found.
    pub(super) fn new(plan: &Plan, threads: u32, tallies: Vec<Tally>, socket_drops: u64) -> Self {
        let mut counters = Counters::new();
        let mut seconds = Duration::ZERO;
        for tally in tallies {
            counters.add(&tally.counters);
            seconds = seconds.max(tally.seconds);
        }
        let Counters {
            started,
            answered,
            refused,
            unanswered,
            not_started,
            sent,
            received,
            retransmissions,
            by_retransmissions,
            most_retransmissions,
            milestones,
            wrong,
            late,
            foreign,
            declined_again,
            neighbor_solicitations,
            dad,
            latencies,
            ..
        } = &counters;
        let nanoseconds = |at: Option<u64>| at.map(Duration::from_nanos);
        let [to_50, to_99, to_100] = milestones.map(nanoseconds);
        let storm = match plan.pace {
            Pace::Storm { initial_delay } => Some(Storm { initial_delay, to_50, to_99, to_100 }),
            _ => None,
        };
        let by_transmissions = by_retransmissions.iter().enumerate().filter(|(_, count)| **count > 0);
        Self {
            mode: plan.mode,
            ask: plan.ask,
            clients: plan.clients,
            threads,
            seconds,
            sent: sent.iter().sum(),
            received: received.iter().sum(),
            started: *started,
            answered: *answered,
            refused: refused.iter().map(|(code, count)| (status_name(*code), *count)).collect(),
            unanswered: *unanswered,
            not_started: *not_started,
            rate: per_second(*answered, seconds),
            latency_us: latencies.quantiles(),
            histogram: latencies.classes(),
            retransmissions: *retransmissions,
            first_try: by_retransmissions[0],
            by_transmissions: by_transmissions.map(|(number, count)| (number as u32 + 1, *count)).collect(),
            most_retransmissions: *most_retransmissions,
            storm,
            steps: counters.steps(),
            dad: plan.dad.map(|_| *dad),
            sent_by_type: by_type(sent, [MessageType::Solicit, MessageType::Request]),
            received_by_type: by_type(received, [MessageType::Advertise, MessageType::Reply]),
            wrong_replies: wrong.iter().sum(),
            wrong: Wrong::ALL.iter().map(|kind| (kind.name(), wrong[*kind as usize])).collect(),
            late: *late,
            foreign: *foreign,
            declined_again: *declined_again,
            neighbor_solicitations: *neighbor_solicitations,
            socket_drops,
        }
    }
}

/// Rounded to a tenth.
pub(super) fn per_second(count: u64, time: Duration) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a rate, for people and plots")]
    let rate = if time.is_zero() { 0.0 } else { count as f64 / time.as_secs_f64() };
    (rate * 10.0).round() / 10.0
}

/// What is counted of a step.
#[derive(Debug, Default)]
pub(super) struct StepCounters {
    answered: u64,
    refused: u64,
    pub(super) unanswered: u64,
    latencies: Latencies,
}

impl StepCounters {
    /// Counts a step that was answered, after so many nanoseconds.
    pub(super) fn done(&mut self, latency: u64, refused: bool) {
        *(if refused { &mut self.refused } else { &mut self.answered }) += 1;
        self.latencies.record(latency, 1);
    }
}

/// A histogram of latencies, in nanoseconds.
#[derive(Debug)]
pub(super) struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        Self::new()
    }
}

impl Latencies {
    pub(super) fn new() -> Self {
        Self(Histogram::new_with_bounds(1, LONGEST, 3).expect("the bounds are valid"))
    }

    /// Adds so many latencies, in nanoseconds.
    pub(super) fn record(&mut self, latency: u64, count: u64) {
        // Even none of them would count for the maximum.
        if count == 0 {
            return;
        }
        self.0.saturating_record_n(latency, count);
    }

    /// Adds those of another histogram.
    fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("both have the same bounds");
    }

    /// How many there are.
    pub(super) fn count(&self) -> u64 {
        self.0.len()
    }

    /// The latencies in classes, from the first to the last that is not empty.
    pub(super) fn classes(&self) -> Vec<LatencyClass> {
        let first = u64::try_from(FIRST_CLASS.as_nanos()).unwrap_or(LONGEST);
        let classes = self.0.iter_log(first, 2.0).map(|class| LatencyClass {
            below_us: Duration::from_nanos(class.value_iterated_to() + 1),
            count: class.count_since_last_iteration(),
        });
        classes.skip_while(|class| class.count == 0).collect()
    }

    pub(super) fn quantiles(&self) -> Option<Latency> {
        let at = |quantile| Duration::from_nanos(self.0.value_at_quantile(quantile));
        (!self.0.is_empty()).then(|| Latency {
            p50: at(0.5),
            p99: at(0.99),
            p999: at(0.999),
            max: Duration::from_nanos(self.0.max()),
        })
    }
}

/// The result of a run: one JSON document.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Which messages an exchange has.
    pub mode: Mode,
    /// What clients asked for.
    pub ask: Ask,
    /// How many clients there were.
    pub clients: u32,
    /// How many threads played them.
    pub threads: u32,
    /// From the first message to the last answer, or to the end of a run of a given length or of one that is not
    /// complete.
    #[serde(serialize_with = "seconds")]
    pub seconds: Duration,
    /// DHCPv6 messages sent.
    pub sent: u64,
    /// DHCPv6 messages received by a simulated client.
    pub received: u64,
    /// Exchanges that were begun: the sum of `answered`, `refused` and `unanswered`.
    pub started: u64,
    /// Exchanges that ended with an address.
    pub answered: u64,
    /// Exchanges that ended with a status instead of an address, by the status.
    pub refused: BTreeMap<String, u64>,
    /// Exchanges without an end: outstanding when the run was over, or given up by the client.
    pub unanswered: u64,
    /// Exchanges that were due while every client had one outstanding.
    pub not_started: u64,
    /// Exchanges answered in a second.
    pub rate: f64,
    /// From when an exchange was due to its end; none where there was no end.
    pub latency_us: Option<Latency>,
    /// The latencies in classes.
    pub histogram: Vec<LatencyClass>,
    /// Messages sent again.
    pub retransmissions: u64,
    /// Completed exchanges in which no message was sent again.
    pub first_try: u64,
    /// Completed exchanges, by the transmission that was answered last: 1 is the first, and 16 stands for that and all
    /// later ones. A message that was not repeated does not count, so 1 is that of an exchange without retransmissions.
    pub by_transmissions: BTreeMap<u32, u64>,
    /// The most messages that were sent again in one exchange, whether it was completed or not.
    pub most_retransmissions: u32,
    /// What clients did with their leases, by message type.
    pub steps: BTreeMap<&'static str, StepSummary>,
    /// Where clients look for others with their address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dad: Option<Dad>,
    /// Of a storm only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storm: Option<Storm>,
    /// Messages sent, by type.
    pub sent_by_type: BTreeMap<&'static str, u64>,
    /// Messages received, by type.
    pub received_by_type: BTreeMap<&'static str, u64>,
    /// The sum of `wrong`.
    pub wrong_replies: u64,
    /// Wrong replies by kind.
    pub wrong: BTreeMap<&'static str, u64>,
    /// Replies to exchanges that were over.
    pub late: u64,
    /// DHCPv6 messages to others than the simulated clients.
    pub foreign: u64,
    /// Leases of addresses that a client of this run had declined before. How long a server remembers that is left to
    /// it (RFC 9915, section 18.3.8).
    pub declined_again: u64,
    /// Neighbor Solicitations that were answered.
    pub neighbor_solicitations: u64,
    /// Frames that the kernel dropped before they were read; a reply among them looks like one that the server
    /// has not sent.
    pub socket_drops: u64,
}

impl Summary {
    /// Whether the server did what it has to do: at least one exchange was completed, and no reply was wrong.
    pub fn is_fine(&self) -> bool {
        self.answered > 0 && self.wrong_replies == 0
    }
}

/// How long a storm lasted: from its start until that many hundredths of the clients were served; none where they
/// were not. In JSON: seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Storm {
    /// Whether clients waited for up to a second before their first Solicit.
    pub initial_delay: bool,
    /// Half of the clients.
    #[serde(serialize_with = "maybe_seconds")]
    pub to_50: Option<Duration>,
    /// All but a hundredth.
    #[serde(serialize_with = "maybe_seconds")]
    pub to_99: Option<Duration>,
    /// All.
    #[serde(serialize_with = "maybe_seconds")]
    pub to_100: Option<Duration>,
}

/// Completed exchanges whose latency is below this and not in a class before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct LatencyClass {
    /// The upper end. In JSON: microseconds.
    #[serde(serialize_with = "microseconds")]
    pub below_us: Duration,
    /// How many.
    pub count: u64,
}

/// Messages by which clients kept or gave back what they had, or asked for options.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct StepSummary {
    /// Answered as the client wished.
    pub answered: u64,
    /// Answered with a status that says otherwise.
    pub refused: u64,
    /// Given up.
    pub unanswered: u64,
    /// From the message to its answer.
    pub latency_us: Option<Latency>,
}

/// What duplicate address detection has found (RFC 4862, section 5.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Dad {
    /// Addresses that clients have asked the link for.
    pub checked: u64,
    /// Addresses that somebody else had or wanted; they were declined.
    pub conflicts: u64,
}

/// Quantiles of a latency. In JSON: microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Latency {
    #[serde(serialize_with = "microseconds")]
    pub p50: Duration,
    #[serde(serialize_with = "microseconds")]
    pub p99: Duration,
    #[serde(serialize_with = "microseconds")]
    pub p999: Duration,
    #[serde(serialize_with = "microseconds")]
    pub max: Duration,
}

fn microseconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((duration.as_secs_f64() * 1e7).round() / 10.0)
}

pub(super) fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((duration.as_secs_f64() * 1e6).round() / 1e6)
}

#[expect(clippy::ref_option, reason = "what serde calls")]
fn maybe_seconds<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => seconds(duration, serializer),
        None => serializer.serialize_none(),
    }
}

/// The name of a status code (RFC 9915, section 21.13), or its number.
pub(super) fn status_name(code: u16) -> String {
    let name = match code {
        1 => "unspec_fail",
        2 => "no_addrs_avail",
        3 => "no_binding",
        4 => "not_on_link",
        5 => "use_multicast",
        6 => "no_prefix_avail",
        other => return other.to_string(),
    };
    name.to_owned()
}

/// Hundredths, to two places.
pub(super) fn percent(part: u64, whole: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "for people and plots")]
    let percent = 100.0 * part as f64 / whole.max(1) as f64;
    (percent * 100.0).round() / 100.0
}
