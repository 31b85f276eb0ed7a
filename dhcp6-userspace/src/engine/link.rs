//! A link: its configuration, and the state of its addresses.

use std::{collections::HashMap, net::Ipv6Addr};

use rand::rngs::StdRng;

use super::table::Client;
use crate::{
    config::{ClientKey, LinkConfig},
    pool::{AddressPool, Hold, PoolCounts},
};

#[derive(Debug)]
pub(super) struct Link {
    pub(super) config: LinkConfig,
    pools: Vec<AddressPool>,
    /// Reserved addresses that no pool could assign: outside all of them, or excluded.
    outside: HashMap<Ipv6Addr, Option<Hold>>,
}

impl Link {
    pub(super) fn new(config: LinkConfig) -> Self {
        let mut pools: Vec<_> = config
            .pools
            .iter()
            .map(|pool| AddressPool::new(pool.range, &pool.exclude, config.allocation))
            .collect();
        let mut outside = HashMap::new();
        for reservation in &config.reservations {
            let Some(address) = reservation.address else { continue };
            if !pools.iter_mut().any(|pool| pool.reserve(address)) {
                outside.insert(address, None);
            }
        }
        Self { config, pools, outside }
    }

    /// Whether an address belongs to the link (RFC 9915, section 18.3.3).
    pub(super) fn is_on_link(&self, address: Ipv6Addr) -> bool {
        self.config.prefix.contains(address) || self.pools.iter().any(|pool| pool.contains(address))
    }

    /// The address reserved for a client. One that names the IAID goes before one for any.
    pub(super) fn reservation(&self, client: &Client) -> Option<Ipv6Addr> {
        let of_client = |iaid| {
            let mut reservations = self.config.reservations.iter();
            reservations
                .find(|r| r.iaid == iaid && r.client == ClientKey::Duid(client.duid))
                .and_then(|r| r.address)
        };
        of_client(Some(client.iaid)).or_else(|| of_client(None))
    }

    /// Whether the configuration lets this client have this address.
    pub(super) fn may_have(&self, client: &Client, address: Ipv6Addr) -> bool {
        if self.reservation(client) == Some(address) {
            return true;
        }
        self.pool(address).is_some_and(|pool| !pool.is_reserved(address))
    }

    /// What an address is held for, by whomever.
    pub(super) fn hold_of(&self, address: Ipv6Addr) -> Option<Hold> {
        match self.pool(address) {
            Some(pool) => pool.hold_of(address),
            None => self.outside.get(&address).copied().flatten(),
        }
    }

    /// Holds an address that nobody holds. One that the link cannot assign any more is left alone: nobody else
    /// can get it either.
    pub(super) fn hold(&mut self, address: Ipv6Addr, hold: Hold) {
        match self.pool_mut(address) {
            Some(pool) if pool.is_reserved(address) => _ = pool.hold_reserved(address, hold),
            Some(pool) => _ = pool.hold(address, hold),
            None => {
                if let Some(held) = self.outside.get_mut(&address) {
                    *held = Some(hold);
                }
            }
        }
    }

    pub(super) fn free(&mut self, address: Ipv6Addr, hold: Hold) {
        match self.pool_mut(address) {
            Some(pool) => _ = pool.free(address, hold),
            None => {
                if let Some(held) = self.outside.get_mut(&address) {
                    *held = held.filter(|held| *held != hold);
                }
            }
        }
    }

    /// A free address of the first pool that has one.
    pub(super) fn next_free(&mut self, rng: &mut StdRng) -> Option<Ipv6Addr> {
        self.pools.iter_mut().find_map(|pool| pool.next_free(rng))
    }

    /// The addresses of the pools, and those that are reserved outside of them, by state.
    pub(super) fn counts(&self) -> PoolCounts {
        let pools = self.pools.iter().map(AddressPool::counts);
        let mut sum = pools.fold(PoolCounts::default(), |sum, pool| PoolCounts {
            idle: sum.idle.saturating_add(pool.idle),
            used: sum.used + pool.used,
            conflict: sum.conflict + pool.conflict,
            excluded: sum.excluded.saturating_add(pool.excluded),
        });
        for (address, hold) in &self.outside {
            // An address that its pool excludes is among that pool's.
            let counted = u128::from(self.pools.iter().any(|pool| pool.contains(*address)));
            match hold {
                Some(Hold::Lease) => sum.used += 1,
                Some(Hold::Conflict) => sum.conflict += 1,
                Some(Hold::Offer) | None => sum.excluded = sum.excluded.saturating_add(1),
            }
            sum.excluded = sum.excluded.saturating_sub(counted);
        }
        sum
    }

    pub(super) fn pools(&self) -> &[AddressPool] {
        &self.pools
    }

    fn pool(&self, address: Ipv6Addr) -> Option<&AddressPool> {
        self.pools.iter().find(|pool| pool.is_assignable(address))
    }

    fn pool_mut(&mut self, address: Ipv6Addr) -> Option<&mut AddressPool> {
        self.pools.iter_mut().find(|pool| pool.is_assignable(address))
    }
}
