//! The one way to build a client's message and the one way to read an answer.

use std::net::Ipv6Addr;

use dhcp6_common::{
    Vlan,
    wire::{Duid, MessageType, OptionCode, OptionWalker, StatusCode},
};
use dhcproto::{Decodable as _, v6};

use crate::pool::{IaKind, Prefix, Resource};

/// The Server Identifier of the server under test.
pub(super) const SERVER: [u8; 7] = [0, 2, 0, 0, 0xab, 0x11, 0x99];
pub(super) const TRANSACTION: [u8; 3] = [0xab, 0xcd, 0xef];

/// A DUID-LL of the client with this number.
pub(super) fn duid(client: u8) -> Duid {
    Duid::new(&[0, 3, 0, 1, 2, 0, 0, 0, 0, client]).expect("10 octets are a DUID")
}

/// The address `2001:db8:1::host`, which is on the link under test.
pub(super) fn on_link(host: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, host)
}

/// An address of no link under test.
pub(super) fn off_link() -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1)
}

/// The MAC address that frames come from, unless told otherwise.
pub(super) const MAC: [u8; 6] = [2, 0, 0, 0, 9, 9];

/// A message under construction.
#[derive(Clone, Debug)]
pub(super) struct Message {
    octets: Vec<u8>,
    /// The VLAN that its frame is tagged with.
    pub(super) vlan: Vlan,
    /// The MAC address that its frame comes from.
    pub(super) mac: [u8; 6],
}

impl Message {
    /// A message of a type without any option.
    pub(super) fn bare(kind: u8) -> Self {
        let [a, b, c] = TRANSACTION;
        Self::from_octets(vec![kind, a, b, c])
    }

    /// Octets as they are.
    pub(super) fn from_octets(octets: Vec<u8>) -> Self {
        Self { octets, vlan: Vlan::NONE, mac: MAC }
    }

    /// The same from another VLAN.
    pub(super) fn in_vlan(self, vlan: Vlan) -> Self {
        Self { vlan, ..self }
    }

    /// The same from another MAC address.
    pub(super) fn with_mac(self, mac: [u8; 6]) -> Self {
        Self { mac, ..self }
    }

    /// A message with the identifiers that its type must carry (RFC 9915, section 16).
    pub(super) fn of(kind: MessageType, client: &Duid) -> Self {
        let message = Self::bare(kind as u8).option(OptionCode::CLIENT_ID, client.as_slice());
        match kind {
            MessageType::Request | MessageType::Renew | MessageType::Decline | MessageType::Release => {
                message.option(OptionCode::SERVER_ID, &SERVER)
            }
            _ => message,
        }
    }

    /// `of` the client with this number, with one IA_NA of IAID 1 that names these addresses.
    pub(super) fn with_ia(kind: MessageType, client: u8, addresses: &[Ipv6Addr]) -> Self {
        Self::of(kind, &duid(client)).ia_na(1, addresses)
    }

    /// A Solicit with Rapid Commit and one IA_NA of IAID 1.
    pub(super) fn rapid(client: u8) -> Self {
        Self::with_ia(MessageType::Solicit, client, &[]).option(OptionCode::RAPID_COMMIT, &[])
    }

    pub(super) fn option(mut self, code: OptionCode, value: &[u8]) -> Self {
        put(&mut self.octets, code, value);
        self
    }

    /// An IA_NA with T1, T2 and lifetimes that no server gives: they are to be ignored.
    pub(super) fn ia_na(self, iaid: u32, addresses: &[Ipv6Addr]) -> Self {
        self.ia_na_with(iaid, addresses, &[])
    }

    /// The same with further options, already encoded, in the IA_NA and in each IA Address.
    pub(super) fn ia_na_with(self, iaid: u32, addresses: &[Ipv6Addr], further: &[u8]) -> Self {
        let mut value = [iaid, 77, 88].map(u32::to_be_bytes).concat();
        for address in addresses {
            let lifetimes = [7777u32, 8888].map(u32::to_be_bytes).concat();
            put(&mut value, OptionCode::IA_ADDRESS, &[&address.octets()[..], &lifetimes, further].concat());
        }
        value.extend(further);
        self.option(OptionCode::IA_NA, &value)
    }

    /// An IA_PD that names these prefixes, with T1, T2 and lifetimes to be ignored.
    pub(super) fn ia_pd(self, iaid: u32, prefixes: &[Prefix]) -> Self {
        let mut value = [iaid, 77, 88].map(u32::to_be_bytes).concat();
        for prefix in prefixes {
            let mut option = [7777u32, 8888].map(u32::to_be_bytes).concat();
            option.push(prefix.length());
            option.extend(prefix.first().octets());
            put(&mut value, OptionCode::IA_PREFIX, &option);
        }
        self.option(OptionCode::IA_PD, &value)
    }

