//! The bindings in memory: by resource, by client, by owner and by expiry.
//!
//! There may be millions, so each is held once, in a slot without padding and without memory of its own, and the indexes
//! hold numbers of slots.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    hash::{BuildHasher as _, Hash, Hasher},
};

use dhcp6_common::{Origin, wire::Duid};
use hashbrown::{DefaultHashBuilder, HashTable, hash_table::Entry};

use super::Owner;
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
    pub(super) origin: Origin,
    pub(super) duid: Duid,
    pub(super) kind: IaKind,
    pub(super) iaid: u32,
}

impl Client {
    pub(super) fn owner(&self) -> Owner {
        let Self { link, origin, duid, .. } = *self;
        Owner { link, origin, duid }
    }

    fn key(&self) -> Key<'_> {
        let Self { link, origin, duid, kind, iaid: _ } = self;
        Key { link: *link, origin: *origin, duid: duid.as_slice(), kind: *kind }
    }
}

/// What a client has been promised of a resource.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// Promised by the daemon.
    pub(super) preferred_until: Time,
    /// Promised by the daemon.
    pub(super) valid_until: Time,
    /// Written to the store, or about to be.
    pub(super) expires_at: Time,
    /// What stable storage says: promises must not reach beyond. The epoch where it says nothing.
    pub(super) stored_until: Time,
}

/// A resource and the client that has it, or had it.
#[derive(Clone, Debug)]
pub(super) struct Binding {
    duid: PackedDuid,
    pub(super) terms: Terms,
    /// Index of the link.
    pub(super) link: u32,
    pub(super) iaid: u32,
    pub(super) origin: Origin,
    pub(super) resource: Resource,
    pub(super) state: LeaseState,
    /// Whether it is the one that its owner is found by, among those of its kind.
    is_main: bool,
    /// Whether a client that adds what the link looks at and the origin lacks takes it over.
    is_adoptable: bool,
}

/// An owner, and one kind of its IAs.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Key<'a> {
    link: u32,
    origin: Origin,
    duid: &'a [u8],
    kind: IaKind,
}

/// In few pieces: a million of them are hashed at start.
impl Hash for Key<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Self { link, origin: Origin { vlan, mac }, duid, kind } = *self;
        let mut rest = [0; 8];
        rest[..6].copy_from_slice(&mac);
        rest[6] = duid.len() as u8;
        state.write_u64(u64::from(link) << 32 | u64::from(vlan.bits()) << 8 | kind as u64);
        state.write_u64(u64::from_ne_bytes(rest));
        state.write(duid);
    }
}

/// All but the longest DUIDs lie in the binding itself.
#[derive(Clone, Debug)]
enum PackedDuid {
    Short { len: u8, octets: [u8; Self::SHORT] },
    Long(Box<Duid>),
}

const _: () = assert!(size_of::<Option<Binding>>() == 96, "a million of them are worth a look");

/// All bindings. A resource has at most one, and so has an IA.
///
/// Nearly every client has one IA of a kind, so one index finds both IAs and owners: `mains` has one binding of each owner
/// and kind, by these, and `others` the few that are left, by their IAs.
#[derive(Debug, Default)]
pub(super) struct Table {
    slots: Vec<Option<Binding>>,
    vacant: Vec<u32>,
    by_resource: HashTable<u32>,
    mains: HashTable<u32>,
    others: HashTable<u32>,
    /// How many bindings are adoptable.
    adoptable: usize,
    expiries: Expiries,
    /// Keyed at random: who chooses DUIDs does not choose which of them collide.
    hasher: DefaultHashBuilder,
}

/// When slots are to be looked at, at the latest.
///
/// A lease that is renewed costs nothing here: when the time that it had before comes, its slot is noted once more. So
/// each slot is in the queue once, or not at all, but for those whose times were made shorter, as that of an address is
/// that was given back and is leased again. What these leave is removed once it is the greater part.
#[derive(Debug, Default)]
struct Expiries {
    /// Seconds since the Unix epoch, and slot.
    queue: BinaryHeap<Reverse<(u32, u32)>>,
    /// The earliest second that each slot is queued for; [`Expiries::NOT_QUEUED`] where it is not.
    queued: Vec<u32>,
}

impl Expiries {
    const NOT_QUEUED: u32 = u32::MAX;
    /// So many more than two for each slot may be in the queue.
    const SPARE: usize = 1024;

    /// Has a slot looked at in the second in which, or before which, its time comes. One that never comes, or in the
    /// next century, is not noted.
    fn note(&mut self, slot: u32, at: Time) {
        let Ok(second) = u32::try_from(at.as_millis().div_ceil(1000)) else { return };
        if self.queued.len() <= slot as usize {
            self.queued.resize(slot as usize + 1, Self::NOT_QUEUED);
        }
        let queued = &mut self.queued[slot as usize];
        if second < *queued {
            *queued = second;
            self.queue.push(Reverse((second, slot)));
            if self.queue.len() > 2 * self.queued.len() + Self::SPARE {
                self.compact();
            }
        }
    }

