//! Relay agents' envelopes: RFC 9915, sections 9 and 19.
//!
//! Walked without recursion and without dhcproto, which takes every Relay Message option for a relay's message.

use std::{collections::HashMap, net::Ipv6Addr};

use dhcp6_common::wire::{MessageType, OptionCode, OptionWalker};

use super::{AnswerPort, DropReason};
use crate::config::ClientKey;

/// HOP_COUNT_LIMIT of RFC 9915, section 7.6: no message has passed more relay agents than this.
const MOST_HOPS: usize = 8;
/// Octets of options that are taken from relay agents: they share a datagram with the rest of the answer.
const MOST_SUPPLIED: usize = 2048;
/// Octets of a relay message before its options: type, hop-count, link-address and peer-address (section 9).
const HEADER_LEN: usize = 34;

/// A client's message and the relay agents that it has passed.
#[derive(Debug)]
pub(super) struct Envelope<'a> {
    /// The relay agents, the one that is the server's neighbour first, the one that is the client's last.
    hops: Vec<Hop<'a>>,
    /// The innermost message.
    pub(super) message: &'a [u8],
}

/// One Relay-forward.
#[derive(Debug)]
struct Hop<'a> {
    /// The octets behind the message type, which the Relay-reply repeats: hop-count, link-address, peer-address.
    header: &'a [u8],
    link_address: Ipv6Addr,
    interface_id: Option<&'a [u8]>,
    /// The value of a Relay Source Port option (RFC 8357).
    relay_port: Option<&'a [u8]>,
    /// What the relay agent says of the client: Remote-ID (RFC 4649), Subscriber-ID (RFC 4580), link-layer address
    /// (RFC 6939).
    remote_id: Option<&'a [u8]>,
    subscriber_id: Option<&'a [u8]>,
    link_layer_address: Option<&'a [u8]>,
    /// Options for the client (RFC 6422), encoded.
    supplied: Option<&'a [u8]>,
    /// What the relay agent wants back, whatever it means (RFC 4994, section 4): code and value.
    echoed: Vec<(OptionCode, &'a [u8])>,
}

impl<'a> Envelope<'a> {
    /// Opens a message from a relay agent, or takes one that comes from the client itself.
    pub(super) fn open(message: &'a [u8]) -> Result<Self, DropReason> {
        let mut hops = Vec::new();
        let mut inner = message;
        while inner.first() == Some(&(MessageType::RelayForward as u8)) {
            if hops.len() == MOST_HOPS {
                return Err(DropReason::TooManyRelays);
            }
            let (hop, relayed) = Hop::read(inner)?;
            hops.push(hop);
            inner = relayed;
        }
        Ok(Self { hops, message: inner })
    }

    /// Whether there is a relay agent at all.
    pub(super) fn is_relayed(&self) -> bool {
        !self.hops.is_empty()
    }

    /// The link-address that tells the client's link: of the relay agent next to the client that has one
    /// (RFC 9915, section 13.1; RFC 6221, section 5.3: a layer-two relay agent has none).
    pub(super) fn link_address(&self) -> Option<Ipv6Addr> {
        { self.hops.iter() }.rev().map(|hop| hop.link_address).find(|address| !address.is_unspecified())
    }

