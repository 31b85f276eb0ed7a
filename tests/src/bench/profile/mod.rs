//! Where the daemon's time goes, stage by stage.

mod perf;
mod stages;
mod threads;

use anyhow::{Context as _, Result, bail};

use self::{perf::Recording, stages::Tally, threads::Threads};
use super::{
    Effort,
    load::{Clients, Exchange, Pace, exchanges},
    neighbors::Room,
    rates::{FRESH, USUAL_WINDOW},
    report::Results,
    servers::{Contender, Running},
};
use crate::netns::Wire;

/// How long a load is looked at, in seconds.
const SECONDS: u32 = 2;
/// Clients that come again and again.
const KNOWN: u32 = 1000;
/// The most functions that are named of those that belong to no stage.
const NAMED: usize = 5;

const NOTES: [&str; 6] = [
    "dhcp6d under dhcp6flood in a closed loop with 64 exchanges outstanding, for two seconds; with the fast path on, each \
     lease goes into the kernel's map as well",
    "stages: perf samples the daemon 997 times in a second of processor time; a sample belongs to the stage of the \
     innermost function that tells one; inlined functions count for those that they are part of; the processor time \
     of the daemon's threads (schedstat) is divided by these shares and by the completed exchanges",
    "sampling itself takes time, so the rates are below those of `slowpath`",
    "delivery: what the kernel does with sent packets on the other end of the veth pair, in the sender's time (softirq)",
    "threads: the part of the time in which each ran, and in which it could have run and waited for a processor; the \
     rest it slept, for packets, for the disk, or for another thread",
    "commits: those of the database (fsync) in a second, and exchanges in each",
];

/// What clients do meanwhile.
#[derive(Clone, Copy)]
struct Load {
    name: &'static str,
    contender: Contender,
    exchange: Exchange,
    are_known: bool,
}

const LOADS: [Load; 4] = [
    Load {
        name: "four messages, new",
        contender: Contender::Daemon,
        exchange: Exchange::FourMessages,
        are_known: false,
    },
    Load {
        name: "same, fast path on",
        contender: Contender::FastPath,
        exchange: Exchange::FourMessages,
        are_known: false,
    },
    Load {
        name: "two messages, new",
        contender: Contender::Daemon,
        exchange: Exchange::TwoMessages,
        are_known: false,
    },
    Load {
        name: "four messages, known",
        contender: Contender::Daemon,
        exchange: Exchange::FourMessages,
        are_known: true,
    },
];

/// Measures, where perf is installed and the kernel lets it.
///
/// # Errors
///
/// Where dhcp6d does not work as it should.
pub(super) fn measure(effort: Effort, progress: &dyn Fn(&str)) -> Result<Results> {
    let mut results = Results::new("profile");
    if let Some(lack) = perf::lack() {
        results.note(format!("skipped: {lack}"));
        return Ok(results);
    }
    for note in NOTES {
        results.note(note);
    }
    let room = Room::make();
    for run in 1..=effort.runs {
        for load in LOADS {
            progress(&format!("run {run} of {}: {}", effort.runs, load.name));
            let clients = match (load.are_known, effort.quick, &room) {
                (true, ..) => Clients::Again(KNOWN, if effort.quick { 1 } else { SECONDS }),
                (false, false, Some(_)) => Clients::Fresh(FRESH, SECONDS),
                // Each client once: few, and over in a moment.
                (false, ..) => Clients::Once(KNOWN),
            };
            let run =
                |wire: &Wire, server: &mut Running<'_>| load.measure(wire, server, clients, &mut results);
            load.contender.run(run).context(load.name)?;
        }
    }
    Ok(results)
}

impl Load {
    fn measure(
        self,
        wire: &Wire,
        server: &mut Running<'_>,
        clients: Clients,
        results: &mut Results,
    ) -> Result<()> {
        let case = self.name;
        let pace = Pace::Window(USUAL_WINDOW);
        if self.are_known {
            exchanges(wire, server, Exchange::TwoMessages, pace, Clients::Once(KNOWN))?;
        }
        let pid = server.pid()?;
        let before = (commits(server)?, Threads::of(pid)?);
        let recording = Recording::start(pid)?;
        let seen = exchanges(wire, server, self.exchange, pace, clients)?;
        let stacks = recording.stop()?;
        let commits = commits(server)? - before.0;
        let threads = Threads::of(pid)?.since(&before.1);
        let tally = Tally::of(&stacks);
        #[expect(clippy::cast_precision_loss, reason = "for people")]
        let answered = seen.answered as f64;
        let seconds = answered / seen.rate;
        results.add("exchanges", "1/s", case, seen.rate);
        let each = threads.running().as_secs_f64() * 1e6 / answered;
        results.add("processor time of the daemon", "us/exchange", case, each);
        for (stage, share) in tally.shares() {
            results.add(stage, "us/exchange", case, each * share);
        }
        for (thread, times) in threads.by_name() {
            let part = |time: std::time::Duration| time.as_secs_f64() / seconds * 100.0;
            results.add(&format!("thread {thread}: running"), "%", case, part(times.running));
            results.add(&format!("thread {thread}: waiting for a processor"), "%", case, part(times.waiting));
        }
        #[expect(clippy::cast_precision_loss, reason = "for people")]
        let commits = commits as f64;
        results.add("commits", "1/s", case, commits / seconds);
        if commits > 0.0 && !self.are_known {
            results.add("exchanges in a commit", "exchanges", case, answered / commits);
        }
        let others = tally.others(NAMED);
        if !others.is_empty() {
            results.note(format!("{case}, in no stage: {}", others.join(", ")));
        }
        Ok(())
    }
}

fn commits(server: &Running<'_>) -> Result<u64> {
    let Running::Ours(server) = server else { bail!("it tells of no commits") };
    server.ctl_json(&["status"])?["store"]["commits"].as_u64().context("no count of commits")
}
