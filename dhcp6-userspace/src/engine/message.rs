//! Client messages, validated.
//!
//! The rules of RFC 9915, section 16, are checked here and nowhere else: what leaves [`parse`] is a message
//! that the engine has to answer, with the identifiers that its type must carry.

use std::net::Ipv6Addr;

use dhcp6_common::wire::{
    Duid, IA_ADDRESS_HEADER_LEN, IA_NA_HEADER_LEN, IA_PREFIX_HEADER_LEN, MESSAGE_HEADER_LEN, MalformedOption,
    MessageType, OptionCode, OptionWalker,
};
use hashbrown::HashSet;

use super::DropReason;
use crate::pool::{IaKind, Prefix, Resource};

/// How many IAs, and addresses and prefixes in them, one message may have. Each takes up to 66 octets of the answer (a
/// status, or a prefix with its PD Exclude option), which has to fit a datagram.
const MOST_IAS_AND_RESOURCES: usize = 900;

/// A message that may be answered.
#[derive(Clone, Debug)]
pub(super) enum ClientMessage<'a> {
    Solicit(Duid, Body<'a>),
    Request(Duid, Body<'a>),
    Confirm(Duid, Body<'a>),
    Renew(Duid, Body<'a>),
    Rebind(Duid, Body<'a>),
    Release(Duid, Body<'a>),
    Decline(Duid, Body<'a>),
    /// A Request or Decline that names another server (sections 16.4 and 16.8): not answered, but it tells that
    /// the client has chosen otherwise.
    ForOtherServer(Duid, Body<'a>),
    /// The client may stay anonymous (RFC 9915, section 18.2.6).
    InformationRequest(Option<Duid>, Body<'a>),
}

impl ClientMessage<'_> {
    /// The client, unless it stays anonymous.
    pub(super) fn client(&self) -> Option<Duid> {
        match self {
            Self::Solicit(duid, _)
            | Self::Request(duid, _)
            | Self::Confirm(duid, _)
            | Self::Renew(duid, _)
            | Self::Rebind(duid, _)
            | Self::Release(duid, _)
            | Self::Decline(duid, _)
            | Self::ForOtherServer(duid, _) => Some(*duid),
            Self::InformationRequest(duid, _) => *duid,
        }
    }

    /// The IAs in which the client wants something of this server, or gives it back.
    pub(super) fn ias(&self) -> &[Ia] {
        match self {
            Self::Solicit(_, body)
            | Self::Request(_, body)
            | Self::Renew(_, body)
            | Self::Rebind(_, body)
            | Self::Release(_, body)
            | Self::Decline(_, body) => &body.ias,
            Self::Confirm(..) | Self::ForOtherServer(..) | Self::InformationRequest(..) => &[],
        }
    }
}

impl From<MalformedOption> for DropReason {
    fn from(_: MalformedOption) -> Self {
        Self::Malformed
    }
}

/// What all messages have in common.
#[derive(Clone, Debug, Default)]
pub(super) struct Body<'a> {
    pub(super) transaction_id: [u8; 3],
    /// The IA_NAs, then the IA_PDs, in the order of the message; of each kind each IAID once.
    pub(super) ias: Vec<Ia>,
    pub(super) requested: RequestedOptions<'a>,
    pub(super) rapid_commit: bool,
}

/// An identity association of a client. Its T1, T2 and lifetimes are ignored (RFC 9915, sections 21.4, 21.6, 21.21
/// and 21.22).
#[derive(Clone, Debug)]
pub(super) struct Ia {
    pub(super) kind: IaKind,
    pub(super) iaid: u32,
    /// The addresses or prefixes that the client names.
    pub(super) named: Vec<Resource>,
    /// The length of the first prefix that the client names, even where it leaves the prefix open (RFC 8168).
    pub(super) length: Option<u8>,
}

/// The value of an Option Request option, two octets a code.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RequestedOptions<'a>(&'a [u8]);

impl RequestedOptions<'_> {
    /// Whether the client asks for this option. An odd last octet is no code.
    pub(super) fn contains(&self, code: OptionCode) -> bool {
        self.0.chunks_exact(2).any(|pair| pair == code.0.to_be_bytes())
    }
}

/// The type of a message, for the counters; `None` where RFC 9915 has none.
pub(super) fn message_type(message: &[u8]) -> Option<MessageType> {
    message.first().and_then(|code| MessageType::from_code(*code))
}

/// Reads and validates a client message.
pub(super) fn parse<'a>(message: &'a [u8], server: &Duid) -> Result<ClientMessage<'a>, DropReason> {
    let kind = message_type(message).ok_or(match message {
        [] => DropReason::TooShort,
        _ => DropReason::UnknownType,
    })?;
    let Some((header, options)) = message.split_first_chunk::<MESSAGE_HEADER_LEN>() else {
        return Err(DropReason::TooShort);
    };
    match kind {
        // Sections 16.3, 16.10, 16.11 and 16.14. Relay-forwards have been opened before.
        MessageType::Advertise
        | MessageType::Reply
        | MessageType::Reconfigure
        | MessageType::RelayForward
        | MessageType::RelayReply => {
            return Err(DropReason::NotForServers);
        }
        _ => {}
    }
    let mut ids = Identifiers::default();
    let body = read_options(*header, options, &mut ids)?;
    let Identifiers { client, server: named } = ids;
    let identified = || client.ok_or(DropReason::NoClientId);
    let no_server = || match named {
        Some(_) => Err(DropReason::ServerIdPresent),
        None => Ok(()),
    };
    let this_server = || match named {
        None => Err(DropReason::NoServerId),
        Some(id) => Ok(id == server.as_slice()),
    };
    Ok(match kind {
        // Sections 16.2, 16.5 and 16.7.
        MessageType::Solicit | MessageType::Confirm | MessageType::Rebind => {
            let client = identified()?;
            no_server()?;
            match kind {
                MessageType::Solicit => ClientMessage::Solicit(client, body),
                MessageType::Confirm => ClientMessage::Confirm(client, body),
                _ => ClientMessage::Rebind(client, body),
            }
        }
        // Sections 16.4, 16.6, 16.8 and 16.9.
        MessageType::Request | MessageType::Renew | MessageType::Decline | MessageType::Release => {
            let for_this_server = this_server()?;
            let client = identified()?;
            match (kind, for_this_server) {
                (MessageType::Request, true) => ClientMessage::Request(client, body),
                (MessageType::Renew, true) => ClientMessage::Renew(client, body),
                (MessageType::Decline, true) => ClientMessage::Decline(client, body),
                (_, true) => ClientMessage::Release(client, body),
                (MessageType::Request | MessageType::Decline, false) => {
                    ClientMessage::ForOtherServer(client, body)
                }
                (_, false) => return Err(DropReason::OtherServer),
            }
        }
        // Section 16.12.
        _ => {
            if named.is_some() && !this_server()? {
                return Err(DropReason::OtherServer);
            }
            if !body.ias.is_empty() {
                return Err(DropReason::IaInInformationRequest);
            }
            ClientMessage::InformationRequest(client, body)
        }
    })
}

#[derive(Default)]
struct Identifiers<'a> {
    client: Option<Duid>,
    server: Option<&'a [u8]>,
}

fn read_options<'a>(
    header: [u8; MESSAGE_HEADER_LEN],
    options: &'a [u8],
    ids: &mut Identifiers<'a>,
) -> Result<Body<'a>, DropReason> {
    let mut body = Body { transaction_id: [header[1], header[2], header[3]], ..Body::default() };
    let mut requested = None;
    let mut seen = HashSet::new();
    let mut items = 0;
    for option in OptionWalker::new(options) {
        let option = option?;
        match option.code {
            OptionCode::CLIENT_ID => {
                let duid = Duid::new(option.value).map_err(|_| DropReason::BadClientId)?;
                once(&mut ids.client, duid)?;
            }
            OptionCode::SERVER_ID => once(&mut ids.server, option.value)?,
            OptionCode::OPTION_REQUEST => once(&mut requested, option.value)?,
            OptionCode::RAPID_COMMIT => match option.value {
                [] => body.rapid_commit = true,
                _ => return Err(DropReason::Malformed),
            },
            OptionCode::IA_NA | OptionCode::IA_PD => {
                let kind = if option.code == OptionCode::IA_NA { IaKind::Na } else { IaKind::Pd };
                let ia = read_ia(kind, option.value)?;
                items += 1 + ia.named.len();
                if items > MOST_IAS_AND_RESOURCES {
                    return Err(DropReason::TooManyIas);
                }
                // A second IA with an IAID is answered by the answer to the first.
                if seen.insert((kind, ia.iaid)) {
                    body.ias.push(ia);
                }
            }
            // IA_TA is ignored since RFC 9915 (section 21.5), as is all that this server gives no meaning.
            _ => {}
        }
    }
    body.ias.sort_by_key(|ia| ia.kind);
    body.requested = RequestedOptions(requested.unwrap_or_default());
    Ok(body)
}