    /// An IA of either kind.
    pub(super) fn ia(self, kind: IaKind, iaid: u32, named: &[Resource]) -> Self {
        let addresses: Vec<_> = named.iter().filter_map(Resource::address).collect();
        let prefix = |resource: &Resource| match resource {
            Resource::Prefix(prefix) => Some(*prefix),
            Resource::Address(_) => None,
        };
        let prefixes: Vec<_> = named.iter().filter_map(prefix).collect();
        match kind {
            IaKind::Na => self.ia_na(iaid, &addresses),
            IaKind::Pd => self.ia_pd(iaid, &prefixes),
        }
    }

    /// An Option Request option.
    pub(super) fn requests(self, codes: &[u16]) -> Self {
        let value: Vec<_> = codes.iter().flat_map(|code| code.to_be_bytes()).collect();
        self.option(OptionCode::OPTION_REQUEST, &value)
    }

    pub(super) fn transaction(mut self, transaction: [u8; 3]) -> Self {
        self.octets[1..4].copy_from_slice(&transaction);
        self
    }

    pub(super) fn octets(&self) -> &[u8] {
        &self.octets
    }
}

/// Appends an option.
pub(super) fn put(octets: &mut Vec<u8>, code: OptionCode, value: &[u8]) {
    octets.extend(code.0.to_be_bytes());
    octets.extend((value.len() as u16).to_be_bytes());
    octets.extend(value);
}

/// An answer, option by option in its order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) kind: MessageType,
    pub(super) transaction: [u8; 3],
    pub(super) options: Vec<(OptionCode, Vec<u8>)>,
}

/// An IA_NA or IA_PD of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ia {
    pub(super) code: OptionCode,
    pub(super) iaid: u32,
    pub(super) t1: u32,
    pub(super) t2: u32,
    /// Address, preferred and valid lifetime.
    pub(super) addresses: Vec<(Ipv6Addr, u32, u32)>,
    /// Prefix, preferred and valid lifetime.
    pub(super) prefixes: Vec<(Prefix, u32, u32)>,
    /// Values of the PD Exclude options in the prefixes.
    pub(super) excluded: Vec<Vec<u8>>,
    /// Codes of the Status Code options.
    pub(super) status: Vec<u16>,
    /// How many options of other kinds it has.
    pub(super) others: usize,
}

impl Reply {
    /// Reads an answer, which must be well-formed to the last octet, for dhcproto as well.
    pub(super) fn decode(octets: &[u8]) -> Self {
        let (header, options) = octets.split_first_chunk::<4>().expect("an answer has a header");
        let reply = Self {
            kind: MessageType::from_code(header[0]).expect("an answer has a type of the RFC"),
            transaction: [header[1], header[2], header[3]],
            options: read_options(options),
        };
        let independent = v6::Message::from_bytes(octets).expect("dhcproto reads the answer");
        assert_eq!(independent.opts().iter().count(), reply.options.len(), "dhcproto stops early: {reply:?}");
        assert_eq!(u8::from(independent.msg_type()), header[0]);
        assert!(
            !{ independent.opts().iter() }.any(|option| matches!(option, v6::DhcpOption::Unknown(unknown)
                if (1..=26).contains(&u16::from(unknown.code())))),
            "dhcproto cannot read a value: {independent:?}"
        );
        reply
    }

    pub(super) fn codes(&self) -> Vec<u16> {
        self.options.iter().map(|(code, _)| code.0).collect()
    }

    /// The values of all options with this code.
    pub(super) fn values(&self, code: OptionCode) -> Vec<&[u8]> {
        self.options.iter().filter(|(other, _)| *other == code).map(|(_, value)| value.as_slice()).collect()
    }

    pub(super) fn has(&self, code: OptionCode) -> bool {
        !self.values(code).is_empty()
    }

    /// The IAs in their order.
    pub(super) fn ias(&self) -> Vec<Ia> {
        let is_ia = |code: OptionCode| code == OptionCode::IA_NA || code == OptionCode::IA_PD;
        let ias = self.options.iter().filter(|(code, _)| is_ia(*code));
        ias.map(|(code, value)| Ia::decode(*code, value)).collect()
    }

    /// The only IA.
    #[track_caller]
    pub(super) fn ia(&self) -> Ia {
        let [ia] = self.ias().try_into().expect("the answer has one IA");
        ia
    }

    /// The address of the only lease in the only IA.
    #[track_caller]
    pub(super) fn address(&self) -> Ipv6Addr {
        let ia = self.ia();
        let leased: Vec<_> = ia.addresses.iter().filter(|(_, _, valid)| *valid > 0).collect();
        let [(address, _, _)] = leased[..] else { panic!("not one lease: {ia:?}") };
        *address
    }

