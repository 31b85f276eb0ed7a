//! What sockets, and above all those that see frames (packet(7)), have in common, and socket2 and nix do not offer.

use std::{ffi::c_int, io, mem, os::fd::AsRawFd as _};

use bytemuck::Pod;
use nix::{
    libc,
    sys::socket::{
        setsockopt,
        sockopt::{RcvBufForce, SndBufForce},
    },
};
use socket2::{SockFilter, Socket};

/// Codes of classic BPF, as in linux/filter.h.
pub(crate) mod filter {
    use nix::libc;

    pub(crate) const LOAD_WORD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    pub(crate) const LOAD_HALF: u32 = libc::BPF_LD | libc::BPF_H | libc::BPF_ABS;
    pub(crate) const LOAD_OCTET: u32 = libc::BPF_LD | libc::BPF_B | libc::BPF_ABS;
    pub(crate) const IF_EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    pub(crate) const RETURN: u32 = libc::BPF_RET | libc::BPF_K;
}

/// A step of a filter; `equal` and `other` say how many steps to skip where the operand is equal, and where it is
/// not.
pub(crate) fn step(code: u32, equal: u8, other: u8, operand: u32) -> SockFilter {
    SockFilter::new(code as u16, equal, other, operand)
}

/// Makes room for so many octets that wait to be received: with CAP_NET_ADMIN beyond net.core.rmem_max, without it up to
/// there.
pub(crate) fn size_receive_buffer(socket: &Socket, octets: usize) -> io::Result<()> {
    setsockopt(socket, RcvBufForce, &octets).or_else(|_| socket.set_recv_buffer_size(octets))
}

/// The same for what waits to be sent, and net.core.wmem_max.
pub(crate) fn size_send_buffer(socket: &Socket, octets: usize) -> io::Result<()> {
    setsockopt(socket, SndBufForce, &octets).or_else(|_| socket.set_send_buffer_size(octets))
}

/// Sets an option of packet sockets.
pub(crate) fn set_option<T: Copy>(socket: &Socket, name: c_int, value: &T) -> io::Result<()> {
    set_option_of(socket, libc::SOL_PACKET, name, value)
}

/// Sets an option of any socket.
#[expect(unsafe_code, reason = "neither socket2 nor nix knows the options that this is for")]
pub(super) fn set_option_of<T: Copy>(
    socket: &Socket,
    level: c_int,
    name: c_int,
    value: &T,
) -> io::Result<()> {
    // SAFETY: the kernel reads `size_of::<T>()` octets from a live reference and keeps none of them.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    nix::Error::result(result)?;
    Ok(())
}

/// Has a socket receive the frames of a protocol on an interface.
#[expect(unsafe_code, reason = "neither socket2 nor nix makes a sockaddr_ll from its parts")]
pub(crate) fn bind(socket: &Socket, index: u32, protocol: u16) -> io::Result<()> {
    // SAFETY: all fields are integers, for which zero is a value.
    let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol.to_be();
    address.sll_ifindex = index.cast_signed();
    // SAFETY: the kernel reads a whole sockaddr_ll from a live reference and keeps none of it.
    let result = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    };
    nix::Error::result(result)?;
    Ok(())
}

/// The index of the interface, and the protocol, whose frames a socket receives.
#[expect(unsafe_code, reason = "nix does not take the short addresses that packet sockets have here")]
pub(crate) fn bound_to(socket: &Socket) -> io::Result<(i32, u16)> {
    // SAFETY: all fields are integers, for which zero is a value.
    let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
    let mut len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` octets to a live, exclusive reference of that size, and any octets
    // are values of its fields.
    let result = unsafe { libc::getsockname(socket.as_raw_fd(), (&raw mut address).cast(), &raw mut len) };
    nix::Error::result(result)?;
    Ok((address.sll_ifindex, u16::from_be(address.sll_protocol)))
}

/// Frames that were dropped at a packet socket since this was called last.
pub(crate) fn drops(socket: &Socket) -> io::Result<u32> {
    // A `tpacket_stats`: what has arrived, and what was dropped.
    let [_, drops]: [u32; 2] = option(socket, libc::SOL_PACKET, libc::PACKET_STATISTICS)?;
    Ok(drops)
}

/// The value of an option of any socket.
#[expect(unsafe_code, reason = "neither socket2 nor nix knows the options that this is for")]
pub(super) fn option<T: Pod>(socket: &Socket, level: c_int, name: c_int) -> io::Result<T> {
    let mut value = T::zeroed();
    let mut len = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` octets to a live, exclusive reference of that size, and any octets
    // are a value of the type.
    let result =
        unsafe { libc::getsockopt(socket.as_raw_fd(), level, name, (&raw mut value).cast(), &raw mut len) };
    nix::Error::result(result)?;
    Ok(value)
}
