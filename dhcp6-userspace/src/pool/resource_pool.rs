//! The state of every address or prefix of a pool.

use std::{collections::BTreeMap, net::Ipv6Addr};

use rand::Rng;

use super::{
    AddressRange, Allocation, IaKind, Prefix, Resource,
    interval_set::IntervalSet,
    reserved_iid::{end_of_reserved_block, reserved_between},
};

/// How often a random resource is drawn before the search falls back on the next free one behind it.
const DRAWS: u32 = 16;

/// The addresses of one range, or the prefixes of one length in a prefix: which may be assigned, which of them are
/// taken, and which comes next.
///
/// A resource is **assignable** unless the configuration excludes it, in whole or in part, or it is an address
/// whose interface identifier is reserved (RFC 5453). An assignable resource is **held** while it is offered,
/// leased or in conflict; who holds it is the caller's to know. A **reserved** one is assignable but set aside for
/// one client: it is held like any other, but only through [`ResourcePool::hold_reserved`].
///
/// Time and memory depend on what is held, excluded and reserved, not on the size of the range: with n
/// intervals of such resources every operation takes O(log n).
#[derive(Clone, Debug)]
pub struct ResourcePool {
    range: AddressRange,
    members: Members,
    /// The number of the first resource (see [`Members::number`]).
    first: u128,
    /// The number of the last.
    last: u128,
    allocation: Allocation,
    /// Excluded by configuration, within the range.
    excluded: IntervalSet,
    /// How many are not assignable.
    unassignable: u128,
    /// Excluded by configuration, reserved for a client or held: everything that the search for a free resource
    /// jumps over, other than reserved interface identifiers.
    taken: IntervalSet,
    /// State of the taken assignable resources, except where it is [`State::LEASED`]: those are by far the
    /// most, and being taken without an entry here says it all.
    states: BTreeMap<u128, State>,
    tally: Tally,
    /// The resource that a cyclic search found last.
    last_found: Option<u128>,
}

/// What a pool consists of. Its resources are numbered in their order: an address by itself, a prefix by its bits
/// before the length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Members {
    Addresses,
    /// Of this length, 1 to 127.
    Prefixes(u8),
}

impl Members {
    /// Bits of an address that do not tell resources apart.
    fn host_bits(self) -> u32 {
        match self {
            Self::Addresses => 0,
            Self::Prefixes(length) => 128 - u32::from(length),
        }
    }

    /// The number of the resource that an address belongs to.
    fn number(self, address: u128) -> u128 {
        address >> self.host_bits()
    }

    fn resource(self, number: u128) -> Resource {
        let first = Ipv6Addr::from(number << self.host_bits());
        match self {
            Self::Addresses => first.into(),
            Self::Prefixes(length) => {
                Prefix::new(first, length).expect("what was shifted has no host bits").into()
            }
        }
    }

    /// The addresses of the resource with this number.
    fn range(self, number: u128) -> AddressRange {
        self.resource(number).range()
    }

    /// See [`end_of_reserved_block`]: prefixes have no interface identifier.
    fn end_of_reserved_block(self, number: u128) -> Option<u128> {
        match self {
            Self::Addresses => end_of_reserved_block(number),
            Self::Prefixes(_) => None,
        }
    }

    /// See [`reserved_between`].
    fn reserved_between(self, first: u128, last: u128) -> u128 {
        match self {
            Self::Addresses => reserved_between(first, last),
            Self::Prefixes(_) => 0,
        }
    }
}

/// What a resource is held for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// Advertised to a client that has not requested it yet.
    Offer,
    /// Leased.
    Lease,
    /// Found in use by somebody else (RFC 9915, section 18.3.8).
    Conflict,
}

/// Number of resources by state. The sum is the size of the pool, where that is below 2^128.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolCounts {
    /// Assignable to any client: free or merely offered.
    pub idle: u128,
    /// Leased.
    pub used: u64,
    /// In conflict.
    pub conflict: u64,
    /// Not assignable, or reserved for a client and neither leased to it nor in conflict.
    pub excluded: u128,
}

/// What is known of one assignable resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    reserved: bool,
    hold: Option<Hold>,
}

/// Number of assignable resources by state, as far as they are not free.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    offered: u64,
    leased: u64,
    conflict: u64,
    /// Reserved, and neither leased nor in conflict.
    set_aside: u64,
}

impl ResourcePool {
    /// A pool of the addresses of `range` without those in `exclude`, where ranges may overlap each other and
    /// reach beyond the pool. All addresses are free.
    pub fn of_addresses(range: AddressRange, exclude: &[AddressRange], allocation: Allocation) -> Self {
        Self::new(range, Members::Addresses, exclude, allocation)
    }

