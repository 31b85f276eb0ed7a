//! Crash tests: a server under load is killed, or its machine loses power, over and over; each time, what its clients
//! were promised is compared with what is left.

pub mod disk;
pub mod ledger;
pub mod load;
pub mod mount;

use std::{
    fmt, fs,
    net::Ipv6Addr,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};
use dhcp6_common::Reason;
use dhcp6_userspace::{
    fastpath::{BindingEntry, MapError, PinnedMaps},
    lease::{Contents, SqliteStore, Store as _},
};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tempfile::TempDir;

use self::{
    disk::Disk,
    ledger::Ledger,
    load::{ADDRESSES, DELEGATED_LENGTH, FIRST_ADDRESS, Load, PREFIXES},
    mount::Mounted,
};
use crate::{
    netns::Wire,
    server::{Additions, Plane, Server},
};

/// In seconds: so short that leases end, and their addresses change hands, while the test goes on.
const VALID_LIFETIME: u32 = 8;
/// The database, in the state directory.
const DATABASE: &str = "leases.sqlite";
/// What belongs to the database. A server that starts makes the index of the log again.
const DATABASE_FILES: [&str; 2] = [DATABASE, "leases.sqlite-wal"];
/// How many broken promises of a kind are described.
const MOST_REPORTS: usize = 10;
/// How likely a second crash is right after the first.
const AGAIN: f64 = 0.2;
/// How long after its start the server crashes then, at most.
const EARLY: Duration = Duration::from_millis(100);
/// How likely it is that a server that has just become ready is told to read its configuration again.
const RELOAD: f64 = 0.4;
/// How often the clients have a turn.
const TURN: Duration = Duration::from_micros(200);
/// How long a server may take to start.
const START_PATIENCE: Duration = Duration::from_secs(20);

/// What happens to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The process is killed (SIGKILL).
    Kill,
    /// The machine loses power, and the disk what was not synced. The kernel forgets nothing, which asks more of the
    /// server than a real power cut.
    PowerCut,
}

/// What came out of crashes.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Crashes of either kind.
    pub crashes: u32,
    /// Crashes before the server was ready.
    pub at_start: u32,
    /// Power cuts in the middle of what the server did to its disk.
    pub mid_write: u32,
    /// Syncs that the server waited for.
    pub syncs: u64,
    /// Replies that acknowledged a lease.
    pub replies: u64,
    /// Of these, those by way of a relay agent.
    pub relayed: u64,
    /// How often the server was told to read its configuration again.
    pub reloads: u32,
    /// Replies by the XDP program.
    pub by_kernel: u64,
    /// Of these, those that came while no daemon ran.
    pub while_down: u64,
    /// Leases that were acknowledged.
    pub acknowledged: u64,
    /// Comparisons of a promise with the store.
    pub compared: u64,
    /// Comparisons of what the kernel may promise with the store.
    pub compared_in_kernel: u64,
    /// What the store does not say.
    pub lost: Vec<String>,
    /// What was promised to two clients at once.
    pub duplicated: Vec<String>,
}

impl Outcome {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.lost.is_empty() && self.duplicated.is_empty()
    }

    /// Adds up.
    pub fn add(&mut self, other: Self) {
        self.crashes += other.crashes;
        self.at_start += other.at_start;
        self.mid_write += other.mid_write;
        self.syncs += other.syncs;
        self.replies += other.replies;
        self.relayed += other.relayed;
        self.reloads += other.reloads;
        self.by_kernel += other.by_kernel;
        self.while_down += other.while_down;
        self.acknowledged += other.acknowledged;
        self.compared += other.compared;
        self.compared_in_kernel += other.compared_in_kernel;
        self.lost.extend(other.lost);
        self.duplicated.extend(other.duplicated);
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { crashes, at_start, mid_write, syncs, replies, by_kernel, .. } = self;
        write!(f, "{crashes} ({at_start} before the server was ready")?;
        if *syncs > 0 {
            write!(f, ", {mid_write} while it wrote, {syncs} syncs")?;
        }
        let by_daemon = replies.saturating_sub(*by_kernel);
        writeln!(f, ")")?;
        writeln!(f, "  leases acknowledged  {}", self.acknowledged)?;
        writeln!(
            f,
            "    Replies by the daemon {by_daemon} ({} relayed), by the kernel {by_kernel} ({} while no daemon ran)",
            self.relayed, self.while_down
        )?;
        writeln!(f, "  reloads {}", self.reloads)?;
        writeln!(
            f,
            "  compared with the store: promises {}, entries of the kernel {}",
            self.compared, self.compared_in_kernel
        )?;
        write!(f, "  lost {}, duplicated {}", self.lost.len(), self.duplicated.len())?;
        // One fault breaks many promises.
        for reports in [&self.lost, &self.duplicated] {
            for report in reports.iter().take(MOST_REPORTS) {
                write!(f, "\n  {report}")?;
            }
        }
        Ok(())
    }
}

