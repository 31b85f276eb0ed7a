//! The simulated clients, without I/O.

mod answer;

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, HashSet, VecDeque},
    net::Ipv6Addr,
    time::{Duration, Instant},
};

use dhcp6_common::wire::{Duid, MessageType};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use super::{
    Frame, Mode, Pace, Plan, Step, Storm, Summary, Wrong,
    client::Identity,
    frame::{self, Inbound},
    retransmission::{self, Retransmission},
    state::{Client, Exchange, Lease, Offer, Resources, Stage},
    summary::{Counters, status_name},
};

/// SOL_MAX_DELAY (RFC 9915, section 7.6).
const INITIAL_DELAY: Duration = Duration::from_secs(1);
/// How long a run of a given length waits for answers that are outstanding when it is over.
const GRACE: Duration = Duration::from_secs(1);

/// Clients on one link. Feed it frames with [`Population::handle`], and send what
/// [`Population::poll_transmit`] returns, until [`Population::is_finished`].
#[derive(Debug)]
pub struct Population {
    plan: Plan,
    start: Instant,
    /// Nothing is begun from then on.
    stop: Instant,
    clients: Vec<Client>,
    /// Clients that may begin, in the order of their turns.
    idle: VecDeque<u32>,
    /// Clients that have not had an answer yet.
    unserved: u32,
    outstanding: u32,
    /// Frames to be sent before anything else.
    replies: VecDeque<Vec<u8>>,
    /// When clients send again. Entries whose message is answered stay until their time.
    timers: BinaryHeap<Reverse<Timer>>,
    /// Who was given an address or prefix last.
    holders: HashMap<(Ipv6Addr, u8), u32>,
    /// Addresses that a client has declined.
    declined: HashSet<Ipv6Addr>,
    /// How many exchanges have become due, where that is a matter of time.
    due: u64,
    /// How long after the start the clients of a storm begin, in ascending order; empty where they all do at once.
    initial_delays: Vec<Duration>,
    last_answer: Option<Instant>,
    counters: Counters,
    rng: StdRng,
}

/// When a message is sent again, unless it was answered: (when, client, the message's number).
type Timer = (Instant, u32, u32);

impl Population {
    /// Clients that begin at `start`. `seed` drives transaction identifiers and the randomisation of timers.
    pub fn new(plan: Plan, start: Instant, seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let clients = (0..plan.clients).map(|_| Client::new(&mut rng)).collect();
        let mut initial_delays = Vec::new();
        if let Pace::Storm { initial_delay: true } = plan.pace {
            initial_delays
                .extend((0..plan.clients).map(|_| rng.random_range(Duration::ZERO..=INITIAL_DELAY)));
            initial_delays.sort_unstable();
        }
        Self {
            clients,
            start,
            stop: start + plan.duration.unwrap_or(plan.patience),
            idle: (0..plan.clients).collect(),
            unserved: plan.clients,
            outstanding: 0,
            replies: VecDeque::new(),
            timers: BinaryHeap::new(),
            holders: HashMap::new(),
            declined: HashSet::new(),
            due: 0,
            initial_delays,
            last_answer: None,
            counters: Counters::new(),
            rng,
            plan,
        }
    }

    /// Takes a frame from the network.
    pub fn handle(&mut self, now: Instant, frame: Frame<'_>) {
        match frame.read() {
            Inbound::Dhcpv6 { destination_mac, destination, message } => {
                self.handle_dhcpv6(now, destination_mac, destination, message);
            }
            Inbound::Relayed { destination_mac, destination, message } => {
                self.handle_relayed(now, (destination_mac, destination), message);
            }
            Inbound::NeighborSolicitation { source_mac, source, target } => {
                let client = Identity::of_link_local(target).filter(|client| self.has(*client));
                let relay = self.plan.relays.map(|relays| relays.outermost());
                let mac = client.map(Identity::mac);
                if let Some(mac) = mac.or(relay.filter(|(_, address)| *address == target).map(|(mac, _)| mac))
                {
                    self.counters.neighbor_solicitations += 1;
                    let to = (source_mac, source);
                    self.replies.push_back(frame::neighbor_advertisement(mac, target, to));
                }
            }
            Inbound::Other => {}
        }
    }

