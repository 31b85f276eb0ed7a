//! A look at a message before it is handled, so that what matters most can be handled first.

use std::time::Duration;

use dhcp6_common::{
    Vlan,
    wire::{Duid, MESSAGE_HEADER_LEN, MessageType, OptionCode, OptionWalker},
};

use super::{Arrival, Engine, message, relay::Envelope, table::Client};
use crate::{config::ClientKey, pool::IaKind};

/// So many IAs of a Solicit are looked up.
const MOST_IAS: usize = 4;
/// The Elapsed Time of a client that has tried for longer than the option can say (RFC 9915, section 21.9).
const LONGEST: [u8; 2] = [0xff; 2];

/// What a client's message says at a glance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Glance<'a> {
    /// The type; of a relayed message, that of the client's.
    pub kind: MessageType,
    /// The value of the Client Identifier, if there is one.
    pub client: Option<&'a [u8]>,
    /// How long the client had been trying when it sent the message (RFC 9915, section 21.9).
    pub elapsed: Duration,
    /// Whether the client has, or had, a binding for an IA of the message, or has a reservation; of a Request, also
    /// whether something was offered to it.
    pub is_known: bool,
}

impl Engine {
    /// Looks at a message from a client or a relay agent, and changes nothing; `None` where [`Engine::handle`] refuses it
    /// without a look at any client. What this tells is not yet validated.
    pub fn glance<'a>(&self, arrival: Arrival, message: &'a [u8]) -> Option<Glance<'a>> {
        let envelope = Envelope::open(message).ok()?;
        let kind = message::message_type(envelope.message).filter(|kind| is_for_servers(*kind))?;
        let mut client = None;
        let mut elapsed = Duration::ZERO;
        let mut ias = [(IaKind::Na, 0); MOST_IAS];
        let mut count = 0;
        for option in OptionWalker::new(envelope.message.get(MESSAGE_HEADER_LEN..)?) {
            let option = option.ok()?;
            match option.code {
                OptionCode::CLIENT_ID => client = Some(option.value),
                OptionCode::ELAPSED_TIME => elapsed = read_elapsed(option.value),
                OptionCode::IA_NA | OptionCode::IA_PD if count < MOST_IAS => {
                    let kind = if option.code == OptionCode::IA_NA { IaKind::Na } else { IaKind::Pd };
                    ias[count] = (kind, u32::from_be_bytes(*option.value.first_chunk()?));
                    count += 1;
                }
                _ => {}
            }
        }
        let is_known = kind != MessageType::InformationRequest
            && self.knows(kind, arrival, &envelope, client?, &ias[..count]);
        Some(Glance { kind, client, elapsed, is_known })
    }

    fn knows(
        &self,
        kind: MessageType,
        arrival: Arrival,
        envelope: &Envelope<'_>,
        client: &[u8],
        ias: &[(IaKind, u32)],
    ) -> bool {
        let Some((link, duid)) = self.link_of(arrival, envelope).zip(Duid::new(client).ok()) else {
            return false;
        };
        let state = &self.links[link as usize];
        let keys = envelope.client_keys();
        let origin = if envelope.is_relayed() {
            state.config.origin_of(Vlan::NONE, envelope.client_mac())
        } else {
            state.config.origin_of(arrival.vlan, arrival.mac)
        };
        let is_its = |(ia, iaid): &(IaKind, u32)| {
            let client = Client { link, origin, duid, kind: *ia, iaid: *iaid };
            let is_offered = || kind == MessageType::Request && self.offers.resource_of(&client).is_some();
            self.table.of(&client).is_some() || is_offered()
        };
        let has_reservation = |key: &ClientKey| state.has_reservation_of(key);
        let mac = arrival.mac.filter(|_| !envelope.is_relayed()).map(ClientKey::Mac);
        ias.iter().any(is_its)
            || has_reservation(&ClientKey::Duid(duid))
            || mac.iter().any(has_reservation)
            || keys.iter().any(has_reservation)
    }
}

/// Whether a client sends messages of this type to servers.
fn is_for_servers(kind: MessageType) -> bool {
    match kind {
        MessageType::Solicit
        | MessageType::Request
        | MessageType::Confirm
        | MessageType::Renew
        | MessageType::Rebind
        | MessageType::Release
        | MessageType::Decline
        | MessageType::InformationRequest => true,
        MessageType::Advertise
        | MessageType::Reply
        | MessageType::Reconfigure
        | MessageType::RelayForward
        | MessageType::RelayReply => false,
    }
}

/// The value of an Elapsed Time option, in hundredths of a second; zero where it is none.
fn read_elapsed(value: &[u8]) -> Duration {
    match value.try_into() {
        Ok(LONGEST) => Duration::MAX,
        Ok(hundredths) => Duration::from_millis(10 * u64::from(u16::from_be_bytes(hundredths))),
        Err(_) => Duration::ZERO,
    }
}
