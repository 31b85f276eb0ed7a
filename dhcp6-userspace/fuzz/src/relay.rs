//! Relay agents between the clients and the server (RFC 9915, sections 9 and 19).

use std::{collections::BTreeSet, net::Ipv6Addr};

use arbitrary::Arbitrary;
use dhcp6_common::wire::{MessageType, OptionCode, OptionWalker, RawOption};
use dhcp6_userspace::{
    config::{ClientKey, Config, LinkConfig},
    engine::AnswerPort,
};

use crate::{
    message::Rarely,
    setting::{MAC, REMOTE_ID, SUBSCRIBER_ID, address, interface_id},
    wire::put,
};

/// Octets before the options: type, hop-count, link-address and peer-address.
const HEADER_LEN: usize = 34;
/// HOP_COUNT_LIMIT of RFC 9915, section 7.6.
const MOST_HOPS: usize = 8;

/// A relay agent, as it will wrap a message.
#[derive(Arbitrary, Clone, Debug)]
pub(crate) struct Relay {
    hop_count: u8,
    link_address: LinkAddress,
    interface_id: Option<InterfaceId>,
    source_port: Rarely<()>,
    mac: Option<Said>,
    remote_id: Option<Said>,
    subscriber_id: Option<Said>,
    supplied: Option<Supplied>,
    echo_request: Rarely<EchoRequest>,
    again: Rarely<u8>,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum LinkAddress {
    None,
    OfNet(u8),
    Foreign,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum InterfaceId {
    OfPlace(u8),
    Other([u8; 3]),
}

/// What a relay agent says of the client.
#[derive(Arbitrary, Clone, Debug)]
enum Said {
    /// As a reservation has it.
    Known,
    /// Nearly so.
    Longer,
    Any(Vec<u8>),
}

impl Said {
    fn value(&self, known: &[u8]) -> Vec<u8> {
        match self {
            Self::Known => known.to_vec(),
            Self::Longer => [known, &[0]].concat(),
            Self::Any(octets) => octets.clone(),
        }
    }
}

/// Options for the client (RFC 6422).
#[derive(Arbitrary, Clone, Debug)]
enum Supplied {
    /// The one that the default configuration passes on.
    Default([u8; 2]),
    /// That and DNS servers, which the server may set itself.
    More,
    /// What nobody may supply.
    Forbidden,
    Any(Vec<u8>),
}

impl Supplied {
    fn value(&self) -> Vec<u8> {
        let mut value = Vec::new();
        match self {
            Self::Default(domain) => put(&mut value, 65, domain),
            Self::More => {
                put(&mut value, OptionCode::DNS_SERVERS.0, &address(0, 0).octets());
                put(&mut value, 65, &[1]);
                put(&mut value, 65, &[2]);
                put(&mut value, 65000, &[]);
            }
            Self::Forbidden => {
                put(&mut value, OptionCode::CLIENT_ID.0, &[1]);
                put(&mut value, OptionCode::IA_NA.0, &[0; 12]);
                put(&mut value, OptionCode::RAPID_COMMIT.0, &[]);
            }
            Self::Any(octets) => value.clone_from(octets),
        }
        value
    }
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum EchoRequest {
    Everything,
    Any([u8; 5]),
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
            LinkAddress::OfNet(net) => address(net % 3, 13),
            LinkAddress::Foreign => Ipv6Addr::LOCALHOST,
        };
        let mut octets = vec![MessageType::RelayForward as u8, self.hop_count];
        octets.extend(link_address.octets());
        octets.extend(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1).octets());
        match self.interface_id {
            None => {}
            Some(InterfaceId::OfPlace(place)) => {
                put(&mut octets, OptionCode::INTERFACE_ID.0, &interface_id(place % 3));
            }
            Some(InterfaceId::Other(id)) => put(&mut octets, OptionCode::INTERFACE_ID.0, &id),
        }
        if self.source_port.0.is_some() {
            put(&mut octets, OptionCode::RELAY_SOURCE_PORT.0, &[0x12, 0x34]);
        }
        let hardware_address = [&[0, 1], &MAC[..]].concat();
        for (code, said, known) in [
            (OptionCode::CLIENT_LINKLAYER_ADDRESS, &self.mac, &hardware_address[..]),
            (OptionCode::REMOTE_ID, &self.remote_id, &REMOTE_ID),
            (OptionCode::SUBSCRIBER_ID, &self.subscriber_id, &SUBSCRIBER_ID),
        ] {
            if let Some(said) = said {
                put(&mut octets, code.0, &said.value(known));
            }
        }
        if let Some(supplied) = &self.supplied {
            put(&mut octets, OptionCode::RELAY_SUPPLIED_OPTIONS.0, &supplied.value());
        }
        match self.echo_request.0 {
            None => {}
            Some(EchoRequest::Everything) => {
                let codes = [37, 38, 79, 66, 9, 18, 135, 43, 37].map(u16::to_be_bytes);
                put(&mut octets, OptionCode::ECHO_REQUEST.0, codes.as_flattened());
            }
            Some(EchoRequest::Any(codes)) => put(&mut octets, OptionCode::ECHO_REQUEST.0, &codes),
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

    /// The values of the options with a code.
    fn values(&self, code: OptionCode) -> Vec<&'a [u8]> {
        self.options.iter().filter(|option| option.code == code).map(|option| option.value).collect()
    }

    fn link_address(&self) -> Ipv6Addr {
        let octets: [u8; 16] = self.header[1..17].try_into().expect("16 octets");
        octets.into()
    }

    fn echoes(&self, code: OptionCode) -> bool {
        let codes = self.values(OptionCode::ECHO_REQUEST);
        codes.iter().any(|codes| codes.chunks_exact(2).any(|pair| pair == code.0.to_be_bytes()))
    }
}

/// The relay agents that a message has passed, the server's neighbour first, and the client's message; `None` where
/// one of them is not to be answered.
pub(crate) fn open(message: &[u8]) -> Option<(Vec<Hop<'_>>, &[u8])> {
    let mut hops = Vec::new();
    let mut inner = message;
    while inner.first() == Some(&(MessageType::RelayForward as u8)) {
        let hop = Hop::read(inner, MessageType::RelayForward)?;
        let once = [OptionCode::INTERFACE_ID, OptionCode::RELAY_SOURCE_PORT, OptionCode::ECHO_REQUEST];
        if hops.len() == MOST_HOPS || once.iter().any(|code| hop.values(*code).len() > 1) {
            return None;
        }
        inner = hop.relayed;
        hops.push(hop);
    }
    Some((hops, inner))
}

/// The index of the link that a client is on (RFC 9915, section 13.1); `None` where nobody can know. `receiving` is
/// that of the link at the receiving interface.
pub(crate) fn link(hops: &[Hop<'_>], receiving: Option<u32>, config: &Config) -> Option<u32> {
    let Some(nearest) = hops.last() else { return receiving };
    let named = hops.iter().rev().map(Hop::link_address).find(|address| !address.is_unspecified());
    let on_link = |link: &LinkConfig, address| {
        link.prefix.contains(address) || link.pools.iter().any(|pool| pool.range.contains(address))
    };
    let first = |is_it: &dyn Fn(&LinkConfig) -> bool| {
        (0..).zip(&config.links).find(|(_, link)| is_it(link)).map(|(index, _)| index)
    };
    if let Some(address) = named {
        return first(&|link| on_link(link, address));
    }
    let interface_id = *nearest.values(OptionCode::INTERFACE_ID).first()?;
    first(&|link| link.interface_ids.iter().any(|id| id == interface_id)).or(receiving)
}

/// What the relay agents know the client by: of each option what the nearest to the client says.
pub(crate) fn client_keys(hops: &[Hop<'_>]) -> Vec<ClientKey> {
    let nearest = |code| hops.iter().rev().find_map(|hop| hop.values(code).first().copied());
    let mut keys = Vec::new();
    if let Some([0, 1, mac @ ..]) = nearest(OptionCode::CLIENT_LINKLAYER_ADDRESS) {
        keys.extend(mac.try_into().ok().map(ClientKey::Mac));
    }
    if let Some([a, b, c, d, id @ ..]) = nearest(OptionCode::REMOTE_ID) {
        keys.push(ClientKey::RemoteId(u32::from_be_bytes([*a, *b, *c, *d]), id.to_vec()));
    }
    keys.extend(nearest(OptionCode::SUBSCRIBER_ID).map(|id| ClientKey::SubscriberId(id.to_vec())));
    keys.extend(nearest(OptionCode::INTERFACE_ID).map(|id| ClientKey::InterfaceId(id.to_vec())));
    keys
}

/// What the relay agents supply for the client and the server passes on (RFC 6422), each code as the nearest to the
/// client has it first.
pub(crate) fn supplied<'a>(hops: &[Hop<'a>], config: &Config) -> Vec<RawOption<'a>> {
    // More octets than this are not taken.
    let mut room = 2048_usize;
    let mut options: Vec<RawOption<'a>> = Vec::new();
    for hop in hops.iter().rev() {
        let Some(value) = hop.values(OptionCode::RELAY_SUPPLIED_OPTIONS).first().copied() else { continue };
        for option in OptionWalker::new(value).map_while(Result::ok) {
            match room.checked_sub(option.value.len()) {
                Some(left) => room = left,
                None => return options,
            }
            let passed_on = config.server.relay_supplied_options.contains(&option.code);
            if passed_on && options.iter().all(|other| other.code != option.code) {
                options.push(option);
            }
        }
    }
    options
}

