//! The simulated clients, without I/O.

mod answer;
mod neighbors;

use std::{
    collections::VecDeque,
    net::Ipv6Addr,
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use dhcp6_common::wire::{CLIENT_PORT, MessageType, SERVER_PORT};
use hashbrown::HashMap;
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};

use super::{
    Frame, Mode, Pace, Plan, Step,
    client::{Header, Identity},
    frame::{self, Inbound},
    retransmission::{self, Retransmission},
    shared::Shared,
    state::{Client, Exchange, Lease, Resources, Server, Stage},
    summary::{Counters, Tally},
    timers::Timers,
};

/// SOL_MAX_DELAY (RFC 9915, section 7.6).
const INITIAL_DELAY: Duration = Duration::from_secs(1);
/// How long a run of a given length waits for answers that are outstanding when it is over.
const GRACE: Duration = Duration::from_secs(1);
/// The number of a step that no other one follows.
const ALONE: u8 = u8::MAX;

/// Clients on one link: all of them, or those of one thread. Feed it frames with [`Population::handle`], and send what
/// [`Population::poll_transmit`] writes, until [`Population::is_finished`].
#[derive(Debug)]
pub(super) struct Population {
    plan: Plan,
    shared: Arc<Shared>,
    start: Instant,
    /// Nothing is begun from then on. Like all times here, nanoseconds from the start.
    stop: u64,
    /// The number of the first client.
    first: u32,
    clients: Vec<Client>,
    /// The DUIDs of the servers that were heard of.
    servers: Vec<Box<[u8]>>,
    /// Clients that may begin, in the order of their turns. Clients are counted from the first one on.
    idle: VecDeque<u32>,
    outstanding: u32,
    /// Clients that look for others with their address: no exchange of theirs is outstanding meanwhile.
    checking: HashMap<Ipv6Addr, u32>,
    /// Clients whose next message is to be sent at once.
    ready: VecDeque<u32>,
    /// Frames to be sent before anything else.
    answers: VecDeque<Vec<u8>>,
    /// When clients send again. Those whose message is answered stay until their time.
    timers: Timers,
    /// How many exchanges have become due, where that is a matter of time.
    due: u64,
    /// How long after the start the clients of a storm begin, in ascending order; empty where they all do at once.
    initial_delays: Vec<u64>,
    last_answer: Option<u64>,
    /// DHCPv6 messages sent.
    sent: u64,
    counters: Counters,
    rng: SmallRng,
}

