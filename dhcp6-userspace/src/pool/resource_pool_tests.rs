//! Tests of [`ResourcePool`].

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv6Addr,
};

use proptest::prelude::*;
use rand::{SeedableRng, rngs::StdRng};

use super::{Hold, PoolCounts, ResourcePool};
use crate::pool::{AddressRange, Allocation, Prefix, Resource};

fn address(text: &str) -> Resource {
    text.parse().unwrap()
}

fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

fn range(first: &str, last: &str) -> AddressRange {
    AddressRange::new(first.parse().unwrap(), last.parse().unwrap()).unwrap()
}

fn rng() -> StdRng {
    StdRng::seed_from_u64(9915)
}

fn cyclic(first: &str, last: &str, exclude: &[(&str, &str)]) -> ResourcePool {
    let exclude: Vec<_> = exclude.iter().map(|(first, last)| range(first, last)).collect();
    ResourcePool::of_addresses(range(first, last), &exclude, Allocation::Cyclic)
}

/// The next free resource, nothing being in the way.
fn next(pool: &mut ResourcePool, rng: &mut StdRng) -> Option<Resource> {
    pool.next_free(rng, |_| None)
}

/// Holds every free resource that the pool finds, in that order.
fn drain(pool: &mut ResourcePool) -> Vec<Resource> {
    let mut rng = rng();
    let mut found = Vec::new();
    while let Some(free) = next(pool, &mut rng) {
        assert!(pool.hold(free, Hold::Lease), "{free} was not free");
        found.push(free);
    }
    found
}

#[test]
fn a_pool_of_one_address_gives_it_out_again_and_again() {
    for allocation in [Allocation::Cyclic, Allocation::Random] {
        let only = address("2001:db8::7");
        let mut pool = ResourcePool::of_addresses(range("2001:db8::7", "2001:db8::7"), &[], allocation);
        for _ in 0..3 {
            assert_eq!(next(&mut pool, &mut rng()), Some(only));
            assert_eq!(next(&mut pool, &mut rng()), Some(only), "finding does not hold");
            assert!(pool.hold(only, Hold::Offer));
            assert_eq!(next(&mut pool, &mut rng()), None);
            assert!(pool.free(only, Hold::Offer));
        }
    }
}

#[test]
fn reserved_identifiers_are_never_found() {
    // Matrix row S-13: each pool straddles the edges of a reserved block.
    for (first, last, exclude, found) in [
        ("2001:db8::", "2001:db8::2", &[][..], &["2001:db8::1", "2001:db8::2"][..]),
        ("2001:db8::", "2001:db8::", &[], &[]),
        (
            "2001:db8::200:5eff:fdff:ffff",
            "2001:db8::200:5eff:ff00:0",
            &[],
            &["2001:db8::200:5eff:fdff:ffff", "2001:db8::200:5eff:ff00:0"],
        ),
        (
            "2001:db8::fdff:ffff:ffff:ff7f",
            "2001:db8::fe00:0:0:0",
            &[],
            &["2001:db8::fdff:ffff:ffff:ff7f", "2001:db8::fe00:0:0:0"],
        ),
        (
            "2001:db8::ffff:ffff:ffff:fffe",
            "2001:db8:0:1::1",
            &[("2001:db8::ffff:ffff:ffff:ffff", "2001:db8::ffff:ffff:ffff:ffff")],
            &["2001:db8::ffff:ffff:ffff:fffe", "2001:db8:0:1::1"],
        ),
        (
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe",
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            &[],
            &["ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"],
        ),
    ] {
        let mut pool = cyclic(first, last, exclude);
        let found: Vec<_> = found.iter().map(|text| address(text)).collect();
        assert_eq!(pool.idle().collect::<Vec<_>>(), found, "{first}-{last}");
        assert_eq!(pool.counts().idle, found.len() as u128, "{first}-{last}");
        assert_eq!(drain(&mut pool), found, "{first}-{last}");
    }
}

#[test]
fn exclusions_are_not_assignable() {
    let mut pool = cyclic(
        "2001:db8::1",
        "2001:db8::8",
        &[("2001:db8::", "2001:db8::2"), ("2001:db8::2", "2001:db8::3"), ("2001:db8::7", "2001:db8::ff")],
    );
    assert!(!pool.is_assignable(address("2001:db8::7")));
    assert!(!pool.hold(address("2001:db8::7"), Hold::Lease));
    assert!(!pool.reserve(address("2001:db8::7")));
    assert!(!pool.hold(address("2001:db8::9"), Hold::Lease), "outside");
    assert_eq!(pool.counts(), PoolCounts { idle: 3, excluded: 5, ..PoolCounts::default() });
    assert_eq!(drain(&mut pool), ["2001:db8::4", "2001:db8::5", "2001:db8::6"].map(address));
}

