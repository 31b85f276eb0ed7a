//! Relay agents that are simulated along with the clients (RFC 9915, section 19).

use std::{io::Write as _, net::Ipv6Addr};

use dhcp6_common::wire::{MessageType, OptionCode, OptionWalker};

use super::{
    Wrong,
    client::{Identity, link_local_of, option},
    frame::Mac,
};

/// The first octets of the relay agents' MAC addresses.
pub(super) const MAC_PREFIX: [u8; 2] = [0x02, 0xd7];
/// The enterprise number in Remote-ID that is set aside for examples (RFC 5612).
const ENTERPRISE: u32 = 32473;
const MAX_DEPTH: usize = 8;
/// Octets of a relay message before its options: type, hop-count and two addresses (RFC 9915, section 9).
const HEADER_LEN: usize = 34;

/// A chain of relay agents that all clients are behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relays {
    /// How many there are, one behind the other: 1 to [`Self::MAX_DEPTH`].
    pub depth: u8,
    /// The link-address of the one next to the clients, by which the server finds their link; `::` where it is the
    /// link that the message arrives on.
    pub link_address: Ipv6Addr,
    /// Which chain this is, where there are several: part of the relay agents' addresses.
    pub chain: u8,
}

/// The addresses of one of the relay agents; that next to the clients is number 0.
fn address(chain: u8, number: u8) -> (Mac, Ipv6Addr) {
    let mac = [MAC_PREFIX[0], MAC_PREFIX[1], 0, 0, chain, number];
    (mac, link_local_of(mac))
}

/// The Relay Message options of a frame, whose lengths are not known before it ends: where they are.
#[derive(Debug, Default)]
pub(super) struct Envelopes {
    lengths: [usize; MAX_DEPTH],
    count: usize,
}

impl Envelopes {
    /// Writes the lengths into a frame that is complete but for them and its headers.
    pub(super) fn close(&self, frame: &mut [u8]) {
        for at in &self.lengths[..self.count] {
            let len = (frame.len() - at - 2) as u16;
            frame[*at..at + 2].copy_from_slice(&len.to_be_bytes());
        }
    }
}

/// What the relay agent writes into its Interface-Id: the client's port, or the agent that it heard.
fn interface_id(number: u8, client: Identity) -> Text {
    if number == 0 { Text::new("port-", client.0) } else { Text::new("relay-", u32::from(number) - 1) }
}

/// A word and a number.
struct Text {
    octets: [u8; 32],
    len: usize,
}

impl Text {
    fn new(word: &str, number: u32) -> Self {
        let mut octets = [0; 32];
        let mut rest = &mut octets[..];
        write!(rest, "{word}{number}").expect("there is room for both");
        let len = 32 - rest.len();
        Self { octets, len }
    }

    fn as_slice(&self) -> &[u8] {
        &self.octets[..self.len]
    }
}

impl Relays {
    /// The most relay agents, one behind the other (HOP_COUNT_LIMIT of RFC 9915, section 7.6).
    pub const MAX_DEPTH: u8 = MAX_DEPTH as u8;

    /// The addresses of the relay agent that talks to the server.
    pub(super) fn outermost(&self) -> (Mac, Ipv6Addr) {
        address(self.chain, self.depth - 1)
    }

    /// Appends what the relay agents put in front of a client's message, which follows.
    pub(super) fn open_envelopes(&self, frame: &mut Vec<u8>, client: Identity) -> Envelopes {
        let mut envelopes = Envelopes::default();
        for number in (0..self.depth).rev() {
            let (link, peer) = self.addresses(number, client);
            frame.extend_from_slice(&[MessageType::RelayForward as u8, number]);
            frame.extend_from_slice(&link.octets());
            frame.extend_from_slice(&peer.octets());
            option(frame, OptionCode::INTERFACE_ID, interface_id(number, client).as_slice());
            if number == 0 {
                let subscriber = Text::new("subscriber-", client.0);
                let subscriber = subscriber.as_slice();
                option(frame, OptionCode::REMOTE_ID, &[&ENTERPRISE.to_be_bytes(), subscriber].concat());
            }
            option(frame, OptionCode::RELAY_MESSAGE, &[]);
            envelopes.lengths[envelopes.count] = frame.len() - 2;
            envelopes.count += 1;
        }
        envelopes
    }

