//! Starts a server and watches it come up.

use std::{
    fs,
    os::unix::net::UnixDatagram,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use dhcp6_userspace::fastpath::PinnedMaps;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

use super::{
    WATCHED,
    kernel::{self, Watch},
    leases::Leases,
    questions::Asker,
};
use crate::server::Server;

/// How long a start may take.
const PATIENCE: Duration = Duration::from_mins(2);
/// How often a client asks.
const INTERVAL: Duration = Duration::from_millis(2);

/// How long after the execution of the server something was there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Started {
    /// The first answer of the daemon.
    pub(super) first_answer: Duration,
    /// The word that it serves (sd_notify).
    pub(super) ready: Duration,
    /// All bindings in the kernel; `None` where that was not looked for.
    pub(super) complete: Option<Duration>,
}

/// Starts the server. Whether all bindings are in the kernel can be seen where no earlier map is there.
pub(super) fn start(
    server: &mut Server<'_>,
    asker: &mut Asker,
    leases: Leases,
    is_map_new: bool,
) -> Result<Started> {
    let path = server.database().with_file_name("notify");
    fs::remove_file(&path).ok();
    let socket = UnixDatagram::bind(&path)?;
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    let stop = AtomicBool::new(false);
    let begin = Instant::now();
    server.spawn_notifying(&path)?;
    let (first_answer, ready, complete) = thread::scope(|scope| {
        let answered = scope.spawn(|| asker.first_answer(INTERVAL, &stop));
        let ready = scope.spawn(|| wait_until_ready(&socket, &stop));
        let mut watch_all = || {
            let mut map = Map { leases, watch: Watch::new(leases.some(WATCHED)), maps: None };
            let mut complete = None;
            loop {
                server.ensure_running()?;
                if is_map_new && complete.is_none() {
                    complete = map.completed(server.pin_dir())?;
                }
                let is_complete = complete.is_some() || !is_map_new;
                if is_complete && answered.is_finished() && ready.is_finished() {
                    return Ok(complete);
                }
                ensure!(begin.elapsed() < PATIENCE, "dhcp6d does not start: {}", server.log());
                thread::sleep(INTERVAL);
            }
        };
        let complete = watch_all();
        stop.store(true, Ordering::Relaxed);
        let joined = (answered.join(), ready.join());
        // The first failure is the cause.
        let complete = complete?;
        anyhow::Ok((joined.0.expect("no panic")?, joined.1.expect("no panic")?, complete))
    })?;
    Ok(Started {
        first_answer: first_answer - begin,
        ready: ready - begin,
        complete: complete.map(|complete| complete - begin),
    })
}

/// The map of a server that comes up.
struct Map {
    leases: Leases,
    watch: Watch,
    maps: Option<PinnedMaps>,
}

impl Map {
    /// Now, where all bindings are there.
    fn completed(&mut self, pin_dir: &Path) -> Result<Option<Instant>> {
        if self.maps.is_none() {
            self.maps = PinnedMaps::open(pin_dir).ok();
        }
        let Some(maps) = &self.maps else { return Ok(None) };
        if !self.watch.is_done(maps, true)? {
            return Ok(None);
        }
        // To count them takes a while.
        let now = Instant::now();
        Ok((kernel::count(pin_dir)? == self.leases.count).then_some(now))
    }
}

fn wait_until_ready(socket: &UnixDatagram, stop: &AtomicBool) -> Result<Instant> {
    let mut buffer = [0; 256];
    while !stop.load(Ordering::Relaxed) {
        if let Ok(length) = socket.recv(&mut buffer)
            && buffer[..length].split(|octet| *octet == b'\n').any(|line| line == b"READY=1")
        {
            return Ok(Instant::now());
        }
    }
    bail!("dhcp6d does not say that it is ready")
}

/// Takes the database out of the page cache.
pub(super) fn drop_cache(database: &Path) -> Result<()> {
    let directory = database.parent().context("the database has a directory")?;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            let file = fs::File::open(entry.path())?;
            // What is not on the disk yet stays.
            file.sync_all()?;
            posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
        }
    }
    Ok(())
}