#[test]
fn huge_pools_are_as_quick_as_small_ones() {
    for (first, last, excluded) in [
        ("2001:db8::", "2001:db8::ffff:ffff:ffff:ffff", (1 << 24) + 129),
        ("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", ((1 << 24) + 129) << 32),
        ("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", ((1 << 24) + 129) << 64),
    ] {
        for allocation in [Allocation::Cyclic, Allocation::Random] {
            let mut pool = ResourcePool::of_addresses(range(first, last), &[], allocation);
            let mut rng = rng();
            assert_eq!(pool.counts().excluded, excluded);
            for held in 1..=20_000 {
                let free = next(&mut pool, &mut rng).unwrap();
                assert!(pool.hold(free, Hold::Lease));
                assert_eq!(pool.counts().used, held);
            }
            assert!(pool.idle().take(3).all(|idle| pool.is_free(idle)));
        }
    }
}

#[test]
fn excluding_whole_networks_of_a_huge_pool_is_quick() {
    let mut pool = cyclic(
        "2001:db8::",
        "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
        &[("2001:db8::", "2001:db8:ffff:fffe:ffff:ffff:ffff:ffff")],
    );
    assert_eq!(next(&mut pool, &mut rng()), Some(address("2001:db8:ffff:ffff::1")));
}

#[test]
fn random_addresses_are_not_predictable() {
    // Half of the range is excluded, so every second draw misses; what is found still spreads over the rest.
    let exclude = [range("2001:db8::", "2001:db8::7fff:ffff:ffff:ffff")];
    let whole = range("2001:db8::", "2001:db8::ffff:ffff:ffff:ffff");
    let mut pool = ResourcePool::of_addresses(whole, &exclude, Allocation::Random);
    let mut rng = rng();
    let mut found = BTreeSet::new();
    for _ in 0..1000 {
        let free = next(&mut pool, &mut rng).unwrap();
        assert!(pool.hold(free, Hold::Lease));
        found.insert(u128::from(free.range().first()));
    }
    let neighbours = found.iter().zip(found.iter().skip(1)).filter(|(a, b)| *b - *a < 1 << 20).count();
    assert_eq!(neighbours, 0, "matrix row S-12");
    let in_upper_quarter = found.iter().filter(|value| **value as u64 >= 0xc000_0000_0000_0000).count();
    assert!((400..600).contains(&in_upper_quarter), "{in_upper_quarter} of 1000");
}

#[test]
fn a_hold_is_only_ended_or_changed_as_what_it_is() {
    let mut pool = cyclic("2001:db8::1", "2001:db8::4", &[]);
    let one = address("2001:db8::1");
    assert!(!pool.free(one, Hold::Lease), "not held");
    assert!(pool.hold(one, Hold::Offer));
    assert!(!pool.hold(one, Hold::Lease), "held");
    assert!(!pool.free(one, Hold::Lease), "offered");
    assert_eq!(pool.counts(), PoolCounts { idle: 4, ..PoolCounts::default() }, "an offer is idle");
    assert!(pool.free(one, Hold::Offer) && pool.hold(one, Hold::Lease));
    assert_eq!(pool.counts(), PoolCounts { idle: 3, used: 1, ..PoolCounts::default() });
    assert!(pool.free(one, Hold::Lease) && pool.hold(one, Hold::Conflict));
    assert_eq!(pool.counts(), PoolCounts { idle: 3, conflict: 1, ..PoolCounts::default() });
    assert!(pool.free(one, Hold::Conflict));
    assert!(pool.is_free(one));
}

#[test]
fn a_reserved_address_is_its_owners_alone() {
    let mut pool = cyclic("2001:db8::1", "2001:db8::3", &[]);
    let two = address("2001:db8::2");
    assert!(!pool.hold_reserved(two, Hold::Lease), "not reserved yet");
    assert!(pool.reserve(two) && !pool.reserve(two));
    assert!(!pool.hold(two, Hold::Lease), "matrix row S-18");
    let aside = PoolCounts { idle: 2, excluded: 1, ..PoolCounts::default() };
    assert_eq!(pool.counts(), aside);
    assert!(pool.hold_reserved(two, Hold::Offer) && !pool.hold_reserved(two, Hold::Lease));
    assert_eq!(pool.counts(), aside, "an offer changes nothing");
    assert!(pool.free(two, Hold::Offer) && pool.hold_reserved(two, Hold::Lease));
    assert_eq!(pool.counts(), PoolCounts { idle: 2, used: 1, ..PoolCounts::default() });
    assert!(pool.free(two, Hold::Lease));
    assert_eq!(pool.counts(), aside, "set aside again");
}

