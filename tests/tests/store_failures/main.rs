//! Whatever happens to the store, the server stays up, promises nothing new, and is back when the store is.

mod service;

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::FileExt as _,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use dhcp6_userspace::{
    lease::{SqliteStore, Store as _, StoreError},
    pool::Resource,
};
use rand::{SeedableRng as _, rngs::StdRng};
use rusqlite::Connection;
use tempfile::TempDir;
use tests::{
    netns::{Wire, privileged},
    server::{Additions, Plane, Server},
    tmpfs::Tmpfs,
    torture::{
        disk::{Disk, Fault},
        mount::{Mounted, has_fuse},
    },
};

use self::service::Service;

const DATABASE: &str = "leases.sqlite";
const LOG: &str = "leases.sqlite-wal";
const SHARED: &str = "leases.sqlite-shm";
const LOCK: &str = "leases.sqlite.lock";

/// Octets in the header of the log, and of each page in it.
const LOG_HEADER: usize = 32;
const FRAME_HEADER: usize = 24;

/// Octets in a page of the database.
const PAGE: u64 = 4096;

fn serve(wire: &Wire) -> Result<Service<'_>> {
    Service::begin(wire, Server::start(wire, Plane::Native)?)
}

/// A server whose state is on a disk that can be told to fail. The disk has to outlive it.
fn serve_from_disk(wire: &Wire) -> Result<(Service<'_>, Mounted)> {
    serve_from_disk_with(wire, Plane::Native, &Additions::default())
}

fn serve_from_disk_with<'a>(
    wire: &'a Wire,
    plane: Plane,
    additions: &Additions<'_>,
) -> Result<(Service<'a>, Mounted)> {
    let mut server = Server::prepare(wire, plane, additions)?;
    fs::create_dir(server.state_dir())?;
    let mounted = Mounted::new(Disk::default(), &server.state_dir())?;
    server.restart()?;
    Ok((Service::begin(wire, server)?, mounted))
}

#[test]
fn a_file_system_that_becomes_read_only() -> Result<()> {
    if !privileged("a_file_system_that_becomes_read_only") || !has_fuse() {
        return Ok(());
    }
    let wire = Wire::new()?;
    let (mut service, mounted) = serve_from_disk(&wire)?;
    mounted.disk().faults.push(Fault::ReadOnly);
    service.fails("Read-only file system")?;
    mounted.disk().faults.clear();
    service.recovers()?;
    service.survives_a_crash()?;
    service.server.kill()
}

/// An answer that comes late promises more than storage says: a lifetime counts from when the client hears of it.
#[test]
fn a_disk_that_hangs() -> Result<()> {
    if !privileged("a_disk_that_hangs") || !has_fuse() {
        return Ok(());
    }
    let wire = Wire::new()?;
    let additions = Additions { fast_path: "horizon = \"6s\"", ..Additions::default() };
    let (mut service, mounted) = serve_from_disk_with(&wire, Plane::DaemonOnly, &additions)?;
    for (pause, is_answered) in [(Duration::from_secs(1), true), (Duration::from_secs(5), false)] {
        let disk = mounted.disk();
        let answered = service.answers_a_new_client_after(pause, || drop(disk))?;
        ensure!(answered == is_answered, "after {pause:?}: {answered}");
        service.serves_who_was_refused()?;
    }
    service.survives_a_crash()?;
    service.server.kill()
}

/// What an operator asks does not wait for the disk, nor does anything else for the operator.
#[test]
fn an_operator_is_answered_while_the_disk_hangs() -> Result<()> {
    if !privileged("an_operator_is_answered_while_the_disk_hangs") || !has_fuse() {
        return Ok(());
    }
    let wire = Wire::new()?;
    let (mut service, mounted) = serve_from_disk_with(&wire, Plane::DaemonOnly, &Additions::default())?;
    service.serves_a_new_client()?;
    let address = service.newest_address().to_string();
    let disk = mounted.disk();
    let began = Instant::now();
    let released = service.server.ctl(&["lease", "release", &address])?;
    let said = String::from_utf8_lossy(&released.stderr);
    ensure!(!released.status.success() && said.contains("is released, but"), "{said}");
    let reloaded = service.server.ctl(&["config", "reload"])?;
    let said = String::from_utf8_lossy(&reloaded.stderr);
    ensure!(!reloaded.status.success() && said.contains("does not take changes"), "{said}");
    // Two questions have waited for two seconds each.
    let status = service.server.ctl_json(&["status"])?;
    let takes = status["store"]["commit_takes"].as_u64();
    ensure!(takes.is_some_and(|seconds| (3..=began.elapsed().as_secs()).contains(&seconds)), "{status}");
    let text = String::from_utf8(service.server.ctl(&["status"])?.stdout)?;
    ensure!(text.contains("one HANGS for"), "{text}");
    ensure!(began.elapsed() < Duration::from_secs(10), "it took {:?}", began.elapsed());
    drop(disk);
    // Then all of it is done.
    service.server.ctl_json(&["config", "reload"])?;
    let status = service.server.ctl_json(&["status"])?;
    ensure!(status["store"]["commit_takes"].as_u64().is_none_or(|seconds| seconds == 0), "{status}");
    service.server.kill()?;
    service.server.restart()?;
    let lease = service.server.ctl_json(&["lease", "show", &address])?;
    ensure!(lease["state"] == "remembered", "{lease}");
    service.server.kill()
}

