//! A simulated server: the engine, a store, the kernel's map and a clock, in rounds as the daemon makes them.

use std::{collections::HashMap, net::Ipv6Addr, time::Duration};

use dhcp6_common::{Origin, Vlan, wire::Duid};

use super::message::{MAC, Message, Reply, SERVER, duid};
use crate::{
    config::Config,
    engine::{Answer, Arrival, DropReason, Engine, Grant, KernelBinding, Owner},
    lease::{Change, MemoryStore, Store as _},
    pool::{IaKind, Resource},
    time::Time,
};

/// 500, 800, 1000 and 2000 s for T1, T2, preferred and valid lifetime; storage is 1000 s ahead. Four addresses,
/// `2001:db8:1::1000` to `::1003`.
pub(super) const SMALL: &str = r#"
[fast_path]
horizon = "1000s"

[[link]]
name = "access0"
interface = "eth1"
prefix = "2001:db8:1::/64"
rapid_commit = true
preferred_lifetime = "1000s"
valid_lifetime = "2000s"
decline_hold = "5000s"

[[link.pool]]
range = "2001:db8:1::1000-2001:db8:1::1003"
"#;

/// [`SMALL`] with `2001:db8:1::1001` reserved for client 1, and `2001:db8:1::5`, outside of the pool, for client 2.
pub(super) fn with_reservations() -> String {
    let reservation = |client: u8, address: &str| {
        let duid = super::message::duid(client);
        format!("[[link.reservation]]\nduid = \"{duid}\"\naddress = \"{address}\"\n")
    };
    [SMALL.to_owned(), reservation(1, "2001:db8:1::1001"), reservation(2, "2001:db8:1::5")].concat()
}

/// The client with this number, on a link that looks at nothing but DUIDs.
pub(super) fn owner(client: u8) -> Owner {
    Owner { link: 0, origin: Origin::ANY, duid: duid(client) }
}

/// What a message leads to: an answer, or none with the reason.
pub(super) type Outcome = Result<Reply, DropReason>;

/// Where the daemon dies in a round, if it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Crash {
    /// After the kernel forgot, before the commit.
    BeforeCommit,
    /// Before the kernel learns of the commit and before any answer leaves.
    AfterCommit,
}

/// A server on one link.
pub(super) struct Server {
    pub(super) config: Config,
    pub(super) engine: Engine,
    pub(super) store: MemoryStore,
    pub(super) kernel: HashMap<Owner, KernelBinding>,
    /// What the kernel has granted and the engine has not been told.
    pub(super) grants: Vec<Grant>,
    pub(super) now: Time,
    /// What the last commit was to store.
    pub(super) changes: Vec<Change>,
    /// Whom the kernel had to forget in the last round.
    pub(super) forgotten: Vec<Owner>,
    /// Whether an answer of the last round waited for the commit.
    pub(super) needed_commit: bool,
}

impl Server {
    /// A server with an empty store.
    pub(super) fn start(config: &str) -> Self {
        Self::start_as(parse(config))
    }

    /// The same with a configuration that was read already.
    pub(super) fn start_as(config: Config) -> Self {
        let now = Time::from_millis(1_700_000_000_000);
        let store = MemoryStore::new();
        let engine = Engine::new(&config, server_duid(), store.contents(), now, 1);
        let kernel = HashMap::new();
        let (grants, changes, forgotten) = (Vec::new(), Vec::new(), Vec::new());
        Self { config, engine, store, kernel, grants, now, changes, forgotten, needed_commit: false }
    }

    /// Starts the engine anew from what the store holds, and fills the kernel's map with what it may serve.
    pub(super) fn restart(&mut self) {
        let contents = self.store.contents();
        self.engine = Engine::new(&self.config, server_duid(), contents, self.now, self.now.as_millis());
        let mut served = HashMap::new();
        for entry in self.engine.kernel_bindings(self.now) {
            let other = served.insert(entry.owner, entry);
            assert_eq!(other, None, "each client once");
        }
        self.kernel = served;
    }

