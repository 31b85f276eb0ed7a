//! Tests of [`SqliteStore`].

use std::{
    fs::{self, File},
    net::Ipv6Addr,
    os::unix::fs::{FileExt as _, PermissionsExt as _},
    path::Path,
    time::Instant,
};

use dhcp6_common::{Origin, Vlan, wire::Duid};
use proptest::prelude::*;
use rusqlite::Connection;
use tempfile::TempDir;

use super::{BUSY_TIMEOUT, FRAME_OCTETS, MIGRATIONS, MOST_PAGES, NEWEST_SCHEMA, SqliteStore};
use crate::{
    lease::{Change, Conflict, ConflictCause, Contents, Lease, LeaseState, MemoryStore, Store, StoreError},
    pool::{Prefix, Resource},
    time::Time,
};

const NOW: u64 = 1_700_000_000_000;

/// An address where `last` is even, else a prefix.
fn resource(last: u16) -> Resource {
    if last.is_multiple_of(2) {
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last).into()
    } else {
        Prefix::new(Ipv6Addr::new(0x2001, 0xdb8, last, 0, 0, 0, 0, 0), 48).unwrap().into()
    }
}

fn lease(last: u16) -> Lease {
    Lease {
        resource: resource(last),
        link: "olt-1".into(),
        origin: Origin::ANY,
        duid: Duid::new(&[0, 3, 0, 1, 2, 0, 0, 0, 0, 10]).unwrap(),
        iaid: 7,
        state: LeaseState::Bound,
        preferred_until: Time::from_millis(NOW),
        valid_until: Time::from_millis(NOW + 1),
        expires_at: Time::from_millis(NOW + 2),
    }
}

fn conflict(last: u16) -> Conflict {
    let Lease { resource, link, duid, expires_at: until, .. } = lease(last);
    Conflict { resource, link, duid, cause: ConflictCause::Declined, until }
}

fn directory() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn open(directory: &TempDir) -> SqliteStore {
    SqliteStore::open(directory.path().join("leases.sqlite")).unwrap()
}

