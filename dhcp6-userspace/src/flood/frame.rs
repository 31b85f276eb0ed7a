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

/// Who has sent a frame: MAC address and IPv6 address; `None` where it has no IPv6 header.
pub(super) fn source(octets: &[u8]) -> Option<(Mac, Ipv6Addr)> {
    let is_ipv6 = octets.len() >= UDP && octets[12..14] == ETHERTYPE_IPV6;
    is_ipv6.then(|| (chunk(octets, 6), chunk::<16>(octets, IPV6 + 8).into()))
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
    /// A valid Neighbor Advertisement.
    NeighborAdvertisement { target: Ipv6Addr },
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
                Some(message) if self.is_valid_neighbor(source, destination, message) => {
                    Inbound::NeighborSolicitation {
                        source_mac: chunk(octets, 6),
                        source,
                        target: chunk::<16>(message, 8).into(),
                    }
                }
                _ => Inbound::Other,
            },
            NEXT_HEADER_ICMPV6 if octets[UDP] == NEIGHBOR_ADVERTISEMENT => match payload {
                Some(message) if self.is_valid_neighbor(source, destination, message) => {
                    Inbound::NeighborAdvertisement { target: chunk::<16>(message, 8).into() }
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
        // RFC 8200, section 8.1: a datagram over IPv6 has a checksum.
        let is_valid = || {
            let sum = Sum::ZERO
                .add_pseudo_header(source.octets(), destination.octets(), datagram.len() as u16)
                .add_octets(datagram);
            [header[6], header[7]] != [0, 0] && sum.fold() == 0xffff
        };
        if self.checksum_offloaded || is_valid() { Ok(message) } else { Err(Wrong::Checksum) }
    }

    /// RFC 4861, sections 7.1.1 and 7.1.2, as far as they matter to a host that has the target or wants it.
    fn is_valid_neighbor(&self, source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> bool {
        const NEVER_FORWARDED: u8 = 255;
        self.octets[IPV6 + 7] == NEVER_FORWARDED
            && message.len() >= NEIGHBOR_LEN
            && message[1] == 0
            && (self.checksum_offloaded || icmpv6_sum(source, destination, message).fold() == 0xffff)
    }
}

/// Begins the frame of a client's message to all servers, in the place of what was there.
pub(super) fn begin_to_servers(frame: &mut Vec<u8>, mac: Mac, source: Ipv6Addr, port: u16) {
    let destination = Ipv6Addr::from(ALL_RELAY_AGENTS_AND_SERVERS);
    begin(frame, (mac, source, port), (MULTICAST_MAC, destination, SERVER_PORT));
}

/// Begins the frame of a datagram between two triples of MAC address, address and port, in the place of what was there.
/// The message is appended to it; [`finish`] does the rest.
fn begin(frame: &mut Vec<u8>, from: (Mac, Ipv6Addr, u16), to: (Mac, Ipv6Addr, u16)) {
    frame.clear();
    ipv6(frame, (from.0, from.1), (to.0, to.1), (NEXT_HEADER_UDP, 64), 0);
    let ([a, b], [c, d]) = (from.2.to_be_bytes(), to.2.to_be_bytes());
    frame.extend_from_slice(&[a, b, c, d, 0, 0, 0, 0]);
}

/// Writes the lengths and the checksum of a datagram whose message is complete.
pub(super) fn finish(frame: &mut [u8]) {
    let len = (frame.len() - UDP) as u16;
    frame[IPV6 + 4..IPV6 + 6].copy_from_slice(&len.to_be_bytes());
    frame[UDP + 4..UDP + 6].copy_from_slice(&len.to_be_bytes());
    // The addresses are next to the datagram, at an even offset.
    let sum = Sum::ZERO
        .add_octets(&frame[IPV6 + 8..])
        .add_u16(len.to_be())
        .add_u16(u16::from(NEXT_HEADER_UDP).to_be());
    frame[UDP + 6..UDP + 8].copy_from_slice(&sum.finish().to_ne_bytes());
}

/// The frame of a datagram between two triples of MAC address, address and port.
#[cfg(test)]
pub(super) fn udp(from: (Mac, Ipv6Addr, u16), to: (Mac, Ipv6Addr, u16), message: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    begin(&mut frame, from, to);
    frame.extend_from_slice(message);
    finish(&mut frame);
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
    let mut frame = Vec::with_capacity(UDP + usize::from(LEN));
    ipv6(&mut frame, (mac, target), (to_mac, to_address), (NEXT_HEADER_ICMPV6, 255), LEN);
    frame.extend([NEIGHBOR_ADVERTISEMENT, 0, 0, 0]);
    frame.extend([if asks_from_nowhere { 0x20 } else { SOLICITED_OVERRIDE }, 0, 0, 0]);
    frame.extend(target.octets());
    frame.extend(TARGET_LINK_LAYER_ADDRESS);
    frame.extend(mac);
    let sum = icmpv6_sum(target, to_address, &frame[UDP..]);
    frame[UDP + 2..UDP + 4].copy_from_slice(&sum.finish().to_ne_bytes());
    frame
}

/// The frame by which the host `mac` looks for others that have the address `target` (RFC 4862, section 5.4.2).
pub(super) fn address_probe(mac: Mac, target: Ipv6Addr) -> Vec<u8> {
    let [.., x, y, z] = target.octets();
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(x), u16::from_be_bytes([y, z]));
    let mut frame = Vec::with_capacity(UDP + NEIGHBOR_LEN);
    let to = ([0x33, 0x33, 0xff, x, y, z], group);
    ipv6(&mut frame, (mac, Ipv6Addr::UNSPECIFIED), to, (NEXT_HEADER_ICMPV6, 255), NEIGHBOR_LEN as u16);
    frame.extend([NEIGHBOR_SOLICITATION, 0, 0, 0, 0, 0, 0, 0]);
    frame.extend(target.octets());
    let sum = icmpv6_sum(Ipv6Addr::UNSPECIFIED, group, &frame[UDP..]);
    frame[UDP + 2..UDP + 4].copy_from_slice(&sum.finish().to_ne_bytes());
    frame
}

/// Appends Ethernet and IPv6 headers.
fn ipv6(
    frame: &mut Vec<u8>,
    from: (Mac, Ipv6Addr),
    to: (Mac, Ipv6Addr),
    (next_header, hop_limit): (u8, u8),
    payload_len: u16,
) {
    let mut headers = [0; UDP];
    headers[..6].copy_from_slice(&to.0);
    headers[6..12].copy_from_slice(&from.0);
    headers[12..14].copy_from_slice(&ETHERTYPE_IPV6);
    headers[IPV6] = 0x60;
    headers[IPV6 + 4..IPV6 + 6].copy_from_slice(&payload_len.to_be_bytes());
    headers[IPV6 + 6] = next_header;
    headers[IPV6 + 7] = hop_limit;
    headers[IPV6 + 8..IPV6 + 24].copy_from_slice(&from.1.octets());
    headers[IPV6 + 24..].copy_from_slice(&to.1.octets());
    frame.extend_from_slice(&headers);
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
    use super::{
        CLIENT_PORT, Frame, Inbound, begin_to_servers, finish, icmpv6_sum, neighbor_advertisement, udp,
    };
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
        let mut request = vec![9; 9];
        begin_to_servers(&mut request, MAC, client, CLIENT_PORT);
        request.extend([1, 0, 0, 0]);
        finish(&mut request);
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
