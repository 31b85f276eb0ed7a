//! What the tests of several modules store.

use std::net::Ipv6Addr;

use dhcp6_common::{Origin, wire::Duid};

use super::{Change, Lease, LeaseState};
use crate::time::Time;

/// A lease of an address that ends in `last`, to a client of that number.
pub(super) fn put_lease(last: u16) -> Change {
    Change::PutLease(Lease {
        resource: Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last).into(),
        link: "access0".into(),
        origin: Origin::ANY,
        duid: Duid::new(&last.to_be_bytes()).expect("2 octets are a DUID"),
        iaid: 1,
        state: LeaseState::Bound,
        preferred_until: Time::EPOCH,
        valid_until: Time::EPOCH,
        expires_at: Time::NEVER,
    })
}
