//! Did the datagram arrive whole?

use core::{ffi::c_void, hint::black_box};

use aya_ebpf::{bindings::xdp_md, helpers::generated::bpf_loop, programs::XdpContext};
use dhcp6_common::{Reason, wire::Sum};

use crate::{
    packet::{MAX_OFFSET, Packet, UDP_OFFSET},
    request::{IPV6_SOURCE, UDP, UDP_LENGTH},
};

const UDP_CHECKSUM: usize = UDP_OFFSET + 6;
/// Octets that one step adds.
const STEP: usize = 32;
/// Steps that are made without a loop of the kernel's, each of whose steps is a call: enough for most Solicits.
const FIRST_STEPS: usize = 6;

/// Compares the UDP checksum with the datagram (RFC 8200, section 8.1: it must not be 0).
///
/// A datagram from this host, over veth for one, carries the sum of the pseudo-header instead, uncomplemented:
/// the device was to add the rest (CHECKSUM_PARTIAL). It has crossed no wire, and counts as whole.
#[inline(always)]
pub(crate) fn verify(ctx: &XdpContext, tags_len: usize, rest: &mut Rest) -> Result<(), Reason> {
    let packet = Packet::new(ctx, tags_len);
    let read = || {
        Some((
            packet.read::<[u32; 8]>(IPV6_SOURCE)?,
            packet.read::<u16>(UDP_LENGTH)?,
            packet.read::<u16>(UDP_CHECKSUM)?,
        ))
    };
    let (addresses, udp_len, stored) = read().ok_or(Reason::BadLength)?;
    let mut pseudo_header = Sum::ZERO.add_u16(udp_len).add_u16(u16::from(UDP).to_be());
    for word in addresses {
        pseudo_header = pseudo_header.add_u32(word);
    }
    if stored == 0 {
        return Err(Reason::BadChecksum);
    }
    if stored == pseudo_header.fold() {
        return Ok(());
    }
    let end = UDP_OFFSET + usize::from(u16::from_be(udp_len));
    let (mut first, mut offset) = (pseudo_header, UDP_OFFSET);
    for _ in 0..FIRST_STEPS {
        if offset + STEP > end {
            break;
        }
        for word in packet.read::<[u32; STEP / 4]>(offset).ok_or(Reason::BadLength)? {
            first = first.add_u32(word);
        }
        offset += STEP;
    }
    *rest = Rest { sum: first, offset: offset as u32, end: end as u32, tags_len: tags_len as u32 };
    // Of memory in a map the verifier remembers nothing, so that it walks through the rest once.
    let rest = black_box(rest);
    if rest.offset + STEP as u32 <= rest.end {
        let mut state = Loop { ctx: ctx.ctx, rest: &raw mut *rest };
        // SAFETY: the step gets the pointer that is given here, and nothing else holds it meanwhile.
        unsafe { bpf_loop((MAX_OFFSET / STEP) as u32, add_step as *mut c_void, (&raw mut state).cast(), 0) };
    }
    let rest = black_box(rest);
    let mut offset = rest.offset as usize;
    let mut sum = rest.sum;
    let left = rest.end.wrapping_sub(rest.offset);
    if left & 16 != 0 {
        for word in packet.read::<[u32; 4]>(offset).ok_or(Reason::BadLength)? {
            sum = sum.add_u32(word);
        }
        offset += 16;
    }
    if left & 8 != 0 {
        for word in packet.read::<[u32; 2]>(offset).ok_or(Reason::BadLength)? {
            sum = sum.add_u32(word);
        }
        offset += 8;
    }
    if left & 4 != 0 {
        sum = sum.add_u32(packet.read(offset).ok_or(Reason::BadLength)?);
        offset += 4;
    }
    if left & 2 != 0 {
        sum = sum.add_u16(packet.read(offset).ok_or(Reason::BadLength)?);
        offset += 2;
    }
    if left & 1 != 0 {
        // Read with the octet before it: the verifier learns nothing from a comparison of a variable pointer
        // with the end of the frame that is off by none.
        let last = packet.read::<u16>(offset - 1).ok_or(Reason::BadLength)?;
        sum = sum.add_u16(u16::from_ne_bytes([last.to_ne_bytes()[1], 0]));
    }
    if sum.fold() == 0xffff { Ok(()) } else { Err(Reason::BadChecksum) }
}

/// What has been summed up so far. Offsets are those of the frame behind its tags.
#[repr(C)]
pub(crate) struct Rest {
    sum: Sum,
    offset: u32,
    end: u32,
    tags_len: u32,
}

/// What bpf_loop hands to each step. On the stack, since a map cannot hold pointers.
#[repr(C)]
struct Loop {
    ctx: *mut xdp_md,
    rest: *mut Rest,
}

/// Adds the next 32 octets, or ends the loop where fewer are left.
#[inline(never)]
unsafe extern "C" fn add_step(_index: u32, state: *mut Loop) -> i64 {
    // SAFETY: bpf_loop hands over the pointer that `verify` gave it.
    let (ctx, rest) = unsafe { (XdpContext::new((*state).ctx), &mut *(*state).rest) };
    let packet = Packet::new(&ctx, rest.tags_len as usize);
    if rest.offset + STEP as u32 > rest.end {
        return 1;
    }
    let Some(words) = packet.read::<[u32; STEP / 4]>(rest.offset as usize) else {
        return 1;
    };
    for word in words {
        rest.sum = rest.sum.add_u32(word);
    }
    rest.offset += STEP as u32;
    0
}
