//! What a run has found.

use std::{collections::BTreeMap, time::Duration};

use dhcp6_common::wire::MessageType;
use hdrhistogram::Histogram;
use serde::{Serialize, Serializer};

use super::{Ask, Mode, Step, Wrong};

/// The longest latency that is told apart from longer ones.
const LONGEST: u64 = 3600 * 1_000_000_000;

/// Hundredths of the clients whose service is timed.
const PARTS: [u64; 3] = [50, 99, 100];
/// The upper end of the histogram's first class; each class reaches twice as far as the one before.
const FIRST_CLASS: Duration = Duration::from_micros(1);

/// What a population counts.
#[derive(Debug)]
pub(super) struct Counters {
    pub(super) started: u64,
    pub(super) answered: u64,
    /// By status code.
    pub(super) refused: BTreeMap<u16, u64>,
    pub(super) given_up: u64,
    pub(super) not_started: u64,
    pub(super) sent: BTreeMap<&'static str, u64>,
    pub(super) received: BTreeMap<&'static str, u64>,
    pub(super) retransmissions: u64,
    /// Completed exchanges without a retransmission.
    pub(super) first_try: u64,
    /// In one exchange.
    pub(super) most_retransmissions: u32,
    /// When the parts [`PARTS`] of the clients had completed an exchange, from the start of the run.
    pub(super) milestones: [Option<Duration>; PARTS.len()],
    pub(super) wrong: [u64; Wrong::ALL.len()],
    pub(super) late: u64,
    pub(super) foreign: u64,
    /// Leases of addresses that a client had declined.
    pub(super) declined_again: u64,
    pub(super) neighbor_solicitations: u64,
    latencies: Latencies,
    steps: BTreeMap<Step, StepCounters>,
}

impl Counters {
    pub(super) fn new() -> Self {
        Self {
            started: 0,
            answered: 0,
            refused: BTreeMap::new(),
            given_up: 0,
            not_started: 0,
            sent: [MessageType::Solicit, MessageType::Request].map(|kind| (kind.name(), 0)).into(),
            received: [MessageType::Advertise, MessageType::Reply].map(|kind| (kind.name(), 0)).into(),
            retransmissions: 0,
            first_try: 0,
            most_retransmissions: 0,
            milestones: [None; PARTS.len()],
            wrong: [0; Wrong::ALL.len()],
            late: 0,
            foreign: 0,
            declined_again: 0,
            neighbor_solicitations: 0,
            latencies: Latencies::new(),
            steps: BTreeMap::new(),
        }
    }

    pub(super) fn sent(&mut self, kind: MessageType) {
        *self.sent.entry(kind.name()).or_default() += 1;
    }

    /// Counts a message by the code of its type.
    pub(super) fn received(&mut self, code: u8) {
        let name = MessageType::from_code(code).map_or("unknown", MessageType::name);
        *self.received.entry(name).or_default() += 1;
    }

    /// Counts a completed exchange. `since_start` is from the start of the run.
    pub(super) fn answered(
        &mut self,
        latency: Duration,
        retransmissions: u32,
        since_start: Duration,
        clients: u32,
    ) {
        self.answered += 1;
        self.first_try += u64::from(retransmissions == 0);
        for (part, milestone) in PARTS.iter().zip(&mut self.milestones) {
            if milestone.is_none() && self.answered * 100 >= u64::from(clients) * part {
                *milestone = Some(since_start);
            }
        }
        self.latencies.record(latency, 1);
    }

    pub(super) fn wrong(&mut self, wrong: Wrong) {
        self.wrong[wrong as usize] += 1;
    }

    /// What is counted of a step.
    pub(super) fn step(&mut self, step: Step) -> &mut StepCounters {
        self.steps.entry(step).or_default()
    }

    /// What was counted of each step.
    pub(super) fn steps(&self) -> BTreeMap<&'static str, StepSummary> {
        let summary = |(step, counters): (&Step, &StepCounters)| {
            let StepCounters { answered, refused, unanswered, latencies } = counters;
            let (answered, refused, unanswered) = (*answered, *refused, *unanswered);
            let latency_us = latencies.quantiles();
            (step.message().name(), StepSummary { answered, refused, unanswered, latency_us })
        };
        self.steps.iter().map(summary).collect()
    }

    /// The latencies of completed exchanges.
    pub(super) fn latencies(&self) -> &Latencies {
        &self.latencies
    }
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
    /// Counts a step that was answered.
    pub(super) fn done(&mut self, latency: Duration, refused: bool) {
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

    pub(super) fn record(&mut self, latency: Duration, count: u64) {
        // Even none of them would count for the maximum.
        if count == 0 {
            return;
        }
        self.0.saturating_record_n(u64::try_from(latency.as_nanos()).unwrap_or(LONGEST), count);
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
    /// The most messages that were sent again in one exchange.
    pub most_retransmissions: u32,
    /// What clients did with their leases, by message type.
    pub steps: BTreeMap<&'static str, StepSummary>,
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
