//! Frames that an interface takes in while no socket asks for them.

use std::io;

use dhcp6_common::wire::ALL_RELAY_AGENTS_AND_SERVERS as GROUP;
use nix::libc;

use super::{Interface, request::request};

/// The MAC address of ff02::1:2: 33:33 and the last four octets of the group (RFC 2464, section 7).
pub(super) const GROUP_MAC: [u8; 6] = [0x33, 0x33, GROUP[12], GROUP[13], GROUP[14], GROUP[15]];

/// Has an interface receive what clients send to ff02::1:2 at any time, also while no socket is a member of the group:
/// an XDP program sees no more than the interface takes in. It stays so until [`release_group`].
///
/// # Errors
///
/// The kernel's, for one without CAP_NET_ADMIN.
pub fn hold_group(interface: &Interface) -> io::Result<()> {
    change(interface, libc::SIOCADDMULTI)
}

/// Ends [`hold_group`].
///
/// # Errors
///
/// The kernel's, for one where it does not hold.
pub fn release_group(interface: &Interface) -> io::Result<()> {
    change(interface, libc::SIOCDELMULTI)
}

fn change(interface: &Interface, code: libc::c_ulong) -> io::Result<()> {
    let mut address = libc::sockaddr { sa_family: libc::AF_UNSPEC as u16, sa_data: [0; 14] };
    for (place, octet) in address.sa_data.iter_mut().zip(GROUP_MAC) {
        *place = octet.cast_signed();
    }
    request(&interface.name, code, |data| data.ifr_ifru.ifru_hwaddr = address).map(drop)
}
