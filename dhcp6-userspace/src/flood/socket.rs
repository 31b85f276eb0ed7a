//! A packet socket: whole frames of one interface, to any MAC address.

use std::{
    io::{self, IoSlice},
    os::fd::{AsFd, AsRawFd as _, BorrowedFd},
};

use nix::{libc, sys::socket::MsgFlags};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use super::Frame;
use crate::net::packet::{
    bind, drops,
    filter::{IF_EQUAL, LOAD_HALF, LOAD_OCTET, RETURN},
    set_option, size_receive_buffer, step,
};

/// Asked of the kernel for frames that wait.
const RECEIVE_BUFFER: usize = 64 << 20;
/// struct virtio_net_hdr of linux/virtio_net.h: precedes each frame in either direction.
const VIRTIO_HEADER_LEN: usize = 10;
/// VIRTIO_NET_HDR_F_NEEDS_CSUM, in the header's first octet.
const NEEDS_CHECKSUM: u8 = 1;
/// Longer than any frame without jumbo frames.
const LONGEST: usize = 2048;

/// A packet socket that receives what is for DHCPv6 clients and relay agents, and Neighbor Solicitations.
#[derive(Debug)]
pub(super) struct PacketSocket {
    socket: Socket,
    buffer: Box<[u8; VIRTIO_HEADER_LEN + LONGEST]>,
}

impl PacketSocket {
    /// Opens a socket on an interface and makes the interface take frames for every MAC address as long as the
    /// socket is open. On error: what was being done.
    pub(super) fn open(index: u32) -> Result<Self, (&'static str, io::Error)> {
        let context = |what| move |error| (what, error);
        // Without a protocol it receives nothing until it is bound.
        let kind = Type::RAW.nonblocking().cloexec();
        let socket =
            Socket::new(Domain::PACKET, kind, Some(Protocol::from(0))).map_err(context("open a socket"))?;
        socket.attach_filter(&filter()).map_err(context("filter frames"))?;
        size_receive_buffer(&socket, RECEIVE_BUFFER).map_err(context("size the receive buffer"))?;
        set_option(&socket, libc::PACKET_VNET_HDR, &1_i32)
            .map_err(context("ask for checksum states"))?;
        set_option(&socket, libc::PACKET_IGNORE_OUTGOING, &1_i32)
            .map_err(context("leave out outgoing frames"))?;
        let membership = libc::packet_mreq {
            mr_ifindex: index.cast_signed(),
            mr_type: libc::PACKET_MR_PROMISC as u16,
            mr_alen: 0,
            mr_address: [0; 8],
        };
        set_option(&socket, libc::PACKET_ADD_MEMBERSHIP, &membership)
            .map_err(context("take frames for every MAC address"))?;
        bind(&socket, index, libc::ETH_P_IPV6 as u16).map_err(context("bind"))?;
        Ok(Self { socket, buffer: Box::new([0; VIRTIO_HEADER_LEN + LONGEST]) })
    }

    /// Sends a frame; `WouldBlock` where there is no room for it now.
    pub(super) fn send(&self, frame: &[u8]) -> io::Result<()> {
        let header = [0; VIRTIO_HEADER_LEN];
        self.socket.send_vectored(&[IoSlice::new(&header), IoSlice::new(frame)]).map(drop)
    }

    /// Receives a frame that is waiting; `None` where there is none. One that is too long is cut off.
    pub(super) fn receive(&mut self) -> io::Result<Option<Frame<'_>>> {
        let fd = self.socket.as_raw_fd();
        let len = match nix::sys::socket::recv(fd, &mut self.buffer[..], MsgFlags::MSG_DONTWAIT) {
            Ok(len) => len,
            Err(nix::Error::EAGAIN) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let octets = self.buffer.get(VIRTIO_HEADER_LEN..len).unwrap_or_default();
        Ok(Some(Frame { octets, checksum_offloaded: self.buffer[0] & NEEDS_CHECKSUM != 0 }))
    }

    /// Frames that the kernel has dropped since this was called last, because nobody read them in time.
    pub(super) fn drops(&self) -> io::Result<u64> {
        drops(&self.socket).map(u64::from)
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A packet socket that sends and receives nothing.
#[derive(Debug)]
pub(super) struct SendSocket(Socket);

impl SendSocket {
    /// Opens a socket on an interface. Its frames go to the driver without a queue in between. On error: what was
    /// being done.
    pub(super) fn open(index: u32) -> Result<Self, (&'static str, io::Error)> {
        let context = |what| move |error| (what, error);
        let kind = Type::RAW.nonblocking().cloexec();
        let socket =
            Socket::new(Domain::PACKET, kind, Some(Protocol::from(0))).map_err(context("open a socket"))?;
        set_option(&socket, libc::PACKET_QDISC_BYPASS, &1_i32)
            .map_err(context("bypass the queue of"))?;
        bind(&socket, index, 0).map_err(context("bind"))?;
        Ok(Self(socket))
    }

    /// Sends a frame; `WouldBlock` or ENOBUFS where there is no room for it now.
    pub(super) fn send(&self, frame: &[u8]) -> io::Result<()> {
        self.0.send(frame).map(drop)
    }
}

/// A BPF program that passes IPv6 frames with UDP to port 546 or 547, or ICMPv6 of type 135.
fn filter() -> [SockFilter; 12] {
    [
        step(LOAD_HALF, 0, 0, 12),
        step(IF_EQUAL, 0, 9, 0x86dd),
        step(LOAD_OCTET, 0, 0, 20),
        step(IF_EQUAL, 3, 0, 17),
        step(IF_EQUAL, 0, 6, 58),
        // ICMPv6: the type.
        step(LOAD_OCTET, 0, 0, 54),
        step(IF_EQUAL, 3, 4, 135),
        // UDP: the destination port.
        step(LOAD_HALF, 0, 0, 56),
        step(IF_EQUAL, 1, 0, 546),
        step(IF_EQUAL, 0, 1, 547),
        step(RETURN, 0, 0, u32::MAX),
        step(RETURN, 0, 0, 0),
    ]
}
