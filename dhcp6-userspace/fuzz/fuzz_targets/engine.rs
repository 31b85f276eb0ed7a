//! The invariants of the design hold whatever clients send, whenever the store fails and the daemon restarts.

#![no_main]

use dhcp6_fuzz::{Scenario, run};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|scenario: Scenario| run(scenario));