#[test]
fn a_reservation_of_a_leased_address_waits() {
    let mut pool = cyclic("2001:db8::1", "2001:db8::3", &[]);
    let two = address("2001:db8::2");
    assert!(pool.hold(two, Hold::Lease));
    assert!(pool.reserve(two));
    assert!(!pool.hold_reserved(two, Hold::Lease), "somebody else still has it");
    assert_eq!(pool.hold_of(two), Some(Hold::Lease));
    assert!(pool.free(two, Hold::Lease));
    assert!(!pool.is_free(two) && pool.hold_reserved(two, Hold::Lease));
}

#[test]
fn a_pool_of_prefixes_gives_out_prefixes_of_one_length() {
    let exclude = ["2001:db8:0:10::7", "2001:db8:0:32::-2001:db8:0:48::", "2001:db9::"]
        .map(|text| text.parse::<AddressRange>().unwrap());
    let (whole, cyclic) = (prefix("2001:db8::/56"), Allocation::Cyclic);
    let mut pool = ResourcePool::of_prefixes(whole, 60, &exclude, cyclic);
    assert_eq!(pool.counts(), PoolCounts { idle: 13, excluded: 3, ..PoolCounts::default() });
    assert_eq!((pool.range(), pool.length()), (whole.range(), 60));
    let found = drain(&mut pool);
    assert_eq!(found.len(), 13);
    assert_eq!(found[..3], ["2001:db8::/60", "2001:db8:0:20::/60", "2001:db8:0:50::/60"].map(address));
    assert_eq!(found[12], address("2001:db8:0:f0::/60"));
    for other in ["2001:db8::/61", "2001:db8::/59", "2001:db8::", "2001:db8:0:10::/60", "2001:db8:0:100::/60"]
    {
        assert!(!pool.is_assignable(address(other)), "{other}");
    }
}

#[test]
fn a_pool_may_be_one_prefix_or_more_than_can_be_counted() {
    for (text, length, idle) in
        [("2001:db8::/56", 56, 1), ("::/0", 1, 2), ("::/0", 127, 1 << 127), ("2001:db8::/32", 64, 1 << 32)]
    {
        for allocation in [Allocation::Cyclic, Allocation::Random] {
            let mut pool = ResourcePool::of_prefixes(prefix(text), length, &[], allocation);
            assert_eq!(pool.counts().idle, idle, "{text}");
            let found = next(&mut pool, &mut rng()).unwrap();
            assert!(pool.hold(found, Hold::Lease) && pool.free(found, Hold::Lease), "{text}");
        }
    }
}

#[test]
fn what_is_in_the_way_is_passed_over() {
    // A lease from the time when the pool gave out longer prefixes, and one from when it gave out shorter ones.
    let obstacles = ["2001:db8:0:4::/62", "2001:db8:0:20::/59"].map(|text| prefix(text).range());
    let in_the_way = |range: AddressRange| {
        obstacles.iter().filter(|other| other.overlaps(&range)).map(AddressRange::last).max()
    };
    for allocation in [Allocation::Cyclic, Allocation::Random] {
        let mut pool = ResourcePool::of_prefixes(prefix("2001:db8::/56"), 60, &[], allocation);
        let mut found = BTreeSet::new();
        while let Some(free) = pool.next_free(&mut rng(), in_the_way) {
            assert!(pool.hold(free, Hold::Lease) && in_the_way(free.range()).is_none());
            found.insert(free);
        }
        assert_eq!(found.len(), 13);
    }
}

/// A pool of a few addresses around the subnet anycast block, and what a test does to one of them.
#[derive(Clone, Copy, Debug)]
enum Operation {
    Hold(Hold),
    HoldReserved(Hold),
    Free(Hold),
    Reserve,
    Next,
}

const BASE: u128 = 0x2001_0db8_0000_0000_fdff_ffff_ffff_ff60;
const SIZE: u128 = 48;

/// 32 addresses before the reserved block and 16 in it.
fn any_address() -> impl Strategy<Value = u128> {
    BASE..BASE + SIZE
}

fn any_range() -> impl Strategy<Value = AddressRange> {
    (any_address(), any_address()).prop_map(|(a, b)| AddressRange { first: a.min(b), last: a.max(b) })
}

fn any_hold() -> impl Strategy<Value = Hold> {
    prop::sample::select(vec![Hold::Offer, Hold::Lease, Hold::Conflict])
}

