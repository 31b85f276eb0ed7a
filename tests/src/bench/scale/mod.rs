//! What many leases cost: the start, memory, answers, a reload, and the end of many at once.

pub(super) mod kernel;
pub(super) mod leases;
mod questions;
mod start;

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use dhcp6_userspace::fastpath::PinnedMaps;

use self::{
    kernel::Watch,
    leases::{Leases, Spread, from_now},
    questions::{Asker, Steady},
    start::{Started, drop_cache, start},
};
use super::{
    Effort,
    neighbors::Room,
    report::{Goal, Results},
    stats::Sample,
};
use crate::{
    netns::Wire,
    server::{Additions, Plane, Server},
};

/// How often a server is asked whose gaps are looked for.
const INTERVAL: Duration = Duration::from_millis(1);
/// How long a server is asked that has nothing else to do.
const UNDISTURBED: Duration = Duration::from_secs(2);
/// Leases that end within one second.
const ENDING: u32 = 100_000;
/// Bindings whose coming or going is watched.
const WATCHED: u32 = 1000;

const FIRST_ANSWER_COLD: &str = "start to first answer, cold";
const COMPLETE_COLD: &str = "start to complete map, cold";
const RESIDENT_PER_LEASE: &str = "daemon: resident per lease";
const ACCOUNTED_PER_LEASE: &str = "kernel: bindings map per lease";

/// The case that the goals are for.
const MILLION: &str = "1 M";

/// A number of leases, and what is done with them.
struct Case {
    name: &'static str,
    leases: Leases,
    /// How many of them end within one second; none in most cases.
    ending: u32,
    /// Exchanges from memory whose latency is measured.
    solicits: u32,
    /// Exchanges that wait for the disk.
    renews: u32,
}

/// Memory in use without any lease.
struct Before {
    /// See [`kernel::of_process`].
    daemon: (u64, u64, u64),
    /// See [`kernel::in_use`].
    kernel: u64,
}

/// Measures with different numbers of leases.
///
/// # Errors
///
/// Where the server does not start, or has not all leases, or does not answer as it should.
pub(super) fn measure(effort: Effort, progress: &dyn Fn(&str)) -> Result<Results> {
    // The one entry that is needed must not fail for what others on the machine do.
    let _room = Room::make();
    let mut results = Results::new("scale");
    results.require(FIRST_ANSWER_COLD, "s", Goal::AtMost(2.0, Some(MILLION)));
    results.require(COMPLETE_COLD, "s", Goal::AtMost(2.0, Some(MILLION)));
    for note in NOTES {
        results.note(note);
    }
    for case in cases(effort) {
        case.measure(effort.runs, &mut results, progress).with_context(|| format!("{} leases", case.name))?;
    }
    results.require(RESIDENT_PER_LEASE, "B", Goal::AtMost(200.0, Some(MILLION)));
    results.require(ACCOUNTED_PER_LEASE, "B", Goal::AtMost(160.0, Some(MILLION)));
    Ok(results)
}

const NOTES: [&str; 7] = [
    "native XDP on a veth pair; max_bindings is the next power of two; the leases' addresses follow one another, or \
     lie at random in a /64",
    "cold: the database is not in the page cache and no fast path runs; warm: it is in the cache; restart: the fast \
     path of the last daemon still runs",
    "a start begins with the execution of dhcp6d; a known client asks every 2 ms from then on; READY is that of \
     sd_notify",
    "per lease: what is above the memory of a daemon without leases; the kernel's map is what it accounts (fdinfo, \
     memlock), with the hash table; the growth of its memory is that of SUnreclaim, Percpu and VmallocUsed in \
     /proc/meminfo, to which others on the machine contribute",
    "latency: one exchange after the other, each of another known client, from one address; a Solicit without Rapid \
     Commit is answered from memory, a Renew when its lease is on the disk",
    "gaps: a client asks every millisecond, and the longest time between two answers counts",
    "expiry: 100,000 leases that end evenly within one second; the time until they are gone counts from the last end",
];

fn cases(Effort { runs, quick }: Effort) -> Vec<Case> {
    let case = |name, count, spread, ending| Case {
        name,
        leases: Leases { count, spread },
        ending,
        solicits: if quick { 100 } else { 2000 },
        // Others in each run.
        renews: if quick { 50 } else { 500 }.min(count / runs).max(1),
    };
    if quick {
        return vec![case("1 k", 1000, Spread::Cyclic, 0), case("4 k random", 4000, Spread::Random, 2000)];
    }
    vec![
        case("1 k", 1000, Spread::Cyclic, 0),
        case("100 k", 100_000, Spread::Cyclic, 0),
        case(MILLION, 1_000_000, Spread::Cyclic, ENDING),
        case("1 M random", 1_000_000, Spread::Random, ENDING),
    ]
}

