//! Strangers and garbage by the million: who is known is answered at the first try all the same.
//!
//! The kernel answers a thousand known clients, the daemon renews the leases of a hundred of them, and meanwhile comes a
//! flood: one half Solicits, each from another MAC address and with another DUID, the other half frames that are no
//! messages. Of each half there are 100,000, paced, from one address. Two variables of the environment change that:
//!
//! - `DHCP6_STRANGERS=N`: N of each half, as fast as they can be sent.
//! - `DHCP6_STRANGERS_ADDRESSES=own`: each stranger has a link-local address of its own, and the daemon's answer to it
//!   takes a place in the neighbour table for as long as it counts as reachable, 15 to 45 seconds. The whole host shares
//!   the table, so that nothing else can be tested meanwhile; and where it has no room for all of them
//!   (`net.ipv6.neigh.default.gc_thresh1` to `gc_thresh3`: 32768, 49152 and 65536 will do for a million), Renews remain
//!   without an answer and the test fails.

use std::{
    collections::BTreeMap,
    env, fs,
    net::Ipv6Addr,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use dhcp6_common::wire::{MessageType, Sum};
use serde_json::Value;
use tests::{
    client::BareClient,
    frame::{MessageBuilder, Route},
    netns::{CLIENT_INTERFACE, Namespace, SERVER_INTERFACE, Wire, privileged},
    raw::RawClient,
    server::{Additions, Plane, Server},
    subscriber::{address_in, server_id_in},
};

/// Clients that the kernel knows.
const CLIENTS: u16 = 1000;
/// Those among them that renew, each once a second.
const RENEWING: u16 = 100;
/// Solicits of known clients in a second, all together.
const SOLICITS: u32 = 2000;
/// Frames of each half of the flood, unless more are asked for.
const FRAMES: u32 = 100_000;
/// Frames a second of that flood.
const PACE: u32 = 50_000;
/// So many frames are sent between two looks at the clock.
const BURST: u32 = 100;
/// No flood takes longer.
const LONGEST: Duration = Duration::from_secs(90);
/// Strangers that the kernel lets up to the daemon, a second: and as many more at once.
const ADMITTED: u32 = 2000;
/// How soon a Solicit has to be answered lest its client send it again (RFC 9915, sections 7.6 and 15), less a little
/// for the way.
const SOL_TIMEOUT: Duration = Duration::from_millis(900);
/// The same of a Renew.
const REN_TIMEOUT: Duration = Duration::from_secs(9);
/// How long to wait for answers when the flood is over.
const LAST_ANSWERS: Duration = Duration::from_secs(2);
/// How often a new client asks after the flood, once a second, before it is said not to be served.
const NEWCOMERS_TRIES: u8 = 10;
/// What the daemon may take for messages that wait (at most 3 times 8 MiB, and as much around them) and for its own
/// running.
const MOST_GROWN_KIB: u64 = 64 << 10;
/// What it may take for each new lease: in its tables, in its store's memory, and in what it is about to write.
const KIB_PER_LEASE: u64 = 2;

const REPLY: u8 = MessageType::Reply as u8;
const RECEIVE_BUFFER: usize = 64 << 20;
/// Offsets in an untagged frame.
mod offset {
    pub(super) const SOURCE_MAC: usize = 6;
    /// Of the last four octets of the source address.
    pub(super) const SOURCE_HOST: usize = 14 + 8 + 12;
    pub(super) const PAYLOAD_LENGTH: usize = 14 + 4;
    pub(super) const UDP_LENGTH: usize = 54 + 4;
    pub(super) const CHECKSUM: usize = 54 + 6;
    pub(super) const MESSAGE: usize = 62;
    /// Of the DUID in a message whose first option is the Client Identifier.
    pub(super) const DUID: usize = MESSAGE + 4 + 4;
}

/// Who sends: the second octet of the MAC address, and so of the interface identifier.
#[derive(Clone, Copy)]
enum Kind {
    Stranger = 0x51,
    Malformed = 0x52,
    Known = 0x53,
    Newcomer = 0x54,
}

fn mac(kind: Kind, number: u32) -> [u8; 6] {
    let [a, b, c, d] = number.to_be_bytes();
    [2, kind as u8, a, b, c, d]
}

/// The link-local address that ends with the MAC address.
fn link_local(mac: [u8; 6]) -> Ipv6Addr {
    let mut octets = [0; 16];
    octets[..2].copy_from_slice(&[0xfe, 0x80]);
    octets[10..].copy_from_slice(&mac);
    octets.into()
}

fn route(kind: Kind, number: u32) -> Route {
    let source_mac = mac(kind, number);
    Route { source_mac, source: link_local(source_mac), ..Route::default() }
}

fn duid(kind: Kind, number: u32) -> Vec<u8> {
    [&[0, 3, 0, 1][..], &mac(kind, number)].concat()
}

fn solicit(kind: Kind, number: u32, transaction: [u8; 3]) -> Vec<u8> {
    let message = MessageBuilder::new(MessageType::Solicit, transaction).client_id(&duid(kind, number));
    message.elapsed_time().rapid_commit().ia_na(1, &[]).build()
}

/// A frame that is sent again and again, each time from another sender, with the same checksum.
struct Template {
    frame: Vec<u8>,
    kind: Kind,
    /// Whether the senders have addresses of their own.
    has_addresses: bool,
}

impl Template {
    /// Of the octets of the DUID, these say whose it is; the next four and, where senders have addresses of their own,
    /// the four after that make up for it in the sum.
    const NUMBER: usize = 6;

    /// A message begins with its Client Identifier, of an enterprise (RFC 9915, section 11.3).
    fn message(kind: MessageType, sender: Kind) -> MessageBuilder {
        let duid = [&[0, 2, 0, 0, 0x27, sender as u8][..], &[0; 4], &[0xff; 8]].concat();
        MessageBuilder::new(kind, [0x77, 0x77, 0x77]).client_id(&duid)
    }

    fn solicit(sender: Kind) -> MessageBuilder {
        Self::message(MessageType::Solicit, sender).elapsed_time().rapid_commit().ia_na(1, &[])
    }

    fn new(kind: Kind, frame: Vec<u8>, has_addresses: bool) -> Self {
        Self { frame, kind, has_addresses }
    }

    /// The frame of the sender with this number.
    fn of(&mut self, number: u32) -> &[u8] {
        let mut put = |at: usize, octets: [u8; 4]| {
            if let Some(place) = self.frame.get_mut(at..at + 4) {
                place.copy_from_slice(&octets);
            }
        };
        let duid = offset::DUID + Self::NUMBER;
        put(offset::SOURCE_MAC + 2, number.to_be_bytes());
        put(duid, number.to_be_bytes());
        put(duid + 4, (!number).to_be_bytes());
        if self.has_addresses {
            put(offset::SOURCE_HOST, number.to_be_bytes());
            put(duid + 8, (!number).to_be_bytes());
        }
        self.frame[offset::SOURCE_MAC + 1] = self.kind as u8;
        &self.frame
    }
}

/// Frames that are no messages, each with the counter that it has to end in.
fn malformed() -> Vec<(&'static str, Template)> {
    let kind = Kind::Malformed;
    let solicit = || Template::solicit(kind).build();
    let frame = |message: &[u8]| route(kind, 0).frame(message);
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut frame = frame(&solicit());
        change(&mut frame);
        frame
    };
    let with_word = |at: usize, by: u16| {
        changed(&|frame| {
            let word = u16::from_be_bytes([frame[at], frame[at + 1]]).wrapping_add(by);
            frame[at..at + 2].copy_from_slice(&word.to_be_bytes());
        })
    };
    let elsewhere = Route { source: Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1), ..route(kind, 0) };
    let frames = [
        ("bad_checksum", with_word(offset::CHECKSUM, 0x1234)),
        ("bad_checksum", changed(&|frame| frame[offset::CHECKSUM..][..2].fill(0))),
        ("bad_length", with_word(offset::UDP_LENGTH, 1)),
        ("bad_length", with_word(offset::UDP_LENGTH, 0x8000)),
        ("bad_length", with_word(offset::UDP_LENGTH, 0_u16.wrapping_sub(4))),
        ("bad_length", with_word(offset::PAYLOAD_LENGTH, 1)),
        ("bad_length", changed(&|frame| frame.truncate(frame.len() - 7))),
        ("bad_length", changed(&|frame| frame.truncate(offset::MESSAGE))),
        ("bad_length", frame(&[1, 2, 3])),
        ("malformed", frame(&[&solicit()[..], &[0, 6, 0, 9, 0, 23]].concat())),
        ("malformed", frame(&[&solicit()[..], &[0, 6, 0xff, 0xff]].concat())),
        ("malformed", frame(&[&solicit()[..], &[0, 6, 0]].concat())),
        ("source_not_link_local", elsewhere.frame(&solicit())),
        ("not_for_servers", frame(&Template::message(MessageType::Reply, kind).build())),
        ("not_for_servers", frame(&[&[0][..], &solicit()[1..]].concat())),
        ("not_for_servers", frame(&[&[0xff][..], &solicit()[1..]].concat())),
    ];
    frames.map(|(reason, frame)| (reason, Template::new(kind, frame, false))).into()
}

