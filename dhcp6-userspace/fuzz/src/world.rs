//! The engine among its daemon, its store, the kernel and its clients, with the invariants of the design.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::Ipv6Addr,
};

use dhcp6_common::{
    Origin, Vlan,
    wire::{Duid, MessageType, OptionCode},
};
use dhcp6_userspace::{
    config::{ClientKey, Config, LinkConfig},
    engine::{self, Answer, Arrival, Engine, KernelBinding, ResourceState, ResourceView},
    lease::{Change, Contents, LeaseState, MemoryStore, Store, StoreError},
    pool::{AddressRange, IaKind, PoolCounts, Resource},
    time::Time,
};

use crate::{
    message::{Rarely, SERVER, Sent},
    relay,
    reply::{self, Checked},
    scenario::{Asked, Delivery, Fate, Mac, Named, Place, Scenario, Step, Wait},
    setting::{self, MAC, PLACES, Setting},
    wire::{Ia, Lease, decode},
};

/// When every scenario begins, in milliseconds since 1970.
const BEGINNING: u64 = 1_700_000_000_000;
/// Octets of a UDP payload at most: a longer answer cannot leave.
const LONGEST_DATAGRAM: usize = 65_527;

/// An IA of a client on the link with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Owner {
    link: &'static str,
    duid: Duid,
    kind: IaKind,
    iaid: u32,
}

/// What a client has, or gives back.
type Holding = (Resource, Owner);

struct World {
    config: Config,
    seed: u64,
    engine: Engine,
    store: MemoryStore,
    now: Time,
    /// The kernel's maps.
    kernel: HashMap<engine::Owner, KernelBinding>,
    /// Until when each client may use what it has, by what it has been told.
    promises: BTreeMap<Holding, Time>,
    /// Until when nobody may be given an address that a client found in use.
    declined: BTreeMap<Ipv6Addr, Time>,
    last_sent: Vec<u8>,
}

