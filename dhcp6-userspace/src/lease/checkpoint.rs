//! Moves the write-ahead log into the database beside the commits.
//!
//! A checkpoint writes every page that has changed, and syncs the database: 20 ms for what 60,000 new leases leave, for
//! which no commit should wait. SQLite lets another connection do it while commits go on. Only when all of the log is moved
//! does the next commit begin it anew, so what has been added meanwhile is moved by the connection that commits, which
//! takes no longer than some commits.

use std::{
    io,
    path::PathBuf,
    sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel},
    thread::{self, JoinHandle},
};

use rusqlite::{Connection, OpenFlags, config::DbConfig, ffi};

/// Pages in the log after which it is moved into the database: 32 MiB. A page that many
/// commits have written is moved once.
pub(super) const CHECKPOINT_PAGES: usize = 8192;

/// Moves what is in the log of a connection's database, as far as nobody is in the way.
pub(super) fn checkpoint(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
}

/// How many pages a connection has written to the log since this was asked last.
#[expect(unsafe_code, reason = "rusqlite has no function for this")]
pub(super) fn pages_written(connection: &Connection) -> usize {
    let (mut pages, mut highest) = (0, 0);
    // SAFETY: the handle is that of an open connection, and is not kept; SQLite writes an integer to each of the places,
    // which live until the call ends.
    unsafe {
        ffi::sqlite3_db_status(
            connection.handle(),
            ffi::SQLITE_DBSTATUS_CACHE_WRITE,
            &raw mut pages,
            &raw mut highest,
            1,
        );
    }
    pages.try_into().unwrap_or_default()
}

/// A thread with a connection of its own to the same database.
#[derive(Debug)]
pub(super) struct Checkpointer {
    /// `None` when it is to end.
    orders: Option<SyncSender<()>>,
    done: Receiver<()>,
    thread: Option<JoinHandle<()>>,
    /// How many pages have been written to the log since the last order.
    pages: usize,
    is_at_work: bool,
}

impl Checkpointer {
    /// Starts the thread, which opens the database at `path` when it is needed first.
    ///
    /// # Errors
    ///
    /// The system's, where it has no thread to give.
    pub(super) fn start(path: PathBuf) -> io::Result<Self> {
        let (orders, todo) = sync_channel::<()>(1);
        let (finished, done) = sync_channel(1);
        let thread = thread::Builder::new().name("checkpoint".to_owned()).spawn(move || {
            let mut connection = None;
            for () in todo {
                if connection.is_none() {
                    connection = open(&path).ok();
                }
                // Where it fails, the log is longer for a while.
                if let Some(connection) = &connection {
                    checkpoint(connection).ok();
                }
                if finished.send(()).is_err() {
                    break;
                }
            }
        })?;
        Ok(Self { orders: Some(orders), done, thread: Some(thread), pages: 0, is_at_work: false })
    }

    /// Notes a commit of so many pages, and has the log moved where it is time. Returns whether the thread has done its
    /// part, so that [`checkpoint`] takes little time.
    pub(super) fn note(&mut self, pages: usize) -> bool {
        self.pages += pages;
        if self.is_at_work {
            let is_done = !matches!(self.done.try_recv(), Err(TryRecvError::Empty));
            self.is_at_work = !is_done;
            return is_done;
        }
        if self.pages >= CHECKPOINT_PAGES {
            self.pages = 0;
            self.is_at_work = self.orders.as_ref().is_some_and(|orders| orders.try_send(()).is_ok());
        }
        false
    }

    /// Waits until the thread has done what it has been told to: only one can move the log at a time.
    pub(super) fn settle(&mut self) {
        if self.is_at_work {
            self.done.recv().ok();
            self.is_at_work = false;
        }
    }
}

impl Drop for Checkpointer {
    /// Waits for the thread: the connection that is closed last decides what becomes of the log.
    fn drop(&mut self) {
        drop(self.orders.take());
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

fn open(path: &PathBuf) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        time::{Duration, Instant},
    };

    use rusqlite::Connection;

    use super::{CHECKPOINT_PAGES, Checkpointer, pages_written};

    #[test]
    fn the_log_is_moved_beside_the_commits_when_there_is_enough_of_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("database");
        let connection = Connection::open(&path).unwrap();
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(())).unwrap();
        connection.execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (zeroblob(1000000))").unwrap();
        let len = || fs::metadata(&path).unwrap().len();
        let mut checkpointer = Checkpointer::start(path.clone()).unwrap();
        let pages = pages_written(&connection);
        assert!((245..260).contains(&pages), "{pages}: 1,000,000 octets in pages of 4096");
        assert_eq!(pages_written(&connection), 0);
        assert!(!checkpointer.note(CHECKPOINT_PAGES - 1));
        checkpointer.settle();
        assert!(len() < 1_000_000, "nobody waits for what was not ordered");
        assert!(!checkpointer.note(1));
        let deadline = Instant::now() + Duration::from_secs(10);
        while !checkpointer.note(0) {
            assert!(Instant::now() < deadline, "it is never done");
        }
        assert!(len() > 1_000_000, "{}: the log is in the database", len());
        // Once for each order.
        assert!(!checkpointer.note(0));
        drop(checkpointer);
        assert!(
            fs::exists(directory.path().join("database-wal")).unwrap(),
            "the other connection has it open"
        );
    }
}