    /// Leaves of each slot what it is queued for.
    fn compact(&mut self) {
        let queued = self.queued.iter().copied().zip(0..).filter(|(second, _)| *second != Self::NOT_QUEUED);
        self.queue = queued.map(Reverse).collect();
    }

    /// The next slot to be looked at.
    fn take_due(&mut self, now: Time) -> Option<u32> {
        while let Some(Reverse((second, slot))) = self.queue.peek().copied()
            && u64::from(second) <= now.as_millis() / 1000
        {
            self.queue.pop();
            let queued = &mut self.queued[slot as usize];
            if *queued == second {
                *queued = Self::NOT_QUEUED;
                return Some(slot);
            }
        }
        None
    }
}

impl PackedDuid {
    const SHORT: usize = 22;

    fn new(duid: &Duid) -> Self {
        let from = duid.as_slice();
        let mut octets = [0; Self::SHORT];
        match octets.get_mut(..from.len()) {
            Some(to) => {
                to.copy_from_slice(from);
                Self::Short { len: from.len() as u8, octets }
            }
            None => Self::Long(Box::new(*duid)),
        }
    }

    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Short { len, octets } => &octets[..usize::from(*len)],
            Self::Long(duid) => duid.as_slice(),
        }
    }
}

impl Binding {
    pub(super) fn duid(&self) -> Duid {
        Duid::new(self.duid.as_slice()).expect("it was made of a DUID")
    }

    pub(super) fn client(&self) -> Client {
        let Self { link, origin, iaid, .. } = *self;
        Client { link, origin, duid: self.duid(), kind: self.resource.kind(), iaid }
    }

    pub(super) fn owner(&self) -> Owner {
        Owner { link: self.link, origin: self.origin, duid: self.duid() }
    }

    pub(super) fn is_bound(&self) -> bool {
        self.state == LeaseState::Bound
    }

    /// Whether its owner is found by this one, among those of its kind.
    pub(super) fn is_main(&self) -> bool {
        self.is_main
    }

    /// Whether a client that adds what the link looks at and the origin lacks takes it over.
    pub(super) fn is_adoptable(&self) -> bool {
        self.is_adoptable
    }

    fn key(&self) -> Key<'_> {
        let Self { link, origin, resource, .. } = self;
        Key { link: *link, origin: *origin, duid: self.duid.as_slice(), kind: resource.kind() }
    }

    /// Of two of an owner and kind, the greater one is the main one.
    fn rank(&self) -> (bool, Time) {
        (self.is_bound(), self.terms.valid_until)
    }
}

impl Table {
    pub(super) fn get(&self, resource: Resource) -> Option<&Binding> {
        self.slots[self.slot(resource)? as usize].as_ref()
    }

    /// The client's binding, whatever its state.
    pub(super) fn of(&self, client: &Client) -> Option<&Binding> {
        let Self { slots, others, hasher, .. } = self;
        let (key, iaid) = (client.key(), client.iaid);
        if let Some(main) = self.main(key).filter(|main| main.iaid == iaid) {
            return Some(main);
        }
        if others.is_empty() {
            return None;
        }
        let is_it = |slot: &u32| {
            let binding = at(slots, *slot);
            binding.iaid == iaid && binding.key() == key
        };
        others.find(hasher.hash_one((key, iaid)), is_it).map(|slot| at(slots, *slot))
    }

    /// The binding that an owner is found by, of those of a kind: the one that was bound or stored last.
    pub(super) fn main_of(&self, owner: &Owner, kind: IaKind) -> Option<&Binding> {
        let Owner { link, origin, duid } = owner;
        self.main(Key { link: *link, origin: *origin, duid: duid.as_slice(), kind })
    }

    /// The binding that the owner of this one is found by, of those of a kind.
    pub(super) fn main_beside(&self, binding: &Binding, kind: IaKind) -> Option<&Binding> {
        self.main(Key { kind, ..binding.key() })
    }

    fn main(&self, key: Key<'_>) -> Option<&Binding> {
        let Self { slots, mains, hasher, .. } = self;
        let is_it = |slot: &u32| at(slots, *slot).key() == key;
        mains.find(hasher.hash_one(key), is_it).map(|slot| at(slots, *slot))
    }

    pub(super) fn resource_of(&self, client: &Client) -> Option<Resource> {
        self.of(client).map(|binding| binding.resource)
    }

