//! A database whose files are gone, written anew.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use rusqlite::Connection;

use super::{
    StoreError,
    durable::sync_parent,
    sqlite::{failed, with_suffix},
};

/// What stands behind the name of the database in that of a copy that is whole, and on its way to its place.
const WHOLE: &str = ".whole";

/// Writes what `connection` reads to a new database at `path`, in place of what is left there of the files that it has
/// open. It is durable when this returns, and `connection` still reads the old files.
///
/// # Errors
///
/// Where something cannot be read, or not be written. What is at `path` is still there then, but for the write-ahead log
/// of a database that is gone.
pub(super) fn rebuild(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let copy = with_suffix(path, ".new");
    let result = replace(connection, path, &copy);
    if result.is_err() {
        // The room that it takes may be what is missing.
        fs::remove_file(&copy).ok();
    }
    result
}

/// Puts a copy that is whole in its place, where the server that wrote it came to its end in between. Where there is a
/// database, such a copy is of no use any more.
///
/// # Errors
///
/// [`StoreError::File`].
pub(super) fn finish(path: &Path) -> Result<(), StoreError> {
    let whole = with_suffix(path, WHOLE);
    if path.exists() {
        return remove(&whole);
    }
    if whole.exists() { put_in_place(&whole, path) } else { Ok(()) }
}

fn replace(connection: &Connection, path: &Path, copy: &Path) -> Result<(), StoreError> {
    remove(copy)?;
    // SQLite fills an empty file, which keeps its mode, but does not sync it.
    let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(copy);
    let created = created.map_err(file("create", copy))?;
    let name = copy.to_string_lossy();
    connection.execute("VACUUM INTO ?1", [&*name]).map_err(failed("copy", path))?;
    created.sync_all().map_err(file("sync", copy))?;
    let whole = with_suffix(path, WHOLE);
    fs::rename(copy, &whole).map_err(file("rename", copy))?;
    sync_parent(path).map_err(file("sync the directory of", path))?;
    put_in_place(&whole, path)
}

fn put_in_place(whole: &Path, path: &Path) -> Result<(), StoreError> {
    // A log beside a database that it does not belong to would damage that.
    for suffix in ["-wal", "-shm"] {
        remove(&with_suffix(path, suffix))?;
    }
    fs::rename(whole, path).map_err(file("rename", whole))?;
    sync_parent(path).map_err(file("sync the directory of", path))
}

fn file(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    move |source| StoreError::File { doing, path: path.to_owned(), source }
}

fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file("remove", path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, OpenOptions},
        os::unix::fs::{FileExt as _, PermissionsExt as _},
        path::Path,
        thread,
        time::Instant,
    };

    use crate::lease::{
        Change, SqliteStore, Store as _, StoreError,
        sqlite::{REBUILD_INTERVAL, with_suffix},
        testing::put_lease,
    };

    fn leases(from: u16, to: u16) -> Vec<Change> {
        (from..to).map(put_lease).collect()
    }

    fn delete(database: &Path, suffixes: &[&str]) {
        for suffix in suffixes {
            fs::remove_file(with_suffix(database, suffix)).unwrap();
        }
    }

    #[test]
    fn what_is_written_anew_is_all_there_and_takes_more() {
        for gone in [&[""][..], &["-wal"], &["", "-wal", "-shm", ".lock"]] {
            let directory = tempfile::tempdir().unwrap();
            let database = directory.path().join("leases.sqlite");
            let mut store = SqliteStore::open(&database).unwrap();
            // The first are in the database, the others in its log.
            for round in 0..20 {
                store.commit(&leases(round * 1000, (round + 1) * 1000)).unwrap();
            }
            delete(&database, gone);
            let began = Instant::now();
            store.commit(&leases(20_000, 20_001)).unwrap();
            let contents = store.load().unwrap();
            assert_eq!(contents.leases.len(), 20_001, "{gone:?}");
            assert_eq!(fs::metadata(&database).unwrap().permissions().mode() & 0o777, 0o600, "{gone:?}");
            let in_use = SqliteStore::open(&database);
            assert!(matches!(in_use, Err(StoreError::InUse { .. })), "{gone:?}: {in_use:?}");
            // Once more, but not at once.
            delete(&database, gone);
            let refused = store.commit(&leases(20_001, 20_002));
            let is_soon = began.elapsed() < REBUILD_INTERVAL;
            assert!(matches!(refused, Err(StoreError::Missing { .. })) || !is_soon, "{gone:?}: {refused:?}");
            thread::sleep(REBUILD_INTERVAL);
            store.commit(&leases(20_001, 20_002)).unwrap();
            drop(store);
            let names = fs::read_dir(directory.path()).unwrap().count();
            assert_eq!(names, 2, "{gone:?}: the database and its lock");
            assert_eq!(
                SqliteStore::open(&database).unwrap().load().unwrap().leases.len(),
                20_002,
                "{gone:?}"
            );
        }
    }

    #[test]
    fn a_copy_that_is_whole_is_taken_where_there_is_no_database() {
        let directory = tempfile::tempdir().unwrap();
        let database = directory.path().join("leases.sqlite");
        let whole = with_suffix(&database, ".whole");
        let mut store = SqliteStore::open(&database).unwrap();
        store.commit(&leases(0, 10)).unwrap();
        drop(store);
        // The server that wrote it ended before it was in its place, once with the old log removed and once without.
        for log in [None, Some(&b"the log of a database that is gone"[..])] {
            fs::rename(&database, &whole).unwrap();
            if let Some(octets) = log {
                fs::write(with_suffix(&database, "-wal"), octets).unwrap();
            }
            let mut store = SqliteStore::open(&database).unwrap();
            assert_eq!(store.load().unwrap().leases.len(), 10);
            assert!(!whole.exists());
        }
        // With a database in its place, it is of an earlier time.
        fs::write(&whole, "old").unwrap();
        assert_eq!(SqliteStore::open(&database).unwrap().load().unwrap().leases.len(), 10);
        assert!(!whole.exists());
    }

    #[test]
    fn what_cannot_be_read_is_not_written_anew() {
        let directory = tempfile::tempdir().unwrap();
        let database = directory.path().join("leases.sqlite");
        let mut store = SqliteStore::open(&database).unwrap();
        store.commit(&leases(0, 60_000)).unwrap();
        // Closing it moves the log into the database.
        drop(store);
        let mut store = SqliteStore::open(&database).unwrap();
        let file = OpenOptions::new().write(true).open(&database).unwrap();
        let len = file.metadata().unwrap().len();
        assert!(len > 1 << 20, "{len}: the log is in the database");
        file.write_all_at(&vec![0xa5; len as usize - 4096], 4096).unwrap();
        delete(&database, &[""]);
        let result = store.commit(&leases(60_000, 60_001));
        assert!(matches!(result, Err(StoreError::Damaged { doing: "copy", .. })), "{result:?}");
        assert!(!database.exists() && !with_suffix(&database, ".new").exists());
    }
}
