//! Addresses, prefixes and their state; nothing of clients and messages.

mod interval_set;
mod reserved_iid;
mod resource;
mod resource_pool;

use std::{fmt, net::Ipv6Addr, str::FromStr};

pub use interval_set::IntervalSet;
pub use resource::{IaKind, Prefix, Resource};
pub use resource_pool::{Hold, PoolCounts, ResourcePool};

/// A range of addresses, both ends included; never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AddressRange {
    first: u128,
    last: u128,
}

/// In which order free addresses and prefixes are given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocation {
    /// Ascending, from the one behind that given out last, and around.
    Cyclic,
    /// Unpredictable.
    Random,
}

impl AddressRange {
    /// The range from `first` to `last`; `None` where it is empty.
    pub fn new(first: Ipv6Addr, last: Ipv6Addr) -> Option<Self> {
        (first <= last).then_some(Self { first: first.into(), last: last.into() })
    }

    /// The range of one address.
    pub fn of(address: Ipv6Addr) -> Self {
        Self { first: address.into(), last: address.into() }
    }

    /// The addresses of the prefix `address/length`.
    ///
    /// # Errors
    ///
    /// [`AddressRangeError::Length`] above 128, [`AddressRangeError::HostBits`] where `address` is not the
    /// prefix's first.
    pub fn from_prefix(address: Ipv6Addr, length: u8) -> Result<Self, AddressRangeError> {
        if length > 128 {
            return Err(AddressRangeError::Length);
        }
        let host_mask = u128::MAX.checked_shr(length.into()).unwrap_or(0);
        let first = u128::from(address);
        if first & host_mask != 0 {
            return Err(AddressRangeError::HostBits { right: (first & !host_mask).into(), length });
        }
        Ok(Self { first, last: first | host_mask })
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

    /// Whether all addresses of `other` lie in the range.
    pub fn covers(&self, other: &Self) -> bool {
        self.first <= other.first && other.last <= self.last
    }

    /// Whether the two have an address in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

/// Why a text is not an [`AddressRange`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressRangeError {
    /// A part that should be an address is none.
    #[error("`{0}` is not an IPv6 address")]
    Address(String),
    /// What follows the slash is not a prefix length.
    #[error("a prefix length is a number from 0 to 128")]
    Length,
    /// The address in front of the slash is not the first of the prefix.
    #[error("the prefix has host bits set; write {right}/{length}")]
    HostBits {
        /// The first address of the prefix.
        right: Ipv6Addr,
        /// The prefix length.
        length: u8,
    },
    /// The range ends before it begins.
    #[error("the range ends before it begins")]
    Reversed,
}

/// `2001:db8::/64`, `2001:db8::1-2001:db8::ff`, or one address.
impl FromStr for AddressRange {
    type Err = AddressRangeError;

    fn from_str(text: &str) -> Result<Self, AddressRangeError> {
        let address = |text: &str| {
            let text = text.trim();
            text.parse::<Ipv6Addr>().map_err(|_| AddressRangeError::Address(text.to_owned()))
        };
        if let Some((prefix, length)) = text.split_once('/') {
            let length = length.trim();
            let digits = !length.is_empty() && length.bytes().all(|octet| octet.is_ascii_digit());
            let length = length.parse().ok().filter(|_| digits).ok_or(AddressRangeError::Length)?;
            Self::from_prefix(address(prefix)?, length)
        } else if let Some((first, last)) = text.split_once('-') {
            Self::new(address(first)?, address(last)?).ok_or(AddressRangeError::Reversed)
        } else {
            address(text).map(Self::of)
        }
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first(), self.last())
    }
}

#[cfg(test)]
mod tests {
    use super::{AddressRange, AddressRangeError};

    #[test]
    fn ranges_are_read_in_three_forms() {
        for (text, range) in [
            ("2001:db8::/64", "2001:db8::-2001:db8::ffff:ffff:ffff:ffff"),
            ("2001:db8::1-2001:db8::ff", "2001:db8::1-2001:db8::ff"),
            ("2001:db8::1 - 2001:db8::1", "2001:db8::1-2001:db8::1"),
            ("2001:db8::5", "2001:db8::5-2001:db8::5"),
            ("2001:db8::5/128", "2001:db8::5-2001:db8::5"),
            ("::/0", "::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ] {
            assert_eq!(text.parse::<AddressRange>().unwrap().to_string(), range, "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        let address = |text: &str| AddressRangeError::Address(text.to_owned());
        for (text, error) in [
            ("", address("")),
            ("192.0.2.1", address("192.0.2.1")),
            ("2001:db8::1-", address("")),
            ("2001:db8::1-2-3", address("2-3")),
            ("2001:db8::/", AddressRangeError::Length),
            ("2001:db8::/129", AddressRangeError::Length),
            ("2001:db8::/+64", AddressRangeError::Length),
            ("2001:db8::2-2001:db8::1", AddressRangeError::Reversed),
            (
                "2001:db8::1/64",
                AddressRangeError::HostBits { right: "2001:db8::".parse().unwrap(), length: 64 },
            ),
        ] {
            assert_eq!(text.parse::<AddressRange>(), Err(error), "{text}");
        }
    }
}