/// A message of a round, what the engine says to it, and what the client gives up with it.
struct Exchange {
    /// Index of the client's link; `None` where nobody can know, and nothing is answered.
    link: Option<u32>,
    mac: Option<[u8; 6]>,
    question: Vec<u8>,
    answer: Option<Answer>,
    /// Whether the answer does not reach the client.
    lost: bool,
    given_back: Vec<Holding>,
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
                let arrivals = [&first].into_iter().chain(more).map(Box::as_ref);
                let exchanges: Vec<_> = arrivals.map(|delivery| self.handle(delivery)).collect();
                self.finish_round(&exchanges, fate);
            }
            Step::Expire { fate: Rarely(fate) } => {
                self.engine.expire(self.now, 2);
                self.finish_round(&[], fate);
            }
            Step::Wait(Wait(duration)) => {
                self.now = self.now.after(duration);
                let now = self.now;
                self.promises.retain(|_, until| *until > now);
                self.declined.retain(|_, until| *until > now);
            }
            Step::AskKernel { place, client, asked, iaid } => {
                if let Some(link) = self.link_at(place) {
                    let client = engine::Owner { link, origin: Origin::ANY, duid: client.duid() };
                    let kinds: &[IaKind] = match asked {
                        Asked::Address => &[IaKind::Na],
                        Asked::Prefix => &[IaKind::Pd],
                        Asked::Both => &IaKind::ALL,
                    };
                    self.ask_kernel(
                        &client,
                        &kinds.iter().map(|kind| (*kind, iaid.number())).collect::<Vec<_>>(),
                    );
                }
            }
            Step::GiveBack { net, what, leased, fate: Rarely(fate) } => {
                self.give_back(net, what, leased);
                self.finish_round(&[], fate);
            }
            Step::Restart { setting } => {
                self.restart(setting.map_or_else(|| self.config.clone(), |setting| setting.config()));
            }
        }
    }

    /// A message reaches the engine.
    fn handle(&mut self, delivery: &Delivery) -> Exchange {
        let Delivery { place, mac, unicast, lost, sent, relays } = delivery;
        let receiving = self.link_at(*place);
        let mut question = match sent {
            Sent::Message(message) => {
                let link =
                    receiving.or_else(|| self.config.links.len().checked_sub(1).map(|last| last as u32));
                message.octets(place.0, |client, kind, iaid| {
                    let owner = |link| Owner { link: self.name(link), duid: client.duid(), kind, iaid };
                    link.map(|link| self.resources_of(&owner(link))).unwrap_or_default()
                })
            }
            Sent::Again => self.last_sent.clone(),
            Sent::Octets(octets) => octets.clone(),
        };
        for relay in relays.iter().filter_map(|Rarely(relay)| relay.as_ref()) {
            question = relay.wrap(question);
        }
        self.last_sent.clone_from(&question);
        let bound = self.bound();
        let mac = mac.map(|mac| match mac {
            Mac::Known => MAC,
            Mac::Other => [2, 0, 0, 0, 0, 2],
        });
        let arrival = Arrival { link: receiving, vlan: Vlan::NONE, mac, multicast: unicast.0.is_none() };
        let answer = self.engine.handle(self.now, arrival, &question).ok();
        let opened = relay::open(&question);
        assert!(opened.is_some() || answer.is_none(), "matrix rows Y-2, Y-7 and Y-16: answered");
        let link = opened.as_ref().and_then(|(hops, _)| relay::link(hops, receiving, &self.config));
        assert!(link.is_some() || answer.is_none(), "matrix rows Y-9 and Y-10: answered on no link");
        let message = opened.map_or(&[][..], |(_, message)| message);
        let accepted = link.filter(|_| answer.is_some());
        let given_back = accepted.map(|link| given_back(self.name(link), message)).unwrap_or_default();
        for holding in &given_back {
            // RFC 9915, sections 18.2.7 and 18.2.8: the client stops using it as it sends the message.
            self.promises.remove(holding);
        }
        let is_decline = message.first() == Some(&(MessageType::Decline as u8));
        let declined = given_back.iter().filter(|given| is_decline && bound.contains(given));
        Exchange {
            link,
            mac,
            declined: declined.filter_map(|(resource, _)| resource.address()).collect(),
            question,
            answer,
            lost: lost.0.is_some(),
            given_back,
        }
    }

    /// An operator says that nobody uses something.
    fn give_back(&mut self, net: u8, what: Named, leased: bool) {
        let resource = match what {
            Named::Listed(number) => {
                let state = if leased { ResourceState::Used } else { ResourceState::Conflict };
                let links = 0..self.config.links.len() as u32;
                let kinds = links.flat_map(|link| IaKind::ALL.map(|kind| (link, kind)));
                let listed: Vec<ResourceView> = kinds
                    .flat_map(|(link, kind)| self.engine.resources(link, kind, Some(state), 100))
                    .collect();
                let Some(index) = usize::from(number).checked_rem(listed.len()) else { return };
                listed[index].resource
            }
            Named::Address(index) => setting::address(net % PLACES, index).into(),
            Named::Prefix(prefix) => prefix.of(net % PLACES).into(),
        };
        let known =
            if leased { self.engine.release_lease(resource) } else { self.engine.clear_conflict(resource) };
        if known {
            self.declined.retain(|address, _| Resource::Address(*address) != resource);
            self.promises.retain(|(promised, _), _| *promised != resource);
        }
    }

    /// The end of a round, in the order that the engine's documentation prescribes.
    fn finish_round(&mut self, exchanges: &[Exchange], fate: Option<Fate>) {
        let forgotten = self.engine.take_forgotten();
        for client in &forgotten {
            self.kernel.remove(client);
        }
        let now = self.now;
        let left: Vec<_> =
            { forgotten.iter() }.filter_map(|client| self.engine.kernel_binding_of(now, client)).collect();
        self.serve(left);
        let changes = self.engine.take_changes();
        let cleared = cleared(&changes);
        self.clear(exchanges, &cleared);
        if fate == Some(Fate::CrashBeforeCommit) {
            return self.restart(self.config.clone());
        }
        self.store.fail_next(u32::from(fate == Some(Fate::CommitFails)));
        let committed = changes.is_empty() || self.commit(&changes);
        self.store.fail_next(0);
        if fate == Some(Fate::CrashAfterCommit) {
            return self.restart(self.config.clone());
        }
        if committed {
            let served = self.engine.committed(self.now, &changes);
            self.serve(served);
        }
        for (index, exchange) in exchanges.iter().enumerate() {
            if let Some(answer) = exchange.answer.as_ref().filter(|answer| committed || !answer.needs_commit)
            {
                let later = exchanges[index + 1..].iter().flat_map(|later| later.given_back.iter().copied());
                self.deliver(exchange, answer, &later.collect::<Vec<_>>());
                // What was declined in this round may be assignable again by its end.
                self.declined.retain(|address, _| !cleared.contains(&Resource::Address(*address)));
            }
        }
    }

    /// What was declined comes back before its time only where there are too many of its kind: for each further
    /// Decline, one of that client and one of the link.
    fn clear(&mut self, exchanges: &[Exchange], cleared: &HashSet<Resource>) {
        let before = self.declined.len();
        self.declined.retain(|address, _| !cleared.contains(&Resource::Address(*address)));
        let declines: usize = exchanges.iter().map(|exchange| exchange.declined.len()).sum();
        assert!(before - self.declined.len() <= 2 * declines, "declined addresses came back: {cleared:?}");
    }

    fn commit(&mut self, changes: &[Change]) -> bool {
        match self.store.commit(changes) {
            Ok(()) => true,
            Err(StoreError::Injected) => false,
            Err(other) => panic!("the engine stores what it could not load: {other}"),
        }
    }

    /// An answer leaves, and the client takes up what it says if it hears it, but for what it has `given_back`
    /// meanwhile.
    fn deliver(&mut self, exchange: &Exchange, answer: &Answer, given_back: &[Holding]) {
        let Exchange { link: Some(link), mac, question, lost, declined, .. } = exchange else { return };
        if answer.message.len() > LONGEST_DATAGRAM {
            return;
        }
        let Checked { kind, ias } = reply::check(question, answer, &self.config, *link, *mac);
        let Some((_, question)) = relay::open(question) else { return };
        for address in declined {
            let until = self.now.after(self.config.links[*link as usize].decline_hold);
            self.declined.insert(*address, until);
        }
        let Some(duid) = client_of(question).filter(|_| !lost) else { return };
        let beginnings = [MessageType::Solicit, MessageType::Request].map(|kind| kind as u8);
        let starts_over = beginnings.contains(&question[0]);
        let link = self.name(*link);
        for Ia { kind: ia_kind, iaid, leases, .. } in ias {
            let owner = Owner { link, duid, kind: ia_kind, iaid };
            if kind == MessageType::Advertise {
                for lease in leases {
                    self.check_free(lease.resource, &owner);
                }
                continue;
            }
            if starts_over && !leases.is_empty() {
                self.promises.retain(|(_, other), _| *other != owner);
            }
            for Lease { resource, valid, .. } in leases {
                if valid == 0 {
                    self.promises.remove(&(resource, owner));
                } else if !given_back.contains(&(resource, owner)) {
                    self.promise(resource, owner, valid);
                }
            }
        }
    }

    /// A client is told that it may use something for `valid` seconds.
    fn promise(&mut self, resource: Resource, owner: Owner, valid: u32) {
        let until = self.now.after_lifetime(valid);
        self.check_free(resource, &owner);
        self.promises.insert((resource, owner), until);
        let stored = Stored(self.store.contents()).until(resource, &owner);
        assert!(
            stored >= Some(until),
            "durable before promised: {resource} until {until} to {owner:?}, but the store says {stored:?}"
        );
    }

    /// One owner: nobody else was promised any address of it, and nobody has found one in use.
    fn check_free(&self, resource: Resource, owner: &Owner) {
        let range = resource.range();
        let current = self.promises.iter().filter(|(_, until)| **until > self.now);
        for ((promised, other), until) in
            current.filter(|((promised, _), _)| promised.range().overlaps(&range))
        {
            assert_eq!(other, owner, "one owner: {promised} is still promised until {until}, for {resource}");
        }
        for (address, until) in &self.declined {
            assert!(
                !range.contains(*address) || *until <= self.now,
                "matrix row X-1: {address} was declined until {until}, and is given to {owner:?}"
            );
        }
    }

    fn resources_of(&self, owner: &Owner) -> Vec<Resource> {
        { self.promises.keys() }.filter(|(_, other)| other == owner).map(|(resource, _)| *resource).collect()
    }

    /// The kernel answers a Solicit with Rapid Commit for these IAs, as far as it knows the client.
    fn ask_kernel(&mut self, client: &engine::Owner, ias: &[(IaKind, u32)]) {
        let Some(entry) = self.kernel.get(client).copied() else { return };
        let LinkLifetimes { rapid_commit, valid } = self.lifetimes(client.link);
        let held = self.held_by(&entry);
        let is_held = |ia: &(IaKind, u32)| held.iter().any(|(_, of)| (of.kind, of.iaid) == *ia);
        if !ias.iter().all(is_held) || self.now > entry.serve_until || !rapid_commit {
            return;
        }
        for (resource, owner) in held.into_iter().filter(|(_, of)| ias.contains(&(of.kind, of.iaid))) {
            self.promises.retain(|(_, other), _| *other != owner);
            self.promise(resource, owner, valid);
        }
    }

    /// What the kernel grants by an entry.
    fn held_by(&self, entry: &KernelBinding) -> Vec<Holding> {
        let KernelBinding { owner: engine::Owner { link, origin: _, duid }, address, prefix, .. } = *entry;
        let address = address.map(|(iaid, address)| (iaid, Resource::from(address)));
        let prefix = prefix.map(|(iaid, prefix)| (iaid, Resource::from(prefix)));
        let owner = |kind, iaid| Owner { link: self.name(link), duid, kind, iaid };
        let held = address.into_iter().chain(prefix);
        held.map(|(iaid, resource)| (resource, owner(resource.kind(), iaid))).collect()
    }

    fn lifetimes(&self, link: u32) -> LinkLifetimes {
        let link = &self.config.links[link as usize];
        LinkLifetimes { rapid_commit: link.rapid_commit, valid: link.lifetimes.valid }
    }

    fn serve(&mut self, served: impl IntoIterator<Item = KernelBinding>) {
        for binding in served {
            self.kernel.insert(binding.owner, binding);
        }
    }

    /// The daemon ends without a word, and another one takes up what the store holds. In between the kernel
    /// serves alone.
    fn restart(&mut self, config: Config) {
        let mut entries: Vec<_> = self.kernel.values().copied().collect();
        entries.sort_by_key(|entry| entry.owner);
        for entry in entries {
            let held = self.held_by(&entry).into_iter();
            let ias: Vec<_> = held.map(|(_, of)| (of.kind, of.iaid)).collect();
            self.ask_kernel(&entry.owner, &ias);
        }
        self.seed = self.seed.wrapping_add(1);
        let contents = self.store.load().expect("a memory store can be read");
        self.engine = Engine::new(&config, server(), contents, self.now, self.seed);
        self.config = config;
        self.kernel.clear();
        let served: Vec<_> = self.engine.kernel_bindings(self.now).collect();
        let owners: HashSet<_> = served.iter().map(|binding| binding.owner).collect();
        assert_eq!(owners.len(), served.len(), "each client once: {served:?}");
        self.serve(served);
    }

    /// What holds after every step, whoever asks next.
    fn check(&self) {
        let stored = Stored(self.store.contents());
        for ((resource, owner), until) in self.promises.iter().filter(|(_, until)| **until > self.now) {
            let stored = stored.until(*resource, owner);
            assert!(stored >= Some(*until), "{resource} until {until} for {owner:?}, and stored {stored:?}");
        }
        let bound: HashSet<Holding> = self.bound().into_iter().collect();
        for (client, entry) in &self.kernel {
            let KernelBinding { owner: engine::Owner { link, duid, .. }, serve_until, .. } = *entry;
            assert_eq!(entry.owner, *client);
            let held = self.held_by(entry);
            assert!(!held.is_empty(), "the kernel has nothing to grant: {entry:?}");
            let config = &self.config.links[link as usize];
            for (resource, owner) in held {
                assert!(bound.contains(&(resource, owner)), "kernel forgets first: {entry:?}");
                reply::check_assignable(config, &[ClientKey::Duid(duid)], owner.iaid, resource);
                assert!(
                    resource.kind() == IaKind::Na || resource.length() <= 64,
                    "not for the kernel: {entry:?}"
                );
                if serve_until < self.now {
                    continue;
                }
                let reach = serve_until.after_lifetime(self.lifetimes(link).valid);
                let stored = stored.until(resource, &owner);
                assert!(stored >= Some(reach), "the kernel reaches beyond the store: {entry:?}, {stored:?}");
                self.check_free(resource, &owner);
            }
        }
        assert_eq!(self.engine.links().count(), self.config.links.len());
        for (index, view) in (0..).zip(self.engine.links()) {
            for (kind, counts) in [(IaKind::Na, view.addresses), (IaKind::Pd, view.prefixes)] {
                self.check_lists(index, kind, counts);
            }
        }
    }

    /// What the engine says is leased to whom.
    fn bound(&self) -> Vec<Holding> {
        { self.engine.leases().into_iter() }
            .filter(|lease| lease.state == LeaseState::Bound)
            .map(|lease| {
                let (duid, kind, iaid) = (lease.duid, lease.resource.kind(), lease.iaid);
                (lease.resource, Owner { link: setting::name(lease.link), duid, kind, iaid })
            })
            .collect()
    }

    /// Everything of a link is in one of the four lists, which are as long as they are said to be.
    fn check_lists(&self, index: u32, kind: IaKind, counts: PoolCounts) {
        let link = &self.config.links[index as usize];
        let list = |state| self.engine.resources(index, kind, Some(state), usize::MAX);
        let [idle, used, conflict] =
            [ResourceState::Idle, ResourceState::Used, ResourceState::Conflict].map(list);
        for listed in [&used, &conflict] {
            assert!(listed.is_sorted_by(|one, next| one.resource < next.resource), "{listed:?}");
        }
        let sum = counts.idle + u128::from(counts.used + counts.conflict) + counts.excluded;
        let held: HashSet<Resource> = used.iter().chain(&conflict).map(|view| view.resource).collect();
        assert_eq!(
            held.len(),
            used.len() + conflict.len(),
            "leased, and in conflict: {used:?}, {conflict:?}"
        );
        assert_eq!(sum, size_of_link(link, kind, &held), "every one is in one list: {kind:?}, {counts:?}");
        assert_eq!(counts.idle, idle.len() as u128, "{kind:?}, {counts:?}");
        // What an earlier configuration has left is in the lists too.
        let within = |listed: &[ResourceView]| {
            listed.iter().filter(|view| belongs_to(link, view.resource)).count() as u64
        };
        assert_eq!(
            (counts.used, counts.conflict),
            (within(&used), within(&conflict)),
            "{kind:?}, {counts:?}"
        );
        let limited = self.engine.resources(index, kind, None, 3);
        assert!(limited.len() <= 3 && limited.is_sorted_by_key(|view| view.resource));
    }

    /// The index of the link at a place.
    fn link_at(&self, place: Place) -> Option<u32> {
        let interface = setting::interface(place.0)?;
        let of = |link: &LinkConfig| link.interface.as_ref() == Some(&interface);
        self.config.links.iter().position(of).map(|index| index as u32)
    }

    fn name(&self, link: u32) -> &'static str {
        setting::name(&self.config.links[link as usize].name)
    }
}

