//! The store that survives a crash: one SQLite database.

use std::{
    fs::{File, Metadata, OpenOptions, TryLockError},
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use dhcp6_common::wire::Duid;
use rusqlite::{
    Connection, ErrorCode, OpenFlags, OptionalExtension as _, Transaction, TransactionBehavior,
    config::DbConfig, types::ValueRef,
};
use tracing::warn;

use super::{
    Change, ClockReading, Store, StoreError,
    checkpoint::{CHECKPOINT_PAGES, Checkpointer, checkpoint, pages_written},
    durable::sync_parent,
    journal::{Journal, Unreadable},
    log_check::check_log,
    log_room::LogRoom,
    open_files::OpenFiles,
    rebuild::{self, rebuild},
    store,
    tables::{read_all, read_clock},
};

/// Each schema version, which is `PRAGMA user_version`, and the statements that lead to it from the one before,
/// first from an empty database. Never change an entry that was released: append one.
///
/// Times are milliseconds since the Unix epoch, UTC; 9223372036854775807 is never.
const MIGRATIONS: [(i64, &str); 5] = [
    (
        1,
        "
    CREATE TABLE leases (
        address         BLOB    NOT NULL PRIMARY KEY CHECK (length(address) = 16),
        link            TEXT    NOT NULL,
        duid            BLOB    NOT NULL CHECK (length(duid) BETWEEN 1 AND 130),
        iaid            INTEGER NOT NULL CHECK (iaid BETWEEN 0 AND 4294967295),
        state           TEXT    NOT NULL CHECK (state IN ('bound', 'remembered')),
        preferred_until INTEGER NOT NULL CHECK (preferred_until >= 0),
        valid_until     INTEGER NOT NULL CHECK (valid_until >= 0),
        expires_at      INTEGER NOT NULL CHECK (expires_at >= 0)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX leases_by_client ON leases (link, duid, iaid);
    CREATE INDEX leases_by_expiry ON leases (expires_at);
    CREATE TABLE conflicts (
        address BLOB    NOT NULL PRIMARY KEY CHECK (length(address) = 16),
        link    TEXT    NOT NULL,
        duid    BLOB    NOT NULL CHECK (length(duid) BETWEEN 1 AND 130),
        until   INTEGER NOT NULL CHECK (until >= 0)
    ) STRICT, WITHOUT ROWID;
",
    ),
    // Prefixes besides addresses: those of length 128 are addresses, and always were. What a conflict came from
    // was not written down; one that was withdrawn is the one to be careful with.
    (
        2,
        "
    ALTER TABLE leases RENAME TO leases_1;
    ALTER TABLE conflicts RENAME TO conflicts_1;
    DROP INDEX leases_by_client;
    DROP INDEX leases_by_expiry;
    CREATE TABLE leases (
        address         BLOB    NOT NULL CHECK (length(address) = 16),
        length          INTEGER NOT NULL CHECK (length BETWEEN 1 AND 128),
        link            TEXT    NOT NULL,
        duid            BLOB    NOT NULL CHECK (length(duid) BETWEEN 1 AND 130),
        iaid            INTEGER NOT NULL CHECK (iaid BETWEEN 0 AND 4294967295),
        state           TEXT    NOT NULL CHECK (state IN ('bound', 'remembered')),
        preferred_until INTEGER NOT NULL CHECK (preferred_until >= 0),
        valid_until     INTEGER NOT NULL CHECK (valid_until >= 0),
        expires_at      INTEGER NOT NULL CHECK (expires_at >= 0),
        PRIMARY KEY (address, length)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX leases_by_client ON leases (link, duid, iaid);
    CREATE INDEX leases_by_expiry ON leases (expires_at);
    CREATE TABLE conflicts (
        address BLOB    NOT NULL CHECK (length(address) = 16),
        length  INTEGER NOT NULL CHECK (length BETWEEN 1 AND 128),
        link    TEXT    NOT NULL,
        duid    BLOB    NOT NULL CHECK (length(duid) BETWEEN 1 AND 130),
        cause   TEXT    NOT NULL CHECK (cause IN ('declined', 'withdrawn')),
        until   INTEGER NOT NULL CHECK (until >= 0),
        PRIMARY KEY (address, length)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE clock (
        row       INTEGER NOT NULL PRIMARY KEY CHECK (row = 1),
        boot_id   BLOB    NOT NULL CHECK (length(boot_id) = 16),
        booted_at INTEGER NOT NULL CHECK (booted_at >= 0),
        seen      INTEGER NOT NULL CHECK (seen >= 0)
    ) STRICT;
    INSERT INTO leases
        SELECT address, 128, link, duid, iaid, state, preferred_until, valid_until, expires_at FROM leases_1;
    INSERT INTO conflicts SELECT address, 128, link, duid, 'withdrawn', until FROM conflicts_1;
    DROP TABLE leases_1;
    DROP TABLE conflicts_1;
",
    ),
    // The server looks leases up in memory. Nobody read these indexes, and they cost most of the time of a commit, since
    // the clients of a batch lie all over them.
    (
        3,
        "
    DROP INDEX leases_by_client;
    DROP INDEX leases_by_expiry;
    CREATE TABLE server (
        row  INTEGER NOT NULL PRIMARY KEY CHECK (row = 1),
        duid BLOB    NOT NULL CHECK (length(duid) BETWEEN 1 AND 130)
    ) STRICT;
",
    ),
    // Where a client is on its link: VLAN identifiers, 4096 times the outer or only one and the inner one, and the MAC
    // address. NULL where the link does not look at it, as none did before. No row is written anew by this.
    (
        4,
        "
    ALTER TABLE leases ADD COLUMN vlan INTEGER CHECK (vlan BETWEEN 1 AND 16777215);
    ALTER TABLE leases ADD COLUMN mac BLOB CHECK (length(mac) = 6);
",
    ),
    // What commits leave to be moved into the tables of leases and conflicts, in the order of `number`.
    (
        5,
        "
    CREATE TABLE journal (
        number  INTEGER NOT NULL PRIMARY KEY,
        count   INTEGER NOT NULL CHECK (count > 0),
        changes BLOB    NOT NULL
    ) STRICT;
",
    ),
];
const NEWEST_SCHEMA: i64 = MIGRATIONS[MIGRATIONS.len() - 1].0;

/// How long a commit waits for somebody who writes to the database by hand. Nothing new is promised meanwhile, so that
/// only the first one waits, until one succeeds.
const BUSY_TIMEOUT: Duration = Duration::from_millis(250);

/// The same up to the first commit that succeeds, when nobody is to be answered.
const BUSY_TIMEOUT_AT_START: Duration = Duration::from_secs(5);

/// How often a database whose files are gone is written anew, at most.
pub(super) const REBUILD_INTERVAL: Duration = Duration::from_secs(1);

/// What stands behind the name of the database in that of the file that is locked.
const LOCK_SUFFIX: &str = ".lock";

/// Pages in the write-ahead log after which a commit moves it into the database itself, where that has not been done in
/// time beside the commits.
const MOST_PAGES: u32 = 2 * CHECKPOINT_PAGES as u32;

/// Octets of a page in the log, with its header.
const FRAME_OCTETS: u64 = 4096 + 24;

/// Octets that the write-ahead log keeps of its size after one large commit.
const LOG_SIZE_LIMIT: u32 = 64 << 20;

/// About what a lease takes in the file.
const ROW_OCTETS: usize = 80;

/// A [`Store`] in a SQLite database in the write-ahead mode, which syncs the log to the disk at every commit.
///
/// While it is open, it holds a lock on a file of the same name with `.lock` behind it. Others may read the
/// database meanwhile.
#[derive(Debug)]
pub struct SqliteStore {
    /// Ends before the connection is closed.
    checkpointer: Checkpointer,
    connection: Connection,
    path: PathBuf,
    /// `None` until they are open.
    files: Option<OpenFiles>,
    log_room: LogRoom,
    journal: Journal,
    /// When it was last tried to write the database anew.
    rebuild_tried: Option<Instant>,
    /// Whether the last commit has succeeded; `None` before the first.
    is_well: Option<bool>,
    /// Locked until it is closed.
    lock: File,
}

impl SqliteStore {
    /// Opens the database at `path`. A missing one is created, readable by its owner alone; its directory has to
    /// be there. One with an older schema is brought up to date.
    ///
    /// # Errors
    ///
    /// - [`StoreError::File`] and [`StoreError::Sqlite`] where it cannot be opened
    /// - [`StoreError::Damaged`] where it is no database, [`StoreError::DamagedLog`] where commits could be missing, and
    ///   [`StoreError::Orphaned`] where there is only its log; all is left as it is
    /// - [`StoreError::InUse`] where another store has it open, [`StoreError::Locked`] where another program does not
    ///   let go of it for five seconds
    /// - [`StoreError::UnknownSchema`] where it was written by a newer version; it is left as it is
    /// - [`StoreError::Setting`] where its file system does not support the write-ahead mode
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let path = path.into();
        let lock = lock(&path)?;
        rebuild::finish(&path)?;
        check_log(&path, &with_suffix(&path, "-wal"))?;
        create_durably(&path)?;
        Self::open_locked(path, lock)
    }

    fn open_locked(path: PathBuf, lock: File) -> Result<Self, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&path, flags).map_err(failed("open", &path))?;
        let log_room = LogRoom::new(with_suffix(&path, "-wal"), u64::from(MOST_PAGES) * FRAME_OCTETS);
        let checkpointer = Checkpointer::start(path.clone()).map_err(|source| StoreError::File {
            doing: "have a thread for the log of",
            path: path.clone(),
            source,
        })?;
        let mut store = Self {
            connection,
            path,
            files: None,
            log_room,
            journal: Journal::default(),
            checkpointer,
            rebuild_tried: None,
            is_well: None,
            lock,
        };
        match store.prepare() {
            Ok(()) => Ok(store),
            Err(failure) => Err(with_os_error(failure, &store.connection)),
        }
    }

    fn prepare(&mut self) -> Result<(), StoreError> {
        self.connection.busy_timeout(BUSY_TIMEOUT_AT_START).map_err(failed("configure", &self.path))?;
        // Until a commit has succeeded, what is there stays there: it may be evidence.
        self.keep_log_when_closed(true)?;
        // Reading the version first leaves a database that is not for this server untouched.
        let version = schema_version(&self.connection, &self.path)?;
        self.configure()?;
        self.migrate(version)?;
        // Reading anything has SQLite open the log, too.
        schema_version(&self.connection, &self.path)?;
        self.files = Some(self.note_files()?);
        self.journal = Journal::open(&self.connection).map_err(failed("read", &self.path))?;
        Ok(())
    }

    fn note_files(&self) -> Result<OpenFiles, StoreError> {
        let directory = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let files = ["", "-wal", LOCK_SUFFIX].map(|suffix| with_suffix(&self.path, suffix));
        OpenFiles::note(directory.unwrap_or(Path::new(".")), &files)
    }

    fn configure(&self) -> Result<(), StoreError> {
        let Self { connection, path, .. } = self;
        // What is read back for `synchronous = FULL` is its number.
        for (setting, value, wanted) in [("journal_mode", "WAL", "wal"), ("synchronous", "FULL", "2")] {
            connection
                .pragma_update_and_check(None, setting, value, |_| Ok(()))
                .or_else(|error| match error {
                    rusqlite::Error::QueryReturnedNoRows => Ok(()),
                    error => Err(error),
                })
                .map_err(failed("configure", path))?;
            let found = connection
                .pragma_query_value(None, setting, |row| {
                    Ok(match row.get_ref(0)? {
                        ValueRef::Integer(number) => number.to_string(),
                        other => other.as_str()?.to_owned(),
                    })
                })
                .map_err(failed("read the settings of", path))?;
            if found != wanted {
                return Err(StoreError::Setting { path: path.clone(), setting, wanted, found });
            }
        }
        for (setting, value) in [("wal_autocheckpoint", MOST_PAGES), ("journal_size_limit", LOG_SIZE_LIMIT)] {
            connection
                .pragma_update_and_check(None, setting, value, |_| Ok(()))
                .map_err(failed("configure", path))?;
        }
        Ok(())
    }

    fn migrate(&mut self, found: i64) -> Result<(), StoreError> {
        let Self { connection, path, .. } = self;
        for (version, statements) in MIGRATIONS.into_iter().filter(|(version, _)| *version > found) {
            connection
                .transaction_with_behavior(TransactionBehavior::Immediate)
                .and_then(|transaction| {
                    transaction.execute_batch(statements)?;
                    transaction.pragma_update(None, "user_version", version)?;
                    transaction.commit()
                })
                .map_err(failed("bring up to date", path))?;
        }
        Ok(())
    }

    /// Empties the write-ahead log into the database.
    fn empty_log(&mut self) -> rusqlite::Result<()> {
        self.checkpointer.settle();
        self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
    }

    /// Has `work` done as one transaction, which is on stable storage when this returns. It is told of the journal, and
    /// returns what has become of that.
    fn transact(
        &mut self,
        work: impl FnOnce(Journal, &Transaction<'_>) -> rusqlite::Result<Journal>,
    ) -> Result<(), StoreError> {
        let mut result = self.rebuild_if_missing();
        if result.is_ok() {
            result = self.write(work).and_then(|()| self.keep_files());
            if result.is_ok() {
                self.log_room.provide();
                if self.checkpointer.note(pages_written(&self.connection)) {
                    // Where it fails, the log is longer for a while.
                    checkpoint(&self.connection).ok();
                }
            }
        }
        self.note(result.is_ok())?;
        if let Err(StoreError::Io { .. } | StoreError::Sqlite { .. }) = result {
            // A commit whose sync failed has left its pages in the log, where a crash would make them valid.
            // Emptying the log drops them; where even that fails, the next commit overwrites them.
            let _ = self.empty_log();
        }
        if result.is_err() {
            // A page that was read wrongly is to be read again. Where this fails, there is nothing to forget.
            let _ = self.connection.release_memory();
        }
        result
    }

    fn write(
        &mut self,
        work: impl FnOnce(Journal, &Transaction<'_>) -> rusqlite::Result<Journal>,
    ) -> Result<(), StoreError> {
        let Self { connection, journal, .. } = self;
        connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .and_then(|transaction| {
                let after = work(*journal, &transaction)?;
                transaction.commit()?;
                *journal = after;
                Ok(())
            })
            .map_err(failed("write to", &self.path))
            .map_err(|failure| with_os_error(failure, &self.connection))
    }

    /// Notes how a commit has gone. A writer that was in the way once is not waited for again.
    fn note(&mut self, is_well: bool) -> Result<(), StoreError> {
        if self.is_well != Some(is_well) {
            let patience = if is_well { BUSY_TIMEOUT } else { Duration::ZERO };
            self.connection.busy_timeout(patience).map_err(failed("configure", &self.path))?;
            self.keep_log_when_closed(!is_well)?;
            self.is_well = Some(is_well);
        }
        Ok(())
    }

    /// Whether closing the database leaves its files as they are, or moves the write-ahead log into it.
    fn keep_log_when_closed(&self, keep: bool) -> Result<(), StoreError> {
        let set = self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, keep);
        set.map(drop).map_err(failed("configure", &self.path))
    }

    /// Makes sure that the names of the files lead to what is open: what is written to a file without a name is lost
    /// when it is closed, though every sync of it succeeds.
    fn keep_files(&self) -> Result<(), StoreError> {
        match self.files.as_ref().map(OpenFiles::missing).transpose()?.flatten() {
            Some(missing) => Err(StoreError::Missing { path: missing.to_owned() }),
            None => Ok(()),
        }
    }

    /// Writes the database anew where a file of it is gone, and goes on with that.
    fn rebuild_if_missing(&mut self) -> Result<(), StoreError> {
        let Err(failure) = self.keep_files() else { return Ok(()) };
        let StoreError::Missing { path: missing } = &failure else { return Err(failure) };
        if self.rebuild_tried.is_some_and(|tried| tried.elapsed() < REBUILD_INTERVAL) {
            return Err(failure);
        }
        self.rebuild_tried = Some(Instant::now());
        let lock_path = with_suffix(&self.path, LOCK_SUFFIX);
        // Where its file is gone, another server may have a lock of its own, even since a moment ago.
        if !leads_to(&lock_path, &self.lock) {
            self.lock = lock(&self.path)?;
        }
        if *missing == lock_path {
            self.files = Some(self.note_files()?);
        } else {
            rebuild(&self.connection, &self.path)?;
            let lock = self.lock.try_clone().map_err(|source| StoreError::File {
                doing: "keep",
                path: lock_path,
                source,
            })?;
            let rebuild_tried = self.rebuild_tried;
            *self = Self { rebuild_tried, ..Self::open_locked(self.path.clone(), lock)? };
        }
        warn!("{failure}: it was written anew, from what was still open");
        Ok(())
    }
}

fn schema_version(connection: &Connection, path: &Path) -> Result<i64, StoreError> {
    let found = connection
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(failed("read the schema version of", path))?;
    if (0..=NEWEST_SCHEMA).contains(&found) {
        Ok(found)
    } else {
        Err(StoreError::UnknownSchema { path: path.to_owned(), found, known: NEWEST_SCHEMA })
    }
}

/// Reads a database that a server may have open, and changes nothing.
///
/// # Errors
///
/// As [`SqliteStore::open`] and [`Store::load`]; [`StoreError::UnknownSchema`] for an older schema, too.
pub fn read_database(
    path: &Path,
    take: &mut dyn FnMut(store::Row),
) -> Result<Option<ClockReading>, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(failed("open", path))?;
    let version = schema_version(&connection, path)?;
    if version != NEWEST_SCHEMA {
        return Err(StoreError::UnknownSchema {
            path: path.to_owned(),
            found: version,
            known: NEWEST_SCHEMA,
        });
    }
    // All of it at one moment.
    let transaction = connection.transaction().map_err(failed("read", path))?;
    read_all(&transaction, path, take)?;
    read_clock(&transaction, path)
}

impl Store for SqliteStore {
    fn read(&mut self, take: &mut dyn FnMut(store::Row)) -> Result<(), StoreError> {
        read_all(&self.connection, &self.path, take)
    }

    fn expected_rows(&mut self) -> usize {
        let pragma = |name| self.connection.pragma_query_value(None, name, |row| row.get::<_, u32>(0));
        let octets = || {
            let pages = pragma("page_count")?.saturating_sub(pragma("freelist_count")?);
            Ok::<_, rusqlite::Error>(pages as usize * pragma("page_size")? as usize)
        };
        // To count them takes a walk through the file.
        octets().unwrap_or_default() / ROW_OCTETS
    }

    fn clock(&mut self) -> Result<Option<ClockReading>, StoreError> {
        read_clock(&self.connection, &self.path)
    }

    fn server_duid(&mut self) -> Result<Option<Duid>, StoreError> {
        let octets = self.connection.query_row("SELECT duid FROM server", [], |row| row.get::<_, Vec<u8>>(0));
        let octets = octets.optional().map_err(failed("read the server's DUID in", &self.path))?;
        // As many as the table lets in.
        Ok(octets.and_then(|octets| Duid::new(&octets).ok()))
    }

    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        store::check(changes)?;
        // Where the tables cannot be written to, nothing more is put into the journal.
        let was_well = self.is_well != Some(false);
        self.transact(|journal, transaction| {
            let journal = if was_well { journal } else { journal.file_some(transaction)? };
            journal.take(transaction, changes)
        })
    }

    fn is_tidy(&self) -> bool {
        self.journal.is_empty()
    }

    fn tidy(&mut self) -> Result<(), StoreError> {
        if self.is_tidy() { Ok(()) } else { self.transact(Journal::file_some) }
    }

    fn is_in_place(&self) -> bool {
        self.keep_files().is_ok()
    }
}

