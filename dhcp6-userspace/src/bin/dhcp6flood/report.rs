//! Summaries for people.

use std::{
    collections::BTreeMap,
    fmt::{self, Display},
    time::Duration,
};

use comfy_table::{Table, presets::NOTHING};
use dhcp6_userspace::flood::{
    Ask, Dad, Engine, Latency, LatencyClass, Mode, Receiver, ReplaySummary, StepSummary, Storm, Summary,
    VolleySummary,
};

/// Columns of the longest bar of a histogram.
const BAR: u64 = 50;

/// A summary as a table.
pub(crate) struct ForPeople<'a>(pub(crate) &'a Summary);

impl Display for ForPeople<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Summary {
            mode,
            ask,
            clients,
            threads,
            seconds,
            sent,
            received,
            started,
            answered,
            refused,
            unanswered,
            not_started,
            rate,
            latency_us,
            histogram,
            retransmissions,
            first_try: _,
            by_transmissions,
            most_retransmissions,
            storm,
            steps,
            dad,
            sent_by_type,
            received_by_type,
            wrong_replies,
            wrong,
            late,
            foreign,
            declined_again,
            neighbor_solicitations,
            socket_drops,
        } = self.0;
        let mode = match mode {
            Mode::FourMessage => "four messages",
            Mode::RapidCommit => "rapid commit",
        };
        let ask = match ask {
            Ask::Address => "an address",
            Ask::Prefix => "a prefix",
            Ask::Both => "an address and a prefix",
        };
        let latency = quantiles(latency_us.as_ref());
        let mut rows = vec![
            ("clients", format!("{clients}, {mode}, {ask}, {threads} {}", plural(*threads, "thread"))),
            ("time", format!("{:.3} s", seconds.as_secs_f64())),
            ("exchanges begun", started.to_string()),
            ("answered", format!("{answered}, {rate:.0} a second")),
            ("refused", with_parts(refused.values().sum(), &listed(refused))),
            ("unanswered", unanswered.to_string()),
            ("not begun in time", not_started.to_string()),
            ("latency", latency),
            ("messages sent", with_parts(*sent, &listed(sent_by_type))),
            ("messages received", with_parts(*received, &listed(received_by_type))),
            ("answered at transmission", transmissions(by_transmissions, *started)),
            ("retransmissions", format!("{retransmissions}, at most {most_retransmissions} in an exchange")),
            ("wrong replies", with_parts(*wrong_replies, &listed(wrong))),
            ("late replies", late.to_string()),
            ("for others", foreign.to_string()),
            ("declined, given again", declined_again.to_string()),
            ("neighbor solicitations", neighbor_solicitations.to_string()),
            ("lost by this program", lost(*socket_drops)),
        ];
        if let Some(Dad { checked, conflicts }) = dad {
            let found = format!("{checked} looked for on the link, {conflicts} in use there and declined");
            rows.push(("addresses", found));
        }
        rows.extend(steps.iter().map(|(name, step)| {
            let StepSummary { answered, refused, unanswered, latency_us } = step;
            let latency = quantiles(latency_us.as_ref());
            (*name, format!("{answered} answered, {refused} refused, {unanswered} unanswered; {latency}"))
        }));
        if let Some(Storm { initial_delay, to_50, to_99, to_100 }) = storm {
            let took = |to: &Option<Duration>| {
                to.map_or_else(|| "not in time".to_owned(), |to| format!("{:.3} s", to.as_secs_f64()))
            };
            let power = if *initial_delay { "each within a second" } else { "all at once" };
            let served = [
                ("power came back", power.to_owned()),
                ("50 % served after", took(to_50)),
                ("99 % served after", took(to_99)),
                ("100 % served after", took(to_100)),
            ];
            rows.splice(2..2, served);
        }
        let mut table = Table::new();
        table.load_preset(NOTHING).add_rows(rows.into_iter().map(|(name, value)| [name.to_owned(), value]));
        f.write_str(&table.trim_fmt())?;
        if storm.is_some() {
            write!(f, "\n\n{}", bars(histogram))?;
        }
        Ok(())
    }
}

/// The summary of a volley as a table.
pub(crate) struct VolleyForPeople<'a>(pub(crate) &'a VolleySummary);

