//! Frames from a packet socket and to it, many at a time (recvmmsg(2), sendmmsg(2)).

use std::{
    array, io, mem,
    os::fd::AsRawFd as _,
    ptr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use nix::libc;
use socket2::Socket;

use super::frame::Frames;

/// Frames that are received or sent at once.
pub(super) const AT_ONCE: usize = 64;
/// Octets that are received of a frame and the header before it: more than any has, as several may have been joined (GRO).
/// Not a power of two, so that the frames of a batch do not share the same lines of a cache.
const LONGEST: usize = 65_792;
/// struct virtio_net_hdr of linux/virtio_net.h, which precedes each frame in either direction.
const VIRTIO_HEADER_LEN: usize = 10;
/// VIRTIO_NET_HDR_F_NEEDS_CSUM and VIRTIO_NET_HDR_F_DATA_VALID, in the header's first octet.
const SUMMED: u8 = 1 | 2;
/// VIRTIO_NET_HDR_GSO_UDP_L4, in its second.
const JOINED_DATAGRAMS: u8 = 5;
/// Octets of control messages for one frame: more than the two that are asked for take.
const CONTROL: usize = 128;

/// What the kernel says of a frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ancillary {
    /// Type and content of the outer tag, which is not in the frame any more.
    pub(super) tag: Option<(u16, u16)>,
    /// Whether the checksum is known to be right, or not made yet: the sender is on this machine then.
    pub(super) is_summed: bool,
    /// The length of each of the payloads, but for the last, of which the kernel has made one datagram; 0 for a datagram
    /// that is as it was sent.
    pub(super) joined: u16,
    /// When the frame arrived, by the wall clock.
    pub(super) arrived: Option<SystemTime>,
}

/// Frames that were received and not looked at yet.
#[derive(Debug)]
pub(super) struct Batch {
    octets: Vec<u8>,
    frames: Vec<(usize, Ancillary)>,
    /// How many of them were looked at; the last of these is the one at hand.
    taken: usize,
}

/// Aligned as control messages must be.
#[repr(C, align(16))]
struct Control([u8; CONTROL]);

impl Batch {
    pub(super) fn new() -> Self {
        Self { octets: vec![0; AT_ONCE * LONGEST], frames: Vec::with_capacity(AT_ONCE), taken: 0 }
    }

    /// Whether there is no frame left.
    pub(super) fn is_empty(&self) -> bool {
        self.taken == self.frames.len()
    }

    /// Goes on to the next frame. Returns whether there is one.
    pub(super) fn advance(&mut self) -> bool {
        let has_next = !self.is_empty();
        self.taken += usize::from(has_next);
        has_next
    }

    /// The frame at hand, after [`Batch::advance`] has found one.
    pub(super) fn current(&self) -> (&[u8], Ancillary) {
        let index = self.taken - 1;
        let (len, ancillary) = self.frames[index];
        (&self.octets[index * LONGEST..][VIRTIO_HEADER_LEN..len], ancillary)
    }

    /// Receives what waits in a socket, in the place of what was there.
    ///
    /// # Errors
    ///
    /// The kernel's, `WouldBlock` among them.
    #[expect(unsafe_code, reason = "nix does not know the control message of packet sockets")]
    pub(super) fn fill(&mut self, socket: &Socket) -> io::Result<()> {
        self.frames.clear();
        self.taken = 0;
        let mut controls: [Control; AT_ONCE] = array::from_fn(|_| Control([0; CONTROL]));
        let mut slices = { self.octets.chunks_exact_mut(LONGEST) }
            .map(|octets| libc::iovec { iov_base: octets.as_mut_ptr().cast(), iov_len: LONGEST });
        let mut slices: [libc::iovec; AT_ONCE] =
            array::from_fn(|_| slices.next().expect("there is room for all frames"));
        // SAFETY: all fields are integers or pointers, for which zero is a value.
        let mut headers: [libc::mmsghdr; AT_ONCE] = unsafe { mem::zeroed() };
        for ((header, slice), control) in headers.iter_mut().zip(&mut slices).zip(&mut controls) {
            header.msg_hdr.msg_iov = slice;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = control.0.as_mut_ptr().cast();
            header.msg_hdr.msg_controllen = CONTROL as _;
        }
        // SAFETY: each header points to one iovec, whose octets are borrowed from `self`, and to a control buffer of
        // the length that it says; all live until the call ends, and the kernel keeps none of them.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                AT_ONCE as u32,
                libc::MSG_DONTWAIT as _,
                ptr::null_mut(),
            )
        };
        let received = nix::Error::result(received)?.cast_unsigned() as usize;
        for (header, octets) in headers[..received].iter().zip(self.octets.chunks_exact(LONGEST)) {
            let len = (header.msg_len as usize).clamp(VIRTIO_HEADER_LEN, LONGEST);
            // SAFETY: the kernel has written the control messages, whose length is in the header now, and nothing has
            // touched them since.
            let mut ancillary = unsafe { ancillary(&header.msg_hdr) };
            ancillary.is_summed = octets[0] & SUMMED != 0;
            if octets[1] == JOINED_DATAGRAMS {
                ancillary.joined = u16::from_ne_bytes([octets[4], octets[5]]);
            }
            self.frames.push((len, ancillary));
        }
        Ok(())
    }
}