/// What the store holds.
struct Stored(Contents);

impl Stored {
    /// Until when something is kept for a client, or at least from everybody else.
    fn until(&self, resource: Resource, owner: &Owner) -> Option<Time> {
        let Owner { link, duid, kind: _, iaid } = owner;
        let Contents { leases, conflicts } = &self.0;
        let bound = leases.iter().find(|lease| {
            lease.state == LeaseState::Bound
                && (lease.resource, lease.link.as_ref(), &lease.duid, lease.iaid)
                    == (resource, *link, duid, *iaid)
        });
        let withheld = conflicts.iter().find(|conflict| {
            (conflict.resource, conflict.link.as_ref(), &conflict.duid) == (resource, *link, duid)
        });
        bound.map(|lease| lease.expires_at).max(withheld.map(|conflict| conflict.until))
    }
}

struct LinkLifetimes {
    rapid_commit: bool,
    valid: u32,
}

fn server() -> Duid {
    Duid::new(&SERVER).expect("1 to 130 octets")
}

/// What is in conflict no more.
fn cleared(changes: &[Change]) -> HashSet<Resource> {
    let mut cleared = HashSet::new();
    for change in changes {
        match change {
            Change::RemoveConflict(resource) => _ = cleared.insert(*resource),
            Change::PutConflict(conflict) => _ = cleared.remove(&conflict.resource),
            Change::PutLease(_) | Change::RemoveLease(_) | Change::PutClock(_) | Change::PutServerDuid(_) => {
            }
        }
    }
    cleared
}