/// The database as an operator or a fault changes it.
fn tamper(directory: &TempDir, statements: &str) {
    let connection = Connection::open(directory.path().join("leases.sqlite")).unwrap();
    connection.pragma_update(None, "ignore_check_constraints", true).unwrap();
    connection.execute_batch(statements).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn everything_is_read_back_after_a_restart() {
    let directory = directory();
    let mut leases = vec![
        Lease { iaid: 0, duid: Duid::new(&[1]).unwrap(), ..lease(1) },
        Lease { iaid: u32::MAX, duid: Duid::new(&[255; 130]).unwrap(), ..lease(2) },
        Lease { link: "Zürich 'north'; --\0".into(), state: LeaseState::Remembered, ..lease(3) },
        Lease {
            preferred_until: Time::EPOCH,
            valid_until: Time::NEVER,
            expires_at: Time::NEVER,
            link: "".into(),
            ..lease(4)
        },
        Lease { resource: Ipv6Addr::from(u128::MAX).into(), ..lease(6) },
    ];
    let withdrawn = Conflict { until: Time::NEVER, cause: ConflictCause::Withdrawn, ..conflict(1) };
    let conflicts = vec![conflict(2), withdrawn];
    leases.sort_by_key(|lease| lease.resource);
    let changes: Vec<_> = leases
        .iter()
        .cloned()
        .map(Change::PutLease)
        .chain(conflicts.iter().cloned().map(Change::PutConflict))
        .collect();
    let mut store = open(&directory);
    assert_eq!(store.load().unwrap(), Contents::default());
    store.commit(&changes).unwrap();
    let contents = Contents { leases, conflicts };
    assert_eq!(store.load().unwrap(), contents);
    drop(store);
    assert_eq!(open(&directory).load().unwrap(), contents);
}

#[test]
fn changes_apply_in_their_order_and_replace_by_resource() {
    use Change::{PutConflict, PutLease, RemoveConflict, RemoveLease};
    let other = || Lease { iaid: 8, link: "olt-2".into(), ..lease(1) };
    for (changes, leases, conflicts) in [
        (vec![], vec![], vec![]),
        (vec![PutLease(lease(1)), PutLease(other())], vec![other()], vec![]),
        (vec![PutLease(lease(1)), RemoveLease(resource(1))], vec![], vec![]),
        (vec![RemoveLease(resource(1)), PutLease(lease(1))], vec![lease(1)], vec![]),
        (vec![PutLease(lease(1)), PutLease(lease(2))], vec![lease(2), lease(1)], vec![]),
        (
            vec![PutLease(lease(1)), PutConflict(conflict(1)), RemoveLease(resource(1))],
            vec![],
            vec![conflict(1)],
        ),
        (
            vec![PutConflict(conflict(1)), RemoveConflict(resource(1)), PutLease(lease(1))],
            vec![lease(1)],
            vec![],
        ),
    ] {
        let directory = directory();
        let mut store = open(&directory);
        store.commit(&changes).unwrap();
        assert_eq!(store.load().unwrap(), Contents { leases, conflicts }, "{changes:?}");
    }
}

#[test]
fn commits_are_synced_and_the_log_stays_bounded() {
    let directory = directory();
    let mut store = open(&directory);
    let pragma = |name| store.connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(pragma("synchronous"), 2, "FULL: the log is synced at every commit");
    assert_eq!(pragma("wal_autocheckpoint"), i64::from(MOST_PAGES));
    let mut round = 0_u16;
    let mut largest = |store: &mut SqliteStore, rounds: u16| {
        let mut largest = 0;
        for _ in 0..rounds {
            // All over the database, so that each writes a page or two.
            let scattered = |last: u16| Change::PutLease(lease((round * 100 + last).reverse_bits()));
            let changes: Vec<_> = (0..100).map(scattered).collect();
            store.commit(&changes).unwrap();
            store.tidy().unwrap();
            round += 1;
            largest = largest.max(fs::metadata(directory.path().join("leases.sqlite-wal")).unwrap().len());
        }
        largest
    };
    // How often the log was begun anew.
    let times = || {
        let log = File::open(directory.path().join("leases.sqlite-wal")).unwrap();
        let mut times = [0; 4];
        log.read_exact_at(&mut times, 12).unwrap();
        u32::from_be_bytes(times)
    };
    // Beside the commits, with what is added meanwhile, and the room ahead of it.
    let bound = u64::from(MOST_PAGES) * FRAME_OCTETS + (4 << 20);
    let octets = largest(&mut store, 300);
    assert!(octets < bound, "{octets} octets, before the commits move it themselves");
    let beside = times();
    assert!(beside > 0, "the log is begun anew");
    // And by the commits themselves, which are not so many here that it takes long.
    store.connection.pragma_update(None, "wal_autocheckpoint", 100).unwrap();
    let octets = largest(&mut store, 50);
    assert!(octets < bound, "{octets} octets");
    assert!(times() > beside, "the log is begun anew by the commits, too");
}

#[test]
fn only_the_owner_reads_the_files() {
    let directory = directory();
    let mut store = open(&directory);
    store.commit(&[Change::PutLease(lease(1))]).unwrap();
    let modes: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|e| mode(&e.unwrap().path())).collect();
    assert_eq!(modes, [0o600; 4], "database, log, shared memory and lock");
}

#[test]
fn a_database_has_one_server_and_any_number_of_readers() {
    let directory = directory();
    let mut store = open(&directory);
    let path = directory.path().join("leases.sqlite");
    assert!(matches!(SqliteStore::open(&path), Err(StoreError::InUse { path: named }) if named == path));
    let reader = Connection::open(&path).unwrap();
    reader.execute_batch("BEGIN; SELECT * FROM leases").unwrap();
    store.commit(&[Change::PutLease(lease(1))]).unwrap();
}

/// What a crash right now would leave behind, opened.
fn after_crash(crashed: &TempDir) -> Contents {
    let copy = directory();
    for name in ["leases.sqlite", "leases.sqlite-wal"] {
        fs::copy(crashed.path().join(name), copy.path().join(name)).unwrap();
    }
    open(&copy).load().unwrap()
}

#[test]
fn a_crash_keeps_what_was_committed() {
    let directory = directory();
    let mut store = open(&directory);
    for last in 0..50 {
        store.commit(&[Change::PutLease(lease(last)), Change::RemoveLease(resource(last / 2))]).unwrap();
        assert_eq!(after_crash(&directory), store.load().unwrap());
    }
}

