//! Random clients against the server, with the invariants of the design checked after every step.

use std::{
    collections::{BTreeMap, HashSet},
    fmt::Write as _,
};

use dhcp6_common::{
    Origin, Vlan,
    wire::{Duid, MessageType, OptionCode},
};
use proptest::prelude::*;

use super::{
    message::{Message, Reply, duid, on_link},
    server::{Crash, Outcome, Server, parse},
};
use crate::{
    config::{Config, VlanSet},
    engine::{KernelBinding, Owner, ResourceState, table::Client},
    lease::{Contents, LeaseState},
    pool::{IaKind, Prefix, Resource},
    time::Time,
};

const CLIENTS: u8 = 4;
const IAIDS: u32 = 2;
const POOL: std::ops::Range<u16> = 0x1000..0x1005;
/// Where frames come from: two VLANs, and two hosts in each. A client is at the first one, and elsewhere are others with
/// its DUID.
const PLACES: u8 = 4;
/// All that is ever delegated from: four prefixes of 56 bits.
const DELEGATED: (u32, u8) = (0x2001_0db8, 54);

/// What the operator may change while the server is down.
#[derive(Clone, Copy, Debug)]
struct Setting {
    /// `::1001` is reserved for nobody, for client 1, or for client 2; so is a prefix of 56 bits.
    reserved_for: u8,
    /// The length of the prefixes of the pool.
    delegated_length: u8,
    /// The name of the link: another one is another link to the store.
    name: &'static str,
    /// Whether the link spans several VLANs.
    spans_several: bool,
    bind_to_mac: bool,
}

impl Setting {
    const FIRST: Self = Self {
        reserved_for: 1,
        delegated_length: 56,
        name: "access0",
        spans_several: false,
        bind_to_mac: false,
    };

    fn config(self, infinite: bool) -> Config {
        let mut config = parse(&self.text(infinite));
        let link = &mut config.links[0];
        let vlans = VlanSet { outer: vec![100..=101], inner: Vec::new() };
        link.vlans = self.spans_several.then_some(vlans);
        link.bind_to_mac = self.bind_to_mac;
        config
    }

    fn text(self, infinite: bool) -> String {
        let Self { reserved_for, delegated_length, name, .. } = self;
        let lifetime = if infinite { "\"infinity\"" } else { "200" };
        let mut text = format!(
            "[fast_path]\nhorizon = 100\n[[link]]\nname = \"{name}\"\ninterface = \"eth1\"\n\
             prefix = \"2001:db8:1::/64\"\nrapid_commit = true\npreferred_lifetime = 100\n\
             valid_lifetime = {lifetime}\ndecline_hold = 150\ndecline_limit = 2\n\
             [[link.pool]]\nrange = \"2001:db8:1::1000-2001:db8:1::1004\"\n\
             [[link.prefix_pool]]\nprefix = \"2001:db8::/54\"\ndelegated_length = {delegated_length}\n"
        );
        if reserved_for != 0 {
            let owner = duid(reserved_for);
            write!(
                text,
                "[[link.reservation]]\nduid = \"{owner}\"\naddress = \"2001:db8:1::1001\"\n\
                 prefix = \"2001:db8:0:100::/56\"\n"
            )
            .expect("a String takes any text");
        }
        text
    }
}

fn setting() -> impl Strategy<Value = Setting> {
    let name = prop::sample::select(vec!["access0", "access0", "access1"]);
    let length = prop::sample::select(vec![55, 56, 56, 57]);
    let looks = (any::<bool>(), any::<bool>());
    (0..=2u8, length, name, looks).prop_map(
        |(reserved_for, delegated_length, name, (spans_several, bind_to_mac))| Setting {
            reserved_for,
            delegated_length,
            name,
            spans_several,
            bind_to_mac,
        },
    )
}

/// The client's own place for the most part.
fn place() -> impl Strategy<Value = u8> {
    prop_oneof![6 => Just(0), 1 => 1..PLACES]
}

