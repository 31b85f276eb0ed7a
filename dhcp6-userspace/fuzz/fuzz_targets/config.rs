//! Any text is a configuration or a list of mistakes, each with its line.

#![no_main]

use dhcp6_userspace::config::{Config, Lifetimes, LinkConfig};
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
    for (index, reservation) in link.reservations.iter().enumerate() {
        assert!(link.prefix.contains(reservation.address), "{reservation:?}");
        for other in &link.reservations[..index] {
            assert_ne!(other.address, reservation.address);
            assert!(other.duid != reservation.duid || other.iaid != reservation.iaid, "{reservation:?}");
        }
    }
    for (index, pool) in link.pools.iter().enumerate() {
        assert!(link.pools[..index].iter().all(|other| !other.range.overlaps(&pool.range)), "{pool:?}");
    }
    for option in &link.options {
        assert!(u16::try_from(option.value.len()).is_ok(), "{:?}", option.code);
    }
}
