//! The tables of leases, of conflicts, and those of one row: how they are written and read.

use std::{collections::BTreeMap, fmt::Display, net::Ipv6Addr, path::Path, sync::Arc};

use dhcp6_common::{Origin, Vlan, wire::Duid};
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, named_params, params, types::FromSql};

use super::{
    Change, ClockReading, Conflict, ConflictCause, Lease, LeaseState, StoreError, journal::Newer,
    sqlite::failed, store,
};
use crate::{
    pool::{Prefix, Resource},
    time::Time,
};

/// The parameters are in the order of the columns: to look their names up for each lease takes a tenth of a commit.
const PUT_LEASE: &str = "
    INSERT INTO leases
        (address, length, link, duid, iaid, state, preferred_until, valid_until, expires_at, vlan, mac)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
    ON CONFLICT (address, length) DO UPDATE SET
        link = ?3, duid = ?4, iaid = ?5, state = ?6, preferred_until = ?7, valid_until = ?8, expires_at = ?9,
        vlan = ?10, mac = ?11";
const REMOVE_LEASE: &str = "DELETE FROM leases WHERE address = :address AND length = :length";
const PUT_CONFLICT: &str = "
    INSERT INTO conflicts VALUES (:address, :length, :link, :duid, :cause, :until)
    ON CONFLICT (address, length) DO UPDATE SET link = :link, duid = :duid, cause = :cause, until = :until";
const PUT_CLOCK: &str = "INSERT OR REPLACE INTO clock VALUES (1, :boot_id, :booted_at, :seen)";
const PUT_SERVER_DUID: &str = "INSERT OR REPLACE INTO server VALUES (1, :duid)";
const REMOVE_CONFLICT: &str = "DELETE FROM conflicts WHERE address = :address AND length = :length";

/// Carries a change out in its table.
pub(super) fn apply(transaction: &Transaction<'_>, change: &Change) -> rusqlite::Result<()> {
    let changed = match change {
        Change::PutLease(lease) => {
            let Lease {
                resource,
                link,
                origin: Origin { vlan, mac },
                duid,
                iaid,
                state,
                preferred_until,
                valid_until,
                expires_at,
            } = lease;
            let (address, length) = key(*resource);
            transaction.prepare_cached(PUT_LEASE)?.execute(params![
                address,
                length,
                &**link,
                duid.as_slice(),
                iaid,
                name_in(&LEASE_STATES, *state),
                millis(*preferred_until),
                millis(*valid_until),
                millis(*expires_at),
                Some(vlan.bits()).filter(|bits| *bits != 0),
                Some(mac).filter(|mac| **mac != Origin::ANY.mac),
            ])
        }
        Change::RemoveLease(resource) => remove(transaction, REMOVE_LEASE, *resource),
        Change::PutConflict(Conflict { resource, link, duid, cause, until }) => {
            let (address, length) = key(*resource);
            transaction.prepare_cached(PUT_CONFLICT)?.execute(named_params! {
                ":address": address,
                ":length": length,
                ":link": &**link,
                ":duid": duid.as_slice(),
                ":cause": name_in(&CONFLICT_CAUSES, *cause),
                ":until": millis(*until),
            })
        }
        Change::RemoveConflict(resource) => remove(transaction, REMOVE_CONFLICT, *resource),
        Change::PutClock(ClockReading { boot_id, booted_at, seen }) => {
            transaction.prepare_cached(PUT_CLOCK)?.execute(named_params! {
                ":boot_id": boot_id,
                ":booted_at": millis(*booted_at),
                ":seen": millis(*seen),
            })
        }
        Change::PutServerDuid(duid) => {
            transaction.prepare_cached(PUT_SERVER_DUID)?.execute(named_params! { ":duid": duid.as_slice() })
        }
    };
    changed.map(drop)
}

fn remove(transaction: &Transaction<'_>, statement: &str, resource: Resource) -> rusqlite::Result<usize> {
    let (address, length) = key(resource);
    let parameters = named_params! { ":address": address, ":length": length };
    transaction.prepare_cached(statement)?.execute(parameters)
}

/// The key of a row: first address, and prefix length in bits, 128 for an address.
pub(super) type Key = ([u8; 16], u8);

