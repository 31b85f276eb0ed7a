//! Frames from a packet socket, many at a time (recvmmsg(2)), each with what the kernel says of it.

use std::{
    array, io, mem,
    os::fd::AsRawFd as _,
    ptr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use nix::libc;
use socket2::Socket;

/// Frames that are received at once.
const FRAMES: usize = 32;
/// Octets of a frame that are received: more than a jumbo frame has.
pub(super) const LONGEST: usize = 10_240;
/// Octets of control messages for one frame: more than the two that are asked for take.
const CONTROL: usize = 128;

/// What the kernel says of a frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ancillary {
    /// Type and content of the outer tag, which is not in the frame any more.
    pub(super) tag: Option<(u16, u16)>,
    /// Whether the checksum is not made yet: the sender is on this machine.
    pub(super) is_unsummed: bool,
    /// When the frame arrived, by the wall clock.
    pub(super) arrived: Option<SystemTime>,
}

/// Frames that were received and not asked for yet.
#[derive(Debug)]
pub(super) struct Batch {
    octets: Vec<u8>,
    frames: Vec<(usize, Ancillary)>,
    /// How many of them were asked for.
    taken: usize,
}

/// Aligned as control messages must be.
#[repr(C, align(16))]
struct Control([u8; CONTROL]);

impl Batch {
    pub(super) fn new() -> Self {
        Self { octets: vec![0; FRAMES * LONGEST], frames: Vec::with_capacity(FRAMES), taken: 0 }
    }

    /// Whether there is no frame left.
    pub(super) fn is_empty(&self) -> bool {
        self.taken == self.frames.len()
    }

    /// The next frame that was received.
    pub(super) fn next(&mut self) -> Option<(&[u8], Ancillary)> {
        let (len, ancillary) = *self.frames.get(self.taken)?;
        let start = self.taken * LONGEST;
        self.taken += 1;
        Some((&self.octets[start..start + len], ancillary))
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
        let mut controls: [Control; FRAMES] = array::from_fn(|_| Control([0; CONTROL]));
        let mut slices = { self.octets.chunks_exact_mut(LONGEST) }
            .map(|octets| libc::iovec { iov_base: octets.as_mut_ptr().cast(), iov_len: LONGEST });
        let mut slices: [libc::iovec; FRAMES] =
            array::from_fn(|_| slices.next().expect("there is room for all frames"));
        // SAFETY: all fields are integers or pointers, for which zero is a value.
        let mut headers: [libc::mmsghdr; FRAMES] = unsafe { mem::zeroed() };
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
                FRAMES as u32,
                libc::MSG_DONTWAIT as _,
                ptr::null_mut(),
            )
        };
        let received = nix::Error::result(received)?.cast_unsigned() as usize;
        for header in &headers[..received] {
            let len = (header.msg_len as usize).min(LONGEST);
            // SAFETY: the kernel has written the control messages, whose length is in the header now, and nothing has
            // touched them since.
            let ancillary = unsafe { ancillary(&header.msg_hdr) };
            self.frames.push((len, ancillary));
        }
        Ok(())
    }
}

/// Reads the control messages.
///
/// # Safety
///
/// The header has been filled by the kernel, and its control buffer is alive.
#[expect(unsafe_code, reason = "control messages are read through pointers")]
unsafe fn ancillary(header: &libc::msghdr) -> Ancillary {
    let mut ancillary = Ancillary { tag: None, is_unsummed: false, arrived: None };
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
        self.is_unsummed = is(libc::TP_STATUS_CSUMNOTREADY);
    }
}

fn time(time: libc::timespec) -> Option<SystemTime> {
    let since = Duration::new(time.tv_sec.try_into().ok()?, time.tv_nsec.try_into().ok()?);
    UNIX_EPOCH.checked_add(since)
}
