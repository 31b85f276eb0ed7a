//! The bindings in memory: by address, by client and by expiry.

use std::{
    collections::{BTreeSet, HashMap},
    net::Ipv6Addr,
    sync::Arc,
};

use dhcp6_common::wire::Duid;

use crate::{lease::LeaseState, time::Time};

/// Whose binding it is: RFC 9915, section 4.2, for an IA_NA.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Client {
    /// Index of the link.
    pub(super) link: u32,
    pub(super) duid: Duid,
    pub(super) iaid: u32,
}

/// An address and the client that has it, or had it.
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

/// All bindings. An address has at most one, and so has a client.
#[derive(Debug, Default)]
pub(super) struct Table {
    bindings: HashMap<Ipv6Addr, Binding>,
    addresses: HashMap<Arc<Client>, Ipv6Addr>,
    /// Of bound addresses only.
    expiries: BTreeSet<(Time, Ipv6Addr)>,
}

impl Table {
    pub(super) fn get(&self, address: Ipv6Addr) -> Option<&Binding> {
        self.bindings.get(&address)
    }

    pub(super) fn address_of(&self, client: &Client) -> Option<Ipv6Addr> {
        self.addresses.get(client).copied()
    }

    /// The client's binding, whatever its state.
    pub(super) fn of(&self, client: &Client) -> Option<(Ipv6Addr, &Binding)> {
        let address = self.address_of(client)?;
        Some((address, &self.bindings[&address]))
    }

    /// The address that the client holds now.
    pub(super) fn bound(&self, client: &Client) -> Option<Ipv6Addr> {
        self.of(client).filter(|(_, binding)| binding.state == LeaseState::Bound).map(|(address, _)| address)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Ipv6Addr, &Binding)> {
        self.bindings.iter().map(|(address, binding)| (*address, binding))
    }

    /// Inserts a binding or replaces the address's. The client must have no other.
    pub(super) fn insert(&mut self, address: Ipv6Addr, binding: Binding) {
        debug_assert!(self.address_of(&binding.client).is_none_or(|other| other == address));
        self.remove(address);
        if binding.state == LeaseState::Bound {
            self.expiries.insert((binding.expires_at, address));
        }
        self.addresses.insert(Arc::clone(&binding.client), address);
        self.bindings.insert(address, binding);
    }

    pub(super) fn remove(&mut self, address: Ipv6Addr) -> Option<Binding> {
        let binding = self.bindings.remove(&address)?;
        self.addresses.remove(&binding.client);
        self.expiries.remove(&(binding.expires_at, address));
        Some(binding)
    }

    /// Changes a binding in place, but for its client.
    pub(super) fn update(&mut self, address: Ipv6Addr, change: impl FnOnce(&mut Binding)) {
        if let Some(mut binding) = self.remove(address) {
            change(&mut binding);
            self.insert(address, binding);
        }
    }

    /// Notes that the store now vouches for a client's binding up to `until`. Nothing where the address has
    /// changed hands meanwhile.
    pub(super) fn stored(&mut self, address: Ipv6Addr, duid: &Duid, iaid: u32, until: Time) {
        if let Some(binding) = self.bindings.get_mut(&address)
            && binding.client.duid == *duid
            && binding.client.iaid == iaid
        {
            binding.stored_until = until;
        }
    }

    /// A bound address whose time has come.
    pub(super) fn next_expired(&self, now: Time) -> Option<Ipv6Addr> {
        self.expiries.first().filter(|(expires_at, _)| *expires_at <= now).map(|(_, address)| *address)
    }
}
