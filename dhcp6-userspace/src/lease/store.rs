//! What the daemon asks of durable storage.

use std::{io, path::PathBuf};

use dhcp6_common::wire::Duid;

use super::{Change, ClockReading, Conflict, Lease, LeaseState};
use crate::pool::Resource;

/// Durable storage of leases and conflicts.
pub trait Store: Send {
    /// Reads everything that is stored, and has it taken row by row: the leases, then the conflicts, each ascending by
    /// first address.
    ///
    /// # Errors
    ///
    /// Where something stored cannot be read. What was taken is of no use then, since an unknown lease would be given
    /// to a second client.
    fn read(&mut self, take: &mut dyn FnMut(Row)) -> Result<(), StoreError>;

    /// About how many rows [`Store::read`] will come with; 0 where that is not known.
    fn expected_rows(&mut self) -> usize {
        0
    }

    /// Everything that is stored.
    ///
    /// # Errors
    ///
    /// As [`Store::read`].
    fn load(&mut self) -> Result<Contents, StoreError> {
        let mut contents = Contents::default();
        self.read(&mut |row| match row {
            Row::Lease(lease) => contents.leases.push(lease),
            Row::Conflict(conflict) => contents.conflicts.push(conflict),
        })?;
        Ok(contents)
    }

    /// The last reading of the clock; `None` where there is none yet.
    ///
    /// # Errors
    ///
    /// Where it cannot be read.
    fn clock(&mut self) -> Result<Option<ClockReading>, StoreError>;

    /// The server's own DUID; `None` where it was not stored yet.
    ///
    /// # Errors
    ///
    /// Where it cannot be read.
    fn server_duid(&mut self) -> Result<Option<Duid>, StoreError>;

    /// Applies all changes in their order, as one transaction. They are on stable storage when this returns.
    ///
    /// # Errors
    ///
    /// None of the changes is stored then, and the contents are what they were.
    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError>;

    /// Whether commits have left nothing for [`Store::tidy`].
    fn is_tidy(&self) -> bool {
        true
    }

    /// Does some of what commits have left for a time at which nobody waits: some milliseconds' worth. It changes nothing of
    /// what is read.
    ///
    /// # Errors
    ///
    /// As [`Store::commit`], which does some of it itself after that, so that it does not succeed until this does.
    fn tidy(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Whether what is stored is still where the next server looks for it. Where it is not, the next commit puts it there,
    /// or fails.
    fn is_in_place(&self) -> bool {
        true
    }
}

/// One thing that a [`Store`] holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Row {
    /// A lease, bound or remembered.
    Lease(Lease),
    /// An address or prefix in conflict.
    Conflict(Conflict),
}

impl Row {
    /// What it is about.
    pub(super) fn resource(&self) -> Resource {
        match self {
            Self::Lease(Lease { resource, .. }) | Self::Conflict(Conflict { resource, .. }) => *resource,
        }
    }
}

/// Everything that a [`Store`] holds, ascending by first address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// The leases, bound and remembered.
    pub leases: Vec<Lease>,
    /// What is in conflict.
    pub conflicts: Vec<Conflict>,
}

impl IntoIterator for Contents {
    type Item = Row;
    type IntoIter = Box<dyn Iterator<Item = Row>>;

    fn into_iter(self) -> Self::IntoIter {
        let Self { leases, conflicts } = self;
        Box::new(leases.into_iter().map(Row::Lease).chain(conflicts.into_iter().map(Row::Conflict)))
    }
}