/// Sends frames from the one with the number `first` on, up to [`AT_ONCE`] of them. Returns how many, which is at least
/// one.
///
/// # Errors
///
/// Why the first is not sent; none is then.
#[expect(unsafe_code, reason = "nix asks for an address for each message, of which these have none")]
pub(super) fn send_batch(socket: &Socket, frames: &Frames, first: usize) -> io::Result<usize> {
    // Nothing is left to a card.
    let plain = [0_u8; VIRTIO_HEADER_LEN];
    let before = libc::iovec { iov_base: plain.as_ptr().cast_mut().cast(), iov_len: VIRTIO_HEADER_LEN };
    let mut slices = [[before; 2]; AT_ONCE];
    // SAFETY: all fields are integers or pointers, for which zero is a value.
    let mut headers: [libc::mmsghdr; AT_ONCE] = unsafe { mem::zeroed() };
    let mut count = 0;
    for ((frame, slice), header) in frames.from(first).zip(&mut slices).zip(&mut headers) {
        slice[1] = libc::iovec { iov_base: frame.as_ptr().cast_mut().cast(), iov_len: frame.len() };
        header.msg_hdr.msg_iov = slice.as_mut_ptr();
        header.msg_hdr.msg_iovlen = slice.len() as _;
        count += 1;
    }
    // SAFETY: each of the headers points to two iovecs, whose octets are those of `plain` or borrowed from `frames`, and only
    // read; all live until the call ends, and the kernel keeps none of them.
    let sent =
        unsafe { libc::sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), count, libc::MSG_DONTWAIT as _) };
    Ok(nix::Error::result(sent)?.cast_unsigned() as usize)
}

/// Reads the control messages.
///
/// # Safety
///
/// The header has been filled by the kernel, and its control buffer is alive.
#[expect(unsafe_code, reason = "control messages are read through pointers")]
unsafe fn ancillary(header: &libc::msghdr) -> Ancillary {
    let mut ancillary = Ancillary { tag: None, is_summed: false, joined: 0, arrived: None };
    // SAFETY: as the caller promises; the macros walk no further than the header says, and what they point to has
    // the octets that its type has, in whatever alignment.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(header);
        while let Some(&libc::cmsghdr { cmsg_len, cmsg_level, cmsg_type, .. }) = message.as_ref() {
            let data = libc::CMSG_DATA(message);
            let holds = |len: usize| cmsg_len >= libc::CMSG_LEN(len as u32) as _;
            match (cmsg_level, cmsg_type) {
                (libc::SOL_PACKET, libc::PACKET_AUXDATA) if holds(size_of::<libc::tpacket_auxdata>()) => {
                    ancillary.note(data.cast::<libc::tpacket_auxdata>().read_unaligned());
                }
                (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) if holds(size_of::<libc::timespec>()) => {
                    ancillary.arrived = time(data.cast::<libc::timespec>().read_unaligned());
                }
                _ => {}
            }
            message = libc::CMSG_NXTHDR(header, message);
        }
    }
    ancillary
}

impl Ancillary {
    fn note(&mut self, data: libc::tpacket_auxdata) {
        let is = |status| data.tp_status & status != 0;
        // Kernels since 3.14 tell the type of every tag.
        if is(libc::TP_STATUS_VLAN_VALID) && is(libc::TP_STATUS_VLAN_TPID_VALID) {
            self.tag = Some((data.tp_vlan_tpid, data.tp_vlan_tci));
        }
    }
}

fn time(time: libc::timespec) -> Option<SystemTime> {
    let since = Duration::new(time.tv_sec.try_into().ok()?, time.tv_nsec.try_into().ok()?);
    UNIX_EPOCH.checked_add(since)
}
