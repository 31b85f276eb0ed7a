//! Changes that are on the disk, but not in the tables of leases and conflicts yet.
//!
//! To find the place of each lease of a commit in its table takes most of the commit: 370 us for 256 leases, of which a
//! sync of the disk is 130 us. So a commit of many adds one row to the table `journal`, with all of its changes (150 us), and
//! they are moved into their tables when nobody waits. Who reads the database takes both together.

use std::collections::BTreeMap;

use dhcp6_common::{Origin, Vlan, wire::Duid};
use rusqlite::{Connection, Transaction, types::Type};
use serde::{Deserialize, Serialize};

use super::{
    Change, Conflict, ConflictCause, Lease, LeaseState, Row,
    tables::{Key, Links, apply, key, resource_of},
};
use crate::{pool::Resource, time::Time};

/// Up to so many changes go right into their tables where no others are in front of them: an idle server has its
/// leases there.
const FEW: usize = 8;

/// Changes in one row of the journal: what is moved at once.
const ROW: u32 = 512;

/// Changes in the journal above which each commit moves as many as it adds. Reading them all takes some 30 MB of memory.
const MOST: u32 = 128 << 10;

const APPEND: &str = "INSERT INTO journal VALUES (?1, ?2, ?3)";
const OLDEST: &str = "SELECT number, count, changes FROM journal ORDER BY number";
/// Index of its column.
const CHANGES: usize = 2;
const REMOVE: &str = "DELETE FROM journal WHERE number <= ?1";

/// What is known of the table.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Journal {
    /// The number of the next row.
    next: i64,
    /// How many changes are in it.
    changes: u32,
}

/// A row of the journal that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{problem}")]
pub(super) struct Unreadable {
    pub(super) number: i64,
    problem: String,
}

impl From<Unreadable> for rusqlite::Error {
    fn from(unreadable: Unreadable) -> Self {
        Self::FromSqlConversionFailure(CHANGES, Type::Blob, Box::new(unreadable))
    }
}

impl Journal {
    pub(super) fn open(connection: &Connection) -> rusqlite::Result<Self> {
        let all = "SELECT ifnull(max(number), 0) + 1, ifnull(sum(count), 0) FROM journal";
        connection.query_row(all, [], |row| Ok(Self { next: row.get(0)?, changes: row.get(1)? }))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.changes == 0
    }

    /// Takes changes in, behind all others. The caller drops the result where the transaction fails.
    pub(super) fn take(
        mut self,
        transaction: &Transaction<'_>,
        changes: &[Change],
    ) -> rusqlite::Result<Self> {
        // Tables of one row, where order among the others does not matter.
        let (rows, alone): (Vec<_>, Vec<_>) = changes.iter().partition(|change| is_row(change));
        for change in alone {
            apply(transaction, change)?;
        }
        if self.is_empty() && rows.len() <= FEW {
            for change in rows {
                apply(transaction, change)?;
            }
            return Ok(self);
        }
        for part in rows.chunks(ROW as usize) {
            let count = part.len() as u32;
            transaction.prepare_cached(APPEND)?.execute((self.next, count, encode(part)))?;
            self.next += 1;
            self.changes += count;
        }
        let excess = self.changes.saturating_sub(MOST);
        self.file(transaction, excess)
    }

    /// Moves at least so many of the oldest changes into their tables, as far as there are as many.
    pub(super) fn file(mut self, transaction: &Transaction<'_>, at_least: u32) -> rusqlite::Result<Self> {
        let mut moved = 0_u32;
        let mut last = 0_i64;
        let mut statement = transaction.prepare_cached(OLDEST)?;
        let mut rows = statement.query([])?;
        while moved < at_least
            && let Some(row) = rows.next()?
        {
            read_row(row, |change| apply(transaction, &change))?;
            moved += row.get::<_, u32>(1)?;
            last = row.get(0)?;
        }
        drop(rows);
        if moved > 0 {
            transaction.prepare_cached(REMOVE)?.execute([last])?;
            self.changes = self.changes.saturating_sub(moved);
        }
        Ok(self)
    }

    /// Moves what takes a millisecond or two.
    pub(super) fn file_some(self, transaction: &Transaction<'_>) -> rusqlite::Result<Self> {
        self.file(transaction, ROW)
    }
}

/// What the journal says of each resource, in place of what is in the tables: the row, or that there is none.
#[derive(Default)]
pub(super) struct Newer {
    pub(super) leases: BTreeMap<Resource, Option<Row>>,
    pub(super) conflicts: BTreeMap<Resource, Option<Row>>,
}