pub(super) fn key(resource: Resource) -> Key {
    match resource {
        Resource::Address(address) => (address.octets(), 128),
        Resource::Prefix(prefix) => (prefix.first().octets(), prefix.length()),
    }
}

/// What a key stands for.
///
/// # Errors
///
/// What is wrong with it.
pub(super) fn resource_of((address, length): Key) -> Result<Resource, String> {
    let address = Ipv6Addr::from(address);
    match length {
        128 => Ok(address.into()),
        length => Prefix::new(address, length).map(Resource::from).map_err(|error| error.to_string()),
    }
}

const LEASE_STATES: [(&str, LeaseState); 2] =
    [("bound", LeaseState::Bound), ("remembered", LeaseState::Remembered)];
const CONFLICT_CAUSES: [(&str, ConflictCause); 2] =
    [("declined", ConflictCause::Declined), ("withdrawn", ConflictCause::Withdrawn)];

fn name_in<T: Copy + PartialEq>(names: &[(&'static str, T)], wanted: T) -> &'static str {
    let mut names = names.iter();
    names.find(|(_, value)| *value == wanted).map(|(name, _)| *name).expect("every value has a name")
}

/// [`Time::NEVER`] is `i64::MAX`, and there is no later time.
fn millis(time: Time) -> i64 {
    time.as_millis().cast_signed()
}

/// A table, and how its rows are understood.
struct Table {
    name: &'static str,
    columns: &'static [&'static str],
    decode: fn(&mut Fields<'_>) -> Result<store::Row, String>,
}

const LEASES: Table = Table {
    name: "leases",
    columns: &[
        "address",
        "length",
        "link",
        "duid",
        "iaid",
        "state",
        "preferred_until",
        "valid_until",
        "expires_at",
        "vlan",
        "mac",
    ],
    decode: |fields| {
        let lease = Lease {
            resource: fields.resource(0, 1)?,
            link: fields.link(2)?,
            origin: Origin {
                vlan: fields.get::<Option<u32>>(9)?.map(Vlan::from_bits).unwrap_or_default(),
                mac: fields.get::<Option<_>>(10)?.unwrap_or_default(),
            },
            duid: fields.duid(3)?,
            iaid: fields.get(4)?,
            state: fields.word(5, &LEASE_STATES)?,
            preferred_until: fields.time(6)?,
            valid_until: fields.time(7)?,
            expires_at: fields.time(8)?,
        };
        lease.contradiction().map_or(Ok(store::Row::Lease(lease)), |problem| Err(problem.to_owned()))
    },
};

const CONFLICTS: Table = Table {
    name: "conflicts",
    columns: &["address", "length", "link", "duid", "cause", "until"],
    decode: |fields| {
        Ok(store::Row::Conflict(Conflict {
            resource: fields.resource(0, 1)?,
            link: fields.link(2)?,
            duid: fields.duid(3)?,
            cause: fields.word(4, &CONFLICT_CAUSES)?,
            until: fields.time(5)?,
        }))
    },
};

/// The fields of a row, by the index of their column. Errors name the column.
struct Fields<'a> {
    row: &'a Row<'a>,
    columns: &'static [&'static str],
    links: &'a mut Links,
}

/// The names of links that were met, which are few.
#[derive(Default)]
pub(super) struct Links(Vec<Arc<str>>);

impl Links {
    pub(super) fn named(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.0.iter().find(|known| ***known == *name) {
            return Arc::clone(known);
        }
        let link: Arc<str> = name.into();
        self.0.push(Arc::clone(&link));
        link
    }
}

impl<'a> Fields<'a> {
    fn get<T: FromSql>(&self, index: usize) -> Result<T, String> {
        self.row.get(index).map_err(|error| self.problem(index, error))
    }

    fn problem(&self, index: usize, problem: impl Display) -> String {
        format!("{}: {problem}", self.columns[index])
    }

    fn text(&self, index: usize) -> Result<&'a str, String> {
        let text = self.row.get_ref(index).map(|value| value.as_str().map_err(|error| error.to_string()));
        text.map_err(|error| error.to_string()).flatten().map_err(|error| self.problem(index, error))
    }

    /// One of a few words.
    fn word<T: Copy>(&self, index: usize, words: &[(&str, T)]) -> Result<T, String> {
        let found = self.text(index)?;
        let known = words.iter().find(|(word, _)| *word == found);
        known
            .map(|(_, value)| *value)
            .ok_or_else(|| format!("{} is {found:?}, which is unknown", self.columns[index]))
    }

    fn link(&mut self, index: usize) -> Result<Arc<str>, String> {
        self.text(index).map(|name| self.links.named(name))
    }

    fn resource(&self, address: usize, length: usize) -> Result<Resource, String> {
        resource_of((self.get(address)?, self.get(length)?))
    }

    fn duid(&self, index: usize) -> Result<Duid, String> {
        let octets = self.row.get_ref(index).map(|value| value.as_blob().map_err(|error| error.to_string()));
        let octets = octets
            .map_err(|error| error.to_string())
            .flatten()
            .map_err(|error| self.problem(index, error))?;
        Duid::new(octets).map_err(|error| self.problem(index, error))
    }

    fn time(&self, index: usize) -> Result<Time, String> {
        let millis: i64 = self.get(index)?;
        let time = u64::try_from(millis).map(Time::from_millis);
        time.map_err(|_| self.problem(index, format_args!("{millis} is negative")))
    }
}

