//! What clients make of a server's messages.

use std::{
    net::Ipv6Addr,
    time::{Duration, Instant},
};

use dhcp6_common::wire::{Duid, MessageType};

use super::Population;
use crate::flood::{
    Ask, Mode, Step, Wrong,
    client::Identity,
    frame::Mac,
    retransmission::{self, Retransmission},
    server_message::{IaLease, ServerMessage},
    state::{Client, Lease, Offer, Resources, Stage},
};

/// What a message gives to a client, with the shortest valid lifetime.
struct Given {
    resources: Resources,
    valid: u32,
}

impl Population {
    pub(super) fn handle_dhcpv6(
        &mut self,
        now: Instant,
        mac: Mac,
        address: Ipv6Addr,
        message: Result<&[u8], Wrong>,
    ) {
        let by_mac = Identity::of_mac(mac).filter(|client| self.has(*client));
        let by_address = Identity::of_link_local(address).filter(|client| self.has(*client));
        let result = match (by_mac, by_address) {
            (None, None) => {
                self.counters.foreign += 1;
                return;
            }
            (Some(_), Some(_)) if self.plan.relays.is_some() => Err(Wrong::Relay),
            (Some(client), Some(other)) if client == other => {
                message.and_then(|message| self.take(now, client, message))
            }
            _ => Err(Wrong::Destination),
        };
        if let Err(wrong) = result {
            self.counters.wrong(wrong);
        }
    }

    /// Takes what arrives at the port of relay agents.
    pub(super) fn handle_relayed(
        &mut self,
        now: Instant,
        to: (Mac, Ipv6Addr),
        message: Result<&[u8], Wrong>,
    ) {
        let Some(relays) = self.plan.relays.filter(|relays| relays.outermost() == to) else {
            self.counters.foreign += 1;
            return;
        };
        let result = message.and_then(|message| {
            let (client, message) = relays.open(message)?;
            if self.has(client) { self.take(now, client, message) } else { Err(Wrong::Relay) }
        });
        if let Err(wrong) = result {
            self.counters.wrong(wrong);
        }
    }

    fn take(&mut self, now: Instant, client: Identity, message: &[u8]) -> Result<(), Wrong> {
        self.counters.received(message.first().copied().unwrap_or_default());
        self.judge(now, client, &ServerMessage::read(message)?)
    }

    /// Checks a message against what the client waits for, and takes it.
    fn judge(&mut self, now: Instant, client: Identity, message: &ServerMessage<'_>) -> Result<(), Wrong> {
        let is_reply = message.is(MessageType::Reply);
        if !is_reply && !message.is(MessageType::Advertise) {
            return Err(Wrong::MessageType);
        }
        let state = &self.clients[client.0 as usize];
        let number = state.message_of(message.transaction_id).ok_or(Wrong::TransactionId)?;
        // RFC 9915, sections 16.3 and 16.10: both identifiers have to be there.
        if message.client_id != Some(&client.duid()[..]) {
            return Err(Wrong::ClientId);
        }
        let server = message.server_id.ok_or(Wrong::ServerId)?;
        let Some(exchange) = state.exchange.as_ref().filter(|_| number + 1 == state.messages) else {
            self.counters.late += 1;
            return Ok(());
        };
        let solicits = matches!(exchange.stage, Stage::Solicit);
        let asks_rapid_commit = self.plan.mode == Mode::RapidCommit && solicits;
        let asked = match &exchange.stage {
            Stage::Solicit => None,
            Stage::Request(offer) => Some(&offer.server),
            Stage::Step(step) => self.plan.then[*step].names(state.lease.as_ref()).0,
        };
        if (is_reply && solicits && !asks_rapid_commit) || (!is_reply && !solicits) {
            return Err(Wrong::MessageType);
        }
        if asked.is_some_and(|asked| *asked != server) {
            return Err(Wrong::ServerId);
        }
        if message.rapid_commit != (is_reply && asks_rapid_commit) {
            return Err(Wrong::RapidCommit);
        }
        match exchange.stage {
            Stage::Step(step) => self.take_step(now, client, step, server, message),
            _ => match self.given(client, message, self.plan.ask)? {
                None => {
                    self.end_exchange(client.0, false);
                    Ok(())
                }
                Some(given) if is_reply => {
                    if let Some(exchange) = &self.clients[client.0 as usize].exchange {
                        let since_start = now.saturating_duration_since(self.start);
                        let clients = self.plan.clients;
                        let latency = now - exchange.due;
                        self.counters.answered(latency, exchange.retransmissions, since_start, clients);
                    }
                    self.last_answer = Some(now);
                    let outcome = self.bind(now, client, server, &given);
                    self.next_step(now, client.0, 0);
                    outcome
                }
                Some(Given { resources, .. }) => {
                    self.offer(now, client.0, message.preference, Offer { server, resources });
                    Ok(())
                }
            },
        }
    }

