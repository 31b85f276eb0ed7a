//! How many Replies a second the XDP program sends, as a share of what programs have that only send frames back.

mod programs;

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use dhcp6_common::{Reason, wire::MessageType};
use dhcp6_userspace::{
    fastpath::PinnedMaps,
    flood::{Engine, Mode, Receiver, Volley, fire},
};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};

use self::programs::{Counter, Generator, Reflector};
use super::{
    Effort,
    report::Results,
    scale::{
        kernel,
        leases::{Leases, Spread},
    },
};
use crate::{
    netns::{CLIENT_INTERFACE, SERVER_INTERFACE, Wire},
    server::{Additions, Plane, Server},
};

/// How many clients are known.
const SIZES: [(&str, u32); 3] = [("1,024", 1 << 10), ("65,536", 1 << 16), ("1,048,576", 1 << 20)];
/// Frames of one run.
const FRAMES: u64 = 1_500_000;
/// Frames before each run, which bring back into the processor's caches what others have displaced.
const WARMING_UP: u64 = 100_000;
/// Replies that are read to their last octet are a sample of so many.
const CHECKED: u64 = 300_000;
/// Frames that are generated with one call of the kernel.
const CHUNK: u64 = 1 << 15;
/// How long storage covers the leases: the lifetime of the configuration, two hours, and as much again, so that no
/// measurement waits for the daemon.
const COVERED: Duration = Duration::from_hours(4);
/// How often a run is tried until no frame is lost in front of what is measured.
const ATTEMPTS: u32 = 5;
const REPEATED: &str = "runs were repeated in which the veth pair's queue was full and frames were lost before anybody \
                        received them";
/// How long replies may take when all has been sent.
const PATIENCE: Duration = Duration::from_millis(500);

const BARE: &str = "bare reflector";
const LOOKING_UP: &str = "look-up reflector";
const FAST_PATH: &str = "fast path";
const RATIO: &str = "fast path / look-up reflector";

const NOTES: [&str; 5] = [
    "frames a second that come back over one native veth pair, one generator (live frames, BPF_PROG_TEST_RUN) on one \
     processor, which also does the receiving and everything in between; each frame is the Solicit of another known \
     client, chosen uniformly at random",
    "bare reflector: swaps the MAC addresses, XDP_TX; look-up reflector: looks the client's DUID up in a BPF hash map \
     with as many entries before (24-byte key, 32-byte value)",
    "fast path: the program of dhcp6d, whose daemon runs, with as many leases in its store; every frame was answered by a \
     Reply, and every Reply has come back",
    "each has a veth pair of its own; runs take turns, and a ratio is that of two runs next to each other",
    "Replies are sampled and read to the last octet (checksum, identifiers, address) in a volley of its own",
];

/// Measures with different numbers of known clients.
///
/// # Errors
///
/// Where a frame is not answered, or wrongly.
pub(super) fn measure(effort: Effort, progress: &dyn Fn(&str)) -> Result<Results> {
    let mut results = Results::new("fastpath");
    for note in NOTES {
        results.note(note);
    }
    for (name, clients) in SIZES {
        // The last takes seconds to prepare.
        if !effort.quick || clients <= 1 << 16 {
            let case = Case { name, clients, effort };
            case.measure(&mut results, progress).with_context(|| format!("{name} known clients"))?;
        }
    }
    results.aim(RATIO, "", "0.80, aim 0.95");
    Ok(results)
}

struct Case {
    name: &'static str,
    clients: u32,
    effort: Effort,
}

impl Case {
    fn measure(&self, results: &mut Results, progress: &dyn Fn(&str)) -> Result<()> {
        let Self { name, clients, effort } = *self;
        progress(&format!("{name}: preparing"));
        let wires = [Wire::new()?, Wire::new()?, Wire::new()?];
        let [bare, looking_up, fast_path] = &wires;
        let _bare = bare.server.enter(|| Reflector::bare(SERVER_INTERFACE))?;
        let _looking_up = looking_up.server.enter(|| Reflector::looking_up(clients, SERVER_INTERFACE))?;
        let server = self.serve(fast_path)?;
        progress(&format!("{name}: reading Replies"));
        let maps = PinnedMaps::open(server.pin_dir())?;
        self.check(fast_path, &maps)?;
        let solicit = MessageType::Solicit;
        let mut subjects = [
            Subject::new(BARE, bare, clients, solicit)?,
            Subject::new(LOOKING_UP, looking_up, clients, solicit)?,
            Subject::new(FAST_PATH, fast_path, clients, MessageType::Reply)?,
        ];
        for run in 1..=effort.runs {
            progress(&format!("{name}: run {run} of {}", effort.runs));
            let mut rates = [0.0; 3];
            for (subject, rate) in subjects.iter_mut().zip(&mut rates) {
                let before = (subject.received()?, maps.counters.get(0, Reason::Answered)?);
                let run = subject.run(effort, results).with_context(|| subject.name)?;
                if subject.answer == MessageType::Reply {
                    let received = subject.received()? - before.0;
                    let answered = maps.counters.get(0, Reason::Answered)? - before.1;
                    ensure!(received == answered, "of {answered} Replies {received} have come back");
                }
                *rate = run;
                results.add(subject.name, "1/s", name, *rate);
            }
            let [bare, looking_up, fast_path] = rates;
            results.add(RATIO, "", name, fast_path / looking_up);
            results.add("fast path / bare reflector", "", name, fast_path / bare);
            let more = |rate: f64| 1e9 / rate - 1e9 / bare;
            results.add("look-up reflector: time above bare", "ns", name, more(looking_up));
            results.add("fast path: time above bare", "ns", name, more(fast_path));
        }
        Ok(())
    }

