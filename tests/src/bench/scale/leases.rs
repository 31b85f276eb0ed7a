//! Many leases, and a database with them.

use std::{
    fs::DirBuilder,
    net::Ipv6Addr,
    os::unix::fs::DirBuilderExt as _,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result};
use dhcp6_common::{Origin, wire::Duid};
use dhcp6_userspace::{
    lease::{Change, Lease, LeaseState, SqliteStore, Store as _},
    time::Time,
};

/// The link of the leases.
const LINK: &str = "access0";
/// Its prefix: 2001:db8:1::/64.
const PREFIX: u128 = 0x2001_0db8_0001_0000 << 64;
/// The first address that is given out in ascending order.
const FIRST: u128 = 0x1000;
/// Leases that are committed together.
const AT_ONCE: usize = 20_000;
/// How long leases last that were granted half an hour ago, with the lifetimes of the configuration (two hours). So
/// much longer than any measurement, and so short that a Renew has to be stored.
const VALID: Duration = Duration::from_mins(90);
/// How much longer storage covers them (the horizon).
const COVERED: Duration = Duration::from_hours(2);

/// How the addresses of the leases lie in their prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::bench) enum Spread {
    /// One after the other.
    Cyclic,
    /// Anywhere.
    Random,
}

impl Spread {
    /// The name in the configuration.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Cyclic => "cyclic",
            Self::Random => "random",
        }
    }
}

/// The clients of `dhcp6flood`, from number 0, each with a lease.
#[derive(Clone, Copy, Debug)]
pub(in crate::bench) struct Leases {
    pub(in crate::bench) count: u32,
    pub(in crate::bench) spread: Spread,
}

impl Leases {
    /// A client's DUID-LL, as `dhcp6flood` has it.
    pub(in crate::bench) fn duid(number: u32) -> Duid {
        let [a, b, c, d] = number.to_be_bytes();
        Duid::new(&[0, 3, 0, 1, 0x02, 0xd6, a, b, c, d]).expect("10 octets are a DUID")
    }

    /// A client's IAID, as `dhcp6flood` has it.
    pub(in crate::bench) fn iaid(number: u32) -> u32 {
        number ^ 0x5a00_0000
    }

    /// A client's address.
    pub(in crate::bench) fn address(self, number: u32) -> Ipv6Addr {
        let host = match self.spread {
            Spread::Cyclic => FIRST + u128::from(number),
            Spread::Random => u128::from(scatter(number)),
        };
        (PREFIX | host).into()
    }

    /// Numbers of some clients, all over the population.
    pub(super) fn some(self, count: u32) -> Vec<u32> {
        let count = count.min(self.count);
        (0..count).map(|index| (u64::from(index) * u64::from(self.count) / u64::from(count)) as u32).collect()
    }

    /// Numbers of some clients, others in each run while there are others: with `count` clients in each of the runs.
    pub(super) fn others(self, count: u32, run: u32) -> Vec<u32> {
        self.some(count).into_iter().map(|number| (number + run) % self.count).collect()
    }

    /// Makes a database with the leases, in a directory that is made as well. None of them ends soon.
    pub(in crate::bench) fn store(self, database: &Path) -> Result<()> {
        self.store_covered(database, COVERED)
    }

    /// The same, with so much time that storage covers from now on: the kernel serves what is beyond the lifetime.
    pub(in crate::bench) fn store_covered(self, database: &Path, covered: Duration) -> Result<()> {
        let directory = database.parent().context("the database has a directory")?;
        DirBuilder::new().mode(0o700).create(directory)?;
        let (valid_until, expires_at) = (from_now(VALID), from_now(covered));
        self.put(database, (0..self.count).map(|number| (number, valid_until, expires_at)))
    }

    /// Has the first `count` leases end within a second, evenly, from `start` on.
    pub(super) fn end(self, database: &Path, count: u32, start: Time) -> Result<()> {
        let leases = (0..count).map(|number| {
            let end = start.after(Duration::from_secs(1) * number / count);
            (number, end, end)
        });
        self.put(database, leases)
    }

    fn put(self, database: &Path, leases: impl Iterator<Item = (u32, Time, Time)>) -> Result<()> {
        let mut changes: Vec<_> = leases
            .map(|(number, valid_until, expires_at)| {
                Change::PutLease(Lease {
                    resource: self.address(number).into(),
                    link: LINK.into(),
                    origin: Origin::ANY,
                    duid: Self::duid(number),
                    iaid: Self::iaid(number),
                    state: LeaseState::Bound,
                    preferred_until: valid_until,
                    valid_until,
                    expires_at,
                })
            })
            .collect();
        // In the order of the table, in which SQLite writes fastest.
        changes.sort_by_key(|change| match change {
            Change::PutLease(lease) => Some(lease.resource),
            _ => None,
        });
        let mut store = SqliteStore::open(database)?;
        for changes in changes.chunks(AT_ONCE) {
            store.commit(changes)?;
        }
        Ok(())
    }
}

/// The time in so long, as the store counts it.
pub(super) fn from_now(duration: Duration) -> Time {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    Time::from_millis(now.as_millis() as u64).after(duration)
}

/// Another number for each number, all over 64 bits: the finaliser of SplitMix64.
fn scatter(number: u32) -> u64 {
    let mut value = (u64::from(number) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}
