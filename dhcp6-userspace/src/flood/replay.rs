//! Sends the frames of a capture.

use std::{
    collections::BTreeMap,
    net::Ipv6Addr,
    time::{Duration, Instant},
};

use dhcp6_common::wire::MessageType;
use hashbrown::HashMap;
use nix::net::if_::if_nametoindex;
use serde::Serialize;

use super::{
    Capture, Frame, Latency, LatencyClass, RunError, VolleyProgress, Wrong,
    frame::{Inbound, Mac, neighbor_advertisement, source},
    runner::wait,
    socket::{PacketSocket, SendSocket},
    summary::{Latencies, per_second, seconds},
};

/// How long to wait for answers after the last one, and altogether.
const SILENCE: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(3);
/// How often the watcher is told.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);

/// How a capture is sent.
#[derive(Clone, Copy, Debug)]
pub struct Replay {
    /// How many frames are sent; behind the last one of the capture comes the first again.
    pub packets: u64,
    /// How many in a second; as fast as it goes where `None`.
    pub rate: Option<f64>,
    /// When sending is over at the latest.
    pub patience: Duration,
}

/// The result of a replay: one JSON document.
#[derive(Clone, Debug, Serialize)]
pub struct ReplaySummary {
    /// Frames in the capture that can be sent.
    pub frames: u64,
    /// Frames in the capture that cannot: not captured whole, or too short.
    pub skipped: u64,
    /// How long sending took.
    #[serde(serialize_with = "seconds")]
    pub seconds: Duration,
    /// Frames sent.
    pub sent: u64,
    /// Frames sent in a second.
    pub rate: f64,
    /// Frames sent by the type of the DHCPv6 message; `other` without one.
    pub sent_by_type: BTreeMap<&'static str, u64>,
    /// DHCPv6 messages received by a sender of the capture.
    pub received: u64,
    /// Those messages by type.
    pub received_by_type: BTreeMap<&'static str, u64>,
    /// Messages received in a second of sending.
    pub received_rate: f64,
    /// Transactions of clients that were answered: the transaction identifier is one that the client has sent.
    pub answered: u64,
    /// From the last message of a transaction to the first answer.
    pub latency_us: Option<Latency>,
    /// The latencies in classes.
    pub histogram: Vec<LatencyClass>,
    /// The sum of `wrong`.
    pub wrong_replies: u64,
    /// Messages that are damaged: by `checksum` or `length`.
    pub wrong: BTreeMap<&'static str, u64>,
    /// DHCPv6 messages to others than the senders of the capture.
    pub foreign: u64,
    /// Neighbor Solicitations that were answered.
    pub neighbor_solicitations: u64,
    /// Frames that the kernel dropped before they were read.
    pub socket_drops: u64,
    /// How many frames should have been sent.
    #[serde(skip)]
    wanted: u64,
}

impl ReplaySummary {
    /// Whether everything was sent, and nothing that came back was damaged.
    pub fn is_fine(&self) -> bool {
        self.sent == self.wanted && self.wrong_replies == 0
    }
}

/// A client's transaction.
type Transaction = (Mac, [u8; 3]);

/// What is known of the capture's senders, and what came back to them.
struct Listener {
    /// Who has which address.
    senders: HashMap<Ipv6Addr, Mac>,
    /// When the transactions that are not answered were sent.
    open: HashMap<Transaction, Instant>,
    /// When something came back last.
    last_heard: Instant,
    latencies: Latencies,
    received: [u64; 256],
    wrong: BTreeMap<&'static str, u64>,
    foreign: u64,
    neighbor_solicitations: u64,
}

