//! The running server: engine, store, sockets, kernel and control socket, in rounds.

mod committer;
mod kernel;
mod listeners;
mod presence;
mod queries;
mod queue;
mod reload;
mod service;
mod stats;
mod taking_up;
mod vlan_offload;
mod vlan_table;

use std::{
    future::poll_fn,
    io, mem,
    path::PathBuf,
    task::Poll,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result, bail};
use dhcp6_common::wire::{Duid, MESSAGE_HEADER_LEN, MessageType, OptionCode, OptionWalker};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::yield_now,
    time::{MissedTickBehavior, interval},
};
use tracing::{debug, error, info, warn};

pub use self::service::ServiceManager;
use self::{
    committer::{Committer, Outcome, Work},
    kernel::Kernel,
    listeners::Listener,
    presence::Presence,
    queue::{Class, Queue},
    stats::Stats,
    taking_up::{hold_on, take_up},
};
use crate::{
    clock::{Clock, Doubt},
    config::{Config, StoreKind},
    control::{ControlServer, Query, Question, ReloadStatus, StoreStatus, ask},
    engine::{Answer, Arrival, DropReason, Engine, Owner},
    fastpath::clean_up,
    lease::{Change, MemoryStore, SqliteStore, Store, StoreError, create_state_dir, server_duid},
    metrics::{MetricsServer, Scrape},
    net::{Datagram, Interface, Path, neighbor_limit, release_group},
    time::Time,
};

/// Messages that are handled at once. What comes while a commit is under way shares the next one.
const ROUND: usize = 1024;
/// Strangers are no more of a round than this while more waits in the sockets than was read: what the kernel drops there
/// may be anybody's.
const HURRIED_ROUND: usize = ROUND / 8;
/// Datagrams that are read before these are handled, so that the most important of them can be chosen.
const TAKEN_IN: usize = 8 * ROUND;
/// Answers that wait for a commit at most. With more, messages wait in the sockets.
const MOST_WAITING: usize = 16 * ROUND;
/// Changes that wait for a commit at most, before what adds to them waits. A Renew that storage covers may add one,
/// although its answer does not wait.
const MOST_CHANGES: usize = 4 * MOST_WAITING;
/// Leases that are ended at once, in some milliseconds.
const ENDED_AT_ONCE: usize = 1024;
/// Leases that storage pays for at once.
const PAID_AT_ONCE: usize = 2048;
/// How long the daemon does other things between two looks at the kernel's bindings.
const SWEEP_STEP: Duration = Duration::from_millis(100);
/// How often the store gets a reading of the clock, at most.
const CLOCK_READINGS: Duration = Duration::from_mins(1);
/// How long an operator, and with him everybody, waits for a disk that hangs.
const OPERATORS_PATIENCE: Duration = Duration::from_secs(2);
/// How long the daemon goes on with what waits when it is to end.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// How long interfaces may take to get their link-local addresses.
const INTERFACE_PATIENCE: Duration = Duration::from_secs(10);

/// A message that waits to be handled.
struct Received {
    /// Index of the socket that it came by.
    socket: usize,
    path: Path,
    arrival: Arrival,
    arrived: SystemTime,
    message: Box<[u8]>,
}

/// An answer and its way.
struct Addressed {
    /// Index of the socket that it leaves by.
    socket: usize,
    path: Path,
    /// When the engine gave it: what it promises is stored as of then.
    given: Time,
    answer: Answer,
}

