//! The Reply, written over the Solicit.
//!
//! | offset | content                                                                  |
//! |-------:|--------------------------------------------------------------------------|
//! |      0 | Ethernet, IPv6, UDP                                                      |
//! |     62 | message type and transaction identifier                                  |
//! |     66 | IA_NA with one IA Address                                                |
//! |    110 | the daemon's block: Server Identifier, Rapid Commit, requested options   |
//! |      … | Client Identifier, last, since its length varies from client to client   |
//!
//! The engine writes a Reply in the same order (`dhcp6_userspace::engine`).

use aya_ebpf::{
    helpers::generated::{bpf_xdp_adjust_head, bpf_xdp_adjust_tail, bpf_xdp_store_bytes},
    programs::XdpContext,
};
use dhcp6_common::{
    Reason,
    contract::{
        IA_ADDRESS_HEADER, IA_NA_HEADER, Link, REPLY_PORTS, ReplyBlock, address_words, reply_block_index,
    },
    wire::{MessageType, OPTION_HEADER_LEN, OptionCode, Sum},
};

use crate::{
    REPLY_BLOCKS,
    binding::Known,
    packet::{MESSAGE_OFFSET, Packet, UDP_OFFSET},
    request::{IPV6_SOURCE, UDP},
};

const ETHERNET_SOURCE: usize = 6;
/// What Linux sends unicast datagrams with, the daemon's among them.
const HOP_LIMIT: u8 = 64;

/// Everything of the Reply whose offset is fixed. Numbers are in network byte order.
#[repr(C, packed)]
struct Head {
    ethernet_destination: [u16; 3],
    ethernet_source: [u16; 3],
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
    ia_na: u32,
    iaid: u32,
    t1: u32,
    t2: u32,
    ia_address: u32,
    address: [u64; 2],
    preferred_lifetime: u32,
    valid_lifetime: u32,
}

const HEAD_LEN: usize = size_of::<Head>();
const _: () = assert!(HEAD_LEN == 110);

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
pub(crate) fn block(slot: u32, requested: u8) -> Result<&'static ReplyBlock, Reason> {
    REPLY_BLOCKS
        .get(reply_block_index(slot, requested))
        .filter(|block| block.len != 0)
        .ok_or(Reason::UnhandledRequest)
}

/// Gives the frame its final length, writes the Reply into it and stamps the binding.
///
/// # Errors
///
/// [`Reason::NoRoom`] where the driver cannot give the frame that length: it is still untouched.
#[inline(always)]
pub(crate) fn send(ctx: &XdpContext, link: &Link, block: &ReplyBlock, known: Known) -> Result<(), Reason> {
    let packet = Packet::new(ctx);
    let old_len = packet.len();
    let request = || {
        Some((
            packet.read::<[u16; 3]>(ETHERNET_SOURCE)?,
            packet.read::<[u64; 2]>(IPV6_SOURCE)?,
            packet.read::<u32>(MESSAGE_OFFSET)?,
        ))
    };
    let (client_mac, client, message) = request().ok_or(Reason::BadLength)?;
    let block_len = u32::from(block.len);
    if block_len == 0 || block_len > ReplyBlock::CAPACITY as u32 {
        return Err(Reason::UnhandledRequest);
    }
    let duid_len = known.duid.len;
    let client_id_len = OPTION_HEADER_LEN as u32 + duid_len;
    let new_len = HEAD_LEN + (block_len + client_id_len) as usize;
    let udp_len = ((new_len - UDP_OFFSET) as u16).to_be();

    let transaction_id = message & u32::from_ne_bytes([0, 0xff, 0xff, 0xff]);
    let message = transaction_id | u32::from_ne_bytes([MessageType::Reply as u8, 0, 0, 0]);
    let server = address_words(link.server_address);
    let address = address_words(known.binding.address);
    let iaid = u32::from_ne_bytes(known.binding.iaid);
    let client_id_header =
        u32::from((OptionCode::CLIENT_ID.0).to_be()) | u32::from((duid_len as u16).to_be()) << 16;
    let mut client_id = Sum::ZERO.add_u32(client_id_header).add_sum(known.duid.sum);
    if block_len % 2 == 1 {
        client_id = client_id.at_odd_offset();
    }
    let sum = Sum::from_folded(link.sum)
        .add_u16(udp_len)
        .add_u16(udp_len)
        .add_u32(message)
        .add_u32(iaid)
        .add_sum(address_sum(client))
        .add_sum(address_sum(address))
        .add_sum(Sum::from_folded(block.sum))
        .add_sum(client_id);

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

    let head = Packet::new(ctx).at::<Head>(0).ok_or(Reason::Internal)?;
    // SAFETY: `at` has compared with the end of the frame.
    unsafe {
        write_fields!(head: Head {
            ethernet_destination: client_mac,
            ethernet_source: mac_words(link.server_mac),
            ethertype: u16::from_ne_bytes([0x86, 0xdd]),
            version_class_flow: u32::from_ne_bytes([0x60, 0, 0, 0]),
            payload_length: udp_len,
            next_header_and_hop_limit: [UDP, HOP_LIMIT],
            source: server,
            destination: client,
            ports: u32::from_ne_bytes(REPLY_PORTS),
            udp_length: udp_len,
            udp_checksum: sum.finish(),
            message: message,
            ia_na: u32::from_ne_bytes(IA_NA_HEADER),
            iaid: iaid,
            t1: u32::from_ne_bytes(link.t1),
            t2: u32::from_ne_bytes(link.t2),
            ia_address: u32::from_ne_bytes(IA_ADDRESS_HEADER),
            address: address,
            preferred_lifetime: u32::from_ne_bytes(link.preferred_lifetime),
            valid_lifetime: u32::from_ne_bytes(link.valid_lifetime),
        });
    }
    known.stamp();
    let client_id = known.duid.into_option(client_id_header);
    // SAFETY: both sources are longer than what is copied of them; the helper checks the frame's bounds.
    let failed = unsafe {
        let block = block.octets.as_ptr().cast_mut();
        bpf_xdp_store_bytes(ctx.ctx, HEAD_LEN as u32, block.cast(), block_len)
            | bpf_xdp_store_bytes(ctx.ctx, HEAD_LEN as u32 + block_len, client_id.cast(), client_id_len)
    };
    if failed != 0 {
        return Err(Reason::Internal);
    }
    Ok(())
}

#[inline(always)]
fn address_sum(address: [u64; 2]) -> Sum {
    let mut sum = Sum::ZERO;
    for word in address {
        sum = sum.add_u32(word as u32).add_u32((word >> 32) as u32);
    }
    sum
}

#[inline(always)]
fn mac_words(mac: [u8; 6]) -> [u16; 3] {
    [
        u16::from_ne_bytes([mac[0], mac[1]]),
        u16::from_ne_bytes([mac[2], mac[3]]),
        u16::from_ne_bytes([mac[4], mac[5]]),
    ]
}