impl Case {
    fn measure(&self, runs: u32, results: &mut Results, progress: &dyn Fn(&str)) -> Result<()> {
        let Self { name, leases, .. } = self;
        let wire = Wire::new()?;
        progress(&format!("{name}: an empty server"));
        let empty = {
            let none = Leases { count: 0, ..*leases };
            let mut server = self.prepare(&wire)?;
            none.store(&server.database())?;
            server.restart()?;
            kernel::of_process(server.pid().context("it runs")?)?
        };
        let mut server = self.prepare(&wire)?;
        progress(&format!("{name}: making the leases"));
        leases.store(&server.database())?;
        let mut asker = Asker::open(&wire.client, *leases)?;
        // Before the first start only: what a stop frees comes back slowly.
        let before = Before { daemon: empty, kernel: kernel::in_use()? };
        let mut warm = Sample::default();
        for run in 1..=runs {
            progress(&format!("{name}: run {run} of {runs}"));
            let started = self.run(run, &mut server, &mut asker, &before, results)?;
            warm.add(started.as_secs_f64());
        }
        let warm = Duration::from_secs_f64(warm.range().map_or(0.0, |(_, longest)| longest));
        for run in 1..=if self.ending > 0 { runs } else { 0 } {
            progress(&format!("{name}: the end of {} leases, run {run} of {runs}", self.ending));
            self.end_many(&mut server, &mut asker, warm, results)?;
        }
        Ok(())
    }