    /// Link-address and peer-address of a relay agent's messages.
    fn addresses(&self, number: u8, client: Identity) -> (Ipv6Addr, Ipv6Addr) {
        match number {
            0 => (self.link_address, client.link_local()),
            // It has the agent before it on a link without global addresses.
            _ => (Ipv6Addr::UNSPECIFIED, address(self.chain, number - 1).1),
        }
    }

    /// The client that a Relay-reply is for, and what it holds.
    ///
    /// # Errors
    ///
    /// [`Wrong::Relay`] where hop-count, addresses or Interface-Id are not those of the Relay-forward, [`Wrong::Length`]
    /// and [`Wrong::Malformed`] where it cannot be read.
    pub(super) fn open<'a>(&self, mut message: &'a [u8]) -> Result<(Identity, &'a [u8]), Wrong> {
        let mut client = None;
        let mut interface_ids = [None; MAX_DEPTH];
        for number in (0..self.depth).rev() {
            let Some((header, options)) = message.split_first_chunk::<HEADER_LEN>() else {
                return Err(Wrong::Length);
            };
            let at =
                |offset: usize| Ipv6Addr::from(*header[offset..].first_chunk::<16>().expect("two addresses"));
            let (link, peer) = (at(2), at(18));
            let sender = Identity::of_link_local(peer).unwrap_or(Identity(0));
            if header[..2] != [MessageType::RelayReply as u8, number]
                || (link, peer) != self.addresses(number, sender)
            {
                return Err(Wrong::Relay);
            }
            client = Some(sender);
            let (mut interface_id, mut inner) = (None, None);
            for option in OptionWalker::new(options) {
                let option = option.map_err(|_| Wrong::Malformed)?;
                let place = match option.code {
                    OptionCode::INTERFACE_ID => &mut interface_id,
                    OptionCode::RELAY_MESSAGE => &mut inner,
                    _ => continue,
                };
                if place.replace(option.value).is_some() {
                    return Err(Wrong::Malformed);
                }
            }
            interface_ids[usize::from(number)] = interface_id;
            message = inner.ok_or(Wrong::Relay)?;
        }
        let client = client.ok_or(Wrong::Relay)?;
        // RFC 9915, section 19.3: the server returns it.
        let returned =
            |number: u8| interface_ids[usize::from(number)] == Some(interface_id(number, client).as_slice());
        if !(0..self.depth).all(returned) {
            return Err(Wrong::Relay);
        }
        Ok((client, message))
    }
}

#[cfg(test)]
mod tests {
    use super::{Identity, Relays, address};
    use crate::flood::Wrong;

    #[test]
    fn relay_agents_have_addresses_of_their_own() {
        assert_eq!(address(1, 3), ([2, 0xd7, 0, 0, 1, 3], "fe80::d7:ff:fe00:103".parse().unwrap()));
        assert_eq!(Identity::of_link_local(address(0, 0).1), None);
    }

    #[test]
    fn relay_replies_have_to_fit_what_was_forwarded() {
        let client = Identity(70_000);
        for depth in 1..=8 {
            let relays = Relays { depth, link_address: "2001:db8:2::1".parse().unwrap(), chain: 0 };
            // A Relay-forward becomes its own reply when each type is changed.
            let mut reply = Vec::new();
            let envelopes = relays.open_envelopes(&mut reply, client);
            reply.extend([7, 1, 2, 3]);
            envelopes.close(&mut reply);
            let mut headers = Vec::new();
            for at in 0..reply.len() - 34 {
                let hop = depth.saturating_sub(1 + headers.len() as u8);
                if headers.len() < usize::from(depth) && reply[at..at + 2] == [12, hop] {
                    reply[at] = 13;
                    headers.push(at);
                }
            }
            assert_eq!(headers.len(), usize::from(depth));
            assert_eq!(relays.open(&reply), Ok((client, &[7, 1, 2, 3][..])), "{depth}");
            for header in headers {
                for offset in [0, 1, 2, 17, 18, 33, 39] {
                    let mut wrong = reply.clone();
                    wrong[header + offset] ^= 1;
                    assert_eq!(relays.open(&wrong), Err(Wrong::Relay), "{depth} {header} {offset}");
                }
            }
            assert_eq!(relays.open(&reply[..reply.len() - 1]), Err(Wrong::Malformed));
            assert_eq!(relays.open(&reply[..33]), Err(Wrong::Length));
        }
    }
}