/// A server that is ready to run.
pub struct Daemon {
    /// Where the configuration came from, to be read again.
    path: PathBuf,
    config: Config,
    /// How the last reload went, if there was one.
    last_reload: Option<ReloadStatus>,
    clock: Clock,
    /// When the store has last got a reading of the clock.
    clock_stored: Option<Time>,
    /// When the next round through the kernel's bindings begins.
    next_sweep: Time,
    /// Whether leases have run out that are not ended yet.
    is_overdue: bool,
    /// Whether such a round is complete, and storage has yet to pay for what it has found.
    is_paying: bool,
    since: Time,
    engine: Engine,
    committer: Committer,
    queue: Queue<Received>,
    /// Clients that the kernel has been made to forget, for the rest of the round.
    kept_from_kernel: Vec<Owner>,
    /// Whether the last round has left anything to handle.
    is_behind: bool,
    /// Answers that need the commit that is under way.
    committing: Vec<Addressed>,
    /// Answers that need the next one.
    waiting: Vec<Addressed>,
    store_status: StoreStatus,
    /// Steps of the sweep since a commit has begun.
    quiet_steps: u32,
    /// While the log says that the store fails: how many commits had failed when that was looked at last.
    store_failures: Option<u64>,
    presence: Presence,
    sockets: Vec<Listener>,
    manager: ServiceManager,
    kernel: Option<Kernel>,
    control: ControlServer,
    metrics: Option<MetricsServer>,
    stats: Stats,
}

impl Daemon {
    /// Opens everything that the configuration names, which was read from `path`; sockets that `manager` has kept are
    /// taken over. When this returns, the server answers as soon as it runs.
    ///
    /// # Errors
    ///
    /// Whatever cannot be opened, and what to do about it. What an earlier daemon has left in the kernel goes on then.
    pub fn start(config: Config, path: PathBuf, mut manager: ServiceManager) -> Result<Self> {
        let state_dir = &config.server.state_dir;
        create_state_dir(state_dir)?;
        let database = state_dir.join("leases.sqlite");
        let (kind, stored_in, mut store): (_, _, Box<dyn Store>) = match config.store {
            StoreKind::Sqlite => ("sqlite", Some(&database), Box::new(SqliteStore::open(&database)?)),
            StoreKind::Memory => ("memory", None, Box::new(MemoryStore::new())),
        };
        let stored_in = stored_in.cloned();
        let kept = server_duid(state_dir, store.server_duid()?)?;
        let duid = config.server.duid.unwrap_or(kept);
        let before = store.clock()?;
        let (clock, doubt) = Clock::start(before.as_ref());
        if let Some(doubt) = doubt {
            warn!("{doubt}");
        }
        if let (Some(Doubt::FarAhead(pause)), Some(before)) = (doubt, before) {
            hold_on(&mut *store, before.seen, pause, clock.reading())?;
        }
        let now = clock.now();
        let engine = take_up(&config, duid, &mut *store, now)?;
        // A store that takes nothing is found out before anybody is served.
        let reading = clock.reading();
        store.commit(&[Change::PutClock(reading), Change::PutServerDuid(kept)])?;

        say_what_waits(&engine);
        let presence = Presence::find(&config, INTERFACE_PATIENCE)?;
        let interfaces = presence.by_link(&config);
        vlan_offload::check(&config, &interfaces)?;
        let sockets = Listener::open_all(&config, &interfaces, &mut manager)?;
        warn_of_small_neighbor_table(&engine, &sockets);
        let control = ControlServer::listen(&config.control_socket).with_context(|| {
            format!("cannot listen on the control socket {}", config.control_socket.display())
        })?;
        let metrics = config
            .metrics
            .map(|address| {
                MetricsServer::listen(address)
                    .with_context(|| format!("cannot serve metrics on {address} ([metrics] listen)"))
            })
            .transpose()?;
        forget_other_pins(state_dir, &config.fast_path.pin_dir)?;
        let kernel = Kernel::start(&config, &engine, clock, &interfaces).context("no fast path")?;
        let store_status = StoreStatus {
            kind: kind.to_owned(),
            path: stored_in,
            ok: true,
            last_error: None,
            commits: 1,
            failed_commits: 0,
            commit_takes: None,
        };
        Ok(Self {
            path,
            config,
            last_reload: None,
            clock,
            clock_stored: Some(reading.seen),
            next_sweep: now,
            is_overdue: false,
            is_paying: false,
            since: now,
            engine,
            committer: Committer::start(store).context("no thread for commits")?,
            queue: Queue::new(),
            kept_from_kernel: Vec::new(),
            is_behind: false,
            committing: Vec::new(),
            waiting: Vec::new(),
            store_status,
            quiet_steps: 0,
            store_failures: None,
            presence,
            sockets,
            manager,
            kernel,
            control,
            metrics,
            stats: Stats::default(),
        })
    }