/// Checks the Relay-replies around an answer against the Relay-forwards around its question; returns the answer.
pub(crate) fn check_envelope<'a>(hops: &[Hop<'_>], port: AnswerPort, answer: &'a [u8]) -> &'a [u8] {
    let own = [OptionCode::RELAY_MESSAGE, OptionCode::INTERFACE_ID, OptionCode::RELAY_SOURCE_PORT];
    let expected = match hops.first() {
        None => AnswerPort::Client,
        Some(hop) if hop.values(OptionCode::RELAY_SOURCE_PORT).is_empty() => AnswerPort::Relay,
        Some(_) => AnswerPort::Source,
    };
    assert_eq!(port, expected, "matrix rows T-4, T-6 and E-15");
    let mut inner = answer;
    for hop in hops {
        let reply =
            Hop::read(inner, MessageType::RelayReply).expect("matrix rows Y-2 and Y-5: no Relay-reply");
        assert_eq!(reply.header, hop.header, "matrix row Y-1");
        for code in &own[1..] {
            assert_eq!(reply.values(*code), hop.values(*code), "matrix rows Y-3, Y-4 and E-15");
        }
        let codes = |hop: &Hop<'_>| -> BTreeSet<_> {
            hop.options.iter().map(|option| option.code).filter(|code| !own.contains(code)).collect()
        };
        let echoed: BTreeSet<_> = codes(hop).into_iter().filter(|code| hop.echoes(*code)).collect();
        assert_eq!(codes(&reply), echoed, "matrix row E-10");
        for code in echoed {
            assert_eq!(reply.values(code), hop.values(code), "matrix row E-10: {code:?}");
        }
        inner = reply.relayed;
    }
    inner
}