/// The ranges of a link's pools of one kind, each with the length of what it assigns and what is excluded.
fn pools(link: &LinkConfig, kind: IaKind) -> Vec<(AddressRange, u8, &[AddressRange])> {
    match kind {
        IaKind::Na => link.pools.iter().map(|pool| (pool.range, 128, pool.exclude.as_slice())).collect(),
        IaKind::Pd => {
            let pools = link.prefix_pools.iter();
            pools.map(|pool| (pool.prefix.range(), pool.delegated_length, pool.exclude.as_slice())).collect()
        }
    }
}

/// What a link reserves, of one kind.
fn reserved(link: &LinkConfig, kind: IaKind) -> impl Iterator<Item = Resource> {
    link.reservations.iter().filter_map(move |reservation| match kind {
        IaKind::Na => reservation.address.map(Resource::from),
        IaKind::Pd => reservation.prefix.map(Resource::from),
    })
}

/// How many addresses or prefixes a link's pools have, and how many are reserved that no pool counts: outside of
/// all, or, while they are `held`, prefixes of another length.
fn size_of_link(link: &LinkConfig, kind: IaKind, held: &HashSet<Resource>) -> u128 {
    let pools = pools(link, kind);
    let size = |(range, length, _): &(AddressRange, u8, _)| {
        let number = |address: Ipv6Addr| u128::from(address) >> (128 - length);
        number(range.last()) - number(range.first()) + 1
    };
    let is_uncounted = |resource: &Resource| {
        let pool = pools.iter().find(|(range, ..)| range.covers(&resource.range()));
        pool.is_none_or(|(_, length, _)| *length != resource.length() && held.contains(resource))
    };
    pools.iter().map(size).sum::<u128>() + reserved(link, kind).filter(is_uncounted).count() as u128
}

