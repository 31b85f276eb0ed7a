//! Clients that ask for addresses and prefixes, keep them, give them back and forget them, without pause.

use std::{
    collections::BTreeMap,
    net::Ipv6Addr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use dhcp6_common::wire::{Duid, MESSAGE_HEADER_LEN, MessageType, OptionCode, OptionWalker, SERVER_PORT};
use dhcp6_userspace::{
    clock::Clock,
    pool::{IaKind, Prefix, Resource},
    time::Time,
};
use rand::{
    Rng as _, SeedableRng as _,
    rngs::StdRng,
    seq::{IndexedRandom as _, SliceRandom as _},
};

use super::ledger::{Ia, Ledger, Promise};
use crate::{client::BareClient, frame::MessageBuilder, netns::Namespace};

/// More than there is room for in the pools.
const CLIENTS: u8 = 96;
/// How many clients wait for an answer at the same time.
const MOST_WAITING: usize = 32;
/// How many messages follow one another without a look at the answers, at most.
const BURST: usize = 8;
/// After how many milliseconds without an answer a client tries something else.
const PATIENCE: std::ops::Range<u64> = 100..400;
/// Lengths of the clients' DUIDs; the kernel keeps those of more than 18 octets apart.
const DUID_LENGTHS: [usize; 4] = [10, 14, 18, 40];

/// Addresses that can be asked for by name: those of the pool begin with this one.
pub const FIRST_ADDRESS: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x1000);
/// How many addresses there are.
pub const ADDRESSES: u16 = 64;
/// The pool of prefixes.
pub const PREFIXES: &str = "2001:db8:8000::/50";
/// The length of delegated prefixes.
pub const DELEGATED_LENGTH: u8 = 56;

/// How many of a hundred messages come by way of a relay agent.
const RELAYED: u32 = 20;
/// An address of the relay agent's on the clients' link.
const LINK_ADDRESS: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);
/// What precedes the options of a Relay-forward and a Relay-reply (RFC 9915, section 9).
const RELAY_HEADER_LEN: usize = 34;

/// A transaction identifier.
type Transaction = [u8; 3];

/// An IA in a message: its name, what is in it, and the valid lifetimes of that.
type IaContent = ((IaKind, u32), Vec<(Resource, u32)>);

/// A client, whose IAs and promises are in the ledger.
struct Client {
    duid: Duid,
    ias: Vec<(IaKind, u32)>,
    waiting: Option<Waiting>,
}

impl Client {
    fn ia(&self, (kind, iaid): (IaKind, u32)) -> Ia {
        Ia { duid: self.duid, kind, iaid }
    }
}

/// What a client waits for.
struct Waiting {
    kind: MessageType,
    transaction: Transaction,
    message: Vec<u8>,
    sent_at: Time,
    until: Instant,
}

/// All clients, at one socket, and a relay agent, at another.
pub struct Load {
    socket: BareClient,
    relay: BareClient,
    /// What times are by.
    pub clock: Clock,
    rng: StdRng,
    clients: Vec<Client>,
    waiting: BTreeMap<Transaction, usize>,
    server: Option<Vec<u8>>,
    /// What the clients were promised.
    pub ledger: Ledger,
    /// Replies that acknowledged a lease.
    pub replies: u64,
    /// Of these, those by way of the relay agent.
    pub relayed: u64,
}