/// A message as it comes from a place.
fn put_at(place: u8, message: Message) -> Message {
    let vlan = Vlan { outer: 100 + u16::from(place % 2), inner: 0 };
    message.in_vlan(vlan).with_mac([2, 0, 0, 0, 9, place / 2])
}

#[derive(Clone, Debug)]
enum Step {
    Round {
        messages: Vec<Sent>,
        fails: bool,
        crash: Option<Crash>,
    },
    /// The second is handled while the first is committed.
    TwoRounds {
        messages: [Vec<Sent>; 2],
        failures: [bool; 2],
        crash: Option<Crash>,
    },
    Pass {
        seconds: u64,
    },
    AskKernel {
        client: u8,
        place: u8,
        ias: Vec<IaName>,
    },
    Sweep {
        fails: bool,
    },
    Restart {
        setting: Setting,
    },
}

/// An identity association.
type IaName = (IaKind, u32);

/// Which resources a message names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Names {
    Nothing,
    /// Those that the client believes to have.
    Own,
    /// Those, too, that others with its DUID have.
    Claimed,
}

/// A client's message, in the model's terms.
#[derive(Clone, Debug)]
struct Sent {
    kind: MessageType,
    client: u8,
    /// Where it comes from.
    place: u8,
    ias: Vec<IaName>,
    names: Names,
    /// What it names besides.
    hint: Option<Resource>,
    rapid: bool,
    other_server: bool,
}

fn sent() -> impl Strategy<Value = Sent> {
    let kind = prop_oneof![
        3 => Just(MessageType::Solicit),
        3 => Just(MessageType::Request),
        3 => Just(MessageType::Renew),
        1 => Just(MessageType::Rebind),
        2 => Just(MessageType::Release),
        2 => Just(MessageType::Decline),
    ];
    let (na, pd) = (IaKind::Na, IaKind::Pd);
    let ias = prop_oneof![
        4 => Just(vec![(na, 1)]),
        1 => Just(vec![(na, 2)]),
        1 => Just(vec![(na, 1), (na, 2)]),
        2 => Just(vec![(pd, 1)]),
        2 => Just(vec![(na, 1), (pd, 1)]),
        1 => Just(vec![(pd, 1), (pd, 2)]),
    ];
    let hint =
        prop_oneof![POOL.prop_map(|host| Resource::from(on_link(host))), prefix().prop_map(Resource::from)];
    let hint = prop::option::weighted(0.4, hint);
    let names = prop_oneof![2 => Just(Names::Nothing), 6 => Just(Names::Own), 2 => Just(Names::Claimed)];
    let flags = (prop::bool::weighted(0.7), prop::bool::weighted(0.05));
    (kind, 1..=CLIENTS, place(), ias, names, hint, flags).prop_map(
        |(kind, client, place, ias, names, hint, (rapid, other_server))| Sent {
            kind,
            client,
            place,
            ias,
            names,
            hint,
            rapid,
            other_server,
        },
    )
}

/// What a client solicits of the kernel.
fn asked() -> impl Strategy<Value = Vec<IaName>> {
    let (na, pd) = (IaKind::Na, IaKind::Pd);
    prop_oneof![
        2 => (1..=IAIDS).prop_map(move |iaid| vec![(na, iaid)]),
        1 => (1..=IAIDS).prop_map(move |iaid| vec![(pd, iaid)]),
        2 => Just(vec![(na, 1), (pd, 1)]),
    ]
}

/// A prefix of the pool, or only its length.
fn prefix() -> impl Strategy<Value = Prefix> {
    let (first, length) = DELEGATED;
    (length..=58, any::<u16>(), prop::bool::weighted(0.3)).prop_map(move |(length, bits, open)| {
        let host = u32::from(bits & 0x3ff);
        let address = if open { 0 } else { u128::from(first) << 96 | u128::from(host) << 64 };
        Prefix::around(address.into(), length).expect("a length of a prefix")
    })
}

