//! Load for a DHCPv6 server, from simulated clients.

use std::{
    collections::BTreeMap,
    fmt::{self, Display},
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::{Args, Parser, Subcommand};
use comfy_table::{Table, presets::NOTHING};
use dhcp6_userspace::flood::{Mode, Pace, Plan, Population, RunError, Summary, run};
use indicatif::{ProgressBar, ProgressStyle};

/// Loads a DHCPv6 server with simulated clients and judges its replies. For test networks: the clients take
/// addresses from the server's pools, and the interface receives frames for every MAC address meanwhile.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Clients that each get an address, one exchange after the other. Exit status: 0 if at least one exchange was
    /// completed and no reply was wrong, 1 if not, 2 for wrong usage.
    Exchange(Exchange),
}

#[derive(Debug, Args)]
struct Exchange {
    /// The interface that leads to the server, in a test network.
    #[arg(long, value_name = "NAME")]
    interface: String,
    /// How many clients. They are the same in every run, so a server may know them.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4_000_000))]
    clients: u32,
    /// Begin this many exchanges in a second, whether earlier ones are answered or not.
    #[arg(long, value_name = "R", value_parser = rate, conflicts_with = "window")]
    rate: Option<f64>,
    /// Begin anew when every client has had its turn, for this many seconds, 1 to 3600. Without it each client has
    /// one exchange, and the run ends after 60 seconds at the latest.
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: Option<u64>,
    /// Solicit, Advertise, Request, Reply. The default.
    #[arg(long, conflicts_with = "rapid_commit")]
    four_message: bool,
    /// Solicit and Reply.
    #[arg(long)]
    rapid_commit: bool,
    /// How many exchanges are outstanding at a time.
    #[arg(long, value_name = "W", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    window: u32,
    /// Send no more messages than this.
    #[arg(long, value_name = "N", default_value_t = 100_000_000)]
    messages: u64,
    /// Print the summary as one JSON document.
    #[arg(long)]
    json: bool,
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.001..=10_000_000.0).contains(&rate) {
        Ok(rate)
    } else {
        Err("not from 0.001 to 10000000".to_owned())
    }
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Exchange(arguments) => finish(arguments.run(), arguments.json),
    }
}

impl Exchange {
    fn run(&self) -> Result<Summary, RunError> {
        let plan = Plan {
            clients: self.clients,
            mode: if self.rapid_commit { Mode::RapidCommit } else { Mode::FourMessage },
            pace: self.rate.map_or(Pace::Window(self.window), Pace::Rate),
            duration: self.seconds.map(Duration::from_secs),
            messages: self.messages,
        };
        // Draws nothing where stderr is not a terminal.
        let bar = ProgressBar::new(1000);
        let style = ProgressStyle::with_template("{wide_bar} {percent:>3} % {msg}");
        bar.set_style(style.expect("the template is valid"));
        let result = run(&self.interface, plan, |population, now| show_progress(&bar, population, now));
        bar.finish_and_clear();
        result
    }
}

fn show_progress(bar: &ProgressBar, population: &Population, now: Instant) {
    #[expect(clippy::cast_sign_loss, reason = "progress is not negative")]
    bar.set_position((population.progress(now) * 1000.0) as u64);
    bar.set_message(format!("{} answered, {} wrong", population.answered(), population.wrong()));
}

/// Prints the summary of a run. Returns the exit status.
fn finish(result: Result<Summary, RunError>, json: bool) -> ExitCode {
    let summary = match result {
        Ok(summary) => summary,
        Err(failure) => {
            eprintln!("dhcp6flood: {failure}");
            return ExitCode::FAILURE;
        }
    };
    if json {
        println!("{}", serde_json::to_string(&summary).expect("the document has string keys"));
    } else {
        println!("{}", ForPeople(&summary));
    }
    if summary.is_fine() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A summary as a table.
struct ForPeople<'a>(&'a Summary);

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
            retransmissions,
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
        let rows = [
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
            ("retransmissions", retransmissions.to_string()),
            ("wrong replies", with_parts(wrong_replies, listed(wrong))),
            ("late replies", late.to_string()),
            ("for others", foreign.to_string()),
            ("neighbor solicitations", neighbor_solicitations.to_string()),
            ("dropped by this socket", socket_drops.to_string()),
        ];
        let mut table = Table::new();
        table.load_preset(NOTHING).add_rows(rows.map(|(name, value)| [name.to_owned(), value]));
        f.write_str(&table.trim_fmt())
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