#[test]
fn a_commit_that_fails_changes_nothing() {
    let directory = directory();
    let mut store = open(&directory);
    store.commit(&[Change::PutLease(lease(1))]).unwrap();
    let before = store.load().unwrap();
    // A full disk, as far as SQLite can tell.
    store.connection.pragma_update_and_check(None, "max_page_count", 1, |_| Ok(())).unwrap();
    let mut changes: Vec<_> = (10..500).map(|last| Change::PutLease(lease(last))).collect();
    changes.push(Change::RemoveLease(resource(1)));
    let error = store.commit(&changes).unwrap_err();
    assert!(matches!(error, StoreError::Sqlite { doing: "write to", .. }), "{error}");
    assert_eq!(store.load().unwrap(), before);
    assert_eq!(after_crash(&directory), before);
    store.connection.pragma_update_and_check(None, "max_page_count", 1 << 20, |_| Ok(())).unwrap();
    store.commit(&changes).unwrap();
    assert_eq!(store.load().unwrap().leases.len(), 490, "the store goes on when there is room again");
}

/// As many changes as go to the journal, and more than are moved at once.
fn many() -> Vec<Change> {
    (0..2000).map(|last| Change::PutLease(lease(last))).collect()
}

fn rows_in(store: &SqliteStore, table: &str) -> u32 {
    store.connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
}

#[test]
fn many_changes_wait_in_the_journal_until_there_is_time() {
    let directory = directory();
    let mut store = open(&directory);
    store.commit(&[Change::PutLease(lease(0))]).unwrap();
    assert!(store.is_tidy() && rows_in(&store, "leases") == 1, "few need no journal");
    store.commit(&many()).unwrap();
    // Behind the others.
    store.commit(&[Change::RemoveLease(resource(1999))]).unwrap();
    assert_eq!((rows_in(&store, "leases"), rows_in(&store, "journal")), (1, 5));
    let contents = store.load().unwrap();
    assert_eq!(contents.leases.len(), 1999);
    // The last two are small.
    for left in [4, 3, 2, 0] {
        assert!(!store.is_tidy());
        store.tidy().unwrap();
        assert_eq!(rows_in(&store, "journal"), left);
        assert_eq!(store.load().unwrap(), contents, "nobody sees the difference");
        drop(store);
        store = open(&directory);
        assert_eq!(store.load().unwrap(), contents);
    }
    assert!(store.is_tidy() && rows_in(&store, "leases") == 1999);
    store.tidy().unwrap();
    store.commit(&[Change::RemoveLease(resource(1998))]).unwrap();
    assert_eq!(rows_in(&store, "leases"), 1998);
}

#[test]
fn the_journal_stays_bounded_without_a_pause() {
    let directory = directory();
    let mut store = open(&directory);
    for _ in 0..100 {
        store.commit(&many()).unwrap();
    }
    let waiting: u32 =
        store.connection.query_row("SELECT sum(count) FROM journal", [], |row| row.get(0)).unwrap();
    assert!((100_000..=128 << 10).contains(&waiting), "{waiting}");
    assert_eq!(rows_in(&store, "leases"), 2000);
    assert_eq!(store.load().unwrap().leases.len(), 2000);
}

#[test]
fn a_journal_that_cannot_be_moved_stops_the_promises_until_it_can() {
    let directory = directory();
    let mut store = open(&directory);
    store.commit(&many()).unwrap();
    tamper(&directory, "ALTER TABLE leases RENAME TO hidden");
    let contents = |store: &mut SqliteStore| {
        tamper(&directory, "ALTER TABLE hidden RENAME TO leases");
        store.load().unwrap()
    };
    store.commit(&[Change::RemoveLease(resource(0))]).unwrap();
    store.tidy().unwrap_err();
    let error = store.commit(&[Change::RemoveLease(resource(1))]).unwrap_err();
    assert!(matches!(error, StoreError::Sqlite { doing: "write to", .. }), "{error}");
    assert_eq!(contents(&mut store).leases.len(), 1999, "what was refused is not there");
    store.commit(&[Change::RemoveLease(resource(1))]).unwrap();
    assert_eq!(store.load().unwrap().leases.len(), 1998);
}

