//! Whatever relay agents send is answered in their own terms, or changes nothing.

#![no_main]

use dhcp6_fuzz::{mend, relayed};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|octets: &[u8]| {
    relayed(octets);
    relayed(&mend(octets));
});
