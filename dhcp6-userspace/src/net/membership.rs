//! Frames that an interface takes in while no socket asks for them.

use std::{io, os::fd::AsRawFd as _};

use dhcp6_common::wire::ALL_RELAY_AGENTS_AND_SERVERS;
use nix::libc;
use socket2::{Domain, Socket, Type};

use super::Interface;

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

#[expect(unsafe_code, reason = "nix has no such request")]
fn change(interface: &Interface, request: libc::c_ulong) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV6, Type::DGRAM.cloexec(), None)?;
    // SAFETY: all fields are integers or unions of integers and one pointer, for which zero is a value.
    let mut request_data: libc::ifreq = unsafe { std::mem::zeroed() };
    let name = interface.name.as_bytes();
    if name.len() >= request_data.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (place, octet) in request_data.ifr_name.iter_mut().zip(name) {
        *place = octet.cast_signed();
    }
    // RFC 2464, section 7: 33:33 and the last four octets of the group.
    let group = ALL_RELAY_AGENTS_AND_SERVERS;
    let mac = [0x33, 0x33, group[12], group[13], group[14], group[15]];
    let mut address = libc::sockaddr { sa_family: libc::AF_UNSPEC as u16, sa_data: [0; 14] };
    for (place, octet) in address.sa_data.iter_mut().zip(mac) {
        *place = octet.cast_signed();
    }
    request_data.ifr_ifru.ifru_hwaddr = address;
    // SAFETY: the kernel reads an ifreq from a live reference and keeps none of it.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), request as _, &raw const request_data) };
    nix::Error::result(result)?;
    Ok(())
}