#[test]
fn a_journal_that_cannot_be_read_is_named() {
    const KEY: &str = "20010db8000000000000000000000001";
    for (octets, problem) in [
        ("x'09'".to_owned(), "Serde Deserialization"),
        ("substr(changes, 1, length(changes) - 1)".to_owned(), "Hit the end of buffer"),
        (format!("x'01{KEY}81'"), "length"),
        (format!("x'02{KEY}80016c000000'"), "duid"),
        // Valid for longer than it is stored for.
        (format!("x'00{KEY}80016c0000000000000001010000000201'"), "valid_until"),
    ] {
        let directory = directory();
        let mut store = open(&directory);
        store.commit(&many()).unwrap();
        tamper(&directory, &format!("UPDATE journal SET changes = {octets} WHERE number = 1"));
        let loaded = store.load().map(drop);
        let tidied = store.tidy();
        drop(store);
        for result in [loaded, tidied, open(&directory).load().map(drop)] {
            let Err(StoreError::Row { table: "journal", row, problem: found, .. }) = &result else {
                panic!("{octets}: {result:?}")
            };
            assert!(row == "number 1" && found.contains(problem), "{octets}: {result:?}");
        }
    }
}

#[test]
fn a_writer_in_the_way_fails_the_commit_but_not_the_next() {
    let directory = directory();
    let mut store = open(&directory);
    store.commit(&[]).unwrap();
    let writer = Connection::open(directory.path().join("leases.sqlite")).unwrap();
    writer.execute_batch("BEGIN IMMEDIATE").unwrap();
    store.commit(&[Change::PutLease(lease(3))]).unwrap_err();
    let began = Instant::now();
    for _ in 0..10 {
        let error = store.commit(&[Change::PutLease(lease(1))]).unwrap_err();
        assert!(matches!(error, StoreError::Locked { .. }), "{error}");
    }
    assert!(began.elapsed() < BUSY_TIMEOUT, "only the first one waits: {:?}", began.elapsed());
    writer.execute_batch("ROLLBACK").unwrap();
    assert_eq!(store.load().unwrap(), Contents::default());
    store.commit(&[Change::PutLease(lease(2))]).unwrap();
}

#[test]
fn contradictory_leases_are_refused_by_every_store() {
    let later = Time::from_millis(NOW + 9);
    let directory = directory();
    let mut sqlite = open(&directory);
    let mut memory = MemoryStore::new();
    for (lease, refused) in [
        (Lease { preferred_until: later, ..lease(1) }, true),
        (Lease { valid_until: later, ..lease(1) }, true),
        (Lease { valid_until: later, state: LeaseState::Remembered, ..lease(1) }, false),
        (
            Lease { expires_at: lease(1).preferred_until, valid_until: lease(1).preferred_until, ..lease(1) },
            false,
        ),
    ] {
        let changes = [Change::PutConflict(conflict(2)), Change::PutLease(lease)];
        assert_eq!(sqlite.commit(&changes).is_err(), refused, "{changes:?}");
        assert_eq!(memory.commit(&changes).is_err(), refused, "{changes:?}");
        assert_eq!(sqlite.load().unwrap(), memory.contents());
    }
}

#[test]
fn an_unknown_schema_is_refused_and_left_alone() {
    for version in [NEWEST_SCHEMA + 1, -1] {
        let directory = directory();
        drop(open(&directory));
        tamper(&directory, &format!("PRAGMA journal_mode = DELETE; PRAGMA user_version = {version}"));
        let path = directory.path().join("leases.sqlite");
        let before = fs::read(&path).unwrap();
        let error = SqliteStore::open(&path).unwrap_err();
        assert!(
            matches!(error, StoreError::UnknownSchema { found, known: NEWEST_SCHEMA, .. } if found == version),
            "{error}"
        );
        assert_eq!(fs::read(&path).unwrap(), before);
    }
}

#[test]
fn a_database_of_version_1_is_brought_up_to_date() {
    let directory = directory();
    let (_, schema) = MIGRATIONS[0];
    tamper(
        &directory,
        &format!(
            "{schema} PRAGMA user_version = 1;
             INSERT INTO leases VALUES (x'20010db8000000000000000000000002', 'olt-1', x'0003000102000000000a', 7,
                 'bound', {NOW}, {NOW} + 1, {NOW} + 2);
             INSERT INTO conflicts VALUES
                 (x'20010db8000000000000000000000004', 'olt-1', x'0003000102000000000a', {NOW} + 2);"
        ),
    );
    let conflict = Conflict { cause: ConflictCause::Withdrawn, ..conflict(4) };
    let expected = Contents { leases: vec![lease(2)], conflicts: vec![conflict] };
    assert_eq!(open(&directory).load().unwrap(), expected);
    assert_eq!(open(&directory).load().unwrap(), expected, "once");
}