    /// The resource that the client holds now.
    pub(super) fn bound(&self, client: &Client) -> Option<Resource> {
        self.of(client).filter(|binding| binding.is_bound()).map(|binding| binding.resource)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Binding> {
        self.slots.iter().flatten()
    }

    /// Inserts a binding or replaces the resource's. The client must have no other.
    pub(super) fn insert(&mut self, client: &Client, resource: Resource, state: LeaseState, terms: Terms) {
        debug_assert_eq!(client.kind, resource.kind());
        debug_assert!(self.of(client).is_none_or(|other| other.resource == resource));
        let binding = Binding {
            duid: PackedDuid::new(&client.duid),
            terms,
            link: client.link,
            iaid: client.iaid,
            origin: client.origin,
            resource,
            state,
            is_main: false,
            is_adoptable: false,
        };
        let Self { slots, vacant, by_resource, expiries, hasher, .. } = self;
        let entry = by_resource.entry(
            hasher.hash_one(resource),
            |slot| at(slots, *slot).resource == resource,
            |slot| hasher.hash_one(at(slots, *slot).resource),
        );
        let Entry::Vacant(entry) = entry else {
            self.remove(resource);
            return self.insert(client, resource, state, terms);
        };
        let slot = vacant.pop().unwrap_or(slots.len() as u32);
        entry.insert(slot);
        if state == LeaseState::Bound {
            expiries.note(slot, terms.expires_at);
        }
        if let Some(vacant) = slots.get_mut(slot as usize) {
            *vacant = Some(binding);
        } else {
            slots.push(Some(binding));
        }
        self.index(slot, |binding, main| binding.rank() >= main.rank());
    }

    /// Puts a binding that is in neither into the index of main ones, or into the other one where another binding of
    /// its owner and kind stays the main one.
    fn index(&mut self, slot: u32, displaces: impl FnOnce(&Binding, &Binding) -> bool) {
        let Self { slots, mains, others, hasher, .. } = self;
        let binding = at(slots, slot);
        let key = binding.key();
        let entry = mains.entry(
            hasher.hash_one(key),
            |other| at(slots, *other).key() == key,
            |other| hasher.hash_one(at(slots, *other).key()),
        );
        let other = match entry {
            Entry::Vacant(entry) => {
                entry.insert(slot);
                None
            }
            Entry::Occupied(mut main) if displaces(binding, at(slots, *main.get())) => {
                Some(std::mem::replace(main.get_mut(), slot))
            }
            Entry::Occupied(_) => Some(slot),
        };
        if let Some(other) = other {
            let hash = |slot: &u32| hash_of_ia(hasher, at(slots, *slot));
            others.insert_unique(hash(&other), other, hash);
        }
        // With one of them in the other index, in this order.
        for (slot, is_main) in [(Some(slot), true), (other, false)] {
            if let Some(binding) = slot.and_then(|slot| slots[slot as usize].as_mut()) {
                binding.is_main = is_main;
            }
        }
    }

    /// Has the owner of a resource be found by its binding.
    pub(super) fn make_main(&mut self, resource: Resource) {
        let Some(slot) = self.slot(resource) else { return };
        let Self { slots, others, hasher, .. } = self;
        let binding = at(slots, slot);
        if binding.is_main {
            return;
        }
        if let Ok(entry) = others.find_entry(hash_of_ia(hasher, binding), |other| *other == slot) {
            entry.remove();
        }
        self.index(slot, |_, _| true);
    }

    /// Makes room for so many more bindings at once.
    pub(super) fn reserve(&mut self, more: usize) {
        let Self { slots, by_resource, mains, hasher, .. } = self;
        by_resource.reserve(more, |slot| hasher.hash_one(at(slots, *slot).resource));
        mains.reserve(more, |slot| hasher.hash_one(at(slots, *slot).key()));
        slots.reserve(more);
    }

    pub(super) fn remove(&mut self, resource: Resource) -> Option<Binding> {
        let slot = self.slot(resource)?;
        let binding = self.slots[slot as usize].take()?;
        let Self { vacant, by_resource, mains, others, hasher, .. } = self;
        let is_it = |other: &u32| *other == slot;
        let by_resource = by_resource.find_entry(hasher.hash_one(resource), is_it);
        let by_client = if binding.is_main {
            mains.find_entry(hasher.hash_one(binding.key()), is_it)
        } else {
            others.find_entry(hash_of_ia(hasher, &binding), is_it)
        };
        for entry in [by_resource, by_client].into_iter().flatten() {
            entry.remove();
        }
        self.adoptable -= usize::from(binding.is_adoptable);
        vacant.push(slot);
        Some(binding)
    }

    /// Whether any binding is adoptable.
    pub(super) fn has_adoptable(&self) -> bool {
        self.adoptable > 0
    }

    /// Says whether a binding is adoptable.
    pub(super) fn set_adoptable(&mut self, resource: Resource, is_adoptable: bool) {
        let Some(slot) = self.slot(resource) else { return };
        let Some(binding) = &mut self.slots[slot as usize] else { return };
        let was_adoptable = std::mem::replace(&mut binding.is_adoptable, is_adoptable);
        self.adoptable = self.adoptable + usize::from(is_adoptable) - usize::from(was_adoptable);
    }

    /// Notes that a binding holds its resource no more.
    pub(super) fn end(&mut self, resource: Resource) {
        if let Some(slot) = self.slot(resource)
            && let Some(binding) = &mut self.slots[slot as usize]
        {
            binding.state = LeaseState::Remembered;
        }
    }

    /// Changes a binding's terms.
    pub(super) fn update(&mut self, resource: Resource, change: impl FnOnce(&mut Terms)) {
        let Some(slot) = self.slot(resource) else { return };
        let Some(binding) = &mut self.slots[slot as usize] else { return };
        change(&mut binding.terms);
        if binding.is_bound() {
            self.expiries.note(slot, binding.terms.expires_at);
        }
    }

    /// Notes that the store now vouches for a client's binding up to `until`. Nothing where the resource has
    /// changed hands meanwhile.
    pub(super) fn stored(
        &mut self,
        resource: Resource,
        (origin, duid, iaid): (Origin, &Duid, u32),
        until: Time,
    ) {
        if let Some(slot) = self.slot(resource)
            && let Some(binding) = &mut self.slots[slot as usize]
            && binding.origin == origin
            && binding.duid.as_slice() == duid.as_slice()
            && binding.iaid == iaid
        {
            binding.terms.stored_until = until;
        }
    }

    /// A bound resource whose time has come, at most a second late. The caller ends its lease.
    pub(super) fn take_expired(&mut self, now: Time) -> Option<Resource> {
        while let Some(slot) = self.expiries.take_due(now) {
            let Some(binding) = self.slots[slot as usize].as_ref().filter(|binding| binding.is_bound())
            else {
                continue;
            };
            if binding.terms.expires_at <= now {
                return Some(binding.resource);
            }
            self.expiries.note(slot, binding.terms.expires_at);
        }
        None
    }

    fn slot(&self, resource: Resource) -> Option<u32> {
        let slots = &self.slots;
        let is_it =
            |slot: &u32| slots[*slot as usize].as_ref().is_some_and(|binding| binding.resource == resource);
        self.by_resource.find(self.hasher.hash_one(resource), is_it).copied()
    }
}

fn at(slots: &[Option<Binding>], slot: u32) -> &Binding {
    slots[slot as usize].as_ref().expect("an index has no vacant slots")
}

fn hash_of_ia(hasher: &DefaultHashBuilder, binding: &Binding) -> u64 {
    hasher.hash_one((binding.key(), binding.iaid))
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv6Addr, time::Duration};

