//! A link: its configuration, and the state of its addresses and prefixes.

use std::{fmt, net::Ipv6Addr, sync::Arc};

use dhcp6_common::{
    Origin, Vlan,
    wire::{Duid, OptionCode},
};
use hashbrown::{HashMap, HashSet};
use rand::rngs::StdRng;

use super::table::Client;
use crate::{
    config::{ClientKey, ConfiguredOption, LinkConfig, PdExclude, ReservationConfig, VlanSet},
    pool::{AddressRange, Hold, IaKind, PoolCounts, Resource, ResourcePool},
};

#[derive(Debug)]
pub(super) struct Link {
    pub(super) config: LinkConfig,
    /// The name in the configuration, for the rows of the store.
    pub(super) name: Arc<str>,
    /// Those of addresses, then those of prefixes, each in the order of the configuration.
    pools: Vec<ResourcePool>,
    /// What is reserved and no pool could assign: outside all of them, or excluded.
    outside: HashMap<Resource, Option<Hold>>,
    /// Whether a client may be known by its MAC address.
    pub(super) knows_macs: bool,
    /// Whether it may have clients with a prefix.
    pub(super) delegates: bool,
    /// Whether the VLAN tells clients apart.
    spans_several: bool,
    /// Indexes into the configured reservations.
    by_key: HashMap<ClientKey, Vec<usize>>,
    by_resource: HashMap<Resource, usize>,
}

/// Who sends a message, as far as reservations can tell.
#[derive(Clone, Debug)]
pub(super) struct Host {
    /// All that it is known by, in the order in which it counts.
    keys: Vec<ClientKey>,
}

impl Host {
    /// A client that is known by its DUID, if it names it, and by what frames and relay agents say.
    pub(super) fn new(duid: Option<Duid>, others: Vec<ClientKey>) -> Self {
        let mut keys = others;
        keys.splice(..0, duid.map(ClientKey::Duid));
        Self { keys }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, others @ ..] = &self.keys[..] else { return f.write_str("an unknown client") };
        first.fmt(f)?;
        others.iter().try_for_each(|key| write!(f, ", {key}"))
    }
}

impl Link {
    pub(super) fn new(config: LinkConfig) -> Self {
        let reserved = |reservation: &ReservationConfig| {
            let address = reservation.address.map(Resource::from);
            address.into_iter().chain(reservation.prefix.map(Resource::from))
        };
        let mut pools = Vec::new();
        for pool in &config.pools {
            pools.push(ResourcePool::of_addresses(pool.range, &pool.exclude, config.allocation));
        }
        for pool in &config.prefix_pools {
            // A reserved prefix of another length takes all those that it shares an address with out of the pool.
            let others = { config.reservations.iter() }
                .filter_map(|reservation| reservation.prefix)
                .filter(|prefix| prefix.length() != pool.delegated_length)
                .map(|prefix| prefix.range());
            let exclude: Vec<_> = pool.exclude.iter().copied().chain(others).collect();
            let (prefix, length) = (pool.prefix, pool.delegated_length);
            pools.push(ResourcePool::of_prefixes(prefix, length, &exclude, config.allocation));
        }
        let mut link = Self {
            name: config.name.as_str().into(),
            pools,
            outside: HashMap::new(),
            knows_macs: config.knows_macs(),
            delegates: !config.prefix_pools.is_empty()
                || config.reservations.iter().any(|reservation| reservation.prefix.is_some()),
            spans_several: config.vlans.as_ref().is_some_and(VlanSet::is_several),
            by_key: HashMap::new(),
            by_resource: HashMap::new(),
            config,
        };
        for (index, reservation) in link.config.reservations.iter().enumerate() {
            link.by_key.entry(reservation.client.clone()).or_default().push(index);
            for resource in reserved(reservation) {
                link.by_resource.insert(resource, index);
                if !link.pools.iter_mut().any(|pool| pool.reserve(resource)) {
                    link.outside.insert(resource, None);
                }
            }
        }
        link
    }

    /// Whether an address belongs to the link (RFC 9915, section 18.3.3).
    pub(super) fn is_on_link(&self, address: Ipv6Addr) -> bool {
        let range = AddressRange::of(address);
        self.config.prefix.covers(&range) || self.is_within_pools(IaKind::Na, range)
    }

    /// Whether a resource may be in use on the link: an address that belongs to it, or a prefix that is delegated
    /// from its pools or reserved.
    pub(super) fn is_appropriate(&self, resource: Resource) -> bool {
        match resource {
            Resource::Address(address) => self.is_on_link(address),
            Resource::Prefix(prefix) => {
                self.by_resource.contains_key(&resource) || self.is_within_pools(IaKind::Pd, prefix.range())
            }
        }
    }

