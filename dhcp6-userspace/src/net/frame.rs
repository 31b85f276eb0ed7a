//! DHCPv6 messages in Ethernet frames: what the kernel's network stack would do for a UDP socket.

use std::{mem, net::Ipv6Addr};

use dhcp6_common::{Vlan, wire::Sum};
use nix::libc;

use crate::engine::DropReason;

pub(super) const C_TAG: u16 = libc::ETH_P_8021Q as u16;
const IPV6: u16 = libc::ETH_P_IPV6 as u16;
const UDP: u8 = libc::IPPROTO_UDP as u8;
const FRAGMENT: u8 = libc::IPPROTO_FRAGMENT as u8;
const HOP_BY_HOP: u8 = libc::IPPROTO_HOPOPTS as u8;
const DESTINATION_OPTIONS: u8 = libc::IPPROTO_DSTOPTS as u8;

pub(super) const VLAN_ID: u16 = 0x0fff;
const TAG_LEN: usize = 4;
pub(super) const ETHERNET_LEN: usize = 14;
const IPV6_LEN: usize = 40;
const FRAGMENT_HEADER_LEN: usize = 8;
const UDP_LEN: usize = 8;
/// What Linux sends unicast datagrams with, and the XDP program.
const HOP_LIMIT: u8 = 64;

/// The tags of a frame (IEEE 802.1Q, section 9), each with its priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
pub(super) fn longest_frame(mtu: usize, tags: Option<Tags>) -> usize {
    let has_c_tag = tags.is_some_and(|tags| tags.tpid == C_TAG);
    mtu + ETHERNET_LEN + if has_c_tag { TAG_LEN } else { 0 }
}

/// An IPv6 packet that came in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Packet<'a> {
    pub(super) mac: [u8; 6],
    pub(super) tags: Option<Tags>,
    pub(super) source: Ipv6Addr,
    pub(super) destination: Ipv6Addr,
    next_header: u8,
    payload: &'a [u8],
}

/// What is in a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Upper<'a> {
    /// A UDP header and what follows it.
    Datagram(&'a [u8]),
    /// Part of a packet.
    Fragment(Fragment<'a>),
}

/// A fragment of a packet (RFC 8200, section 4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fragment<'a> {
    pub(super) identification: u32,
    /// In units of 8 octets.
    pub(super) offset: u16,
    pub(super) is_last: bool,
    pub(super) next_header: u8,
    pub(super) payload: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Takes a frame apart whose outer tag, type and content, is beside it.
    ///
    /// # Errors
    ///
    /// Why it is dropped.
    pub(super) fn parse(frame: &'a [u8], outer: Option<(u16, u16)>) -> Result<Self, DropReason> {
        let half = |offset| half(frame, offset);
        let array = |offset| frame.get(offset..).and_then(<[u8]>::first_chunk::<16>).copied();
        let (inner, header) = match half(12)? {
            C_TAG if outer.is_some() => (Some(half(14)?), ETHERNET_LEN + TAG_LEN),
            _ => (None, ETHERNET_LEN),
        };
        let mac: [u8; 6] = *frame.get(6..).and_then(<[u8]>::first_chunk).ok_or(DropReason::BadFrame)?;
        let payload_len: usize = half(header + 4)?.into();
        let source = Ipv6Addr::from(array(header + 8).ok_or(DropReason::BadFrame)?);
        let destination = Ipv6Addr::from(array(header + 24).ok_or(DropReason::BadFrame)?);
        let start = header + IPV6_LEN;
        let payload = frame.get(start..start + payload_len).ok_or(DropReason::BadFrame)?;
        let is_valid = half(header - 2)? == IPV6
            && frame[header] >> 4 == 6
            && !source.is_multicast()
            && !source.is_loopback()
            // A group cannot be answered.
            && mac[0] & 1 == 0;
        if !is_valid {
            return Err(DropReason::BadFrame);
        }
        let tags = outer.map(|(tpid, outer)| Tags { tpid, outer, inner });
        Ok(Self { mac, tags, source, destination, next_header: frame[header + 6], payload })
    }

    /// Goes past the extension headers that say nothing to a server.
    ///
    /// # Errors
    ///
    /// Why it is dropped.
    pub(super) fn upper(&self) -> Result<Upper<'a>, DropReason> {
        Self::upper_of(self.next_header, self.payload)
    }

    /// What is behind a `next_header`.
    ///
    /// # Errors
    ///
    /// Why it is dropped.
    pub(super) fn upper_of(mut next_header: u8, mut payload: &'a [u8]) -> Result<Upper<'a>, DropReason> {
        loop {
            match (next_header, payload) {
                (UDP, datagram) => return Ok(Upper::Datagram(datagram)),
                (HOP_BY_HOP | DESTINATION_OPTIONS, [next, len, ..]) => {
                    next_header = *next;
                    payload = payload.get(8 + 8 * usize::from(*len)..).ok_or(DropReason::BadFrame)?;
                }
                (FRAGMENT, [next, _, high, low, a, b, c, d, payload @ ..]) => {
                    let place = u16::from_be_bytes([*high, *low]);
                    return Ok(Upper::Fragment(Fragment {
                        identification: u32::from_be_bytes([*a, *b, *c, *d]),
                        offset: place >> 3,
                        is_last: place & 1 == 0,
                        next_header: *next,
                        payload,
                    }));
                }
                _ => return Err(DropReason::BadFrame),
            }
        }
    }

    /// Checks what the kernel checks of UDP (RFC 8200, section 8.1; RFC 768). Returns its ports and its payload.
    /// `is_summed` says that its checksum is right or not made yet.
    ///
    /// # Errors
    ///
    /// Why it is dropped.
    pub(super) fn udp<'b>(
        &self,
        datagram: &'b [u8],
        is_summed: bool,
    ) -> Result<([u16; 2], &'b [u8]), DropReason> {
        let half = |offset| half(datagram, offset);
        let udp_len = half(4)?;
        let payload = datagram.get(UDP_LEN..udp_len.into()).ok_or(DropReason::BadFrame)?;
        let (source, destination) = (self.source.octets(), self.destination.octets());
        let sum = || {
            let pseudo_header = Sum::ZERO.add_pseudo_header(source, destination, udp_len);
            pseudo_header.add_octets(&datagram[..udp_len.into()]).fold()
        };
        let is_right = is_summed || half(6)? != 0 && sum() == 0xffff;
        if !is_right {
            return Err(DropReason::BadChecksum);
        }
        Ok(([half(0)?, half(2)?], payload))
    }
}

