//! The state of every address of a pool.

use std::{collections::BTreeMap, net::Ipv6Addr};

use rand::Rng;

use super::{
    AddressRange, Allocation,
    interval_set::IntervalSet,
    reserved_iid::{end_of_reserved_block, reserved_between},
};

/// How often a random address is drawn before the search falls back on the next free one behind it.
const DRAWS: u32 = 16;

/// The addresses of one range: which may be assigned, which of them are taken, and which comes next.
///
/// An address is **assignable** unless the configuration excludes it or its interface identifier is reserved
/// (RFC 5453). An assignable address is **held** while it is offered, leased or in conflict; who holds it is
/// the caller's to know. A **reserved** address is assignable but set aside for one client: it is held like
/// any other, but only through [`AddressPool::hold_reserved`].
///
/// Time and memory depend on what is held, excluded and reserved, not on the size of the range: with n
/// intervals of such addresses every operation takes O(log n).
#[derive(Clone, Debug)]
pub struct AddressPool {
    range: AddressRange,
    allocation: Allocation,
    /// Excluded by configuration, within the range.
    excluded: IntervalSet,
    /// Number of addresses that are not assignable.
    unassignable: u128,
    /// Excluded by configuration, reserved for a client or held: everything that the search for a free address
    /// jumps over, other than reserved interface identifiers.
    taken: IntervalSet,
    /// State of the taken assignable addresses, except where it is [`State::LEASED`]: those are by far the
    /// most, and being taken without an entry here says it all.
    states: BTreeMap<u128, State>,
    tally: Tally,
    /// The address that a cyclic search found last.
    last_found: Option<u128>,
}

/// What an address is held for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// Advertised to a client that has not requested it yet.
    Offer,
    /// Leased.
    Lease,
    /// Found in use by somebody else (RFC 9915, section 18.3.8).
    Conflict,
}

/// Number of addresses by state. The sum is the size of the range, where that is below 2^128.
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

/// What is known of one assignable address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    reserved: bool,
    hold: Option<Hold>,
}

/// Number of assignable addresses by state, as far as they are not free.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    offered: u64,
    leased: u64,
    conflict: u64,
    /// Reserved, and neither leased nor in conflict.
    set_aside: u64,
}

impl AddressPool {
    /// A pool of the addresses of `range` without those in `exclude`, where ranges may overlap each other and
    /// reach beyond the pool. All addresses are free.
    pub fn new(range: AddressRange, exclude: &[AddressRange], allocation: Allocation) -> Self {
        let mut excluded = IntervalSet::new();
        for other in exclude.iter().filter(|other| other.overlaps(&range)) {
            excluded.insert_range(other.first.max(range.first), other.last.min(range.last));
        }
        let reserved = reserved_between(range.first, range.last);
        let reserved_in_excluded: u128 =
            excluded.iter().map(|(first, last)| reserved_between(first, last)).sum();
        Self {
            range,
            allocation,
            unassignable: (excluded.len() - reserved_in_excluded).saturating_add(reserved),
            taken: excluded.clone(),
            excluded,
            states: BTreeMap::new(),
            tally: Tally::default(),
            last_found: None,
        }
    }

    /// The range that the pool was made of.
    pub fn range(&self) -> AddressRange {
        self.range
    }

    /// Whether `address` lies in the range, assignable or not.
    pub fn contains(&self, address: Ipv6Addr) -> bool {
        self.range.contains(address)
    }

    /// Whether `address` may be assigned to a client at all: it lies in the range, is not excluded, and its
    /// interface identifier is not reserved.
    pub fn is_assignable(&self, address: Ipv6Addr) -> bool {
        self.state(address).is_some()
    }

    /// Whether `address` is assignable, held by nobody and reserved for nobody.
    pub fn is_free(&self, address: Ipv6Addr) -> bool {
        self.state(address) == Some(State::FREE)
    }

    /// Whether `address` is reserved for a client.
    pub fn is_reserved(&self, address: Ipv6Addr) -> bool {
        self.state(address).is_some_and(|state| state.reserved)
    }

    /// What `address` is held for; `None` where it is not held.
    pub fn hold_of(&self, address: Ipv6Addr) -> Option<Hold> {
        self.state(address)?.hold
    }

    /// Holds a free address; `false`, and nothing changes, where it is not free.
    pub fn hold(&mut self, address: Ipv6Addr, hold: Hold) -> bool {
        self.change(address, State::FREE, State { reserved: false, hold: Some(hold) })
    }

    /// Holds a reserved address for the client that it is reserved for; `false`, and nothing changes, where it
    /// is not reserved, or held already.
    pub fn hold_reserved(&mut self, address: Ipv6Addr, hold: Hold) -> bool {
        self.change(address, State::SET_ASIDE, State { reserved: true, hold: Some(hold) })
    }

    /// Holds a held address, reserved or not, for something else; `false`, and nothing changes, where it is not
    /// held for `from`.
    pub fn change_hold(&mut self, address: Ipv6Addr, from: Hold, to: Hold) -> bool {
        self.change_held(address, from, Some(to))
    }

    /// Ends a hold. A reserved address goes back to being set aside for its client, any other is free again.
    /// `false`, and nothing changes, where the address is not held for `hold`.
    pub fn free(&mut self, address: Ipv6Addr, hold: Hold) -> bool {
        self.change_held(address, hold, None)
    }

    /// Sets an assignable address aside for one client. A hold that somebody has on it goes on: the owner of
    /// the reservation has to wait for its end. `false`, and nothing changes, where the address is not
    /// assignable, or reserved already.
    pub fn reserve(&mut self, address: Ipv6Addr) -> bool {
        self.change_reserved(address, true)
    }

