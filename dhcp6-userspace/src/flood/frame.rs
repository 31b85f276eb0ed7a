//! Ethernet frames as simulated clients send and receive them.

use std::net::Ipv6Addr;

use dhcp6_common::wire::{ALL_RELAY_AGENTS_AND_SERVERS, CLIENT_PORT, SERVER_PORT, Sum};

use super::Wrong;

/// A MAC address.
pub(super) type Mac = [u8; 6];

/// Octets before the DHCPv6 message: Ethernet, IPv6 and UDP.
pub(super) const HEADERS_LEN: usize = UDP + 8;
/// MAC address that ff02::1:2 maps to (RFC 2464, section 7).
const MULTICAST_MAC: Mac = [0x33, 0x33, 0, 1, 0, 2];
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];
/// Offset of the IPv6 header.
const IPV6: usize = 14;
/// Offset of the UDP or ICMPv6 header.
const UDP: usize = IPV6 + 40;

const NEXT_HEADER_UDP: u8 = 17;
const NEXT_HEADER_ICMPV6: u8 = 58;
const NEIGHBOR_SOLICITATION: u8 = 135;
const NEIGHBOR_ADVERTISEMENT: u8 = 136;
/// Octets of a Neighbor Solicitation or Advertisement without options (RFC 4861, sections 4.3 and 4.4).
const NEIGHBOR_LEN: usize = 24;
/// Target Link-Layer Address, and its length in units of eight octets (RFC 4861, section 4.6.1).
const TARGET_LINK_LAYER_ADDRESS: [u8; 2] = [2, 1];
/// Solicited and Override (RFC 4861, section 4.4).
const SOLICITED_OVERRIDE: u8 = 0x60;

/// A frame from the network.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// Its octets, from the Ethernet header on.
    pub octets: &'a [u8],
    /// Whether its sender has left the checksum to a network card that it never met, as frames between two
    /// network namespaces do: it then holds the sum of the pseudo-header alone, and nothing can be checked.
    pub checksum_offloaded: bool,
}

/// What a frame is to a client.
#[derive(Clone, Copy, Debug)]
pub(super) enum Inbound<'a> {
    /// A datagram to a client's port.
    Dhcpv6 {
        destination_mac: Mac,
        destination: Ipv6Addr,
        /// The DHCPv6 message, or what makes the datagram invalid.
        message: Result<&'a [u8], Wrong>,
    },
    /// A datagram to the port of servers and relay agents.
    Relayed {
        destination_mac: Mac,
        destination: Ipv6Addr,
        /// The relay message, or what makes the datagram invalid.
        message: Result<&'a [u8], Wrong>,
    },
    /// A valid Neighbor Solicitation.
    NeighborSolicitation { source_mac: Mac, source: Ipv6Addr, target: Ipv6Addr },
    /// Anything else.
    Other,
}

impl<'a> Frame<'a> {
    /// Takes the frame apart.
    pub(super) fn read(&self) -> Inbound<'a> {
        let octets = self.octets;
        if octets.len() < HEADERS_LEN || octets[12..14] != ETHERTYPE_IPV6 {
            return Inbound::Other;
        }
        let destination_mac = chunk(octets, 0);
        let source = Ipv6Addr::from(chunk::<16>(octets, IPV6 + 8));
        let destination = Ipv6Addr::from(chunk::<16>(octets, IPV6 + 24));
        let payload_len = usize::from(u16::from_be_bytes(chunk(octets, IPV6 + 4)));
        // Octets behind the IPv6 payload are padding.
        let payload = octets.get(UDP..UDP + payload_len);
        match octets[IPV6 + 6] {
            NEXT_HEADER_UDP => {
                let port = u16::from_be_bytes(chunk(octets, UDP + 2));
                let message = payload
                    .ok_or(Wrong::Length)
                    .and_then(|datagram| self.message(source, destination, datagram));
                match port {
                    CLIENT_PORT => Inbound::Dhcpv6 { destination_mac, destination, message },
                    SERVER_PORT => Inbound::Relayed { destination_mac, destination, message },
                    _ => Inbound::Other,
                }
            }
            NEXT_HEADER_ICMPV6 if octets[UDP] == NEIGHBOR_SOLICITATION => match payload {
                Some(message) if self.is_valid_solicitation(source, destination, message) => {
                    Inbound::NeighborSolicitation {
                        source_mac: chunk(octets, 6),
                        source,
                        target: chunk::<16>(message, 8).into(),
                    }
                }
                _ => Inbound::Other,
            },
            _ => Inbound::Other,
        }
    }

    /// The payload of a UDP datagram.
    fn message(
        &self,
        source: Ipv6Addr,
        destination: Ipv6Addr,
        datagram: &'a [u8],
    ) -> Result<&'a [u8], Wrong> {
        let Some((header, message)) = datagram.split_first_chunk::<8>() else { return Err(Wrong::Length) };
        if usize::from(u16::from_be_bytes([header[4], header[5]])) != datagram.len() {
            return Err(Wrong::Length);
        }
        let sum = Sum::ZERO
            .add_pseudo_header(source.octets(), destination.octets(), datagram.len() as u16)
            .add_octets(datagram);
        // RFC 8200, section 8.1: a datagram over IPv6 has a checksum.
        let valid = [header[6], header[7]] != [0, 0] && sum.fold() == 0xffff;
        if valid || self.checksum_offloaded { Ok(message) } else { Err(Wrong::Checksum) }
    }

    /// RFC 4861, section 7.1.1, as far as it matters to a host that has the target.
    fn is_valid_solicitation(&self, source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> bool {
        const NEVER_FORWARDED: u8 = 255;
        self.octets[IPV6 + 7] == NEVER_FORWARDED
            && message.len() >= NEIGHBOR_LEN
            && message[1] == 0
            && (self.checksum_offloaded || icmpv6_sum(source, destination, message).fold() == 0xffff)
    }
}

