//! What the policy says of a frame, read with another parser than the program's.

use dhcp6_common::{
    Reason,
    wire::{MessageType, SERVER_PORT, Sum},
};
use etherparse::{
    EtherType, Ethernet2HeaderSlice, IpNumber, Ipv6HeaderSlice, SingleVlanHeaderSlice, UdpHeaderSlice,
};
use tests::frame::MULTICAST;

const IPV6: EtherType = EtherType::IPV6;
const C_TAG: EtherType = EtherType::VLAN_TAGGED_FRAME;
const S_TAG: EtherType = EtherType::PROVIDER_BRIDGING;

/// What becomes of a frame on the interface of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// It is nothing that this server cares for.
    NotOurs,
    /// It is garbage.
    Dropped(Reason),
    /// The daemon's, or the program's where it knows the client.
    Served,
}

/// Judges a frame; `has_link` says whether a link has its VLAN.
pub(super) fn judge(frame: &[u8], has_link: bool) -> Judgement {
    let Some(ip_packet) = behind_tags(frame) else { return Judgement::NotOurs };
    // Only whole headers of version 6.
    let Ok(ip) = Ipv6HeaderSlice::from_slice(ip_packet) else { return Judgement::NotOurs };
    let payload = &ip_packet[ip.slice().len()..];
    let port = payload.get(2..4).map(|port| u16::from_be_bytes([port[0], port[1]]));
    let is_ours = ip.next_header() == IpNumber::UDP
        && port == Some(SERVER_PORT)
        && ip.destination_addr() == MULTICAST
        && has_link;
    if !is_ours {
        return Judgement::NotOurs;
    }
    // A group's MAC address.
    if frame[6] & 1 != 0 {
        return Judgement::Dropped(Reason::SourceNotLinkLocal);
    }
    match message(&ip, payload) {
        Ok(message) if message[0] == MessageType::Solicit as u8 && frame_reads_malformed(message) => {
            Judgement::Dropped(Reason::Malformed)
        }
        Ok(_) => Judgement::Served,
        Err(reason) => Judgement::Dropped(reason),
    }
}

/// The IPv6 packet behind up to two tags, of which the second is a customer's.
fn behind_tags(frame: &[u8]) -> Option<&[u8]> {
    let ethernet = Ethernet2HeaderSlice::from_slice(frame).ok()?;
    let rest = &frame[ethernet.slice().len()..];
    if ethernet.ether_type() == IPV6 {
        return Some(rest);
    }
    if ![C_TAG, S_TAG].contains(&ethernet.ether_type()) {
        return None;
    }
    let outer = SingleVlanHeaderSlice::from_slice(rest).ok()?;
    let rest = &rest[outer.slice().len()..];
    match outer.ether_type() {
        IPV6 => Some(rest),
        C_TAG => {
            let inner = SingleVlanHeaderSlice::from_slice(rest).ok()?;
            (inner.ether_type() == IPV6).then_some(&rest[inner.slice().len()..])
        }
        _ => None,
    }
}

/// The message to servers, in the order in which its carriers are refused.
fn message<'a>(ip: &Ipv6HeaderSlice<'_>, payload: &'a [u8]) -> Result<&'a [u8], Reason> {
    let udp = UdpHeaderSlice::from_slice(payload).map_err(|_| Reason::BadLength)?;
    let datagram = payload.get(..ip.payload_length().into()).ok_or(Reason::BadLength)?;
    if udp.length() != ip.payload_length() || datagram.len() < 12 {
        return Err(Reason::BadLength);
    }
    let message = &datagram[8..];
    let kind = MessageType::from_code(message[0]);
    if kind != Some(MessageType::RelayForward) {
        if !ip.source_addr().is_unicast_link_local() {
            return Err(Reason::SourceNotLinkLocal);
        }
        let is_from_clients = matches!(
            kind,
            Some(
                MessageType::Solicit
                    | MessageType::Request
                    | MessageType::Confirm
                    | MessageType::Renew
                    | MessageType::Rebind
                    | MessageType::Release
                    | MessageType::Decline
                    | MessageType::InformationRequest
            )
        );
        if !is_from_clients {
            return Err(Reason::NotForServers);
        }
    }
    let whole = udp.to_header().calc_checksum_ipv6_raw(ip.source(), ip.destination(), message);
    let bare = Sum::ZERO.add_pseudo_header(ip.source(), ip.destination(), udp.length()).fold();
    let valid = [whole.expect("shorter than 65536 octets"), u16::from_be(bare)];
    if udp.checksum() == 0 || !valid.contains(&udp.checksum()) {
        return Err(Reason::BadChecksum);
    }
    Ok(message)
}

/// Whether an option of a Solicit reaches beyond its end, and nothing before it leaves the message to the daemon.
fn frame_reads_malformed(message: &[u8]) -> bool {
    /// Those that may be there once.
    const SINGLE: [u16; 5] = [1, 3, 6, 14, 25];
    const SERVER_ID: u16 = 2;
    const MOST: usize = 64;
    // What is longer is not read.
    if message.len() + 62 > 2048 {
        return false;
    }
    let mut seen = Vec::new();
    let mut rest = &message[4..];
    for _ in 0..=MOST {
        if rest.is_empty() {
            return false;
        }
        let Some((header, behind)) = rest.split_first_chunk::<4>() else { return true };
        let [code, len] = [[header[0], header[1]], [header[2], header[3]]].map(u16::from_be_bytes);
        let Some((_, next)) = behind.split_at_checked(len.into()) else { return true };
        let is_unfit = match code {
            6 => len % 2 != 0,
            14 => len != 0,
            _ => code == SERVER_ID,
        };
        if is_unfit || SINGLE.contains(&code) && seen.contains(&code) {
            return false;
        }
        seen.push(code);
        rest = next;
    }
    false
}
