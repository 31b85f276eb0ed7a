//! Random clients against the server, with the invariants of the design checked after every step.

use std::{
    collections::{BTreeMap, HashSet},
    fmt::Write as _,
    net::Ipv6Addr,
};

use dhcp6_common::wire::{Duid, MessageType, OptionCode};
use proptest::prelude::*;

use super::{
    message::{Message, Reply, duid, on_link},
    server::{Crash, Outcome, Server},
};
use crate::{
    engine::{AddressState, table::Client},
    lease::{Contents, LeaseState},
    time::Time,
};

const CLIENTS: u8 = 4;
const IAIDS: u32 = 2;
const POOL: std::ops::Range<u16> = 0x1000..0x1005;

/// Finite and infinite lifetimes; `::1001` reserved for nobody, for client 1, or for client 2.
fn config(infinite: bool, reserved_for: u8) -> String {
    let lifetime = if infinite { "\"infinity\"" } else { "200" };
    let mut text = format!(
        "[fast_path]\nhorizon = 100\n[[link]]\nname = \"access0\"\ninterface = \"eth1\"\n\
         prefix = \"2001:db8:1::/64\"\nrapid_commit = true\npreferred_lifetime = 100\n\
         valid_lifetime = {lifetime}\ndecline_hold = 150\n\
         [[link.pool]]\nrange = \"2001:db8:1::1000-2001:db8:1::1004\"\n"
    );
    if reserved_for != 0 {
        let owner = duid(reserved_for);
        write!(text, "[[link.reservation]]\nduid = \"{owner}\"\naddress = \"2001:db8:1::1001\"\n")
            .expect("a String takes any text");
    }
    text
}

#[derive(Clone, Debug)]
enum Step {
    Round { messages: Vec<Sent>, fails: bool, crash: Option<Crash> },
    Pass { seconds: u64 },
    AskKernel { client: u8, iaid: u32 },
    Restart { reserved_for: u8 },
}

