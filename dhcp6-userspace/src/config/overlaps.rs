//! What belongs to one link or to one client only: no address has two owners in the whole configuration.

use std::{cmp::Reverse, fmt::Display};

use super::{errors::Place, validate::Checker};
use crate::pool::{AddressRange, Resource};

/// Every claim to addresses.
#[derive(Default)]
pub(super) struct Claims {
    pub(super) pools: Vec<Claim>,
    pub(super) prefix_pools: Vec<Claim>,
    pub(super) reserved: Vec<Claim<Resource>>,
}

/// A claim to a range of addresses.
#[derive(Clone, Copy)]
pub(super) struct Claim<T = ()> {
    /// What is claimed, where the range does not say it.
    pub(super) what: T,
    pub(super) range: AddressRange,
    /// The index of the link that claims it.
    pub(super) link: usize,
    pub(super) place: Place,
}

/// Two claims to the same address.
struct Overlap<T> {
    earlier: Claim<T>,
    later: Claim<T>,
}

impl Checker<'_, '_> {
    /// Reports what is claimed twice.
    pub(super) fn claims_are_compatible(&mut self) {
        let Claims { pools, prefix_pools, reserved } = std::mem::take(&mut self.seen.claims);
        let (disjoint_pools, overlaps) = Disjoint::split(&pools);
        self.pools_overlap("range", overlaps);
        let (disjoint_prefix_pools, overlaps) = Disjoint::split(&prefix_pools);
        self.pools_overlap("prefix", overlaps);
        for pool in &prefix_pools {
            self.apart_from_addresses(&"the pool", pool, &disjoint_pools);
        }

        self.reserved_overlap(Disjoint::split(&reserved).1);
        for claim in &reserved {
            match claim.what {
                Resource::Address(address) => {
                    let mut others = disjoint_pools.overlapping(claim.range);
                    if let Some(pool) = others.find(|pool| pool.link != claim.link) {
                        let line = self.report.refer(claim.place, pool.place);
                        let message = format!("`address`: {address} is in the pool of another link, {line}");
                        self.report.add(claim.place, message);
                    }
                    if let Some(pool) = disjoint_prefix_pools.overlapping(claim.range).next() {
                        let line = self.report.refer(claim.place, pool.place);
                        let message = format!("`address`: {address} is in the prefix pool of {line}");
                        self.report.add(claim.place, message);
                    }
                }
                Resource::Prefix(prefix) => {
                    self.apart_from_addresses(&prefix, claim, &disjoint_pools);
                    self.within_prefix_pool(claim, &disjoint_prefix_pools);
                }
            }
        }
    }

    fn pools_overlap(&mut self, key: &str, overlaps: Vec<Overlap<()>>) {
        for Overlap { earlier, later } in overlaps {
            let line = self.report.refer(later.place, earlier.place);
            self.report.add(later.place, format!("`{key}`: the pool overlaps that of {line}"));
        }
    }

    fn reserved_overlap(&mut self, overlaps: Vec<Overlap<Resource>>) {
        for Overlap { earlier, later } in overlaps {
            let line = self.report.refer(later.place, earlier.place);
            let (what, other) = (later.what, earlier.what);
            let message = if what == other {
                format!("{what} is already in the reservation of {line}")
            } else {
                format!("{what} overlaps {other} in the reservation of {line}")
            };
            self.report.add(later.place, format!("`{}`: {message}", key(what)));
        }
    }

    /// What is delegated is routed to a client, so it has no address that is given to another.
    fn apart_from_addresses<T>(&mut self, what: &dyn Display, claim: &Claim<T>, pools: &Disjoint<()>) {
        if let Some(pool) = pools.overlapping(claim.range).next() {
            let line = self.report.refer(claim.place, pool.place);
            self.report
                .add(claim.place, format!("`prefix`: {what} overlaps the pool of addresses of {line}"));
        }
    }

    /// A reserved prefix has at most a part of a pool, and none of another link's.
    fn within_prefix_pool(&mut self, claim: &Claim<Resource>, pools: &Disjoint<()>) {
        let what = claim.what;
        let whole = |pool: &Claim| pool.range != claim.range && claim.range.covers(&pool.range);
        let mut pools = pools.overlapping(claim.range);
        if let Some(pool) = pools.find(|pool| pool.link != claim.link || whole(pool)) {
            let line = self.report.refer(claim.place, pool.place);
            let message = if pool.link == claim.link {
                format!("`prefix`: {what} contains the whole prefix pool of {line}; reserve a part of it")
            } else {
                format!("`prefix`: {what} overlaps the prefix pool of another link, {line}")
            };
            self.report.add(claim.place, message);
        }
    }
}

/// The key that reserves such a resource.
fn key(resource: Resource) -> &'static str {
    match resource {
        Resource::Address(_) => "address",
        Resource::Prefix(_) => "prefix",
    }
}

/// Claims of which no two have an address in common, in ascending order.
struct Disjoint<T>(Vec<Claim<T>>);

impl<T: Copy + Ord> Disjoint<T> {
    /// Those that overlap none before them, and for each other claim one that it overlaps.
    fn split(claims: &[Claim<T>]) -> (Self, Vec<Overlap<T>>) {
        let mut claims = claims.to_vec();
        // A range comes before those that it contains.
        claims.sort_unstable_by_key(|claim| (claim.range.first(), Reverse(claim.range.last()), claim.place));
        let mut disjoint = Vec::new();
        let mut overlaps = Vec::new();
        // Those that may reach to the next one; the last one is the nearest around it.
        let mut open: Vec<Claim<T>> = Vec::new();
        for claim in claims {
            while open.pop_if(|before| before.range.last() < claim.range.first()).is_some() {}
            match open.last() {
                None => disjoint.push(claim),
                Some(&before) if before.place <= claim.place => {
                    overlaps.push(Overlap { earlier: before, later: claim });
                }
                Some(&before) => overlaps.push(Overlap { earlier: claim, later: before }),
            }
            open.push(claim);
        }
        // However many claims it overlaps, a claim is one mistake.
        overlaps.sort_unstable_by_key(|Overlap { earlier, later }| (later.place, later.what, earlier.place));
        overlaps.dedup_by_key(|Overlap { later, .. }| (later.place, later.what));
        (Self(disjoint), overlaps)
    }

    /// Those that have an address in common with `range`.
    fn overlapping(&self, range: AddressRange) -> impl Iterator<Item = &Claim<T>> {
        let behind = self.0.partition_point(|claim| claim.range.first() <= range.last());
        self.0[..behind].iter().rev().take_while(move |claim| claim.range.last() >= range.first())
    }
}
