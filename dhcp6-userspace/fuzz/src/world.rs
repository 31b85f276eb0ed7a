//! The engine among its daemon, its store, the kernel and its clients, with the invariants of the design.

use std::{
    collections::{BTreeMap, HashMap},
    net::Ipv6Addr,
};

use dhcp6_common::wire::{Duid, MessageType, OptionCode};
use dhcp6_userspace::{
    config::{Config, LinkConfig},
    engine::{Answer, Arrival, Engine, KernelBinding},
    lease::{Change, Contents, LeaseState, MemoryStore, Store, StoreError},
    pool::AddressRange,
    time::Time,
};

use crate::{
    message::{Rarely, SERVER, Sent},
    relay,
    reply::{self, Checked},
    scenario::{Delivery, Fate, Scenario, Step, Wait},
    setting::{self, LINKS, Setting},
    wire::{Ia, decode},
};

/// When every scenario begins, in milliseconds since 1970.
const BEGINNING: u64 = 1_700_000_000_000;
/// Octets of a UDP payload at most: a longer answer cannot leave.
const LONGEST_DATAGRAM: usize = 65_527;

/// An IA_NA of a client.
type Owner = (u32, Duid, u32);

struct World {
    config: Config,
    seed: u64,
    engine: Engine,
    store: MemoryStore,
    now: Time,
    /// The kernel's maps: by link and client.
    kernel: HashMap<(u32, Duid), KernelBinding>,
    /// Until when each client may use each address, by what it has been told.
    promises: BTreeMap<(Ipv6Addr, Owner), Time>,
    /// Until when nobody may be given an address that a client found in use.
    declined: BTreeMap<Ipv6Addr, Time>,
    last_sent: Vec<u8>,
}

/// A message of a round, what the engine says to it, and what the client gives up with it.
struct Exchange {
    link: u32,
    question: Vec<u8>,
    answer: Option<Answer>,
    given_back: Vec<(Ipv6Addr, Owner)>,
    declined: Vec<Ipv6Addr>,
}

/// Takes all steps of a scenario.
///
/// # Panics
///
/// Where the engine breaks one of its promises.
pub fn run(scenario: Scenario) {
    let Scenario { setting, seed, steps } = scenario;
    let mut world = World::new(&setting, seed);
    for step in steps {
        world.take(step);
        world.check();
    }
}

impl World {
    fn new(setting: &Setting, seed: u64) -> Self {
        let (config, now) = (setting.config(), Time::from_millis(BEGINNING));
        Self {
            engine: Engine::new(&config, server(), Contents::default(), now, seed),
            config,
            seed,
            store: MemoryStore::new(),
            now,
            kernel: HashMap::new(),
            promises: BTreeMap::new(),
            declined: BTreeMap::new(),
            last_sent: Vec::new(),
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Round { first, more, fate: Rarely(fate) } => {
                let more = more.iter().filter_map(|Rarely(delivery)| delivery.as_ref());
                let arrivals = [&first].into_iter().chain(more);
                let exchanges: Vec<_> = arrivals.map(|delivery| self.handle(delivery)).collect();
                self.finish_round(&exchanges, fate);
            }
            Step::Expire { fate: Rarely(fate) } => {
                self.engine.expire(self.now);
                self.finish_round(&[], fate);
            }
            Step::Wait(Wait(duration)) => {
                self.now = self.now.after(duration);
                let now = self.now;
                self.promises.retain(|_, until| *until > now);
                self.declined.retain(|_, until| *until > now);
            }
            Step::AskKernel { second_link, client, iaid } => {
                self.ask_kernel(index(&second_link), client.duid(), iaid.number());
            }
            Step::ClearConflict { second_link, address, fate: Rarely(fate) } => {
                let address = setting::address(index(&second_link), address);
                if self.engine.clear_conflict(address) {
                    self.declined.remove(&address);
                    self.promises.retain(|(promised, _), _| *promised != address);
                }
                self.finish_round(&[], fate);
            }
            Step::Restart { setting } => {
                self.restart(setting.map_or_else(|| self.config.clone(), |setting| setting.config()));
            }
        }
    }