    /// A server with a lease for each client, all of them in the kernel.
    fn serve<'a>(&self, wire: &'a Wire) -> Result<Server<'a>> {
        // Without the program that passes everything at the other end, where the counter is to be.
        let mut server = Server::prepare(wire, Plane::Generic, &Additions::default())?;
        server.configure(|config| {
            config
                .replace("mode = \"generic\"", "mode = \"native\"")
                .replace("max_bindings = 1024", &format!("max_bindings = {}", self.clients))
                .replace("\"2001:db8:1::1000-2001:db8:1::ffff\"", "\"2001:db8:1::/64\"")
        })?;
        Leases { count: self.clients, spread: Spread::Cyclic }.store_covered(&server.database(), COVERED)?;
        server.restart()?;
        let start = Instant::now();
        loop {
            server.ensure_running()?;
            let count = kernel::count(server.pin_dir())?;
            if count == self.clients {
                return Ok(server);
            }
            ensure!(start.elapsed() < Duration::from_mins(1), "only {count} bindings are in the kernel");
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Reads a sample of the Replies to their last octet, and counts all.
    fn check(&self, wire: &Wire, maps: &PinnedMaps) -> Result<()> {
        let before = maps.counters.get(0, Reason::Answered)?;
        let volley = Volley {
            clients: self.clients,
            packets: if self.effort.quick { 20_000 } else { CHECKED },
            unknown: 0,
            malformed: 0,
            mode: Mode::RapidCommit,
            engine: Some(Engine::LiveFrames),
            patience: Duration::from_secs(20),
        };
        let summary = wire.client.enter(|| fire(CLIENT_INTERFACE, &volley, |_| {}))?;
        let answered = maps.counters.get(0, Reason::Answered)? - before;
        ensure!(
            summary.receiver == Receiver::XdpNative
                && summary.wrong_replies == 0
                && summary.checked > 0
                && summary.received == answered,
            "{answered} Replies were sent, and a volley found something wrong: {summary:?}"
        );
        Ok(())
    }
}

/// What is measured: what answers at the other end of a wire.
struct Subject<'a> {
    name: &'static str,
    wire: &'a Wire,
    generator: Generator,
    counter: Counter,
    /// What it answers with.
    answer: MessageType,
}

impl<'a> Subject<'a> {
    fn new(name: &'static str, wire: &'a Wire, clients: u32, answer: MessageType) -> Result<Self> {
        let (generator, counter) =
            wire.client.enter(|| anyhow::Ok((Generator::load(clients)?, Counter::attach()?)))?;
        Ok(Self { name, wire, generator, counter, answer })
    }

    /// Frames a second that come back. All of them must, and so a run is repeated where other work on the machine has
    /// kept the processor from taking frames out of the veth pair's queue before it was full.
    fn run(&mut self, effort: Effort, results: &mut Results) -> Result<f64> {
        let frames = if effort.quick { FRAMES / 50 } else { FRAMES };
        let wire = self.wire;
        wire.client.enter(|| {
            stay_on_one_processor()?;
            let mut rate = 0.0;
            for _ in 0..ATTEMPTS {
                self.fire(WARMING_UP.min(frames))?;
                let (received, took) = self.fire(frames)?;
                #[expect(clippy::cast_precision_loss, reason = "a rate")]
                let measured = received as f64 / took.as_secs_f64();
                rate = measured;
                if received == frames {
                    return Ok(rate);
                }
                results.note(REPEATED);
            }
            // It is not the speed that is looked at then.
            ensure!(
                effort.quick && rate > 0.0,
                "frames are lost before they are received: is the machine busy with other work?"
            );
            Ok(rate)
        })
    }

    /// How many answers have come back.
    fn received(&self) -> Result<u64> {
        self.counter.received(self.answer)
    }

    /// Fires. Returns how many frames were answered, and how long that took.
    fn fire(&mut self, frames: u64) -> Result<(u64, Duration)> {
        let before = self.received()?;
        let start = Instant::now();
        let mut left = frames;
        while left > 0 {
            let chunk = left.min(CHUNK);
            self.generator.fire(chunk as u32)?;
            left -= chunk;
        }
        let sent = Instant::now();
        loop {
            let took = start.elapsed();
            let received = self.received()? - before;
            ensure!(received <= frames, "{received} answers to {frames} frames");
            if received == frames || sent.elapsed() > PATIENCE {
                return Ok((received, took));
            }
            thread::yield_now();
        }
    }
}

/// The processor on which everything happens, for the thread that fires: the last one.
fn stay_on_one_processor() -> Result<()> {
    let mut processors = CpuSet::new();
    let count = thread::available_parallelism()?.get();
    processors.set(count - 1)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &processors)?)
}
