//! What a lease is about: an address or a delegated prefix.

use std::{cmp::Ordering, fmt, net::Ipv6Addr, str::FromStr};

use super::{AddressRange, AddressRangeError};

/// A prefix: its first address, host bits zero, and its length in bits, 0 to 128.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix {
    first: Ipv6Addr,
    length: u8,
}

impl Prefix {
    /// The prefix `address/length`.
    ///
    /// # Errors
    ///
    /// [`AddressRangeError::Length`] above 128, [`AddressRangeError::HostBits`] where `address` is not the
    /// prefix's first.
    pub fn new(address: Ipv6Addr, length: u8) -> Result<Self, AddressRangeError> {
        AddressRange::from_prefix(address, length)?;
        Ok(Self { first: address, length })
    }

    /// The prefix of `length` bits that `address` lies in; `None` above 128.
    pub fn around(address: Ipv6Addr, length: u8) -> Option<Self> {
        let host_bits = u128::MAX.checked_shr(length.into()).unwrap_or(0);
        (length <= 128).then(|| Self { first: (u128::from(address) & !host_bits).into(), length })
    }

    /// The first address.
    pub fn first(&self) -> Ipv6Addr {
        self.first
    }

    /// The length in bits.
    pub fn length(&self) -> u8 {
        self.length
    }

    /// All addresses of the prefix.
    pub fn range(&self) -> AddressRange {
        let host_bits = u128::MAX.checked_shr(self.length.into()).unwrap_or(0);
        AddressRange { first: self.first.into(), last: u128::from(self.first) | host_bits }
    }
}

/// `2001:db8::/56`
impl FromStr for Prefix {
    type Err = AddressRangeError;

    fn from_str(text: &str) -> Result<Self, AddressRangeError> {
        let (address, length) = text.split_once('/').ok_or(AddressRangeError::Length)?;
        let range: AddressRange = text.parse()?;
        debug_assert_eq!(address.trim().parse(), Ok(range.first()));
        Self::new(range.first(), length.trim().parse().map_err(|_| AddressRangeError::Length)?)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.length)
    }
}

/// What a lease is about (RFC 9915, section 4.2). Ordered by first address, then length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Resource {
    /// Of an IA_NA.
    Address(Ipv6Addr),
    /// Of an IA_PD.
    Prefix(Prefix),
}

/// The kind of an identity association: that of its resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum IaKind {
    /// IA_NA: non-temporary addresses.
    Na,
    /// IA_PD: delegated prefixes.
    Pd,
}

impl Resource {
    /// None comes before it.
    pub const LEAST: Self = Self::Prefix(Prefix { first: Ipv6Addr::UNSPECIFIED, length: 0 });
    /// None comes behind it.
    pub const GREATEST: Self = Self::Prefix(Prefix { first: Ipv6Addr::from_bits(u128::MAX), length: 128 });

    /// The kind of IA that holds such a resource.
    pub fn kind(&self) -> IaKind {
        match self {
            Self::Address(_) => IaKind::Na,
            Self::Prefix(_) => IaKind::Pd,
        }
    }

    /// Its prefix length in bits: 128 for an address.
    pub fn length(&self) -> u8 {
        match self {
            Self::Address(_) => 128,
            Self::Prefix(prefix) => prefix.length,
        }
    }

    /// The addresses that belong to it.
    pub fn range(&self) -> AddressRange {
        match self {
            Self::Address(address) => AddressRange::of(*address),
            Self::Prefix(prefix) => prefix.range(),
        }
    }

    /// The address, if it is one.
    pub fn address(&self) -> Option<Ipv6Addr> {
        match self {
            Self::Address(address) => Some(*address),
            Self::Prefix(_) => None,
        }
    }
}

impl IaKind {
    /// Both kinds.
    pub const ALL: [Self; 2] = [Self::Na, Self::Pd];

    /// The name in JSON and in the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::Na => "na",
            Self::Pd => "pd",
        }
    }
}

impl Ord for Resource {
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |resource: &Self| match resource {
            Self::Prefix(prefix) => (prefix.first, prefix.length, IaKind::Pd),
            Self::Address(address) => (*address, 128, IaKind::Na),
        };
        key(self).cmp(&key(other))
    }
}

impl PartialOrd for Resource {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl From<Ipv6Addr> for Resource {
    fn from(address: Ipv6Addr) -> Self {
        Self::Address(address)
    }
}

impl From<Prefix> for Resource {
    fn from(prefix: Prefix) -> Self {
        Self::Prefix(prefix)
    }
}

/// `2001:db8::1` or `2001:db8::/56`.
impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Prefix(prefix) => prefix.fmt(f),
        }
    }
}

/// An address, or a prefix where there is a slash.
impl FromStr for Resource {
    type Err = AddressRangeError;

    fn from_str(text: &str) -> Result<Self, AddressRangeError> {
        if text.contains('/') {
            text.parse().map(Self::Prefix)
        } else {
            let address = text.trim().parse();
            address.map(Self::Address).map_err(|_| AddressRangeError::Address(text.to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Prefix, Resource};
    use crate::pool::AddressRangeError;

    #[test]
    fn prefixes_are_read_and_written() {
        for (text, range) in [
            ("2001:db8::/56", "2001:db8::-2001:db8:0:ff:ffff:ffff:ffff:ffff"),
            ("::/0", "::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("2001:db8::1/128", "2001:db8::1-2001:db8::1"),
        ] {
            let prefix: Prefix = text.parse().unwrap();
            assert_eq!(prefix.to_string(), text);
            assert_eq!(prefix.range().to_string(), range, "{text}");
            assert_eq!(text.parse(), Ok(Resource::Prefix(prefix)));
        }
    }

    #[test]
    fn a_prefix_has_no_host_bits() {
        // Matrix row O-14.
        let right = "2001:db8::".parse().unwrap();
        assert_eq!(
            "2001:db8::1/56".parse::<Prefix>(),
            Err(AddressRangeError::HostBits { right, length: 56 })
        );
        for text in ["2001:db8::/129", "2001:db8::", "2001:db8::/", "2001:db8::/+5"] {
            assert_eq!(text.parse::<Prefix>(), Err(AddressRangeError::Length), "{text}");
        }
    }
}
