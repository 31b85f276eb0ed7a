//! The daemon gives the same answers with the fast path off and on, to the same sequence of messages.
//!
//! The sequence depends on the answers: clients renew and release what they were given. It is made up while a server
//! without the fast path answers, and then shown, octet by octet, to servers with it.

mod sequence;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};
use dhcp6_common::wire::{MESSAGE_HEADER_LEN, MessageType, OptionCode, OptionWalker};
use nix::libc;
use serde_json::Value;
use tests::{
    describe::{describe, hex},
    frame::{MessageBuilder, Received, Route},
    netns::{SERVER_INTERFACE, SERVER_LINK_LOCAL, SERVER_MAC, Wire, privileged, run},
    raw::RawClient,
    server::{Additions, Plane, Server},
};

use self::sequence::{Sequence, Step};

/// How many messages are sent.
const STEPS: usize = 800;
/// The sequence is another for each seed.
const SEED: u64 = 9915;

/// The address that messages with another source than a link-local one are answered from.
const SERVER_ADDRESS: &str = "2001:db8:1::1/64";

const LINK: &str = r#"
allocation = "cyclic"
preferred_lifetime = "20h"
valid_lifetime = "1d"

[[link.reservation]]
duid = "00:03:00:01:02:00:00:00:00:00"
address = "2001:db8:1::5"

[[link.prefix_pool]]
prefix = "2001:db8:8000::/60"
delegated_length = 62
"#;

/// A transaction identifier.
type Transaction = [u8; 3];

/// What came back, by transaction.
type Answers = BTreeMap<Transaction, Vec<Received>>;

/// A client's end of the wire to a server.
struct Conversation {
    client: RawClient,
    answers: Answers,
    fences: u16,
}

impl Conversation {
    /// Prepares both ends: no neighbour is looked for, since nobody would answer.
    fn open(wire: &Wire, clients: &[Route]) -> Result<Self> {
        let ip = |arguments: &[&str]| {
            run(wire.server.command("ip").args(arguments).args(["dev", SERVER_INTERFACE])).map(drop)
        };
        ip(&["addr", "add", SERVER_ADDRESS, "nodad"])?;
        for Route { source, source_mac, .. } in clients.iter().chain([&fence_route()]) {
            ip(&[
                "neigh",
                "replace",
                &source.to_string(),
                "lladdr",
                &hex(source_mac, ":"),
                "nud",
                "permanent",
            ])?;
        }
        Ok(Self { client: RawClient::open(&wire.client)?, answers: Answers::new(), fences: 0 })
    }

    /// Sends the frames of a step, and waits until the daemon has dealt with them: until it has answered a question
    /// that was asked behind them.
    fn play(&mut self, step: &Step) -> Result<()> {
        const PATIENCE: Duration = Duration::from_secs(10);
        for frame in &step.frames {
            self.client.send(frame)?;
        }
        self.fences += 1;
        let [high, low] = self.fences.to_be_bytes();
        let fence = [sequence::FENCE, high, low];
        let question = MessageBuilder::new(MessageType::InformationRequest, fence).build();
        self.client.send(&fence_route().frame(&question))?;
        let deadline = Instant::now() + PATIENCE;
        while self.receive(deadline)? != Some(fence) {
            ensure!(Instant::now() < deadline, "no answer behind {}", step.what);
        }
        self.answers.remove(&fence);
        Ok(())
    }

    /// Notes a frame, and returns the transaction of the answer in it; `None` for anything else.
    fn receive(&mut self, deadline: Instant) -> Result<Option<Transaction>> {
        let Some(frame) = self.client.receive(deadline)? else { return Ok(None) };
        // Neighbours and groups are not the subject.
        if frame.get(20) != Some(&(libc::IPPROTO_UDP as u8)) {
            return Ok(None);
        }
        let received = Received::parse_unsummed(&frame)?;
        let Some(transaction) = transaction(&received.message) else {
            bail!("an answer without a transaction: {received:02x?}")
        };
        self.answers.entry(transaction).or_default().push(received);
        Ok(Some(transaction))
    }

    /// Waits for what comes late, which is too much, and returns everything.
    fn end(mut self) -> Result<Answers> {
        let deadline = Instant::now() + Duration::from_millis(300);
        while Instant::now() < deadline {
            self.receive(deadline)?;
        }
        Ok(self.answers)
    }
}

/// Where the questions behind the steps come from.
fn fence_route() -> Route {
    Route {
        source_mac: [2, 0, 0, 0, 1, sequence::FENCE],
        source: "fe80::1:fe".parse().expect("an address"),
        ..Route::default()
    }
}

/// The message to a client; of a Relay-reply, the one in it.
fn innermost(message: &[u8]) -> Option<&[u8]> {
    const RELAY_HEADER_LEN: usize = 34;
    if *message.first()? != MessageType::RelayReply as u8 {
        return Some(message);
    }
    let inner = OptionWalker::new(message.get(RELAY_HEADER_LEN..)?)
        .filter_map(Result::ok)
        .find(|option| option.code == OptionCode::RELAY_MESSAGE)?;
    innermost(inner.value)
}

fn transaction(message: &[u8]) -> Option<Transaction> {
    innermost(message)?.get(1..MESSAGE_HEADER_LEN)?.try_into().ok()
}

/// What a server made of the sequence.
struct Outcome {
    answers: Answers,
    /// Client, IAID, address and state of each lease.
    leases: BTreeSet<[String; 4]>,
    /// How many messages the kernel has answered.
    answered: u64,
    /// How many messages the daemon has received, or the kernel has dropped before.
    received: u64,
    /// How many of these nobody has answered.
    dropped: u64,
}

