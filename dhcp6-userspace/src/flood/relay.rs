//! Relay agents that are simulated along with the clients (RFC 9915, section 19).

use std::net::Ipv6Addr;

use dhcp6_common::wire::{MessageType, OptionCode, OptionWalker};

use super::{
    Wrong,
    client::{Identity, link_local_of},
    frame::{self, Mac},
};

/// The first octets of the relay agents' MAC addresses.
const MAC_PREFIX: [u8; 5] = [0x02, 0xd7, 0, 0, 0];
/// The enterprise number in Remote-ID that is set aside for examples (RFC 5612).
const ENTERPRISE: u32 = 32473;
/// Octets of a relay message before its options: type, hop-count and two addresses (RFC 9915, section 9).
const HEADER_LEN: usize = 34;

/// A chain of relay agents that all clients are behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relays {
    /// How many there are, one behind the other: 1 to 8.
    pub depth: u8,
    /// The link-address of the one next to the clients, by which the server finds their link; `::` where it is the
    /// link that the message arrives on.
    pub link_address: Ipv6Addr,
}

/// The addresses of one of the relay agents; that next to the clients is number 0.
fn address(number: u8) -> (Mac, Ipv6Addr) {
    let mut mac = [0; 6];
    mac[..5].copy_from_slice(&MAC_PREFIX);
    mac[5] = number;
    (mac, link_local_of(mac))
}

/// What the relay agent writes into its Interface-Id: the client's port, or the agent that it heard.
fn interface_id(number: u8, client: Identity) -> Vec<u8> {
    if number == 0 { format!("port-{}", client.0).into() } else { format!("relay-{}", number - 1).into() }
}

impl Relays {
    /// The addresses of the relay agent that talks to the server.
    pub(super) fn outermost(&self) -> (Mac, Ipv6Addr) {
        address(self.depth - 1)
    }

    /// The frame of a client's message, as the outermost relay agent sends it.
    pub(super) fn frame(&self, client: Identity, message: &[u8]) -> Vec<u8> {
        let mut message = message.to_vec();
        for number in 0..self.depth {
            let (link, peer) = self.addresses(number, client);
            let mut outer = vec![MessageType::RelayForward as u8, number];
            outer.extend(link.octets());
            outer.extend(peer.octets());
            option(&mut outer, OptionCode::INTERFACE_ID, &interface_id(number, client));
            if number == 0 {
                let subscriber = format!("subscriber-{}", client.0);
                let remote_id = [&ENTERPRISE.to_be_bytes()[..], subscriber.as_bytes()].concat();
                option(&mut outer, OptionCode::REMOTE_ID, &remote_id);
            }
            option(&mut outer, OptionCode::RELAY_MESSAGE, &message);
            message = outer;
        }
        let (mac, source) = self.outermost();
        frame::to_servers_from_relay(mac, source, &message)
    }

    /// Link-address and peer-address of a relay agent's messages.
    fn addresses(&self, number: u8, client: Identity) -> (Ipv6Addr, Ipv6Addr) {
        match number {
            0 => (self.link_address, client.link_local()),
            // It has the agent before it on a link without global addresses.
            _ => (Ipv6Addr::UNSPECIFIED, address(number - 1).1),
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
        let mut interface_ids = Vec::new();
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
            interface_ids.push((number, interface_id));
            message = inner.ok_or(Wrong::Relay)?;
        }
        let client = client.ok_or(Wrong::Relay)?;
        // RFC 9915, section 19.3: the server returns it.
        if interface_ids.iter().any(|(number, id)| *id != Some(&interface_id(*number, client))) {
            return Err(Wrong::Relay);
        }
        Ok((client, message))
    }
}

fn option(message: &mut Vec<u8>, code: OptionCode, value: &[u8]) {
    message.extend(code.0.to_be_bytes());
    message.extend((value.len() as u16).to_be_bytes());
    message.extend(value);
}

#[cfg(test)]
mod tests {
    use super::{Identity, Relays, address};
    use crate::flood::{Wrong, frame::HEADERS_LEN};

    #[test]
    fn relay_agents_have_addresses_of_their_own() {
        assert_eq!(address(3), ([2, 0xd7, 0, 0, 0, 3], "fe80::d7:ff:fe00:3".parse().unwrap()));
        assert_eq!(Identity::of_link_local(address(0).1), None);
    }

    #[test]
    fn relay_replies_have_to_fit_what_was_forwarded() {
        let client = Identity(70_000);
        for depth in 1..=8 {
            let relays = Relays { depth, link_address: "2001:db8:2::1".parse().unwrap() };
            // A Relay-forward becomes its own reply when each type is changed.
            let mut reply = relays.frame(client, &[7, 1, 2, 3])[HEADERS_LEN..].to_vec();
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