fn any_operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        any_hold().prop_map(Operation::Hold),
        any_hold().prop_map(Operation::HoldReserved),
        any_hold().prop_map(Operation::Free),
        Just(Operation::Reserve),
        Just(Operation::Next),
        Just(Operation::Next),
    ]
}

proptest! {
    #[test]
    fn behaves_like_a_table_of_addresses(
        range in any_range(),
        exclude in prop::collection::vec(any_range(), 0..2),
        allocation in prop::sample::select(vec![Allocation::Cyclic, Allocation::Random]),
        operations in prop::collection::vec((any_operation(), any_address()), 0..150),
    ) {
        let mut rng = rng();
        let mut pool = ResourcePool::of_addresses(range, &exclude, allocation);
        let size = range.last - range.first + 1;
        // The model: reservation and hold of each assignable address.
        let mut model: BTreeMap<Resource, (bool, Option<Hold>)> = (range.first..=range.last)
            .map(Ipv6Addr::from)
            .filter(|address| !exclude.iter().any(|range| range.contains(*address)))
            .filter(|address| address.octets()[15] < 0x80)
            .map(|address| (address.into(), (false, None)))
            .collect();
        for (operation, value) in operations {
            let address = Resource::from(Ipv6Addr::from(value));
            let entry = model.get_mut(&address);
            let (done, expected) = match operation {
                Operation::Hold(hold) => (
                    pool.hold(address, hold),
                    entry.filter(|entry| **entry == (false, None)).map(|entry| entry.1 = Some(hold)),
                ),
                Operation::HoldReserved(hold) => (
                    pool.hold_reserved(address, hold),
                    entry.filter(|entry| **entry == (true, None)).map(|entry| entry.1 = Some(hold)),
                ),
                Operation::Free(hold) => (
                    pool.free(address, hold),
                    entry.filter(|entry| entry.1 == Some(hold)).map(|entry| entry.1 = None),
                ),
                Operation::Reserve => {
                    (pool.reserve(address), entry.filter(|entry| !entry.0).map(|entry| entry.0 = true))
                }
                Operation::Next => {
                    let found = next(&mut pool, &mut rng);
                    let any_free = model.values().any(|entry| *entry == (false, None));
                    prop_assert_eq!(found.is_some(), any_free);
                    if let Some(found) = found {
                        prop_assert_eq!(model.insert(found, (false, Some(Hold::Lease))), Some((false, None)));
                        prop_assert!(pool.hold(found, Hold::Lease));
                    }
                    (true, Some(()))
                }
            };
            prop_assert_eq!(done, expected.is_some(), "{:?} of {}", operation, address);

            let counts = pool.counts();
            let total = counts.idle + counts.excluded + u128::from(counts.used) + u128::from(counts.conflict);
            prop_assert_eq!(total, size);
            let with = |hold| model.values().filter(|entry| entry.1 == Some(hold)).count() as u64;
            prop_assert_eq!((counts.used, counts.conflict), (with(Hold::Lease), with(Hold::Conflict)));
            let idle = |entry: &(bool, Option<Hold>)| {
                !entry.0 && matches!(entry.1, None | Some(Hold::Offer))
            };
            let listed: Vec<_> = pool.idle().collect();
            let expected: Vec<_> =
                model.iter().filter(|(_, entry)| idle(entry)).map(|(address, _)| *address).collect();
            prop_assert_eq!(listed, expected);
            prop_assert_eq!(counts.idle, model.values().filter(|entry| idle(entry)).count() as u128);
            prop_assert_eq!(pool.is_free(address), model.get(&address) == Some(&(false, None)));
            prop_assert_eq!(pool.hold_of(address), model.get(&address).and_then(|entry| entry.1));
            prop_assert_eq!(pool.is_assignable(address), model.contains_key(&address));
        }
    }

    #[test]
    fn a_cyclic_round_visits_every_free_address_once(
        range in any_range(),
        exclude in prop::collection::vec(any_range(), 0..2),
        held in prop::collection::vec(any_address(), 0..20),
        skipped in 0..60usize,
    ) {
        let mut rng = rng();
        let mut pool = ResourcePool::of_addresses(range, &exclude, Allocation::Cyclic);
        for value in held {
            pool.hold(Ipv6Addr::from(value).into(), Hold::Lease);
        }
        for _ in 0..skipped {
            next(&mut pool, &mut rng);
        }
        let free: Vec<_> = pool.idle().collect();
        let round: Vec<_> = free.iter().filter_map(|_| next(&mut pool, &mut rng)).collect();
        let start = free.iter().position(|address| Some(address) == round.first()).unwrap_or(0);
        prop_assert_eq!(round, [&free[start..], &free[..start]].concat());
    }
}
