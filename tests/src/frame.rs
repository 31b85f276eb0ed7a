//! Frames as a client sends and receives them.

use std::net::Ipv6Addr;

use anyhow::{Context as _, Result, ensure};
use dhcp6_common::wire::{CLIENT_PORT, MessageType, OptionCode, SERVER_PORT, Sum};
use etherparse::{PacketBuilder, SlicedPacket, TransportSlice};

/// ff02::1:2
pub const MULTICAST: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
/// MAC address that ff02::1:2 maps to (RFC 2464, section 7).
pub const MULTICAST_MAC: [u8; 6] = [0x33, 0x33, 0, 1, 0, 2];

/// A DHCPv6 client message under construction. Options go out in the order they were added.
#[derive(Clone, Debug)]
pub struct MessageBuilder(Vec<u8>);

impl From<Vec<u8>> for MessageBuilder {
    /// Goes on with what a message begins with.
    fn from(octets: Vec<u8>) -> Self {
        Self(octets)
    }
}

impl MessageBuilder {
    /// A message of this type and transaction identifier, without options.
    pub fn new(kind: MessageType, transaction: [u8; 3]) -> Self {
        Self([&[kind as u8][..], &transaction].concat())
    }

    /// Adds an option.
    #[must_use]
    pub fn option(mut self, code: OptionCode, value: &[u8]) -> Self {
        self.0.extend(code.0.to_be_bytes());
        self.0.extend(u16::try_from(value.len()).expect("an option has at most 65535 octets").to_be_bytes());
        self.0.extend(value);
        self
    }

    /// Adds a Client Identifier.
    #[must_use]
    pub fn client_id(self, duid: &[u8]) -> Self {
        self.option(OptionCode::CLIENT_ID, duid)
    }

    /// Adds a Server Identifier.
    #[must_use]
    pub fn server_id(self, duid: &[u8]) -> Self {
        self.option(OptionCode::SERVER_ID, duid)
    }

    /// Adds an IA_NA with T1 and T2 of 0 and these addresses with lifetimes of 0.
    #[must_use]
    pub fn ia_na(self, iaid: u32, addresses: &[Ipv6Addr]) -> Self {
        let mut value = iaid.to_be_bytes().to_vec();
        value.extend([0; 8]);
        for address in addresses {
            value.extend([0, 5, 0, 24]);
            value.extend(address.octets());
            value.extend([0; 8]);
        }
        self.option(OptionCode::IA_NA, &value)
    }

    /// Adds an IA_PD with T1 and T2 of 0 and these prefixes with lifetimes of 0.
    #[must_use]
    pub fn ia_pd(self, iaid: u32, prefixes: &[(Ipv6Addr, u8)]) -> Self {
        let mut value = iaid.to_be_bytes().to_vec();
        value.extend([0; 8]);
        for (prefix, length) in prefixes {
            value.extend([0, 26, 0, 25]);
            value.extend([0; 8]);
            value.push(*length);
            value.extend(prefix.octets());
        }
        self.option(OptionCode::IA_PD, &value)
    }

    /// Adds a Rapid Commit option.
    #[must_use]
    pub fn rapid_commit(self) -> Self {
        self.option(OptionCode::RAPID_COMMIT, &[])
    }

    /// Adds an Elapsed Time of 0.
    #[must_use]
    pub fn elapsed_time(self) -> Self {
        self.option(OptionCode::ELAPSED_TIME, &[0, 0])
    }

    /// Adds an Option Request.
    #[must_use]
    pub fn request(self, codes: &[u16]) -> Self {
        let value: Vec<u8> = codes.iter().flat_map(|code| code.to_be_bytes()).collect();
        self.option(OptionCode::OPTION_REQUEST, &value)
    }

    /// Adds octets as they are.
    #[must_use]
    pub fn raw(mut self, octets: &[u8]) -> Self {
        self.0.extend(octets);
        self
    }