#[test]
fn a_database_that_another_program_has_locked() -> Result<()> {
    if !privileged("a_database_that_another_program_has_locked") {
        return Ok(());
    }
    for begin in ["BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"] {
        let wire = Wire::new()?;
        let mut service = serve(&wire)?;
        let writer = Connection::open(service.server.database())?;
        writer.execute_batch(begin)?;
        service.fails("another program has locked it")?;
        writer.execute_batch("ROLLBACK")?;
        service.recovers()?;
        service.survives_a_crash()?;
    }
    Ok(())
}

/// What a power cut leaves has all that was promised, though a sync has failed and the next one has not.
#[test]
fn a_sync_that_fails_once() -> Result<()> {
    if !privileged("a_sync_that_fails_once") || !has_fuse() {
        return Ok(());
    }
    let wire = Wire::new()?;
    let (mut service, mounted) = serve_from_disk(&wire)?;
    let sync = |name: &str| Fault::Sync(name.into());
    for faults in [
        vec![sync(LOG)],
        // The second one is of the attempt to empty the log.
        vec![sync(LOG), sync(LOG)],
        vec![sync(LOG), sync(DATABASE)],
        vec![sync(LOG), sync(DATABASE), sync(DATABASE)],
    ] {
        service.serves_a_new_client()?;
        mounted.disk().faults.clone_from(&faults);
        service.refuses_a_new_client()?;
        every_power_cut_leaves_what_was_promised(&service, &mounted)?;
        service.serves_who_was_refused()?;
        every_power_cut_leaves_what_was_promised(&service, &mounted)?;
        service.serves_a_new_client()?;
        every_power_cut_leaves_what_was_promised(&service, &mounted)?;
        let left = mounted.disk().faults.clone();
        ensure!(left.len() < faults.len(), "{faults:?}: nothing has failed");
        mounted.disk().faults.clear();
    }
    let log = service.server.log();
    ensure!(log.contains("Input/output error"), "{log}");
    service.survives_a_crash()?;
    service.server.kill()
}

fn every_power_cut_leaves_what_was_promised(service: &Service<'_>, mounted: &Mounted) -> Result<()> {
    for seed in 0..30 {
        let directory = TempDir::new()?;
        let disk = mounted.disk().after_cut(&mut StdRng::seed_from_u64(seed));
        for (name, content) in disk.contents() {
            fs::write(directory.path().join(name), content)?;
        }
        let leases = SqliteStore::open(directory.path().join(DATABASE))?.load()?.leases;
        for (subscriber, address) in service.promised() {
            let is_stored = leases.iter().any(|lease| lease.resource == Resource::Address(*address));
            ensure!(is_stored, "seed {seed}: client {subscriber} was given {address}: {leases:?}");
        }
    }
    Ok(())
}

#[test]
fn files_that_are_deleted() -> Result<()> {
    if !privileged("files_that_are_deleted") {
        return Ok(());
    }
    let wire = Wire::new()?;
    let mut service = serve(&wire)?;
    let all: &[&str] = &[DATABASE, LOG, SHARED, LOCK];
    for (round, deleted) in (1..).zip([&[DATABASE][..], &[LOG], &[LOCK], all]) {
        for name in deleted {
            fs::remove_file(service.server.state_dir().join(name))?;
        }
        service.serves_a_new_client()?;
        service.serves_the_known_client()?;
        let log = service.server.log();
        ensure!(log.matches("was written anew").count() == round, "{deleted:?}: {log}");
        for name in all {
            ensure!(service.server.state_dir().join(name).exists(), "{deleted:?}: {name}");
        }
        let second = SqliteStore::open(service.server.database());
        ensure!(matches!(second, Err(StoreError::InUse { .. })), "{deleted:?}: {second:?}");
        service.survives_a_crash()?;
        service.serves_a_new_client()?;
    }
    Ok(())
}