    use dhcp6_common::{Origin, wire::Duid};

    use super::{Client, Table, Terms};
    use crate::{
        lease::LeaseState,
        pool::{IaKind, Resource},
        time::Time,
    };

    #[test]
    fn the_queue_of_expiries_grows_with_the_slots_not_with_what_becomes_of_them() {
        const CLIENTS: u8 = 10;
        let start = Time::from_millis(1_700_000_000_000);
        let valid = Duration::from_hours(1);
        let mut table = Table::default();
        let lease_of = |number: u8| {
            let duid = Duid::new(&[number]).unwrap();
            let resource = Resource::from(Ipv6Addr::from(u128::from(number)));
            (Client { link: 0, origin: Origin::ANY, duid, kind: IaKind::Na, iaid: 1 }, resource)
        };
        let mut longest = 0;
        for second in 0..20_000 {
            let now = start.after(Duration::from_secs(second));
            for (client, resource) in (0..CLIENTS).map(lease_of) {
                // Each gives its address back and has it again, every second.
                table.end(resource);
                let terms = Terms {
                    preferred_until: now,
                    valid_until: now,
                    expires_at: now,
                    stored_until: Time::EPOCH,
                };
                table.insert(&client, resource, LeaseState::Bound, terms);
                table.update(resource, |terms| terms.expires_at = now.after(valid));
            }
            assert_eq!(table.take_expired(now), None);
            longest = longest.max(table.expiries.queue.len());
        }
        assert!(longest < 2000, "{longest} for {CLIENTS} leases");
        let end = start.after(Duration::from_secs(19_999)).after(valid);
        assert_eq!(table.take_expired(Time::from_millis(end.as_millis() - 1)), None);
        for _ in 0..CLIENTS {
            let resource = table.take_expired(end).expect("all of them end");
            table.end(resource);
        }
        assert_eq!(table.take_expired(end), None);
    }
}