    /// Serves until SIGTERM or SIGINT; then finishes what was received. The XDP program stays, and the next daemon
    /// takes it over.
    ///
    /// # Errors
    ///
    /// What makes it impossible to go on, or to stop cleanly.
    pub async fn run(mut self) -> Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let mut tick = interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.sockets.iter().for_each(Listener::announce);
        self.manager.keep(&self.sockets);
        service::say_ready();
        let commit_ended = self.committer.bell();
        let mut sweep = interval(SWEEP_STEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                // The failure is logged, and shown by `status`.
                _ = hangup.recv() => drop(self.reload()),
                Some(Question { query, answer }) = self.control.next() => {
                    // The asker may have hung up.
                    answer.send(self.answer(&query)).ok();
                }
                Some(scrape) = scraped(&mut self.metrics) => {
                    // The scraper may have hung up.
                    scrape.send(self.snapshot()).ok();
                }
                () = commit_ended.notified() => {
                    if let Some(outcome) = self.committer.outcome() {
                        self.finish_work(&outcome);
                    }
                }
                _ = tick.tick() => self.tick(),
                _ = sweep.tick() => {
                    self.sweep();
                    self.quiet_steps = self.quiet_steps.saturating_add(1);
                    self.tidy();
                }
                // All of the above comes first, also where sockets always have something to receive.
                () = yield_now(), if self.has_room() && self.is_behind => self.round(),
                ready = readable(&self.sockets), if self.has_room() && !self.is_behind => {
                    ready.context("cannot wait for datagrams")?;
                    self.round();
                }
                () = yield_now(), if self.is_overdue => {
                    self.expire();
                    self.finish_round(Vec::new());
                }
            }
        }
        info!("stopping");
        service::say_stopping();
        self.round();
        while self.sockets.iter().any(|listener| listener.socket.has_rest()) {
            let (answers, _) = self.take_in(true);
            self.finish_round(answers);
        }
        self.handle_all(Instant::now() + LAST_WORDS);
        self.settle(None);
        self.keep_store();
        self.settle(None);
        if self.kernel.as_ref().is_some_and(|kernel| !kernel.rows(self.config.fast_path.mode).is_empty()) {
            let horizon = humantime::format_duration(self.config.fast_path.horizon);
            info!(
                "the fast path goes on answering known clients, for {horizon} at most; `--detach` ends that"
            );
        }
        Ok(())
    }

    fn tick(&mut self) {
        self.expire();
        self.finish_round(Vec::new());
        self.look_after_interfaces();
        self.look_after_store();
        if let Some(kernel) = &mut self.kernel {
            kernel.flush_logs();
        }
    }

    /// Ends some of the leases whose time has come: with many at once, messages are answered in between.
    fn expire(&mut self) {
        self.is_overdue = !self.engine.expire(self.clock.now(), ENDED_AT_ONCE);
    }

    /// Tries a store that fails again, so that it is known to work even where nobody asks for anything, and says that
    /// it works once no commit has failed for a tick: it may take some commits and refuse others.
    fn look_after_store(&mut self) {
        let Some(failures) = self.store_failures else {
            self.keep_store();
            return;
        };
        if !self.store_status.ok {
            self.try_store();
        }
        let StoreStatus { ok, failed_commits, .. } = self.store_status;
        if ok && failed_commits == failures {
            info!("the store works again");
            self.store_failures = None;
        } else {
            self.store_failures = Some(failed_commits);
        }
    }

    /// Has a store that is not in its place any more be written anew, or be known to fail: where the kernel answers
    /// everybody, it may be long until something else is committed, and a server that starts before knows no lease.
    fn keep_store(&mut self) {
        if self.committer.store().is_some_and(|store| !store.is_in_place()) {
            self.try_store();
        }
    }

    /// Has the engine see what the kernel has granted, some bindings at a time, and storage pay for what it grants
    /// next. A round through all of them begins every eighth of the horizon.
    fn sweep(&mut self) {
        let now = self.clock.now();
        if !self.is_paying && now >= self.next_sweep {
            let Some(kernel) = &mut self.kernel else { return };
            let (grants, is_complete) = kernel.sweep();
            for grant in &grants {
                self.engine.granted(grant);
            }
            if is_complete {
                self.next_sweep = now.after(self.config.fast_path.horizon / 8);
            }
            self.is_paying = is_complete;
        }
        if self.is_paying && self.has_room() {
            self.is_paying = !self.engine.pay(PAID_AT_ONCE);
            self.finish_round(Vec::new());
        }
    }

    /// Whether more may wait for the next commit.
    fn has_room(&self) -> bool {
        self.waiting.len() < MOST_WAITING && self.engine.changes() < MOST_CHANGES
    }

    /// Takes in what has arrived, and handles a round's worth of what waits.
    fn round(&mut self) {
        let (mut answers, is_all) = self.take_in(false);
        self.handle(&mut answers, if is_all { ROUND } else { HURRIED_ROUND });
        self.is_behind = !is_all || !self.queue.is_empty();
        if self.is_overdue {
            self.expire();
        }
        self.finish_round(answers);
    }

    /// Handles all that waits, until `deadline`.
    fn handle_all(&mut self, deadline: Instant) {
        while !self.queue.is_empty() && Instant::now() < deadline {
            let mut answers = Vec::new();
            self.handle(&mut answers, ROUND);
            self.finish_round(answers);
        }
    }

    /// Reads what has arrived, up to [`TAKEN_IN`], and has it wait in its class. What is no client's message is judged
    /// at once. Returns answers, if that gives any, and whether nothing waits in the sockets any more. `only_rest` leaves
    /// in the kernel what is still there.
    fn take_in(&mut self, only_rest: bool) -> (Vec<Addressed>, bool) {
        let now = Instant::now();
        let wall = SystemTime::now();
        let given = self.clock.now();
        let share = TAKEN_IN.div_ceil(self.sockets.len().max(1));
        let mut answers = Vec::new();
        let mut emptied = 0;
        for (index, Listener { links, socket, .. }) in self.sockets.iter_mut().enumerate() {
            for _ in 0..share {
                if only_rest && !socket.has_rest() {
                    break;
                }
                match socket.receive() {
                    Ok(Some(datagram)) => {
                        let Datagram { path, payload, arrived, fault } = datagram;
                        let kind = Engine::message_type(payload);
                        self.stats.received(kind);
                        let link = links.link_of(path.vlan());
                        let is_foreign = path.frame.is_some() && link.is_none();
                        let fault = fault.or(is_foreign.then_some(DropReason::UnknownLink));
                        if let Some(reason) = fault.or_else(|| has_wrong_source(kind, &path)) {
                            self.stats.dropped(reason);
                            continue;
                        }
                        let multicast = path.destination.is_multicast();
                        // The MAC address zero is nobody's.
                        let mac = path.mac().filter(|mac| *mac != [0; 6]);
                        let arrival = Arrival { link, vlan: path.vlan(), mac, multicast };
                        let Some(glance) = self.engine.glance(arrival, payload) else {
                            match self.engine.handle(given, arrival, payload) {
                                Ok(answer) => answers.push(Addressed { socket: index, path, given, answer }),
                                Err(reason) => self.stats.dropped(reason),
                            }
                            continue;
                        };
                        let age = wall.duration_since(arrived).unwrap_or_default();
                        let since = now.checked_sub(age).unwrap_or(now);
                        let received =
                            || Received { socket: index, path, arrival, arrived, message: payload.into() };
                        let shed = self.queue.push(now, since, &glance, payload.len(), received);
                        self.stats.shed(shed);
                    }
                    Ok(None) => {
                        emptied += 1;
                        break;
                    }
                    Err(failure) => {
                        debug!("cannot receive: {failure}");
                        self.stats.receive_errors += 1;
                        break;
                    }
                }
            }
        }
        (answers, emptied == self.sockets.len())
    }

    /// Handles what waits, up to a round's worth, but no more than `strangers` once all that is left are strangers.
    fn handle(&mut self, answers: &mut Vec<Addressed>, strangers: usize) {
        let now = Instant::now();
        let given = self.clock.now();
        for count in 0..ROUND {
            if count >= strangers && self.queue.len(Class::Clients) + self.queue.len(Class::Known) == 0 {
                break;
            }
            let (next, shed) = self.queue.next(now);
            self.stats.shed(shed);
            let Some(Received { socket, path, arrival, arrived, message }) = next else { break };
            let owner = releasing(&self.config, arrival, &message);
            if let Some((kernel, owner)) = self.kernel.as_mut().zip(owner) {
                if kernel.granted_since(&owner, arrived.elapsed().unwrap_or_default()) {
                    self.stats.dropped(DropReason::Outdated);
                    continue;
                }
                // Nor may the kernel grant before the end of this round what is given back now.
                kernel.forget(&[owner]);
                self.kept_from_kernel.push(owner);
            }
            match self.engine.handle(given, arrival, &message) {
                Ok(answer) => answers.push(Addressed { socket, path, given, answer }),
                Err(reason) => self.stats.dropped(reason),
            }
        }
    }

    /// Carries out what a round has changed, in the order that `engine` prescribes, and sends the answers: at once, or
    /// after the next commit.
    fn finish_round(&mut self, answers: Vec<Addressed>) {
        let mut forgotten = self.engine.take_forgotten();
        if let Some(kernel) = &mut self.kernel {
            kernel.forget(&forgotten);
            forgotten.append(&mut self.kept_from_kernel);
            // Of what is left of a client, storage has covered all.
            let now = self.clock.now();
            kernel.serve(forgotten.iter().filter_map(|owner| self.engine.kernel_binding_of(now, owner)));
        }
        let (waiting, ready) = answers.into_iter().partition(|addressed| addressed.answer.needs_commit);
        self.waiting.append(&mut { waiting });
        self.send(ready);
        self.commit();
    }

    /// Begins to commit what has changed, unless a commit is under way.
    fn commit(&mut self) {
        if self.committer.is_idle() {
            let changes = self.engine.take_changes();
            if !changes.is_empty() {
                self.begin_commit(changes);
            }
        }
    }

    /// Begins a commit even where nothing has changed, unless one is under way.
    fn try_store(&mut self) {
        if self.committer.is_idle() {
            let changes = self.engine.take_changes();
            self.begin_commit(changes);
        }
    }

    /// Begins to commit these changes, and now and then a reading of the clock with them.
    fn begin_commit(&mut self, mut changes: Vec<Change>) {
        let reading = self.clock.reading();
        let is_due = !self.store_status.ok
            || self.clock_stored.is_none_or(|stored| reading.seen.since(stored) >= CLOCK_READINGS);
        if is_due {
            changes.push(Change::PutClock(reading));
        }
        self.committing = mem::take(&mut self.waiting);
        self.quiet_steps = 0;
        self.committer.begin(Work::Commit(changes));
    }

    /// Has the store do what commits have left for later, while there are none.
    fn tidy(&mut self) {
        let has_time = self.quiet_steps > 1 && self.store_status.ok;
        if has_time && self.committer.store().is_some_and(|store| !store.is_tidy()) {
            self.committer.begin(Work::Tidy);
        }
    }

    fn finish_work(&mut self, Outcome { work, result }: &Outcome) {
        match (work, result) {
            (Work::Commit(changes), result) => self.finish_commit(changes, result),
            (Work::Tidy, Ok(())) => {
                self.commit();
                self.tidy();
            }
            (Work::Tidy, Err(failure)) => self.note_failure(failure),
        }
    }

    /// Has the kernel serve what is stored now, sends the answers that waited for that, and goes on with what has
    /// gathered meanwhile.
    fn finish_commit(&mut self, changes: &[Change], result: &Result<(), StoreError>) {
        let answers = mem::take(&mut self.committing);
        match result {
            Ok(()) => {
                self.store_status.ok = true;
                self.store_status.commits += 1;
                if let Some(Change::PutClock(reading)) = changes.last() {
                    self.clock_stored = Some(reading.seen);
                }
                let served = self.engine.committed(self.clock.now(), changes);
                if let Some(kernel) = &mut self.kernel {
                    kernel.serve(served);
                }
                let now = self.clock.now();
                // A lifetime counts from when the client hears of it, and storage is half a horizon ahead.
                let patience = self.config.fast_path.horizon / 2;
                let (in_time, late): (Vec<_>, Vec<_>) =
                    answers.into_iter().partition(|addressed| now.since(addressed.given) <= patience);
                for _ in late {
                    self.stats.dropped(DropReason::StoreFailed);
                }
                // The disk is at work while these are sent.
                self.commit();
                self.send(in_time);
            }
            Err(failure) => {
                self.note_failure(failure);
                for _ in answers {
                    self.stats.dropped(DropReason::StoreFailed);
                }
                // What nobody waits for is tried again with the next round.
                if !self.waiting.is_empty() {
                    self.commit();
                }
            }
        }
    }

    /// The first failure is said.
    fn note_failure(&mut self, failure: &StoreError) {
        let StoreStatus { ok, failed_commits, last_error, .. } = &mut self.store_status;
        *ok = false;
        *failed_commits += 1;
        if self.store_failures.is_none() {
            error!("{failure}: nothing new is promised until this works");
            self.store_failures = Some(*failed_commits);
        }
        *last_error = Some(failure.to_string());
    }

    /// Waits until all that has changed is committed, for `patience` at most where there is one. Returns whether it is.
    fn settle(&mut self, patience: Option<Duration>) -> bool {
        let deadline = patience.map(|patience| Instant::now() + patience);
        // What is under way does not have all changes: how it ends says nothing of the others.
        let mut is_partial = !self.committer.is_idle();
        self.quiet_steps = 0;
        self.finish_round(Vec::new());
        let mut is_stored = true;
        while !self.committer.is_idle() {
            let Some(outcome) = self.committer.wait(deadline) else { return false };
            is_stored = outcome.result.is_ok();
            self.finish_work(&outcome);
            if mem::take(&mut is_partial) {
                self.commit();
            }
        }
        is_stored
    }

    fn send(&mut self, mut answers: Vec<Addressed>) {
        answers.sort_by_key(|addressed| addressed.socket);
        let Self { sockets, stats, .. } = self;
        for group in answers.chunk_by(|one, other| one.socket == other.socket) {
            let messages =
                group.iter().map(|Addressed { path, answer, .. }| (path, answer.port, &*answer.message));
            sockets[group[0].socket].socket.send(messages, |place, result| match result {
                Ok(()) => stats.sent(group[place].answer.kind),
                Err(failure) => {
                    debug!("cannot send to {}: {failure}", group[place].path.source);
                    stats.dropped(DropReason::SendFailed);
                }
            });
        }
    }
}