impl Load {
    /// Makes the clients in a namespace.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn open(namespace: &Namespace, seed: u64) -> Result<Self> {
        let client = |number: u8| {
            let mut duid = vec![0, 3, 0, 1];
            duid.resize(DUID_LENGTHS[usize::from(number) % DUID_LENGTHS.len()], number);
            let (na, pd) = (IaKind::Na, IaKind::Pd);
            let ias = match number % 6 {
                0..=2 => vec![(na, 1)],
                3 => vec![(na, 1), (na, 2)],
                4 => vec![(na, 1), (pd, 1)],
                _ => vec![(pd, 1)],
            };
            Client { duid: Duid::new(&duid).expect("at most 130 octets"), ias, waiting: None }
        };
        Ok(Self {
            socket: BareClient::open(namespace)?,
            relay: BareClient::open_on(namespace, SERVER_PORT, SERVER_PORT)?,
            clock: Clock::start(None).0,
            rng: StdRng::seed_from_u64(seed),
            clients: (0..CLIENTS).map(client).collect(),
            waiting: BTreeMap::new(),
            server: None,
            ledger: Ledger::default(),
            replies: 0,
            relayed: 0,
        })
    }

    /// Sends what is to be sent and takes up the answers that are there.
    ///
    /// # Errors
    ///
    /// The system's, and what no server may answer.
    pub fn step(&mut self) -> Result<()> {
        self.ledger.expire(self.clock.now());
        let mut order: Vec<_> = (0..self.clients.len()).collect();
        order.shuffle(&mut self.rng);
        let mut burst = self.rng.random_range(1..=BURST);
        for client in order {
            if burst == 0 {
                break;
            }
            burst -= usize::from(self.take_turn(client)?);
        }
        self.listen()
    }

    /// Takes up the answers that are there.
    ///
    /// # Errors
    ///
    /// As [`Load::step`].
    pub fn listen(&mut self) -> Result<()> {
        while let Some(message) = self.socket.poll()? {
            self.hear(&message)?;
        }
        while let Some(message) = self.relay.poll()? {
            let before = self.replies;
            self.hear(inside(&message)?)?;
            self.relayed += self.replies - before;
        }
        Ok(())
    }

    /// The server is dead, and with it every message that it has not handled. From now on those who wanted to give
    /// something back, and wait to hear that it is done, may ask for something again.
    ///
    /// While such a message waits to be handled, a client that asks again could be given by the kernel what the
    /// message then ends.
    pub fn give_up(&mut self) {
        self.waiting.clear();
        for client in &mut self.clients {
            client.waiting = None;
        }
    }

    /// Has a client do something, if it is time. Returns whether it has sent a message.
    fn take_turn(&mut self, index: usize) -> Result<bool> {
        if let Some(waiting) = &mut self.clients[index].waiting {
            if Instant::now() < waiting.until {
                return Ok(false);
            }
            if matches!(waiting.kind, MessageType::Release | MessageType::Decline) {
                waiting.until = patience(&mut self.rng);
                let message = waiting.message.clone();
                self.transmit(&message)?;
                return Ok(true);
            }
            self.waiting.remove(&waiting.transaction);
            self.clients[index].waiting = None;
        }
        if self.waiting.len() >= MOST_WAITING {
            return Ok(false);
        }
        let client = &self.clients[index];
        let count = self.rng.random_range(1..=client.ias.len());
        let ias: Vec<_> = client.ias.choose_multiple(&mut self.rng, count).copied().collect();
        let mut named: Vec<_> = ias.iter().map(|ia| (*ia, self.ledger.held(client.ia(*ia)))).collect();
        let holds = named.iter().any(|(_, held)| !held.is_empty()) && self.server.is_some();
        let choice = self.rng.random_range(0..100);
        let (kind, rapid) = match (holds, choice) {
            (true, 0..40) | (false, 0..60) => (MessageType::Solicit, true),
            (true, 40..48) | (false, 60..85) => (MessageType::Solicit, false),
            (true, 48..66) => (MessageType::Renew, false),
            (true, 66..80) | (false, _) => (MessageType::Rebind, false),
            (true, 80..94) => (MessageType::Release, false),
            (true, _) => (MessageType::Decline, false),
        };
        match kind {
            // It has forgotten what it had, and may wish for anything.
            MessageType::Solicit => {
                for ((kind, _), named) in &mut named {
                    let wish = self.rng.random_bool(0.3).then(|| anything(*kind, &mut self.rng));
                    *named = wish.into_iter().collect();
                }
            }
            MessageType::Release | MessageType::Decline => {
                named.retain(|((ia_kind, _), held)| {
                    !held.is_empty() && (kind == MessageType::Release || *ia_kind == IaKind::Na)
                });
                if named.is_empty() {
                    return Ok(false);
                }
                for (ia, held) in &named {
                    let ia = client.ia(*ia);
                    for resource in held {
                        self.ledger.end(ia, *resource);
                    }
                }
            }
            _ => {}
        }
        self.send(index, kind, rapid, &named)?;
        Ok(true)
    }

    fn send(
        &mut self,
        index: usize,
        kind: MessageType,
        rapid: bool,
        ias: &[((IaKind, u32), Vec<Resource>)],
    ) -> Result<()> {
        let transaction = loop {
            let transaction = self.rng.random();
            if !self.waiting.contains_key(&transaction) {
                break transaction;
            }
        };
        let mut message =
            MessageBuilder::new(kind, transaction).client_id(self.clients[index].duid.as_slice());
        if !matches!(kind, MessageType::Solicit | MessageType::Rebind) {
            message = message.server_id(self.server.as_deref().context("no server has answered yet")?);
        }
        if rapid {
            message = message.rapid_commit();
        }
        message = message.elapsed_time().request(&[23, 24]);
        for (ia, resources) in ias {
            message = with_ia(message, *ia, resources);
        }
        let message = message.build();
        let sent_at = self.clock.now();
        self.transmit(&message)?;
        let until = patience(&mut self.rng);
        self.clients[index].waiting = Some(Waiting { kind, transaction, message, sent_at, until });
        self.waiting.insert(transaction, index);
        Ok(())
    }

    /// Sends a message, straight or by way of the relay agent.
    fn transmit(&mut self, message: &[u8]) -> Result<()> {
        if self.rng.random_range(0..100) >= RELAYED {
            return self.socket.send(message);
        }
        let header =
            [&[MessageType::RelayForward as u8, 0][..], &LINK_ADDRESS.octets(), &[0xfe; 16]].concat();
        self.relay.send(&MessageBuilder::from(header).option(OptionCode::RELAY_MESSAGE, message).build())
    }

    /// Takes up an answer, if somebody waits for it.
    fn hear(&mut self, message: &[u8]) -> Result<()> {
        let kind = message.first().and_then(|code| MessageType::from_code(*code));
        let transaction = message.get(1..MESSAGE_HEADER_LEN).and_then(|it| Transaction::try_from(it).ok());
        let Some(index) = transaction.and_then(|transaction| self.waiting.remove(&transaction)) else {
            return Ok(());
        };
        let Some(waiting) = self.clients[index].waiting.take() else { return Ok(()) };
        let options = || OptionWalker::new(&message[MESSAGE_HEADER_LEN..]).filter_map(Result::ok);
        let option = |wanted| options().find(|option| option.code == wanted).map(|option| option.value);
        let duid = self.clients[index].duid;
        ensure!(
            option(OptionCode::CLIENT_ID) == Some(duid.as_slice()),
            "an answer to another client than {duid}"
        );
        let server = option(OptionCode::SERVER_ID).context("an answer without a Server Identifier")?;
        let known = self.server.get_or_insert_with(|| server.to_vec());
        ensure!(known == server, "the server's DUID was {known:02x?}, and is {server:02x?}");
        let ias: Vec<_> = options().filter_map(|option| ia_content(option.code, option.value)).collect();
        match kind {
            Some(MessageType::Advertise) => {
                let offered = |(ia, leases): &IaContent| {
                    (*ia, leases.iter().map(|(resource, _)| *resource).collect::<Vec<_>>())
                };
                let offered: Vec<_> = ias.iter().map(offered).filter(|(_, it)| !it.is_empty()).collect();
                if !offered.is_empty() {
                    self.send(index, MessageType::Request, false, &offered)?;
                }
            }
            Some(MessageType::Reply) => self.take_up(index, &waiting, &ias),
            _ => anyhow::bail!("neither an Advertise nor a Reply: {message:02x?}"),
        }
        Ok(())
    }

    /// Takes up what a Reply gives and takes away.
    fn take_up(&mut self, index: usize, waiting: &Waiting, ias: &[IaContent]) {
        let answered_at = self.clock.now();
        let mut acknowledges = false;
        for (ia, leases) in ias {
            let ia = self.clients[index].ia(*ia);
            let starts_over = matches!(waiting.kind, MessageType::Solicit | MessageType::Request);
            let given: Vec<_> = leases.iter().filter(|(_, valid)| *valid > 0).collect();
            if starts_over && !given.is_empty() {
                let kept: Vec<_> = given.iter().map(|(resource, _)| *resource).collect();
                self.ledger.end_all_but(ia, &kept);
            }
            for (resource, _) in leases.iter().filter(|(_, valid)| *valid == 0) {
                self.ledger.end(ia, *resource);
            }
            for (resource, valid) in given {
                acknowledges = true;
                let promise = Promise {
                    asked_with: waiting.kind,
                    asked_at: waiting.sent_at,
                    answered_at,
                    until: waiting.sent_at.after_lifetime(*valid),
                };
                self.ledger.acknowledge(ia, *resource, promise);
            }
        }
        self.replies += u64::from(acknowledges);
    }
}

