//! One handler for each type of message: RFC 9915, section 18.3.

use std::{collections::BTreeSet, net::Ipv6Addr};

use dhcp6_common::wire::{Duid, MessageType, OptionCode, StatusCode};

use super::{
    Answer, AnswerPort, Arrival, DropReason, Engine,
    bindings::Purpose,
    message::{self, Body, ClientMessage, IaNa},
    relay::Envelope,
    reply::{IaContent, ReplyWriter, goes_with_leases},
    table::Client,
};
use crate::time::Time;

const NO_ADDRESS: (StatusCode, &str) = (StatusCode::NoAddrsAvail, "no address is available on this link");
const NO_PREFIX: &str = "this server delegates no prefixes";
const NO_BINDING: &str = "this server has no such binding";

/// An answer's beginning, with what remains the same for all its IAs.
struct Draft {
    kind: MessageType,
    writer: ReplyWriter,
    needs_commit: bool,
}

impl Draft {
    fn new(kind: MessageType, body: &Body<'_>) -> Self {
        Self { kind, writer: ReplyWriter::new(kind, body.transaction_id), needs_commit: false }
    }

    fn finish(self, client: Option<&Duid>) -> Answer {
        let Self { kind, writer, needs_commit } = self;
        Answer { kind, port: AnswerPort::Client, message: writer.finish(client), needs_commit }
    }
}

impl Engine {
    /// Handles a message from a client or a relay agent.
    ///
    /// # Errors
    ///
    /// Why it is not answered.
    pub fn handle(&mut self, now: Time, arrival: Arrival, message: &[u8]) -> Result<Answer, DropReason> {
        let envelope = Envelope::open(message)?;
        // RFC 9915, section 16: a server no longer takes what clients unicast. Relay agents may.
        if !arrival.multicast && !envelope.is_relayed() {
            // Of what is no message at all, that is said.
            message::parse(envelope.message, &self.server)?;
            return Err(DropReason::Unicast);
        }
        let link = self.link_of(arrival, &envelope).ok_or(DropReason::UnknownLink)?;
        let answer = self.answer(now, link, envelope.message)?;
        if !envelope.is_relayed() {
            return Ok(answer);
        }
        let Answer { kind: _, port: _, message, needs_commit } = answer;
        Ok(Answer {
            kind: MessageType::RelayReply,
            port: envelope.port(),
            message: envelope.seal(message),
            needs_commit,
        })
    }

    /// The link that a client is on (RFC 9915, section 13.1): that of the receiving interface, or that of the
    /// link-address. Behind layer-two relay agents alone, which have no address and give an Interface-Id
    /// (RFC 6221, section 5.3.1), it is that of the receiving interface, too.
    fn link_of(&self, arrival: Arrival, envelope: &Envelope<'_>) -> Option<u32> {
        if !envelope.is_relayed() {
            return arrival.link;
        }
        match envelope.link_address() {
            Some(address) => {
                let index = self.links.iter().position(|link| link.is_on_link(address))?;
                Some(index as u32)
            }
            None => envelope.interface_id().and(arrival.link),
        }
    }

    fn answer(&mut self, now: Time, link: u32, message: &[u8]) -> Result<Answer, DropReason> {
        let message = message::parse(message, &self.server)?;
        match message {
            ClientMessage::Solicit(client, body) => Ok(self.solicit(now, link, client, &body)),
            ClientMessage::Request(client, body) => Ok(self.request(now, link, client, &body)),
            ClientMessage::Confirm(client, body) => self.confirm(link, &client, &body),
            ClientMessage::Renew(client, body) => Ok(self.renew(now, link, client, &body, true)),
            ClientMessage::Rebind(client, body) => {
                // Section 18.3.5: a server binds a client it does not know only where it does so on a Solicit.
                let bind = self.links[link as usize].config.rapid_commit;
                Ok(self.renew(now, link, client, &body, bind))
            }
            ClientMessage::Release(client, body) => {
                Ok(self.give_back(link, client, &body, |engine, client, address| {
                    engine.release(client, address);
                }))
            }
            ClientMessage::Decline(client, body) => {
                Ok(self.give_back(link, client, &body, |engine, client, address| {
                    engine.decline(now, client, address);
                }))
            }
            ClientMessage::ForOtherServer(duid, body) => {
                for ia in &body.ia_na {
                    self.withdraw_offer(&Client { link, duid, iaid: ia.iaid });
                }
                Err(DropReason::OtherServer)
            }
            ClientMessage::InformationRequest(client, body) => Ok(self.inform(link, client.as_ref(), &body)),
        }
    }

