//! DHCPv6 messages in tagged Ethernet frames: what the kernel's network stack would do for an untagged one.

use std::net::Ipv6Addr;

use dhcp6_common::{Vlan, wire::Sum};
use nix::libc;

use crate::engine::DropReason;

pub(super) const C_TAG: u16 = libc::ETH_P_8021Q as u16;
const IPV6: u16 = libc::ETH_P_IPV6 as u16;
const UDP: u8 = libc::IPPROTO_UDP as u8;
const FRAGMENT: u8 = libc::IPPROTO_FRAGMENT as u8;

const VLAN_ID: u16 = 0x0fff;
const TAG_LEN: usize = 4;
pub(super) const ETHERNET_LEN: usize = 14;
const IPV6_LEN: usize = 40;
const FRAGMENT_HEADER_LEN: usize = 8;
const UDP_LEN: usize = 8;
/// What Linux sends unicast datagrams with, and the XDP program.
const HOP_LIMIT: u8 = 64;

/// The tags of a frame (IEEE 802.1Q, section 9), each with its priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tags {
    /// The type of the only or outer tag: 0x8100 (802.1Q) or 0x88a8 (802.1ad).
    pub tpid: u16,
    /// Its priority and identifier.
    pub outer: u16,
    /// Priority and identifier of the inner tag, whose type is 0x8100.
    pub inner: Option<u16>,
}

impl Tags {
    /// The identifiers.
    pub fn vlan(self) -> Vlan {
        let Self { tpid: _, outer, inner } = self;
        Vlan { outer: outer & VLAN_ID, inner: inner.map_or(0, |inner| inner & VLAN_ID) }
    }

    fn len(self) -> usize {
        if self.inner.is_some() { 2 * TAG_LEN } else { TAG_LEN }
    }
}

/// The longest frame with these tags that the kernel takes from a packet socket: room for one tag beyond the MTU, where
/// that is an 802.1Q tag (<https://github.com/torvalds/linux/blob/v6.12/net/packet/af_packet.c>,
/// `packet_extra_vlan_len_allowed`).
pub(super) fn longest_frame(mtu: usize, tags: Tags) -> usize {
    mtu + ETHERNET_LEN + if tags.tpid == C_TAG { TAG_LEN } else { 0 }
}

/// A datagram that came in a tagged frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parsed<'a> {
    pub(super) mac: [u8; 6],
    pub(super) tags: Tags,
    pub(super) source: Ipv6Addr,
    pub(super) destination: Ipv6Addr,
    pub(super) source_port: u16,
    pub(super) payload: &'a [u8],
}

/// Takes a frame apart whose outer tag, type and content, is beside it, and checks what the kernel checks of UDP
/// (RFC 8200, sections 3 and 8.1; RFC 768). `is_summed` says that its checksum is right or not made yet.
///
/// # Errors
///
/// Why it is dropped.
pub(super) fn parse(
    frame: &[u8],
    (tpid, outer): (u16, u16),
    is_summed: bool,
) -> Result<Parsed<'_>, DropReason> {
    let at = |offset: usize| frame.get(offset..offset + 2).map(|octets| [octets[0], octets[1]]);
    let half = |offset| at(offset).map(u16::from_be_bytes).ok_or(DropReason::BadFrame);
    let array = |offset| frame.get(offset..).and_then(<[u8]>::first_chunk::<16>).copied();
    let (inner, header) = match half(12)? {
        C_TAG => (Some(half(14)?), ETHERNET_LEN + TAG_LEN),
        _ => (None, ETHERNET_LEN),
    };
    let tags = Tags { tpid, outer, inner };
    let mac: [u8; 6] = *frame.get(6..).and_then(<[u8]>::first_chunk).ok_or(DropReason::BadFrame)?;
    let payload_len: usize = half(header + 4)?.into();
    let source = array(header + 8).ok_or(DropReason::BadFrame)?;
    let destination = array(header + 24).ok_or(DropReason::BadFrame)?;
    let udp = header + IPV6_LEN;
    let udp_len = half(udp + 4)?;
    let datagram = frame.get(udp..udp + usize::from(udp_len)).ok_or(DropReason::BadFrame)?;
    let from = Ipv6Addr::from(source);
    let is_valid = half(header - 2)? == IPV6
        && frame[header] >> 4 == 6
        && frame[header + 6] == UDP
        && (UDP_LEN..=payload_len).contains(&datagram.len())
        && frame.len() >= udp + payload_len
        && !from.is_multicast()
        && !from.is_loopback()
        // A group cannot be answered.
        && mac[0] & 1 == 0;
    if !is_valid {
        return Err(DropReason::BadFrame);
    }
    let sum = || Sum::ZERO.add_pseudo_header(source, destination, udp_len).add_octets(datagram).fold();
    let is_right = is_summed || half(udp + 6)? != 0 && sum() == 0xffff;
    if !is_right {
        return Err(DropReason::BadChecksum);
    }
    Ok(Parsed {
        mac,
        tags,
        source: from,
        destination: destination.into(),
        source_port: half(udp)?,
        payload: &datagram[UDP_LEN..],
    })
}

