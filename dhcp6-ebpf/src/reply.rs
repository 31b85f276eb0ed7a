//! The Reply, written over the Solicit.
//!
//! | offset | content                                                                      |
//! |-------:|------------------------------------------------------------------------------|
//! |      0 | Ethernet, with the Solicit's VLAN tags; IPv6, UDP                            |
//! |     62 | message type and transaction identifier                                      |
//! |     66 | IA_NA with one IA Address; IA_PD with one IA Prefix; or both                 |
//! |      … | the daemon's block: Server Identifier, Rapid Commit, requested options       |
//! |      … | Client Identifier, last, since its length varies from client to client       |
//!
//! Offsets are those without tags. The engine writes a Reply in the same order (`dhcp6_userspace::engine`).

use core::hint::black_box;

use aya_ebpf::{
    helpers::generated::{
        bpf_xdp_adjust_head, bpf_xdp_adjust_tail, bpf_xdp_get_buff_len, bpf_xdp_store_bytes,
    },
    programs::XdpContext,
};
use dhcp6_common::{
    Reason,
    contract::{
        Binding, IA_ADDRESS_HEADER, IA_NA_HEADER, IA_PD_HEADER, IA_PREFIX_HEADER, Interface, Link,
        REPLY_PORTS, ReplyBlock, address_words,
    },
    wire::{MessageType, OPTION_HEADER_LEN, OptionCode, Sum},
};

use crate::{
    REPLY_BLOCKS, Scratch,
    binding::Known,
    packet::{ETHERTYPE, Packet, UDP_OFFSET},
    request::{IPV6_SOURCE, Solicit, UDP},
};

/// What Linux sends unicast datagrams with, the daemon's among them.
const HOP_LIMIT: u8 = 64;

/// The beginning of the frame. Where there are fewer tags, [`Head`] follows at once.
#[repr(C, packed)]
struct Beginning {
    destination: u32,
    destination_end: u16,
    source: u32,
    source_end: u16,
    tags: [u32; 2],
}

/// Everything from the EtherType to the options. Numbers are in network byte order.
#[repr(C, packed)]
struct Head {
    ethertype: u16,
    version_class_flow: u32,
    payload_length: u16,
    next_header_and_hop_limit: [u8; 2],
    source: [u64; 2],
    destination: [u64; 2],
    ports: u32,
    udp_length: u16,
    udp_checksum: u16,
    message: u32,
}

/// An IA_NA with one address.
#[repr(C, packed)]
struct IaNa {
    option: u32,
    iaid: u32,
    t1: u32,
    t2: u32,
    ia_address: u32,
    address: [u64; 2],
    preferred_lifetime: u32,
    valid_lifetime: u32,
}

/// An IA_PD with one prefix.
#[repr(C, packed)]
struct IaPd {
    option: u32,
    iaid: u32,
    t1: u32,
    t2: u32,
    ia_prefix: u32,
    preferred_lifetime: u32,
    valid_lifetime: u32,
    length: u8,
    prefix: [u64; 2],
}

const OPTIONS_OFFSET: usize = ETHERTYPE + size_of::<Head>();
const _: () = assert!(OPTIONS_OFFSET == 66 && size_of::<IaNa>() == 44 && size_of::<IaPd>() == 45);

/// Writes fields of a packed structure in packet memory, each with one store (see [`Packet::read`]).
macro_rules! write_fields {
    ($target:ident: $type:ident { $($field:ident: $value:expr,)+ }) => {{
        // Takes the structure apart, so that none of its fields can be forgotten.
        let _ = |whole: $type| { let $type { $($field: _,)+ } = whole; };
        $((&raw mut (*$target).$field).write($value);)+
    }};
}

/// The daemon's block for this set of requested options.
#[inline(always)]
pub(crate) fn block(link: &Link, requested: u32) -> Result<&'static ReplyBlock, Reason> {
    REPLY_BLOCKS
        .get(link.first_block + requested)
        .filter(|block| block.len != 0)
        .ok_or(Reason::UnhandledRequest)
}