    /// Takes an offer: at once, or when the first wait for an answer is over, or where it is the best there can be.
    fn offer(&mut self, now: Instant, client: u32, preference: u8, offer: Offer) {
        const BEST: u8 = 255;
        let Some(exchange) = &mut self.clients[client as usize].exchange else { return };
        let collects = self.plan.by_preference && preference < BEST && exchange.retransmission.sent == 1;
        if exchange.best.as_ref().is_none_or(|(best, _)| preference > *best) {
            exchange.best = Some((preference, offer));
        }
        if !collects {
            self.take_best_offer(client);
            let frame = self.transmit(now, client);
            self.replies.extend(frame);
        }
    }

    /// Has a client that has got offers send a Request for the best of them.
    pub(super) fn take_best_offer(&mut self, client: u32) {
        let exchange = self.clients[client as usize].exchange.as_mut();
        if let Some((_, offer)) = exchange.and_then(|exchange| exchange.best.take()) {
            self.enter(client, Stage::Request(offer));
        }
    }

    /// What a message gives to a client; `None` where it is nothing. What is refused is counted.
    fn given(
        &mut self,
        client: Identity,
        message: &ServerMessage<'_>,
        ask: Ask,
    ) -> Result<Option<Given>, Wrong> {
        if !ask.address() && !message.ia_na.is_empty() {
            return Err(Wrong::IaNa);
        }
        if !ask.prefix() && !message.ia_pd.is_empty() {
            return Err(Wrong::IaPd);
        }
        let address = ask.address().then(|| message.lease(client.iaid())).transpose()?;
        let prefix = ask.prefix().then(|| message.prefix(client.prefix_iaid())).transpose()?;
        let mut take = |lease: Option<Result<IaLease, u16>>| match lease? {
            Ok(lease) => Some(lease),
            Err(status) => {
                *self.counters.refused.entry(status).or_default() += 1;
                None
            }
        };
        let (address, prefix) = (take(address), take(prefix));
        let Some(valid) = address.iter().chain(&prefix).map(|lease| lease.valid).min() else {
            return Ok(None);
        };
        let resources = Resources {
            address: address.map(|lease| lease.address),
            prefix: prefix.map(|lease| (lease.address, lease.length)),
        };
        Ok(Some(Given { resources, valid }))
    }

    /// Takes a lease, and says what is wrong with it.
    fn bind(&mut self, now: Instant, client: Identity, server: Duid, given: &Given) -> Result<(), Wrong> {
        let Given { resources, valid } = *given;
        let valid_until = now + Duration::from_secs(valid.into());
        let state = &mut self.clients[client.0 as usize];
        let had = state.lease.replace(Lease { server, resources, valid_until });
        let is_declined = resources.address.is_some_and(|address| self.declined.contains(&address));
        self.counters.declined_again += u64::from(is_declined);
        let mut duplicate = false;
        for resource in resources.prefixes() {
            let holder = self.holders.insert(resource, client.0);
            let other = holder.filter(|holder| *holder != client.0);
            let others_lease = other.and_then(|other| self.clients[other as usize].lease);
            duplicate |= others_lease.is_some_and(|lease| {
                lease.valid_until > now && lease.resources.prefixes().any(|others| others == resource)
            });
        }
        if duplicate {
            return Err(Wrong::DuplicateAddress);
        }
        if had.is_some_and(|had| had.valid_until > now && had.resources.contradict(&resources)) {
            return Err(Wrong::AddressChanged);
        }
        Ok(())
    }