/// Sends the frames of a capture from an interface, and counts what comes back. `watch` is called ten times a second.
///
/// # Errors
///
/// [`RunError`].
pub fn replay(
    interface: &str,
    capture: &Capture,
    plan: &Replay,
    mut watch: impl FnMut(VolleyProgress),
) -> Result<ReplaySummary, RunError> {
    let error = |(what, source)| RunError::Socket { what, interface: interface.to_owned(), source };
    let failed = |what| move |source| error((what, source));
    let index = if_nametoindex(interface).map_err(|_| RunError::NoInterface(interface.to_owned()))?;
    let mut socket = PacketSocket::open(index, None).map_err(error)?;
    let mut sender = SendSocket::open(index, true).map_err(error)?;
    let mut answerer = SendSocket::open(index, true).map_err(error)?;
    let kinds: Vec<_> = capture.frames.iter().map(|octets| Kind::of(octets)).collect();

    let start = Instant::now();
    let mut listener = Listener::new(capture, start);
    let mut queued = 0;
    let mut sent_by_kind = [0; 256];
    let mut done_at = None;
    let mut next_watch = start;
    loop {
        let now = Instant::now();
        if now >= next_watch {
            watch(listener.progress(queued));
            next_watch = now + WATCH_INTERVAL;
        }
        let is_over = queued == plan.packets || now - start >= plan.patience;
        let due = plan.due(now - start);
        while !is_over && queued < due && !sender.is_full() {
            let number = (queued % capture.frames.len() as u64) as usize;
            sender.fill(|frame| {
                frame.clear();
                frame.extend_from_slice(&capture.frames[number]);
                true
            });
            queued += 1;
            let kind = kinds[number];
            sent_by_kind[usize::from(kind.message)] += 1;
            if let Some(transaction) = kind.transaction {
                listener.open.insert(transaction, now);
            }
        }
        sender.send().map_err(failed("send"))?;
        if is_over && sender.is_empty() {
            done_at.get_or_insert(now);
        }
        let received = socket.receive().map_err(failed("receive"))?;
        let now = Instant::now();
        for number in 0..received {
            // One that there is no room for is asked for again.
            if let Some(answer) = listener.handle(now, socket.frame(number))
                && !answerer.is_full()
            {
                answerer.fill(|frame| {
                    *frame = answer;
                    true
                });
            }
        }
        answerer.send().map_err(failed("send"))?;
        if let Some(done_at) = done_at
            && (now - listener.last_heard.max(done_at) > SILENCE || now - done_at > LONGEST_WAIT)
        {
            break;
        }
        if received == 0 && (done_at.is_some() || queued >= due || !sender.is_empty()) {
            let next = plan.due_at(queued).map_or(next_watch, |at| next_watch.min(start + at));
            let timeout = if is_over { WATCH_INTERVAL } else { next.saturating_duration_since(now) };
            wait(&socket, !sender.is_empty(), timeout).map_err(failed("wait for frames"))?;
        }
    }
    let seconds = done_at.unwrap_or_else(Instant::now) - start;
    let socket_drops = socket.drops().map_err(failed("read the statistics"))?;
    let received = listener.received.iter().sum();
    Ok(ReplaySummary {
        frames: capture.frames.len() as u64,
        skipped: capture.skipped,
        seconds,
        sent: queued,
        rate: per_second(queued, seconds),
        sent_by_type: by_name(&sent_by_kind),
        received,
        received_by_type: by_name(&listener.received),
        received_rate: per_second(received, seconds),
        answered: listener.latencies.count(),
        latency_us: listener.latencies.quantiles(),
        histogram: listener.latencies.classes(),
        wrong_replies: listener.wrong.values().sum(),
        wrong: listener.wrong,
        foreign: listener.foreign,
        neighbor_solicitations: listener.neighbor_solicitations,
        socket_drops,
        wanted: plan.packets,
    })
}

impl Replay {
    /// How many frames have to be sent after so long.
    fn due(&self, passed: Duration) -> u64 {
        #[expect(clippy::cast_sign_loss, reason = "neither time nor rate is negative")]
        let due = self.rate.map_or(u64::MAX, |rate| (passed.as_secs_f64() * rate) as u64 + 1);
        due.min(self.packets)
    }