/// Gives the frame its final length, writes the Reply into it and stamps the binding with the time `now`.
///
/// # Errors
///
/// [`Reason::NoRoom`] where the driver cannot give the frame that length: it is still untouched.
#[inline(always)]
pub(crate) fn send(
    ctx: &XdpContext,
    (interface, link): (&Interface, &Link),
    Scratch { ethernet, message, solicit, binding, .. }: &Scratch,
    block: &ReplyBlock,
    known: Known,
    now: u64,
) -> Result<(), Reason> {
    let tags_len = ethernet.tags_len();
    let packet = ethernet.packet(ctx);
    let old_len = packet.len();
    let client = packet.read::<[u64; 2]>(IPV6_SOURCE).ok_or(Reason::BadLength)?;
    // SAFETY: the context is that of this run.
    if unsafe { bpf_xdp_get_buff_len(ctx.ctx) } as usize != tags_len + old_len {
        return Err(Reason::NoRoom);
    }
    let block_len = u32::from(block.len);
    if block_len == 0 || block_len > ReplyBlock::CAPACITY as u32 {
        return Err(Reason::UnhandledRequest);
    }
    let address_len = if solicit.address_iaid().is_some() { size_of::<IaNa>() } else { 0 };
    let prefix_len = if solicit.prefix_iaid().is_some() { size_of::<IaPd>() } else { 0 };
    let duid_len = known.duid.len;
    let client_id_len = OPTION_HEADER_LEN as u32 + duid_len;
    let block_offset = OPTIONS_OFFSET + address_len + prefix_len;
    let new_len = block_offset + (block_len + client_id_len) as usize;
    let udp_len = ((new_len - UDP_OFFSET) as u16).to_be();

    let transaction_id = message.header & u32::from_ne_bytes([0, 0xff, 0xff, 0xff]);
    let header = transaction_id | u32::from_ne_bytes([MessageType::Reply as u8, 0, 0, 0]);
    let server = address_words(interface.server_address);
    let client_id_header =
        u32::from((OptionCode::CLIENT_ID.0).to_be()) | u32::from((duid_len as u16).to_be()) << 16;
    let mut behind_ias = Sum::ZERO.add_u32(client_id_header).add_sum(known.duid.sum);
    if block_len % 2 == 1 {
        behind_ias = behind_ias.at_odd_offset();
    }
    behind_ias = behind_ias.add_sum(Sum::from_folded(block.sum));
    // An IA_PD has an odd length.
    if prefix_len % 2 == 1 {
        behind_ias = behind_ias.at_odd_offset();
    }
    let sum = Sum::from_folded(interface.sum)
        .add_u16(udp_len)
        .add_u16(udp_len)
        .add_u32(header)
        .add_sum(address_sum(client))
        .add_sum(sum_of_ias(link, solicit, binding))
        .add_sum(behind_ias);

    // Grown at the head, since drivers keep headroom for XDP but hardly any tailroom; shrunk at the tail.
    // SAFETY: the context is that of this run.
    let failed = unsafe {
        if new_len > old_len {
            bpf_xdp_adjust_head(ctx.ctx, old_len as i32 - new_len as i32)
        } else {
            bpf_xdp_adjust_tail(ctx.ctx, new_len as i32 - old_len as i32)
        }
    };
    if failed != 0 {
        return Err(Reason::NoRoom);
    }

    let whole = Packet::new(ctx, 0);
    let packet = ethernet.packet(ctx);
    let beginning = whole.at::<Beginning>(0).ok_or(Reason::Internal)?;
    let head = packet.at::<Head>(ETHERTYPE).ok_or(Reason::Internal)?;
    let server_mac = mac_words(interface.server_mac);
    // SAFETY: `at` has compared with the end of the frame.
    unsafe {
        write_fields!(beginning: Beginning {
            destination: beginning_of(ethernet.source),
            destination_end: ethernet.source[2],
            source: beginning_of(server_mac),
            source_end: server_mac[2],
            tags: ethernet.tags,
        });
        write_fields!(head: Head {
            ethertype: u16::from_ne_bytes([0x86, 0xdd]),
            version_class_flow: u32::from_ne_bytes([0x60, 0, 0, 0]),
            payload_length: udp_len,
            next_header_and_hop_limit: [UDP, HOP_LIMIT],
            source: server,
            destination: client,
            ports: u32::from_ne_bytes(REPLY_PORTS),
            udp_length: udp_len,
            udp_checksum: sum.finish(),
            message: header,
        });
    }
    write_ias(&packet, link, solicit, binding)?;
    known.stamp(binding, solicit, now);
    if known.duid.is_short() {
        write_block(&packet, block_offset, block, block_len)?;
        return known.duid.write_option(&packet, block_offset + block_len as usize, client_id_header);
    }
    let client_id = known.duid.into_option(client_id_header);
    let block_offset = (tags_len + block_offset) as u32;
    // SAFETY: both sources are longer than what is copied of them; the helper checks the frame's bounds.
    let failed = unsafe {
        let block = block.octets.as_ptr().cast_mut();
        bpf_xdp_store_bytes(ctx.ctx, block_offset, block.cast(), block_len)
            | bpf_xdp_store_bytes(ctx.ctx, block_offset + block_len, client_id.cast(), client_id_len)
    };
    if failed != 0 {
        return Err(Reason::Internal);
    }
    Ok(())
}