    /// A pool of the prefixes of `length` bits in `prefix`, without those that share an address with one of
    /// `exclude`. All prefixes are free.
    ///
    /// # Panics
    ///
    /// Where `length` is 0, above 127, or below the length of `prefix`.
    pub fn of_prefixes(prefix: Prefix, length: u8, exclude: &[AddressRange], allocation: Allocation) -> Self {
        assert!(
            (prefix.length().max(1)..128).contains(&length),
            "{prefix} has no prefixes of length {length}"
        );
        Self::new(prefix.range(), Members::Prefixes(length), exclude, allocation)
    }

    fn new(range: AddressRange, members: Members, exclude: &[AddressRange], allocation: Allocation) -> Self {
        let mut excluded = IntervalSet::new();
        for other in exclude.iter().filter(|other| other.overlaps(&range)) {
            let (first, last) = (other.first.max(range.first), other.last.min(range.last));
            excluded.insert_range(members.number(first), members.number(last));
        }
        let (first, last) = (members.number(range.first), members.number(range.last));
        let reserved = members.reserved_between(first, last);
        let reserved_in_excluded: u128 =
            excluded.iter().map(|(first, last)| members.reserved_between(first, last)).sum();
        Self {
            range,
            members,
            first,
            last,
            allocation,
            unassignable: (excluded.len() - reserved_in_excluded).saturating_add(reserved),
            taken: excluded.clone(),
            excluded,
            states: BTreeMap::new(),
            tally: Tally::default(),
            last_found: None,
        }
    }

    /// All addresses of the pool.
    pub fn range(&self) -> AddressRange {
        self.range
    }

    /// The kind of IA that the pool serves.
    pub fn kind(&self) -> IaKind {
        match self.members {
            Members::Addresses => IaKind::Na,
            Members::Prefixes(_) => IaKind::Pd,
        }
    }

    /// The prefix length in bits of each resource: 128 for addresses.
    pub fn length(&self) -> u8 {
        match self.members {
            Members::Addresses => 128,
            Members::Prefixes(length) => length,
        }
    }

    /// The number of a resource of the kind and length that the pool consists of, and within it.
    fn number(&self, resource: Resource) -> Option<u128> {
        let alike = match (resource, self.members) {
            (Resource::Address(_), Members::Addresses) => true,
            (Resource::Prefix(prefix), Members::Prefixes(length)) => prefix.length() == length,
            _ => false,
        };
        let range = resource.range();
        (alike && self.range.covers(&range)).then(|| self.members.number(range.first))
    }

    /// Whether `resource` may be assigned to a client at all: it is one of this pool's, is not excluded, and its
    /// interface identifier is not reserved.
    pub fn is_assignable(&self, resource: Resource) -> bool {
        self.state(resource).is_some()
    }

    /// Whether `resource` is assignable, held by nobody and reserved for nobody.
    pub fn is_free(&self, resource: Resource) -> bool {
        self.state(resource) == Some(State::FREE)
    }

    /// Whether `resource` is reserved for a client.
    pub fn is_reserved(&self, resource: Resource) -> bool {
        self.state(resource).is_some_and(|state| state.reserved)
    }

    /// What `resource` is held for; `None` where it is not held.
    pub fn hold_of(&self, resource: Resource) -> Option<Hold> {
        self.state(resource)?.hold
    }

    /// Holds a free resource; `false`, and nothing changes, where it is not free.
    pub fn hold(&mut self, resource: Resource, hold: Hold) -> bool {
        self.change(resource, State::FREE, State { reserved: false, hold: Some(hold) })
    }

    /// Holds a reserved resource for the client that it is reserved for; `false`, and nothing changes, where it
    /// is not reserved, or held already.
    pub fn hold_reserved(&mut self, resource: Resource, hold: Hold) -> bool {
        self.change(resource, State::SET_ASIDE, State { reserved: true, hold: Some(hold) })
    }

    /// Ends a hold. A reserved resource goes back to being set aside for its client, any other is free again.
    /// `false`, and nothing changes, where the resource is not held for `hold`.
    pub fn free(&mut self, resource: Resource, hold: Hold) -> bool {
        let state = self.state(resource).filter(|state| state.hold == Some(hold));
        state.is_some_and(|state| self.change(resource, state, State { hold: None, ..state }))
    }

    /// Sets an assignable resource aside for one client. A hold that somebody has on it goes on: the owner of
    /// the reservation has to wait for its end. `false`, and nothing changes, where the resource is not
    /// assignable, or reserved already.
    pub fn reserve(&mut self, resource: Resource) -> bool {
        let state = self.state(resource).filter(|state| !state.reserved);
        state.is_some_and(|state| self.change(resource, state, State { reserved: true, ..state }))
    }

