//! What clients make of a server's messages.

use std::{net::Ipv6Addr, sync::atomic::Ordering::Relaxed};

use dhcp6_common::wire::MessageType;

use super::{ALONE, Population, nanoseconds};
use crate::flood::{
    Ask, Mode, Step, Wrong,
    client::Identity,
    frame::{Mac, address_probe},
    retransmission::{self, Retransmission},
    server_message::{IaLease, ServerMessage},
    state::{Client, Lease, Offer, Resources, Server, Stage},
};

/// For as long a lease may be renewed without telling other threads, in nanoseconds: lifetimes are told in seconds.
const UNTOLD: u64 = 1_000_000_000;

/// What a message gives to a client, with the shortest valid lifetime.
struct Given {
    resources: Resources,
    valid: u32,
}

impl Population {
    pub(super) fn handle_dhcpv6(
        &mut self,
        now: u64,
        mac: Mac,
        address: Ipv6Addr,
        message: Result<&[u8], Wrong>,
    ) {
        let by_mac = Identity::of_mac(mac);
        let Some(client) = by_mac.and_then(|identity| self.client(identity)) else {
            let by_address = Identity::of_link_local(address).and_then(|identity| self.client(identity));
            match by_address {
                Some(_) => self.found(Wrong::Destination),
                None => self.counters.foreign += 1,
            }
            return;
        };
        let result = if by_mac.is_some_and(|identity| identity.link_local() != address) {
            Err(Wrong::Destination)
        } else if self.plan.relays.is_some() {
            Err(Wrong::Relay)
        } else {
            message.and_then(|message| self.take(now, client, message))
        };
        if let Err(wrong) = result {
            self.found(wrong);
        }
    }

    /// Takes what arrives at the port of relay agents.
    pub(super) fn handle_relayed(&mut self, now: u64, to: (Mac, Ipv6Addr), message: Result<&[u8], Wrong>) {
        let Some(relays) = self.plan.relays.filter(|relays| relays.outermost() == to) else {
            self.counters.foreign += 1;
            return;
        };
        let result = message.and_then(|message| {
            let (identity, message) = relays.open(message)?;
            let client = self.client(identity).ok_or(Wrong::Relay)?;
            self.take(now, client, message)
        });
        if let Err(wrong) = result {
            self.found(wrong);
        }
    }

    fn found(&mut self, wrong: Wrong) {
        self.shared.wrong.fetch_add(1, Relaxed);
        self.counters.wrong(wrong);
    }

    fn take(&mut self, now: u64, client: u32, message: &[u8]) -> Result<(), Wrong> {
        self.counters.received(message.first().copied().unwrap_or_default());
        self.judge(now, client, &ServerMessage::read(message)?)
    }

    /// Checks a message against what the client waits for, and takes it.
    fn judge(&mut self, now: u64, client: u32, message: &ServerMessage<'_>) -> Result<(), Wrong> {
        let is_reply = message.is(MessageType::Reply);
        if !is_reply && !message.is(MessageType::Advertise) {
            return Err(Wrong::MessageType);
        }
        let state = &self.clients[client as usize];
        let number = state.message_of(message.transaction_id).ok_or(Wrong::TransactionId)?;
        // RFC 9915, sections 16.3 and 16.10: both identifiers have to be there.
        if message.client_id != Some(&self.identity(client).duid()[..]) {
            return Err(Wrong::ClientId);
        }
        let server = message.server_id.ok_or(Wrong::ServerId)?;
        let Some(exchange) = state.exchange.filter(|_| number + 1 == state.messages) else {
            self.counters.late += 1;
            return Ok(());
        };
        let solicits = exchange.stage.solicits();
        let asks_rapid_commit = self.plan.mode == Mode::RapidCommit && solicits;
        let asked = match exchange.stage {
            Stage::Request(offer) => Some(offer.server),
            Stage::Step(step, _) => step.names(state.lease.as_ref()).0,
            Stage::Solicit | Stage::Collect(_) | Stage::Check(_) => None,
        };
        if (is_reply && solicits && !asks_rapid_commit) || (!is_reply && !solicits) {
            return Err(Wrong::MessageType);
        }
        let server = self.server(server);
        if asked.is_some_and(|asked| asked != server) {
            return Err(Wrong::ServerId);
        }
        if message.rapid_commit != (is_reply && asks_rapid_commit) {
            return Err(Wrong::RapidCommit);
        }
        if let Stage::Step(step, number) = exchange.stage {
            return self.take_step(now, client, (step, number), server, message);
        }
        match self.given(client, message, self.plan.ask)? {
            None => self.end_exchange(client, false),
            Some(given) if is_reply => {
                self.count_answer(now, client);
                let outcome = self.bind(now, client, server, &given);
                self.settle(now, client, given.resources.address, outcome.is_err());
                return outcome;
            }
            Some(Given { resources, .. }) => {
                self.offer(client, message.preference, Offer { server, resources });
            }
        }
        Ok(())
    }