/// The frame of a client's message to all servers.
pub(super) fn to_servers(mac: Mac, source: Ipv6Addr, message: &[u8]) -> Vec<u8> {
    let destination = Ipv6Addr::from(ALL_RELAY_AGENTS_AND_SERVERS);
    udp((mac, source, CLIENT_PORT), (MULTICAST_MAC, destination, SERVER_PORT), message)
}

/// The frame of a relay agent's message to all servers.
pub(super) fn to_servers_from_relay(mac: Mac, source: Ipv6Addr, message: &[u8]) -> Vec<u8> {
    let destination = Ipv6Addr::from(ALL_RELAY_AGENTS_AND_SERVERS);
    udp((mac, source, SERVER_PORT), (MULTICAST_MAC, destination, SERVER_PORT), message)
}

/// The frame of a datagram between two triples of MAC address, address and port.
pub(super) fn udp(from: (Mac, Ipv6Addr, u16), to: (Mac, Ipv6Addr, u16), message: &[u8]) -> Vec<u8> {
    let len = (8 + message.len()) as u16;
    let mut frame = ipv6(from.0, to.0, from.1, to.1, (NEXT_HEADER_UDP, 64), len);
    frame.extend(from.2.to_be_bytes());
    frame.extend(to.2.to_be_bytes());
    frame.extend(len.to_be_bytes());
    frame.extend([0; 2]);
    frame.extend(message);
    let sum = Sum::ZERO.add_pseudo_header(from.1.octets(), to.1.octets(), len).add_octets(&frame[UDP..]);
    frame[UDP + 6..UDP + 8].copy_from_slice(&sum.finish().to_ne_bytes());
    frame
}

/// The frame of the Neighbor Advertisement that answers a solicitation for the address `target` of the host
/// `mac` (RFC 4861, section 7.2.4).
pub(super) fn neighbor_advertisement(mac: Mac, target: Ipv6Addr, to: (Mac, Ipv6Addr)) -> Vec<u8> {
    const LEN: u16 = NEIGHBOR_LEN as u16 + 8;
    let all_nodes = ([0x33, 0x33, 0, 0, 0, 1], Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1));
    // Somebody who is only about to take an address cannot be answered there.
    let asks_from_nowhere = to.1.is_unspecified();
    let (to_mac, to_address) = if asks_from_nowhere { all_nodes } else { to };
    let mut frame = ipv6(mac, to_mac, target, to_address, (NEXT_HEADER_ICMPV6, 255), LEN);
    frame.extend([NEIGHBOR_ADVERTISEMENT, 0, 0, 0]);
    frame.extend([if asks_from_nowhere { 0x20 } else { SOLICITED_OVERRIDE }, 0, 0, 0]);
    frame.extend(target.octets());
    frame.extend(TARGET_LINK_LAYER_ADDRESS);
    frame.extend(mac);
    let sum = icmpv6_sum(target, to_address, &frame[UDP..]);
    frame[UDP + 2..UDP + 4].copy_from_slice(&sum.finish().to_ne_bytes());
    frame
}