/// A message that only relay agents may send from where it comes from.
fn has_wrong_source(kind: Option<MessageType>, path: &Path) -> Option<DropReason> {
    let is_clients = kind.is_some_and(|kind| kind != MessageType::RelayForward);
    let is_wrong = is_clients && path.destination.is_multicast() && !path.source.ip().is_unicast_link_local();
    is_wrong.then_some(DropReason::SourceNotLinkLocal)
}

/// The client of a Release, whose lease the kernel may have granted anew while that waited: the client has come back
/// since.
fn releasing(config: &Config, arrival: Arrival, message: &[u8]) -> Option<Owner> {
    let link = arrival.link?;
    if Engine::message_type(message) != Some(MessageType::Release) {
        return None;
    }
    let options = OptionWalker::new(message.get(MESSAGE_HEADER_LEN..)?);
    let client = options.filter_map(Result::ok).find(|option| option.code == OptionCode::CLIENT_ID)?;
    let duid = Duid::new(client.value).ok()?;
    Some(Owner { link, origin: config.links[link as usize].origin_of(arrival.vlan, arrival.mac), duid })
}

/// The next scrape; none where no metrics are served.
async fn scraped(metrics: &mut Option<MetricsServer>) -> Option<Scrape> {
    metrics.as_mut()?.next().await
}

