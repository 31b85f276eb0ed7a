//! Client messages, validated.
//!
//! The rules of RFC 9915, section 16, are checked here and nowhere else: what leaves [`parse`] is a message
//! that the engine has to answer, with the identifiers that its type must carry.

use std::net::Ipv6Addr;

use dhcp6_common::wire::{
    Duid, IA_ADDRESS_HEADER_LEN, IA_NA_HEADER_LEN, MESSAGE_HEADER_LEN, MalformedOption, MessageType,
    OptionCode, OptionWalker,
};

use super::DropReason;

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

impl From<MalformedOption> for DropReason {
    fn from(_: MalformedOption) -> Self {
        Self::Malformed
    }
}

/// What all messages have in common.
#[derive(Clone, Debug, Default)]
pub(super) struct Body<'a> {
    pub(super) transaction_id: [u8; 3],
    /// The IA_NAs in the order of the message, each IAID once.
    pub(super) ia_na: Vec<IaNa>,
    /// The IAIDs of the IA_PDs, each once.
    pub(super) ia_pd: Vec<u32>,
    pub(super) requested: RequestedOptions<'a>,
    pub(super) rapid_commit: bool,
}

/// An IA_NA of a client. Its T1, T2 and lifetimes are ignored (RFC 9915, sections 21.4 and 21.6).
#[derive(Clone, Debug)]
pub(super) struct IaNa {
    pub(super) iaid: u32,
    pub(super) addresses: Vec<Ipv6Addr>,
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
            if !body.ia_na.is_empty() || !body.ia_pd.is_empty() {
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
            OptionCode::IA_NA => {
                let ia = read_ia_na(option.value)?;
                // A second IA_NA with an IAID is answered by the answer to the first.
                if body.ia_na.iter().all(|other| other.iaid != ia.iaid) {
                    body.ia_na.push(ia);
                }
            }
            OptionCode::IA_PD => {
                let (iaid, nested) = split_ia(option.value)?;
                OptionWalker::new(nested).try_for_each(|option| option.map(drop))?;
                if !body.ia_pd.contains(&iaid) {
                    body.ia_pd.push(iaid);
                }
            }
            // IA_TA is ignored since RFC 9915 (section 21.5), as is all that this server gives no meaning.
            _ => {}
        }
    }
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

/// IAID and options of an IA_NA or IA_PD, whose headers have the same form.
fn split_ia(value: &[u8]) -> Result<(u32, &[u8]), DropReason> {
    let (header, nested) = value.split_first_chunk::<IA_NA_HEADER_LEN>().ok_or(DropReason::Malformed)?;
    Ok((u32::from_be_bytes([header[0], header[1], header[2], header[3]]), nested))
}

fn read_ia_na(value: &[u8]) -> Result<IaNa, DropReason> {
    let (iaid, nested) = split_ia(value)?;
    let mut addresses = Vec::new();
    for option in OptionWalker::new(nested) {
        let option = option?;
        if option.code == OptionCode::IA_ADDRESS {
            let header = option.value.first_chunk::<IA_ADDRESS_HEADER_LEN>().ok_or(DropReason::Malformed)?;
            let address: [u8; 16] = *header.first_chunk().expect("24 octets begin with 16");
            addresses.push(address.into());
        }
    }
    Ok(IaNa { iaid, addresses })
}