    fn is_within_pools(&self, kind: IaKind, range: AddressRange) -> bool {
        self.pools.iter().any(|pool| pool.kind() == kind && pool.range().covers(&range))
    }

    /// Whether there is a reservation for who is known by this.
    pub(super) fn has_reservation_of(&self, key: &ClientKey) -> bool {
        self.by_key.contains_key(key)
    }

    /// Whether there is more to tell of a client's origin than this.
    pub(super) fn misses_some_of(&self, origin: Origin) -> bool {
        self.spans_several && origin.vlan == Vlan::NONE
            || self.config.bind_to_mac && origin.mac == Origin::ANY.mac
    }

    /// The client of a binding, of which no more is known than the binding tells.
    pub(super) fn host_of(&self, client: &Client) -> Host {
        let mac = Some(client.origin.mac).filter(|_| self.config.bind_to_mac);
        Host::new(Some(client.duid), mac.map(ClientKey::Mac).into_iter().collect())
    }

    /// Whether clients without a reservation are left alone.
    pub(super) fn refuses(&self, host: &Host) -> bool {
        self.config.reserved_only && !host.keys.iter().any(|key| self.by_key.contains_key(key))
    }

    /// The reservation of an IA: that of the first key by which the client has one for the IA, and one that names
    /// the IAID before one for any. Without an IAID, one for any.
    pub(super) fn reservation(&self, host: &Host, iaid: Option<u32>) -> Option<&ReservationConfig> {
        if self.by_key.is_empty() {
            return None;
        }
        host.keys.iter().filter_map(|key| self.by_key.get(key)).find_map(|indexes| {
            let of_key = |wanted: Option<u32>| {
                let mut reservations = indexes.iter().map(|index| &self.config.reservations[*index]);
                reservations.find(|reservation| reservation.iaid == wanted)
            };
            of_key(iaid).or_else(|| of_key(None))
        })
    }

    /// The address or prefix reserved for an IA of a client.
    pub(super) fn reserved_for(&self, host: &Host, kind: IaKind, iaid: u32) -> Option<Resource> {
        let reservation = self.reservation(host, Some(iaid))?;
        match kind {
            IaKind::Na => reservation.address.map(Resource::from),
            IaKind::Pd => reservation.prefix.map(Resource::from),
        }
    }

    /// What is reserved, and for whom.
    pub(super) fn reserved(&self, kind: IaKind) -> impl Iterator<Item = (Resource, &ClientKey)> {
        let of_kind = self.by_resource.iter().filter(move |(resource, _)| resource.kind() == kind);
        of_kind.map(|(resource, index)| (*resource, &self.config.reservations[*index].client))
    }

    /// Whether the configuration lets a client have this resource, whose own reservation is `reserved`.
    pub(super) fn may_have(&self, reserved: Option<Resource>, resource: Resource) -> bool {
        if reserved == Some(resource) {
            return true;
        }
        let pool = self.pool(resource).filter(|_| !self.config.reserved_only);
        pool.is_some_and(|pool| !pool.is_reserved(resource))
    }

    /// What a resource is held for, by whomever.
    pub(super) fn hold_of(&self, resource: Resource) -> Option<Hold> {
        match self.pool(resource) {
            Some(pool) => pool.hold_of(resource),
            None => self.outside.get(&resource).copied().flatten(),
        }
    }

    /// Holds a resource that nobody holds; `false` for one that the link cannot assign.
    pub(super) fn hold(&mut self, resource: Resource, purpose: Hold) -> bool {
        if let Some(pool) = self.pools.iter_mut().find(|pool| pool.is_assignable(resource)) {
            let done = pool.hold(resource, purpose) || pool.hold_reserved(resource, purpose);
            debug_assert!(done, "{resource} is held already");
        } else if let Some(held) = self.outside.get_mut(&resource) {
            *held = Some(purpose);
        } else {
            return false;
        }
        true
    }

    /// Ends a hold; `false` for a resource that the link cannot assign.
    pub(super) fn free(&mut self, resource: Resource, hold: Hold) -> bool {
        if let Some(pool) = self.pools.iter_mut().find(|pool| pool.is_assignable(resource)) {
            pool.free(resource, hold);
        } else if let Some(held) = self.outside.get_mut(&resource) {
            *held = held.filter(|held| *held != hold);
        } else {
            return false;
        }
        true
    }