    /// A free resource, which is not held yet; `None` where there is none. `in_the_way` tells for a range of
    /// addresses the last of something in it that keeps them from being assigned although they are free here.
    ///
    /// - [`Allocation::Cyclic`]: the next one behind the resource found last, around the end of the range.
    /// - [`Allocation::Random`]: drawn from the whole range. Where several draws hit resources that are not
    ///   free, it is the next free one behind the last draw: in a nearly full pool the choice is unpredictable
    ///   but not uniform, a resource behind a long stretch of taken ones being likelier than others.
    pub fn next_free(
        &mut self,
        rng: &mut impl Rng,
        in_the_way: impl Fn(AddressRange) -> Option<Ipv6Addr>,
    ) -> Option<Resource> {
        let around = |pool: &Self, from| {
            let found = pool.first_free(from, &in_the_way);
            found.or_else(|| pool.first_free(pool.first, &in_the_way))
        };
        let found = match self.allocation {
            Allocation::Cyclic => {
                let behind = self.last_found.filter(|last| *last < self.last).map(|last| last + 1);
                let found = around(self, behind.unwrap_or(self.first))?;
                self.last_found = Some(found);
                found
            }
            Allocation::Random => {
                let mut drawn = self.first;
                for _ in 0..DRAWS {
                    drawn = rng.random_range(self.first..=self.last);
                    if self.is_free(self.members.resource(drawn)) {
                        break;
                    }
                }
                around(self, drawn)?
            }
        };
        Some(self.members.resource(found))
    }

    /// Number of resources by state.
    pub fn counts(&self) -> PoolCounts {
        let Tally { offered: _, leased, conflict, set_aside } = self.tally;
        let size = (self.last - self.first).saturating_add(1);
        let excluded = self.unassignable.saturating_add(set_aside.into());
        PoolCounts {
            idle: size.saturating_sub(excluded).saturating_sub(u128::from(leased) + u128::from(conflict)),
            used: leased,
            conflict,
            excluded,
        }
    }

    /// The idle resources (see [`PoolCounts::idle`]), ascending, each looked up when it is asked for.
    pub fn idle(&self) -> impl Iterator<Item = Resource> {
        let mut next = Some(self.first);
        let offered = self.states.iter().filter(|(_, state)| **state == State::OFFERED);
        let mut offered = offered.map(|(&number, _)| number).peekable();
        std::iter::from_fn(move || {
            let free = next.and_then(|from| self.first_free(from, |_| None));
            let idle = match (free, offered.peek().copied()) {
                (Some(free), Some(offered)) => free.min(offered),
                (free, offered) => free.or(offered)?,
            };
            offered.next_if_eq(&idle);
            next = idle.checked_add(1);
            Some(self.members.resource(idle))
        })
    }

    /// The first free resource from `from`, which is not below the first, to the last.
    fn first_free(
        &self,
        mut from: u128,
        in_the_way: impl Fn(AddressRange) -> Option<Ipv6Addr>,
    ) -> Option<u128> {
        // This jumps over each reserved block at most once, and to get from one such block to the next it takes
        // a configured exclusion: 2^57 addresses lie in between, more than can be held one by one.
        loop {
            let gap = self.taken.first_gap(from, self.last)?;
            let obstacle = self.members.end_of_reserved_block(gap).or_else(|| {
                let end = in_the_way(self.members.range(gap))?;
                Some(self.members.number(end.into()))
            });
            let Some(end) = obstacle else { return Some(gap) };
            from = end.checked_add(1)?;
        }
    }

    /// The state of an assignable resource; `None` for any other.
    fn state(&self, resource: Resource) -> Option<State> {
        let number = self.number(resource)?;
        if self.members.end_of_reserved_block(number).is_some() || self.excluded.contains(number) {
            return None;
        }
        let state = self.states.get(&number).copied();
        Some(state.unwrap_or(if self.taken.contains(number) { State::LEASED } else { State::FREE }))
    }

    fn change(&mut self, resource: Resource, from: State, to: State) -> bool {
        let Some(number) = self.number(resource).filter(|_| self.state(resource) == Some(from)) else {
            return false;
        };
        if let Some(count) = self.tally.count_of(from) {
            *count -= 1;
        }
        if let Some(count) = self.tally.count_of(to) {
            *count += 1;
        }
        if to == State::FREE {
            self.taken.remove(number);
        } else {
            self.taken.insert(number);
        }
        if to == State::FREE || to == State::LEASED {
            self.states.remove(&number);
        } else {
            self.states.insert(number, to);
        }
        true
    }
}

impl State {
    const FREE: Self = Self { reserved: false, hold: None };
    const SET_ASIDE: Self = Self { reserved: true, hold: None };
    const OFFERED: Self = Self { reserved: false, hold: Some(Hold::Offer) };
    const LEASED: Self = Self { reserved: false, hold: Some(Hold::Lease) };
}

impl Tally {
    /// The count that a resource in `state` is part of; `None` for a free one.
    fn count_of(&mut self, state: State) -> Option<&mut u64> {
        match (state.hold, state.reserved) {
            (Some(Hold::Lease), _) => Some(&mut self.leased),
            (Some(Hold::Conflict), _) => Some(&mut self.conflict),
            (Some(Hold::Offer) | None, true) => Some(&mut self.set_aside),
            (Some(Hold::Offer), false) => Some(&mut self.offered),
            (None, false) => None,
        }
    }
}

#[cfg(test)]
#[path = "resource_pool_tests.rs"]
mod tests;