    /// When a frame has to be sent; `None` where at once.
    fn due_at(&self, number: u64) -> Option<Duration> {
        #[expect(clippy::cast_precision_loss, reason = "no replay has 2^53 frames")]
        self.rate.map(|rate| Duration::from_secs_f64(number as f64 / rate))
    }
}

/// What a frame of the capture is.
#[derive(Clone, Copy)]
struct Kind {
    /// The code of the message type; 0 where it is no DHCPv6 message.
    message: u8,
    transaction: Option<Transaction>,
}

impl Kind {
    fn of(octets: &[u8]) -> Self {
        // Whatever its checksum is: it may be left to a network card.
        let frame = Frame { octets, checksum_offloaded: true };
        let message = match frame.read() {
            Inbound::Relayed { message: Ok(message), .. } | Inbound::Dhcpv6 { message: Ok(message), .. } => {
                message
            }
            _ => &[],
        };
        let is_relayed = [MessageType::RelayForward, MessageType::RelayReply]
            .iter()
            .any(|kind| message.first() == Some(&(*kind as u8)));
        let id = message.get(1..4).and_then(|id| id.try_into().ok()).filter(|_| !is_relayed);
        let transaction = source(octets).zip(id).map(|((mac, _), id)| (mac, id));
        Self { message: message.first().copied().unwrap_or_default(), transaction }
    }
}

impl Listener {
    fn new(capture: &Capture, now: Instant) -> Self {
        let senders = capture.frames.iter().filter_map(|octets| source(octets));
        Self {
            senders: senders.map(|(mac, address)| (address, mac)).collect(),
            open: HashMap::new(),
            last_heard: now,
            latencies: Latencies::new(),
            received: [0; 256],
            wrong: [Wrong::Checksum, Wrong::Length].map(|wrong| (wrong.name(), 0)).into(),
            foreign: 0,
            neighbor_solicitations: 0,
        }
    }

    fn progress(&self, sent: u64) -> VolleyProgress {
        let received = self.received.iter().sum();
        VolleyProgress { sent, received, wrong: self.wrong.values().sum() }
    }

    /// Takes a frame. Returns what is to be sent in answer to it.
    fn handle(&mut self, now: Instant, frame: Frame<'_>) -> Option<Vec<u8>> {
        match frame.read() {
            Inbound::Dhcpv6 { destination_mac, destination, message }
            | Inbound::Relayed { destination_mac, destination, message } => {
                if self.senders.get(&destination) != Some(&destination_mac) {
                    self.foreign += 1;
                    return None;
                }
                self.last_heard = now;
                match message {
                    Ok(message) => self.take(now, destination_mac, message),
                    Err(wrong) => *self.wrong.entry(wrong.name()).or_default() += 1,
                }
                None
            }
            Inbound::NeighborSolicitation { source_mac, source, target } => {
                let mac = self.senders.get(&target).filter(|mac| **mac != source_mac)?;
                self.neighbor_solicitations += 1;
                self.last_heard = now;
                Some(neighbor_advertisement(*mac, target, (source_mac, source)))
            }
            Inbound::NeighborAdvertisement { .. } | Inbound::Other => None,
        }
    }

    fn take(&mut self, now: Instant, mac: Mac, message: &[u8]) {
        self.received[usize::from(message.first().copied().unwrap_or_default())] += 1;
        let id = message.get(1..4).and_then(|id| <[u8; 3]>::try_from(id).ok());
        if let Some(sent) = id.and_then(|id| self.open.remove(&(mac, id))) {
            self.latencies.record((now - sent).as_nanos() as u64, 1);
        }
    }
}

fn by_name(counts: &[u64; 256]) -> BTreeMap<&'static str, u64> {
    let mut by_name = BTreeMap::new();
    for (code, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        let name = MessageType::from_code(code as u8).map_or("other", MessageType::name);
        *by_name.entry(name).or_default() += count;
    }
    by_name
}
