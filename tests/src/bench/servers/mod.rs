//! The servers that are measured: this one and others, with the same pool, lifetimes and options.

mod others;

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use dhcp6_common::wire::MessageType;

pub(super) use self::others::Other;
use super::report::Results;
use crate::{
    client::BareClient,
    frame::MessageBuilder,
    netns::{SERVER_INTERFACE, Wire, run},
    server::{Additions, Plane, Server},
};

/// The addresses that each server has: more than there are clients in any measurement.
const POOL: (&str, &str) = ("2001:db8:1::1:0", "2001:db8:1::ff:ffff");
/// How many bindings the kernel has room for.
const BINDINGS: &str = "max_bindings = 524288";
/// How long a server may take until it answers.
const PATIENCE: Duration = Duration::from_secs(20);
/// Clock ticks in a second, in what the kernel tells user space (USER_HZ).
const TICKS: f64 = 100.0;

/// A server that can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contender {
    /// This one without its fast path.
    Daemon,
    /// This one with its fast path in the driver.
    FastPath,
    /// Another one.
    Other(Other),
}

impl Contender {
    /// The name in the results.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Daemon => "dhcp6d",
            Self::FastPath => "dhcp6d + fast path",
            Self::Other(other) => other.name(),
        }
    }

    /// Whether it is not measured against itself.
    pub(super) fn is_ours(self) -> bool {
        !matches!(self, Self::Other(_))
    }

    /// Whether it takes some ten new clients a second, and not thousands.
    pub(super) fn is_slow(self) -> bool {
        matches!(self, Self::Other(other) if other.is_slow())
    }

    /// Starts it, with no leases, and hands it to `task` when it answers.
    ///
    /// # Errors
    ///
    /// Where it does not start, or ends; and what `task` says.
    pub(super) fn run<T>(self, task: impl FnOnce(&Wire, &mut Running<'_>) -> Result<T>) -> Result<T> {
        let wire = wire()?;
        let mut running = match self {
            Self::Daemon => Running::Ours(Box::new(ours(&wire, Plane::DaemonOnly)?)),
            Self::FastPath => Running::Ours(Box::new(ours(&wire, Plane::Native)?)),
            Self::Other(other) => Running::Other(other.start(&wire.server)?),
        };
        wait_for_answer(&wire, &mut running)?;
        let done = task(&wire, &mut running)?;
        running.ensure_running()?;
        Ok(done)
    }
}

/// Those of the other servers that are installed; the results get to know their versions, and which are not there.
pub(super) fn installed(others: &[Other], results: &mut Results) -> Vec<Contender> {
    let mut installed = Vec::new();
    for other in others {
        match other.version() {
            Some(version) => {
                results.note(version);
                installed.push(Contender::Other(*other));
            }
            None => results.note(format!("{} is not installed", other.name())),
        }
    }
    installed
}

/// Calls `task` for each of the contenders. One of the others that fails is left out from then on, with a note: what
/// another server does not do is not held against this one.
///
/// # Errors
///
/// What `task` says of ours.
pub(super) fn for_each(
    contenders: &mut Vec<Contender>,
    results: &mut Results,
    mut task: impl FnMut(Contender, &mut Results) -> Result<()>,
) -> Result<()> {
    let mut failure = None;
    contenders.retain(|contender| {
        if failure.is_some() {
            return true;
        }
        match task(*contender, results) {
            Ok(()) => true,
            Err(error) if contender.is_ours() => {
                failure = Some(error.context(contender.name()));
                true
            }
            Err(error) => {
                results.note(format!("{} was given up: {error:#}", contender.name()));
                false
            }
        }
    });
    failure.map_or(Ok(()), Err)
}

/// A server that runs; it is stopped and its files removed with this value.
pub(super) enum Running<'a> {
    /// This one.
    Ours(Box<Server<'a>>),
    /// Another one.
    Other(others::Running),
}

impl Running<'_> {
    /// Makes sure that it has not ended by itself.
    ///
    /// # Errors
    ///
    /// Where it has: with what it said.
    pub(super) fn ensure_running(&mut self) -> Result<()> {
        match self {
            Self::Ours(server) => server.ensure_running(),
            Self::Other(server) => server.ensure_running(),
        }
    }

    /// The process.
    ///
    /// # Errors
    ///
    /// Where there is none.
    pub(super) fn pid(&self) -> Result<u32> {
        match self {
            Self::Ours(server) => server.pid().context("it runs"),
            Self::Other(server) => Ok(server.pid()),
        }
    }

    /// The processor time that it has had, with that of the kernel on its behalf.
    ///
    /// # Errors
    ///
    /// Where it has ended.
    pub(super) fn processor_time(&self) -> Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid()?))?;
        ticks(&stat).map(|ticks| Duration::from_secs_f64(f64::from(ticks) / TICKS)).context("/proc/PID/stat")
    }
}

/// utime and stime of a line of /proc/PID/stat, together. The name in parentheses may hold anything.
fn ticks(stat: &str) -> Option<u32> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11).map(str::parse::<u32>);
    Some(fields.next()?.ok()? + fields.next()?.ok()?)
}

/// Server and client, with an address on the link, which some servers need.
///
/// # Errors
///
/// What iproute2 says.
pub(super) fn wire() -> Result<Wire> {
    let wire = Wire::new()?;
    let mut command = wire.server.command("ip");
    run(command.args(["address", "add", "2001:db8:1::1/64", "dev", SERVER_INTERFACE, "nodad"]))?;
    Ok(wire)
}

fn ours(wire: &Wire, plane: Plane) -> Result<Server<'_>> {
    let mut server = Server::prepare(wire, plane, &Additions::default())?;
    let (first, last) = POOL;
    server.configure(|config| {
        config
            .replace("max_bindings = 1024", BINDINGS)
            .replace("2001:db8:1::1000-2001:db8:1::ffff", &format!("{first}-{last}"))
    })?;
    server.restart()?;
    Ok(server)
}

/// Asks until the server answers.
fn wait_for_answer(wire: &Wire, server: &mut Running<'_>) -> Result<()> {
    let client = BareClient::open(&wire.client)?;
    let solicit = MessageBuilder::new(MessageType::Solicit, [0, 0, 1])
        .client_id(&[0, 3, 0, 1, 2, 0, 0, 0, 0, 0xc1])
        .elapsed_time()
        .ia_na(1, &[])
        .build();
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        server.ensure_running()?;
        client.send(&solicit)?;
        if client.receive(Duration::from_millis(200))?.is_some() {
            // Answers to earlier ones.
            thread::sleep(Duration::from_millis(100));
            return Ok(());
        }
    }
    bail!("it does not answer within {PATIENCE:?}")
}

#[cfg(test)]
mod tests {
    use super::ticks;

    #[test]
    fn processor_time_is_read_behind_any_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 900 0 12 0 150 23 4 5 20 0 3 0 100 1000 10";
        assert_eq!(ticks(stat), Some(173));
        assert_eq!(ticks("7 (short) S 1"), None);
    }
}
