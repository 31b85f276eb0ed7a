//! Summaries for people.

use std::{
    collections::BTreeMap,
    fmt::{self, Display},
    time::Duration,
};

use comfy_table::{Table, presets::NOTHING};
use dhcp6_userspace::flood::{LatencyClass, Mode, Storm, Summary};

/// Columns of the longest bar of a histogram.
const BAR: u64 = 50;

/// A summary as a table.
pub(crate) struct ForPeople<'a>(pub(crate) &'a Summary);

impl Display for ForPeople<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Summary {
            mode,
            clients,
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
            first_try,
            most_retransmissions,
            storm,
            sent_by_type,
            received_by_type,
            wrong_replies,
            wrong,
            late,
            foreign,
            neighbor_solicitations,
            socket_drops,
        } = self.0;
        let mode = match mode {
            Mode::FourMessage => "four messages",
            Mode::RapidCommit => "rapid commit",
        };
        let with_parts = |total: &u64, parts: String| match parts.as_str() {
            "" => total.to_string(),
            parts => format!("{total} ({parts})"),
        };
        let latency = latency_us.map_or_else(
            || "-".to_owned(),
            |latency| {
                let [p50, p99, p999, max] = [latency.p50, latency.p99, latency.p999, latency.max].map(millis);
                format!("p50 {p50}, p99 {p99}, p999 {p999}, max {max}")
            },
        );
        let mut rows = vec![
            ("clients", format!("{clients}, {mode}")),
            ("time", format!("{:.3} s", seconds.as_secs_f64())),
            ("exchanges begun", started.to_string()),
            ("answered", format!("{answered}, {rate:.0} a second")),
            ("refused", with_parts(&refused.values().sum(), listed(refused))),
            ("unanswered", unanswered.to_string()),
            ("not begun in time", not_started.to_string()),
            ("latency", latency),
            ("messages sent", with_parts(sent, listed(sent_by_type))),
            ("messages received", with_parts(received, listed(received_by_type))),
            ("answered at first try", format!("{first_try} ({})", percent(*first_try, *started))),
            ("retransmissions", format!("{retransmissions}, at most {most_retransmissions} in an exchange")),
            ("wrong replies", with_parts(wrong_replies, listed(wrong))),
            ("late replies", late.to_string()),
            ("for others", foreign.to_string()),
            ("neighbor solicitations", neighbor_solicitations.to_string()),
            ("dropped by this socket", socket_drops.to_string()),
        ];
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