pub(super) fn failed(doing: &'static str, path: &Path) -> impl FnOnce(rusqlite::Error) -> StoreError {
    move |source| {
        let path = path.to_owned();
        if let rusqlite::Error::FromSqlConversionFailure(_, _, problem) = &source
            && let Some(unreadable) = problem.downcast_ref::<Unreadable>()
        {
            let (row, problem) = (format!("number {}", unreadable.number), unreadable.to_string());
            return StoreError::Row { path, table: "journal", row, problem };
        }
        match source.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Locked { doing, path },
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                StoreError::Damaged { doing, path, source }
            }
            _ => StoreError::Sqlite { doing, path, source },
        }
    }
}

/// What the operating system has said, in place of "disk I/O error".
fn with_os_error(failure: StoreError, connection: &Connection) -> StoreError {
    match failure {
        StoreError::Sqlite { doing, path, source }
            if matches!(
                source.sqlite_error_code(),
                Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen)
            ) =>
        {
            #[expect(unsafe_code, reason = "rusqlite has no function for this")]
            // SAFETY: the handle is that of an open connection, and is not kept.
            let code = unsafe { rusqlite::ffi::sqlite3_system_errno(connection.handle()) };
            if code == 0 {
                StoreError::Sqlite { doing, path, source }
            } else {
                StoreError::Io { doing, path, source: io::Error::from_raw_os_error(code) }
            }
        }
        other => other,
    }
}

/// A path with a suffix behind the name of its file.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

/// Keeps other servers away from the database. The lock is on a file of its own: SQLite's locks on the database
/// file would end when this process closed any other handle of it.
fn lock(database: &Path) -> Result<File, StoreError> {
    let path = with_suffix(database, LOCK_SUFFIX);
    let failed = |source| StoreError::File { doing: "lock", path: path.clone(), source };
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse { path: database.to_owned() }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// Whether a name leads to an open file.
fn leads_to(path: &Path, file: &File) -> bool {
    let identity = |metadata: Metadata| (metadata.dev(), metadata.ino());
    let (of_name, of_file) = (path.metadata().map(identity), file.metadata().map(identity));
    of_name.ok().zip(of_file.ok()).is_some_and(|(of_name, of_file)| of_name == of_file)
}

/// Creates an empty file where there is none, and makes its name durable. SQLite gives its other files the same
/// permissions.
fn create_durably(path: &Path) -> Result<(), StoreError> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(source) => return Err(StoreError::File { doing: "create", path: path.to_owned(), source }),
    }
    sync_parent(path).map_err(|source| StoreError::File {
        doing: "sync the directory of",
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
#[path = "sqlite_tests.rs"]
mod tests;
