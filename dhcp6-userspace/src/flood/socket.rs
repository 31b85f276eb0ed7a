//! Packet sockets: whole frames of one interface, from and to any MAC address, many at a time.

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd},
    ptr,
};

use nix::libc;
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use super::{Frame, relay};
use crate::net::packet::{
    bind, drops,
    filter::{IF_EQUAL, LOAD_HALF, LOAD_OCTET, LOAD_WORD, RETURN},
    set_option, size_receive_buffer, size_send_buffer, step,
};

/// Frames that are received, or sent, with one call.
pub(super) const BATCH: usize = 64;
/// Asked of the kernel for frames that wait: a frame with a short message takes up to 1,280 octets.
const RECEIVE_BUFFER: usize = 256 << 20;
/// The same for frames that are on their way out.
const SEND_BUFFER: usize = 4 << 20;
/// struct virtio_net_hdr of linux/virtio_net.h: precedes each frame that is received.
const VIRTIO_HEADER_LEN: usize = 10;
/// VIRTIO_NET_HDR_F_NEEDS_CSUM, in the header's first octet.
const NEEDS_CHECKSUM: u8 = 1;
/// Longer than any frame without jumbo frames, and the header.
const LONGEST: usize = 2048;

/// A packet socket that receives what is for DHCPv6 clients and relay agents, Neighbor Solicitations and Neighbor
/// Advertisements.
#[derive(Debug)]
pub(super) struct PacketSocket {
    socket: Socket,
    /// [`LONGEST`] octets for each frame.
    octets: Box<[u8]>,
    calls: Calls,
}

/// Which of a run's clients a socket receives frames for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    /// The number of the thread; the first one receives what is for none of the others.
    pub(super) thread: u8,
    /// The first of its clients.
    pub(super) first: u32,
    /// The client behind its last one.
    pub(super) end: u32,
    /// How many clients the run has.
    pub(super) clients: u32,
}

impl PacketSocket {
    /// Opens a socket on an interface and makes the interface take frames for every MAC address as long as the
    /// socket is open. With several shares, it receives what is for its own. On error: what was being done.
    pub(super) fn open(index: u32, share: Option<Share>) -> Result<Self, (&'static str, io::Error)> {
        let context = |what| move |error| (what, error);
        // Without a protocol it receives nothing until it is bound.
        let kind = Type::RAW.nonblocking().cloexec();
        let socket =
            Socket::new(Domain::PACKET, kind, Some(Protocol::from(0))).map_err(context("open a socket"))?;
        socket.attach_filter(&filter(share)).map_err(context("filter frames"))?;
        size_receive_buffer(&socket, RECEIVE_BUFFER).map_err(context("size the receive buffer"))?;
        set_option(&socket, libc::PACKET_VNET_HDR, &1_i32).map_err(context("ask for checksum states"))?;
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
        Ok(Self { socket, octets: vec![0; BATCH * LONGEST].into(), calls: Calls::new() })
    }

