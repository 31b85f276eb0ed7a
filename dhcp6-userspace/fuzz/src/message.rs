//! Messages of clients: well-formed ones for the most part, since random octets seldom get past the first check.

use arbitrary::{Arbitrary, Unstructured};
use dhcp6_common::wire::{MessageType, OptionCode};
use dhcp6_userspace::pool::{IaKind, Prefix, Resource};

use crate::{
    setting::{Client, DelegatedPrefix, Iaid, address},
    wire::{code_of, put},
};

/// The server under test.
pub(crate) const SERVER: [u8; 8] = [0, 2, 0, 0, 0x1f, 0x9a, 1, 2];

/// Present in one of sixteen cases.
#[derive(Clone, Debug)]
pub(crate) struct Rarely<T>(pub(crate) Option<T>);

impl<'a, T: Arbitrary<'a>> Arbitrary<'a> for Rarely<T> {
    fn arbitrary(octets: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        // Not for 0, which is also what comes when the octets have run out.
        let present = octets.int_in_range(0..=15u8)? == 15;
        Ok(Self(if present { Some(T::arbitrary(octets)?) } else { None }))
    }
}

/// What a client sends.
#[derive(Clone, Debug)]
pub(crate) enum Sent {
    Message(Box<Message>),
    /// What was sent last, again.
    Again,
    Octets(Vec<u8>),
}

impl<'a> Arbitrary<'a> for Sent {
    fn arbitrary(octets: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        Ok(match octets.int_in_range(0..=31u8)? {
            0 => Self::Octets(Vec::arbitrary(octets)?),
            1 | 2 => Self::Again,
            _ => Self::Message(Box::arbitrary(octets)?),
        })
    }
}

/// A message in the terms of the protocol.
#[derive(Arbitrary, Clone, Debug)]
pub(crate) struct Message {
    kind: Kind,
    transaction_id: [u8; 3],
    client: Client,
    no_client_id: Rarely<()>,
    server: Rarely<Server>,
    ia_na: Ia,
    more_ia_na: Rarely<Ia>,
    no_ia_na: Rarely<()>,
    ia_pd: Option<Ia>,
    more_ia_pd: Rarely<Ia>,
    many: Rarely<Rarely<Many>>,
    rapid_commit: bool,
    requested: Option<Requested>,
    other_option: Rarely<(u16, Vec<u8>)>,
    damage: Rarely<Damage>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Solicit,
    Request,
    Confirm,
    Renew,
    Rebind,
    Release,
    Decline,
    InformationRequest,
}

impl<'a> Arbitrary<'a> for Kind {
    fn arbitrary(octets: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        const OFTEN: [Kind; 5] = [Kind::Solicit, Kind::Request, Kind::Renew, Kind::Release, Kind::Decline];
        const SELDOM: [Kind; 3] = [Kind::Confirm, Kind::Rebind, Kind::InformationRequest];
        let of: &[Kind] = if octets.int_in_range(0..=7u8)? == 7 { &SELDOM } else { &OFTEN };
        octets.choose(of).copied()
    }
}

/// The Server Identifier, where it is not the one that the type of the message requires.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Server {
    None,
    Ours,
    Other,
}

/// An IA of either kind.
#[derive(Arbitrary, Clone, Debug)]
struct Ia {
    iaid: Iaid,
    /// Leaves out the addresses or prefixes that the client believes to have.
    without_own: bool,
    hint: Option<Hint>,
}

/// What a client may like to have, as an address and as a prefix.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Hint {
    OfNet(u8, DelegatedPrefix),
    OfOtherNet(u8, DelegatedPrefix),
    /// The length of a prefix, which itself is left open (RFC 8168).
    Length(u8),
    Any([u8; 16], u8),
}