/// Why a [`Store`] cannot be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database refused.
    #[error("cannot {doing} the lease database {}: {source}", path.display())]
    Sqlite {
        /// What was being done to it.
        doing: &'static str,
        /// The database.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// The operating system refused what the database asked of it.
    #[error("cannot {doing} the lease database {}: {source}", path.display())]
    Io {
        /// What was being done to it.
        doing: &'static str,
        /// The database.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// What is in the database, or was read from it, makes no sense to SQLite.
    #[error(
        "cannot {doing} the lease database {}: {source}; it is damaged: keep it, and its log with -wal behind the name, \
         and restore a copy",
        path.display()
    )]
    Damaged {
        /// What was being done to it.
        doing: &'static str,
        /// The database.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// Another program writes to the database.
    #[error(
        "cannot {doing} the lease database {}, because another program has locked it: end that one, which \
         `fuser` or `lsof` find by the file",
        path.display()
    )]
    Locked {
        /// What was being done to it.
        doing: &'static str,
        /// The database.
        path: PathBuf,
    },
    /// A file of the database is gone: what is written to it is lost.
    #[error("{} is gone", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The log of the database has committed changes behind a damaged part. SQLite would leave them out without a word.
    #[error(
        "the lease database {} is damaged: its log {} has {lost} commits behind what cannot be read at octet \
         {offset}; keep both, and restore a copy, or move the log away to begin without any of its changes",
        path.display(),
        log.display()
    )]
    DamagedLog {
        /// The database.
        path: PathBuf,
        /// Its write-ahead log.
        log: PathBuf,
        /// Where in the log the damage begins.
        offset: u64,
        /// How many commits can still be seen behind that.
        lost: u32,
    },
    /// There is no database, but the log of one.
    #[error(
        "{} is gone, but its log {} is there, which has leases: put the database back, or move the log away to begin \
         without any lease",
        path.display(),
        log.display()
    )]
    Orphaned {
        /// The database.
        path: PathBuf,
        /// Its write-ahead log.
        log: PathBuf,
    },
    /// A file of the database has another one in its place: what is written to the open one is lost.
    #[error(
        "{} is not what was opened: it was replaced, or something is mounted over it; put the old one back, or restart \
         dhcp6d to go on with the new one",
        path.display()
    )]
    Replaced {
        /// The file or its directory.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("cannot {doing} {}: {source}", path.display())]
    File {
        /// What was being done to it.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// Another process has the database open; two servers on one database would both give its addresses out.
    #[error(
        "the lease database {} is in use by another dhcp6d: stop that one, or set another state_dir",
        path.display()
    )]
    InUse {
        /// The database.
        path: PathBuf,
    },
    /// The database was written by another, usually a newer, version.
    #[error(
        "the lease database {} has schema version {found}, and this dhcp6d reads versions up to {known}: run \
         the version that wrote it, or restore an older copy",
        path.display()
    )]
    UnknownSchema {
        /// The database.
        path: PathBuf,
        /// Its schema version.
        found: i64,
        /// The newest schema version that is known here.
        known: i64,
    },
    /// The database does not take a setting without which commits would not be durable.
    #[error(
        "the lease database {} has {setting} = {found} instead of {wanted}: move it to a local file system",
        path.display()
    )]
    Setting {
        /// The database.
        path: PathBuf,
        /// Name of the SQLite pragma.
        setting: &'static str,
        /// The value that was set.
        wanted: &'static str,
        /// The value that was read back.
        found: String,
    },
    /// A row cannot be a lease or a conflict.
    #[error(
        "the lease database {} has an unreadable row in table {table}, {row}: {problem}; correct it with \
         sqlite3, or restore a copy",
        path.display()
    )]
    Row {
        /// The database.
        path: PathBuf,
        /// The table.
        table: &'static str,
        /// Which one: its address, as far as it is one, or its number.
        row: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A lease whose times contradict each other was to be stored; reading it back would be refused.
    #[error("cannot store a contradictory lease of {}: {problem}", lease.resource)]
    Contradictory {
        /// The lease.
        lease: Box<Lease>,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The store was told to fail ([`MemoryStore::fail_next`](super::MemoryStore::fail_next)).
    #[error("cannot store the changes: the store was told to fail")]
    Injected,
}

impl Lease {
    /// What makes the lease impossible; `None` where nothing does. The times of a lease that is only remembered
    /// promise nothing.
    pub(super) fn contradiction(&self) -> Option<&'static str> {
        if self.state == LeaseState::Remembered {
            None
        } else if self.preferred_until > self.valid_until {
            Some("preferred_until is behind valid_until")
        } else if self.valid_until > self.expires_at {
            Some("valid_until is behind expires_at")
        } else {
            None
        }
    }
}

/// Refuses changes that [`Store::load`] would not take back.
pub(super) fn check(changes: &[Change]) -> Result<(), StoreError> {
    for change in changes {
        if let Change::PutLease(lease) = change
            && let Some(problem) = lease.contradiction()
        {
            return Err(StoreError::Contradictory { lease: Box::new(lease.clone()), problem });
        }
    }
    Ok(())
}
