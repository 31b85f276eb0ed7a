//! One handler for each type of message: RFC 9915, section 18.3.

use std::collections::BTreeSet;

use dhcp6_common::{
    Origin, Vlan,
    wire::{Duid, MessageType, OptionCode, StatusCode},
};
use tracing::debug;

use super::{
    Answer, AnswerPort, Arrival, DropReason, Engine,
    bindings::Purpose,
    link::Host,
    message::{self, Body, ClientMessage, Ia},
    relay::Envelope,
    reply::{IaContent, ReplyWriter, goes_with_leases},
    table::Client,
};
use crate::{
    config::ClientKey,
    pool::{IaKind, Resource},
    time::Time,
};

const NO_BINDING: &str = "this server has no such binding";

/// Who asks, and what besides its own message bears on the answer.
struct Asker<'a> {
    link: u32,
    origin: Origin,
    duid: Option<Duid>,
    host: Host,
    /// Options for the client from relay agents (RFC 6422), those that the server passes on.
    supplied: Vec<(OptionCode, &'a [u8])>,
}

/// An answer's beginning, with what remains the same for all its IAs.
struct Draft {
    kind: MessageType,
    writer: ReplyWriter,
    needs_commit: bool,
    /// What the client gets by it.
    granted: Vec<Resource>,
}

impl Draft {
    fn new(kind: MessageType, body: &Body<'_>) -> Self {
        Self {
            kind,
            writer: ReplyWriter::new(kind, body.transaction_id),
            needs_commit: false,
            granted: Vec::new(),
        }
    }