    /// Sections 18.3.1 and 18.3.9.
    fn solicit(&mut self, now: Time, link: u32, duid: Duid, body: &Body<'_>) -> Answer {
        let commit = body.rapid_commit && self.links[link as usize].config.rapid_commit;
        let mut draft = Draft::new(if commit { MessageType::Reply } else { MessageType::Advertise }, body);
        for ia in &body.ia_na {
            let client = Client { link, duid, iaid: ia.iaid };
            if commit {
                self.lease_ia(now, &client, ia, &mut draft);
            } else {
                let chosen = self.choose(&client, &ia.addresses, Purpose::Offer);
                if let Some(address) = chosen {
                    self.offer(now, &client, address);
                }
                self.write_ia(&client, chosen, &[], &mut draft);
            }
        }
        refuse_prefixes(body, &mut draft, StatusCode::NoPrefixAvail, NO_PREFIX);
        self.write_server(&mut draft);
        if commit {
            draft.writer.option(OptionCode::RAPID_COMMIT, &[]);
        } else if self.preference != 0 {
            draft.writer.option(OptionCode::PREFERENCE, &[self.preference]);
        }
        self.write_requested(link, body, &mut draft);
        draft.finish(Some(&duid))
    }

    /// Section 18.3.2.
    fn request(&mut self, now: Time, link: u32, duid: Duid, body: &Body<'_>) -> Answer {
        let mut draft = Draft::new(MessageType::Reply, body);
        for ia in &body.ia_na {
            let client = Client { link, duid, iaid: ia.iaid };
            if ia.addresses.iter().all(|address| self.links[link as usize].is_on_link(*address)) {
                self.lease_ia(now, &client, ia, &mut draft);
            } else {
                let text = "an address is not appropriate to this link";
                draft.writer.empty_ia(OptionCode::IA_NA, ia.iaid, StatusCode::NotOnLink, text);
            }
        }
        refuse_prefixes(body, &mut draft, StatusCode::NoPrefixAvail, NO_PREFIX);
        self.write_server(&mut draft);
        self.write_requested(link, body, &mut draft);
        draft.finish(Some(&duid))
    }

    /// Sections 18.3.4 and 18.3.5. `bind` tells whether an IA without a binding gets one.
    fn renew(&mut self, now: Time, link: u32, duid: Duid, body: &Body<'_>, bind: bool) -> Answer {
        let mut draft = Draft::new(MessageType::Reply, body);
        for ia in &body.ia_na {
            let client = Client { link, duid, iaid: ia.iaid };
            let is_on_link = |address: &Ipv6Addr| self.links[link as usize].is_on_link(*address);
            let bound = self.table.bound(&client);
            if bound.is_some() || bind {
                let chosen = self.choose(&client, &ia.addresses, Purpose::Lease);
                // What the client has and shall not keep ends now.
                let named = ia.addresses.iter().copied();
                let withdrawn = each_once(named.chain(bound).filter(|address| Some(*address) != chosen));
                if let Some(address) = chosen {
                    draft.needs_commit |= self.lease(now, &client, address);
                } else if let Some(old) = bound {
                    self.part_with(old);
                    draft.needs_commit = true;
                }
                self.write_ia(&client, chosen, &withdrawn, &mut draft);
            } else if ia.addresses.iter().all(is_on_link) {
                draft.writer.empty_ia(OptionCode::IA_NA, ia.iaid, StatusCode::NoBinding, NO_BINDING);
            } else {
                let named = ia.addresses.iter().copied();
                let withdrawn = each_once(named.filter(|address| !is_on_link(address)));
                self.write_ia(&client, None, &withdrawn, &mut draft);
            }
        }
        refuse_prefixes(body, &mut draft, StatusCode::NoBinding, NO_BINDING);
        self.write_server(&mut draft);
        self.write_requested(link, body, &mut draft);
        draft.finish(Some(&duid))
    }

