//! Who the simulated clients are, and what they say.

use std::net::Ipv6Addr;

use dhcp6_common::{
    flood::{IAID_MASK, MAC_PREFIX},
    wire::{MessageType, OptionCode},
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

    /// Appends a Solicit.
    pub(super) fn solicit(self, to: &mut Vec<u8>, header: Header, rapid_commit: bool, ask: Ask) {
        let mut message = Message::new(to, MessageType::Solicit, header);
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
        message.finish();
    }

    /// Appends any message that names a server, or what the client has or was offered.
    pub(super) fn message(
        self,
        to: &mut Vec<u8>,
        kind: MessageType,
        header: Header,
        server: Option<&[u8]>,
        resources: Resources,
    ) {
        let mut message = Message::new(to, kind, header);
        message.option(OptionCode::CLIENT_ID, &self.duid());
        if let Some(server) = server {
            message.option(OptionCode::SERVER_ID, server);
        }
        if let Some(address) = resources.address {
            let mut ia = [0; 40];
            ia[..12].copy_from_slice(&ia_header(self.iaid()));
            // IA Address, 24 octets, lifetimes of 0 (RFC 9915, section 21.6).
            ia[12..16].copy_from_slice(&[0, 5, 0, 24]);
            ia[16..32].copy_from_slice(&address.octets());
            message.option(OptionCode::IA_NA, &ia);
        }
        if let Some((prefix, length)) = resources.prefix {
            let mut ia = [0; 41];
            ia[..12].copy_from_slice(&ia_header(self.prefix_iaid()));
            // IA Prefix, 25 octets, lifetimes of 0 (RFC 9915, section 21.22).
            ia[12..16].copy_from_slice(&[0, 26, 0, 25]);
            ia[24] = length;
            ia[25..].copy_from_slice(&prefix.octets());
            message.option(OptionCode::IA_PD, &ia);
        }
        match kind {
            // RFC 9915, section 21.7: nothing is asked for.
            MessageType::Release | MessageType::Decline => message.finish_without_requests(),
            _ => message.finish(),
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

/// What every message begins with, and how long its exchange has taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) transaction_id: u32,
    /// In hundredths of a second (RFC 9915, section 21.9).
    pub(super) elapsed: u16,
}

/// A message under construction, at the end of what is there already.
struct Message<'a> {
    octets: &'a mut Vec<u8>,
    elapsed: u16,
}

impl<'a> Message<'a> {
    fn new(octets: &'a mut Vec<u8>, kind: MessageType, header: Header) -> Self {
        let [_, a, b, c] = header.transaction_id.to_be_bytes();
        octets.extend_from_slice(&[kind as u8, a, b, c]);
        Self { octets, elapsed: header.elapsed }
    }

    fn option(&mut self, code: OptionCode, value: &[u8]) {
        option(self.octets, code, value);
    }

    /// Ends with Elapsed Time and Option Request.
    fn finish(mut self) {
        let [a, b] = REQUESTED.map(|code| code.0.to_be_bytes());
        let elapsed = self.elapsed.to_be_bytes();
        self.option(OptionCode::ELAPSED_TIME, &elapsed);
        self.option(OptionCode::OPTION_REQUEST, &[a[0], a[1], b[0], b[1]]);
    }

    /// Ends with Elapsed Time.
    fn finish_without_requests(mut self) {
        let elapsed = self.elapsed.to_be_bytes();
        self.option(OptionCode::ELAPSED_TIME, &elapsed);
    }
}

/// Appends an option.
pub(super) fn option(to: &mut Vec<u8>, code: OptionCode, value: &[u8]) {
    let ([a, b], [c, d]) = (code.0.to_be_bytes(), (value.len() as u16).to_be_bytes());
    to.extend_from_slice(&[a, b, c, d]);
    to.extend_from_slice(value);
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