/// Where the kernel answers everybody, the next commit may be long in coming.
#[test]
fn files_that_are_deleted_while_nothing_is_committed() -> Result<()> {
    if !privileged("files_that_are_deleted_while_nothing_is_committed") {
        return Ok(());
    }
    let wire = Wire::new()?;
    let mut service = serve(&wire)?;
    service.serves_a_new_client()?;
    let delete = |service: &Service<'_>| {
        let state_dir = service.server.state_dir();
        fs::read_dir(&state_dir)?.try_for_each(|entry| fs::remove_file(entry?.path()))
    };
    delete(&service)?;
    let deleted = Instant::now();
    while !service.server.database().exists() {
        ensure!(deleted.elapsed() < Duration::from_secs(5), "not written anew: {}", service.server.log());
        thread::sleep(Duration::from_millis(20));
    }
    thread::sleep(Duration::from_millis(200));
    service.survives_a_crash()?;
    service.serves_the_known_client()?;

    // And no time to notice it before the end.
    delete(&service)?;
    service.server.stop()?;
    service.server.restart()?;
    service.knows_all()?;
    service.serves_the_known_client()
}

#[test]
fn files_that_are_replaced() -> Result<()> {
    if !privileged("files_that_are_replaced") {
        return Ok(());
    }
    for name in [DATABASE, LOG] {
        let wire = Wire::new()?;
        let mut service = serve(&wire)?;
        let path = service.server.state_dir().join(name);
        let (aside, copy) = (path.with_extension("aside"), path.with_extension("copy"));
        fs::copy(&path, &copy)?;
        fs::rename(&path, &aside)?;
        fs::rename(&copy, &path)?;
        service.fails("is not what was opened")?;
        fs::rename(&aside, &path)?;
        service.recovers()?;
        service.survives_a_crash()?;
    }
    Ok(())
}

#[test]
fn a_directory_that_is_mounted_over_or_moved() -> Result<()> {
    if !privileged("a_directory_that_is_mounted_over_or_moved") {
        return Ok(());
    }
    let wire = Wire::new()?;
    let mut service = serve(&wire)?;
    let directory = service.server.state_dir();
    let mount = Tmpfs::mount(&directory)?;
    service.fails("is not what was opened")?;
    ensure!(fs::read_dir(&directory)?.count() == 0, "something was written to what is mounted");
    drop(mount);
    service.recovers()?;
    service.survives_a_crash()?;
    service.server.kill()?;

    let wire = Wire::new()?;
    let mut service = serve(&wire)?;
    let directory = service.server.state_dir();
    let aside = directory.with_extension("aside");
    fs::rename(&directory, &aside)?;
    service.fails("cannot find")?;
    fs::rename(&aside, &directory)?;
    service.recovers()?;
    service.survives_a_crash()
}

/// Has SQLite read from the files again: it does not believe what it has read of a log that is gone.
fn empty_log(database: &Path) -> Result<()> {
    let connection = Connection::open(database)?;
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| {
        assert_eq!(row.get::<_, i64>(0)?, 0, "the log could be emptied");
        Ok(())
    })?;
    Ok(())
}

/// Overwrites the file from `offset` on. Returns what it was.
fn scribble(path: &Path, offset: u64) -> Result<Vec<u8>> {
    let before = fs::read(path)?;
    let file = OpenOptions::new().write(true).open(path)?;
    file.write_all_at(&vec![0xa5; before.len() - usize::try_from(offset)?], offset)?;
    Ok(before)
}

#[test]
fn a_database_that_is_damaged() -> Result<()> {
    if !privileged("a_database_that_is_damaged") {
        return Ok(());
    }
    let wire = Wire::new()?;
    let mut service = serve(&wire)?;
    let database = service.server.database();
    empty_log(&database)?;
    let before = scribble(&database, PAGE)?;
    service.fails("malformed")?;
    let damaged = fs::read(&database)?;
    ensure!(damaged[PAGE as usize..].iter().all(|octet| *octet == 0xa5), "the evidence is gone");
    overwrite(&database, &before)?;
    service.recovers()?;

    // And at start.
    service.server.stop()?;
    scribble(&database, PAGE)?;
    let log = service.server.fail_to_start()?;
    let text =
        format!("the lease database {}: database disk image is malformed; it is damaged", database.display());
    ensure!(log.contains(&text), "{log}");
    ensure!(fs::read(&database)?[PAGE as usize..].iter().all(|octet| *octet == 0xa5), "the evidence is gone");
    Ok(())
}