    /// Counts a client that has got what it asked for.
    fn count_answer(&mut self, now: u64, client: u32) {
        if let Some(exchange) = &self.clients[client as usize].exchange {
            let answered = self.shared.answered.fetch_add(1, Relaxed) + 1;
            let clients = self.plan.clients;
            self.counters.answered(now - exchange.due, exchange.retransmissions, now, (answered, clients));
        }
        self.last_answer = Some(now);
    }

    /// Takes an offer: at once, or when the first wait for an answer is over, or where it is the best there can be.
    fn offer(&mut self, client: u32, preference: u8, offer: Offer) {
        const BEST: u8 = 255;
        let Some(exchange) = &mut self.clients[client as usize].exchange else { return };
        let best = match exchange.stage {
            Stage::Collect(best) if preference <= exchange.preference => best,
            _ => {
                exchange.preference = preference;
                offer
            }
        };
        if self.plan.by_preference && preference < BEST && exchange.retransmission.sent == 1 {
            exchange.stage = Stage::Collect(best);
        } else {
            self.enter(client, Stage::Request(best));
            self.ready.push_back(client);
        }
    }

    /// What a message gives to a client; `None` where it is nothing. What is refused is counted.
    fn given(&mut self, client: u32, message: &ServerMessage<'_>, ask: Ask) -> Result<Option<Given>, Wrong> {
        if !ask.address() && !message.ia_na.is_empty() {
            return Err(Wrong::IaNa);
        }
        if !ask.prefix() && !message.ia_pd.is_empty() {
            return Err(Wrong::IaPd);
        }
        let identity = self.identity(client);
        let address = ask.address().then(|| message.lease(identity.iaid())).transpose()?;
        let prefix = ask.prefix().then(|| message.prefix(identity.prefix_iaid())).transpose()?;
        let mut take = |lease: Option<Result<IaLease, u16>>| match lease? {
            Ok(lease) => Some(lease),
            Err(status) => {
                self.counters.refused(status);
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
    fn bind(&mut self, now: u64, client: u32, server: Server, given: &Given) -> Result<(), Wrong> {
        let Given { resources, valid } = *given;
        let valid_until = now + u64::from(valid) * 1_000_000_000;
        let identity = self.identity(client);
        let state = &mut self.clients[client as usize];
        let had = state.lease.filter(|had| had.valid_until > now);
        let mut lease = Lease { server, resources, valid_until, held_until: valid_until };
        if let Some(had) = had.filter(|had| had.resources == resources)
            && had.held_until > now
            && valid_until < had.held_until + UNTOLD
        {
            lease.held_until = had.held_until;
            state.lease = Some(lease);
            return Ok(());
        }
        state.lease = Some(lease);
        let gone = had.into_iter().flat_map(|had| had.resources.prefixes());
        for resource in gone.filter(|gone| resources.prefixes().all(|resource| resource != *gone)) {
            self.shared.let_go(resource, identity.0);
        }
        let is_declined = resources.address.is_some_and(|address| self.shared.is_declined(address));
        self.counters.declined_again += u64::from(is_declined);
        let mut duplicate = false;
        for resource in resources.prefixes() {
            duplicate |= self.shared.hold(now, resource, identity.0, valid_until);
        }
        if duplicate {
            return Err(Wrong::DuplicateAddress);
        }
        if had.is_some_and(|had| had.resources.contradict(&resources)) {
            return Err(Wrong::AddressChanged);
        }
        Ok(())
    }

    /// Goes on with a client that has been given a lease: with a look whether somebody else uses its address, where it
    /// does that.
    fn settle(&mut self, now: u64, client: u32, address: Option<Ipv6Addr>, wrong: bool) {
        let Some((wait, address)) = self.plan.dad.zip(address) else { return self.next_step(client, 0) };
        self.counters.dad.checked += 1;
        let holder = self.shared.holder(now, (address, 128));
        if wrong && holder.is_some_and(|holder| Identity(holder) != self.identity(client)) {
            self.counters.dad.conflicts += 1;
            return self.decline(client);
        }
        self.enter(client, Stage::Check(address));
        self.outstanding -= 1;
        self.checking.insert(address, client);
        let mac = self.identity(client).mac();
        self.answers.push_back(address_probe(mac, address));
        let message = self.clients[client as usize].messages - 1;
        self.timers.push(now + nanoseconds(wait), client, message);
    }

    /// Nobody has answered a client that has looked for others with its address.
    pub(super) fn checked(&mut self, client: u32, address: Ipv6Addr) {
        if self.checking.remove(&address).is_some() {
            self.outstanding += 1;
            self.next_step(client, 0);
        }
    }

    /// Somebody else has an address, or wants it. A client that is about to take it declines it.
    pub(super) fn find_conflict(&mut self, address: Ipv6Addr) {
        if let Some(client) = self.checking.remove(&address) {
            self.outstanding += 1;
            self.counters.dad.conflicts += 1;
            self.decline(client);
        }
    }

    fn decline(&mut self, client: u32) {
        self.leave(client, Step::Decline);
        self.enter(client, Stage::Step(Step::Decline, ALONE));
        self.ready.push_back(client);
    }

    /// Takes the Reply to a step.
    fn take_step(
        &mut self,
        now: u64,
        client: u32,
        (step, number): (Step, u8),
        server: Server,
        message: &ServerMessage<'_>,
    ) -> Result<(), Wrong> {
        let refused = match step {
            Step::Renew | Step::Rebind => {
                let lease = self.clients[client as usize].lease;
                let ask = lease.map_or(self.plan.ask, |lease| lease.resources.ask());
                let given = self.given(client, message, ask)?;
                let outcome = given.as_ref().map(|given| self.bind(now, client, server, given));
                if let Some(Err(wrong)) = outcome {
                    self.finish_step(client, step, number);
                    return Err(wrong);
                }
                if given.is_none() {
                    self.forget(client);
                }
                given.is_none()
            }
            Step::Release | Step::Decline => {
                let failure = message.failure();
                if let Some(status) = failure {
                    self.counters.refused(status);
                }
                failure.is_some()
            }
            // Nobody asked for an IA (RFC 9915, section 18.3.6).
            Step::InformationRequest if !message.ia_na.is_empty() => return Err(Wrong::IaNa),
            Step::InformationRequest if !message.ia_pd.is_empty() => return Err(Wrong::IaPd),
            Step::InformationRequest => message.failure().is_some(),
        };
        let exchange = self.clients[client as usize].exchange;
        let sent = exchange.map_or(now, |exchange| exchange.message_sent.min(now));
        self.counters.step(step).done(now - sent, refused);
        self.last_answer = Some(now);
        self.finish_step(client, step, number);
        Ok(())
    }

    /// A step is over, whatever came of it.
    pub(super) fn finish_step(&mut self, client: u32, step: Step, number: u8) {
        let state = &mut self.clients[client as usize];
        match (step, &mut state.lease) {
            (Step::Release, lease) => *lease = None,
            (Step::Decline, Some(lease)) => {
                if let Some(address) = lease.resources.address.take() {
                    self.shared.decline(address);
                }
                if lease.resources.is_empty() {
                    state.lease = None;
                }
            }
            _ => {}
        }
        if number == ALONE {
            self.end_exchange(client, true);
        } else {
            self.next_step(client, number + 1);
        }
    }

    /// A client that is about to give something back does not use it any more (RFC 9915, section 18.2.7).
    pub(super) fn leave(&mut self, client: u32, step: Step) {
        let lease = self.clients[client as usize].lease;
        let resources = match (step, lease) {
            (Step::Release, Some(lease)) => lease.resources,
            (Step::Decline, Some(lease)) => Resources { prefix: None, ..lease.resources },
            _ => return,
        };
        for resource in resources.prefixes() {
            self.shared.let_go(resource, self.identity(client).0);
        }
    }

    /// A client has lost its lease.
    fn forget(&mut self, client: u32) {
        self.leave(client, Step::Release);
        self.clients[client as usize].lease = None;
    }

    /// Goes on with the first step from this number on that the client can take.
    fn next_step(&mut self, client: u32, from: u8) {
        let lease = self.clients[client as usize].lease;
        let mut steps = (from..).zip(self.plan.then.iter().skip(from.into()));
        let Some((number, step)) = steps.find(|(_, step)| step.is_possible(lease.as_ref())) else {
            return self.end_exchange(client, false);
        };
        let step = *step;
        self.leave(client, step);
        self.enter(client, Stage::Step(step, number));
        self.ready.push_back(client);
    }

    /// Has a client send another message than before.
    pub(super) fn enter(&mut self, client: u32, stage: Stage) {
        let Client { exchange, messages, .. } = &mut self.clients[client as usize];
        if let Some(exchange) = exchange {
            *messages += 1;
            exchange.message_sent = u64::MAX;
            exchange.retransmission = Retransmission::new(match stage {
                Stage::Solicit | Stage::Collect(_) | Stage::Check(_) => &retransmission::SOLICIT,
                Stage::Request(_) => &retransmission::REQUEST,
                Stage::Step(step, _) => step.parameters(),
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
            self.shared.finished.fetch_add(1, Relaxed);
        }
    }
}