/// Has a server of its own crash so many times, and stops where a promise is broken. `seed` decides what clients do,
/// when the server crashes, and what a power cut leaves; how fast everything is stays up to the machine.
///
/// # Errors
///
/// Where the test cannot be made, or the server does not start again.
pub fn torture(crash: Crash, plane: Plane, times: u32, seed: u64, progress: impl FnMut()) -> Result<Outcome> {
    let wire = Wire::new()?;
    let prefixes =
        format!("[[link.prefix_pool]]\nprefix = \"{PREFIXES}\"\ndelegated_length = {DELEGATED_LENGTH}\n");
    let additions = Additions {
        fast_path: "horizon = \"4s\"",
        link: &format!(
            "preferred_lifetime = \"6s\"\nvalid_lifetime = \"{VALID_LIFETIME}s\"\ndecline_hold = \"3s\""
        ),
        pool: &excluded(ADDRESSES),
        file: &prefixes,
        ..Additions::default()
    };
    let mut server = Server::prepare(&wire, plane, &additions)?;
    let disk = match crash {
        Crash::Kill => None,
        Crash::PowerCut => {
            fs::create_dir(server.state_dir())?;
            Some(Mounted::new(Disk::default(), &server.state_dir())?)
        }
    };
    let load = Load::open(&wire.client, seed)?;
    let rng = StdRng::seed_from_u64(seed);
    let mut test =
        Test { server: &mut server, load, disk, seed, rng, answered: 0, outcome: Outcome::default() };
    let result = test.run(times, progress);
    let Test { load: Load { ledger, replies, relayed, .. }, disk, mut outcome, .. } = test;
    // Nobody may have the disk in use when it is unmounted.
    server.kill().ok();
    drop(disk);
    result?;
    let Ledger { acknowledged, compared, lost, duplicated, .. } = ledger;
    outcome.replies = replies;
    outcome.relayed = relayed;
    outcome.add(Outcome { acknowledged, compared, lost, duplicated, ..Outcome::default() });
    Ok(outcome)
}

/// The key of a pool that leaves so many addresses in it.
fn excluded(left: u16) -> String {
    let first = Ipv6Addr::from(u128::from(FIRST_ADDRESS) + u128::from(left));
    format!("exclude = [\"{first}-2001:db8:1::ffff\"]")
}

/// When a crash comes.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// So long after the start.
    Started(Duration),
    /// So long after the server was ready.
    Ready(Duration),
}

/// A server that crashes.
struct Test<'a, 'b> {
    server: &'a mut Server<'b>,
    load: Load,
    disk: Option<Mounted>,
    seed: u64,
    rng: StdRng,
    /// How many messages the kernel had answered when it was looked at last.
    answered: u64,
    outcome: Outcome,
}

impl Test<'_, '_> {
    fn run(&mut self, times: u32, mut progress: impl FnMut()) -> Result<()> {
        for round in 0..times {
            // What a round draws depends on timing; the next one begins with what the seed says all the same.
            self.rng = StdRng::seed_from_u64(self.seed.wrapping_add(round.into()));
            let moment = self.moment();
            self.server.spawn()?;
            self.wait_for(moment)?;
            self.crash()?;
            if self.rng.random_bool(AGAIN) {
                self.server.spawn()?;
                let after = Duration::from_micros(self.rng.random_range(0..EARLY.as_micros() as u64));
                self.serve(Instant::now() + after)?;
                self.crash()?;
                self.outcome.at_start += 1;
            }
            // The kernel may go on answering meanwhile.
            let down = Duration::from_millis(self.rng.random_range(0..30));
            let before = self.load.replies;
            self.serve(Instant::now() + down)?;
            self.outcome.while_down += self.load.replies - before;
            self.compare()?;
            progress();
            if !self.load.ledger.is_clean() {
                break;
            }
        }
        Ok(())
    }

    /// Chooses when the next crash comes, and sets the disk's trigger.
    fn moment(&mut self) -> Moment {
        if let Some(mounted) = &self.disk {
            // A checkpoint, the only thing that changes the database file, is rare.
            let (most, on) = if self.rng.random_bool(0.3) { (30, Some(DATABASE)) } else { (3000, None) };
            mounted.disk().cut_after(any_magnitude(&mut self.rng, 1, most) - 1, on);
            return Moment::Ready(Duration::from_secs(1));
        }
        if self.rng.random_bool(0.15) {
            Moment::Started(Duration::from_micros(self.rng.random_range(0..400_000)))
        } else {
            Moment::Ready(Duration::from_micros(any_magnitude(&mut self.rng, 20, 1_000_000)))
        }
    }