    /// The prefix of the only lease in the only IA_PD.
    #[track_caller]
    pub(super) fn prefix(&self) -> Prefix {
        let ias = self.ias().into_iter().filter(|ia| ia.code == OptionCode::IA_PD);
        let leased: Vec<_> = ias.flat_map(|ia| ia.prefixes).filter(|(_, _, valid)| *valid > 0).collect();
        let [(prefix, _, _)] = leased[..] else { panic!("not one prefix: {self:?}") };
        prefix
    }

    /// The code of the message's own Status Code option.
    pub(super) fn status(&self) -> Option<StatusCode> {
        let values = self.values(OptionCode::STATUS_CODE);
        assert!(values.len() <= 1, "matrix row O-3: one status");
        values.first().map(|value| match status(value) {
            0 => StatusCode::Success,
            2 => StatusCode::NoAddrsAvail,
            3 => StatusCode::NoBinding,
            4 => StatusCode::NotOnLink,
            6 => StatusCode::NoPrefixAvail,
            other => panic!("matrix row O-5: status {other}"),
        })
    }
}

impl Ia {
    fn decode(code: OptionCode, value: &[u8]) -> Self {
        let number = |at: usize| u32::from_be_bytes(value[at..at + 4].try_into().expect("4 octets"));
        let mut ia = Self {
            code,
            iaid: number(0),
            t1: number(4),
            t2: number(8),
            addresses: Vec::new(),
            prefixes: Vec::new(),
            excluded: Vec::new(),
            status: Vec::new(),
            others: 0,
        };
        for (code, value) in read_options(&value[12..]) {
            match code {
                OptionCode::IA_PREFIX => {
                    assert_eq!(ia.code, OptionCode::IA_PD, "matrix row O-8");
                    let (header, options) = value.split_first_chunk::<25>().expect("an IA Prefix");
                    let number =
                        |at: usize| u32::from_be_bytes(header[at..at + 4].try_into().expect("4 octets"));
                    let first: [u8; 16] = *header.last_chunk().expect("an address");
                    let prefix = Prefix::new(first.into(), header[8]).expect("matrix row O-14: no host bits");
                    ia.prefixes.push((prefix, number(0), number(4)));
                    for (code, value) in read_options(options) {
                        assert_eq!(code, OptionCode::PD_EXCLUDE, "nothing else is in a prefix");
                        ia.excluded.push(value);
                    }
                }
                OptionCode::IA_ADDRESS => {
                    assert_eq!(ia.code, OptionCode::IA_NA, "matrix row O-8");
                    let (address, rest) = value.split_first_chunk::<16>().expect("an address");
                    let [p0, p1, p2, p3, v0, v1, v2, v3] = rest.try_into().expect("two lifetimes, no more");
                    let preferred = u32::from_be_bytes([p0, p1, p2, p3]);
                    let valid = u32::from_be_bytes([v0, v1, v2, v3]);
                    ia.addresses.push(((*address).into(), preferred, valid));
                }
                OptionCode::STATUS_CODE => ia.status.push(status(&value)),
                _ => ia.others += 1,
            }
        }
        ia
    }

    /// Whether it holds one status and nothing else.
    pub(super) fn is_only(&self, wanted: StatusCode) -> bool {
        self.status == [wanted as u16] && self.leases().is_empty() && self.others == 0
    }

    /// The kind of the IA.
    pub(super) fn kind(&self) -> IaKind {
        if self.code == OptionCode::IA_NA { IaKind::Na } else { IaKind::Pd }
    }

    /// Addresses and prefixes with their preferred and valid lifetimes.
    pub(super) fn leases(&self) -> Vec<(Resource, u32, u32)> {
        let addresses = self.addresses.iter().map(|(address, p, v)| ((*address).into(), *p, *v));
        addresses.chain(self.prefixes.iter().map(|(prefix, p, v)| ((*prefix).into(), *p, *v))).collect()
    }
}

fn read_options(octets: &[u8]) -> Vec<(OptionCode, Vec<u8>)> {
    let read: Result<Vec<_>, _> = OptionWalker::new(octets).collect();
    let options = read.expect("the options of an answer are well-formed");
    options.into_iter().map(|option| (option.code, option.value.to_vec())).collect()
}

fn status(value: &[u8]) -> u16 {
    let (code, text) = value.split_first_chunk::<2>().expect("matrix row O-3: at least two octets");
    let text = std::str::from_utf8(text).expect("matrix row O-3: UTF-8");
    assert!(!text.contains('\0'), "matrix row O-3: not terminated");
    u16::from_be_bytes(*code)
}
