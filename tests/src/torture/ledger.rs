//! What clients were promised, and whether the server can keep it.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    time::Duration,
};

use dhcp6_common::wire::{Duid, MessageType};
use dhcp6_userspace::{
    clock::Clock,
    fastpath::BindingEntry,
    lease::{Conflict, ConflictCause, Contents, Lease, LeaseState},
    pool::{IaKind, Resource},
    time::Time,
};

/// Two processes read the clocks one after the other, and the wall clock may be adjusted in between.
const CLOCK_ERROR: Duration = Duration::from_millis(50);

/// A client's identity association.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ia {
    /// The client.
    pub duid: Duid,
    /// What it holds.
    pub kind: IaKind,
    /// The client's number for it.
    pub iaid: u32,
}

impl fmt::Display for Ia {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IA_{} {} of {}", self.kind.name().to_uppercase(), self.iaid, self.duid)
    }
}

/// An acknowledged lease.
#[derive(Clone, Copy, Debug)]
pub struct Promise {
    /// What the client had asked with.
    pub asked_with: MessageType,
    /// When it asked.
    pub asked_at: Time,
    /// When it got the answer.
    pub answered_at: Time,
    /// The end of the valid lifetime, counted from when the client asked: the server cannot have promised less.
    pub until: Time,
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { asked_with, asked_at, answered_at, until } = self;
        let [asked_at, answered_at, until] = [asked_at, answered_at, until].map(|time| time.as_millis());
        write!(f, "until {until}, by a Reply at {answered_at} to a {} at {asked_at} (ms)", asked_with.name())
    }
}

/// All promises that have not ended.
#[derive(Debug, Default)]
pub struct Ledger {
    promises: BTreeMap<(Ia, Resource), Promise>,
    /// Leases that were acknowledged.
    pub acknowledged: u64,
    /// Promises that were found in the store, each time it was looked at.
    pub compared: u64,
    /// What the store does not say of a promise, or of what the kernel may promise.
    pub lost: Vec<String>,
    /// What was promised to two clients at once.
    pub duplicated: Vec<String>,
}

impl Ledger {
    /// What an IA has been given and has not given back.
    pub fn held(&self, ia: Ia) -> Vec<Resource> {
        let held = self.promises.keys().filter(|(holder, _)| *holder == ia);
        held.map(|(_, resource)| *resource).collect()
    }

    /// Notes a lease that a client has just been given.
    pub fn acknowledge(&mut self, ia: Ia, resource: Resource, promise: Promise) {
        self.acknowledged += 1;
        for ((holder, held), other) in &self.promises {
            let overlaps = held.range().overlaps(&resource.range());
            if *holder != ia && overlaps && other.until > promise.answered_at {
                self.duplicated.push(format!(
                    "{resource} was promised to the {ia} {promise}, and {held} to the {holder} {other}"
                ));
            }
        }
        self.promises.insert((ia, resource), promise);
    }

    /// A client stops using a resource.
    pub fn end(&mut self, ia: Ia, resource: Resource) {
        self.promises.remove(&(ia, resource));
    }

    /// A client stops using what it has but for `kept`.
    pub fn end_all_but(&mut self, ia: Ia, kept: &[Resource]) {
        self.promises.retain(|(holder, resource), _| *holder != ia || kept.contains(resource));
    }

    /// Forgets promises that have ended.
    pub fn expire(&mut self, now: Time) {
        self.promises.retain(|_, promise| promise.until > now);
    }

    /// Compares the promises with what the store says of them.
    pub fn compare_with_store(&mut self, contents: &Contents) {
        let rows: HashMap<_, _> = contents.leases.iter().map(|lease| (lease.resource, lease)).collect();
        for ((ia, resource), promise) in &self.promises {
            let row = rows.get(resource);
            let bound = row.filter(|lease| is_bound(lease, *ia)).map(|lease| lease.expires_at);
            // What the client was told, or will be told, to part with, is kept from all others.
            let mut conflicts = contents.conflicts.iter();
            let conflict = conflicts.find(|conflict| conflict.resource == *resource);
            let withheld = conflict.filter(|it| is_withheld(it, *ia)).map(|it| it.until);
            let stored = bound.or(withheld);
            if stored.is_none_or(|stored| stored.after(CLOCK_ERROR) < promise.until) {
                self.lost.push(format!(
                    "{resource} was promised to the {ia} {promise}; the store says {}, {}",
                    row.map_or_else(|| "no lease".to_owned(), |row| describe(row)),
                    conflict.map_or_else(|| "no conflict".to_owned(), |conflict| format!("{conflict:?}"))
                ));
            }
            self.compared += 1;
        }
    }

    /// Compares what the kernel may promise, valid for `valid_lifetime` seconds each time, with what the store says
    /// of it.
    pub fn compare_kernel(
        &mut self,
        entries: &[BindingEntry],
        valid_lifetime: u32,
        contents: &Contents,
        clock: &Clock,
    ) {
        let rows: HashMap<_, _> = contents.leases.iter().map(|lease| (lease.resource, lease)).collect();
        for entry in entries {
            let reach = clock.time_of(entry.binding.serve_until()).after_lifetime(valid_lifetime);
            for (iaid, resource) in entry.resources() {
                let ia = Ia { duid: entry.owner.duid, kind: resource.kind(), iaid };
                let row = rows.get(&resource);
                let bound = row.filter(|lease| is_bound(lease, ia)).map(|lease| lease.expires_at);
                if bound.is_none_or(|stored| stored.after(CLOCK_ERROR) < reach) {
                    self.lost.push(format!(
                        "the kernel may promise {resource} to the {ia} until {} (ms); the store says {}",
                        reach.as_millis(),
                        row.map_or_else(|| "no lease".to_owned(), |row| describe(row))
                    ));
                }
            }
        }
    }

    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.lost.is_empty() && self.duplicated.is_empty()
    }
}