fn step() -> impl Strategy<Value = Step> {
    let crash = || {
        prop_oneof![
            30 => Just(None),
            1 => Just(Some(Crash::BeforeCommit)),
            1 => Just(Some(Crash::AfterCommit)),
        ]
    };
    let round = || prop::collection::vec(sent(), 1..4);
    prop_oneof![
        8 => (round(), prop::bool::weighted(0.2), crash())
            .prop_map(|(messages, fails, crash)| Step::Round { messages, fails, crash }),
        8 => (prop::array::uniform2(round()), prop::array::uniform2(prop::bool::weighted(0.2)), crash())
            .prop_map(|(messages, failures, crash)| Step::TwoRounds { messages, failures, crash }),
        4 => prop_oneof![Just(0u64), 1..60u64, 60..400u64].prop_map(|seconds| Step::Pass { seconds }),
        4 => (1..=CLIENTS, place(), asked())
            .prop_map(|(client, place, ias)| Step::AskKernel { client, place, ias }),
        3 => prop::bool::weighted(0.2).prop_map(|fails| Step::Sweep { fails }),
        1 => setting().prop_map(|setting| Step::Restart { setting }),
    ]
}

/// A client, where it is as far as the server looks at that, its IA, and what is in it.
type Promise = (u8, Origin, IaName, Resource);

/// Whether a client at `origin` may be the one that is known to be at `known`, as far as that goes.
fn may_be(origin: Origin, known: Origin) -> bool {
    (known.vlan == Vlan::NONE || known.vlan == origin.vlan)
        && (known.mac == Origin::ANY.mac || known.mac == origin.mac)
}

/// The server, and what its clients believe.
struct Model {
    server: Server,
    infinite: bool,
    setting: Setting,
    /// Until when each client may use each resource, by what it has been told.
    promises: BTreeMap<Promise, Time>,
}