/// As many IAs as an answer can hold, more or fewer, or as many addresses or prefixes in one.
#[derive(Arbitrary, Clone, Copy, Debug)]
struct Many {
    difference: i8,
    pd: bool,
    in_one: bool,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Requested {
    Configured,
    Forbidden,
    Odd,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Damage {
    CutAt(u16),
    Flip { at: u16, mask: u8 },
    Append([u8; 3]),
}

impl Message {
    /// The octets. `own` says what the client believes to have in one of its IAs, `net` where it is.
    pub(crate) fn octets(&self, net: u8, own: impl Fn(Client, IaKind, u32) -> Vec<Resource>) -> Vec<u8> {
        let mut octets = vec![self.kind.code()];
        octets.extend(self.transaction_id);
        if self.no_client_id.0.is_none() {
            put(&mut octets, OptionCode::CLIENT_ID.0, self.client.duid().as_slice());
        }
        let server = self.server.0.unwrap_or(self.kind.server());
        match server {
            Server::None => {}
            Server::Ours => put(&mut octets, OptionCode::SERVER_ID.0, &SERVER),
            Server::Other => put(&mut octets, OptionCode::SERVER_ID.0, &[0, 3, 9]),
        }
        // An Information-request has none, and with one it is refused.
        let without_ia = self.no_ia_na.0.is_some() != (self.kind == Kind::InformationRequest);
        let ia_na = Some(&self.ia_na).filter(|_| !without_ia).into_iter().chain(&self.more_ia_na.0);
        let ia_pd = self.ia_pd.iter().filter(|_| !without_ia).chain(&self.more_ia_pd.0);
        let ias = ia_na.map(|ia| (IaKind::Na, ia)).chain(ia_pd.map(|ia| (IaKind::Pd, ia)));
        for (kind, ia) in ias {
            let own = if ia.without_own { Vec::new() } else { own(self.client, kind, ia.iaid.number()) };
            put(&mut octets, code_of(kind).0, &ia.value(kind, net, &own));
        }
        if let Rarely(Some(Rarely(Some(many)))) = self.many {
            many.put(net, &mut octets);
        }
        if self.rapid_commit {
            put(&mut octets, OptionCode::RAPID_COMMIT.0, &[]);
        }
        match self.requested {
            None => {}
            Some(Requested::Configured) => put(&mut octets, 6, &[0, 23, 0, 56, 0, 24, 0, 67, 0, 82, 0, 83]),
            Some(Requested::Forbidden) => put(&mut octets, 6, &[0, 1, 0, 2, 0, 3, 0, 12, 0, 13, 0, 23]),
            Some(Requested::Odd) => put(&mut octets, 6, &[0, 23, 0]),
        }
        if let Some((code, value)) = &self.other_option.0 {
            put(&mut octets, *code, value);
        }
        match self.damage.0 {
            None => {}
            Some(Damage::CutAt(at)) => octets.truncate(usize::from(at) % octets.len()),
            Some(Damage::Flip { at, mask }) => {
                let at = usize::from(at) % octets.len();
                octets[at] ^= mask;
            }
            Some(Damage::Append(tail)) => octets.extend(tail),
        }
        octets
    }
}

impl Kind {
    fn code(self) -> u8 {
        let kind = match self {
            Self::Solicit => MessageType::Solicit,
            Self::Request => MessageType::Request,
            Self::Confirm => MessageType::Confirm,
            Self::Renew => MessageType::Renew,
            Self::Rebind => MessageType::Rebind,
            Self::Release => MessageType::Release,
            Self::Decline => MessageType::Decline,
            Self::InformationRequest => MessageType::InformationRequest,
        };
        kind as u8
    }

    /// What RFC 9915, section 16, wants.
    fn server(self) -> Server {
        match self {
            Self::Request | Self::Renew | Self::Release | Self::Decline => Server::Ours,
            Self::Solicit | Self::Confirm | Self::Rebind | Self::InformationRequest => Server::None,
        }
    }
}

impl Ia {
    fn value(&self, kind: IaKind, net: u8, own: &[Resource]) -> Vec<u8> {
        let mut value = header(self.iaid.number());
        for resource in own {
            put_resource(&mut value, *resource);
        }
        match (kind, self.hint) {
            (_, None) | (IaKind::Na, Some(Hint::Length(_))) => {}
            (IaKind::Na, Some(Hint::OfNet(index, _))) => {
                put_resource(&mut value, address(net, index).into());
            }
            (IaKind::Na, Some(Hint::OfOtherNet(index, _))) => {
                put_resource(&mut value, address(net ^ 1, index).into());
            }
            (IaKind::Na, Some(Hint::Any(octets, _))) => {
                put_resource(&mut value, Resource::Address(octets.into()));
            }
            (IaKind::Pd, Some(Hint::OfNet(_, prefix))) => put_resource(&mut value, prefix.of(net).into()),
            (IaKind::Pd, Some(Hint::OfOtherNet(_, prefix))) => {
                put_resource(&mut value, prefix.of(net ^ 1).into());
            }
            (IaKind::Pd, Some(Hint::Length(length))) => put_prefix(&mut value, length, [0; 16]),
            (IaKind::Pd, Some(Hint::Any(octets, length))) => put_prefix(&mut value, length, octets),
        }
        value
    }
}

impl Many {
    fn put(self, net: u8, octets: &mut Vec<u8>) {
        let kind = if self.pd { IaKind::Pd } else { IaKind::Na };
        let count = 890_u32.saturating_add_signed(self.difference.into());
        if self.in_one {
            let mut value = header(2);
            for bits in 0..count {
                let address = u128::from(address(net, 0)) + (u128::from(bits) << 64);
                let prefix = || Prefix::around(address.into(), 64).expect("a length of a prefix");
                put_resource(
                    &mut value,
                    if self.pd { prefix().into() } else { Resource::Address(address.into()) },
                );
            }
            put(octets, code_of(kind).0, &value);
        } else {
            for iaid in 0..count {
                put(octets, code_of(kind).0, &header(900 + iaid));
            }
        }
    }
}

/// IAID, and T1 and T2, which the server has to ignore.
fn header(iaid: u32) -> Vec<u8> {
    let mut header = iaid.to_be_bytes().to_vec();
    header.extend([0, 0, 0, 9, 0, 0, 0, 3]);
    header
}

/// Appends an address or prefix as a client names it.
fn put_resource(ia: &mut Vec<u8>, resource: Resource) {
    match resource {
        Resource::Address(address) => {
            let mut fields = address.octets().to_vec();
            fields.extend([0; 8]);
            put(ia, OptionCode::IA_ADDRESS.0, &fields);
        }
        Resource::Prefix(prefix) => put_prefix(ia, prefix.length(), prefix.first().octets()),
    }
}

fn put_prefix(ia: &mut Vec<u8>, length: u8, first: [u8; 16]) {
    let mut fields = vec![0; 8];
    fields.push(length);
    fields.extend(first);
    put(ia, OptionCode::IA_PREFIX.0, &fields);
}