    /// A message reaches the engine.
    fn handle(&mut self, delivery: &Delivery) -> Exchange {
        let Delivery { second_link, unicast, sent, relays } = delivery;
        let link = index(second_link);
        let mut question = match sent {
            Sent::Message(message) => {
                message.octets(link, |client, iaid| self.addresses_of(&(link, client.duid(), iaid)))
            }
            Sent::Again => self.last_sent.clone(),
            Sent::Octets(octets) => octets.clone(),
        };
        for relay in relays.iter().filter_map(|Rarely(relay)| relay.as_ref()) {
            question = relay.wrap(question);
        }
        self.last_sent.clone_from(&question);
        let bound: Vec<(Ipv6Addr, Owner)> = { self.engine.leases().into_iter() }
            .filter(|lease| lease.state == LeaseState::Bound)
            .map(|lease| (lease.address, (self.link_index(lease.link), lease.duid, lease.iaid)))
            .collect();
        let arrival = Arrival { link: Some(link), multicast: unicast.0.is_none() };
        let answer = self.engine.handle(self.now, arrival, &question).ok();
        let (hops, message) = relay::open(&question);
        let link = relay::link(&hops, link, &self.config);
        assert!(link.is_some() || answer.is_none(), "matrix rows Y-9 and Y-10: answered on no link");
        let link = link.unwrap_or_default();
        let given_back = given_back(link, message, answer.is_some());
        for promise in &given_back {
            // RFC 9915, sections 18.2.7 and 18.2.8: the client stops using the address as it sends the message.
            self.promises.remove(promise);
        }
        let is_decline = message.first() == Some(&(MessageType::Decline as u8));
        let declined = given_back.iter().filter(|given| is_decline && bound.contains(given));
        Exchange {
            link,
            declined: declined.map(|(address, _)| *address).collect(),
            question,
            answer,
            given_back,
        }
    }

    /// The end of a round, in the order that the engine's documentation prescribes.
    fn finish_round(&mut self, exchanges: &[Exchange], fate: Option<Fate>) {
        let batch = self.engine.take_batch();
        for client in &batch.forget {
            self.kernel.remove(client);
        }
        if fate == Some(Fate::CrashBeforeCommit) {
            return self.restart(self.config.clone());
        }
        self.store.fail_next(u32::from(fate == Some(Fate::CommitFails)));
        let committed = batch.changes.is_empty() || self.commit(&batch.changes);
        self.store.fail_next(0);
        if fate == Some(Fate::CrashAfterCommit) {
            return self.restart(self.config.clone());
        }
        if committed {
            let served = self.engine.committed(&batch);
            self.serve(served);
        }
        for (index, exchange) in exchanges.iter().enumerate() {
            if let Some(answer) = exchange.answer.as_ref().filter(|answer| committed || !answer.needs_commit)
            {
                let later = exchanges[index + 1..].iter().flat_map(|later| later.given_back.iter().copied());
                self.deliver(exchange, answer, &later.collect::<Vec<_>>());
            }
        }
    }

    fn commit(&mut self, changes: &[Change]) -> bool {
        match self.store.commit(changes) {
            Ok(()) => true,
            Err(StoreError::Injected) => false,
            Err(other) => panic!("the engine stores what it could not load: {other}"),
        }
    }