/// Waits until one of the sockets has something to receive.
async fn readable(sockets: &[Listener]) -> io::Result<()> {
    poll_fn(|context| {
        for Listener { socket, .. } in sockets {
            if let Poll::Ready(ready) = socket.poll_readable(context) {
                return Poll::Ready(ready);
            }
        }
        Poll::Pending
    })
    .await
}

/// Takes the programs away that a daemon with the same state has left under another `pin_dir`, and notes this one.
fn forget_other_pins(state_dir: &std::path::Path, pin_dir: &std::path::Path) -> Result<()> {
    let note = state_dir.join("pin_dir");
    if let Ok(before) = std::fs::read_to_string(&note)
        && std::path::Path::new(&before) != pin_dir
    {
        clean_up(before.as_ref())
            .with_context(|| format!("cannot take the fast path of [fast_path] pin_dir = {before:?} away"))?;
    }
    let path = pin_dir.to_str().context("[fast_path] pin_dir is not UTF-8")?;
    std::fs::write(&note, path).with_context(|| format!("cannot write {}", note.display()))
}

/// Takes what an earlier daemon with this configuration has left in the kernel away: XDP programs, pinned maps, the
/// interfaces' membership in the clients' group.
///
/// # Errors
///
/// Where a daemon still runs, or the kernel refuses.
pub fn detach(config: &Config) -> Result<()> {
    if ask::<serde_json::Value>(&config.control_socket, &Query::Status).is_ok() {
        bail!("dhcp6d is running: stop it first");
    }
    clean_up(&config.fast_path.pin_dir)?;
    for name in config.links.iter().filter_map(|link| link.interface.as_ref()) {
        // One that is gone, or was never held, needs nothing.
        if let Ok(interface) = Interface::find(name) {
            release_group(&interface).ok();
        }
    }
    Ok(())
}

