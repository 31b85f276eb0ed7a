//! Requests to the driver of an interface (netdevice(7)) that socket2 and nix do not offer.

use std::{io, os::fd::AsRawFd as _};

use nix::libc;
use socket2::{Domain, Socket, Type};

/// Asks about an interface of this thread's network namespace. `fill` writes the request's argument.
///
/// # Errors
///
/// The kernel's.
#[expect(unsafe_code, reason = "nix has no such requests")]
pub(super) fn request(
    interface: &str,
    code: libc::c_ulong,
    fill: impl FnOnce(&mut libc::ifreq),
) -> io::Result<libc::ifreq> {
    let socket = Socket::new(Domain::IPV6, Type::DGRAM.cloexec(), None)?;
    // SAFETY: all fields are integers or unions of integers and one pointer, for which zero is a value.
    let mut data: libc::ifreq = unsafe { std::mem::zeroed() };
    let name = interface.as_bytes();
    if name.len() >= data.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (place, octet) in data.ifr_name.iter_mut().zip(name) {
        *place = octet.cast_signed();
    }
    fill(&mut data);
    // SAFETY: the kernel reads and writes an ifreq of a live, exclusive reference and keeps none of it; what it points
    // to is the caller's.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), code as _, &raw mut data) };
    nix::Error::result(result)?;
    Ok(data)
}

/// The MTU of an interface, in octets: what a frame can carry behind its Ethernet header.
///
/// # Errors
///
/// The kernel's.
#[expect(unsafe_code, reason = "the field of a union")]
pub(super) fn mtu(interface: &str) -> io::Result<usize> {
    let answer = request(interface, libc::SIOCGIFMTU, |_| {})?;
    // SAFETY: any octets are a value of it, and it is what the kernel has written.
    let mtu = unsafe { answer.ifr_ifru.ifru_mtu };
    usize::try_from(mtu).map_err(io::Error::other)
}