    /// An answer leaves, and the client takes up what it says, but for what it has `given_back` meanwhile.
    fn deliver(&mut self, exchange: &Exchange, answer: &Answer, given_back: &[(Ipv6Addr, Owner)]) {
        let Exchange { link, question, .. } = exchange;
        if answer.message.len() > LONGEST_DATAGRAM {
            return;
        }
        let Checked { kind, ia_na } = reply::check(question, answer, &self.config.links[*link as usize]);
        let (_, question) = relay::open(question);
        for address in &exchange.declined {
            let until = self.now.after(self.config.links[*link as usize].decline_hold);
            self.declined.insert(*address, until);
        }
        let Some(duid) = client_of(question) else { return };
        let beginnings = [MessageType::Solicit, MessageType::Request].map(|kind| kind as u8);
        let starts_over = beginnings.contains(&question[0]);
        for Ia { iaid, addresses, .. } in ia_na {
            let owner = (*link, duid, iaid);
            if kind == MessageType::Advertise {
                for (address, ..) in addresses {
                    self.check_free(address, &owner);
                }
                continue;
            }
            if starts_over && !addresses.is_empty() {
                self.promises.retain(|(_, other), _| *other != owner);
            }
            for (address, _, valid) in addresses {
                if valid == 0 {
                    self.promises.remove(&(address, owner));
                } else if !given_back.contains(&(address, owner)) {
                    self.promise(address, owner, valid);
                }
            }
        }
    }

    /// A client is told that it may use an address for `valid` seconds.
    fn promise(&mut self, address: Ipv6Addr, owner: Owner, valid: u32) {
        let until = self.now.after_lifetime(valid);
        self.check_free(address, &owner);
        self.promises.insert((address, owner), until);
        let stored = self.stored_until(address, &owner);
        assert!(
            stored >= Some(until),
            "durable before promised: {address} until {until} to {owner:?}, but the store says {stored:?}"
        );
    }

    /// One owner: nobody else was promised the address, and nobody has found it in use.
    fn check_free(&self, address: Ipv6Addr, owner: &Owner) {
        for ((_, other), until) in self.promises_on(address) {
            assert_eq!(other, owner, "one owner: {address} is still promised until {until}");
        }
        let until = self.declined.get(&address);
        assert_eq!(until, None, "matrix row X-1: {address} was declined, and is given to {owner:?}");
    }

    fn promises_on(&self, address: Ipv6Addr) -> impl Iterator<Item = (&(Ipv6Addr, Owner), &Time)> {
        self.promises.iter().filter(move |((promised, _), until)| *promised == address && **until > self.now)
    }

    fn addresses_of(&self, owner: &Owner) -> Vec<Ipv6Addr> {
        self.promises.keys().filter(|(_, other)| other == owner).map(|(address, _)| *address).collect()
    }

    /// Until when the store keeps an address for a client, or at least from everybody else.
    fn stored_until(&self, address: Ipv6Addr, (link, duid, iaid): &Owner) -> Option<Time> {
        let name = &self.config.links[*link as usize].name;
        let Contents { leases, conflicts } = self.store.contents();
        let bound = leases.iter().find(|lease| {
            lease.state == LeaseState::Bound
                && (lease.address, &lease.link, &lease.duid, lease.iaid) == (address, name, duid, *iaid)
        });
        let withheld =
            conflicts.iter().find(|conflict| (conflict.address, &conflict.duid) == (address, duid));
        bound.map(|lease| lease.expires_at).or(withheld.map(|conflict| conflict.until))
    }

    /// The kernel answers a Solicit with Rapid Commit, as far as it knows the client.
    fn ask_kernel(&mut self, link: u32, duid: Duid, iaid: u32) {
        let Some(entry) = self.kernel.get(&(link, duid)) else { return };
        let LinkLifetimes { rapid_commit, valid } = self.lifetimes(link);
        if entry.iaid != iaid || self.now > entry.serve_until || !rapid_commit {
            return;
        }
        let (address, owner) = (entry.address, (link, duid, iaid));
        self.promises.retain(|(_, other), _| *other != owner);
        self.promise(address, owner, valid);
    }

    fn lifetimes(&self, link: u32) -> LinkLifetimes {
        let link = &self.config.links[link as usize];
        LinkLifetimes { rapid_commit: link.rapid_commit, valid: link.lifetimes.valid }
    }