impl Population {
    /// Some of the plan's clients, of which nobody else plays one, that begin at `start`. Pace and bounds are theirs
    /// alone. `seed` drives transaction identifiers and the randomisation of timers.
    pub(super) fn new(
        plan: Plan,
        numbers: Range<u32>,
        shared: Arc<Shared>,
        start: Instant,
        seed: u64,
    ) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let count = numbers.len() as u32;
        let clients = (0..count).map(|_| Client::new(&mut rng)).collect();
        let mut initial_delays = Vec::new();
        if let Pace::Storm { initial_delay: true } = plan.pace {
            initial_delays.extend((0..count).map(|_| rng.random_range(0..=nanoseconds(INITIAL_DELAY))));
            initial_delays.sort_unstable();
        }
        Self {
            shared,
            clients,
            start,
            stop: nanoseconds(plan.duration.unwrap_or(plan.patience)),
            first: numbers.start,
            servers: Vec::new(),
            idle: (0..count).collect(),
            outstanding: 0,
            checking: HashMap::new(),
            ready: VecDeque::new(),
            answers: VecDeque::new(),
            timers: Timers::new(),
            due: 0,
            initial_delays,
            last_answer: None,
            sent: 0,
            counters: Counters::new(),
            rng,
            plan,
        }
    }

    /// Takes a frame from the network.
    pub(super) fn handle(&mut self, now: Instant, frame: Frame<'_>) {
        let now = self.since_start(now);
        match frame.read() {
            Inbound::Dhcpv6 { destination_mac, destination, message } => {
                self.handle_dhcpv6(now, destination_mac, destination, message);
            }
            Inbound::Relayed { destination_mac, destination, message } => {
                self.handle_relayed(now, (destination_mac, destination), message);
            }
            Inbound::NeighborSolicitation { source_mac, source, target } => {
                self.handle_solicitation(now, (source_mac, source), target);
            }
            Inbound::NeighborAdvertisement { target } => self.find_conflict(target),
            Inbound::Other => {}
        }
    }

    /// Writes the next frame to send now in the place of what is there. Returns whether there is one; the caller asks
    /// until there is none.
    pub(super) fn poll_transmit(&mut self, now: Instant, frame: &mut Vec<u8>) -> bool {
        let now = self.since_start(now);
        if let Some(answer) = self.answers.pop_front() {
            *frame = answer;
            return true;
        }
        while let Some(client) = self.ready.pop_front() {
            if self.transmit(now, client, frame) {
                return true;
            }
        }
        while let Some(timer) = self.timers.pop(now) {
            let Client { exchange, messages, .. } = &self.clients[timer.client as usize];
            let Some(exchange) = exchange.filter(|_| timer.message + 1 == *messages) else { continue };
            match exchange.stage {
                Stage::Collect(offer) => self.enter(timer.client, Stage::Request(offer)),
                Stage::Check(address) => {
                    self.checked(timer.client, address);
                    continue;
                }
                _ => {}
            }
            if self.transmit(now, timer.client, frame) {
                return true;
            }
        }
        // What a timer has brought about.
        while let Some(client) = self.ready.pop_front() {
            if self.transmit(now, client, frame) {
                return true;
            }
        }
        self.begin(now, frame)
    }

    /// When there will be something to send without anything being received.
    pub(super) fn next_timeout(&self) -> Instant {
        let start = match self.plan.pace {
            Pace::Rate(_) | Pace::Storm { .. } if !self.idle.is_empty() => Some(self.due_at(self.due)),
            _ => None,
        };
        let start = start.filter(|start| *start < self.stop);
        let next = [self.timers.next(), start].into_iter().flatten().min();
        self.start + Duration::from_nanos(next.unwrap_or(u64::MAX).min(self.end()))
    }

    /// Whether the run is over.
    pub(super) fn is_finished(&self, now: Instant) -> bool {
        let now = self.since_start(now);
        let nothing_begins = match self.plan.duration {
            Some(_) => now >= self.stop,
            None => self.idle.is_empty(),
        } || self.is_spent();
        let nothing_goes_on = self.outstanding == 0 && self.checking.is_empty() && self.answers.is_empty();
        now >= self.end() || (nothing_begins && nothing_goes_on)
    }

    /// What was found up to now, when it is the end.
    pub(super) fn tally(mut self, now: Instant) -> Tally {
        let now = self.since_start(now);
        let last_answer = self.last_answer.unwrap_or(now);
        let end =
            if self.plan.duration.is_some() { last_answer.max(self.stop).min(now) } else { last_answer };
        for exchange in self.clients.iter().filter_map(|client| client.exchange) {
            match exchange.stage {
                Stage::Step(step, _) => self.counters.step(step).unanswered += 1,
                Stage::Check(_) => {}
                _ => self.counters.unanswered += 1,
            }
        }
        Tally { counters: self.counters, seconds: Duration::from_nanos(end) }
    }

    /// The client with this identity, where it is one of these.
    fn client(&self, identity: Identity) -> Option<u32> {
        let client = identity.0.checked_sub(self.first)?;
        ((client as usize) < self.clients.len()).then_some(client)
    }

    fn identity(&self, client: u32) -> Identity {
        Identity(self.first + client)
    }

    /// The number of a server.
    fn server(&mut self, duid: &[u8]) -> Server {
        let known = self.servers.iter().position(|server| **server == *duid);
        let number = known.unwrap_or_else(|| {
            self.servers.push(duid.into());
            self.servers.len() - 1
        });
        number as Server
    }

    fn since_start(&self, now: Instant) -> u64 {
        nanoseconds(now.saturating_duration_since(self.start))
    }

    /// Whether the run has sent as much as it may.
    fn is_spent(&self) -> bool {
        self.sent >= self.plan.messages
    }

    /// When the run is over, whatever is outstanding.
    fn end(&self) -> u64 {
        if self.plan.duration.is_some() { self.stop + nanoseconds(GRACE) } else { self.stop }
    }

    /// When the exchange with this number is due, where that is a matter of time.
    fn due_at(&self, number: u64) -> u64 {
        match self.plan.pace {
            #[expect(clippy::cast_precision_loss, reason = "no run begins 2^53 exchanges")]
            Pace::Rate(rate) => nanoseconds(Duration::from_secs_f64(number as f64 / rate)),
            Pace::Storm { .. } => {
                let delay = usize::try_from(number).ok().and_then(|number| self.initial_delays.get(number));
                delay.copied().unwrap_or_default()
            }
            Pace::Window(_) => 0,
        }
    }

    /// Begins an exchange where one is due. Returns whether there is a frame.
    fn begin(&mut self, now: u64, frame: &mut Vec<u8>) -> bool {
        if now >= self.stop || self.is_spent() {
            return false;
        }
        let due = match self.plan.pace {
            Pace::Window(window) if self.outstanding < window => now,
            Pace::Window(_) => return false,
            Pace::Rate(_) | Pace::Storm { .. } => {
                let repeats = matches!(self.plan.pace, Pace::Rate(_));
                while repeats && self.idle.is_empty() && self.due_at(self.due) <= now {
                    self.due += 1;
                    self.counters.not_started += u64::from(self.plan.duration.is_some());
                }
                let due = self.due_at(self.due);
                if due > now {
                    return false;
                }
                self.due += u64::from(!self.idle.is_empty());
                due
            }
        };
        let Some(client) = self.idle.pop_front() else { return false };
        self.outstanding += 1;
        let step = self.draw(now, client);
        let (first, parameters) = match step {
            None => {
                self.counters.started += 1;
                (Stage::Solicit, &retransmission::SOLICIT)
            }
            Some(step) => {
                self.leave(client, step);
                (Stage::Step(step, ALONE), step.parameters())
            }
        };
        let state = &mut self.clients[client as usize];
        state.messages += 1;
        state.exchange = Some(Exchange {
            due,
            message_sent: u64::MAX,
            retransmission: Retransmission::new(parameters),
            retransmissions: 0,
            stage: first,
            preference: 0,
        });
        self.transmit(now, client, frame)
    }

    /// What a client does whose turn it is; `None` where it begins with a Solicit.
    fn draw(&mut self, now: u64, client: u32) -> Option<Step> {
        if self.plan.mix.is_empty() {
            return None;
        }
        let lease = self.clients[client as usize].lease.filter(|lease| lease.valid_until > now)?;
        let step = self.plan.mix.pick(self.rng.random_range(0..100))?;
        step.is_possible(Some(&lease)).then_some(step)
    }

    /// Sends the message of a client's exchange, for the first time or again. Ends the exchange where the client
    /// gives up. Returns whether there is a frame.
    fn transmit(&mut self, now: u64, client: u32, frame: &mut Vec<u8>) -> bool {
        if self.is_spent() {
            return false;
        }
        let identity = self.identity(client);
        let state = &mut self.clients[client as usize];
        let number = state.messages - 1;
        let transaction_id = state.transaction_id(number);
        let Some(exchange) = &mut state.exchange else { return false };
        let Some(timeout) = exchange.retransmission.transmit(&mut self.rng) else {
            return self.give_up(now, client, frame);
        };
        if exchange.retransmission.sent > 1 {
            exchange.retransmissions += 1;
            self.counters.retransmissions += 1;
            self.counters.most_retransmissions =
                self.counters.most_retransmissions.max(exchange.retransmissions);
        }
        self.timers.push(now + timeout, client, number);
        exchange.message_sent = exchange.message_sent.min(now);
        // Section 21.9: 0xffff for whatever is longer.
        let elapsed = u16::try_from((now - exchange.message_sent) / 10_000_000).unwrap_or(u16::MAX);
        let header = Header { transaction_id, elapsed };
        let (mac, source, port) = match &self.plan.relays {
            None => (identity.mac(), identity.link_local(), CLIENT_PORT),
            Some(relays) => {
                let (mac, address) = relays.outermost();
                (mac, address, SERVER_PORT)
            }
        };
        frame::begin_to_servers(frame, mac, source, port);
        let envelopes = self.plan.relays.map(|relays| relays.open_envelopes(frame, identity));
        let kind = match exchange.stage {
            Stage::Solicit | Stage::Collect(_) | Stage::Check(_) => {
                let rapid_commit = self.plan.mode == Mode::RapidCommit;
                identity.solicit(frame, header, rapid_commit, self.plan.ask);
                MessageType::Solicit
            }
            Stage::Request(offer) => {
                let server = &self.servers[usize::from(offer.server)];
                let kind = MessageType::Request;
                identity.message(frame, kind, header, Some(server), offer.resources);
                kind
            }
            Stage::Step(step, _) => {
                let (server, resources) = step.names(state.lease.as_ref());
                let server = server.map(|server| &self.servers[usize::from(server)][..]);
                identity.message(frame, step.message(), header, server, resources);
                step.message()
            }
        };
        if let Some(envelopes) = envelopes {
            envelopes.close(frame);
        }
        frame::finish(frame);
        self.sent += 1;
        self.counters.sent(kind);
        true
    }

    /// A server that has made an offer does not answer the Request for it. In a storm the client looks for a server
    /// again (RFC 9915, section 18.2.2), otherwise that is for its next turn.
    fn give_up(&mut self, now: u64, client: u32, frame: &mut Vec<u8>) -> bool {
        let state = &self.clients[client as usize];
        if let Some(Stage::Step(step, number)) = state.exchange.map(|exchange| exchange.stage) {
            // RFC 9915, sections 18.2.7 and 18.2.8: it is as if the server had been told.
            self.counters.step(step).unanswered += 1;
            self.finish_step(client, step, number);
            return false;
        }
        if let Pace::Storm { .. } = self.plan.pace {
            self.enter(client, Stage::Solicit);
            return self.transmit(now, client, frame);
        }
        self.counters.unanswered += 1;
        self.end_exchange(client, true);
        false
    }
}

impl Step {
    /// The server that a step's message is for, and what it is about.
    fn names(self, lease: Option<&Lease>) -> (Option<Server>, Resources) {
        let Some(&Lease { server, resources, .. }) = lease.filter(|_| self.needs_lease()) else {
            return (None, Resources::default());
        };
        match self {
            Self::Rebind => (None, resources),
            // RFC 9915, section 18.2.8: prefixes cannot be declined.
            Self::Decline => (Some(server), Resources { prefix: None, ..resources }),
            _ => (Some(server), resources),
        }
    }

    /// Whether a client with this lease can take it.
    fn is_possible(self, lease: Option<&Lease>) -> bool {
        match self {
            Self::Decline => lease.is_some_and(|lease| lease.resources.address.is_some()),
            step => lease.is_some() || !step.needs_lease(),
        }
    }
}

/// All runs are shorter than 584 years.
fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
