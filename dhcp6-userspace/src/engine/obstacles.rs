//! What is promised although no pool gives it out any more.
//!
//! A lease outlives the configuration that it was given under: its link may be gone, its address may have moved to
//! another link's pool, its prefix may lie in a pool that delegates longer or shorter ones now. Until it has ended,
//! nothing that shares an address with it is given to anybody.

use std::{
    collections::{BTreeSet, HashMap},
    net::Ipv6Addr,
};

use crate::{
    pool::{AddressRange, IntervalSet, Resource},
    time::Time,
};

/// Resources that no pool and no reservation holds. They share no address with each other.
#[derive(Debug, Default)]
pub(super) struct Obstacles {
    /// When each ends, of those whose link is not configured.
    ends: HashMap<Resource, Option<Time>>,
    by_end: BTreeSet<(Time, Resource)>,
    /// All their addresses: many leases side by side are one step for who looks for a free address.
    addresses: IntervalSet,
}

impl Obstacles {
    /// Puts a resource in the way until it is removed.
    pub(super) fn insert(&mut self, resource: Resource) {
        self.put(resource, None);
    }

    /// Puts a resource in the way until its time has come.
    pub(super) fn insert_until(&mut self, resource: Resource, until: Time) {
        self.put(resource, Some(until));
    }

    fn put(&mut self, resource: Resource, until: Option<Time>) {
        let until = match (self.ends.get(&resource), until) {
            (Some(Some(before)), Some(until)) => Some(until.max(*before)),
            _ => until,
        };
        self.remove(resource);
        self.ends.insert(resource, until);
        self.by_end.extend(until.map(|until| (until, resource)));
        let range = resource.range();
        self.addresses.insert_range(range.first().into(), range.last().into());
    }

    /// Ends an obstacle; `false` where it is none.
    pub(super) fn remove(&mut self, resource: Resource) -> bool {
        let Some(until) = self.ends.remove(&resource) else { return false };
        if let Some(until) = until {
            self.by_end.remove(&(until, resource));
        }
        let range = resource.range();
        self.addresses.remove_range(range.first().into(), range.last().into());
        true
    }

    /// Ends one whose link is not configured; `false` where there is none.
    pub(super) fn remove_outlived(&mut self, resource: Resource) -> bool {
        self.ends.get(&resource).is_some_and(Option::is_some) && self.remove(resource)
    }

    /// Removes those whose time has come.
    pub(super) fn expire(&mut self, now: Time) {
        while let Some((_, resource)) = self.by_end.first().copied().filter(|(until, _)| *until <= now) {
            self.remove(resource);
        }
    }

    /// The last address of what shares an address with `range`, or follows it without a gap; `None` where nothing
    /// does.
    pub(super) fn in_the_way(&self, range: AddressRange) -> Option<Ipv6Addr> {
        self.addresses.overlapping(range.first().into(), range.last().into()).map(Ipv6Addr::from)
    }
}