/// How large the flood is.
struct Size {
    /// Frames of each half.
    frames: u32,
    /// Frames a second.
    pace: Option<u32>,
    /// Whether each stranger has an address of its own.
    has_addresses: bool,
}

impl Size {
    fn of_environment() -> Result<Self> {
        let frames = env::var("DHCP6_STRANGERS").ok();
        let (frames, pace) = match frames {
            Some(frames) => (frames.parse().context("DHCP6_STRANGERS is a number of frames")?, None),
            None => (FRAMES, Some(PACE)),
        };
        let has_addresses = env::var("DHCP6_STRANGERS_ADDRESSES").is_ok_and(|value| value == "own");
        Ok(Self { frames, pace, has_addresses })
    }
}

/// What the flood has sent.
#[derive(Debug, Default)]
struct Flooded {
    strangers: u64,
    /// By the counter that each has to end in.
    malformed: BTreeMap<&'static str, u64>,
    took: Duration,
}

/// Sends the flood. What the interface has no room for is sent again: it has never been on the wire.
fn flood(raw: &RawClient, size: &Size) -> Result<Flooded> {
    let frame = route(Kind::Stranger, 0).frame(&Template::solicit(Kind::Stranger).build());
    let mut stranger = Template::new(Kind::Stranger, frame, size.has_addresses);
    let mut malformed = malformed();
    let mut flooded = Flooded::default();
    let started = Instant::now();
    for number in 0..size.frames {
        if number % BURST == 0 {
            ensure!(started.elapsed() < LONGEST, "{number} strangers were sent within {LONGEST:?}");
            let due = size.pace.map(|pace| Duration::from_secs(1) * number * 2 / pace);
            thread::sleep(due.unwrap_or_default().saturating_sub(started.elapsed()));
        }
        send(raw, stranger.of(number))?;
        flooded.strangers += 1;
        let kinds = malformed.len();
        let (reason, template) = &mut malformed[number as usize % kinds];
        send(raw, template.of(number))?;
        *flooded.malformed.entry(reason).or_default() += 1;
    }
    flooded.took = started.elapsed();
    Ok(flooded)
}