#[test]
fn a_database_of_version_3_takes_up_where_clients_are() {
    let directory = directory();
    let schema: String = MIGRATIONS[..3].iter().map(|(_, statements)| *statements).collect();
    tamper(
        &directory,
        &format!(
            "{schema} PRAGMA user_version = 3;
             INSERT INTO leases VALUES (x'20010db8000000000000000000000002', 128, 'olt-1', x'0003000102000000000a', 7,
                 'bound', {NOW}, {NOW} + 1, {NOW} + 2);
             INSERT INTO server VALUES (1, x'0001');"
        ),
    );
    let mut store = open(&directory);
    assert_eq!(store.load().unwrap().leases, [lease(2)]);
    assert_eq!(store.server_duid().unwrap(), Some(Duid::new(&[0, 1]).unwrap()));
    let vlan = Vlan { outer: 4094, inner: 4093 };
    let known = Lease { origin: Origin { vlan, mac: [2, 0, 0, 0, 0, 1] }, ..lease(2) };
    store.commit(&[Change::PutLease(known.clone())]).unwrap();
    drop(store);
    assert_eq!(open(&directory).load().unwrap().leases, [known]);
    let rows = || {
        let connection = Connection::open(directory.path().join("leases.sqlite")).unwrap();
        let row =
            |row: &rusqlite::Row<'_>| Ok((row.get::<_, Option<u32>>(0)?, row.get::<_, Option<[u8; 6]>>(1)?));
        connection.query_row("SELECT vlan, mac FROM leases", [], row).unwrap()
    };
    assert_eq!(rows(), (Some(4094 * 4096 + 4093), Some([2, 0, 0, 0, 0, 1])));
    open(&directory).commit(&[Change::PutLease(lease(2))]).unwrap();
    assert_eq!(rows(), (None, None), "nothing where the link looks at nothing");
}

#[test]
fn an_unreadable_row_is_named() {
    let put = |table: &str, values: &str| format!("INSERT INTO {table} VALUES ({values})");
    let good = "x'20010db8000000000000000000000007'";
    for (statement, row, problem) in [
        (put("leases", "x'2001', 128, 'l', x'01', 1, 'bound', 1, 1, 1, NULL, NULL"), "[32, 1]", "address"),
        (
            put("leases", &format!("{good}, 128, 'l', x'', 1, 'bound', 1, 1, 1, NULL, NULL")),
            "2001:db8::7",
            "duid",
        ),
        (
            put("leases", &format!("{good}, 128, 'l', zeroblob(131), 1, 'bound', 1, 1, 1, NULL, NULL")),
            "2001:db8::7",
            "duid",
        ),
        (
            put("leases", &format!("{good}, 128, 'l', x'01', -1, 'bound', 1, 1, 1, NULL, NULL")),
            "2001:db8::7",
            "iaid",
        ),
        (
            put("leases", &format!("{good}, 128, 'l', x'01', 4294967296, 'bound', 1, 1, 1, NULL, NULL")),
            "2001:db8::7",
            "iaid",
        ),
        (
            put("leases", &format!("{good}, 128, 'l', x'01', 1, 'lost', 1, 1, 1, NULL, NULL")),
            "2001:db8::7",
            "state",
        ),
        (
            put("leases", &format!("{good}, 128, 'l', x'01', 1, 'bound', -1, 1, 1, NULL, NULL")),
            "2001:db8::7",
            "preferred_until",
        ),
        (
            put("leases", &format!("{good}, 128, 'l', x'01', 1, 'bound', 1, 2, 1, NULL, NULL")),
            "2001:db8::7",
            "valid_until",
        ),
        (
            put(
                "leases",
                &format!("{good}, 128, CAST(x'ff' AS TEXT), x'01', 1, 'bound', 1, 1, 1, NULL, NULL"),
            ),
            "2001:db8::7",
            "link",
        ),
        (
            put("leases", &format!("{good}, 128, 'l', x'01', 1, 'bound', 1, 1, 1, -1, NULL")),
            "2001:db8::7",
            "vlan",
        ),
        (
            put("leases", &format!("{good}, 128, 'l', x'01', 1, 'bound', 1, 1, 1, NULL, x'020000000001ff'")),
            "2001:db8::7",
            "mac",
        ),
        (put("conflicts", &format!("{good}, 128, 'l', x'01', 'declined', -1")), "2001:db8::7", "until"),
        (put("conflicts", &format!("{good}, 128, 'l', x'01', 'bored', 1")), "2001:db8::7", "cause"),
        (put("conflicts", &format!("{good}, 129, 'l', x'01', 'declined', 1")), "2001:db8::7", "length"),
        (put("conflicts", &format!("{good}, 56, 'l', x'01', 'declined', 1")), "2001:db8::7", "host bits"),
    ] {
        let directory = directory();
        open(&directory).commit(&[Change::PutLease(lease(1))]).unwrap();
        tamper(&directory, &statement);
        let error = open(&directory).load().unwrap_err();
        let StoreError::Row { row: named, problem: found, .. } = &error else {
            panic!("{statement}: {error}")
        };
        assert!(named.contains(row) && found.contains(problem), "{statement}: {error}");
    }
}