/// Ethernet and IPv6 headers.
fn ipv6(
    from_mac: Mac,
    to_mac: Mac,
    from: Ipv6Addr,
    to: Ipv6Addr,
    (next_header, hop_limit): (u8, u8),
    payload_len: u16,
) -> Vec<u8> {
    let mut frame = Vec::with_capacity(UDP + usize::from(payload_len));
    frame.extend(to_mac);
    frame.extend(from_mac);
    frame.extend(ETHERTYPE_IPV6);
    frame.extend([0x60, 0, 0, 0]);
    frame.extend(payload_len.to_be_bytes());
    frame.extend([next_header, hop_limit]);
    frame.extend(from.octets());
    frame.extend(to.octets());
    frame
}

/// The sum of an ICMPv6 message and its pseudo-header (RFC 4443, section 2.3).
fn icmpv6_sum(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> Sum {
    Sum::ZERO
        .add_octets(&source.octets())
        .add_octets(&destination.octets())
        .add_u16((message.len() as u16).to_be())
        .add_u16(u16::from(NEXT_HEADER_ICMPV6).to_be())
        .add_octets(message)
}

/// `N` octets at an offset that is known to be inside.
fn chunk<const N: usize>(octets: &[u8], offset: usize) -> [u8; N] {
    *octets[offset..].first_chunk().expect("the length has been checked")
}

#[cfg(test)]
mod tests {
    use super::{Frame, Inbound, icmpv6_sum, neighbor_advertisement, to_servers, udp};
    use crate::flood::Wrong;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const SERVER: [u8; 6] = [2, 0, 0, 0, 0, 2];

    #[test]
    fn damaged_datagrams_are_told_apart() {
        let (client, server) = ("fe80::ff:fe00:1".parse().unwrap(), "fe80::2".parse().unwrap());
        let good = udp((SERVER, server, 547), (MAC, client, 546), &[7, 1, 2, 3]);
        let change = |at: usize, to: u8| {
            let mut frame = good.clone();
            frame[at] = to;
            frame
        };
        let padded = [&good[..], &[0; 4]].concat();
        let mut partial = good.clone();
        partial[60..62].copy_from_slice(&[0x12, 0x34]);
        for (frame, checksum_offloaded, expected, what) in [
            (good.clone(), false, Ok(&[7, 1, 2, 3][..]), "as sent"),
            (padded, false, Ok(&[7, 1, 2, 3][..]), "with padding"),
            (partial, true, Ok(&[7, 1, 2, 3][..]), "a checksum that nobody has computed"),
            (change(65, 9), false, Err(Wrong::Checksum), "an octet changed"),
            (change(59, 11), false, Err(Wrong::Length), "UDP length"),
            (change(19, 200), false, Err(Wrong::Length), "IPv6 payload beyond the frame"),
            (change(19, 3), false, Err(Wrong::Length), "IPv6 payload below a UDP header"),
        ] {
            let frame = Frame { octets: &frame, checksum_offloaded };
            let Inbound::Dhcpv6 { destination_mac, destination, message } = frame.read() else {
                panic!("{what}: not recognised");
            };
            assert_eq!((destination_mac, destination, message), (MAC, client, expected), "{what}");
        }
        let request = to_servers(MAC, client, &[1, 0, 0, 0]);
        let request = Frame { octets: &request, checksum_offloaded: false };
        assert!(matches!(request.read(), Inbound::Relayed { .. }), "to the port of servers and relay agents");
        let elsewhere = udp((SERVER, server, 547), (MAC, client, 548), &[7, 1, 2, 3]);
        let elsewhere = Frame { octets: &elsewhere, checksum_offloaded: false };
        assert!(matches!(elsewhere.read(), Inbound::Other), "to another port");
    }

    #[test]
    fn advertisements_have_a_valid_checksum() {
        let target = "fe80::ff:fe00:1".parse().unwrap();
        for (from, to) in [("fe80::2", "fe80::2"), ("::", "ff02::1")] {
            let frame = neighbor_advertisement(MAC, target, (SERVER, from.parse().unwrap()));
            let to = to.parse().unwrap();
            assert_eq!(icmpv6_sum(target, to, &frame[54..]).fold(), 0xffff, "to {to}");
            assert_eq!(frame.len(), 14 + 40 + 32);
            assert_eq!(frame[80..], MAC);
        }
    }
}