    /// Receives frames that wait, up to [`BATCH`], in the place of those before. Returns how many.
    #[expect(unsafe_code, reason = "recvmmsg(2) without an allocation for each call")]
    pub(super) fn receive(&mut self) -> io::Result<usize> {
        for (n, octets) in self.octets.chunks_exact_mut(LONGEST).enumerate() {
            self.calls.set(n, octets.as_mut_ptr(), LONGEST);
        }
        // SAFETY: each header points to one iovec, which points to octets of `self.octets` that no other one points to,
        // and to nothing else. All of them live until the call ends, and the kernel keeps none of them.
        let received = unsafe {
            libc::recvmmsg(
                self.socket.as_raw_fd(),
                self.calls.headers.as_mut_ptr(),
                BATCH as u32,
                libc::MSG_DONTWAIT as _,
                ptr::null_mut(),
            )
        };
        match nix::Error::result(received) {
            Ok(received) => Ok(received.cast_unsigned() as usize),
            Err(nix::Error::EAGAIN) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// One of the frames that were received. One that was too long is cut off.
    pub(super) fn frame(&self, number: usize) -> Frame<'_> {
        let len = (self.calls.headers[number].msg_len as usize).min(LONGEST);
        let octets = &self.octets[number * LONGEST..][..len];
        let checksum_offloaded = octets.first().is_some_and(|flags| flags & NEEDS_CHECKSUM != 0);
        Frame { octets: octets.get(VIRTIO_HEADER_LEN..).unwrap_or_default(), checksum_offloaded }
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
pub(super) struct SendSocket {
    socket: Socket,
    frames: Vec<Vec<u8>>,
    /// How many of the frames are to be sent.
    filled: usize,
    calls: Calls,
}

impl SendSocket {
    /// Opens a socket on an interface. In a hurry, its frames go to the driver without a queue in between, and are not
    /// shown to those that watch the interface (tcpdump). On error: what was being done.
    pub(super) fn open(index: u32, in_a_hurry: bool) -> Result<Self, (&'static str, io::Error)> {
        let context = |what| move |error| (what, error);
        let kind = Type::RAW.nonblocking().cloexec();
        let socket =
            Socket::new(Domain::PACKET, kind, Some(Protocol::from(0))).map_err(context("open a socket"))?;
        set_option(&socket, libc::PACKET_QDISC_BYPASS, &i32::from(in_a_hurry))
            .map_err(context("bypass the queue of"))?;
        size_send_buffer(&socket, SEND_BUFFER).map_err(context("size the send buffer"))?;
        bind(&socket, index, 0).map_err(context("bind"))?;
        let frames = (0..BATCH).map(|_| Vec::with_capacity(LONGEST)).collect();
        Ok(Self { socket, frames, filled: 0, calls: Calls::new() })
    }

    /// Has `write` replace the octets of the next frame to be sent; it is one where that returns true. There must be
    /// room.
    pub(super) fn fill(&mut self, write: impl FnOnce(&mut Vec<u8>) -> bool) -> bool {
        let filled = write(&mut self.frames[self.filled]);
        self.filled += usize::from(filled);
        filled
    }

    /// Whether there is no room for another frame until some are sent.
    pub(super) fn is_full(&self) -> bool {
        self.filled == BATCH
    }

    /// Whether all frames are sent.
    pub(super) fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// Sends frames. Those that there is no room for now are left.
    #[expect(unsafe_code, reason = "sendmmsg(2) without an allocation for each call")]
    pub(super) fn send(&mut self) -> io::Result<()> {
        let mut sent = 0;
        let mut result = Ok(());
        for (n, frame) in self.frames[..self.filled].iter_mut().enumerate() {
            self.calls.set(n, frame.as_mut_ptr(), frame.len());
        }
        while sent < self.filled {
            let headers = &mut self.calls.headers[sent..self.filled];
            // SAFETY: each header points to one iovec, which points to the octets of a frame, and to nothing else. All
            // of them live until the call ends, and the kernel keeps and changes none of them.
            let count = unsafe {
                libc::sendmmsg(self.socket.as_raw_fd(), headers.as_mut_ptr(), headers.len() as u32, 0)
            };
            match nix::Error::result(count) {
                Ok(count) => sent += count.cast_unsigned() as usize,
                Err(nix::Error::EAGAIN | nix::Error::ENOBUFS) => break,
                Err(error) => {
                    result = Err(error.into());
                    break;
                }
            }
        }
        self.frames[..self.filled].rotate_left(sent);
        self.filled -= sent;
        result
    }
}

/// What the kernel is told of a batch of frames.
struct Calls {
    headers: Box<[libc::mmsghdr]>,
    vectors: Box<[libc::iovec]>,
}

// SAFETY: the pointers are set anew for each call.
#[expect(unsafe_code, reason = "they are pointers, which are not used between calls")]
unsafe impl Send for Calls {}

impl Calls {
    #[expect(unsafe_code, reason = "a header has private fields on some platforms")]
    fn new() -> Self {
        let empty = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };
        let mut vectors = vec![empty; BATCH].into_boxed_slice();
        let headers = vectors.iter_mut().map(|vector| {
            // SAFETY: all fields are integers or pointers, for which zero is a value.
            let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
            header
        });
        Self { headers: headers.collect(), vectors }
    }

    fn set(&mut self, number: usize, octets: *mut u8, len: usize) {
        self.vectors[number] = libc::iovec { iov_base: octets.cast(), iov_len: len };
    }
}

impl std::fmt::Debug for Calls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Calls").finish_non_exhaustive()
    }
}

