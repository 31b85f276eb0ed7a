//! What the XDP program and the daemon have to agree on.
//!
//! [`wire`] is the DHCPv6 message format: codes, a bounds-checked option walker that reads both packet
//! memory in the kernel and byte slices in the daemon, and checksum arithmetic. [`contract`] is the layout
//! of the BPF maps. [`Reason`] names the counter in which each frame ends. [`Origin`] is what keeps clients with
//! the same DUID apart. [`flood`] is what the load generator has of both.
//!
//! Nothing here allocates, and nothing here needs the standard library.

#![no_std]

#[cfg(test)]
extern crate std;

pub mod contract;
pub mod flood;
mod origin;
mod reason;
pub mod wire;

pub use origin::{Origin, Vlan};
pub use reason::{Reason, Verdict};
