//! Relay agents between the clients and the server (RFC 9915, sections 9 and 19).

use std::net::Ipv6Addr;

use arbitrary::Arbitrary;
use dhcp6_common::wire::{MessageType, OptionCode, OptionWalker, RawOption};
use dhcp6_userspace::{
    config::{Config, LinkConfig},
    engine::AnswerPort,
};

use crate::{message::Rarely, setting::address, wire::put};

/// Octets before the options: type, hop-count, link-address and peer-address.
const HEADER_LEN: usize = 34;
/// RFC 8357.
const RELAY_SOURCE_PORT: OptionCode = OptionCode(135);
/// RFC 4994.
const ECHO_REQUEST: OptionCode = OptionCode(43);

/// A relay agent, as it will wrap a message.
#[derive(Arbitrary, Clone, Debug)]
pub(crate) struct Relay {
    hop_count: u8,
    link_address: LinkAddress,
    interface_id: Option<[u8; 3]>,
    source_port: Rarely<()>,
    remote_id: bool,
    echo_request: Rarely<[u8; 4]>,
    again: Rarely<u8>,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum LinkAddress {
    None,
    OfLink(bool),
    Foreign,
}

impl Relay {
    /// Puts a message into a Relay-forward, or now and then into several.
    pub(crate) fn wrap(&self, mut message: Vec<u8>) -> Vec<u8> {
        for _ in 0..=self.again.0.unwrap_or_default() % 12 {
            message = self.wrap_once(&message);
        }
        message
    }

    fn wrap_once(&self, message: &[u8]) -> Vec<u8> {
        let link_address = match self.link_address {
            LinkAddress::None => Ipv6Addr::UNSPECIFIED,
            LinkAddress::OfLink(link) => address(u32::from(link), 0),
            LinkAddress::Foreign => Ipv6Addr::LOCALHOST,
        };
        let mut octets = vec![MessageType::RelayForward as u8, self.hop_count];
        octets.extend(link_address.octets());
        octets.extend(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1).octets());
        if let Some(interface_id) = self.interface_id {
            put(&mut octets, OptionCode::INTERFACE_ID.0, &interface_id);
        }
        if self.source_port.0.is_some() {
            put(&mut octets, RELAY_SOURCE_PORT.0, &[0x12, 0x34]);
        }
        if self.remote_id {
            put(&mut octets, 37, &[0, 0, 0, 9, 1]);
        }
        if let Some(codes) = self.echo_request.0 {
            put(&mut octets, ECHO_REQUEST.0, &codes);
        }
        put(&mut octets, OptionCode::RELAY_MESSAGE.0, message);
        octets
    }
}

/// A relay agent's message, read.
#[derive(Clone, Debug)]
pub(crate) struct Hop<'a> {
    /// Hop-count, link-address and peer-address.
    header: &'a [u8],
    options: Vec<RawOption<'a>>,
    relayed: &'a [u8],
}

impl<'a> Hop<'a> {
    fn read(message: &'a [u8], kind: MessageType) -> Option<Self> {
        let (header, options) = message.split_at_checked(HEADER_LEN)?;
        let options: Vec<_> = OptionWalker::new(options).collect::<Result<_, _>>().ok()?;
        let of_message = options.iter().filter(|option| option.code == OptionCode::RELAY_MESSAGE);
        let [relayed] = of_message.map(|option| option.value).collect::<Vec<_>>()[..] else { return None };
        (header[0] == kind as u8).then_some(Self { header: &header[1..], options, relayed })
    }

    fn values(&self, code: OptionCode) -> Vec<&'a [u8]> {
        self.options.iter().filter(|option| option.code == code).map(|option| option.value).collect()
    }

    fn link_address(&self) -> Ipv6Addr {
        let octets: [u8; 16] = self.header[1..17].try_into().expect("16 octets");
        octets.into()
    }

    fn echoes(&self, code: OptionCode) -> bool {
        let codes = self.values(ECHO_REQUEST);
        codes.iter().any(|codes| codes.chunks_exact(2).any(|pair| pair == code.0.to_be_bytes()))
    }
}

/// The relay agents that a message has passed, the server's neighbour first, and the client's message. A message
/// that cannot be read so far is taken as the client's own.
pub(crate) fn open(message: &[u8]) -> (Vec<Hop<'_>>, &[u8]) {
    let mut hops = Vec::new();
    let mut inner = message;
    while inner.first() == Some(&(MessageType::RelayForward as u8)) {
        let Some(hop) = Hop::read(inner, MessageType::RelayForward) else { return (Vec::new(), message) };
        inner = hop.relayed;
        hops.push(hop);
    }
    (hops, inner)
}

/// The link that a client is on (RFC 9915, section 13.1); `None` where nobody can know.
pub(crate) fn link(hops: &[Hop<'_>], receiving: u32, config: &Config) -> Option<u32> {
    let Some(nearest) = hops.last() else { return Some(receiving) };
    let named = hops.iter().rev().map(Hop::link_address).find(|address| !address.is_unspecified());
    let on_link = |link: &LinkConfig, address| {
        link.prefix.contains(address) || link.pools.iter().any(|pool| pool.range.contains(address))
    };
    match named {
        Some(address) => {
            (0..).zip(&config.links).find(|(_, link)| on_link(link, address)).map(|(index, _)| index)
        }
        None => (!nearest.values(OptionCode::INTERFACE_ID).is_empty()).then_some(receiving),
    }
}

/// Checks the Relay-replies around an answer against the Relay-forwards around its question; returns the answer.
pub(crate) fn check_envelope<'a>(hops: &[Hop<'_>], port: AnswerPort, answer: &'a [u8]) -> &'a [u8] {
    let expected = match hops.first() {
        None => AnswerPort::Client,
        Some(hop) if hop.values(RELAY_SOURCE_PORT).is_empty() => AnswerPort::Relay,
        Some(_) => AnswerPort::Source,
    };
    assert_eq!(port, expected, "matrix rows T-4, T-6 and E-15");
    let mut inner = answer;
    for hop in hops {
        let reply =
            Hop::read(inner, MessageType::RelayReply).expect("matrix rows Y-2 and Y-5: no Relay-reply");
        assert_eq!(reply.header, hop.header, "matrix row Y-1");
        for code in [OptionCode::INTERFACE_ID, RELAY_SOURCE_PORT] {
            assert_eq!(reply.values(code), hop.values(code), "matrix rows Y-3, Y-4 and E-15");
        }
        for RawOption { code, .. } in &reply.options {
            let own = [OptionCode::RELAY_MESSAGE, OptionCode::INTERFACE_ID, RELAY_SOURCE_PORT].contains(code);
            assert!(own || hop.echoes(*code), "matrix row E-10: {code:?} was not asked for");
        }
        inner = reply.relayed;
    }
    inner
}