/// Where a step of the filter leads.
#[derive(Clone, Copy)]
enum To {
    /// The step with this number.
    Step(usize),
    Pass,
    Drop,
}

/// A BPF program that passes IPv6 frames with UDP to port 546 or 547, or ICMPv6 of type 135 or 136. Datagrams have to be
/// for clients or relay agents of the share.
fn filter(share: Option<Share>) -> Vec<SockFilter> {
    use To::{Drop, Pass, Step};
    const IF_NOT_BELOW: u32 = libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K;
    const SHIFT_RIGHT: u32 = libc::BPF_ALU | libc::BPF_RSH | libc::BPF_K;
    const SHARE: usize = 11;
    let datagram = if share.is_some() { Step(SHARE) } else { Pass };
    let mut steps = vec![
        (LOAD_HALF, Step(1), Step(1), 12),
        (IF_EQUAL, Step(2), Drop, 0x86dd),
        (LOAD_OCTET, Step(3), Step(3), 20),
        (IF_EQUAL, Step(8), Step(4), 17),
        (IF_EQUAL, Step(5), Drop, 58),
        // ICMPv6: the type. Neighbors concern all threads.
        (LOAD_OCTET, Step(6), Step(6), 54),
        (IF_EQUAL, Pass, Step(7), 135),
        (IF_EQUAL, Pass, Drop, 136),
        // UDP: the destination port.
        (LOAD_HALF, Step(9), Step(9), 56),
        (IF_EQUAL, datagram, Step(10), 546),
        (IF_EQUAL, datagram, Drop, 547),
    ];
    if let Some(Share { thread, first, end, clients }) = share {
        let foreign = if thread == 0 { Pass } else { Drop };
        let prefix = |[a, b]: [u8; 2]| u32::from(u16::from_be_bytes([a, b]));
        steps.extend([
            (LOAD_HALF, Step(12), Step(12), 0),
            (IF_EQUAL, Step(13), Step(17), prefix(dhcp6_common::flood::MAC_PREFIX)),
            // To a client: its number.
            (LOAD_WORD, Step(14), Step(14), 2),
            (IF_NOT_BELOW, foreign, Step(15), clients),
            (IF_NOT_BELOW, Step(16), Drop, first),
            (IF_NOT_BELOW, Drop, Pass, end),
            (IF_EQUAL, Step(18), foreign, prefix(relay::MAC_PREFIX)),
            // To a relay agent: the number of its chain.
            (LOAD_WORD, Step(19), Step(19), 2),
            (SHIFT_RIGHT, Step(20), Step(20), 8),
            (IF_EQUAL, Pass, Drop, u32::from(thread)),
        ]);
    }
    let (pass, drop) = (steps.len(), steps.len() + 1);
    let resolved = steps.iter().enumerate().map(|(at, (code, equal, other, operand))| {
        let skipped = |to: &To| {
            let to = match to {
                Step(to) => *to,
                Pass => pass,
                Drop => drop,
            };
            (to - at - 1) as u8
        };
        // Steps that do not compare anything go on with the next.
        step(*code, skipped(equal), skipped(other), *operand)
    });
    let mut filter: Vec<_> = resolved.collect();
    filter.push(step(RETURN, 0, 0, u32::MAX));
    filter.push(step(RETURN, 0, 0, 0));
    filter
}