fn send(raw: &RawClient, frame: &[u8]) -> Result<()> {
    while !raw.offer(frame)? {
        thread::yield_now();
    }
    Ok(())
}

/// What known clients say; in the first octet of the transaction identifier.
const SOLICITED: u8 = 1;
const RENEWED: u8 = 2;

/// A message of a known client: what it is, the client's number, and how many of its kind went before.
type Try = (u8, u16, u16);
type Times = BTreeMap<Try, Instant>;

/// What known clients have.
struct Known {
    addresses: Vec<Ipv6Addr>,
    server_id: Vec<u8>,
}

impl Known {
    /// Has all of them get their leases from the daemon, from one address.
    fn get_leases(client: &BareClient) -> Result<Self> {
        const AT_ONCE: u16 = 50;
        let mut addresses = BTreeMap::new();
        let mut server_id = Vec::new();
        for first in (0..CLIENTS).step_by(AT_ONCE.into()) {
            let numbers = first..CLIENTS.min(first + AT_ONCE);
            for number in numbers.clone() {
                let [high, low] = number.to_be_bytes();
                client.send(&solicit(Kind::Known, number.into(), [0, high, low]))?;
            }
            while addresses.len() < usize::from(numbers.end) {
                let reply =
                    client.receive(Duration::from_secs(10))?.context("no answer to a known client")?;
                ensure!(reply[0] == REPLY, "not a Reply");
                addresses.insert(u16::from_be_bytes([reply[2], reply[3]]), address_in(&reply)?);
                server_id = server_id_in(&reply)?;
            }
        }
        Ok(Self { addresses: addresses.into_values().collect(), server_id })
    }