/// The key of a row as far as it is one.
fn name_of(row: &Row<'_>) -> String {
    let address = match (row.get::<_, [u8; 16]>("address"), row.get_ref("address")) {
        (Ok(address), _) => Ipv6Addr::from(address).to_string(),
        (Err(_), Ok(value)) => format!("{value:?}"),
        (Err(_), Err(error)) => error.to_string(),
    };
    format!("address {address}")
}

/// Reads a whole table with what is newer than it, and has each row taken.
fn read_table(
    connection: &Connection,
    path: &Path,
    table: &'static Table,
    newer: BTreeMap<Resource, Option<store::Row>>,
    take: &mut dyn FnMut(store::Row),
) -> Result<(), StoreError> {
    let Table { name, columns, decode } = table;
    let mut statement = connection
        .prepare(&format!("SELECT {} FROM {name} ORDER BY address, length", columns.join(", ")))
        .map_err(failed("read", path))?;
    let mut rows = statement.query([]).map_err(failed("read", path))?;
    let mut links = Links::default();
    let mut newer = newer.into_iter().peekable();
    while let Some(row) = rows.next().map_err(failed("read", path))? {
        let mut fields = Fields { row, columns, links: &mut links };
        let row = decode(&mut fields).map_err(|problem| StoreError::Row {
            path: path.to_owned(),
            table: name,
            row: name_of(row),
            problem,
        })?;
        let resource = row.resource();
        while let Some((_, added)) = newer.next_if(|(other, _)| *other < resource) {
            added.into_iter().for_each(&mut *take);
        }
        match newer.next_if(|(other, _)| *other == resource) {
            Some((_, changed)) => changed.into_iter().for_each(&mut *take),
            None => take(row),
        }
    }
    newer.filter_map(|(_, added)| added).for_each(take);
    Ok(())
}

/// Reads all leases, then all conflicts, each ascending by first address.
///
/// # Errors
///
/// [`StoreError::Row`], and what SQLite says.
pub(super) fn read_all(
    connection: &Connection,
    path: &Path,
    take: &mut dyn FnMut(store::Row),
) -> Result<(), StoreError> {
    let Newer { leases, conflicts } = Newer::read(connection).map_err(failed("read", path))?;
    read_table(connection, path, &LEASES, leases, take)?;
    read_table(connection, path, &CONFLICTS, conflicts, take)
}

/// The last reading of the clock; `None` where there is none yet.
pub(super) fn read_clock(connection: &Connection, path: &Path) -> Result<Option<ClockReading>, StoreError> {
    let reading = connection
        .query_row("SELECT boot_id, booted_at, seen FROM clock", [], |row| {
            let time = |index| row.get(index).map(|millis: i64| Time::from_millis(millis.cast_unsigned()));
            Ok(ClockReading { boot_id: row.get(0)?, booted_at: time(1)?, seen: time(2)? })
        })
        .optional();
    reading.map_err(failed("read the clock in", path))
}
