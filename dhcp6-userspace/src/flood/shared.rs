//! What the clients of all threads have in common.

use std::{
    net::Ipv6Addr,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use hashbrown::{HashMap, HashSet};

/// Parts of the table of leases, so that threads seldom wait for each other. A power of two.
const PARTS: usize = 64;

/// An address, or a prefix with its length; an address is one of 128 bits.
pub(super) type Resource = (Ipv6Addr, u8);

/// Who has which lease, and how far the run is.
#[derive(Debug)]
pub(super) struct Shared {
    holders: Box<[Mutex<HashMap<Resource, Holder>>]>,
    /// Addresses that a client has declined.
    declined: Mutex<HashSet<Ipv6Addr>>,
    any_declined: AtomicBool,
    /// Exchanges completed.
    pub(super) answered: AtomicU64,
    /// Wrong replies.
    pub(super) wrong: AtomicU64,
    /// Clients that have nothing left to do.
    pub(super) finished: AtomicU64,
}

/// Who has a lease, and until when, in nanoseconds from the start of the run.
#[derive(Clone, Copy, Debug)]
struct Holder {
    client: u32,
    valid_until: u64,
}

impl Shared {
    pub(super) fn new() -> Self {
        Self {
            holders: (0..PARTS).map(|_| Mutex::default()).collect(),
            declined: Mutex::default(),
            any_declined: AtomicBool::new(false),
            answered: AtomicU64::new(0),
            wrong: AtomicU64::new(0),
            finished: AtomicU64::new(0),
        }
    }

    /// A client has a lease. Returns whether another client has it already, who keeps it.
    pub(super) fn hold(&self, now: u64, resource: Resource, client: u32, valid_until: u64) -> bool {
        let mut part = self.part(resource);
        let holder = part.entry(resource).or_insert(Holder { client, valid_until });
        if holder.client != client && holder.valid_until > now {
            return true;
        }
        *holder = Holder { client, valid_until };
        false
    }

    /// Who has a lease.
    pub(super) fn holder(&self, now: u64, resource: Resource) -> Option<u32> {
        self.part(resource).get(&resource).filter(|holder| holder.valid_until > now).map(|it| it.client)
    }

    /// A client does not use a lease any more.
    pub(super) fn let_go(&self, resource: Resource, client: u32) {
        let mut part = self.part(resource);
        if part.get(&resource).is_some_and(|holder| holder.client == client) {
            part.remove(&resource);
        }
    }

    /// A client says that somebody else uses an address.
    pub(super) fn decline(&self, address: Ipv6Addr) {
        self.declined.lock().expect("nobody panics").insert(address);
        self.any_declined.store(true, Relaxed);
    }

    /// Whether a client has declined an address.
    pub(super) fn is_declined(&self, address: Ipv6Addr) -> bool {
        self.any_declined.load(Relaxed) && self.declined.lock().expect("nobody panics").contains(&address)
    }

    /// How many clients have nothing left to do.
    pub(super) fn done(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "there are no more than 2^32 clients")]
        let done = self.finished.load(Relaxed) as f64;
        done
    }

    fn part(&self, (address, _): Resource) -> MutexGuard<'_, HashMap<Resource, Holder>> {
        const MIX: u64 = 0x9e37_79b9_7f4a_7c15;
        let bits = address.to_bits();
        let mixed = (bits as u64 ^ (bits >> 64) as u64).wrapping_mul(MIX);
        self.holders[(mixed >> 32) as usize % PARTS].lock().expect("nobody panics")
    }
}

#[cfg(test)]
mod tests {
    use super::Shared;

    #[test]
    fn a_lease_has_one_holder() {
        let shared = Shared::new();
        let resource = ("2001:db8::1".parse().unwrap(), 128);
        let longer = ("2001:db8::1".parse().unwrap(), 64);
        for (now, resource, client, valid_until, duplicate, what) in [
            (0, resource, 1, 10, false, "the first"),
            (5, resource, 1, 20, false, "again"),
            (15, resource, 2, 30, true, "another one"),
            (20, longer, 1, 30, false, "a prefix"),
            (20, resource, 2, 40, false, "when the other one's is over"),
        ] {
            assert_eq!(shared.hold(now, resource, client, valid_until), duplicate, "{what}");
        }
        shared.let_go(resource, 1);
        assert!(shared.hold(31, resource, 3, 40), "it was another one's");
        assert_eq!((shared.holder(31, resource), shared.holder(40, resource)), (Some(2), None));
        shared.let_go(resource, 2);
        assert!(!shared.hold(32, resource, 4, 40), "it was given back");
    }
}