    fn renew(&self, number: u16, transaction: [u8; 3]) -> Vec<u8> {
        let message = MessageBuilder::new(MessageType::Renew, transaction);
        let message = message.client_id(&duid(Kind::Known, number.into())).server_id(&self.server_id);
        message.elapsed_time().ia_na(1, &[self.addresses[usize::from(number)]]).build()
    }

    /// Has them send their messages at a pace, each in its turn, until it is over. Returns when each was sent.
    fn send(&self, raw: &RawClient, what: u8, pace: u32, is_over: &AtomicBool) -> Result<Times> {
        let clients = if what == RENEWED { RENEWING } else { CLIENTS };
        let started = Instant::now();
        let mut times = Times::new();
        for index in 0_u32.. {
            if is_over.load(Ordering::Relaxed) {
                break;
            }
            let number = (index % u32::from(clients)) as u16;
            let turn = (index / u32::from(clients)) as u16;
            let [high, low] = turn.to_be_bytes();
            let transaction = [what, high, low];
            let message = match what {
                RENEWED => self.renew(number, transaction),
                _ => solicit(Kind::Known, number.into(), transaction),
            };
            let frame = route(Kind::Known, number.into()).frame(&message);
            let due = Duration::from_secs(1) * index / pace;
            thread::sleep(due.saturating_sub(started.elapsed()));
            times.insert((what, number, turn), Instant::now());
            send(raw, &frame)?;
        }
        Ok(times)
    }
}

/// What comes back.
#[derive(Default)]
struct Heard {
    known: Times,
    strangers: u64,
    malformed: u64,
    /// Neighbor Solicitations.
    neighbors: u64,
    wrong: Vec<String>,
}

/// Hears what the server sends until it is over, and answers its Neighbor Solicitations.
fn hear(
    raw: &RawClient,
    known: &Known,
    is_newcomer_served: &AtomicBool,
    is_over: &AtomicBool,
) -> Result<Heard> {
    let mut heard = Heard::default();
    while !is_over.load(Ordering::Relaxed) {
        let Some(frame) = raw.receive(Instant::now() + Duration::from_millis(50))? else { continue };
        if let Some(answer) = neighbor_advertisement(&frame) {
            heard.neighbors += 1;
            // A neighbour is asked for again.
            raw.offer(&answer)?;
            continue;
        }
        let ([2, kind, a, b, c, d], Some(message)) = (mac_to(&frame), frame.get(offset::MESSAGE..)) else {
            continue;
        };
        let number = u32::from_be_bytes([a, b, c, d]);
        if kind == Kind::Stranger as u8 {
            heard.strangers += 1;
        } else if kind == Kind::Malformed as u8 {
            heard.malformed += 1;
        } else if kind == Kind::Newcomer as u8 {
            is_newcomer_served.store(address_in(message).is_ok(), Ordering::Relaxed);
        } else if kind == Kind::Known as u8
            && let Some(&[REPLY, what, high, low]) = message.first_chunk()
        {
            if address_in(message).ok().as_ref() != known.addresses.get(number as usize) {
                heard.wrong.push(format!("{number} got {:?}", address_in(message)));
            }
            let turn = u16::from_be_bytes([high, low]);
            heard.known.entry((what, number as u16, turn)).or_insert_with(Instant::now);
        }
    }
    Ok(heard)
}

fn mac_to(frame: &[u8]) -> [u8; 6] {
    frame.first_chunk().copied().unwrap_or_default()
}