    /// Restarts with another configuration.
    pub(super) fn restart_with(&mut self, config: &str) {
        self.restart_as(parse(config));
    }

    /// The same with a configuration that was read already.
    pub(super) fn restart_as(&mut self, config: Config) {
        self.config = config;
        self.restart();
    }

    /// One round of the daemon (see the documentation of the engine); `None` where it dies.
    pub(super) fn round(&mut self, messages: &[Message], crash: Option<Crash>) -> Option<Vec<Outcome>> {
        let outcomes = self.handle_all(messages);
        let is_committed = self.commit(crash, |_| ())?;
        Some(outcomes.into_iter().map(|outcome| leave(outcome, is_committed)).collect())
    }

    /// Two rounds, the second of which is handled while the commit of the first is under way; `failures` says which of
    /// the two commits fail. `None` where the daemon dies in the first.
    pub(super) fn two_rounds(
        &mut self,
        messages: [&[Message]; 2],
        failures: [bool; 2],
        crash: Option<Crash>,
    ) -> Option<Vec<Outcome>> {
        let [first, second] = messages;
        let mut outcomes = [self.handle_all(first), Vec::new()];
        self.store.fail_next(failures[0].into());
        let first_is_committed =
            self.commit(crash, |server: &mut Self| outcomes[1] = server.handle_all(second))?;
        self.store.fail_next(failures[1].into());
        let second_is_committed = self.commit(None, |_| ())?;
        self.store.fail_next(0);
        let outcomes = outcomes.into_iter().zip([first_is_committed, second_is_committed]);
        Some(outcomes.flat_map(|(outcomes, is)| outcomes.into_iter().map(move |it| leave(it, is))).collect())
    }

    /// Handles messages, and has the kernel forget.
    fn handle_all(&mut self, messages: &[Message]) -> Vec<Result<Answer, DropReason>> {
        let handle = |message: &Message| {
            let Message { vlan, mac, .. } = *message;
            let arrival = Arrival { link: Some(0), vlan, mac: Some(mac), multicast: true };
            self.engine.handle(self.now, arrival, message.octets())
        };
        let outcomes: Vec<_> = messages.iter().map(handle).collect();
        self.needed_commit = outcomes.iter().flatten().any(|answer| answer.needs_commit);
        self.forgotten = self.engine.take_forgotten();
        for owner in &self.forgotten {
            self.kernel.remove(owner);
        }
        for owner in &self.forgotten {
            let left = self.engine.kernel_binding_of(self.now, owner);
            self.kernel.extend(left.map(|entry| (*owner, entry)));
        }
        outcomes
    }

    /// Commits what has changed, while which `meanwhile` happens. Returns whether that succeeds; `None` where the daemon
    /// dies.
    fn commit(&mut self, crash: Option<Crash>, meanwhile: impl FnOnce(&mut Self)) -> Option<bool> {
        self.changes = self.engine.take_changes();
        let changes = self.changes.clone();
        assert!(!self.needed_commit || !changes.is_empty(), "an answer waits for a commit of nothing");
        meanwhile(self);
        if crash == Some(Crash::BeforeCommit) {
            return None;
        }
        let is_committed = changes.is_empty() || self.store.commit(&changes).is_ok();
        if crash == Some(Crash::AfterCommit) {
            return None;
        }
        if is_committed {
            let served = self.engine.committed(self.now, &changes);
            let owners: HashMap<_, _> = served.iter().map(|entry| (entry.owner, *entry)).collect();
            assert_eq!(owners.len(), served.len(), "each client once");
            self.kernel.extend(owners);
        }
        Some(is_committed)
    }

    /// A round with one message.
    pub(super) fn send(&mut self, message: &Message) -> Outcome {
        let [outcome] = self
            .round(std::slice::from_ref(message), None)
            .and_then(|outcomes| outcomes.try_into().ok())
            .expect("one outcome for one message");
        outcome
    }

