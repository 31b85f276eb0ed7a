//! The engine's state, as operators see it.

use std::fmt;

use dhcp6_common::{Origin, wire::Duid};
use serde::{Deserialize, Serialize};

use super::{
    Engine,
    table::{Binding, Terms},
};
use crate::{
    config::ClientKey,
    lease::LeaseState,
    pool::{Hold, IaKind, PoolCounts, Resource, ResourcePool},
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
    pub addresses: PoolCounts,
    /// How many prefixes are in each of the four lists.
    pub prefixes: PoolCounts,
}

/// Which of the four lists an address or prefix is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResourceState {
    /// Assignable.
    Idle,
    /// Leased.
    Used,
    /// Declined by a client, or taken from one that may still use it.
    Conflict,
    /// Not assignable.
    Excluded,
}

/// An address or prefix of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceView {
    /// The address or prefix.
    pub resource: Resource,
    /// Its list.
    pub state: ResourceState,
    /// Who has it, had it, or is to have it.
    pub duid: Option<Duid>,
}

/// A binding.
#[derive(Clone, Debug)]
pub struct LeaseView<'a> {
    /// Name of the link.
    pub link: &'a str,
    /// The client.
    pub duid: Duid,
    /// Where it is on the link, as far as the link looks at that.
    pub origin: Origin,
    /// The client's IA.
    pub iaid: u32,
    /// The address or prefix.
    pub resource: Resource,
    /// Whether the client has it, or had it.
    pub state: LeaseState,
    /// Promised by the daemon.
    pub preferred_until: Time,
    /// Promised by the daemon.
    pub valid_until: Time,
    /// No promise of either plane reaches beyond.
    pub expires_at: Time,
}

/// A reservation whose address or prefix is still somebody else's.
#[derive(Clone, Debug)]
pub struct WaitingReservation<'a> {
    /// Name of the link.
    pub link: &'a str,
    /// The address or prefix.
    pub resource: Resource,
    /// For whom it is reserved.
    pub client: &'a ClientKey,
    /// Who has it.
    pub holder: Duid,
    /// When all that was promised to them has ended, at the latest.
    pub until: Time,
}

impl fmt::Display for WaitingReservation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { link, resource, client, holder, until } = self;
        write!(
            f,
            "link {link}: {resource}, reserved for {client}, is leased to {holder}, who has to part with it at the \
             next Renew; its owner gets it by {until} at the latest"
        )
    }
}

impl Engine {
    /// The reservations of DUIDs that another client's lease stands in the way of.
    pub fn waiting_reservations(&self) -> Vec<WaitingReservation<'_>> {
        let mut waiting = Vec::new();
        for link in &self.links {
            for (resource, client) in IaKind::ALL.into_iter().flat_map(|kind| link.reserved(kind)) {
                let Some(binding) = self.table.get(resource) else { continue };
                let is_owner = |key: &ClientKey| *key == ClientKey::Duid(binding.duid());
                if binding.is_bound() && matches!(client, ClientKey::Duid(_)) && !is_owner(client) {
                    waiting.push(WaitingReservation {
                        link: &link.config.name,
                        resource,
                        client,
                        holder: binding.duid(),
                        until: binding.terms.expires_at,
                    });
                }
            }
        }
        waiting
    }

    /// The links, in the order of the configuration.
    pub fn links(&self) -> impl Iterator<Item = LinkView<'_>> {
        self.links.iter().map(|link| LinkView {
            name: &link.config.name,
            interface: link.config.interface.as_deref(),
            addresses: link.counts(IaKind::Na),
            prefixes: link.counts(IaKind::Pd),
        })
    }

    /// The binding of an address or prefix.
    pub fn lease_of(&self, resource: Resource) -> Option<LeaseView<'_>> {
        self.table.get(resource).map(|binding| self.lease_view(binding))
    }

    fn lease_view(&self, binding: &Binding) -> LeaseView<'_> {
        let Terms { preferred_until, valid_until, expires_at, stored_until: _ } = binding.terms;
        LeaseView {
            link: &self.links[binding.link as usize].config.name,
            duid: binding.duid(),
            origin: binding.origin,
            iaid: binding.iaid,
            resource: binding.resource,
            state: binding.state,
            preferred_until,
            valid_until,
            expires_at,
        }
    }

    /// The bindings, by address and prefix.
    pub fn leases(&self) -> Vec<LeaseView<'_>> {
        let mut leases: Vec<_> = self.table.iter().map(|binding| self.lease_view(binding)).collect();
        leases.sort_unstable_by_key(|lease| lease.resource);
        leases
    }

    /// The addresses or prefixes of a link in one of the lists, or in all but the idle ones, which may be too many
    /// to list; at most `limit` of them, ascending. Excluded ones are listed where they are reserved for a client.
    pub fn resources(
        &self,
        link: u32,
        kind: IaKind,
        state: Option<ResourceState>,
        limit: usize,
    ) -> Vec<ResourceView> {
        let link_state = &self.links[link as usize];
        let wanted = |of: ResourceState| state.is_none_or(|wanted| wanted == of);
        let row = |resource, state, duid| ResourceView { resource, state, duid };
        if state == Some(ResourceState::Idle) {
            let mut pools: Vec<_> = link_state.pools(kind).collect();
            pools.sort_unstable_by_key(|pool| pool.range());
            let idle = pools.into_iter().flat_map(ResourcePool::idle).take(limit);
            return idle.map(|resource| row(resource, ResourceState::Idle, None)).collect();
        }
        let mut rows = Vec::new();
        if wanted(ResourceState::Used) {
            let bound = self.table.iter().filter(|binding| {
                binding.link == link && binding.resource.kind() == kind && binding.is_bound()
            });
            let owned = |binding: &Binding| row(binding.resource, ResourceState::Used, Some(binding.duid()));
            rows.extend(bound.map(owned));
        }
        if wanted(ResourceState::Conflict) {
            let conflicts =
                { self.conflicts.iter() }.filter(|c| c.link == link_state.name && c.resource.kind() == kind);
            rows.extend(conflicts.map(|c| row(c.resource, ResourceState::Conflict, Some(c.duid))));
        }
        if wanted(ResourceState::Excluded) {
            for (resource, client) in link_state.reserved(kind) {
                if matches!(link_state.hold_of(resource), Some(Hold::Lease | Hold::Conflict)) {
                    continue;
                }
                let duid = match client {
                    ClientKey::Duid(duid) => Some(*duid),
                    _ => None,
                };
                rows.push(row(resource, ResourceState::Excluded, duid));
            }
        }
        rows.sort_unstable_by_key(|row| row.resource);
        rows.truncate(limit);
        rows
    }
}