    /// The Interface-Id of the relay agent next to the client.
    pub(super) fn interface_id(&self) -> Option<&'a [u8]> {
        self.hops.last()?.interface_id
    }

    /// Of an option of the relay agents, the one of that nearest to the client that has it.
    fn nearest(&self, option: fn(&Hop<'a>) -> Option<&'a [u8]>) -> Option<&'a [u8]> {
        self.hops.iter().rev().find_map(option)
    }

    /// The client's MAC address (RFC 6939).
    pub(super) fn client_mac(&self) -> Option<[u8; 6]> {
        match *self.nearest(|hop| hop.link_layer_address)? {
            // The hardware type of Ethernet.
            [0, 1, ref mac @ ..] => (*mac).try_into().ok(),
            _ => None,
        }
    }

    /// What the relay agents know the client by, in the order in which it counts. Of each option the one of the
    /// relay agent nearest to the client that has it.
    pub(super) fn client_keys(&self) -> Vec<ClientKey> {
        let nearest = |option| self.nearest(option);
        let mac = self.client_mac().map(ClientKey::Mac);
        let remote_id = nearest(|hop| hop.remote_id).and_then(|value| {
            let (enterprise, id) = value.split_first_chunk()?;
            Some(ClientKey::RemoteId(u32::from_be_bytes(*enterprise), id.to_vec()))
        });
        let subscriber_id = nearest(|hop| hop.subscriber_id).map(|id| ClientKey::SubscriberId(id.to_vec()));
        let interface_id = nearest(|hop| hop.interface_id).map(|id| ClientKey::InterfaceId(id.to_vec()));
        [mac, remote_id, subscriber_id, interface_id].into_iter().flatten().collect()
    }

    /// The options that relay agents supply for the client, those of the one nearest to it first, up to
    /// [`MOST_SUPPLIED`] octets.
    pub(super) fn supplied(&self) -> impl Iterator<Item = (OptionCode, &'a [u8])> {
        let options = self.hops.iter().rev().filter_map(|hop| hop.supplied);
        let options = options.flat_map(OptionWalker::new).filter_map(Result::ok);
        let mut room = MOST_SUPPLIED;
        options.map_while(move |option| {
            room = room.checked_sub(option.value.len())?;
            Some((option.code, option.value))
        })
    }

    /// Where the answer goes: to the port of servers and relay agents, unless the server's neighbour asks for its
    /// own (RFC 8357, section 5.3).
    pub(super) fn port(&self) -> AnswerPort {
        match self.hops.first() {
            None => AnswerPort::Client,
            Some(Hop { relay_port: None, .. }) => AnswerPort::Relay,
            Some(Hop { relay_port: Some(_), .. }) => AnswerPort::Source,
        }
    }

    /// Puts an answer into Relay-replies, one for each Relay-forward (RFC 9915, section 19.3).
    pub(super) fn seal(&self, mut answer: Vec<u8>) -> Vec<u8> {
        for hop in self.hops.iter().rev() {
            let mut reply = Vec::with_capacity(HEADER_LEN + answer.len() + 64);
            reply.push(MessageType::RelayReply as u8);
            reply.extend(hop.header);
            let mut option = |code: OptionCode, value: &[u8]| {
                reply.extend(code.0.to_be_bytes());
                // Options were received with 16 bits of length. An answer beyond that fits no datagram and stays here.
                reply.extend((value.len() as u16).to_be_bytes());
                reply.extend(value);
            };
            if let Some(interface_id) = hop.interface_id {
                option(OptionCode::INTERFACE_ID, interface_id);
            }
            if let Some(port) = hop.relay_port {
                option(OptionCode::RELAY_SOURCE_PORT, port);
            }
            for (code, value) in &hop.echoed {
                option(*code, value);
            }
            option(OptionCode::RELAY_MESSAGE, &answer);
            answer = reply;
        }
        answer
    }
}

impl<'a> Hop<'a> {
    /// Reads a Relay-forward; returns the message in it, too.
    fn read(message: &'a [u8]) -> Result<(Self, &'a [u8]), DropReason> {
        let (header, options) = message.split_at_checked(HEADER_LEN).ok_or(DropReason::TooShort)?;
        let link_address: [u8; 16] = *header[2..].first_chunk().expect("the header has two addresses");
        let mut hop = Self {
            header: &header[1..],
            link_address: link_address.into(),
            interface_id: None,
            relay_port: None,
            remote_id: None,
            subscriber_id: None,
            link_layer_address: None,
            supplied: None,
            echoed: Vec::new(),
        };
        let mut relayed = None;
        let mut wanted = None;
        for option in OptionWalker::new(options) {
            let option = option?;
            match option.code {
                OptionCode::RELAY_MESSAGE => super::message::once(&mut relayed, option.value)?,
                OptionCode::INTERFACE_ID => super::message::once(&mut hop.interface_id, option.value)?,
                OptionCode::RELAY_SOURCE_PORT => super::message::once(&mut hop.relay_port, option.value)?,
                OptionCode::ECHO_REQUEST => super::message::once(&mut wanted, option.value)?,
                OptionCode::REMOTE_ID => _ = hop.remote_id.get_or_insert(option.value),
                OptionCode::SUBSCRIBER_ID => _ = hop.subscriber_id.get_or_insert(option.value),
                OptionCode::CLIENT_LINKLAYER_ADDRESS => {
                    hop.link_layer_address.get_or_insert(option.value);
                }
                OptionCode::RELAY_SUPPLIED_OPTIONS => _ = hop.supplied.get_or_insert(option.value),
                _ => {}
            }
        }
        // The place of each code in the list: that is their order in the answer.
        let mut places = HashMap::new();
        for (place, code) in wanted.unwrap_or_default().chunks_exact(2).enumerate() {
            places.entry(OptionCode(u16::from_be_bytes([code[0], code[1]]))).or_insert(place);
        }
        for own in [OptionCode::RELAY_MESSAGE, OptionCode::INTERFACE_ID, OptionCode::RELAY_SOURCE_PORT] {
            places.remove(&own);
        }
        let echoed = OptionWalker::new(options).filter_map(Result::ok);
        let echoed = echoed.filter(|option| places.contains_key(&option.code));
        hop.echoed.extend(echoed.map(|option| (option.code, option.value)));
        hop.echoed.sort_by_key(|(code, _)| places[code]);
        Ok((hop, relayed.ok_or(DropReason::NoRelayMessage)?))
    }
}