impl Display for VolleyForPeople<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let VolleySummary {
            engine,
            engine_reason,
            receiver,
            mode,
            clients,
            seconds,
            sent,
            sent_by_kind,
            transmitted,
            rate,
            received,
            received_by_type,
            received_rate,
            answered_share,
            latency_us,
            histogram,
            checked,
            refused,
            wrong_replies,
            wrong,
            malformed_answered,
            foreign,
            neighbor_solicitations,
            socket_drops,
        } = self.0;
        let engine = match engine {
            Engine::LiveFrames => "live frames of the kernel",
            Engine::PacketSocket => "packet socket",
        };
        let engine = match engine_reason {
            Some(reason) => format!("{engine} ({reason})"),
            None => engine.to_owned(),
        };
        let receiver = match receiver {
            Receiver::XdpNative => "XDP program in the driver",
            Receiver::XdpGeneric => "XDP program in the network stack",
            Receiver::PacketSocket => "packet socket",
        };
        let mode = match mode {
            Mode::FourMessage => "four messages",
            Mode::RapidCommit => "rapid commit",
        };
        let rows = [
            ("sent by", engine),
            ("replies counted by", receiver.to_owned()),
            ("clients", format!("{clients}, {mode}")),
            ("time", format!("{:.3} s", seconds.as_secs_f64())),
            ("frames sent", format!("{}, {rate:.0} a second", with_parts(*sent, &listed(sent_by_kind)))),
            ("sent by the interface", transmitted.to_string()),
            (
                "replies",
                format!("{}, {received_rate:.0} a second", with_parts(*received, &listed(received_by_type))),
            ),
            ("answered", format!("{:.2} %", answered_share * 100.0)),
            ("latency", quantiles(latency_us.as_ref())),
            ("replies read in full", checked.to_string()),
            ("refused among them", with_parts(refused.values().sum(), &listed(refused))),
            ("wrong replies", with_parts(*wrong_replies, &listed(wrong))),
            ("malformed, answered", malformed_answered.to_string()),
            ("for others", foreign.to_string()),
            ("neighbor solicitations", neighbor_solicitations.to_string()),
            ("lost by this program", lost(*socket_drops)),
        ];
        let mut table = Table::new();
        table.load_preset(NOTHING).add_rows(rows.map(|(name, value)| [name.to_owned(), value]));
        write!(f, "{}\n\n{}", table.trim_fmt(), bars(histogram))
    }
}

/// The summary of a replay as a table.
pub(crate) struct ReplayForPeople<'a>(pub(crate) &'a ReplaySummary);

impl Display for ReplayForPeople<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ReplaySummary {
            frames,
            skipped,
            seconds,
            sent,
            rate,
            sent_by_type,
            received,
            received_by_type,
            received_rate,
            answered,
            latency_us,
            histogram,
            wrong_replies,
            wrong,
            foreign,
            neighbor_solicitations,
            socket_drops,
            ..
        } = self.0;
        let came_back =
            format!("{}, {received_rate:.0} a second", with_parts(*received, &listed(received_by_type)));
        let rows = [
            ("frames in the capture", format!("{frames}, and {skipped} that are not whole")),
            ("time", format!("{:.3} s", seconds.as_secs_f64())),
            ("frames sent", format!("{}, {rate:.0} a second", with_parts(*sent, &listed(sent_by_type)))),
            ("messages that came back", came_back),
            ("transactions answered", answered.to_string()),
            ("latency", quantiles(latency_us.as_ref())),
            ("wrong replies", with_parts(*wrong_replies, &listed(wrong))),
            ("for others", foreign.to_string()),
            ("neighbor solicitations", neighbor_solicitations.to_string()),
            ("lost by this program", lost(*socket_drops)),
        ];
        let mut table = Table::new();
        table.load_preset(NOTHING).add_rows(rows.map(|(name, value)| [name.to_owned(), value]));
        write!(f, "{}\n\n{}", table.trim_fmt(), bars(histogram))
    }
}

/// A total, and what it is the sum of.
fn with_parts(total: u64, parts: &str) -> String {
    if parts.is_empty() { total.to_string() } else { format!("{total} ({parts})") }
}

fn plural(count: u32, word: &str) -> String {
    if count == 1 { word.to_owned() } else { format!("{word}s") }
}

/// Frames that were not read in time.
fn lost(frames: u64) -> String {
    match frames {
        0 => "nothing".to_owned(),
        _ => format!("{frames} frames, NOT BY THE SERVER: this program was too slow; try --threads"),
    }
}

/// How many exchanges were completed at the first transmission, at the second, and so on.
fn transmissions(counts: &BTreeMap<u32, u64>, whole: u64) -> String {
    let parts: Vec<_> = counts
        .iter()
        .map(|(number, count)| format!("{number}: {count} ({})", percent(*count, whole)))
        .collect();
    parts.join(", ")
}

fn quantiles(latency: Option<&Latency>) -> String {
    latency.map_or_else(
        || "-".to_owned(),
        |latency| {
            let [p50, p99, p999, max] = [latency.p50, latency.p99, latency.p999, latency.max].map(millis);
            format!("p50 {p50}, p99 {p99}, p999 {p999}, max {max}")
        },
    )
}

/// The counts that are not 0.
fn listed<K: Display>(counts: &BTreeMap<K, u64>) -> String {
    let counts: Vec<_> = counts
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    counts.join(", ")
}

fn millis(duration: Duration) -> String {
    format!("{:.3} ms", duration.as_secs_f64() * 1e3)
}

fn percent(part: u64, whole: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let percent = 100.0 * part as f64 / whole.max(1) as f64;
    format!("{percent:.2} %")
}

/// A histogram as horizontal bars, one line for each class.
fn bars(histogram: &[LatencyClass]) -> String {
    let most = histogram.iter().map(|class| class.count).max().unwrap_or(1).max(1);
    let rows = histogram.iter().map(|LatencyClass { below_us, count }| {
        let bar = "#".repeat((count * BAR).div_ceil(most) as usize);
        [format!("below {}", millis(*below_us)), count.to_string(), bar]
    });
    let mut table = Table::new();
    table.load_preset(NOTHING).add_rows(rows);
    table.trim_fmt()
}