fn is_bound(lease: &Lease, ia: Ia) -> bool {
    lease.state == LeaseState::Bound && (lease.duid, lease.iaid) == (ia.duid, ia.iaid)
}

fn is_withheld(conflict: &Conflict, ia: Ia) -> bool {
    conflict.cause == ConflictCause::Withdrawn && conflict.duid == ia.duid
}

fn describe(lease: &Lease) -> String {
    let Lease { duid, iaid, state, expires_at, .. } = lease;
    format!("{state:?} for IAID {iaid} of {duid} until {} (ms)", expires_at.as_millis())
}

#[cfg(test)]
mod tests {
    use dhcp6_common::{
        Origin,
        contract::Stamp,
        wire::{Duid, MessageType},
    };
    use dhcp6_userspace::{
        clock::Clock,
        engine::{KernelBinding, Owner},
        fastpath::BindingEntry,
        lease::{Conflict, ConflictCause, Contents, Lease, LeaseState},
        pool::{IaKind, Resource},
        time::Time,
    };

    use super::{Ia, Ledger, Promise};

    fn ia(number: u8) -> Ia {
        Ia { duid: Duid::new(&[0, 3, 0, 1, number]).unwrap(), kind: IaKind::Na, iaid: 1 }
    }

    fn address() -> Resource {
        "2001:db8:1::1".parse().unwrap()
    }

    fn seconds(seconds: u64) -> Time {
        Time::from_millis(seconds * 1000)
    }

    fn promise(asked_at: u64, until: u64) -> Promise {
        let [asked_at, until] = [asked_at, until].map(seconds);
        Promise { asked_with: MessageType::Solicit, asked_at, answered_at: asked_at, until }
    }

    fn stored(ia: Ia, state: LeaseState, until: u64) -> Contents {
        let expires_at = seconds(until);
        let lease = Lease {
            resource: address(),
            link: "access0".into(),
            origin: Origin::ANY,
            duid: ia.duid,
            iaid: ia.iaid,
            state,
            preferred_until: expires_at,
            valid_until: expires_at,
            expires_at,
        };
        Contents { leases: vec![lease], conflicts: Vec::new() }
    }

    #[test]
    fn a_promise_has_to_be_in_the_store() {
        let lost = |contents: &Contents| {
            let mut ledger = Ledger::default();
            ledger.acknowledge(ia(1), address(), promise(100, 200));
            ledger.compare_with_store(contents);
            ledger.lost.len()
        };
        assert_eq!(lost(&stored(ia(1), LeaseState::Bound, 200)), 0);
        assert_eq!(lost(&Contents::default()), 1, "nothing");
        assert_eq!(lost(&stored(ia(1), LeaseState::Bound, 199)), 1, "too short");
        assert_eq!(lost(&stored(ia(1), LeaseState::Remembered, 200)), 1, "free for others");
        assert_eq!(lost(&stored(ia(2), LeaseState::Bound, 200)), 1, "somebody else's");
        let withheld = |number, cause| {
            let (link, until) = ("access0".into(), seconds(200));
            let conflict = Conflict { resource: address(), link, duid: ia(number).duid, cause, until };
            Contents { leases: Vec::new(), conflicts: vec![conflict] }
        };
        assert_eq!(lost(&withheld(1, ConflictCause::Withdrawn)), 0);
        assert_eq!(lost(&withheld(2, ConflictCause::Withdrawn)), 1, "withheld from this client, too");
        assert_eq!(lost(&withheld(1, ConflictCause::Declined)), 1, "out of use");
    }

    #[test]
    fn one_owner_at_a_time() {
        let duplicated = |second: u64, given_back: bool| {
            let mut ledger = Ledger::default();
            ledger.acknowledge(ia(1), address(), promise(100, 200));
            if given_back {
                ledger.end(ia(1), address());
            }
            ledger.acknowledge(ia(2), address(), promise(second, second + 100));
            ledger.duplicated.len()
        };
        assert_eq!(duplicated(150, false), 1);
        assert_eq!(duplicated(150, true), 0);
        assert_eq!(duplicated(200, false), 0);
    }

    #[test]
    fn the_kernel_may_not_promise_what_the_store_does_not_say() {
        let (clock, _) = Clock::start(None);
        let lost = |contents: &Contents| {
            let Resource::Address(address) = address() else { panic!("an address") };
            let binding = KernelBinding {
                owner: Owner { link: 0, origin: Origin::ANY, duid: ia(1).duid },
                address: Some((1, address)),
                prefix: None,
                serve_until: clock.now(),
            };
            let entry = BindingEntry::new(&binding, clock.boottime_of(clock.now()), Stamp::NONE);
            let mut ledger = Ledger::default();
            ledger.compare_kernel(&[entry], 100, contents, &clock);
            ledger.lost.len()
        };
        let reach = clock.now().as_millis() / 1000 + 101;
        assert_eq!(lost(&stored(ia(1), LeaseState::Bound, reach)), 0);
        assert_eq!(lost(&stored(ia(1), LeaseState::Bound, reach - 3)), 1);
        assert_eq!(lost(&stored(ia(1), LeaseState::Remembered, reach)), 1);
        assert_eq!(lost(&stored(ia(2), LeaseState::Bound, reach)), 1);
    }
}