/// Starts a server, has `play` talk to it, and looks at what came of it.
fn converse(
    plane: Plane,
    clients: &[Route],
    play: impl FnOnce(&mut Conversation) -> Result<()>,
) -> Result<Outcome> {
    let wire = Wire::new()?;
    let duid = format!("duid = \"{}\"\n", hex(&sequence::SERVER_DUID, ":"));
    // What a disk takes to commit would decide who is known to the kernel when.
    let store = "[store]\nkind = \"memory\"\n";
    let additions = Additions { server: &duid, link: LINK, file: store, ..Additions::default() };
    let server = Server::start_with(&wire, plane, &additions)?;
    let mut conversation = Conversation::open(&wire, clients)?;
    play(&mut conversation)?;
    let leases = server.ctl_json(&["lease", "list"])?;
    let stats = server.ctl_json(&["stats"])?;
    // The daemon would have dropped it as well.
    let garbage = sum(&stats["fast_path"]["dropped"]);
    let text = |lease: &Value| ["duid", "iaid", "address", "state"].map(|key| lease[key].to_string());
    Ok(Outcome {
        answers: conversation.end()?,
        leases: leases.as_array().into_iter().flatten().map(text).collect(),
        answered: stats["fast_path"]["answered"].as_u64().unwrap_or_default(),
        received: sum(&stats["slow_path"]["received"]) + garbage,
        dropped: sum(&stats["slow_path"]["dropped"]) + garbage,
    })
}

/// Of all counters of an object.
fn sum(counters: &Value) -> u64 {
    counters.as_object().into_iter().flatten().filter_map(|(_, count)| count.as_u64()).sum()
}

/// What holds for the answers of each server, and shows that the sequence is worth comparing.
fn check(answers: &Answers) {
    let mut kinds: BTreeMap<u8, usize> = BTreeMap::new();
    for (transaction, received) in answers {
        assert_eq!(received.len(), 1, "matrix row T-16: transaction {transaction:02x?}: {received:02x?}");
        let Received { source_mac, source, destination, ports, message, .. } = &received[0];
        let kind = MessageType::from_code(message[0]);
        let port = if kind == Some(MessageType::RelayReply) { 547 } else { 546 };
        assert_eq!((*source_mac, *ports), (SERVER_MAC, (547, port)), "matrix row T-17");
        if destination.is_unicast_link_local() {
            assert_eq!(*source, SERVER_LINK_LOCAL, "matrix row T-17");
        }
        *kinds.entry(message[0]).or_default() += 1;
    }
    for kind in [MessageType::Advertise, MessageType::Reply, MessageType::RelayReply] {
        let count = kinds.get(&(kind as u8)).copied().unwrap_or_default();
        assert!(count * 50 >= STEPS, "too few: {count} messages of type {kind:?}");
    }
    assert!(answers.len() * 10 <= STEPS * 9, "too little silence: {} answers", answers.len());
}

/// Fails with the first difference, as people read it.
fn compare(plane: Plane, steps: &[Step], expected: &Answers, found: &Answers) {
    for (number, Step { what, message, transaction, .. }) in steps.iter().enumerate() {
        let (expected, found) = (expected.get(transaction), found.get(transaction));
        if expected != found {
            let text = |answers: Option<&Vec<Received>>| {
                let received = answers.and_then(|answers| answers.first());
                received.map_or_else(
                    || "nothing\n".to_owned(),
                    |received| {
                        let message = innermost(&received.message).unwrap_or_default();
                        format!("{received:?}\n{}", describe(message))
                    },
                )
            };
            panic!(
                "{plane:?}, message {number}, {what}: {}\nthe daemon alone: {}\nboth planes: {}",
                describe(message),
                text(expected),
                text(found)
            );
        }
    }
}

#[test]
fn both_planes_together_answer_as_the_daemon_alone() -> Result<()> {
    if !privileged("both_planes_together_answer_as_the_daemon_alone") {
        return Ok(());
    }
    let mut sequence = Sequence::new(SEED);
    let clients: Vec<_> = sequence.routes().collect();
    let mut steps = Vec::new();
    let alone = converse(Plane::DaemonOnly, &clients, |conversation| {
        for _ in 0..STEPS {
            let step = sequence.next();
            conversation.play(&step)?;
            if let Some([answer]) = conversation.answers.get(&step.transaction).map(Vec::as_slice) {
                sequence.learn(&answer.message);
            }
            steps.push(step);
        }
        Ok(())
    })?;
    check(&alone.answers);
    for Step { what, transaction, is_answered, .. } in &steps {
        let answered = alone.answers.contains_key(transaction);
        assert!(is_answered.is_none_or(|expected| expected == answered), "answered: {answered}; {what}");
    }
    assert_eq!(alone.answered, 0);
    for plane in [Plane::Native, Plane::Generic] {
        let both = converse(plane, &clients, |conversation| {
            steps.iter().try_for_each(|step| conversation.play(step))
        })?;
        check(&both.answers);
        compare(plane, &steps, &alone.answers, &both.answers);
        assert_eq!(both.answers.len(), alone.answers.len(), "{plane:?}: answers to nothing");
        assert_eq!(both.leases, alone.leases, "{plane:?}: the same bindings in the end");
        // Each message was counted once, by one of the planes.
        assert_eq!(both.received + both.answered, alone.received, "{plane:?}: messages");
        assert_eq!(both.dropped, alone.dropped, "{plane:?}: messages that nobody answers");
        println!("{plane:?}: {} of {} answers by the kernel", both.answered, both.answers.len());
        assert!(both.answered * 10 >= STEPS as u64, "{plane:?}: {} answers prove too little", both.answered);
    }
    Ok(())
}