/// Says whose reservations wait for somebody else's lease to end.
fn say_what_waits(engine: &Engine) {
    const MOST: usize = 20;
    let waiting = engine.waiting_reservations();
    for waiting in waiting.iter().take(MOST) {
        warn!("{waiting}");
    }
    if waiting.len() > MOST {
        warn!("{} more reservations wait for the end of a lease", waiting.len() - MOST);
    }
}

/// The kernel has to know the MAC address of each client that the daemon answers through UDP, and its table of neighbours
/// is small unless told otherwise.
fn warn_of_small_neighbor_table(engine: &Engine, sockets: &[Listener]) {
    let Some(limit) = neighbor_limit().filter(|_| sockets.iter().any(Listener::needs_neighbors)) else {
        return;
    };
    let clients = engine
        .links()
        .filter(|link| link.interface.is_some())
        .map(|link| link.addresses.idle.saturating_add(link.addresses.used.into()))
        .fold(0, u128::saturating_add);
    if clients > u128::from(limit) {
        warn!(
            "the pools have room for more clients than the kernel's neighbour table ({limit}): when many come at \
             once, some are answered late or not at all; give the daemon CAP_NET_RAW, which does without, or raise \
             net.ipv6.neigh.default.gc_thresh3 (and gc_thresh2)"
        );
    }
}