    fn serve(&mut self, served: impl IntoIterator<Item = KernelBinding>) {
        for binding in served {
            self.kernel.insert((binding.link, binding.duid), binding);
        }
    }

    /// The daemon ends without a word, and another one takes up what the store holds. In between the kernel
    /// serves alone.
    fn restart(&mut self, config: Config) {
        let mut entries: Vec<_> = self.kernel.values().copied().collect();
        entries.sort_by_key(|entry| (entry.link, entry.duid));
        for KernelBinding { link, duid, iaid, .. } in entries {
            self.ask_kernel(link, duid, iaid);
        }
        self.seed = self.seed.wrapping_add(1);
        let contents = self.store.load().expect("a memory store can be read");
        self.engine = Engine::new(&config, server(), contents, self.now, self.seed);
        self.config = config;
        self.kernel.clear();
        let served: Vec<_> = self.engine.kernel_bindings().collect();
        self.serve(served);
    }

    /// What holds after every step, whoever asks next.
    fn check(&self) {
        for entry in self.kernel.values().filter(|entry| entry.serve_until >= self.now) {
            let KernelBinding { link, duid, iaid, address, serve_until } = *entry;
            let owner = (link, duid, iaid);
            let reach = serve_until.after_lifetime(self.lifetimes(link).valid);
            let stored = self.stored_until(address, &owner);
            assert!(stored >= Some(reach), "the kernel reaches beyond the store: {entry:?}, {stored:?}");
            self.check_free(address, &owner);
        }
        for (index, link) in (0..LINKS).zip(self.engine.links()) {
            let counts = link.counts;
            let sum = counts.idle + u128::from(counts.used + counts.conflict) + counts.excluded;
            let size = addresses_of_link(&self.config.links[index as usize]);
            assert_eq!(sum, size, "every address of a link is in one list: {counts:?}");
            let listed = self.engine.addresses(index, None, 3);
            assert!(listed.len() <= 3 && listed.is_sorted_by_key(|view| view.address));
        }
    }

    fn link_index(&self, name: &str) -> u32 {
        (0..).zip(&self.config.links).find(|(_, link)| link.name == name).expect("a configured link").0
    }
}

struct LinkLifetimes {
    rapid_commit: bool,
    valid: u32,
}

fn index(second_link: &Rarely<()>) -> u32 {
    u32::from(second_link.0.is_some())
}

fn server() -> Duid {
    Duid::new(&SERVER).expect("1 to 130 octets")
}

/// How many addresses a link's pools have, and how many are reserved outside of them.
fn addresses_of_link(link: &LinkConfig) -> u128 {
    let size = |range: AddressRange| u128::from(range.last()) - u128::from(range.first()) + 1;
    let outside = link
        .reservations
        .iter()
        .filter(|reservation| link.pools.iter().all(|pool| !pool.range.contains(reservation.address)));
    link.pools.iter().map(|pool| size(pool.range)).sum::<u128>() + outside.count() as u128
}

fn client_of(message: &[u8]) -> Option<Duid> {
    Duid::new(decode(message)?.value(OptionCode::CLIENT_ID)?).ok()
}

/// The addresses that a Release or Decline names, where the server accepts it.
fn given_back(link: u32, message: &[u8], accepted: bool) -> Vec<(Ipv6Addr, Owner)> {
    let kinds = [MessageType::Release, MessageType::Decline].map(|kind| kind as u8);
    let Some(decoded) = decode(message).filter(|decoded| accepted && kinds.contains(&decoded.kind)) else {
        return Vec::new();
    };
    let Some(duid) = client_of(message) else { return Vec::new() };
    let mut given_back = Vec::new();
    for ia in decoded.distinct_ias(OptionCode::IA_NA) {
        given_back.extend(ia.addresses.iter().map(|(address, ..)| (*address, (link, duid, ia.iaid))));
    }
    given_back
}