    /// A round with one message, which must be answered.
    #[track_caller]
    pub(super) fn ask(&mut self, message: &Message) -> Reply {
        let outcome = self.send(message);
        outcome.unwrap_or_else(|reason| panic!("not answered, {}: {message:?}", reason.name()))
    }

    /// A message that comes by itself, not in a round, to see why it is dropped.
    pub(super) fn handle(&mut self, octets: &[u8], multicast: bool) -> Result<Reply, DropReason> {
        let answer = self.engine.handle(
            self.now,
            Arrival { link: Some(0), vlan: Vlan::NONE, mac: Some(MAC), multicast },
            octets,
        )?;
        Ok(Reply::decode(&answer.message))
    }

    /// Lets time pass, then frees what has run out.
    pub(super) fn advance(&mut self, seconds: u64) {
        self.now = self.now.after(Duration::from_secs(seconds));
        loop {
            let is_done = self.engine.expire(self.now, 2);
            self.round(&[], None);
            if is_done {
                break;
            }
        }
    }

    /// The address that the XDP program grants to a client that solicits one with Rapid Commit.
    pub(super) fn ask_kernel(&mut self, client: &Duid, iaid: u32) -> Option<Ipv6Addr> {
        let from = Message::bare(1);
        let entry = self.ask_kernel_for(client, &from, &[(IaKind::Na, iaid)])?;
        entry.address.map(|(_, address)| address)
    }

    /// What the XDP program grants to a client that solicits these IAs with Rapid Commit, from where a message comes
    /// from.
    pub(super) fn ask_kernel_for(
        &mut self,
        client: &Duid,
        from: &Message,
        ias: &[(IaKind, u32)],
    ) -> Option<KernelBinding> {
        let origin = self.config.links[0].origin_of(from.vlan, Some(from.mac));
        let owner = Owner { link: 0, origin, duid: *client };
        let entry = *self.kernel.get(&owner)?;
        let parts = [
            entry.address.map(|(iaid, address)| (iaid, Resource::from(address))),
            entry.prefix.map(|(iaid, prefix)| (iaid, Resource::from(prefix))),
        ];
        let parts: Vec<_> = parts.into_iter().flatten().collect();
        assert!(!parts.is_empty(), "the kernel has nothing to grant");
        let is_known =
            |ia: &(IaKind, u32)| parts.iter().any(|(iaid, resource)| (resource.kind(), *iaid) == *ia);
        if !ias.iter().all(is_known) || self.now > entry.serve_until {
            return None;
        }
        // It notes when, but not what was asked for.
        let at = self.now;
        self.grants.extend(parts.into_iter().map(|(iaid, resource)| Grant { owner, iaid, resource, at }));
        Some(entry)
    }

    /// Tells the engine what the kernel has granted, as the daemon does now and then.
    pub(super) fn sweep(&mut self) {
        for grant in std::mem::take(&mut self.grants) {
            self.engine.granted(&grant);
        }
        // What this leaves is paid for with the next ones.
        self.engine.pay(2);
        self.round(&[], None);
    }

    /// Whether anything is bound, offered, declined or about to be stored.
    pub(super) fn is_untouched(&mut self) -> bool {
        let counts = self.engine.links().next().expect("a link").addresses;
        let is_idle = self.engine.take_changes().is_empty() && self.engine.take_forgotten().is_empty();
        counts.used == 0 && counts.conflict == 0 && is_idle && self.engine.leases().is_empty()
    }
}

/// What becomes of an answer.
fn leave(outcome: Result<Answer, DropReason>, is_committed: bool) -> Outcome {
    let answer = outcome?;
    let reply = Reply::decode(&answer.message);
    assert_eq!(reply.kind, answer.kind, "the kind is that of the message");
    if answer.needs_commit && !is_committed { Err(DropReason::StoreFailed) } else { Ok(reply) }
}

pub(super) fn parse(config: &str) -> Config {
    Config::parse(config, "test.toml").unwrap_or_else(|errors| panic!("{config}\n{errors}"))
}

fn server_duid() -> Duid {
    Duid::new(&SERVER).expect("7 octets are a DUID")
}