/// What a Relay-reply carries.
fn inside(message: &[u8]) -> Result<&[u8]> {
    ensure!(message.first() == Some(&(MessageType::RelayReply as u8)), "not a Relay-reply: {message:02x?}");
    let mut options =
        OptionWalker::new(message.get(RELAY_HEADER_LEN..).unwrap_or_default()).filter_map(Result::ok);
    let found = options.find(|option| option.code == OptionCode::RELAY_MESSAGE);
    Ok(found.context("a Relay-reply without a message")?.value)
}

fn patience(rng: &mut StdRng) -> Instant {
    Instant::now() + Duration::from_millis(rng.random_range(PATIENCE))
}

/// Any address or prefix of the pools.
fn anything(kind: IaKind, rng: &mut StdRng) -> Resource {
    match kind {
        IaKind::Na => {
            let host = rng.random_range(0..ADDRESSES);
            Ipv6Addr::from(u128::from(FIRST_ADDRESS) + u128::from(host)).into()
        }
        IaKind::Pd => {
            let pool: Prefix = PREFIXES.parse().expect("the pool is a prefix");
            let subnet = rng.random_range(0..1u128 << (DELEGATED_LENGTH - pool.length()));
            let first = u128::from(pool.first()) | subnet << (128 - DELEGATED_LENGTH);
            Prefix::new(first.into(), DELEGATED_LENGTH).expect("no host bits").into()
        }
    }
}