    /// The next frame to send now. The caller asks until there is none.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Vec<u8>> {
        if let Some(reply) = self.replies.pop_front() {
            return Some(reply);
        }
        while let Some(&Reverse((at, client, message))) = self.timers.peek()
            && at <= now
        {
            self.timers.pop();
            let Client { exchange, messages, .. } = &self.clients[client as usize];
            if exchange.is_some() && message + 1 == *messages {
                self.take_best_offer(client);
                if let Some(frame) = self.transmit(now, client) {
                    return Some(frame);
                }
            }
        }
        self.begin(now)
    }

    /// When there will be something to send without anything being received; `None` where never.
    pub fn next_timeout(&self) -> Option<Instant> {
        let timer = self.timers.peek().map(|Reverse((at, ..))| *at);
        let start = match self.plan.pace {
            Pace::Rate(_) | Pace::Storm { .. } if !self.idle.is_empty() => Some(self.due_at(self.due)),
            _ => None,
        };
        let stop = Some(self.end());
        [timer, start.filter(|start| *start < self.stop), stop].into_iter().flatten().min()
    }

    /// Whether the run is over.
    pub fn is_finished(&self, now: Instant) -> bool {
        let nothing_begins = match self.plan.duration {
            Some(_) => now >= self.stop,
            None => self.idle.is_empty(),
        } || self.is_spent();
        now >= self.end() || (nothing_begins && self.outstanding == 0 && self.replies.is_empty())
    }

    /// Which part of the run is done, from 0 to 1.
    pub fn progress(&self, now: Instant) -> f64 {
        let part = match self.plan.duration {
            Some(duration) => (now - self.start).as_secs_f64() / duration.as_secs_f64(),
            None => 1.0 - f64::from(self.unserved) / f64::from(self.plan.clients.max(1)),
        };
        part.min(1.0)
    }

    /// Exchanges completed so far.
    pub fn answered(&self) -> u64 {
        self.counters.answered
    }

    /// Replies that were wrong so far.
    pub fn wrong(&self) -> u64 {
        self.counters.wrong.iter().sum()
    }

    /// What was found up to now.
    pub fn summary(&self, now: Instant) -> Summary {
        let Counters {
            started,
            answered,
            refused,
            given_up,
            not_started,
            sent,
            received,
            retransmissions,
            first_try,
            most_retransmissions,
            wrong,
            late,
            foreign,
            declined_again,
            neighbor_solicitations,
            ..
        } = &self.counters;
        let last_answer = self.last_answer.unwrap_or(now);
        let end =
            if self.plan.duration.is_some() { last_answer.max(self.stop).min(now) } else { last_answer };
        let seconds = end.saturating_duration_since(self.start);
        #[expect(clippy::cast_precision_loss, reason = "a rate, for people and plots")]
        let rate = if seconds.is_zero() { 0.0 } else { *answered as f64 / seconds.as_secs_f64() };
        let wrong_by_name = Wrong::ALL.iter().map(|kind| (kind.name(), wrong[*kind as usize]));
        Summary {
            mode: self.plan.mode,
            ask: self.plan.ask,
            clients: self.plan.clients,
            seconds,
            sent: sent.values().sum(),
            received: received.values().sum(),
            started: *started,
            answered: *answered,
            refused: refused.iter().map(|(code, count)| (status_name(*code), *count)).collect(),
            unanswered: u64::from(self.outstanding) + given_up,
            not_started: *not_started,
            rate: (rate * 10.0).round() / 10.0,
            latency_us: self.counters.latencies().quantiles(),
            histogram: self.counters.latencies().classes(),
            retransmissions: *retransmissions,
            first_try: *first_try,
            most_retransmissions: *most_retransmissions,
            storm: self.storm(),
            steps: self.counters.steps(),
            sent_by_type: sent.clone(),
            received_by_type: received.clone(),
            wrong_replies: wrong.iter().sum(),
            wrong: wrong_by_name.collect(),
            late: *late,
            foreign: *foreign,
            declined_again: *declined_again,
            neighbor_solicitations: *neighbor_solicitations,
            socket_drops: 0,
        }
    }

    fn has(&self, client: Identity) -> bool {
        client.0 < self.plan.clients
    }

    /// Whether the run has sent as much as it may.
    fn is_spent(&self) -> bool {
        self.counters.sent.values().sum::<u64>() >= self.plan.messages
    }

    /// When the run is over, whatever is outstanding.
    fn end(&self) -> Instant {
        if self.plan.duration.is_some() { self.stop + GRACE } else { self.stop }
    }

    /// How long it took to serve parts of the clients, in a storm.
    fn storm(&self) -> Option<Storm> {
        let Pace::Storm { initial_delay } = self.plan.pace else { return None };
        let [to_50, to_99, to_100] = self.counters.milestones;
        Some(Storm { initial_delay, to_50, to_99, to_100 })
    }

    /// When the exchange with this number is due, where that is a matter of time.
    fn due_at(&self, number: u64) -> Instant {
        match self.plan.pace {
            #[expect(clippy::cast_precision_loss, reason = "no run begins 2^53 exchanges")]
            Pace::Rate(rate) => self.start + Duration::from_secs_f64(number as f64 / rate),
            Pace::Storm { .. } => {
                let delay = usize::try_from(number).ok().and_then(|number| self.initial_delays.get(number));
                self.start + delay.copied().unwrap_or_default()
            }
            Pace::Window(_) => self.start,
        }
    }

    /// Begins an exchange where one is due.
    fn begin(&mut self, now: Instant) -> Option<Vec<u8>> {
        if now >= self.stop || self.is_spent() {
            return None;
        }
        let due = match self.plan.pace {
            Pace::Window(window) if self.outstanding < window => now,
            Pace::Window(_) => return None,
            Pace::Rate(_) | Pace::Storm { .. } => {
                let repeats = matches!(self.plan.pace, Pace::Rate(_));
                while repeats && self.idle.is_empty() && self.due_at(self.due) <= now {
                    self.due += 1;
                    self.counters.not_started += u64::from(self.plan.duration.is_some());
                }
                let due = self.due_at(self.due);
                if due > now {
                    return None;
                }
                self.due += 1;
                due
            }
        };
        let client = self.idle.pop_front()?;
        self.counters.started += 1;
        self.outstanding += 1;
        let state = &mut self.clients[client as usize];
        state.messages += 1;
        state.exchange = Some(Box::new(Exchange {
            due,
            message_sent: None,
            retransmission: Retransmission::new(retransmission::SOLICIT),
            retransmissions: 0,
            stage: Stage::Solicit,
            best: None,
        }));
        self.transmit(now, client)
    }

    /// Sends the message of a client's exchange, for the first time or again. Ends the exchange where the client
    /// gives up.
    fn transmit(&mut self, now: Instant, client: u32) -> Option<Vec<u8>> {
        if self.is_spent() {
            return None;
        }
        let identity = Identity(client);
        let state = &mut self.clients[client as usize];
        let number = state.messages - 1;
        let transaction_id = state.transaction_id(number);
        let exchange = state.exchange.as_mut()?;
        let Some(timeout) = exchange.retransmission.transmit(&mut self.rng) else {
            return self.give_up(now, client);
        };
        if exchange.retransmission.sent > 1 {
            exchange.retransmissions += 1;
            self.counters.retransmissions += 1;
            self.counters.most_retransmissions =
                self.counters.most_retransmissions.max(exchange.retransmissions);
        }
        self.timers.push(Reverse((now + timeout, client, number)));
        let waiting = now - *exchange.message_sent.get_or_insert(now);
        // Section 21.9: 0xffff for whatever is longer.
        let elapsed = u16::try_from(waiting.as_millis() / 10).unwrap_or(u16::MAX);
        let header = (transaction_id, elapsed);
        let (kind, message) = match &exchange.stage {
            Stage::Solicit => {
                let rapid_commit = self.plan.mode == Mode::RapidCommit;
                let solicit = identity.solicit(transaction_id, elapsed, rapid_commit, self.plan.ask);
                (MessageType::Solicit, solicit)
            }
            Stage::Request(Offer { server, resources }) => {
                let kind = MessageType::Request;
                (kind, identity.message(kind, header, Some(server), *resources))
            }
            Stage::Step(step) => {
                let step = self.plan.then[*step];
                let (server, resources) = step.names(state.lease.as_ref());
                (step.message(), identity.message(step.message(), header, server, resources))
            }
        };
        self.counters.sent(kind);
        Some(match &self.plan.relays {
            Some(relays) => relays.frame(identity, &message),
            None => frame::to_servers(identity.mac(), identity.link_local(), &message),
        })
    }

    /// A server that has made an offer does not answer the Request for it. In a storm the client looks for a server
    /// again (RFC 9915, section 18.2.2), otherwise that is for its next turn.
    fn give_up(&mut self, now: Instant, client: u32) -> Option<Vec<u8>> {
        let state = &mut self.clients[client as usize];
        if let Some(exchange) = &mut state.exchange {
            if let Stage::Step(step) = exchange.stage {
                // RFC 9915, sections 18.2.7 and 18.2.8: it is as if the server had been told.
                self.counters.step(self.plan.then[step]).unanswered += 1;
                self.finish_step(now, client, step);
                return None;
            }
            if let Pace::Storm { .. } = self.plan.pace {
                self.enter(client, Stage::Solicit);
                return self.transmit(now, client);
            }
        }
        self.counters.given_up += 1;
        self.end_exchange(client, true);
        None
    }
}

impl Step {
    /// The server that a step's message is for, and what it is about.
    fn names(self, lease: Option<&Lease>) -> (Option<&Duid>, Resources) {
        let Some(Lease { server, resources, .. }) = lease.filter(|_| self.needs_lease()) else {
            return (None, Resources::default());
        };
        match self {
            Self::Rebind => (None, *resources),
            // RFC 9915, section 18.2.8: prefixes cannot be declined.
            Self::Decline => (Some(server), Resources { prefix: None, ..*resources }),
            _ => (Some(server), *resources),
        }
    }
}
