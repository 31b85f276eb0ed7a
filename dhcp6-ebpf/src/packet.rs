//! Packet memory with bounds that the verifier can follow.

use aya_ebpf::programs::XdpContext;
use dhcp6_common::wire::Octets;

/// Length of an Ethernet header without tags.
pub(crate) const ETHERNET_LEN: usize = 14;
/// Offset of the EtherType in an Ethernet header.
pub(crate) const ETHERTYPE: usize = 12;
/// Length of a VLAN tag.
pub(crate) const TAG_LEN: usize = 4;
/// Length of an IPv6 header.
pub(crate) const IPV6_LEN: usize = 40;
/// Length of a UDP header.
pub(crate) const UDP_LEN: usize = 8;
/// Offset of the UDP header.
pub(crate) const UDP_OFFSET: usize = ETHERNET_LEN + IPV6_LEN;
/// Offset of the DHCPv6 message.
pub(crate) const MESSAGE_OFFSET: usize = UDP_OFFSET + UDP_LEN;
/// No frame that is read or written here reaches beyond this offset. A power of two that is well below
/// MAX_PACKET_OFF (0xffff), above which the verifier forgets bounds.
pub(crate) const MAX_OFFSET: usize = 2048;

/// The frame from behind its VLAN tags, as if the last octets of its Ethernet header were all of that: the EtherType of
/// what is in it stands at [`ETHERTYPE`], whatever the number of tags.
#[derive(Clone, Copy)]
pub(crate) struct Packet {
    start: usize,
    end: usize,
}

impl Packet {
    /// The frame as it lies in memory now, behind `tags_len` octets of VLAN tags; invalid after a helper has moved its
    /// bounds.
    #[inline(always)]
    pub(crate) fn new(ctx: &XdpContext, tags_len: usize) -> Self {
        // Nothing else occurs; the verifier needs to see it.
        Self { start: ctx.data() + (tags_len & (3 * TAG_LEN)), end: ctx.data_end() }
    }

    /// Octets in the frame, without those of its tags.
    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }

    /// A pointer to a `T` at `offset`, or `None` where the frame ends before it does.
    #[inline(always)]
    pub(crate) fn at<T>(&self, offset: usize) -> Option<*mut T> {
        if offset > MAX_OFFSET {
            return None;
        }
        let start = self.start + offset;
        if start + size_of::<T>() > self.end {
            return None;
        }
        Some(start as *mut T)
    }

    /// Copies a `T` out of the frame.
    #[inline(always)]
    pub(crate) fn read<T: Copy>(&self, offset: usize) -> Option<T> {
        // SAFETY: `at` has compared with the end of the frame. The frame is aligned to nothing, but the verifier
        // admits unaligned access to packets where the machine does it efficiently, and `read_unaligned` would
        // be one load per octet.
        self.at::<T>(offset).map(|value| unsafe { value.read() })
    }

    /// The 16-bit number in network byte order at `offset`.
    #[inline(always)]
    pub(crate) fn u16_at(&self, offset: usize) -> Option<u16> {
        self.read::<u16>(offset).map(u16::from_be)
    }
}

impl Octets for Packet {
    #[inline(always)]
    fn u32_at(&self, offset: usize) -> Option<u32> {
        self.read::<u32>(offset).map(u32::from_be)
    }
}