impl Model {
    fn new(infinite: bool) -> Self {
        let setting = Setting::FIRST;
        let server = Server::start_as(setting.config(infinite));
        Self { server, infinite, setting, promises: BTreeMap::new() }
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Round { messages, fails, crash } => {
                let octets: Vec<_> = messages.iter().map(|sent| self.build(sent)).collect();
                let given_back = self.give_back(messages);
                self.server.store.fail_next(u32::from(*fails));
                let outcomes = self.server.round(&octets, *crash);
                self.server.store.fail_next(0);
                match outcomes {
                    Some(outcomes) => self.deliver(messages, &outcomes, &given_back),
                    None => self.revive(),
                }
            }
            Step::TwoRounds { messages: [first, second], failures, crash } => {
                let all = [first.as_slice(), second].concat();
                let octets: Vec<_> = all.iter().map(|sent| self.build(sent)).collect();
                let given_back = self.give_back(&all);
                let rounds = octets.split_at(first.len());
                match self.server.two_rounds(rounds.into(), *failures, *crash) {
                    Some(outcomes) => self.deliver(&all, &outcomes, &given_back),
                    None => self.revive(),
                }
            }
            Step::Pass { seconds } => self.server.advance(*seconds),
            Step::AskKernel { client, place, ias } => self.ask_kernel(*client, *place, ias),
            Step::Sweep { fails } => {
                self.server.store.fail_next(u32::from(*fails));
                self.server.sweep();
                self.server.store.fail_next(0);
            }
            Step::Restart { setting } => {
                self.setting = *setting;
                self.revive();
            }
        }
        let now = self.server.now;
        self.promises.retain(|_, until| *until > now);
        self.complete();
        self.check();
    }

    /// Whoever comes first with the rest of its name has what was promised when that was not looked at, once the store
    /// knows that.
    fn complete(&mut self) {
        let contents = self.server.store.contents();
        for ((client, known, ia, resource), until) in std::mem::take(&mut self.promises) {
            let link = &self.server.config.links[0];
            let row = contents.leases.iter().find(|lease| lease.resource == resource);
            let row = row.filter(|lease| {
                (&*lease.link, lease.duid, lease.iaid) == (link.name.as_str(), duid(client), ia.1)
            });
            let origin = row.map(|lease| link.origin_of(lease.origin.vlan, Some(lease.origin.mac)));
            let origin = origin.filter(|origin| may_be(*origin, known));
            self.note((client, origin.unwrap_or(known), ia, resource), until);
        }
    }

    fn note(&mut self, promise: Promise, until: Time) {
        let noted = self.promises.entry(promise).or_insert(until);
        *noted = until.max(*noted);
    }

    /// The kernel serves alone until the daemon is back.
    fn revive(&mut self) {
        for (client, place) in (1..=CLIENTS).flat_map(|client| (0..PLACES).map(move |place| (client, place)))
        {
            for kind in IaKind::ALL {
                self.ask_kernel(client, place, &[(kind, 1)]);
            }
        }
        let config = self.setting.config(self.infinite);
        for ((client, origin, ia, resource), until) in std::mem::take(&mut self.promises) {
            let origin = config.links[0].origin_of(origin.vlan, Some(origin.mac));
            self.note((client, origin, ia, resource), until);
        }
        self.server.restart_as(config);
    }

    /// Where a client at a place is, as far as the server looks at that.
    fn origin(&self, place: u8) -> Origin {
        let Message { vlan, mac, .. } = put_at(place, Message::bare(0));
        self.server.config.links[0].origin_of(vlan, Some(mac))
    }

    fn build(&self, sent: &Sent) -> Message {
        let server = if sent.other_server { &[0, 2, 9, 9][..] } else { &super::message::SERVER };
        let mut message =
            Message::bare(sent.kind as u8).option(OptionCode::CLIENT_ID, client(sent).as_slice());
        if !matches!(sent.kind, MessageType::Solicit | MessageType::Rebind) {
            message = message.option(OptionCode::SERVER_ID, server);
        }
        if sent.rapid && sent.kind == MessageType::Solicit {
            message = message.option(OptionCode::RAPID_COMMIT, &[]);
        }
        for ia in &sent.ias {
            message = message.ia(ia.0, ia.1, &self.named(sent, *ia));
        }
        put_at(sent.place, message)
    }

    /// What a message names in an IA.
    fn named(&self, sent: &Sent, ia: IaName) -> Vec<Resource> {
        let origin = self.origin(sent.place);
        let own = { self.promises.keys() }.filter(|(client, known, of, _)| {
            *client == sent.client && *of == ia && (sent.names == Names::Claimed || may_be(origin, *known))
        });
        let own = own.map(|(.., resource)| *resource).filter(|_| sent.names != Names::Nothing);
        sent.hint.filter(|hint| hint.kind() == ia.0).into_iter().chain(own).collect()
    }

    /// RFC 9915, sections 18.2.7 and 18.2.8: who releases or declines something stops using it at once. A prefix
    /// cannot be declined. Returns
    /// what each message gives back.
    fn give_back(&mut self, messages: &[Sent]) -> Vec<Vec<Promise>> {
        let is_end = |sent: &Sent| {
            matches!(sent.kind, MessageType::Release | MessageType::Decline) && !sent.other_server
        };
        let those_of = |sent: &Sent| {
            let ends =
                |ia: &&IaName| is_end(sent) && (sent.kind == MessageType::Release || ia.0 == IaKind::Na);
            let ias = sent.ias.iter().filter(ends);
            let origin = self.origin(sent.place);
            // It may be the one whose name was not known whole.
            let named = ias
                .flat_map(|ia| self.named(sent, *ia).into_iter().map(|named| (*ia, named)))
                .collect::<Vec<_>>();
            let promises = self.promises.keys().copied();
            let noted = promises.filter(|(client, known, ia, resource)| {
                *client == sent.client && may_be(origin, *known) && named.contains(&(*ia, *resource))
            });
            let own = named.iter().map(|(ia, resource)| (sent.client, origin, *ia, *resource));
            noted.chain(own).collect()
        };
        let given_back: Vec<Vec<Promise>> = messages.iter().map(those_of).collect();
        for promise in given_back.iter().flatten() {
            self.promises.remove(promise);
        }
        given_back
    }

    /// The replies of a round reach the clients.
    fn deliver(&mut self, messages: &[Sent], outcomes: &[Outcome], given_back: &[Vec<Promise>]) {
        for (index, (sent, outcome)) in messages.iter().zip(outcomes).enumerate() {
            let Ok(reply) = outcome else { continue };
            check_reply(sent, reply);
            if reply.kind == MessageType::Reply {
                self.hear(sent, reply, &given_back[index + 1..].concat());
            }
        }
    }

    /// A client takes up what a reply gives it, but for what it has given back meanwhile.
    fn hear(&mut self, sent: &Sent, reply: &Reply, given_back: &[Promise]) {
        let origin = self.origin(sent.place);
        for ia in reply.ias() {
            let starts_over = matches!(sent.kind, MessageType::Solicit | MessageType::Request);
            let name = (ia.kind(), ia.iaid);
            let leases = ia.leases();
            let is_own = |(client, known, of, _): &Promise| {
                (*client, *of) == (sent.client, name) && may_be(origin, *known)
            };
            if starts_over && !leases.is_empty() {
                self.promises.retain(|promise, _| !is_own(promise));
            }
            for (resource, _, valid) in leases {
                let promise = (sent.client, origin, name, resource);
                if valid == 0 {
                    self.promises.retain(|promise, _| !is_own(promise) || promise.3 != resource);
                } else if !given_back.contains(&promise) {
                    self.promises.insert(promise, self.server.now.after_lifetime(valid));
                }
            }
        }
    }

    fn ask_kernel(&mut self, client: u8, place: u8, ias: &[IaName]) {
        let from = put_at(place, Message::bare(0));
        let Some(entry) = self.server.ask_kernel_for(&duid(client), &from, ias) else { return };
        let valid = if self.infinite { u32::MAX } else { 200 };
        let until = self.server.now.after_lifetime(valid);
        for (iaid, resource) in parts(&entry) {
            let ia = (resource.kind(), iaid);
            if ias.contains(&ia) {
                let origin = entry.owner.origin;
                self.promises
                    .retain(|(other, known, of, _), _| (*other, *known, *of) != (client, origin, ia));
                self.promises.insert((client, origin, ia, resource), until);
            }
        }
    }

    fn check(&self) {
        let contents = self.server.store.contents();
        let promises: Vec<_> = self.promises.iter().collect();
        for (index, (promise, until)) in promises.iter().enumerate() {
            let (client, origin, ia, resource) = **promise;
            for (other, _) in &promises[..index] {
                assert!(
                    !other.3.range().overlaps(&resource.range()),
                    "one owner: {resource} is promised to client {client}, {origin:?}, {ia:?}, and {} to client {}, \
                     {:?}, {:?}",
                    other.3,
                    other.0,
                    other.1,
                    other.2
                );
            }
            let stored = stored_until(&contents, &duid(client), ia.1, resource);
            assert!(
                stored >= Some(**until),
                "durable before promised: client {client}, {ia:?}, {resource} until {until}, {stored:?}"
            );
        }
        for (owner, entry) in &self.server.kernel {
            let KernelBinding { owner: of, serve_until, .. } = *entry;
            assert_eq!(of, *owner);
            for (iaid, resource) in parts(entry) {
                let Owner { link, origin, duid } = of;
                let client = Client { link, origin, duid, kind: resource.kind(), iaid };
                assert_eq!(self.server.engine.table.bound(&client), Some(resource), "kernel forgets first");
                let valid = if self.infinite { u32::MAX } else { 200 };
                let reach = serve_until.after_lifetime(valid);
                let stored = stored_until(&contents, &duid, iaid, resource);
                assert!(stored >= Some(reach), "the kernel reaches beyond the store: {entry:?}, {stored:?}");
            }
        }
        self.check_lists();
    }

    fn check_lists(&self) {
        let view = self.server.engine.links().next().expect("a link");
        let prefixes = 1 << (self.setting.delegated_length - DELEGATED.1);
        for (kind, counts, size) in
            [(IaKind::Na, view.addresses, POOL.len() as u128), (IaKind::Pd, view.prefixes, prefixes)]
        {
            let listed = |state| self.server.engine.resources(0, kind, Some(state), usize::MAX).len() as u128;
            // A lease from the time of another pool is one too, and what a prefix keeps out of the pool is not listed.
            assert_eq!(counts.idle, listed(ResourceState::Idle), "idle {kind:?}");
            if kind == IaKind::Na {
                assert_eq!(u128::from(counts.used), listed(ResourceState::Used), "used");
                assert_eq!(u128::from(counts.conflict), listed(ResourceState::Conflict), "conflict");
                assert_eq!(counts.excluded, listed(ResourceState::Excluded), "excluded");
            }
            let sum = counts.idle + u128::from(counts.used + counts.conflict) + counts.excluded;
            if kind == IaKind::Na || self.setting.reserved_for == 0 || self.setting.delegated_length == 56 {
                assert_eq!(sum, size, "every {kind:?} is in one list");
            }
        }
    }
}

