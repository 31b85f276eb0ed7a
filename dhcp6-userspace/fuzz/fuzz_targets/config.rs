//! Any text is a configuration or a list of mistakes, each with its line.

#![no_main]

use dhcp6_userspace::{
    config::{Config, Lifetimes, LinkConfig, PdExclude, PrefixPoolConfig, ReservationConfig},
    pool::AddressRange,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match Config::parse(text, "fuzz.toml") {
        Ok(config) => {
            assert!(!config.links.is_empty(), "a configuration without a link");
            config.links.iter().for_each(check_link);
        }
        Err(errors) => {
            let lines = text.split('\n').count();
            let mut last = 1;
            for error in &errors {
                let line = error.line.expect("a text has lines");
                assert!((last..=lines).contains(&line), "{error}, of {lines} lines");
                assert!(!error.message.is_empty() && error.file == "fuzz.toml", "{error:?}");
                last = line;
            }
            assert!(errors.iter().next().is_some(), "refused without a mistake");
        }
    }
});

/// What the types of the configuration promise in their documentation.
fn check_link(link: &LinkConfig) {
    let Lifetimes { preferred, valid, t1, t2 } = link.lifetimes;
    assert!(1 <= preferred && t1 <= t2 && t2 <= preferred && preferred <= valid, "{:?}", link.lifetimes);
    let reserved: Vec<(usize, AddressRange)> =
        link.reservations.iter().enumerate().flat_map(reserved_ranges).collect();
    for (index, reservation) in link.reservations.iter().enumerate() {
        assert!(reservation.address.is_none_or(|address| link.prefix.contains(address)), "{reservation:?}");
        let prefix = reservation.prefix.map(|prefix| prefix.range());
        assert!(prefix.is_none_or(|prefix| !link.prefix.overlaps(&prefix)), "{reservation:?}");
        for other in &link.reservations[..index] {
            assert!(other.client != reservation.client || other.iaid != reservation.iaid, "{reservation:?}");
        }
        check_pd_exclude(reservation.pd_exclude, reservation.prefix.map_or(128, |prefix| prefix.length()));
    }
    for (index, (owner, range)) in reserved.iter().enumerate() {
        let apart = |(_, other): &(usize, AddressRange)| !other.overlaps(range);
        assert!(reserved[..index].iter().all(apart), "{:?}", link.reservations[*owner]);
    }
    for (index, pool) in link.pools.iter().enumerate() {
        assert!(link.pools[..index].iter().all(|other| !other.range.overlaps(&pool.range)), "{pool:?}");
    }
    for (index, pool) in link.prefix_pools.iter().enumerate() {
        let range = pool.prefix.range();
        assert!((pool.prefix.length()..=127).contains(&pool.delegated_length), "{pool:?}");
        assert!(!link.prefix.overlaps(&range), "{pool:?}");
        let apart = |other: &PrefixPoolConfig| !other.prefix.range().overlaps(&range);
        assert!(link.prefix_pools[..index].iter().all(apart), "{pool:?}");
        check_pd_exclude(pool.pd_exclude, pool.delegated_length);
    }
    for option in &link.options {
        assert!(u16::try_from(option.value.len()).is_ok(), "{:?}", option.code);
    }
}

/// What a reservation holds, each with its index.
fn reserved_ranges(
    (index, reservation): (usize, &ReservationConfig),
) -> impl Iterator<Item = (usize, AddressRange)> {
    let address = reservation.address.map(AddressRange::of);
    address
        .into_iter()
        .chain(reservation.prefix.map(|prefix| prefix.range()))
        .map(move |range| (index, range))
}

/// Only bits behind a delegated prefix of this length are set.
fn check_pd_exclude(pd_exclude: Option<PdExclude>, delegated: u8) {
    let Some(PdExclude { length, subnet }) = pd_exclude else { return };
    assert!(delegated < length && length <= 128, "{pd_exclude:?} of /{delegated}");
    let ones = |length: u8| u128::MAX.checked_shr(length.into()).unwrap_or(0);
    assert_eq!(subnet & !(ones(delegated) & !ones(length)), 0, "{pd_exclude:?} of /{delegated}");
}
