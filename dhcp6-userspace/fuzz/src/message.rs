//! Messages of clients: well-formed ones for the most part, since random octets seldom get past the first check.

use std::net::Ipv6Addr;

use arbitrary::{Arbitrary, Unstructured};
use dhcp6_common::wire::{MessageType, OptionCode};

use crate::{
    setting::{Client, Iaid, address},
    wire::put,
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
    more_ia_na: [Rarely<Ia>; 2],
    no_ia_na: Rarely<()>,
    ia_pd: Rarely<Iaid>,
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

#[derive(Arbitrary, Clone, Debug)]
struct Ia {
    iaid: Iaid,
    /// Leaves out the addresses that the client believes to have.
    without_own: bool,
    hint: Option<Hint>,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Hint {
    OfLink(u8),
    OfOtherLink(u8),
    Any([u8; 16]),
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
    /// The octets. `own` says which addresses the client believes to have in one of its IAs on this link.
    pub(crate) fn octets(&self, link: u32, own: impl Fn(Client, u32) -> Vec<Ipv6Addr>) -> Vec<u8> {
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
        let first = Some(&self.ia_na).filter(|_| !without_ia);
        let more = self.more_ia_na.iter().filter_map(|Rarely(ia)| ia.as_ref());
        for ia in first.into_iter().chain(more) {
            let own = if ia.without_own { Vec::new() } else { own(self.client, ia.iaid.number()) };
            put(&mut octets, OptionCode::IA_NA.0, &ia.value(link, &own));
        }
        if let Some(iaid) = self.ia_pd.0 {
            put(&mut octets, OptionCode::IA_PD.0, &header(iaid));
        }
        if self.rapid_commit {
            put(&mut octets, OptionCode::RAPID_COMMIT.0, &[]);
        }
        match self.requested {
            None => {}
            Some(Requested::Configured) => put(&mut octets, 6, &[0, 23, 0, 56, 0, 24]),
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
    fn value(&self, link: u32, own: &[Ipv6Addr]) -> Vec<u8> {
        let mut value = header(self.iaid);
        let hint = self.hint.map(|hint| match hint {
            Hint::OfLink(index) => address(link, index),
            Hint::OfOtherLink(index) => address(link ^ 1, index),
            Hint::Any(octets) => octets.into(),
        });
        for address in { own.iter().copied() }.chain(hint) {
            let mut fields = address.octets().to_vec();
            fields.extend([0; 8]);
            put(&mut value, OptionCode::IA_ADDRESS.0, &fields);
        }
        value
    }
}

/// IAID, and T1 and T2, which the server has to ignore.
fn header(iaid: Iaid) -> Vec<u8> {
    let mut header = iaid.number().to_be_bytes().to_vec();
    header.extend([0, 0, 0, 9, 0, 0, 0, 3]);
    header
}