/// The answer to a Neighbor Solicitation for one of the tests' senders (RFC 4861, sections 4.3 and 4.4).
fn neighbor_advertisement(frame: &[u8]) -> Option<Vec<u8>> {
    const ICMPV6: u8 = 58;
    const SOLICITATION: u8 = 135;
    const ADVERTISEMENT: u8 = 136;
    const SOLICITED_OVERRIDE: u8 = 0x60;
    const LEN: u16 = 32;
    if frame.get(20) != Some(&ICMPV6) || frame.get(54) != Some(&SOLICITATION) {
        return None;
    }
    let asker_mac: [u8; 6] = *frame[6..].first_chunk()?;
    let asker: [u8; 16] = *frame[22..].first_chunk()?;
    let target: [u8; 16] = *frame.get(62..)?.first_chunk()?;
    let mac: [u8; 6] = *target.last_chunk()?;
    if target[8..10] != [0, 0] || mac[0] != 2 {
        return None;
    }
    let mut message =
        [&[ADVERTISEMENT, 0, 0, 0, SOLICITED_OVERRIDE, 0, 0, 0][..], &target, &[2, 1], &mac].concat();
    // The pseudo-header of ICMPv6 differs from that of UDP in the next header alone.
    let sum = Sum::ZERO.add_pseudo_header(target, asker, LEN).add_u16(u16::from(ICMPV6 - 17).to_be());
    let checksum = sum.add_octets(&message).finish();
    message[2..4].copy_from_slice(&checksum.to_ne_bytes());
    let ip = [&[0x60, 0, 0, 0, 0, LEN as u8, ICMPV6, 255][..], &target, &asker].concat();
    Some([&asker_mac[..], &mac, &[0x86, 0xdd], &ip, &message].concat())
}

/// Frames that an interface has sent, and those that it was to send and had no room for.
#[derive(Clone, Copy, Debug)]
struct Carried {
    sent: u64,
    refused: u64,
}

impl Carried {
    fn by(namespace: &Namespace, interface: &str) -> Result<Self> {
        let text = namespace.enter(|| fs::read_to_string("/proc/thread-self/net/dev"))?;
        let line = text.lines().find_map(|line| line.trim().strip_prefix(interface)?.strip_prefix(':'));
        let counts = line.context("no such interface")?.split_whitespace().map(str::parse);
        let counts: Vec<u64> = counts.collect::<Result<_, _>>()?;
        // Eight columns of what was received, then octets, packets, errors and drops of what was sent.
        let [_, _, _, _, _, _, _, _, _, sent, _, refused, ..] = counts[..] else {
            anyhow::bail!("other columns: {text}");
        };
        Ok(Self { sent, refused })
    }
}

/// What a process has used.
#[derive(Clone, Copy, Debug)]
struct Used {
    resident_kib: u64,
    most_resident_kib: u64,
    /// In hundredths of a second.
    cpu_ticks: u64,
}

impl Used {
    fn by(server: &Server<'_>) -> Result<Self> {
        let pid = server.pid().context("it runs")?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let field = |name: &str| -> Result<u64> {
            let line =
                status.lines().find_map(|line| line.strip_prefix(name)).context("a field is missing")?;
            Ok(line.trim_start_matches(':').trim().trim_end_matches(" kB").parse()?)
        };
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let (_, behind_name) = stat.rsplit_once(')').context("no name")?;
        let times = behind_name.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
        let cpu_ticks = times.sum::<Result<_, _>>()?;
        Ok(Self { resident_kib: field("VmRSS")?, most_resident_kib: field("VmHWM")?, cpu_ticks })
    }
}

fn sum(counters: &Value) -> u64 {
    match counters {
        Value::Number(count) => count.as_u64().unwrap_or_default(),
        Value::Object(counters) => counters.values().map(sum).sum(),
        _ => 0,
    }
}

/// Of how often an answer came in time, and how long the others took.
struct Score {
    tries: usize,
    in_time: usize,
    never: usize,
    latencies: Vec<Duration>,
}

impl Score {
    fn of(sent: &Times, heard: &Times, patience: Duration) -> Self {
        let mut latencies: Vec<_> = sent
            .iter()
            .filter_map(|(each, at)| Some(heard.get(each)?.saturating_duration_since(*at)))
            .collect();
        latencies.sort_unstable();
        let in_time = latencies.partition_point(|latency| *latency <= patience);
        Self { tries: sent.len(), in_time, never: sent.len() - latencies.len(), latencies }
    }

    /// Whether of a thousand tries so many were answered in time, but for those that others lost.
    fn is_at_least(&self, thousandths: usize, lost: u64) -> bool {
        (self.in_time + lost as usize) * 1000 >= self.tries * thousandths
    }
}

