//! What is out of use for some time.

use std::collections::{BTreeSet, HashMap};

use dhcp6_common::wire::Duid;

use crate::{
    lease::{Conflict, ConflictCause},
    pool::Resource,
    time::Time,
};

/// All conflicts: by resource, by their end, and those that clients brought about by who did.
#[derive(Debug, Default)]
pub(super) struct Conflicts {
    /// With the index of the link.
    by_resource: HashMap<Resource, (u32, Conflict)>,
    by_end: BTreeSet<(Time, Resource)>,
    /// Declined addresses by link and client; those that end first come first.
    declined_by_client: BTreeSet<(u32, Duid, Time, Resource)>,
    /// Declined addresses by link, as many as each has.
    declined_by_link: HashMap<u32, BTreeSet<(Time, Resource)>>,
}

impl Conflicts {
    pub(super) fn iter(&self) -> impl Iterator<Item = &Conflict> {
        self.by_resource.values().map(|(_, conflict)| conflict)
    }

    /// Notes a conflict on the link with this index. There is none of the resource yet.
    pub(super) fn insert(&mut self, link: u32, conflict: Conflict) {
        let Conflict { resource, duid, cause, until, .. } = conflict;
        self.by_end.insert((until, resource));
        if cause == ConflictCause::Declined {
            self.declined_by_client.insert((link, duid, until, resource));
            self.declined_by_link.entry(link).or_default().insert((until, resource));
        }
        self.by_resource.insert(resource, (link, conflict));
    }

    /// Ends a conflict; returns the index of its link.
    pub(super) fn remove(&mut self, resource: Resource) -> Option<u32> {
        let (link, Conflict { duid, until, .. }) = self.by_resource.remove(&resource)?;
        self.by_end.remove(&(until, resource));
        self.declined_by_client.remove(&(link, duid, until, resource));
        if let Some(declined) = self.declined_by_link.get_mut(&link) {
            declined.remove(&(until, resource));
        }
        Some(link)
    }

    /// A resource whose conflict has ended.
    pub(super) fn next_ended(&self, now: Time) -> Option<Resource> {
        self.by_end.first().filter(|(until, _)| *until <= now).map(|(_, resource)| *resource)
    }

    /// How many addresses of a link have been declined.
    pub(super) fn declined(&self, link: u32) -> usize {
        self.declined_by_link.get(&link).map_or(0, BTreeSet::len)
    }

    /// The address of those declined on a link whose conflict ends first, `except` one.
    pub(super) fn first_declined(&self, link: u32, except: Resource) -> Option<Resource> {
        let mut declined = self.declined_by_link.get(&link)?.iter().map(|(_, resource)| *resource);
        declined.find(|resource| *resource != except)
    }

    /// What a client has declined on a link; what ends first comes first.
    pub(super) fn declined_by(&self, link: u32, duid: Duid) -> Vec<Resource> {
        let from = (link, duid, Time::EPOCH, Resource::LEAST);
        let to = (link, duid, Time::NEVER, Resource::GREATEST);
        self.declined_by_client.range(from..=to).map(|(_, _, _, resource)| *resource).collect()
    }
}