#[test]
fn a_damaged_file_is_an_error() {
    let directory = directory();
    let path = directory.path().join("leases.sqlite");
    let changes: Vec<_> = (0..2000).map(|last| Change::PutLease(lease(last))).collect();
    open(&directory).commit(&changes).unwrap();
    let whole = fs::read(&path).unwrap();
    let mut scribbled = whole.clone();
    scribbled[4096..].fill(0xa5);
    for (what, content) in
        [("not a database", &[b'x'; 8192][..]), ("cut off", &whole[..8192]), ("scribbled over", &scribbled)]
    {
        fs::write(&path, content).unwrap();
        let result = SqliteStore::open(&path).and_then(|mut store| store.load());
        assert!(matches!(result, Err(StoreError::Damaged { .. })), "{what}");
        assert_eq!(fs::read(&path).unwrap(), content, "{what}: never silently replaced");
    }
}

#[test]
fn a_damaged_database_keeps_its_log() {
    let living = directory();
    let mut store = open(&living);
    let changes: Vec<_> = (0..60_000).map(|last| Change::PutLease(lease(last))).collect();
    store.commit(&changes).unwrap();
    store.empty_log().unwrap();
    store.commit(&[Change::PutLease(lease(60_000))]).unwrap();
    let crashed = directory();
    let [path, log] = ["leases.sqlite", "leases.sqlite-wal"].map(|name| {
        fs::copy(living.path().join(name), crashed.path().join(name)).unwrap();
        crashed.path().join(name)
    });
    let mut damaged = fs::read(&path).unwrap();
    damaged[4096..].fill(0xa5);
    fs::write(&path, &damaged).unwrap();
    let before = fs::read(&log).unwrap();
    let result = SqliteStore::open(&path).and_then(|mut store| store.load());
    assert!(matches!(result, Err(StoreError::Damaged { .. })), "{result:?}");
    assert!(
        fs::read(&log).unwrap() == before && fs::read(&path).unwrap() == damaged,
        "what is left is evidence"
    );
}

#[test]
fn a_place_that_cannot_be_written_is_named() {
    let directory = directory();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let read_only = directory.path().join("read-only");
    fs::create_dir(&read_only).unwrap();
    fs::set_permissions(&read_only, fs::Permissions::from_mode(0o500)).unwrap();
    // Permissions do not stop root, but the kernel lets nobody create a file in /proc.
    let mut places = vec![directory.path().join("missing"), file, "/proc/self".into()];
    if fs::write(read_only.join("probe"), "").is_err() {
        places.push(read_only);
    }
    for place in places {
        let path = place.join("leases.sqlite");
        let error = SqliteStore::open(&path).unwrap_err();
        assert!(matches!(error, StoreError::File { .. }), "{error}");
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    }
}