impl std::fmt::Display for Score {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { tries, in_time, never, latencies } = self;
        let at = |thousandths: usize| latencies.get(latencies.len().saturating_sub(1) * thousandths / 1000);
        write!(
            f,
            "{in_time} of {tries} in time, {never} never; p50 {:?}, p99 {:?}, p99.9 {:?}, max {:?}",
            at(500).unwrap_or(&Duration::MAX),
            at(990).unwrap_or(&Duration::MAX),
            at(999).unwrap_or(&Duration::MAX),
            latencies.last().unwrap_or(&Duration::MAX)
        )
    }
}

/// Both planes' counters, once nothing waits any more and each message has ended in one of them.
fn settled(server: &Server<'_>) -> Result<Value> {
    let started = Instant::now();
    let mut before = Value::Null;
    loop {
        let stats = server.ctl_json(&["stats"])?;
        let slow = &stats["slow_path"];
        let is_idle =
            sum(&slow["queued"]) == 0 && sum(&slow["received"]) == sum(&slow["sent"]) + sum(&slow["dropped"]);
        let now = [&stats["fast_path"]["answered"], slow].map(Clone::clone);
        if is_idle && before == Value::from(now.to_vec()) {
            return Ok(stats);
        }
        ensure!(started.elapsed() < Duration::from_secs(30), "some messages do not end: {stats}");
        before = now.to_vec().into();
        thread::sleep(Duration::from_millis(100));
    }
}

/// Waits until the kernel answers all known clients.
fn wait_for_the_kernel(server: &Server<'_>, known: &Known, raw: &RawClient) -> Result<()> {
    let started = Instant::now();
    loop {
        let before = server.answered()?;
        let is_over = AtomicBool::new(false);
        let heard = thread::scope(|scope| -> Result<_> {
            let hearing = scope.spawn(|| hear(raw, known, &AtomicBool::new(false), &is_over));
            for number in 0..CLIENTS {
                let message = solicit(Kind::Known, number.into(), [0, 0, 0]);
                send(raw, &route(Kind::Known, number.into()).frame(&message))?;
                thread::sleep(Duration::from_micros(100));
            }
            thread::sleep(Duration::from_millis(200));
            is_over.store(true, Ordering::Relaxed);
            hearing.join().expect("no panic")
        })?;
        if server.answered()? - before == u64::from(CLIENTS) && heard.known.len() == usize::from(CLIENTS) {
            return Ok(());
        }
        ensure!(
            started.elapsed() < Duration::from_secs(20),
            "the kernel answers {} of them",
            heard.known.len()
        );
    }
}

/// A client that nobody has heard of asks once a second until it is served. Returns how long that takes.
fn be_served(raw: &RawClient, is_served: &AtomicBool) -> Result<Duration> {
    let started = Instant::now();
    for turn in 0..NEWCOMERS_TRIES {
        let message = solicit(Kind::Newcomer, 1, [9, 9, turn]);
        send(raw, &route(Kind::Newcomer, 1).frame(&message))?;
        let asked = Instant::now();
        while asked.elapsed() < Duration::from_secs(1) {
            if is_served.load(Ordering::Relaxed) {
                return Ok(started.elapsed());
            }
            thread::sleep(Duration::from_millis(2));
        }
    }
    anyhow::bail!("a new client is not served after the flood")
}

/// A server and its clients on a wire, at one time.
struct Moment {
    stats: Value,
    used: Used,
    clients: Carried,
    server: Carried,
}

impl Moment {
    /// One at which nothing is under way.
    fn of(wire: &Wire, server: &Server<'_>) -> Result<Self> {
        loop {
            let before = Carried::by(&wire.client, CLIENT_INTERFACE)?;
            let stats = settled(server)?;
            let clients = Carried::by(&wire.client, CLIENT_INTERFACE)?;
            // The clients' kernel has things to say, too.
            if before.sent == clients.sent {
                let server_end = Carried::by(&wire.server, SERVER_INTERFACE)?;
                return Ok(Self { stats, used: Used::by(server)?, clients, server: server_end });
            }
        }
    }
}

/// What happened in a flood.
struct Outcome {
    before: Moment,
    after: Moment,
    flooded: Flooded,
    heard: Heard,
    solicits: Score,
    renews: Score,
    /// When a new client was served afterwards.
    newcomer: Duration,
    /// Of the daemon's, during the flood.
    cpu_ms: u64,
    longest_queue: u16,
}

impl Outcome {
    /// By how much a counter, or the sum of some, has grown.
    fn grown(&self, pointer: &str) -> u64 {
        let count = |at: &Moment| at.stats.pointer(pointer).map(sum).unwrap_or_default();
        count(&self.after) - count(&self.before)
    }

