//! Load from `dhcp6flood`, and what it saw.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::servers::Running;
use crate::{
    netns::{CLIENT_INTERFACE, Wire},
    server::binary,
};

/// What clients and server say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exchange {
    /// Solicit, Advertise, Request, Reply.
    FourMessages,
    /// Solicit and Reply.
    TwoMessages,
}

impl Exchange {
    /// Both.
    pub(super) const ALL: [Self; 2] = [Self::FourMessages, Self::TwoMessages];

    /// The name in the results.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::FourMessages => "four messages",
            Self::TwoMessages => "two messages",
        }
    }

    /// How often client and server take turns.
    pub(super) fn round_trips(self) -> f64 {
        match self {
            Self::FourMessages => 2.0,
            Self::TwoMessages => 1.0,
        }
    }

    fn option(self) -> &'static str {
        match self {
            Self::FourMessages => "--four-message",
            Self::TwoMessages => "--rapid-commit",
        }
    }
}

/// When exchanges begin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Pace {
    /// When another one has ended: so many are outstanding.
    Window(u32),
    /// So many in a second, whether others have ended or not.
    Rate(f64),
}

/// Which clients have them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clients {
    /// So many, one exchange each, all within a minute.
    Once(u32),
    /// Each a client of its own, of so many at most, for so many seconds.
    Fresh(u32, u32),
    /// So many, again and again, for so many seconds.
    Again(u32, u32),
}

/// What clients saw of a server.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// Completed exchanges in a second.
    pub(super) rate: f64,
    /// Completed exchanges.
    pub(super) answered: u64,
    /// Exchanges without an end.
    pub(super) unanswered: u64,
    /// From when an exchange was due to its end, in milliseconds.
    pub(super) median: f64,
    /// As `median`; all but one of a hundred took at most so long.
    pub(super) p99: f64,
}

/// Has clients ask.
///
/// # Errors
///
/// Where no exchange is completed, the server ends, or ours sends something wrong.
pub(super) fn exchanges(
    wire: &Wire,
    server: &mut Running<'_>,
    exchange: Exchange,
    pace: Pace,
    clients: Clients,
) -> Result<Seen> {
    let mut options = vec![exchange.option().to_owned()];
    options.extend(match pace {
        Pace::Window(window) => ["--window".to_owned(), window.to_string()],
        Pace::Rate(rate) => ["--rate".to_owned(), format!("{rate:.3}")],
    });
    let (count, seconds) = match clients {
        Clients::Once(count) => (count, None),
        Clients::Fresh(count, seconds) | Clients::Again(count, seconds) => (count, Some(seconds)),
    };
    options.extend(["--clients".to_owned(), count.to_string()]);
    options.extend(seconds.iter().flat_map(|seconds| ["--seconds".to_owned(), seconds.to_string()]));
    let summary = flood(wire, server, "exchange", &options)?;
    let started = summary["started"].as_u64().context("no count of exchanges")?;
    if let Clients::Fresh(count, _) = clients {
        ensure!(started <= count.into(), "{started} exchanges for {count} clients: they were not all new");
    }
    seen(&summary)
}

/// What clients saw of a server when all of them powered up at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Storm {
    /// Seconds until half, 99 and 100 hundredths of the clients were served; `None` where they were not in time.
    pub(super) until: [Option<f64>; 3],
    /// How many clients were served in time.
    pub(super) served: u64,
    /// The most messages that one client sent again.
    pub(super) most_repeated: u32,
    /// All messages that were sent again.
    pub(super) repeated: u64,
}

/// Has all clients power up at once, and waits for so many seconds at most until they are served.
///
/// # Errors
///
/// As [`exchanges`].
pub(super) fn storm(
    wire: &Wire,
    server: &mut Running<'_>,
    exchange: Exchange,
    clients: u32,
    seconds: u32,
) -> Result<Storm> {
    let options = [exchange.option(), "--clients", &clients.to_string(), "--seconds", &seconds.to_string()];
    let summary = flood(wire, server, "storm", &options.map(str::to_owned))?;
    let count = |name: &str| summary[name].as_u64().with_context(|| format!("no {name}"));
    let until = |part: &str| summary["storm"][part].as_f64();
    Ok(Storm {
        until: [until("to_50"), until("to_99"), until("to_100")],
        served: count("answered")?,
        most_repeated: u32::try_from(count("most_retransmissions")?)?,
        repeated: count("retransmissions")?,
    })
}

/// Runs `dhcp6flood`. Returns its summary.
fn flood(wire: &Wire, server: &mut Running<'_>, kind: &str, options: &[String]) -> Result<Value> {
    let mut command: Command = wire.client.command(binary("dhcp6flood"));
    command.args([kind, "--json", "--interface", CLIENT_INTERFACE]).args(options);
    let output = command.output().context("cannot run dhcp6flood")?;
    server.ensure_running()?;
    // Its exit status tells of wrong replies, which the summary does as well.
    let summary: Value = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("dhcp6flood: {}", String::from_utf8_lossy(&output.stderr).trim()))?;
    if matches!(server, Running::Ours(_)) {
        // An answer to the run before is none of this one's.
        let late = summary["wrong"]["transaction_id"].as_u64();
        ensure!(summary["wrong_replies"].as_u64() == late, "wrong replies: {}", summary["wrong"]);
    }
    Ok(summary)
}

fn seen(summary: &Value) -> Result<Seen> {
    let number =
        |value: &Value| value.as_f64().with_context(|| format!("no exchange was completed: {summary}"));
    let rate = number(&summary["rate"])?;
    ensure!(rate > 0.0, "no exchange was completed: {summary}");
    Ok(Seen {
        rate,
        answered: summary["answered"].as_u64().unwrap_or_default(),
        unanswered: summary["unanswered"].as_u64().unwrap_or_default(),
        median: number(&summary["latency_us"]["p50"])? / 1e3,
        p99: number(&summary["latency_us"]["p99"])? / 1e3,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::seen;

    #[test]
    fn a_summary_without_exchanges_is_no_result() {
        let mut summary = json!({
            "rate": 1000.0, "answered": 2000, "unanswered": 3, "latency_us": { "p50": 1500.0, "p99": 4000.0 },
        });
        let good = seen(&summary).unwrap();
        assert_eq!((good.rate, good.answered, good.unanswered), (1000.0, 2000, 3));
        assert_eq!((good.median, good.p99), (1.5, 4.0));
        summary["latency_us"] = json!(null);
        summary["rate"] = json!(0.0);
        assert!(seen(&summary).is_err());
    }
}