    /// The message.
    pub fn build(self) -> Vec<u8> {
        self.0
    }
}

/// Where a client's datagrams come from and go to.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// The client's MAC address.
    pub source_mac: [u8; 6],
    /// Where the frame goes.
    pub destination_mac: [u8; 6],
    /// The client's address.
    pub source: Ipv6Addr,
    /// Where the datagram goes.
    pub destination: Ipv6Addr,
    /// The client's port.
    pub source_port: u16,
    /// The server's port.
    pub destination_port: u16,
}

impl Default for Route {
    fn default() -> Self {
        Self {
            source_mac: [2, 0, 0, 0, 0, 0xc1],
            destination_mac: MULTICAST_MAC,
            source: "fe80::ff:fe00:c1".parse().expect("an address"),
            destination: MULTICAST,
            source_port: CLIENT_PORT,
            destination_port: SERVER_PORT,
        }
    }
}

impl Route {
    /// The frame that carries `message`, with a valid checksum.
    pub fn frame(&self, message: &[u8]) -> Vec<u8> {
        let builder = PacketBuilder::ethernet2(self.source_mac, self.destination_mac)
            .ipv6(self.source.octets(), self.destination.octets(), 1)
            .udp(self.source_port, self.destination_port);
        let mut frame = Vec::with_capacity(builder.size(message.len()));
        builder.write(&mut frame, message).expect("writing to memory cannot fail");
        frame
    }
}

/// Offset of the payload length in an untagged frame.
const PAYLOAD_LENGTH: usize = 18;
/// Offset of the next header in an untagged frame.
const NEXT_HEADER: usize = 20;
/// Offset of what follows the IPv6 header in an untagged frame.
const PAYLOAD: usize = 54;
const UDP_LEN: usize = 8;

/// The frame with an extension header in front of its payload: of this type, and with this behind the header's own
/// next header.
fn with_extension(frame: &[u8], header_type: u8, header: [u8; 7]) -> Vec<u8> {
    let mut extended = [&frame[..PAYLOAD], &[frame[NEXT_HEADER]], &header, &frame[PAYLOAD..]].concat();
    extended[NEXT_HEADER] = header_type;
    let len = (extended.len() - PAYLOAD) as u16;
    extended[PAYLOAD_LENGTH..PAYLOAD_LENGTH + 2].copy_from_slice(&len.to_be_bytes());
    extended
}

/// The frame with a Destination Options header, which holds only padding, in front of its payload.
pub fn with_destination_options(frame: &[u8]) -> Vec<u8> {
    with_extension(frame, 60, [0, 1, 4, 0, 0, 0, 0])
}

/// The frame in two fragments, of which the first has `first` octets of the payload: a multiple of 8.
pub fn in_fragments(frame: &[u8], first: u16) -> [Vec<u8>; 2] {
    let fragment = |offset: u16, more: bool, payload: &[u8]| {
        let [high, low] = (offset | u16::from(more)).to_be_bytes();
        with_extension(&[&frame[..PAYLOAD], payload].concat(), 44, [0, high, low, 0, 0, 0, 1])
    };
    let (head, tail) = frame[PAYLOAD..].split_at(first.into());
    [fragment(0, true, head), fragment(first, false, tail)]
}

/// Type of the tags of 802.1Q.
pub const C_TAG: u16 = 0x8100;
/// Type of the tags of 802.1ad.
pub const S_TAG: u16 = 0x88a8;

/// The frame on a VLAN.
pub fn on_vlan(frame: &[u8], id: u16) -> Vec<u8> {
    with_tags(frame, &[(C_TAG, id)])
}

/// The frame with tags, the outer one first: each with its type, and its priority and identifier.
pub fn with_tags(frame: &[u8], tags: &[(u16, u16)]) -> Vec<u8> {
    let tags = tags.iter().flat_map(|(tpid, tci)| [tpid.to_be_bytes(), tci.to_be_bytes()].concat());
    frame[..12].iter().copied().chain(tags).chain(frame[12..].iter().copied()).collect()
}