    /// Frames that the XDP program has passed or dropped for a reason.
    fn counted(&self, reason: &str) -> u64 {
        ["passed", "dropped"]
            .map(|verdict| self.grown(&format!("/fast_path/{verdict}/{reason}")))
            .iter()
            .sum()
    }

    /// Replies that were sent and that the server's interface had no room for.
    fn lost_on_return(&self) -> u64 {
        self.after.server.refused - self.before.server.refused
    }

    fn summary(&self) -> String {
        let Self { before, after, flooded, heard, solicits, renews, newcomer, cpu_ms, longest_queue } = self;
        let frames = flooded.strangers + flooded.malformed.values().sum::<u64>();
        format!(
            "{frames} frames in {:?}, one every {} ns\nSolicits of known clients: {solicits}\nRenews: {renews}\n\
             new client: served after {newcomer:?}\n\
             no room: for {} frames of the clients', which were sent again; for {} of the server's\n\
             daemon: {} KiB resident before, {} after, {} at most; {} Replies, {} of them to strangers; {cpu_ms} ms of \
             CPU time in the flood; at most {longest_queue} messages queued; {} Neighbor Solicitations",
            flooded.took,
            flooded.took.as_nanos() as u64 / frames,
            after.clients.refused - before.clients.refused,
            self.lost_on_return(),
            before.used.resident_kib,
            after.used.resident_kib,
            after.used.most_resident_kib,
            self.grown("/slow_path/sent/reply"),
            heard.strangers,
            heard.neighbors,
        )
    }

    fn check(&self) -> Result<()> {
        let Self { before, after, flooded, heard, solicits, renews, .. } = self;
        let stats = format!("before {}\nafter {}", before.stats, after.stats);
        // Nothing uncounted, and nothing lost on the way there.
        let (seen, sent) = (self.grown("/fast_path"), after.clients.sent - before.clients.sent);
        ensure!(seen == sent, "{sent} frames were sent, {seen} counted: {stats}");
        for (reason, count) in &flooded.malformed {
            ensure!(self.counted(reason) == *count, "{count} frames had to end as {reason}: {stats}");
        }
        ensure!(heard.malformed == 0, "{} malformed frames were answered", heard.malformed);

        // Everybody is answered whom the server knows.
        ensure!(heard.wrong.is_empty(), "wrong addresses: {:?}", heard.wrong);
        ensure!(solicits.tries >= 3 * usize::from(CLIENTS), "the flood was too short");
        let by_kernel = self.grown("/fast_path/answered");
        ensure!(by_kernel * 1000 >= solicits.tries as u64 * 999, "{by_kernel} by the kernel: {stats}");
        ensure!(solicits.is_at_least(999, self.lost_on_return()), "Solicits: {solicits}: {stats}");
        ensure!(renews.is_at_least(990, 0), "Renews: {renews}: {stats}");
        let throttled = ["source_limit", "client_limit", "retransmission"].map(|reason| self.counted(reason));
        ensure!(throttled == [0; 3], "throttled: {throttled:?}: {stats}");

        // Strangers have what is left, and the daemon sees nothing else.
        let (admitted, refused) = (self.counted("unknown_client"), self.counted("stranger_limit"));
        // The kernel answers a new client, too, that asks again.
        let not_by_kernel = (solicits.tries as u64).saturating_sub(by_kernel);
        let others = not_by_kernel + u64::from(NEWCOMERS_TRIES);
        let strangers = flooded.strangers..=flooded.strangers + others;
        ensure!(strangers.contains(&(admitted + refused)), "{strangers:?} strangers: {stats}");
        // CPUs that let messages up at the same moment may let one too many up.
        let most =
            u128::from(ADMITTED) * (flooded.took.as_millis() + 1000) / 1000 * 101 / 100 + u128::from(others);
        ensure!(u128::from(admitted) <= most, "at most {most} strangers: {stats}");
        ensure!(refused > 0, "that was no flood: {stats}");
        let (received, expected) = (self.grown("/slow_path/received"), admitted + renews.tries as u64);
        ensure!(received == expected, "the daemon was to see {expected} messages: {stats}");

        let leases = self.grown("/slow_path/sent/reply");
        let (grown, most) = (
            after.used.most_resident_kib - before.used.resident_kib,
            MOST_GROWN_KIB + KIB_PER_LEASE * leases,
        );
        ensure!(grown <= most, "the daemon has grown by {grown} KiB, and {most} are allowed: {stats}");
        Ok(())
    }
}