    /// A free resource of this kind, from the first pool that has one. Of prefixes, those of the wanted length come
    /// first, then shorter ones, then longer ones, the nearer the earlier (RFC 8168, section 3.2).
    pub(super) fn next_free(
        &mut self,
        kind: IaKind,
        length: Option<u8>,
        rng: &mut StdRng,
        in_the_way: impl Fn(AddressRange) -> Option<Ipv6Addr>,
    ) -> Option<Resource> {
        if self.config.reserved_only {
            return None;
        }
        let mut pools: Vec<_> = self.pools.iter_mut().filter(|pool| pool.kind() == kind).collect();
        if let Some(wanted) = length {
            pools.sort_by_key(|pool| (pool.length() > wanted, pool.length().abs_diff(wanted)));
        }
        pools.into_iter().find_map(|pool| pool.next_free(rng, &in_the_way))
    }

    /// The options for a client that gets these resources, each code from the most specific place that sets it: a
    /// reservation, then a pool, then the link.
    pub(super) fn options<'a>(
        &'a self,
        host: &Host,
        iaids: impl IntoIterator<Item = u32>,
        resources: &[Resource],
    ) -> Vec<&'a ConfiguredOption> {
        let iaids = { iaids.into_iter() }.map(Some).chain([None]);
        let reservations = iaids.filter_map(|iaid| self.reservation(host, iaid));
        let reserved = reservations.map(|reservation| &reservation.options);
        let pools = resources.iter().filter_map(|resource| self.pool_options(*resource));
        let mut options = Vec::new();
        let mut settled: HashSet<OptionCode> = HashSet::new();
        for place in reserved.chain(pools).chain([&self.config.options]) {
            let before = options.len();
            options.extend(place.iter().filter(|option| !settled.contains(&option.code)));
            settled.extend(options[before..].iter().map(|option: &&ConfiguredOption| option.code));
        }
        options
    }

    /// Whether a client with this address gets other options than those of the link.
    pub(super) fn has_own_options(&self, host: &Host, iaid: u32, address: Resource) -> bool {
        [Some(iaid), None]
            .iter()
            .filter_map(|iaid| self.reservation(host, *iaid))
            .any(|reservation| !reservation.options.is_empty())
            || self.pool_options(address).is_some_and(|options| !options.is_empty())
    }

    /// What a client must not use of a prefix (RFC 6603).
    pub(super) fn pd_exclude(&self, resource: Resource) -> Option<PdExclude> {
        if let Some(index) = self.by_resource.get(&resource) {
            return self.config.reservations[*index].pd_exclude;
        }
        let index = self.pool_index(resource)?.checked_sub(self.config.pools.len())?;
        self.config.prefix_pools[index].pd_exclude
    }

    fn pool_options(&self, resource: Resource) -> Option<&Vec<ConfiguredOption>> {
        let index = self.pool_index(resource)?;
        Some(match index.checked_sub(self.config.pools.len()) {
            None => &self.config.pools[index].options,
            Some(index) => &self.config.prefix_pools[index].options,
        })
    }

    /// Addresses or prefixes of the pools, and those that are reserved outside of them, by state.
    pub(super) fn counts(&self, kind: IaKind) -> PoolCounts {
        let pools = self.pools(kind).map(ResourcePool::counts);
        let mut sum = pools.fold(PoolCounts::default(), |sum, pool| PoolCounts {
            idle: sum.idle.saturating_add(pool.idle),
            used: sum.used + pool.used,
            conflict: sum.conflict + pool.conflict,
            excluded: sum.excluded.saturating_add(pool.excluded),
        });
        for (resource, hold) in self.outside.iter().filter(|(resource, _)| resource.kind() == kind) {
            // A pool that it lies in counts it, or all that it shares an address with, among the excluded.
            let pool = self.pools(kind).find(|pool| pool.range().covers(&resource.range()));
            let counted = pool.is_some_and(|pool| pool.length() == resource.length());
            match hold {
                Some(Hold::Lease) => sum.used += 1,
                Some(Hold::Conflict) => sum.conflict += 1,
                Some(Hold::Offer) | None => {
                    sum.excluded = sum.excluded.saturating_add(u128::from(pool.is_none()));
                    continue;
                }
            }
            sum.excluded = sum.excluded.saturating_sub(u128::from(counted));
        }
        sum
    }

    pub(super) fn pools(&self, kind: IaKind) -> impl Iterator<Item = &ResourcePool> {
        self.pools.iter().filter(move |pool| pool.kind() == kind)
    }

    fn pool(&self, resource: Resource) -> Option<&ResourcePool> {
        self.pool_index(resource).map(|index| &self.pools[index])
    }

    fn pool_index(&self, resource: Resource) -> Option<usize> {
        self.pools.iter().position(|pool| pool.is_assignable(resource))
    }
}