fn half(octets: &[u8], offset: usize) -> Result<u16, DropReason> {
    let half = octets.get(offset..).and_then(<[u8]>::first_chunk).copied();
    half.map(u16::from_be_bytes).ok_or(DropReason::BadFrame)
}

/// Where an answer goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Route {
    pub(super) source_mac: [u8; 6],
    pub(super) destination_mac: [u8; 6],
    pub(super) tags: Option<Tags>,
    pub(super) source: Ipv6Addr,
    pub(super) destination: Ipv6Addr,
    pub(super) source_port: u16,
    pub(super) destination_port: u16,
}

/// Frames, one behind the other.
#[derive(Debug, Default)]
pub(super) struct Frames {
    octets: Vec<u8>,
    /// Where each ends.
    ends: Vec<usize>,
}

impl Frames {
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The frames from the one with this number on.
    pub(super) fn from(&self, first: usize) -> impl Iterator<Item = &[u8]> {
        let mut start = first.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.ends[first..].iter().map(move |end| &self.octets[mem::replace(&mut start, *end)..*end])
    }

    pub(super) fn clear(&mut self) {
        self.octets.clear();
        self.ends.clear();
    }

    fn push(&mut self, parts: &[&[u8]]) {
        for part in parts {
            self.octets.extend_from_slice(part);
        }
        self.ends.push(self.octets.len());
    }
}

impl Route {
    /// Adds the frames that carry a message: one, or, where that would be longer than `longest` octets, the fragments of
    /// `identification` (RFC 8200, section 4.5). `None` where a message is longer than UDP can carry; nothing is added
    /// then.
    pub(super) fn write(
        &self,
        message: &[u8],
        longest: usize,
        identification: impl FnOnce() -> u32,
        frames: &mut Frames,
    ) -> Option<()> {
        let udp_len = u16::try_from(UDP_LEN + message.len()).ok()?;
        let udp = self.udp_header(udp_len, message);
        let headers = ETHERNET_LEN + self.tags.map_or(0, Tags::len) + IPV6_LEN;
        if headers + usize::from(udp_len) <= longest {
            let (header, len) = self.header(UDP, udp_len);
            frames.push(&[&header[..len], &udp, message]);
            return Some(());
        }
        // All but the last have a multiple of 8 octets.
        let room = longest.saturating_sub(headers + FRAGMENT_HEADER_LEN) / 8 * 8;
        if room == 0 {
            return None;
        }
        let identification = identification().to_be_bytes();
        let datagram = [&udp, message].concat();
        let count = datagram.len().div_ceil(room);
        for (index, part) in datagram.chunks(room).enumerate() {
            let offset = (index * room) as u16 | u16::from(index + 1 < count);
            let mut fragment = [UDP, 0, 0, 0, 0, 0, 0, 0];
            fragment[2..4].copy_from_slice(&offset.to_be_bytes());
            fragment[4..].copy_from_slice(&identification);
            // A datagram has at most 65535 octets, and a fragment fewer.
            let (header, len) = self.header(FRAGMENT, (FRAGMENT_HEADER_LEN + part.len()) as u16);
            frames.push(&[&header[..len], &fragment, part]);
        }
        Some(())
    }

    fn udp_header(&self, len: u16, message: &[u8]) -> [u8; UDP_LEN] {
        let mut header = [0; UDP_LEN];
        header[..2].copy_from_slice(&self.source_port.to_be_bytes());
        header[2..4].copy_from_slice(&self.destination_port.to_be_bytes());
        header[4..6].copy_from_slice(&len.to_be_bytes());
        let sum = Sum::ZERO.add_pseudo_header(self.source.octets(), self.destination.octets(), len);
        let checksum = sum.add_octets(&header).add_octets(message).finish();
        header[6..].copy_from_slice(&checksum.to_ne_bytes());
        header
    }

    /// The headers up to that of IPv6, and how long they are.
    fn header(
        &self,
        next_header: u8,
        payload_len: u16,
    ) -> ([u8; ETHERNET_LEN + 2 * TAG_LEN + IPV6_LEN], usize) {
        let mut header = [0; ETHERNET_LEN + 2 * TAG_LEN + IPV6_LEN];
        let mut len = 0;
        let mut add = |octets: &[u8]| {
            header[len..len + octets.len()].copy_from_slice(octets);
            len += octets.len();
        };
        add(&self.destination_mac);
        add(&self.source_mac);
        if let Some(Tags { tpid, outer, inner }) = self.tags {
            add(&tpid.to_be_bytes());
            add(&outer.to_be_bytes());
            if let Some(inner) = inner {
                add(&C_TAG.to_be_bytes());
                add(&inner.to_be_bytes());
            }
        }
        add(&IPV6.to_be_bytes());
        add(&[0x60, 0, 0, 0]);
        add(&payload_len.to_be_bytes());
        add(&[next_header, HOP_LIMIT]);
        add(&self.source.octets());
        add(&self.destination.octets());
        (header, len)
    }
}
