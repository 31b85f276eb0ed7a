//! Who the simulated clients are, and what they say.

use std::net::Ipv6Addr;

use dhcp6_common::{
    flood::{IAID_MASK, MAC_PREFIX},
    wire::{Duid, MessageType, OptionCode},
};

use super::{Ask, frame::Mac, state::Resources};

/// What a client asks for: DNS servers and domain search list.
const REQUESTED: [OptionCode; 2] = [OptionCode::DNS_SERVERS, OptionCode::DOMAIN_SEARCH];

/// What tells one client from another. All of it follows from its index, so that the clients of two runs are the
/// same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity(pub(super) u32);

impl Identity {
    /// Whose MAC address this is.
    pub(super) fn of_mac(mac: Mac) -> Option<Self> {
        let index = mac.strip_prefix(&MAC_PREFIX[..])?.first_chunk()?;
        Some(Self(u32::from_be_bytes(*index)))
    }

    /// Whose link-local address this is.
    pub(super) fn of_link_local(address: Ipv6Addr) -> Option<Self> {
        let octets = address.octets();
        let mac = [octets[8] ^ 2, octets[9], octets[10], octets[13], octets[14], octets[15]];
        Self::of_mac(mac).filter(|identity| identity.link_local() == address)
    }

    pub(super) fn mac(self) -> Mac {
        let [a, b, c, d] = self.0.to_be_bytes();
        [MAC_PREFIX[0], MAC_PREFIX[1], a, b, c, d]
    }

    /// The link-local address that follows from the MAC address.
    pub(super) fn link_local(self) -> Ipv6Addr {
        link_local_of(self.mac())
    }

    /// A DUID-LL over Ethernet (RFC 9915, section 11.4).
    pub(super) fn duid(self) -> [u8; 10] {
        let mut duid = [0, 3, 0, 1, 0, 0, 0, 0, 0, 0];
        duid[4..].copy_from_slice(&self.mac());
        duid
    }

    /// The client's one IA_NA. Not its index, so that a server that mixes them up is found out.
    pub(super) fn iaid(self) -> u32 {
        self.0 ^ IAID_MASK
    }

    /// The client's one IA_PD.
    pub(super) fn prefix_iaid(self) -> u32 {
        self.iaid() ^ 0x2700_0000
    }

    /// A Solicit.
    pub(super) fn solicit(self, transaction_id: u32, elapsed: u16, rapid_commit: bool, ask: Ask) -> Vec<u8> {
        let mut message = Message::new(MessageType::Solicit, transaction_id);
        message.option(OptionCode::CLIENT_ID, &self.duid());
        if ask.address() {
            message.option(OptionCode::IA_NA, &ia_header(self.iaid()));
        }
        if ask.prefix() {
            message.option(OptionCode::IA_PD, &ia_header(self.prefix_iaid()));
        }
        if rapid_commit {
            message.option(OptionCode::RAPID_COMMIT, &[]);
        }
        message.finish(elapsed)
    }

    /// Any message that names a server, or what the client has or was offered.
    pub(super) fn message(
        self,
        kind: MessageType,
        (transaction_id, elapsed): (u32, u16),
        server: Option<&Duid>,
        resources: Resources,
    ) -> Vec<u8> {
        let mut message = Message::new(kind, transaction_id);
        message.option(OptionCode::CLIENT_ID, &self.duid());
        if let Some(server) = server {
            message.option(OptionCode::SERVER_ID, server.as_slice());
        }
        if let Some(address) = resources.address {
            let mut ia = ia_header(self.iaid()).to_vec();
            // IA Address, 24 octets, lifetimes of 0 (RFC 9915, section 21.6).
            ia.extend([0, 5, 0, 24]);
            ia.extend(address.octets());
            ia.extend([0; 8]);
            message.option(OptionCode::IA_NA, &ia);
        }
        if let Some((prefix, length)) = resources.prefix {
            let mut ia = ia_header(self.prefix_iaid()).to_vec();
            // IA Prefix, 25 octets, lifetimes of 0 (RFC 9915, section 21.22).
            ia.extend([0, 26, 0, 25, 0, 0, 0, 0, 0, 0, 0, 0, length]);
            ia.extend(prefix.octets());
            message.option(OptionCode::IA_PD, &ia);
        }
        match kind {
            // RFC 9915, section 21.7: nothing is asked for.
            MessageType::Release | MessageType::Decline => message.finish_without_requests(elapsed),
            _ => message.finish(elapsed),
        }
    }
}

/// fe80:: and the modified EUI-64 of a MAC address (RFC 4291, appendix A).
pub(super) fn link_local_of(mac: Mac) -> Ipv6Addr {
    let mut octets = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xfe, 0, 0, 0];
    octets[8..11].copy_from_slice(&mac[..3]);
    octets[13..].copy_from_slice(&mac[3..]);
    octets[8] ^= 2;
    octets.into()
}

/// IAID, and T1 and T2 of 0.
fn ia_header(iaid: u32) -> [u8; 12] {
    let [a, b, c, d] = iaid.to_be_bytes();
    [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0]
}

/// A message under construction.
struct Message(Vec<u8>);

impl Message {
    fn new(kind: MessageType, transaction_id: u32) -> Self {
        let [_, a, b, c] = transaction_id.to_be_bytes();
        let mut octets = Vec::with_capacity(128);
        octets.extend([kind as u8, a, b, c]);
        Self(octets)
    }

    fn option(&mut self, code: OptionCode, value: &[u8]) {
        self.0.extend(code.0.to_be_bytes());
        self.0.extend((value.len() as u16).to_be_bytes());
        self.0.extend(value);
    }

    /// Ends with Elapsed Time, in hundredths of a second, and Option Request.
    fn finish(self, elapsed: u16) -> Vec<u8> {
        let mut message = Self(self.finish_without_requests(elapsed));
        let requested: Vec<u8> = REQUESTED.iter().flat_map(|code| code.0.to_be_bytes()).collect();
        message.option(OptionCode::OPTION_REQUEST, &requested);
        message.0
    }

    /// Ends with Elapsed Time.
    fn finish_without_requests(mut self, elapsed: u16) -> Vec<u8> {
        self.option(OptionCode::ELAPSED_TIME, &elapsed.to_be_bytes());
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::Identity;

    #[test]
    fn a_client_is_found_by_its_addresses() {
        for index in [0, 1, 255, 256, 65_536, 9_999_999, u32::MAX] {
            let identity = Identity(index);
            assert_eq!(Identity::of_mac(identity.mac()), Some(identity));
            assert_eq!(Identity::of_link_local(identity.link_local()), Some(identity));
        }
        assert_eq!(Identity(1).link_local(), "fe80::d6:ff:fe00:1".parse::<std::net::Ipv6Addr>().unwrap());
        for stranger in ["fe80::1", "2001:db8::d6:ff:fe00:1", "::", "fe80::d6:0:1"] {
            assert_eq!(Identity::of_link_local(stranger.parse().unwrap()), None, "{stranger}");
        }
        assert_eq!(Identity::of_mac([2, 0, 0, 0, 0, 1]), None);
    }
}