/// Where an answer goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Route {
    pub(super) source_mac: [u8; 6],
    pub(super) destination_mac: [u8; 6],
    pub(super) tags: Tags,
    pub(super) source: Ipv6Addr,
    pub(super) destination: Ipv6Addr,
    pub(super) source_port: u16,
    pub(super) destination_port: u16,
}

impl Route {
    /// The frames that carry a message: one, or, where that would be longer than `longest` octets, the fragments of
    /// `identification` (RFC 8200, section 4.5). `None` where a message is longer than UDP can carry.
    pub(super) fn frames(&self, message: &[u8], longest: usize, identification: u32) -> Option<Vec<Vec<u8>>> {
        let datagram = self.datagram(message)?;
        let headers = ETHERNET_LEN + self.tags.len() + IPV6_LEN;
        if headers + datagram.len() <= longest {
            return Some(vec![self.frame(UDP, &[], &datagram)]);
        }
        // All but the last have a multiple of 8 octets.
        let room = longest.saturating_sub(headers + FRAGMENT_HEADER_LEN) / 8 * 8;
        if room == 0 {
            return None;
        }
        let count = datagram.len().div_ceil(room);
        let fragment = |(index, part): (usize, &[u8])| {
            let offset = (index * room) as u16 | u16::from(index + 1 < count);
            let mut header = [UDP, 0, 0, 0, 0, 0, 0, 0];
            header[2..4].copy_from_slice(&offset.to_be_bytes());
            header[4..].copy_from_slice(&identification.to_be_bytes());
            self.frame(FRAGMENT, &header, part)
        };
        Some(datagram.chunks(room).enumerate().map(fragment).collect())
    }

    /// A UDP datagram with its checksum.
    fn datagram(&self, message: &[u8]) -> Option<Vec<u8>> {
        let len = u16::try_from(UDP_LEN + message.len()).ok()?;
        let mut datagram = Vec::with_capacity(len.into());
        for half in [self.source_port, self.destination_port, len, 0] {
            datagram.extend(half.to_be_bytes());
        }
        datagram.extend(message);
        let sum = Sum::ZERO.add_pseudo_header(self.source.octets(), self.destination.octets(), len);
        let checksum = sum.add_octets(&datagram).finish();
        datagram[6..8].copy_from_slice(&checksum.to_ne_bytes());
        Some(datagram)
    }

    fn frame(&self, next_header: u8, extension: &[u8], payload: &[u8]) -> Vec<u8> {
        let Tags { tpid, outer, inner } = self.tags;
        let mut frame =
            Vec::with_capacity(ETHERNET_LEN + self.tags.len() + IPV6_LEN + extension.len() + payload.len());
        frame.extend(self.destination_mac);
        frame.extend(self.source_mac);
        for half in [tpid, outer] {
            frame.extend(half.to_be_bytes());
        }
        if let Some(inner) = inner {
            frame.extend(C_TAG.to_be_bytes());
            frame.extend(inner.to_be_bytes());
        }
        frame.extend(IPV6.to_be_bytes());
        frame.extend([0x60, 0, 0, 0]);
        // A datagram has at most 65535 octets, and a fragment fewer.
        frame.extend(((extension.len() + payload.len()) as u16).to_be_bytes());
        frame.extend([next_header, HOP_LIMIT]);
        frame.extend(self.source.octets());
        frame.extend(self.destination.octets());
        frame.extend(extension);
        frame.extend(payload);
        frame
    }
}
