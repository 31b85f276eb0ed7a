//! What is promised although no pool gives it out any more.
//!
//! A lease outlives the configuration that it was given under: its link may be gone, its address may have moved to
//! another link's pool, its prefix may lie in a pool that delegates longer or shorter ones now. Until it has ended,
//! nothing that shares an address with it is given to anybody.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv6Addr,
};

use crate::{
    pool::{AddressRange, Resource},
    time::Time,
};

/// Resources that no pool and no reservation holds. They share no address with each other.
#[derive(Debug, Default)]
pub(super) struct Obstacles {
    /// With its last address.
    by_resource: BTreeMap<Resource, Ipv6Addr>,
    /// Of those whose link is not configured.
    ends: BTreeSet<(Time, Resource)>,
}

impl Obstacles {
    /// Puts a resource in the way until it is removed.
    pub(super) fn insert(&mut self, resource: Resource) {
        self.by_resource.insert(resource, resource.range().last());
    }

    /// Puts a resource in the way until its time has come.
    pub(super) fn insert_until(&mut self, resource: Resource, until: Time) {
        self.insert(resource);
        self.ends.insert((until, resource));
    }

    pub(super) fn remove(&mut self, resource: Resource) {
        self.by_resource.remove(&resource);
    }

    /// Removes those whose time has come.
    pub(super) fn expire(&mut self, now: Time) {
        while let Some((until, resource)) = self.ends.pop_first() {
            if until > now {
                self.ends.insert((until, resource));
                break;
            }
            self.remove(resource);
        }
    }

    /// The last address of something that shares an address with `range`; `None` where nothing does.
    pub(super) fn in_the_way(&self, range: AddressRange) -> Option<Ipv6Addr> {
        // Of resources that share no address, only the last that begins within or before the range can reach into
        // its end. What begins there comes before the longest prefix, which one address is.
        let behind = Resource::from(range.last());
        let (_, last) = self.by_resource.range(..=behind).next_back()?;
        (*last >= range.first()).then_some(*last)
    }
}