/// What the kernel grants by an entry, with IAIDs.
fn parts(entry: &KernelBinding) -> Vec<(u32, Resource)> {
    let address = entry.address.map(|(iaid, address)| (iaid, Resource::from(address)));
    let prefix = entry.prefix.map(|(iaid, prefix)| (iaid, Resource::from(prefix)));
    address.into_iter().chain(prefix).collect()
}

fn client(sent: &Sent) -> Duid {
    duid(sent.client)
}

/// Until when the store keeps a resource for a client, or at least from all others.
fn stored_until(contents: &Contents, duid: &Duid, iaid: u32, resource: Resource) -> Option<Time> {
    let mut leases = contents.leases.iter();
    let lease = leases.find(|lease| {
        lease.resource == resource
            && lease.duid == *duid
            && lease.iaid == iaid
            && lease.state == LeaseState::Bound
    });
    let mut conflicts = contents.conflicts.iter();
    let withheld = conflicts.find(|conflict| conflict.resource == resource && conflict.duid == *duid);
    lease.map(|lease| lease.expires_at).or(withheld.map(|conflict| conflict.until))
}

fn check_reply(sent: &Sent, reply: &Reply) {
    let mut answered = HashSet::new();
    let mut resources = HashSet::new();
    for ia in reply.ias() {
        let name = (ia.kind(), ia.iaid);
        assert!(sent.ias.contains(&name), "matrix row O-7: {ia:?} was not asked for");
        assert!(answered.insert(name), "matrix row O-7: {ia:?} is there twice");
        for (resource, preferred, valid) in ia.leases().iter().filter(|(_, _, valid)| *valid > 0) {
            assert_eq!(resource.kind(), ia.kind(), "matrix row O-8");
            assert!(preferred <= valid, "matrix row R-14");
            assert!(ia.status.is_empty(), "matrix row O-6");
            assert!(resources.insert(*resource), "matrix row U-13: {resource} is in two IAs");
        }
        if sent.kind != MessageType::Release && sent.kind != MessageType::Decline {
            assert_eq!((ia.t1, ia.t2), (50, 80), "matrix rows R-6, N-8: the same in all");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_invariants_hold_whatever_happens(
        infinite in prop::bool::weighted(0.2),
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let mut model = Model::new(infinite);
        for step in &steps {
            model.take(step);
        }
    }
}