    /// Takes the Reply to a step.
    fn take_step(
        &mut self,
        now: Instant,
        client: Identity,
        number: usize,
        server: Duid,
        message: &ServerMessage<'_>,
    ) -> Result<(), Wrong> {
        let step = self.plan.then[number];
        let refused = match step {
            Step::Renew | Step::Rebind => {
                let lease = self.clients[client.0 as usize].lease;
                let ask = lease.map_or(self.plan.ask, |lease| lease.resources.ask());
                let given = self.given(client, message, ask)?;
                let outcome = given.as_ref().map(|given| self.bind(now, client, server, given));
                if let Some(Err(wrong)) = outcome {
                    self.finish_step(now, client.0, number);
                    return Err(wrong);
                }
                if given.is_none() {
                    self.clients[client.0 as usize].lease = None;
                }
                given.is_none()
            }
            Step::Release | Step::Decline => {
                let failure = message.failure();
                if let Some(status) = failure {
                    *self.counters.refused.entry(status).or_default() += 1;
                }
                failure.is_some()
            }
            // Nobody asked for an IA (RFC 9915, section 18.3.6).
            Step::InformationRequest if !message.ia_na.is_empty() => return Err(Wrong::IaNa),
            Step::InformationRequest if !message.ia_pd.is_empty() => return Err(Wrong::IaPd),
            Step::InformationRequest => message.failure().is_some(),
        };
        let state = &mut self.clients[client.0 as usize];
        let sent = state.exchange.as_ref().and_then(|exchange| exchange.message_sent).unwrap_or(now);
        self.counters.step(step).done(now - sent, refused);
        self.last_answer = Some(now);
        self.finish_step(now, client.0, number);
        Ok(())
    }

    /// A step is over, whatever came of it.
    pub(super) fn finish_step(&mut self, now: Instant, client: u32, number: usize) {
        let state = &mut self.clients[client as usize];
        match (self.plan.then[number], &mut state.lease) {
            (Step::Release, lease) => *lease = None,
            (Step::Decline, Some(lease)) => {
                self.declined.extend(lease.resources.address.take());
                if lease.resources.is_empty() {
                    state.lease = None;
                }
            }
            _ => {}
        }
        self.next_step(now, client, number + 1);
    }

    /// Goes on with the first step from this number on that the client can take.
    fn next_step(&mut self, now: Instant, client: u32, from: usize) {
        let lease = self.clients[client as usize].lease;
        let can = |step: &Step| match step {
            Step::Decline => lease.is_some_and(|lease| lease.resources.address.is_some()),
            step => lease.is_some() || !step.needs_lease(),
        };
        let Some(skipped) = self.plan.then[from..].iter().position(can) else {
            self.end_exchange(client, false);
            return;
        };
        self.enter(client, Stage::Step(from + skipped));
        let frame = self.transmit(now, client);
        self.replies.extend(frame);
    }

    /// Has a client send another message than before.
    pub(super) fn enter(&mut self, client: u32, stage: Stage) {
        let Client { exchange, messages, .. } = &mut self.clients[client as usize];
        if let Some(exchange) = exchange {
            *messages += 1;
            exchange.message_sent = None;
            exchange.retransmission = Retransmission::new(match stage {
                Stage::Solicit => retransmission::SOLICIT,
                Stage::Request(_) => retransmission::REQUEST,
                Stage::Step(step) => self.plan.then[step].timers(),
            });
            exchange.stage = stage;
        }
    }

    /// Ends a client's exchange. It has its turn again where the run goes on, or where it has got nothing.
    pub(super) fn end_exchange(&mut self, client: u32, again: bool) {
        self.clients[client as usize].exchange = None;
        self.outstanding -= 1;
        if self.plan.duration.is_some() || again {
            self.idle.push_back(client);
        } else {
            self.unserved -= 1;
        }
    }
}