    /// Lets clients do what they do until the moment has come, or the power is gone.
    fn wait_for(&mut self, moment: Moment) -> Result<()> {
        let started = Instant::now();
        let mut at = match moment {
            Moment::Started(after) => Some(started + after),
            Moment::Ready(_) => None,
        };
        let mut is_ready = false;
        while !self.power_is_gone() {
            if let Some(at) = at {
                let turn = Instant::now() + 10 * TURN;
                self.serve(at.min(turn))?;
                if Instant::now() >= at {
                    break;
                }
            } else {
                self.serve(Instant::now() + 5 * TURN)?;
                match (self.server.is_ready(), moment) {
                    (Ok(true), Moment::Ready(after)) => {
                        is_ready = true;
                        self.reload()?;
                        at = Some(Instant::now() + after);
                    }
                    (Err(_), _) if self.power_is_gone() => {}
                    (Err(failure), _) => return Err(failure),
                    _ => {}
                }
                ensure!(started.elapsed() < START_PATIENCE, "dhcp6d does not start: {}", self.server.log());
            }
        }
        self.outcome.at_start += u32::from(!is_ready);
        self.outcome.mid_write += u32::from(self.power_is_gone());
        Ok(())
    }

    /// Tells the server, or does not, to read its configuration again, and does not wait for it. The pool has half
    /// its size then, or all of it, or what it had.
    fn reload(&mut self) -> Result<()> {
        if !self.rng.random_bool(RELOAD) {
            return Ok(());
        }
        let [whole, half] = [ADDRESSES, ADDRESSES / 2].map(excluded);
        let (from, to) = if self.rng.random() { (whole, half) } else { (half, whole) };
        self.server.configure(|text| text.replace(&from, &to))?;
        self.server.hang_up()?;
        self.outcome.reloads += 1;
        Ok(())
    }

    fn power_is_gone(&self) -> bool {
        self.disk.as_ref().is_some_and(|mounted| mounted.disk().is_off())
    }

    /// Gives the clients their turns until `end`.
    fn serve(&mut self, end: Instant) -> Result<()> {
        loop {
            self.load.step()?;
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            thread::sleep(left.min(TURN));
        }
    }

    fn crash(&mut self) -> Result<()> {
        if !self.power_is_gone() {
            self.server.ensure_running()?;
        }
        if let Some(mounted) = &self.disk {
            mounted.disk().turn_off();
        }
        self.server.kill()?;
        self.outcome.crashes += 1;
        // What it sent before it died is on its way to the clients.
        thread::sleep(Duration::from_millis(1));
        self.load.listen()?;
        self.load.give_up();
        if let Some(mounted) = &mut self.disk {
            let left = mounted.disk().after_cut(&mut self.rng);
            mounted.replace(left)?;
            self.outcome.syncs = mounted.disk().syncs;
        }
        Ok(())
    }

    /// Compares what clients were promised, and what the kernel may promise, with the store.
    fn compare(&mut self) -> Result<()> {
        let contents = self.contents()?;
        self.load.listen()?;
        let Load { ledger, clock, .. } = &mut self.load;
        ledger.expire(clock.now());
        ledger.compare_with_store(&contents);
        let maps = match PinnedMaps::open(self.server.pin_dir()) {
            Ok(maps) => maps,
            // It has never got so far as to make them.
            Err(MapError::Open { .. }) if self.answered == 0 => return Ok(()),
            Err(failure) => return Err(failure.into()),
        };
        let entries: Vec<BindingEntry> = maps.bindings.iter().collect::<Result<_, _>>()?;
        ledger.compare_kernel(&entries, VALID_LIFETIME, &contents, clock);
        self.outcome.compared_in_kernel += entries.len() as u64;
        let answered = maps.counters.get(0, Reason::Answered)?;
        // Where the maps are new, they count from 0.
        self.outcome.by_kernel += answered.checked_sub(self.answered).unwrap_or(answered);
        self.answered = answered;
        Ok(())
    }

    /// What a server would find in the store. It is looked at in a copy: reading the log can change the files.
    fn contents(&self) -> Result<Contents> {
        let copy = TempDir::new()?;
        let state = self.server.state_dir();
        for name in DATABASE_FILES {
            match fs::copy(state.join(name), copy.path().join(name)) {
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => bail!("cannot copy {name}: {error}"),
            }
        }
        load(&copy.path().join(DATABASE))
    }
}

fn load(database: &Path) -> Result<Contents> {
    Ok(SqliteStore::open(database)?.load()?)
}

/// A random number, each magnitude between the bounds as likely as the others.
#[expect(clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "the bounds are small and positive")]
fn any_magnitude(rng: &mut StdRng, least: u64, most: u64) -> u64 {
    rng.random_range((least as f64).ln()..=(most as f64).ln()).exp().round() as u64
}