#[test]
fn every_store_keeps_the_servers_duid() {
    let directory = directory();
    let memory = MemoryStore::new();
    let [first, second] = [Duid::new(&[0, 4, 1]).unwrap(), Duid::new(&[7; 130]).unwrap()];
    for (stored, next) in [(None, first), (Some(first), second), (Some(second), second)] {
        let stores: [Box<dyn Store>; 2] = [Box::new(open(&directory)), Box::new(memory.clone())];
        for mut store in stores {
            assert_eq!(store.server_duid().unwrap(), stored);
            store.commit(&[Change::PutServerDuid(next)]).unwrap();
        }
    }
}

#[test]
fn a_memory_store_fails_when_told_to_and_survives_a_restart() {
    let handle = MemoryStore::new();
    let mut store = handle.clone();
    handle.fail_next(2);
    for fails in [true, true, false] {
        let result = store.commit(&[Change::PutLease(lease(1)), Change::PutConflict(conflict(2))]);
        assert_eq!(matches!(result, Err(StoreError::Injected)), fails);
        assert_eq!(handle.contents() == Contents::default(), fails);
    }
    drop(store);
    let expected = Contents { leases: vec![lease(1)], conflicts: vec![conflict(2)] };
    assert_eq!(handle.clone().load().unwrap(), expected);
}

fn any_time() -> impl Strategy<Value = Time> {
    prop_oneof![Just(Time::EPOCH), Just(Time::NEVER), any::<u64>().prop_map(Time::from_millis)]
}

fn any_origin() -> impl Strategy<Value = Origin> {
    let mac = prop_oneof![Just(Origin::ANY.mac), any::<[u8; 6]>()];
    let bits = prop_oneof![Just(0), 0..1u32 << 24];
    (bits, mac).prop_map(|(bits, mac)| Origin { vlan: Vlan::from_bits(bits), mac })
}

fn any_lease() -> impl Strategy<Value = Lease> {
    let times = prop::collection::vec(any_time(), 3);
    let duid = prop::collection::vec(any::<u8>(), 1..=130);
    (0..6u16, any::<String>(), any_origin(), duid, any::<u32>(), any::<bool>(), times).prop_map(
        |(last, link, origin, duid, iaid, bound, mut times)| {
            times.sort();
            Lease {
                resource: resource(last),
                link: link.into(),
                origin,
                duid: Duid::new(&duid).unwrap(),
                iaid,
                state: if bound { LeaseState::Bound } else { LeaseState::Remembered },
                preferred_until: times[0],
                valid_until: times[1],
                expires_at: times[2],
            }
        },
    )
}

fn any_change() -> impl Strategy<Value = Change> {
    prop_oneof![
        any_lease().prop_map(Change::PutLease),
        (0..6u16).prop_map(|last| Change::RemoveLease(resource(last))),
        any_lease().prop_map(|Lease { resource, link, duid, state, expires_at: until, .. }| {
            let cause = match state {
                LeaseState::Bound => ConflictCause::Declined,
                LeaseState::Remembered => ConflictCause::Withdrawn,
            };
            Change::PutConflict(Conflict { resource, link, duid, cause, until })
        }),
        (0..6u16).prop_map(|last| Change::RemoveConflict(resource(last))),
    ]
}

#[derive(Clone, Copy, Debug)]
enum Then {
    Nothing,
    Restart,
    Tidy,
    Crash,
}

fn any_end() -> impl Strategy<Value = Then> {
    prop_oneof![Just(Then::Nothing), Just(Then::Restart), Just(Then::Tidy), Just(Then::Crash)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn both_stores_hold_the_same(
        // Few enough for the tables, and as many as are left in the journal.
        commits in prop::collection::vec((prop::collection::vec(any_change(), 0..20), any_end()), 0..8),
    ) {
        let directory = directory();
        let mut sqlite = open(&directory);
        let mut memory = MemoryStore::new();
        for (changes, then) in commits {
            sqlite.commit(&changes).unwrap();
            memory.commit(&changes).unwrap();
            match then {
                Then::Nothing => {}
                Then::Restart => {
                    drop(sqlite);
                    sqlite = open(&directory);
                }
                Then::Tidy => {
                    sqlite.tidy().unwrap();
                    prop_assert!(sqlite.is_tidy());
                }
                Then::Crash => prop_assert_eq!(after_crash(&directory), memory.contents()),
            }
            prop_assert_eq!(sqlite.load().unwrap(), memory.contents());
        }
    }
}