    fn finish(self, client: Option<&Duid>) -> Answer {
        let Self { kind, writer, needs_commit, granted: _ } = self;
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
        let of_link = &self.links[link as usize];
        let needs_mac = of_link.knows_macs || of_link.config.bind_to_mac;
        let keys = match arrival.mac {
            _ if envelope.is_relayed() => envelope.client_keys(),
            Some(mac) => vec![ClientKey::Mac(mac)],
            None if needs_mac => return Err(DropReason::UnknownMac),
            None => Vec::new(),
        };
        let origin = if envelope.is_relayed() {
            // The VLAN that relay agents are in tells nothing of the client's.
            of_link.config.origin_of(Vlan::NONE, envelope.client_mac())
        } else {
            of_link.config.origin_of(arrival.vlan, arrival.mac)
        };
        let supplied = { envelope.supplied() }.filter(|(code, _)| self.passed_on.contains(code)).collect();
        let answer = self.answer(now, (link, origin), keys, supplied, envelope.message)?;
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
    /// (RFC 6221, section 5.3.1), it is the link that the Interface-Id is configured for, else that of the receiving
    /// interface.
    pub(super) fn link_of(&self, arrival: Arrival, envelope: &Envelope<'_>) -> Option<u32> {
        if !envelope.is_relayed() {
            return arrival.link;
        }
        let index = |link: Option<usize>| link.map(|index| index as u32);
        if let Some(address) = envelope.link_address() {
            return index(self.links.iter().position(|link| link.is_on_link(address)));
        }
        let interface_id = envelope.interface_id()?;
        let configured =
            |link: &super::link::Link| link.config.interface_ids.iter().any(|id| id == interface_id);
        index(self.links.iter().position(configured)).or(arrival.link)
    }

    fn answer(
        &mut self,
        now: Time,
        (link, origin): (u32, Origin),
        keys: Vec<ClientKey>,
        supplied: Vec<(OptionCode, &[u8])>,
        message: &[u8],
    ) -> Result<Answer, DropReason> {
        let kind = message::message_type(message).map_or("unknown", MessageType::name);
        let message = message::parse(message, &self.server)?;
        let duid = message.client();
        let asker = Asker { link, origin, duid, host: Host::new(duid, keys), supplied };
        debug!("{kind} from {} on link {}", asker.host, self.links[link as usize].config.name);
        if self.refuses(&asker, &message) {
            return Err(DropReason::RefusedByPolicy);
        }
        for (duid, ia) in duid.iter().flat_map(|duid| message.ias().iter().map(|ia| (*duid, ia))) {
            self.adopt(&client_of(&asker, duid, ia));
        }
        match message {
            ClientMessage::Solicit(duid, body) => Ok(self.solicit(now, &asker, duid, &body)),
            ClientMessage::Request(duid, body) => Ok(self.request(now, &asker, duid, &body)),
            ClientMessage::Confirm(_, body) => self.confirm(&asker, &body),
            ClientMessage::Renew(duid, body) => Ok(self.renew(now, &asker, duid, &body, true)),
            ClientMessage::Rebind(duid, body) => {
                // Section 18.3.5: a server binds a client it does not know only where it does so on a Solicit.
                let bind = self.links[link as usize].config.rapid_commit;
                Ok(self.renew(now, &asker, duid, &body, bind))
            }
            ClientMessage::Release(duid, body) => {
                Ok(self.give_back(&asker, duid, &body, |engine, _, resource| {
                    engine.release(resource);
                    true
                }))
            }
            ClientMessage::Decline(duid, body) => {
                Ok(self.give_back(&asker, duid, &body, |engine, client, resource| {
                    // Only addresses can be declined.
                    let is_address = client.kind == IaKind::Na;
                    if is_address {
                        engine.decline(now, client, resource);
                    }
                    is_address
                }))
            }
            ClientMessage::ForOtherServer(duid, body) => {
                for ia in &body.ias {
                    self.withdraw_offer(&client_of(&asker, duid, ia));
                }
                Err(DropReason::OtherServer)
            }
            ClientMessage::InformationRequest(_, body) => Ok(self.inform(&asker, &body)),
        }
    }

    /// Whether the configuration wants a client left alone (section 18.3.1). One that has something from this server
    /// is told what becomes of it.
    fn refuses(&self, asker: &Asker<'_>, message: &ClientMessage<'_>) -> bool {
        if !self.links[asker.link as usize].refuses(&asker.host) {
            return false;
        }
        match message {
            ClientMessage::Solicit(..)
            | ClientMessage::Request(..)
            | ClientMessage::Confirm(..)
            | ClientMessage::InformationRequest(..) => true,
            ClientMessage::Renew(duid, body) | ClientMessage::Rebind(duid, body) => {
                { body.ias.iter() }.all(|ia| self.table.bound(&client_of(asker, *duid, ia)).is_none())
            }
            ClientMessage::Release(..) | ClientMessage::Decline(..) | ClientMessage::ForOtherServer(..) => {
                false
            }
        }
    }

    /// Sections 18.3.1 and 18.3.9.
    fn solicit(&mut self, now: Time, asker: &Asker<'_>, duid: Duid, body: &Body<'_>) -> Answer {
        let commit = body.rapid_commit && self.links[asker.link as usize].config.rapid_commit;
        let mut draft = Draft::new(if commit { MessageType::Reply } else { MessageType::Advertise }, body);
        for ia in &body.ias {
            let client = client_of(asker, duid, ia);
            if commit {
                self.lease_ia(now, asker, &client, ia, body, &mut draft);
            } else {
                let chosen = self.choose(&asker.host, &client, ia, Purpose::Offer);
                if let Some(resource) = chosen {
                    self.offer(now, &client, resource);
                }
                self.write_ia(&client, chosen, &[], body, &mut draft);
            }
        }
        self.write_server(&mut draft);
        if commit {
            draft.writer.option(OptionCode::RAPID_COMMIT, &[]);
        } else if self.preference != 0 {
            draft.writer.option(OptionCode::PREFERENCE, &[self.preference]);
        }
        self.write_options(asker, body, &mut draft, goes_with_leases);
        draft.finish(Some(&duid))
    }

    /// Section 18.3.2.
    fn request(&mut self, now: Time, asker: &Asker<'_>, duid: Duid, body: &Body<'_>) -> Answer {
        let mut draft = Draft::new(MessageType::Reply, body);
        for ia in &body.ias {
            let client = client_of(asker, duid, ia);
            let link = &self.links[asker.link as usize];
            // Of prefixes the RFC says nothing like that: the client gets another one.
            if ia.named.iter().filter_map(Resource::address).all(|address| link.is_on_link(address)) {
                self.lease_ia(now, asker, &client, ia, body, &mut draft);
            } else {
                let text = "an address is not appropriate to this link";
                let lifetimes = Some(&link.config.lifetimes);
                draft.writer.empty_ia(ia.kind, ia.iaid, lifetimes, StatusCode::NotOnLink, text);
            }
        }
        self.write_server(&mut draft);
        self.write_options(asker, body, &mut draft, goes_with_leases);
        draft.finish(Some(&duid))
    }

    /// Sections 18.3.4 and 18.3.5. `bind` tells whether an IA without a binding gets one.
    fn renew(&mut self, now: Time, asker: &Asker<'_>, duid: Duid, body: &Body<'_>, bind: bool) -> Answer {
        let mut draft = Draft::new(MessageType::Reply, body);
        for ia in &body.ias {
            let client = client_of(asker, duid, ia);
            let bound = self.table.bound(&client);
            let named = ia.named.iter().copied();
            if bound.is_some() || bind {
                let chosen = self.choose(&asker.host, &client, ia, Purpose::Lease);
                // What the client has and shall not keep ends now.
                let withdrawn = each_once(named.chain(bound).filter(|resource| Some(*resource) != chosen));
                if let Some(resource) = chosen {
                    draft.needs_commit |= self.lease(now, &client, resource);
                } else if let Some(old) = bound {
                    self.part_with(old);
                    draft.needs_commit = true;
                }
                self.write_ia(&client, chosen, &withdrawn, body, &mut draft);
                continue;
            }
            let link = &self.links[asker.link as usize];
            let withdrawn = each_once(named.filter(|resource| !link.is_appropriate(*resource)));
            if withdrawn.is_empty() {
                let lifetimes = Some(&link.config.lifetimes);
                draft.writer.empty_ia(ia.kind, ia.iaid, lifetimes, StatusCode::NoBinding, NO_BINDING);
            } else {
                self.write_ia(&client, None, &withdrawn, body, &mut draft);
            }
        }
        self.write_server(&mut draft);
        self.write_options(asker, body, &mut draft, goes_with_leases);
        draft.finish(Some(&duid))
    }

    /// Section 18.3.3: only the link is judged, not whether there is a binding.
    fn confirm(&mut self, asker: &Asker<'_>, body: &Body<'_>) -> Result<Answer, DropReason> {
        let mut addresses = body.ias.iter().flat_map(|ia| &ia.named).filter_map(Resource::address).peekable();
        if addresses.peek().is_none() {
            return Err(DropReason::NothingToConfirm);
        }
        let on_link = addresses.all(|address| self.links[asker.link as usize].is_on_link(address));
        let mut draft = Draft::new(MessageType::Reply, body);
        self.write_server(&mut draft);
        if on_link {
            draft.writer.status(StatusCode::Success, "all addresses are on this link");
        } else {
            draft.writer.status(StatusCode::NotOnLink, "an address is not on this link");
        }
        Ok(draft.finish(asker.duid.as_ref()))
    }

    /// Sections 18.3.7 and 18.3.8: Release and Decline, which differ in what becomes of the resource. `end` returns
    /// whether anything does.
    fn give_back(
        &mut self,
        asker: &Asker<'_>,
        duid: Duid,
        body: &Body<'_>,
        end: impl Fn(&mut Self, &Client, Resource) -> bool,
    ) -> Answer {
        let mut draft = Draft::new(MessageType::Reply, body);
        for ia in &body.ias {
            let client = client_of(asker, duid, ia);
            match self.table.bound(&client) {
                Some(resource) if ia.named.contains(&resource) => {
                    draft.needs_commit |= end(self, &client, resource);
                }
                // What is not in the IA is ignored, and the client keeps what it has.
                Some(_) => {}
                None => draft.writer.empty_ia(ia.kind, ia.iaid, None, StatusCode::NoBinding, NO_BINDING),
            }
        }
        self.write_server(&mut draft);
        draft.writer.status(StatusCode::Success, "done");
        draft.finish(Some(&duid))
    }

    /// Section 18.3.6.
    fn inform(&mut self, asker: &Asker<'_>, body: &Body<'_>) -> Answer {
        let mut draft = Draft::new(MessageType::Reply, body);
        self.write_server(&mut draft);
        self.write_options(asker, body, &mut draft, |_| true);
        draft.finish(asker.duid.as_ref())
    }

    fn lease_ia(
        &mut self,
        now: Time,
        asker: &Asker<'_>,
        client: &Client,
        ia: &Ia,
        body: &Body<'_>,
        draft: &mut Draft,
    ) {
        let chosen = self.choose(&asker.host, client, ia, Purpose::Lease);
        if let Some(resource) = chosen {
            draft.needs_commit |= self.lease(now, client, resource);
        }
        self.write_ia(client, chosen, &[], body, draft);
    }

    fn write_ia(
        &self,
        client: &Client,
        chosen: Option<Resource>,
        withdrawn: &[Resource],
        body: &Body<'_>,
        draft: &mut Draft,
    ) {
        let link = &self.links[client.link as usize];
        if chosen.is_none() && withdrawn.is_empty() {
            let (status, text) = match client.kind {
                IaKind::Na => (StatusCode::NoAddrsAvail, "no address is available on this link"),
                IaKind::Pd => (StatusCode::NoPrefixAvail, "no prefix is available on this link"),
            };
            let lifetimes = Some(&link.config.lifetimes);
            draft.writer.empty_ia(client.kind, client.iaid, lifetimes, status, text);
            return;
        }
        let asks_for_exclude = body.requested.contains(OptionCode::PD_EXCLUDE);
        let lease =
            |resource| IaContent::Lease(resource, link.pd_exclude(resource).filter(|_| asks_for_exclude));
        let withdrawn = withdrawn.iter().copied().map(IaContent::Withdrawn);
        let contents: Vec<_> = chosen.map(lease).into_iter().chain(withdrawn).collect();
        draft.writer.ia(client.kind, client.iaid, &link.config.lifetimes, &contents);
        draft.granted.extend(chosen);
    }

    fn write_server(&self, draft: &mut Draft) {
        draft.writer.option(OptionCode::SERVER_ID, self.server.as_slice());
    }

    /// The configured options that the client requests and that go with such an answer; then what relay agents
    /// supply and the server does not set itself (RFC 6422, section 6).
    fn write_options(
        &self,
        asker: &Asker<'_>,
        body: &Body<'_>,
        draft: &mut Draft,
        goes: impl Fn(OptionCode) -> bool,
    ) {
        let link = &self.links[asker.link as usize];
        let iaids = body.ias.iter().map(|ia| ia.iaid);
        let options = link.options(&asker.host, iaids, &draft.granted);
        let requested = |code| goes(code) && body.requested.contains(code);
        draft.writer.requested(options.iter().copied(), requested);
        for (index, (code, value)) in asker.supplied.iter().enumerate() {
            let is_repeated = asker.supplied[..index].iter().any(|(earlier, _)| earlier == code);
            if !is_repeated && options.iter().all(|option| option.code != *code) {
                draft.writer.option(*code, value);
            }
        }
    }
}

/// The owner of an IA.
fn client_of(asker: &Asker<'_>, duid: Duid, ia: &Ia) -> Client {
    Client { link: asker.link, origin: asker.origin, duid, kind: ia.kind, iaid: ia.iaid }
}

/// Resources in order, each once however often a client names it.
fn each_once(resources: impl Iterator<Item = Resource>) -> Vec<Resource> {
    resources.collect::<BTreeSet<_>>().into_iter().collect()
}