    /// Ends a reservation. A hold goes on; without one the address is free. `false` where there is none.
    pub fn unreserve(&mut self, address: Ipv6Addr) -> bool {
        self.change_reserved(address, false)
    }

    /// A free address, which is not held yet; `None` where there is none.
    ///
    /// - [`Allocation::Cyclic`]: the next one behind the address found last, around the end of the range.
    /// - [`Allocation::Random`]: drawn from the whole range. Where several draws hit addresses that are not
    ///   free, it is the next free one behind the last draw: in a nearly full pool the choice is unpredictable
    ///   but not uniform, an address behind a long stretch of taken ones being likelier than others.
    pub fn next_free(&mut self, rng: &mut impl Rng) -> Option<Ipv6Addr> {
        let found = match self.allocation {
            Allocation::Cyclic => {
                let from = self.last_found.and_then(|last| last.checked_add(1)).unwrap_or(self.range.first);
                let found = self.first_free_around(from)?;
                self.last_found = Some(found);
                found
            }
            Allocation::Random => {
                let mut drawn = self.range.first;
                for _ in 0..DRAWS {
                    drawn = rng.random_range(self.range.first..=self.range.last);
                    if self.is_free(drawn.into()) {
                        break;
                    }
                }
                self.first_free_around(drawn)?
            }
        };
        Some(found.into())
    }

    /// Number of free addresses: those that [`AddressPool::next_free`] chooses from. For the range of all
    /// addresses, whose size does not fit, one less.
    pub fn free_count(&self) -> u128 {
        self.counts().idle - u128::from(self.tally.offered)
    }

    /// Number of addresses by state.
    pub fn counts(&self) -> PoolCounts {
        let Tally { offered: _, leased, conflict, set_aside } = self.tally;
        let size = (self.range.last - self.range.first).saturating_add(1);
        let excluded = self.unassignable.saturating_add(set_aside.into());
        PoolCounts {
            idle: size.saturating_sub(excluded).saturating_sub(u128::from(leased) + u128::from(conflict)),
            used: leased,
            conflict,
            excluded,
        }
    }

    /// The idle addresses (see [`PoolCounts::idle`]) from `from` on, ascending, each looked up when it is asked
    /// for.
    pub fn idle_addresses(&self, from: Ipv6Addr) -> impl Iterator<Item = Ipv6Addr> {
        let mut next = Some(u128::from(from).max(self.range.first));
        let mut offered = self
            .states
            .range(u128::from(from)..)
            .filter(|(_, state)| **state == State::OFFERED)
            .map(|(&value, _)| value)
            .peekable();
        std::iter::from_fn(move || {
            let free = next.and_then(|from| self.first_free(from));
            let idle = match (free, offered.peek().copied()) {
                (Some(free), Some(offered)) => free.min(offered),
                (free, offered) => free.or(offered)?,
            };
            offered.next_if_eq(&idle);
            next = idle.checked_add(1);
            Some(idle.into())
        })
    }

    /// The first free address from `from` on, and around the end of the range.
    fn first_free_around(&self, from: u128) -> Option<u128> {
        self.first_free(from).or_else(|| self.first_free(self.range.first))
    }

    /// The first free address from `from`, which is not below the range, to the end of the range.
    fn first_free(&self, mut from: u128) -> Option<u128> {
        // This jumps over each reserved block at most once, and to get from one such block to the next it takes
        // a configured exclusion: 2^57 addresses lie in between, more than can be held one by one.
        loop {
            let gap = self.taken.first_gap(from, self.range.last)?;
            let Some(end) = end_of_reserved_block(gap) else { return Some(gap) };
            from = end.checked_add(1)?;
        }
    }

    /// The state of an assignable address; `None` for any other.
    fn state(&self, address: Ipv6Addr) -> Option<State> {
        let value = u128::from(address);
        if !self.range.contains(address)
            || end_of_reserved_block(value).is_some()
            || self.excluded.contains(value)
        {
            return None;
        }
        let state = self.states.get(&value).copied();
        Some(state.unwrap_or(if self.taken.contains(value) { State::LEASED } else { State::FREE }))
    }

    fn change(&mut self, address: Ipv6Addr, from: State, to: State) -> bool {
        if self.state(address) != Some(from) {
            return false;
        }
        let value = u128::from(address);
        if let Some(count) = self.tally.count_of(from) {
            *count -= 1;
        }
        if let Some(count) = self.tally.count_of(to) {
            *count += 1;
        }
        if to == State::FREE {
            self.taken.remove(value);
        } else {
            self.taken.insert(value);
        }
        if to == State::FREE || to == State::LEASED {
            self.states.remove(&value);
        } else {
            self.states.insert(value, to);
        }
        true
    }

    fn change_held(&mut self, address: Ipv6Addr, from: Hold, to: Option<Hold>) -> bool {
        let state = self.state(address).filter(|state| state.hold == Some(from));
        state.is_some_and(|state| self.change(address, state, State { hold: to, ..state }))
    }

    fn change_reserved(&mut self, address: Ipv6Addr, reserved: bool) -> bool {
        let state = self.state(address).filter(|state| state.reserved != reserved);
        state.is_some_and(|state| self.change(address, state, State { reserved, ..state }))
    }
}

impl State {
    const FREE: Self = Self { reserved: false, hold: None };
    const SET_ASIDE: Self = Self { reserved: true, hold: None };
    const OFFERED: Self = Self { reserved: false, hold: Some(Hold::Offer) };
    const LEASED: Self = Self { reserved: false, hold: Some(Hold::Lease) };
}

impl Tally {
    /// The count that an address in `state` is part of; `None` for a free one.
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
#[path = "address_pool_tests.rs"]
mod tests;