impl Newer {
    pub(super) fn read(connection: &Connection) -> rusqlite::Result<Self> {
        let mut newer = Self::default();
        let mut statement = connection.prepare(OLDEST)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            read_row(row, |change| {
                newer.note(change);
                Ok(())
            })?;
        }
        Ok(newer)
    }

    fn note(&mut self, change: Change) {
        match change {
            Change::PutLease(lease) => self.leases.insert(lease.resource, Some(Row::Lease(lease))),
            Change::RemoveLease(resource) => self.leases.insert(resource, None),
            Change::PutConflict(conflict) => {
                self.conflicts.insert(conflict.resource, Some(Row::Conflict(conflict)))
            }
            Change::RemoveConflict(resource) => self.conflicts.insert(resource, None),
            Change::PutClock(_) | Change::PutServerDuid(_) => None,
        };
    }
}

/// Whether it changes a row of a table that has many.
fn is_row(change: &Change) -> bool {
    !matches!(change, Change::PutClock(_) | Change::PutServerDuid(_))
}

/// A change as it stands in the journal, in postcard's format. The order of the variants and of the fields is part of
/// the schema.
#[derive(Serialize, Deserialize)]
enum Record<'a> {
    PutLease {
        key: Key,
        link: &'a str,
        vlan: u32,
        mac: [u8; 6],
        duid: &'a [u8],
        iaid: u32,
        state: LeaseState,
        preferred_until: u64,
        valid_until: u64,
        expires_at: u64,
    },
    RemoveLease(Key),
    PutConflict {
        key: Key,
        link: &'a str,
        duid: &'a [u8],
        cause: ConflictCause,
        until: u64,
    },
    RemoveConflict(Key),
}

fn encode(changes: &[&Change]) -> Vec<u8> {
    let mut octets = Vec::with_capacity(64 * changes.len());
    for record in changes.iter().filter_map(|change| Record::of(change)) {
        octets = postcard::to_extend(&record, octets).expect("a vector has room for everything");
    }
    octets
}

/// Has each change of a row of the journal taken.
fn read_row(
    row: &rusqlite::Row<'_>,
    mut take: impl FnMut(Change) -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    let number = row.get(0)?;
    let unreadable = |problem| Unreadable { number, problem };
    let mut octets = row.get_ref(CHANGES)?.as_blob()?;
    let mut links = Links::default();
    while !octets.is_empty() {
        let (record, rest) =
            postcard::take_from_bytes::<Record<'_>>(octets).map_err(|error| unreadable(error.to_string()))?;
        take(record.change(&mut links).map_err(unreadable)?)?;
        octets = rest;
    }
    Ok(())
}

impl<'a> Record<'a> {
    /// `None` for what is not kept in the journal.
    fn of(change: &'a Change) -> Option<Self> {
        Some(match change {
            Change::PutLease(lease) => Self::PutLease {
                key: key(lease.resource),
                link: &lease.link,
                vlan: lease.origin.vlan.bits(),
                mac: lease.origin.mac,
                duid: lease.duid.as_slice(),
                iaid: lease.iaid,
                state: lease.state,
                preferred_until: lease.preferred_until.as_millis(),
                valid_until: lease.valid_until.as_millis(),
                expires_at: lease.expires_at.as_millis(),
            },
            Change::RemoveLease(resource) => Self::RemoveLease(key(*resource)),
            Change::PutConflict(Conflict { resource, link, duid, cause, until }) => Self::PutConflict {
                key: key(*resource),
                link,
                duid: duid.as_slice(),
                cause: *cause,
                until: until.as_millis(),
            },
            Change::RemoveConflict(resource) => Self::RemoveConflict(key(*resource)),
            Change::PutClock(_) | Change::PutServerDuid(_) => return None,
        })
    }

    fn change(self, links: &mut Links) -> Result<Change, String> {
        let duid_of = |octets| Duid::new(octets).map_err(|error| format!("duid: {error}"));
        Ok(match self {
            Self::PutLease {
                key,
                link,
                vlan,
                mac,
                duid,
                iaid,
                state,
                preferred_until,
                valid_until,
                expires_at,
            } => {
                let lease = Lease {
                    resource: resource_of(key)?,
                    link: links.named(link),
                    origin: Origin { vlan: Vlan::from_bits(vlan), mac },
                    duid: duid_of(duid)?,
                    iaid,
                    state,
                    preferred_until: Time::from_millis(preferred_until),
                    valid_until: Time::from_millis(valid_until),
                    expires_at: Time::from_millis(expires_at),
                };
                lease
                    .contradiction()
                    .map_or(Ok(Change::PutLease(lease)), |problem| Err(problem.to_owned()))?
            }
            Self::RemoveLease(key) => Change::RemoveLease(resource_of(key)?),
            Self::PutConflict { key, link, duid, cause, until } => Change::PutConflict(Conflict {
                resource: resource_of(key)?,
                link: links.named(link),
                duid: duid_of(duid)?,
                cause,
                until: Time::from_millis(until),
            }),
            Self::RemoveConflict(key) => Change::RemoveConflict(resource_of(key)?),
        })
    }
}
