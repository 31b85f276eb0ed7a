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

use rusqlite::{Connection, OpenFlags, config::DbConfig};

/// Pages in the log, as far as they can be told, after which it is moved into the database: 32 MiB. A page that many
/// commits have written is moved once.
pub(super) const CHECKPOINT_PAGES: usize = 8192;

/// Moves what is in the log of a connection's database, as far as nobody is in the way.
pub(super) fn checkpoint(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
}

/// A thread with a connection of its own to the same database.
#[derive(Debug)]
pub(super) struct Checkpointer {
    /// `None` when it is to end.
    orders: Option<SyncSender<()>>,
    done: Receiver<()>,
    thread: Option<JoinHandle<()>>,
    /// About how many pages have been written to the log since the last checkpoint.
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

    /// Notes a commit of so many changes, and has the log moved where it is time. Returns whether the thread has done its
    /// part, so that [`checkpoint`] takes little time.
    pub(super) fn note(&mut self, changes: usize) -> bool {
        // Rows that are next to each other share a page, and the header and the pages that lead to them are written, too.
        self.pages += 3 + changes / 4;
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