/// Whether a link can assign a resource, to whomever.
fn belongs_to(link: &LinkConfig, resource: Resource) -> bool {
    let kind = resource.kind();
    let range = resource.range();
    let apart = |other: &AddressRange| !other.overlaps(&range);
    reserved(link, kind).any(|reserved| reserved == resource)
        || pools(link, kind).iter().any(|(pool, length, exclude)| {
            pool.covers(&range)
                && *length == resource.length()
                && exclude.iter().all(apart)
                && reserved(link, kind).all(|reserved| apart(&reserved.range()))
        })
}

fn client_of(message: &[u8]) -> Option<Duid> {
    Duid::new(decode(message)?.value(OptionCode::CLIENT_ID)?).ok()
}

/// What a Release or Decline that the server accepts names.
fn given_back(link: &'static str, message: &[u8]) -> Vec<Holding> {
    let Some(decoded) = decode(message) else { return Vec::new() };
    let kinds = match decoded.kind {
        kind if kind == MessageType::Release as u8 => &IaKind::ALL[..],
        // Prefixes cannot be declined.
        kind if kind == MessageType::Decline as u8 => &[IaKind::Na],
        _ => return Vec::new(),
    };
    let Some(duid) = client_of(message) else { return Vec::new() };
    let ias = decoded.distinct_ias().into_iter().filter(|ia| kinds.contains(&ia.kind));
    let holdings = ias.flat_map(|ia| {
        let owner = Owner { link, duid, kind: ia.kind, iaid: ia.iaid };
        ia.leases.into_iter().map(move |lease| (lease.resource, owner))
    });
    holdings.collect()
}