/// Writes the daemon's block without a helper's call, in words: up to seven octets behind it as well, where a Client
/// Identifier comes that is longer.
#[inline(always)]
fn write_block(packet: &Packet, offset: usize, block: &ReplyBlock, len: u32) -> Result<(), Reason> {
    const WORD: usize = size_of::<u64>();
    let words = block.octets.as_ptr() as usize;
    // Not what the verifier knows of the length, which would be more with each word.
    let count = black_box(len.div_ceil(WORD as u32)) as usize;
    for index in 0..ReplyBlock::CAPACITY / WORD {
        if index >= count {
            break;
        }
        let target = packet.at::<u64>(offset + index * WORD).ok_or(Reason::Internal)?;
        // SAFETY: the block has so many words, at multiples of eight in the map; `at` has compared with the end of the
        // frame.
        unsafe { target.write(((words + index * WORD) as *const u64).read()) };
    }
    Ok(())
}

/// Writes the IAs that the client asks for.
#[inline(always)]
fn write_ias(packet: &Packet, link: &Link, solicit: &Solicit, binding: &Binding) -> Result<(), Reason> {
    let mut offset = OPTIONS_OFFSET;
    if let Some(iaid) = solicit.address_iaid() {
        let ia_na = packet.at::<IaNa>(offset).ok_or(Reason::Internal)?;
        offset += size_of::<IaNa>();
        // SAFETY: `at` has compared with the end of the frame.
        unsafe {
            write_fields!(ia_na: IaNa {
                option: u32::from_ne_bytes(IA_NA_HEADER),
                iaid: iaid,
                t1: u32::from_ne_bytes(link.t1),
                t2: u32::from_ne_bytes(link.t2),
                ia_address: u32::from_ne_bytes(IA_ADDRESS_HEADER),
                address: address_words(binding.address),
                preferred_lifetime: u32::from_ne_bytes(link.preferred_lifetime),
                valid_lifetime: u32::from_ne_bytes(link.valid_lifetime),
            });
        }
    }
    if let Some(iaid) = solicit.prefix_iaid() {
        let ia_pd = packet.at::<IaPd>(offset).ok_or(Reason::Internal)?;
        // SAFETY: as above.
        unsafe {
            write_fields!(ia_pd: IaPd {
                option: u32::from_ne_bytes(IA_PD_HEADER),
                iaid: iaid,
                t1: u32::from_ne_bytes(link.t1),
                t2: u32::from_ne_bytes(link.t2),
                ia_prefix: u32::from_ne_bytes(IA_PREFIX_HEADER),
                preferred_lifetime: u32::from_ne_bytes(link.preferred_lifetime),
                valid_lifetime: u32::from_ne_bytes(link.valid_lifetime),
                length: binding.prefix_length(),
                prefix: [u64::from_ne_bytes(binding.prefix), 0],
            });
        }
    }
    Ok(())
}

/// Sum of the IAs that the client asks for.
#[inline(always)]
fn sum_of_ias(link: &Link, solicit: &Solicit, binding: &Binding) -> Sum {
    let mut sum = Sum::ZERO;
    if let Some(iaid) = solicit.address_iaid() {
        let address = address_words(binding.address);
        sum = sum.add_sum(Sum::from_folded(link.address_sum)).add_u32(iaid).add_sum(address_sum(address));
    }
    if let Some(iaid) = solicit.prefix_iaid() {
        let prefix = [u64::from_ne_bytes(binding.prefix), 0];
        sum = sum
            .add_sum(Sum::from_folded(link.prefix_sum))
            .add_u32(iaid)
            .add_u16(u16::from_ne_bytes([binding.prefix_length(), 0]))
            .add_sum(address_sum(prefix).at_odd_offset());
    }
    sum
}

#[inline(always)]
fn address_sum(address: [u64; 2]) -> Sum {
    let mut sum = Sum::ZERO;
    for word in address {
        sum = sum.add_u32(word as u32).add_u32((word >> 32) as u32);
    }
    sum
}

/// The first two words of a MAC address in one.
#[inline(always)]
fn beginning_of(mac: [u16; 3]) -> u32 {
    u32::from(mac[0]) | u32::from(mac[1]) << 16
}

#[inline(always)]
fn mac_words(mac: [u8; 6]) -> [u16; 3] {
    [
        u16::from_ne_bytes([mac[0], mac[1]]),
        u16::from_ne_bytes([mac[2], mac[3]]),
        u16::from_ne_bytes([mac[4], mac[5]]),
    ]
}