/// Floods a server and everybody who talks to it.
fn storm(wire: &Wire, server: &Server<'_>, size: &Size) -> Result<Outcome> {
    let known = Known::get_leases(&BareClient::open(&wire.client)?)?;
    let raw = || -> Result<RawClient> {
        let raw = RawClient::open(&wire.client)?;
        raw.set_receive_buffer(RECEIVE_BUFFER)?;
        Ok(raw)
    };
    wait_for_the_kernel(server, &known, &raw()?)?;

    let before = Moment::of(wire, server)?;
    let [flooding, soliciting, renewing, hearing] = [raw()?, raw()?, raw()?, raw()?];
    let [is_flood_over, is_newcomer_served, is_over] = [const { AtomicBool::new(false) }; 3];
    thread::scope(|scope| {
        let hear = scope.spawn(|| hear(&hearing, &known, &is_newcomer_served, &is_over));
        let solicit = scope.spawn(|| known.send(&soliciting, SOLICITED, SOLICITS, &is_flood_over));
        let renew = scope.spawn(|| known.send(&renewing, RENEWED, RENEWING.into(), &is_flood_over));
        let watch = scope.spawn(|| longest_queue(server, &is_flood_over));
        let flooded = flood(&flooding, size);
        let used = Used::by(server);
        is_flood_over.store(true, Ordering::Relaxed);
        let newcomer = be_served(&flooding, &is_newcomer_served);
        thread::sleep(LAST_ANSWERS);
        is_over.store(true, Ordering::Relaxed);
        let heard = hear.join().expect("no panic")?;
        let solicits = Score::of(&solicit.join().expect("no panic")?, &heard.known, SOL_TIMEOUT);
        let renews = Score::of(&renew.join().expect("no panic")?, &heard.known, REN_TIMEOUT);
        Ok(Outcome {
            after: Moment::of(wire, server)?,
            flooded: flooded?,
            heard,
            solicits,
            renews,
            newcomer: newcomer?,
            cpu_ms: (used?.cpu_ticks - before.used.cpu_ticks) * 10,
            longest_queue: watch.join().expect("no panic")?,
            before,
        })
    })
}

/// The most messages that wait in the daemon at a time, until it is over.
fn longest_queue(server: &Server<'_>, is_over: &AtomicBool) -> Result<u16> {
    let mut longest = 0;
    while !is_over.load(Ordering::Relaxed) {
        let queued = sum(&server.ctl_json(&["stats"])?["slow_path"]["queued"]);
        longest = longest.max(queued.try_into()?);
        thread::sleep(Duration::from_millis(250));
    }
    Ok(longest)
}

fn known_clients_do_not_notice(plane: Plane) -> Result<()> {
    let size = Size::of_environment()?;
    let wire = Wire::new()?;
    let admission = format!("[fast_path.admission]\nstrangers = {ADMITTED}\n");
    let mut server = Server::prepare(&wire, plane, &Additions { file: &admission, ..Additions::default() })?;
    // Each stranger that gets through takes a lease and a place in the kernel's table.
    server.configure(|text| {
        text.replace("max_bindings = 1024", "max_bindings = 500000")
            .replace("2001:db8:1::ffff", "2001:db8:1::ff:ffff")
    })?;
    server.restart()?;
    let outcome = storm(&wire, &server, &size)?;
    let summary = format!("{plane:?}: {}", outcome.summary());
    eprintln!("{summary}");
    outcome.check().context(summary)?;
    server.ensure_running()
}

#[test]
fn known_clients_do_not_notice_a_flood_in_the_driver() -> Result<()> {
    if !privileged("known_clients_do_not_notice_a_flood_in_the_driver") {
        return Ok(());
    }
    known_clients_do_not_notice(Plane::Native)
}

#[test]
fn known_clients_do_not_notice_a_flood_in_the_stack() -> Result<()> {
    if !privileged("known_clients_do_not_notice_a_flood_in_the_stack") {
        return Ok(());
    }
    known_clients_do_not_notice(Plane::Generic)
}
