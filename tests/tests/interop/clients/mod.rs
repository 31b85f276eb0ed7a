//! The clients, one file each.

pub(crate) mod dhclient;
pub(crate) mod dhcp6c;
pub(crate) mod dhcpcd;
pub(crate) mod dibbler;
pub(crate) mod networkd;

use crate::client::Client;

/// All of them, in the order of the table.
pub(crate) const ALL: [&Client; 5] =
    [&dhclient::CLIENT, &dhcpcd::CLIENT, &dhcp6c::CLIENT, &dibbler::CLIENT, &networkd::CLIENT];
