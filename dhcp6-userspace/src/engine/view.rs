//! The engine's state, as operators see it.

use std::net::Ipv6Addr;

use dhcp6_common::wire::Duid;
use serde::{Deserialize, Serialize};

use super::{Engine, table::Binding};
use crate::{
    config::{ClientKey, ReservationConfig},
    lease::LeaseState,
    pool::{Hold, PoolCounts},
    time::Time,
};

/// A link and its pools.
#[derive(Clone, Debug)]
pub struct LinkView<'a> {
    /// Name of the link.
    pub name: &'a str,
    /// Its interface, if it has one.
    pub interface: Option<&'a str>,
    /// How many addresses are in each of the four lists.
    pub counts: PoolCounts,
}

/// Which of the four lists an address is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AddressState {
    /// Assignable.
    Idle,
    /// Leased.
    Used,
    /// Declined by a client.
    Conflict,
    /// Not assignable.
    Excluded,
}

/// An address of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressView {
    /// The address.
    pub address: Ipv6Addr,
    /// Its list.
    pub state: AddressState,
    /// Who has it, declined it, or is to have it.
    pub duid: Option<Duid>,
}

/// A binding.
#[derive(Clone, Debug)]
pub struct LeaseView<'a> {
    /// Name of the link.
    pub link: &'a str,
    /// The client.
    pub duid: Duid,
    /// The client's IA_NA.
    pub iaid: u32,
    /// The address.
    pub address: Ipv6Addr,
    /// Whether the client has it, or had it.
    pub state: LeaseState,
    /// Promised by the daemon.
    pub preferred_until: Time,
    /// Promised by the daemon.
    pub valid_until: Time,
    /// No promise of either plane reaches beyond.
    pub expires_at: Time,
}

impl Engine {
    /// The links, in the order of the configuration.
    pub fn links(&self) -> impl Iterator<Item = LinkView<'_>> {
        self.links.iter().map(|link| LinkView {
            name: &link.config.name,
            interface: link.config.interface.as_deref(),
            counts: link.counts(),
        })
    }

    /// The bindings, by address.
    pub fn leases(&self) -> Vec<LeaseView<'_>> {
        let mut leases: Vec<_> = self
            .table
            .iter()
            .map(|(address, binding)| {
                let Binding { client, state, preferred_until, valid_until, expires_at, stored_until: _ } =
                    binding;
                LeaseView {
                    link: &self.links[client.link as usize].config.name,
                    duid: client.duid,
                    iaid: client.iaid,
                    address,
                    state: *state,
                    preferred_until: *preferred_until,
                    valid_until: *valid_until,
                    expires_at: *expires_at,
                }
            })
            .collect();
        leases.sort_unstable_by_key(|lease| lease.address);
        leases
    }

    /// The addresses of a link in one of the lists, or in all but the idle ones, which may be too many to list;
    /// at most `limit` of them, ascending. Excluded addresses are listed where they are reserved for a client.
    pub fn addresses(&self, link: u32, state: Option<AddressState>, limit: usize) -> Vec<AddressView> {
        let link_state = &self.links[link as usize];
        let wanted = |of: AddressState| state.is_none_or(|wanted| wanted == of);
        let mut addresses = Vec::new();
        if state == Some(AddressState::Idle) {
            for pool in link_state.pools() {
                let idle = pool.idle_addresses(pool.range().first()).take(limit - addresses.len());
                addresses.extend(idle.map(|address| AddressView {
                    address,
                    state: AddressState::Idle,
                    duid: None,
                }));
            }
            return addresses;
        }
        if wanted(AddressState::Used) {
            let bound = self
                .table
                .iter()
                .filter(|(_, binding)| binding.client.link == link && binding.state == LeaseState::Bound);
            addresses.extend(bound.map(|(address, binding)| AddressView {
                address,
                state: AddressState::Used,
                duid: Some(binding.client.duid),
            }));
        }
        if wanted(AddressState::Conflict) {
            let declined = self.conflicts.iter().filter(|c| c.link == link_state.config.name);
            addresses.extend(declined.map(|conflict| AddressView {
                address: conflict.address,
                state: AddressState::Conflict,
                duid: Some(conflict.duid),
            }));
        }
        if wanted(AddressState::Excluded) {
            for reservation in &link_state.config.reservations {
                let ReservationConfig { client: ClientKey::Duid(duid), address: Some(address), .. } =
                    reservation
                else {
                    continue;
                };
                if !matches!(link_state.hold_of(*address), Some(Hold::Lease | Hold::Conflict)) {
                    addresses.push(AddressView {
                        address: *address,
                        state: AddressState::Excluded,
                        duid: Some(*duid),
                    });
                }
            }
        }
        addresses.sort_unstable_by_key(|view| view.address);
        addresses.truncate(limit);
        addresses
    }
}
