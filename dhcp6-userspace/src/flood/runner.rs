//! A population on a network interface.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use nix::{
    net::if_::if_nametoindex,
    poll::{PollFd, PollFlags, ppoll},
    sys::time::TimeSpec,
};

use super::{
    Pace, Plan, Summary,
    population::Population,
    shared::Shared,
    socket::{BATCH, PacketSocket, SendSocket, Share},
    summary::Tally,
};

/// Batches received before anything is sent again. More than are sent, so that what waits becomes less even while all
/// clients send at once.
const RECEIVE_BATCHES: u32 = 4;
/// How often the watcher is told.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);

/// Why a run cannot begin or go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No such interface.
    #[error("there is no interface {0}")]
    NoInterface(String),
    /// The kernel refuses.
    #[error(
        "cannot {what} on interface {interface}: {source}; it takes CAP_NET_RAW, and an interface that is up"
    )]
    Socket {
        /// What was being done.
        what: &'static str,
        /// The interface.
        interface: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel's engine was asked for, or has failed.
    #[error("cannot send live frames: {0}; `--engine packet-socket` needs none")]
    LiveFrames(String),
}

/// How far a run is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Which part of it is done, from 0 to 1.
    pub part: f64,
    /// Exchanges completed.
    pub answered: u64,
    /// Replies that were wrong.
    pub wrong: u64,
}

/// Lets the clients of a plan run on an interface, each played by one of so many threads. `watch` is called ten times a
/// second.
///
/// # Errors
///
/// [`RunError`].
pub fn run(
    interface: &str,
    plan: &Plan,
    threads: u8,
    mut watch: impl FnMut(Progress),
) -> Result<Summary, RunError> {
    let error = |(what, source)| RunError::Socket { what, interface: interface.to_owned(), source };
    let index = if_nametoindex(interface).map_err(|_| RunError::NoInterface(interface.to_owned()))?;
    let threads = threads_of(plan, threads);
    let sockets: Vec<_> = (0..threads)
        .map(|thread| {
            let numbers = part(plan.clients, thread, threads);
            let (first, end, clients) = (numbers.start, numbers.end, plan.clients);
            let share = (threads > 1).then_some(Share { thread, first, end, clients });
            Ok((numbers, PacketSocket::open(index, share)?, SendSocket::open(index, false)?))
        })
        .collect::<Result<_, _>>()
        .map_err(error)?;
    let shared = Arc::new(Shared::new());
    let stop = AtomicBool::new(false);
    let start = Instant::now();
    let watcher = thread::current();
    let results: Vec<Found> = thread::scope(|scope| {
        let workers: Vec<_> = { (0..threads).zip(sockets) }
            .map(|(thread, (numbers, receive, send))| {
                let plan = plan_of(plan, thread, threads);
                let population = Population::new(plan, numbers, Arc::clone(&shared), start, rand::random());
                let (stop, watcher) = (&stop, &watcher);
                scope.spawn(move || {
                    let result = Worker { population, receive, send, stop }.work();
                    if result.is_err() {
                        stop.store(true, Relaxed);
                    }
                    watcher.unpark();
                    result
                })
            })
            .collect();
        while !workers.iter().all(thread::ScopedJoinHandle::is_finished) {
            watch(Progress {
                part: match plan.duration {
                    Some(duration) => start.elapsed().as_secs_f64() / duration.as_secs_f64(),
                    None => shared.done() / f64::from(plan.clients.max(1)),
                }
                .min(1.0),
                answered: shared.answered.load(Relaxed),
                wrong: shared.wrong.load(Relaxed),
            });
            thread::park_timeout(WATCH_INTERVAL);
        }
        workers.into_iter().map(|worker| worker.join().expect("a worker does not panic")).collect()
    });
    let mut drops = 0;
    let mut tallies = Vec::new();
    for result in results {
        let (tally, dropped) = result.map_err(error)?;
        drops += dropped;
        tallies.push(tally);
    }
    Ok(Summary::new(plan, threads.into(), tallies, drops))
}

/// How many threads have something to do.
fn threads_of(plan: &Plan, threads: u8) -> u8 {
    let most = match plan.pace {
        Pace::Window(window) => window.min(plan.clients),
        _ => plan.clients,
    };
    threads.min(u8::try_from(most).unwrap_or(u8::MAX)).max(1)
}

/// A thread's part of so many things.
fn part(whole: u32, thread: u8, threads: u8) -> std::ops::Range<u32> {
    let at = |thread: u8| (u64::from(whole) * u64::from(thread) / u64::from(threads)) as u32;
    at(thread)..at(thread + 1)
}

/// The plan of a thread's clients.
fn plan_of(plan: &Plan, thread: u8, threads: u8) -> Plan {
    let pace = match plan.pace {
        Pace::Window(window) => Pace::Window(part(window, thread, threads).len() as u32),
        Pace::Rate(rate) => Pace::Rate(rate / f64::from(threads)),
        storm @ Pace::Storm { .. } => storm,
    };
    let relays = plan.relays.map(|relays| super::Relays { chain: thread, ..relays });
    Plan { pace, relays, messages: plan.messages / u64::from(threads), ..plan.clone() }
}

/// What some of the clients have found, and how many frames were dropped before they were read; or what was being done
/// when it failed.
type Found = Result<(Tally, u64), (&'static str, io::Error)>;

/// Some of the clients, and their sockets.
struct Worker<'a> {
    population: Population,
    receive: PacketSocket,
    send: SendSocket,
    /// Set where another one has failed.
    stop: &'a AtomicBool,
}

impl Worker<'_> {
    /// Lets the clients run.
    fn work(mut self) -> Found {
        let context = |what| move |failure| (what, failure);
        loop {
            let now = Instant::now();
            if self.population.is_finished(now) || self.stop.load(Relaxed) {
                break;
            }
            let mut is_full = true;
            while !self.send.is_full() {
                is_full = self.send.fill(|frame| self.population.poll_transmit(now, frame));
                if !is_full {
                    break;
                }
            }
            self.send.send().map_err(context("send"))?;
            let mut received = 0;
            for _ in 0..RECEIVE_BATCHES {
                let count = self.receive.receive().map_err(context("receive"))?;
                let now = Instant::now();
                for number in 0..count {
                    self.population.handle(now, self.receive.frame(number));
                }
                received += count;
                if count < BATCH {
                    break;
                }
            }
            let no_room = !self.send.is_empty();
            if received == 0 && (no_room || !is_full) {
                let timeout = self.population.next_timeout().saturating_duration_since(now);
                wait(&self.receive, no_room, timeout.min(WATCH_INTERVAL))
                    .map_err(context("wait for frames"))?;
            }
        }
        let drops = self.receive.drops().map_err(context("read the statistics"))?;
        Ok((self.population.tally(Instant::now()), drops))
    }
}

/// Waits for a frame, or for room to send one.
pub(super) fn wait(socket: &PacketSocket, no_room: bool, timeout: Duration) -> io::Result<()> {
    // A full transmit queue of the interface does not show as a socket that cannot be written to.
    let timeout = if no_room { timeout.min(Duration::from_millis(1)) } else { timeout };
    let mut descriptors = [PollFd::new(std::os::fd::AsFd::as_fd(socket), PollFlags::POLLIN)];
    match ppoll(&mut descriptors, Some(TimeSpec::from(timeout)), None) {
        Ok(_) | Err(nix::Error::EINTR) => Ok(()),
        Err(failure) => Err(failure.into()),
    }
}