#[test]
fn a_log_that_is_damaged() -> Result<()> {
    if !privileged("a_log_that_is_damaged") {
        return Ok(());
    }
    let wire = Wire::new()?;
    let mut service = serve(&wire)?;
    for _ in 0..5 {
        service.serves_a_new_client()?;
    }
    let log = service.server.state_dir().join(LOG);
    // Another program that writes has the server read the log again; it reads the first page itself.
    let writer = Connection::open(service.server.database())?;
    let before = written(&log)?;
    let mut damaged = before.clone();
    for frame in damaged[LOG_HEADER..].chunks_exact_mut(FRAME_HEADER + PAGE as usize) {
        if frame[..4] != 1_u32.to_be_bytes() {
            frame[FRAME_HEADER..].fill(0xa5);
        }
    }
    overwrite(&log, &damaged)?;
    let version: i64 = writer.pragma_query_value(None, "user_version", |row| row.get(0))?;
    writer.pragma_update(None, "user_version", version)?;
    service.fails("malformed")?;
    overwrite(&log, &before)?;
    service.recovers()?;
    drop(writer);

    // And at start: the frames behind the damage were committed.
    service.serves_a_new_client()?;
    service.server.kill()?;
    let before = written(&log)?;
    let mut damaged = before.clone();
    damaged[LOG_HEADER + FRAME_HEADER + 1000] ^= 1;
    overwrite(&log, &damaged)?;
    let said = service.server.fail_to_start()?;
    let text = format!("the lease database {} is damaged: its log", service.server.database().display());
    ensure!(said.contains(&text), "{said}");
    ensure!(written(&log)? == damaged, "the evidence is gone");
    overwrite(&log, &before)?;
    service.server.restart()?;
    service.knows_all()
}

/// The log up to the room behind its frames.
fn written(log: &Path) -> Result<Vec<u8>> {
    let mut octets = fs::read(log)?;
    // No page has the number 0.
    let frames =
        octets[LOG_HEADER..].chunks(FRAME_HEADER + PAGE as usize).take_while(|frame| frame[..4] != [0; 4]);
    octets.truncate(LOG_HEADER + frames.map(<[u8]>::len).sum::<usize>());
    Ok(octets)
}

fn overwrite(path: &Path, content: &[u8]) -> Result<()> {
    Ok(OpenOptions::new().write(true).open(path)?.write_all_at(content, 0)?)
}

#[test]
fn a_database_that_is_locked_at_start() -> Result<()> {
    if !privileged("a_database_that_is_locked_at_start") {
        return Ok(());
    }
    let wire = Wire::new()?;
    let mut service = serve(&wire)?;
    service.server.kill()?;
    let database = service.server.database();
    let locked = || -> Result<Connection> {
        let connection = Connection::open(&database)?;
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        connection.execute_batch("BEGIN EXCLUSIVE")?;
        Ok(connection)
    };
    // Somebody who lets go of it is waited for.
    let holder = locked()?;
    service.server.spawn()?;
    thread::sleep(Duration::from_secs(1));
    service.server.ensure_running()?;
    ensure!(!service.server.is_ready()?, "it serves what it cannot read");
    drop(holder);
    service.server.wait_until_ready()?;
    service.knows_all()?;
    service.server.kill()?;

    let holder = locked()?;
    let log = service.server.fail_to_start()?;
    ensure!(
        log.contains(&format!("the lease database {}, because another program has", database.display())),
        "{log}"
    );
    drop(holder);
    service.server.restart()?;
    service.knows_all()
}

#[test]
fn a_place_that_cannot_be_written_to_at_start() -> Result<()> {
    if !privileged("a_place_that_cannot_be_written_to_at_start") {
        return Ok(());
    }
    let wire = Wire::new()?;
    let mut server = Server::prepare(&wire, Plane::DaemonOnly, &Additions::default())?;
    let state = server.state_dir();
    fs::create_dir(&state)?;
    let disk = Tmpfs::mount(&state)?;
    let said = |log: &str, problem: &str| log.contains(problem) && log.contains(&state.display().to_string());
    // First without anything there, then with a database.
    for _ in 0..2 {
        let before = fs::read_dir(&state)?.count();
        disk.remount("ro")?;
        let log = server.fail_to_start()?;
        ensure!(said(&log, "Read-only file system"), "{log}");
        disk.remount("rw")?;
        ensure!(fs::read_dir(&state)?.count() == before, "something was written");
        let ballast = disk.fill()?;
        let log = server.fail_to_start()?;
        ensure!(said(&log, "No space left on device") || said(&log, "disk is full"), "{log}");
        fs::remove_file(ballast)?;
        server.restart()?;
        server.stop()?;
    }
    drop(disk);
    Ok(())
}