    fn prepare<'a>(&self, wire: &'a Wire) -> Result<Server<'a>> {
        let Leases { count, spread } = self.leases;
        let link = format!("allocation = \"{}\"", spread.name());
        let server =
            Server::prepare(wire, Plane::Native, &Additions { link: &link, ..Additions::default() })?;
        let bindings = count.next_power_of_two();
        server.configure(|config| {
            config
                .replace("max_bindings = 1024", &format!("max_bindings = {bindings}"))
                .replace("\"2001:db8:1::1000-2001:db8:1::ffff\"", "\"2001:db8:1::/64\"")
        })?;
        Ok(server)
    }

    /// Everything but expiry, once. Returns how long a warm start takes.
    fn run(
        &self,
        run: u32,
        server: &mut Server<'_>,
        asker: &mut Asker,
        before: &Before,
        results: &mut Results,
    ) -> Result<Duration> {
        let name = self.name;
        drop_cache(&server.database())?;
        let cold = start(server, asker, self.leases, true)?;
        results.add(FIRST_ANSWER_COLD, "s", name, cold.first_answer.as_secs_f64());
        results.add("start to READY, cold", "s", name, cold.ready.as_secs_f64());
        results.add(COMPLETE_COLD, "s", name, cold.complete.unwrap_or_default().as_secs_f64());
        self.add_memory(server, before, results)?;
        self.add_latency(run, server, asker, results)?;
        let undisturbed = asked_meanwhile(asker, 0, || {
            thread::sleep(UNDISTURBED);
            Ok(())
        })?;
        add_gap(results, "longest gap, undisturbed", name, &undisturbed.0);
        self.add_reload(server, asker, results)?;
        server.stop()?;

        let Started { first_answer, ready, .. } = start(server, asker, self.leases, false)?;
        results.add("restart to first answer", "s", name, first_answer.as_secs_f64());
        results.add("restart to READY", "s", name, ready.as_secs_f64());
        server.stop()?;
        server.detach()?;

        let Started { first_answer, ready, complete } = start(server, asker, self.leases, true)?;
        let complete = complete.unwrap_or_default();
        results.add("start to first answer, warm", "s", name, first_answer.as_secs_f64());
        results.add("start to READY, warm", "s", name, ready.as_secs_f64());
        results.add("start to complete map, warm", "s", name, complete.as_secs_f64());
        server.stop()?;
        server.detach()?;
        Ok(complete)
    }

    #[expect(clippy::cast_precision_loss, reason = "sizes of memory, for people")]
    fn add_memory(&self, server: &Server<'_>, before: &Before, results: &mut Results) -> Result<()> {
        let pid = server.pid().context("it runs")?;
        let (resident, anonymous, peak) = kernel::of_process(pid)?;
        let io = fs::read_to_string(format!("/proc/{pid}/io"))?;
        let read = io.lines().find_map(|line| line.strip_prefix("read_bytes:")?.trim().parse::<u64>().ok());
        let mut mebibytes =
            |what: &str, octets: u64| results.add(what, "MiB", self.name, octets as f64 / f64::from(1 << 20));
        mebibytes("read from the disk at the cold start", read.unwrap_or_default());
        mebibytes("daemon: resident", resident);
        mebibytes("daemon: peak resident at the start", peak);
        let count = f64::from(self.leases.count);
        let mut per_lease = |what: &str, octets: f64| results.add(what, "B", self.name, octets / count);
        per_lease(RESIDENT_PER_LEASE, resident as f64 - before.daemon.0 as f64);
        per_lease("daemon: anonymous per lease", anonymous as f64 - before.daemon.1 as f64);
        per_lease(ACCOUNTED_PER_LEASE, kernel::accounted(server.pin_dir())? as f64);
        per_lease("kernel: growth of its memory per lease", kernel::in_use()? as f64 - before.kernel as f64);
        Ok(())
    }

    fn add_latency(
        &self,
        run: u32,
        server: &Server<'_>,
        asker: &mut Asker,
        results: &mut Results,
    ) -> Result<()> {
        let commits = || server.ctl_json(&["status"])?["store"]["commits"].as_u64().context("no commits");
        let solicits = asker.solicits(self.solicits)?;
        let before = commits()?;
        let renews = asker.renews(self.renews, run)?;
        let committed = commits()? - before;
        ensure!(committed >= renews.len() as u64, "{} Renews have made {committed} commits", renews.len());
        let latencies = [("Solicit", solicits), ("Renew", renews)];
        for (kind, latencies) in latencies {
            let sample: Sample = latencies.iter().map(|latency| latency.as_secs_f64() * 1e6).collect();
            for (name, quantile) in [("p50", 0.5), ("p99", 0.99), ("max", 1.0)] {
                let value = sample.quantile(quantile).context("there are exchanges")?;
                results.add(&format!("{kind} answered, {name}"), "us", self.name, value);
            }
        }
        Ok(())
    }

    /// Has the server read its configuration again, and asks it meanwhile.
    #[expect(clippy::cast_precision_loss, reason = "a size of memory, for people")]
    fn add_reload(&self, server: &Server<'_>, asker: &mut Asker, results: &mut Results) -> Result<()> {
        let (steady, took) = asked_meanwhile(asker, 0, || {
            thread::sleep(Duration::from_millis(100));
            let start = Instant::now();
            server.hang_up()?;
            loop {
                let reload = &server.ctl_json(&["status"])?["last_reload"];
                if !reload.is_null() {
                    ensure!(reload["ok"] == true, "the reload has failed: {reload}");
                    return Ok(start.elapsed());
                }
                thread::sleep(Duration::from_millis(5));
            }
        })?;
        results.add("reload", "s", self.name, took.as_secs_f64());
        add_gap(results, "longest gap, reload", self.name, &steady);
        results.add("unanswered during the reload", "questions", self.name, steady.unanswered.into());
        let (.., peak) = kernel::of_process(server.pid().context("it runs")?)?;
        results.add(
            "daemon: peak resident at the reload",
            "MiB",
            self.name,
            peak as f64 / f64::from(1 << 20),
        );
        Ok(())
    }

    /// Has many leases end within one second, and asks the server meanwhile.
    fn end_many(
        &self,
        server: &mut Server<'_>,
        asker: &mut Asker,
        warm_start: Duration,
        results: &mut Results,
    ) -> Result<()> {
        let Self { name, leases, ending, .. } = *self;
        // What the leases and the start take, with a reserve.
        let lead = Duration::from_secs(3) + Duration::from_micros(40) * ending + warm_start * 2;
        let begin = from_now(lead);
        leases.end(&server.database(), ending, begin)?;
        start(server, asker, leases, true)?;
        let left = begin.since(from_now(Duration::ZERO));
        ensure!(!left.is_zero(), "the server has taken longer than {lead:?} to start");
        let end = Instant::now() + left + Duration::from_secs(1);
        let maps = PinnedMaps::open(server.pin_dir())?;
        let (steady, gone) = asked_meanwhile(asker, ending, || {
            thread::sleep(left.saturating_sub(Duration::from_millis(200)));
            let mut watch = Watch::new(Leases { count: ending, ..leases }.some(WATCHED));
            while !watch.is_done(&maps, false)? {
                ensure!(end.elapsed() < Duration::from_mins(1), "leases that have ended are in the map");
                thread::sleep(Duration::from_millis(5));
            }
            let gone = Instant::now();
            thread::sleep(Duration::from_millis(200));
            Ok(gone)
        })?;
        let count = kernel::count(server.pin_dir())?;
        ensure!(count == leases.count - ending, "{count} bindings are in the map when {ending} have ended");
        let millis = |duration: Duration| duration.as_secs_f64() * 1e3;
        add_gap(results, "longest gap, expiry", name, &steady);
        results.add("unanswered during the expiry", "questions", name, steady.unanswered.into());
        results.add(
            "expiry until gone from the map",
            "ms",
            name,
            millis(gone.saturating_duration_since(end)),
        );
        server.stop()?;
        server.detach()
    }
}

/// Asks steadily, for clients from number `from` on, while `task` goes on.
fn asked_meanwhile<T>(asker: &mut Asker, from: u32, task: impl FnOnce() -> Result<T>) -> Result<(Steady, T)> {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let questions = scope.spawn(|| asker.steadily(INTERVAL, from, &stop));
        let done = task();
        stop.store(true, Ordering::Relaxed);
        let steady = questions.join().expect("the asker does not panic");
        // The first failure is the cause.
        let done = done?;
        Ok((steady?, done))
    })
}

fn add_gap(results: &mut Results, what: &str, case: &str, steady: &Steady) {
    results.add(what, "ms", case, steady.gap.as_secs_f64() * 1e3);
}
