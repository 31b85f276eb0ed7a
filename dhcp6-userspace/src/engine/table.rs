//! The bindings in memory: by resource, by client and by expiry.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use dhcp6_common::wire::Duid;

use crate::{
    lease::LeaseState,
    pool::{IaKind, Resource},
    time::Time,
};

/// Whose binding it is (RFC 9915, section 4.2): an identity association of a client.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Client {
    /// Index of the link.
    pub(super) link: u32,
    pub(super) duid: Duid,
    pub(super) kind: IaKind,
    pub(super) iaid: u32,
}

/// A resource and the client that has it, or had it.
#[derive(Clone, Debug)]
pub(super) struct Binding {
    pub(super) client: Arc<Client>,
    pub(super) state: LeaseState,
    /// Promised by the daemon.
    pub(super) preferred_until: Time,
    /// Promised by the daemon.
    pub(super) valid_until: Time,
    /// Written to the store, or about to be.
    pub(super) expires_at: Time,
    /// What stable storage says: promises must not reach beyond. The epoch where it says nothing.
    pub(super) stored_until: Time,
}

/// All bindings. A resource has at most one, and so has an IA.
#[derive(Debug, Default)]
pub(super) struct Table {
    bindings: HashMap<Resource, Binding>,
    resources: HashMap<Arc<Client>, Resource>,
    /// Of bound resources only.
    expiries: BTreeSet<(Time, Resource)>,
}

impl Table {
    pub(super) fn get(&self, resource: Resource) -> Option<&Binding> {
        self.bindings.get(&resource)
    }

    pub(super) fn resource_of(&self, client: &Client) -> Option<Resource> {
        self.resources.get(client).copied()
    }

    /// The client's binding, whatever its state.
    pub(super) fn of(&self, client: &Client) -> Option<(Resource, &Binding)> {
        let resource = self.resource_of(client)?;
        Some((resource, &self.bindings[&resource]))
    }

    /// The resource that the client holds now.
    pub(super) fn bound(&self, client: &Client) -> Option<Resource> {
        self.of(client)
            .filter(|(_, binding)| binding.state == LeaseState::Bound)
            .map(|(resource, _)| resource)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Resource, &Binding)> {
        self.bindings.iter().map(|(resource, binding)| (*resource, binding))
    }

    /// Inserts a binding or replaces the resource's. The client must have no other.
    pub(super) fn insert(&mut self, resource: Resource, binding: Binding) {
        debug_assert!(self.resource_of(&binding.client).is_none_or(|other| other == resource));
        self.remove(resource);
        if binding.state == LeaseState::Bound {
            self.expiries.insert((binding.expires_at, resource));
        }
        self.resources.insert(Arc::clone(&binding.client), resource);
        self.bindings.insert(resource, binding);
    }

    pub(super) fn remove(&mut self, resource: Resource) -> Option<Binding> {
        let binding = self.bindings.remove(&resource)?;
        self.resources.remove(&binding.client);
        self.expiries.remove(&(binding.expires_at, resource));
        Some(binding)
    }

    /// Changes a binding in place, but for its client.
    pub(super) fn update(&mut self, resource: Resource, change: impl FnOnce(&mut Binding)) {
        if let Some(mut binding) = self.remove(resource) {
            change(&mut binding);
            self.insert(resource, binding);
        }
    }

    /// Notes that the store now vouches for a client's binding up to `until`. Nothing where the resource has
    /// changed hands meanwhile.
    pub(super) fn stored(&mut self, resource: Resource, duid: &Duid, iaid: u32, until: Time) {
        if let Some(binding) = self.bindings.get_mut(&resource)
            && binding.client.duid == *duid
            && binding.client.iaid == iaid
        {
            binding.stored_until = until;
        }
    }

    /// A bound resource whose time has come.
    pub(super) fn next_expired(&self, now: Time) -> Option<Resource> {
        self.expiries.first().filter(|(expires_at, _)| *expires_at <= now).map(|(_, resource)| *resource)
    }
}
