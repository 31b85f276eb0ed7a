//! Addresses and their state; nothing of clients and messages.

use std::{fmt, net::Ipv6Addr};

/// A range of addresses, both ends included; never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AddressRange {
    first: u128,
    last: u128,
}

/// In which order free addresses are given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocation {
    /// Ascending, from the address behind the one given out last, and around.
    Cyclic,
    /// Unpredictable.
    Random,
}

impl AddressRange {
    /// The range from `first` to `last`; `None` where it is empty.
    pub fn new(first: Ipv6Addr, last: Ipv6Addr) -> Option<Self> {
        (first <= last).then_some(Self { first: first.into(), last: last.into() })
    }

    /// The first address.
    pub fn first(&self) -> Ipv6Addr {
        self.first.into()
    }

    /// The last address.
    pub fn last(&self) -> Ipv6Addr {
        self.last.into()
    }

    /// Whether `address` lies in the range.
    pub fn contains(&self, address: Ipv6Addr) -> bool {
        (self.first..=self.last).contains(&address.into())
    }

    /// Whether the two have an address in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first(), self.last())
    }
}