/// The tags of a frame, the outer one first, and the frame without them.
pub fn split_tags(frame: &[u8]) -> (Vec<(u16, u16)>, Vec<u8>) {
    let mut tags = Vec::new();
    let mut rest = &frame[12..];
    while let [a, b, c, d, behind @ ..] = rest
        && [C_TAG, S_TAG].contains(&u16::from_be_bytes([*a, *b]))
    {
        tags.push((u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d])));
        rest = behind;
    }
    (tags, [&frame[..12], rest].concat())
}

/// A Reply's or Advertise's frame, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Where it came from and goes to.
    pub source_mac: [u8; 6],
    /// MAC address of the client.
    pub destination_mac: [u8; 6],
    /// Address of the server.
    pub source: Ipv6Addr,
    /// Address of the client.
    pub destination: Ipv6Addr,
    /// UDP source and destination port.
    pub ports: (u16, u16),
    /// The DHCPv6 message.
    pub message: Vec<u8>,
}

impl Received {
    /// Takes a frame apart and checks its lengths and its checksum.
    ///
    /// # Errors
    ///
    /// What is wrong with the frame.
    pub fn parse(frame: &[u8]) -> Result<Self> {
        let (received, checksum, expected) = Self::take_apart(frame)?;
        ensure!(checksum == expected, "checksum {checksum:04x}, not {expected:04x}");
        Ok(received)
    }

    /// As [`Received::parse`], of a frame from a virtual interface: what the kernel sends there has the sum of the
    /// pseudo-header alone, since nothing can damage it on the way.
    ///
    /// # Errors
    ///
    /// What is wrong with the frame.
    pub fn parse_unsummed(frame: &[u8]) -> Result<Self> {
        let (received, checksum, expected) = Self::take_apart(frame)?;
        let udp_len = (UDP_LEN + received.message.len()) as u16;
        let (source, destination) = (received.source.octets(), received.destination.octets());
        let unsummed = u16::from_be(Sum::ZERO.add_pseudo_header(source, destination, udp_len).fold());
        ensure!(
            [expected, unsummed].contains(&checksum),
            "checksum {checksum:04x}, neither {expected:04x} nor {unsummed:04x}"
        );
        Ok(received)
    }

    /// Takes a frame apart and checks its lengths. Returns also the checksum that it has, and the right one.
    fn take_apart(frame: &[u8]) -> Result<(Self, u16, u16)> {
        let sliced = SlicedPacket::from_ethernet(frame).context("cannot parse the frame")?;
        let ethernet = match sliced.link {
            Some(etherparse::LinkSlice::Ethernet2(ethernet)) => ethernet,
            other => anyhow::bail!("not Ethernet but {other:?}"),
        };
        let ip = match sliced.net {
            Some(etherparse::NetSlice::Ipv6(ip)) => ip.header(),
            other => anyhow::bail!("not IPv6 but {other:?}"),
        };
        let Some(TransportSlice::Udp(udp)) = sliced.transport else {
            anyhow::bail!("not UDP but {:?}", sliced.transport);
        };
        ensure!(
            udp.length() == ip.payload_length(),
            "UDP length {} in a payload of {}",
            udp.length(),
            ip.payload_length()
        );
        ensure!(frame.len() == 54 + usize::from(udp.length()), "a frame of {} octets", frame.len());
        let expected = udp
            .to_header()
            .calc_checksum_ipv6_raw(ip.source(), ip.destination(), udp.payload())
            .context("cannot compute the checksum")?;
        let received = Self {
            source_mac: ethernet.source(),
            destination_mac: ethernet.destination(),
            source: ip.source().into(),
            destination: ip.destination().into(),
            ports: (udp.source_port(), udp.destination_port()),
            message: udp.payload().to_vec(),
        };
        Ok((received, udp.checksum(), expected))
    }
}