/// Takes an option that may occur once.
pub(super) fn once<T>(place: &mut Option<T>, value: T) -> Result<(), DropReason> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(DropReason::RepeatedOption),
    }
}

fn read_ia(kind: IaKind, value: &[u8]) -> Result<Ia, DropReason> {
    // The header of an IA_PD has the same form.
    let (header, nested) = value.split_first_chunk::<IA_NA_HEADER_LEN>().ok_or(DropReason::Malformed)?;
    let iaid = u32::from_be_bytes([header[0], header[1], header[2], header[3]]);
    let mut ia = Ia { kind, iaid, named: Vec::new(), length: None };
    for option in OptionWalker::new(nested) {
        let option = option?;
        match (kind, option.code) {
            (IaKind::Na, OptionCode::IA_ADDRESS) => {
                let header =
                    option.value.first_chunk::<IA_ADDRESS_HEADER_LEN>().ok_or(DropReason::Malformed)?;
                let address: [u8; 16] = *header.first_chunk().expect("24 octets begin with 16");
                ia.named.push(Ipv6Addr::from(address).into());
            }
            (IaKind::Pd, OptionCode::IA_PREFIX) => {
                let header =
                    option.value.first_chunk::<IA_PREFIX_HEADER_LEN>().ok_or(DropReason::Malformed)?;
                let (length, address): (u8, [u8; 16]) =
                    (header[8], *header.last_chunk().expect("25 octets end with 16"));
                let prefix = Prefix::around(address.into(), length).ok_or(DropReason::Malformed)?;
                if length != 0 && ia.length.is_none() {
                    ia.length = Some(length);
                }
                if !prefix.first().is_unspecified() {
                    ia.named.push(prefix.into());
                }
            }
            _ => {}
        }
    }
    Ok(ia)
}