    /// Section 18.3.3: only the link is judged, not whether there is a binding.
    fn confirm(&mut self, link: u32, duid: &Duid, body: &Body<'_>) -> Result<Answer, DropReason> {
        let mut addresses = body.ia_na.iter().flat_map(|ia| &ia.addresses).peekable();
        if addresses.peek().is_none() {
            return Err(DropReason::NothingToConfirm);
        }
        let on_link = addresses.all(|address| self.links[link as usize].is_on_link(*address));
        let mut draft = Draft::new(MessageType::Reply, body);
        self.write_server(&mut draft);
        if on_link {
            draft.writer.status(StatusCode::Success, "all addresses are on this link");
        } else {
            draft.writer.status(StatusCode::NotOnLink, "an address is not on this link");
        }
        Ok(draft.finish(Some(duid)))
    }

    /// Sections 18.3.7 and 18.3.8: Release and Decline, which differ in what becomes of the address.
    fn give_back(
        &mut self,
        link: u32,
        duid: Duid,
        body: &Body<'_>,
        end: impl Fn(&mut Self, &Client, Ipv6Addr),
    ) -> Answer {
        let mut draft = Draft::new(MessageType::Reply, body);
        for ia in &body.ia_na {
            let client = Client { link, duid, iaid: ia.iaid };
            match self.table.bound(&client) {
                Some(address) if ia.addresses.contains(&address) => {
                    end(self, &client, address);
                    draft.needs_commit = true;
                }
                // An address that is not in the IA is ignored, and the client keeps what it has.
                Some(_) => {}
                None => {
                    draft.writer.empty_ia(OptionCode::IA_NA, ia.iaid, StatusCode::NoBinding, NO_BINDING);
                }
            }
        }
        refuse_prefixes(body, &mut draft, StatusCode::NoBinding, NO_BINDING);
        self.write_server(&mut draft);
        draft.writer.status(StatusCode::Success, "done");
        draft.finish(Some(&duid))
    }

    /// Section 18.3.6.
    fn inform(&mut self, link: u32, duid: Option<&Duid>, body: &Body<'_>) -> Answer {
        let mut draft = Draft::new(MessageType::Reply, body);
        self.write_server(&mut draft);
        let options = &self.links[link as usize].config.options;
        draft.writer.requested(options, |code| body.requested.contains(code));
        draft.finish(duid)
    }

    fn lease_ia(&mut self, now: Time, client: &Client, ia: &IaNa, draft: &mut Draft) {
        let chosen = self.choose(client, &ia.addresses, Purpose::Lease);
        if let Some(address) = chosen {
            draft.needs_commit |= self.lease(now, client, address);
        }
        self.write_ia(client, chosen, &[], draft);
    }

    fn write_ia(&self, client: &Client, chosen: Option<Ipv6Addr>, withdrawn: &[Ipv6Addr], draft: &mut Draft) {
        let lifetimes = &self.links[client.link as usize].config.lifetimes;
        let contents: Vec<_> = chosen
            .map(IaContent::Lease)
            .into_iter()
            .chain(withdrawn.iter().copied().map(IaContent::Withdrawn))
            .collect();
        let status = contents.is_empty().then_some(NO_ADDRESS);
        draft.writer.ia_na(client.iaid, lifetimes, &contents, status);
    }

    fn write_server(&self, draft: &mut Draft) {
        draft.writer.option(OptionCode::SERVER_ID, self.server.as_slice());
    }

    fn write_requested(&self, link: u32, body: &Body<'_>, draft: &mut Draft) {
        let requested = |code| goes_with_leases(code) && body.requested.contains(code);
        draft.writer.requested(&self.links[link as usize].config.options, requested);
    }
}

/// This server delegates no prefixes, and says so: NoPrefixAvail where they are asked for (RFC 9915, sections
/// 18.3.2 and 18.3.9), NoBinding where the client believes to have some.
fn refuse_prefixes(body: &Body<'_>, draft: &mut Draft, status: StatusCode, text: &str) {
    for iaid in &body.ia_pd {
        draft.writer.empty_ia(OptionCode::IA_PD, *iaid, status, text);
    }
}

/// Addresses in order, each once however often a client names it.
fn each_once(addresses: impl Iterator<Item = Ipv6Addr>) -> Vec<Ipv6Addr> {
    addresses.collect::<BTreeSet<_>>().into_iter().collect()
}