/// A client's message, in the model's terms.
#[derive(Clone, Debug)]
struct Sent {
    kind: MessageType,
    client: u8,
    iaids: Vec<u32>,
    /// Whether it names the addresses that the client believes to have.
    own: bool,
    /// An address that it names besides.
    hint: Option<u16>,
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
    let iaids = prop_oneof![4 => Just(vec![1]), 1 => Just(vec![2]), 1 => Just(vec![1, 2])];
    let hint = prop::option::weighted(0.4, POOL);
    let flags = (prop::bool::weighted(0.8), prop::bool::weighted(0.7), prop::bool::weighted(0.05));
    (kind, 1..=CLIENTS, iaids, hint, flags).prop_map(
        |(kind, client, iaids, hint, (own, rapid, other_server))| Sent {
            kind,
            client,
            iaids,
            own,
            hint,
            rapid,
            other_server,
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let crash = prop_oneof![
        30 => Just(None),
        1 => Just(Some(Crash::BeforeCommit)),
        1 => Just(Some(Crash::AfterCommit)),
    ];
    prop_oneof![
        12 => (prop::collection::vec(sent(), 1..4), prop::bool::weighted(0.2), crash)
            .prop_map(|(messages, fails, crash)| Step::Round { messages, fails, crash }),
        4 => prop_oneof![Just(0u64), 1..60u64, 60..400u64].prop_map(|seconds| Step::Pass { seconds }),
        4 => (1..=CLIENTS, 1..=IAIDS).prop_map(|(client, iaid)| Step::AskKernel { client, iaid }),
        1 => (0..=2u8).prop_map(|reserved_for| Step::Restart { reserved_for }),
    ]
}

/// The server, and what its clients believe.
struct Model {
    server: Server,
    infinite: bool,
    reserved_for: u8,
    /// Until when each client may use each address, by what it has been told.
    promises: BTreeMap<(u8, u32, Ipv6Addr), Time>,
}

impl Model {
    fn new(infinite: bool) -> Self {
        let reserved_for = 1;
        let server = Server::start(&config(infinite, reserved_for));
        Self { server, infinite, reserved_for, promises: BTreeMap::new() }
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
            Step::Pass { seconds } => self.server.advance(*seconds),
            Step::AskKernel { client, iaid } => self.ask_kernel(*client, *iaid),
            Step::Restart { reserved_for } => {
                self.reserved_for = *reserved_for;
                self.revive();
            }
        }
        let now = self.server.now;
        self.promises.retain(|_, until| *until > now);
        self.check();
    }

    /// The kernel serves alone until the daemon is back.
    fn revive(&mut self) {
        for client in 1..=CLIENTS {
            self.ask_kernel(client, 1);
        }
        self.server.restart_with(&config(self.infinite, self.reserved_for));
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
        for iaid in &sent.iaids {
            message = message.ia_na(*iaid, &self.named(sent, *iaid));
        }
        message
    }

    /// The addresses that a message names in an IA.
    fn named(&self, sent: &Sent, iaid: u32) -> Vec<Ipv6Addr> {
        let own = self.promises.keys().filter(|(client, of, _)| *client == sent.client && *of == iaid);
        let own = own.map(|(_, _, address)| *address).filter(|_| sent.own);
        sent.hint.map(on_link).into_iter().chain(own).collect()
    }

    /// RFC 9915, sections 18.2.7 and 18.2.8: who releases or declines an address stops using it at once. Returns
    /// what each message gives back.
    fn give_back(&mut self, messages: &[Sent]) -> Vec<Vec<(u8, u32, Ipv6Addr)>> {
        let is_end = |sent: &Sent| {
            matches!(sent.kind, MessageType::Release | MessageType::Decline) && !sent.other_server
        };
        let those_of = |sent: &Sent| {
            let iaids = sent.iaids.iter().filter(|_| is_end(sent));
            iaids
                .flat_map(|iaid| self.named(sent, *iaid).into_iter().map(|a| (sent.client, *iaid, a)))
                .collect()
        };
        let given_back: Vec<Vec<_>> = messages.iter().map(those_of).collect();
        for promise in given_back.iter().flatten() {
            self.promises.remove(promise);
        }
        given_back
    }

    /// The replies of a round reach the clients.
    fn deliver(&mut self, messages: &[Sent], outcomes: &[Outcome], given_back: &[Vec<(u8, u32, Ipv6Addr)>]) {
        for (index, (sent, outcome)) in messages.iter().zip(outcomes).enumerate() {
            let Ok(reply) = outcome else { continue };
            check_reply(sent, reply);
            if reply.kind == MessageType::Reply {
                self.hear(sent, reply, &given_back[index + 1..].concat());
            }
        }
    }

    /// A client takes up what a reply gives it, but for what it has given back meanwhile.
    fn hear(&mut self, sent: &Sent, reply: &Reply, given_back: &[(u8, u32, Ipv6Addr)]) {
        for ia in reply.ias() {
            let starts_over = matches!(sent.kind, MessageType::Solicit | MessageType::Request);
            if starts_over && !ia.addresses.is_empty() {
                self.promises.retain(|(client, iaid, _), _| (*client, *iaid) != (sent.client, ia.iaid));
            }
            for (address, _, valid) in ia.addresses {
                let promise = (sent.client, ia.iaid, address);
                if valid == 0 {
                    self.promises.remove(&promise);
                } else if !given_back.contains(&promise) {
                    self.promises.insert(promise, self.server.now.after_lifetime(valid));
                }
            }
        }
    }

    fn ask_kernel(&mut self, client: u8, iaid: u32) {
        let Some(entry) = self.server.ask_kernel(&duid(client), iaid) else { return };
        let valid = if self.infinite { u32::MAX } else { 200 };
        self.promises.retain(|(other, of, _), _| (*other, *of) != (client, iaid));
        self.promises.insert((client, iaid, entry.address), self.server.now.after_lifetime(valid));
    }

    fn check(&self) {
        let contents = self.server.store.contents();
        let mut owners = BTreeMap::new();
        for (&(client, iaid, address), &until) in &self.promises {
            if let Some(other) = owners.insert(address, (client, iaid)) {
                panic!("one owner: {address} is promised to {other:?} and to {:?}", (client, iaid));
            }
            let stored = stored_until(&contents, &duid(client), iaid, address);
            assert!(
                stored >= Some(until),
                "durable before promised: client {client}, IAID {iaid}, {address} until {until}, {stored:?}"
            );
        }
        for ((link, duid), entry) in &self.server.kernel {
            let client = Client { link: *link, duid: *duid, iaid: entry.iaid };
            assert_eq!(self.server.engine.table.bound(&client), Some(entry.address), "kernel forgets first");
            let valid = if self.infinite { u32::MAX } else { 200 };
            let reach = entry.serve_until.after_lifetime(valid);
            let stored = stored_until(&contents, duid, entry.iaid, entry.address);
            assert!(stored >= Some(reach), "the kernel reaches beyond the store: {entry:?}, {stored:?}");
        }
        self.check_lists();
    }

    fn check_lists(&self) {
        let counts = self.server.engine.links().next().expect("a link").counts;
        let listed = |state| self.server.engine.addresses(0, Some(state), usize::MAX).len() as u128;
        assert_eq!(counts.idle, listed(AddressState::Idle), "idle");
        assert_eq!(u128::from(counts.used), listed(AddressState::Used), "used");
        assert_eq!(u128::from(counts.conflict), listed(AddressState::Conflict), "conflict");
        assert_eq!(counts.excluded, listed(AddressState::Excluded), "excluded");
        let sum = counts.idle + u128::from(counts.used + counts.conflict) + counts.excluded;
        assert_eq!(sum, POOL.len() as u128, "every address is in one list");
    }
}

fn client(sent: &Sent) -> Duid {
    duid(sent.client)
}

/// Until when the store keeps an address for a client, or at least from all others.
fn stored_until(contents: &Contents, duid: &Duid, iaid: u32, address: Ipv6Addr) -> Option<Time> {
    let mut leases = contents.leases.iter();
    let lease = leases.find(|lease| {
        lease.address == address
            && lease.duid == *duid
            && lease.iaid == iaid
            && lease.state == LeaseState::Bound
    });
    let mut conflicts = contents.conflicts.iter();
    let withheld = conflicts.find(|conflict| conflict.address == address && conflict.duid == *duid);
    lease.map(|lease| lease.expires_at).or(withheld.map(|conflict| conflict.until))
}

fn check_reply(sent: &Sent, reply: &Reply) {
    let mut answered = HashSet::new();
    let mut addresses = HashSet::new();
    for ia in reply.ias() {
        assert!(sent.iaids.contains(&ia.iaid), "matrix row O-7: {ia:?} was not asked for");
        assert!(answered.insert(ia.iaid), "matrix row O-7: {ia:?} is there twice");
        let leases = ia.addresses.iter().filter(|(_, _, valid)| *valid > 0);
        for (address, preferred, valid) in leases {
            assert!(preferred <= valid, "matrix row R-14");
            assert!(ia.status.is_empty(), "matrix row O-6");
            assert!(addresses.insert(*address), "matrix row U-13: {address} is in two IAs");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

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