fn with_ia(message: MessageBuilder, (kind, iaid): (IaKind, u32), resources: &[Resource]) -> MessageBuilder {
    let mut value = [&iaid.to_be_bytes()[..], &[0; 8]].concat();
    for resource in resources {
        match resource {
            Resource::Address(address) => {
                value.extend([0, 5, 0, 24]);
                value.extend(address.octets());
                value.extend([0; 8]);
            }
            Resource::Prefix(prefix) => {
                value.extend([0, 26, 0, 25]);
                value.extend([0; 8]);
                value.push(prefix.length());
                value.extend(prefix.first().octets());
            }
        }
    }
    message.option(if kind == IaKind::Na { OptionCode::IA_NA } else { OptionCode::IA_PD }, &value)
}

/// Which IA an option is, and what it holds; `None` for anything else.
fn ia_content(code: OptionCode, value: &[u8]) -> Option<IaContent> {
    let kind = match code {
        OptionCode::IA_NA => IaKind::Na,
        OptionCode::IA_PD => IaKind::Pd,
        _ => return None,
    };
    let number = |octets: &[u8]| octets.first_chunk().map(|octets| u32::from_be_bytes(*octets));
    let address = |octets: &[u8]| octets.first_chunk::<16>().map(|octets| Ipv6Addr::from(*octets));
    let resources = OptionWalker::new(value.get(12..)?).filter_map(Result::ok).filter_map(|option| {
        let value = option.value;
        match option.code {
            OptionCode::IA_ADDRESS => Some((address(value)?.into(), number(value.get(20..)?)?)),
            OptionCode::IA_PREFIX => {
                let prefix = Prefix::new(address(value.get(9..)?)?, *value.get(8)?).ok()?;
                Some((prefix.into(), number(value.get(4..)?)?))
            }
            _ => None,
        }
    });
    Some(((kind, number(value)?), resources.collect()))
}
