//! Interface identifiers that no client may be given.
//!
//! RFC 9915, section 13.1: a server must not assign an address with an interface identifier that RFC 5453 and
//! the IANA registry "Reserved IPv6 Interface Identifiers" reserve. Every /64 has the same ones, so they are
//! told by a predicate and counted in closed form, never listed.

/// First and last interface identifier of each reserved block, ascending.
const BLOCKS: [(u64, u64); 3] = [
    // Subnet-router anycast (RFC 4291, section 2.6.1).
    (0, 0),
    // From the IANA Ethernet block, with the one of Proxy Mobile IPv6 (RFC 6543) among them.
    (0x0200_5eff_fe00_0000, 0x0200_5eff_feff_ffff),
    // Subnet anycast (RFC 2526).
    (0xfdff_ffff_ffff_ff80, 0xfdff_ffff_ffff_ffff),
];

/// The last address of the reserved block that `address` lies in; `None` where its interface identifier is not
/// reserved.
///
/// The address behind a block is never reserved.
pub(super) fn end_of_reserved_block(address: u128) -> Option<u128> {
    let iid = address as u64;
    let &(_, last) = BLOCKS.iter().find(|(first, last)| (*first..=*last).contains(&iid))?;
    Some(address - u128::from(iid) + u128::from(last))
}

/// Number of addresses in `first..=last` with a reserved interface identifier.
pub(super) fn reserved_between(first: u128, last: u128) -> u128 {
    reserved_before(last) + u128::from(end_of_reserved_block(last).is_some()) - reserved_before(first)
}

/// Number of addresses below `address` with a reserved interface identifier.
fn reserved_before(address: u128) -> u128 {
    let (subnets, iid) = (address >> 64, address as u64);
    let in_subnet: u64 = BLOCKS.iter().map(|(first, last)| last - first + 1).sum();
    let below: u64 =
        BLOCKS.iter().map(|(first, last)| iid.saturating_sub(*first).min(last - first + 1)).sum();
    subnets * u128::from(in_subnet) + u128::from(below)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use proptest::prelude::*;

    use super::{end_of_reserved_block, reserved_between};

    fn number(address: &str) -> u128 {
        address.parse::<Ipv6Addr>().unwrap().into()
    }

    #[test]
    fn reserved_identifiers_are_told_apart_from_their_neighbours() {
        for (address, reserved) in [
            ("2001:db8::", true),
            ("2001:db8::1", false),
            ("2001:db8::200:5eff:fdff:ffff", false),
            ("2001:db8::200:5eff:fe00:0", true),
            ("2001:db8::200:5eff:fe00:5213", true),
            ("2001:db8::200:5eff:feff:ffff", true),
            ("2001:db8::200:5eff:ff00:0", false),
            ("2001:db8::fdff:ffff:ffff:ff7f", false),
            ("2001:db8::fdff:ffff:ffff:ff80", true),
            ("2001:db8::fdff:ffff:ffff:ffff", true),
            ("2001:db8::fe00:0:0:0", false),
            ("2001:db8::ffff:ffff:ffff:ffff", false),
            ("ffff:ffff:ffff:ffff::", true),
        ] {
            assert_eq!(
                end_of_reserved_block(number(address)).is_some(),
                reserved,
                "{address}, matrix row S-13"
            );
        }
    }

    #[test]
    fn whole_networks_are_counted() {
        let per_subnet = 1 + (1 << 24) + 128;
        for (first, last, count) in [
            ("2001:db8::", "2001:db8::ffff:ffff:ffff:ffff", per_subnet),
            ("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", per_subnet << 32),
            ("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", per_subnet << 64),
            ("2001:db8::1", "2001:db8::ffff", 0),
            ("2001:db8::", "2001:db8::", 1),
            ("2001:db8::ffff:ffff:ffff:ffff", "2001:db8:0:1::", 1),
        ] {
            assert_eq!(reserved_between(number(first), number(last)), count, "{first}-{last}");
        }
    }

    proptest! {
        #[test]
        fn the_count_is_that_of_the_predicate(
            edge in prop::sample::select(vec![0u64, 0x0200_5eff_fe00_0000, 0x0200_5eff_feff_ffff,
                0xfdff_ffff_ffff_ff80, 0xfdff_ffff_ffff_ffff, u64::MAX]),
            (back, ahead) in (0..300u128, 0..300u128),
        ) {
            let edge = (0x2001_0db8 << 96) + u128::from(edge);
            let (first, last) = (edge - back, edge + ahead);
            let counted = (first..=last).filter(|&value| end_of_reserved_block(value).is_some()).count();
            prop_assert_eq!(reserved_between(first, last), counted as u128);
        }
    }
}
