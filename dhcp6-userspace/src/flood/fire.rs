//! A volley on a network interface.

use std::{
    collections::BTreeMap,
    fs, io,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use dhcp6_common::{
    flood::{Class, FIRST_FINDING, Finding, LATENCY_CLASSES, latency_class_end, transaction_id},
    wire::MessageType,
};
use nix::{net::if_::if_nametoindex, time::ClockId, time::clock_gettime};
use rand::Rng as _;

use super::{
    Engine, Receiver, RunError, Volley, VolleyProgress, VolleySummary,
    judge::{Judge, finding_name},
    kernel::{Kernel, KernelCounters, KernelError},
    runner::wait,
    socket::{PacketSocket, SendSocket},
    summary::{Latencies, per_second},
    template::Template,
};

/// Frames that are generated between two looks at the clock.
const CHUNK: u32 = 1 << 15;
/// The same where this process writes each.
const SMALL_CHUNK: u64 = 256;
/// Frames sent to find out whether the interface takes live frames.
const PROBE: u32 = 64;
/// How long the interface may take to count them.
const PROBE_PATIENCE: Duration = Duration::from_millis(500);
/// How long to wait for replies after the last one, and altogether.
const SILENCE: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(3);
/// How often the watcher is told.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);

/// Fires a volley from an interface. `watch` is called ten times a second.
///
/// # Errors
///
/// [`RunError`].
pub fn fire(
    interface: &str,
    volley: &Volley,
    mut watch: impl FnMut(VolleyProgress),
) -> Result<VolleySummary, RunError> {
    let error = |(what, source)| RunError::Socket { what, interface: interface.to_owned(), source };
    let refused = |source: KernelError| RunError::LiveFrames(source.to_string());
    let index = if_nametoindex(interface).map_err(|_| RunError::NoInterface(interface.to_owned()))?;
    let mut socket = PacketSocket::open(index, None).map_err(error)?;
    let sender = SendSocket::open(index, true).map_err(error)?;
    let mut answerer = SendSocket::open(index, true).map_err(error)?;
    let template = Template::new(volley.mode);
    let first_stranger = rand::rng().random::<u32>() & !Class::BITS;

    let mut receiver = Receiver::PacketSocket;
    let mut reason = None;
    let mut kernel = match Kernel::load(index, volley, &template, first_stranger) {
        Ok(mut kernel) => {
            // Something else may be attached; then the socket sees what that passes.
            receiver = kernel.attach(interface).unwrap_or(Receiver::PacketSocket);
            Some(kernel)
        }
        Err(refusal) => {
            reason = Some(refusal.to_string());
            None
        }
    };
    let transmitted_before = transmitted(interface).map_err(|failure| error(("count frames of", failure)))?;
    let start = Instant::now();
    let mut engine = Engine::PacketSocket;
    if let Some(kernel) = &mut kernel
        && volley.engine != Some(Engine::PacketSocket)
        && volley.packets > 0
    {
        match probe(kernel, interface, volley.packets.min(PROBE.into()) as u32) {
            Ok(()) => engine = Engine::LiveFrames,
            Err(refusal) => reason = Some(refusal),
        }
    }
    if volley.engine == Some(Engine::LiveFrames) && engine != Engine::LiveFrames {
        return Err(RunError::LiveFrames(reason.unwrap_or_default()));
    }
    let counted_elsewhere = receiver != Receiver::PacketSocket;
    let mut judge = Judge::new(volley.clients, volley.mode, counted_elsewhere);

    let battery = Battery {
        volley,
        template: &template,
        first_stranger,
        engine,
        sender: Mutex::new(sender),
        kernel: Mutex::new(kernel),
        generated: Mutex::new([0; 3]),
        done: AtomicBool::new(false),
        stop: AtomicBool::new(false),
    };
    let (fired, heard) = thread::scope(|scope| {
        let firing = scope.spawn(|| {
            let result = battery.fire(start);
            battery.done.store(true, Ordering::Release);
            result
        });
        let heard =
            battery.receive((&mut socket, &mut answerer), &mut judge, counted_elsewhere, start, &mut watch);
        battery.stop.store(true, Ordering::Release);
        (firing.join().expect("the firing thread does not panic"), heard)
    });
    let seconds = fired.map_err(|failure| match failure {
        FireError::Kernel(failure) => refused(failure),
        FireError::Socket(failure) => error(("send", failure)),
    })?;
    heard.map_err(|failure| error(("receive", failure)))?;
    let transmitted = transmitted(interface).map_err(|failure| error(("count frames of", failure)))?;
    let socket_drops = socket.drops().map_err(|failure| error(("read the statistics", failure)))?;
    let generated = *battery.generated.lock().expect("nobody panics");
    let counters = match battery.kernel.into_inner().expect("nobody panics") {
        Some(mut kernel) => {
            let counters = kernel.counters().map_err(refused)?;
            if counted_elsewhere {
                kernel.detach().map_err(refused)?;
            }
            Some(counters)
        }
        None => None,
    };
    let context = Context { volley, engine, receiver, reason, seconds };
    let transmitted = transmitted.saturating_sub(transmitted_before);
    let mut summary = context.summary(&judge, counters.as_ref(), generated, transmitted);
    summary.socket_drops = socket_drops;
    Ok(summary)
}

enum FireError {
    Kernel(KernelError),
    Socket(io::Error),
}

/// Everything that the firing and the receiving thread share.
struct Battery<'a> {
    volley: &'a Volley,
    template: &'a Template,
    first_stranger: u32,
    engine: Engine,
    /// Of the firing thread.
    sender: Mutex<SendSocket>,
    kernel: Mutex<Option<Kernel>>,
    /// By [`Class`]; where this process generates.
    generated: Mutex<[u64; 3]>,
    done: AtomicBool,
    stop: AtomicBool,
}

impl Battery<'_> {
    /// Sends everything, and returns how long that took.
    fn fire(&self, start: Instant) -> Result<Duration, FireError> {
        match self.engine {
            Engine::LiveFrames => self.fire_live_frames(start).map_err(FireError::Kernel)?,
            Engine::PacketSocket => self.fire_from_socket(start).map_err(FireError::Socket)?,
        }
        Ok(start.elapsed())
    }

    fn is_over(&self, start: Instant) -> bool {
        start.elapsed() >= self.volley.patience || self.stop.load(Ordering::Acquire)
    }

    fn fire_live_frames(&self, start: Instant) -> Result<(), KernelError> {
        while !self.is_over(start) {
            let mut kernel = self.kernel.lock().expect("nobody panics");
            let kernel = kernel.as_mut().expect("it was probed");
            let sent: u64 = kernel.counters()?.generated.iter().sum();
            let left = self.volley.packets.saturating_sub(sent);
            if left == 0 {
                break;
            }
            kernel.generate(left.min(CHUNK.into()) as u32)?;
        }
        Ok(())
    }

    fn fire_from_socket(&self, start: Instant) -> io::Result<()> {
        let mut rng = rand::rng();
        let mut sender = self.sender.lock().expect("nobody panics");
        let mut generated = [0u64; 3];
        let (unknown, malformed) = (self.volley.unknown, self.volley.malformed);
        for number in 0..self.volley.packets {
            if number % SMALL_CHUNK == 0 {
                *self.generated.lock().expect("nobody panics") = generated;
                if self.is_over(start) {
                    break;
                }
            }
            let drawn = if unknown + malformed == 0 { 100 } else { rng.random_range(0..100) };
            let class = match drawn {
                _ if drawn < malformed => Class::Malformed,
                _ if drawn < malformed + unknown => Class::Unknown,
                _ => Class::Known,
            };
            let count = &mut generated[class as usize];
            let client = match class {
                Class::Known => (*count % u64::from(self.volley.clients)) as u32,
                _ => class.bits() | (self.first_stranger.wrapping_add(*count as u32) & !Class::BITS),
            };
            *count += 1;
            sender.fill(|frame| {
                self.template.write(client, transaction_id(monotonic()), frame);
                true
            });
            while sender.is_full() && !self.is_over(start) {
                send_some(&mut sender)?;
            }
        }
        while !sender.is_empty() && !self.is_over(start) {
            send_some(&mut sender)?;
        }
        *self.generated.lock().expect("nobody panics") = generated;
        Ok(())
    }

    /// Reads replies until everything is sent and no more of them come.
    fn receive(
        &self,
        (socket, answerer): (&mut PacketSocket, &mut SendSocket),
        judge: &mut Judge,
        counted_elsewhere: bool,
        start: Instant,
        watch: &mut impl FnMut(VolleyProgress),
    ) -> io::Result<()> {
        let mut next_watch = Instant::now();
        let mut done_at = None;
        let mut progress = VolleyProgress { sent: 0, received: 0, wrong: 0 };
        let mut last_reply = start;
        loop {
            let now = Instant::now();
            if now >= next_watch {
                let before = progress.received;
                self.update(&mut progress, judge, counted_elsewhere);
                if progress.received > before {
                    last_reply = now;
                }
                watch(progress);
                next_watch = now + WATCH_INTERVAL;
            }
            if done_at.is_none() && self.done.load(Ordering::Acquire) {
                done_at = Some(now);
            }
            if let Some(done_at) = done_at
                && (now - last_reply.max(done_at) > SILENCE || now - done_at > LONGEST_WAIT)
            {
                return Ok(());
            }
            let received = socket.receive()?;
            for number in 0..received {
                // One that there is no room for is asked for again.
                if let Some(answer) = judge.handle(monotonic(), socket.frame(number))
                    && !answerer.is_full()
                {
                    answerer.fill(|frame| {
                        *frame = answer;
                        true
                    });
                }
            }
            answerer.send()?;
            if received == 0 {
                wait(socket, false, next_watch.saturating_duration_since(now))?;
            }
        }
    }

    /// While frames are generated nobody else looks at the kernel's counters.
    fn update(&self, progress: &mut VolleyProgress, judge: &Judge, counted_elsewhere: bool) {
        progress.wrong = judge.wrong.values().sum();
        progress.sent = self.generated.lock().expect("nobody panics").iter().sum();
        if !counted_elsewhere {
            progress.received = judge.received.values().sum();
        }
        if let Ok(kernel) = self.kernel.try_lock()
            && let Some(Ok(counters)) = kernel.as_ref().map(Kernel::counters)
        {
            if self.engine == Engine::LiveFrames {
                progress.sent = counters.generated.iter().sum();
            }
            if counted_elsewhere {
                progress.received = counters.received[..FIRST_FINDING as usize].iter().sum();
            }
        }
    }
}

/// Sends what there is room for, or lets others work where there is none.
fn send_some(sender: &mut SendSocket) -> io::Result<()> {
    sender.send()?;
    if sender.is_full() {
        thread::yield_now();
    }
    Ok(())
}

/// What a summary says of the volley itself.
struct Context<'a> {
    volley: &'a Volley,
    engine: Engine,
    receiver: Receiver,
    reason: Option<String>,
    seconds: Duration,
}

impl Context<'_> {
    fn summary(
        self,
        judge: &Judge,
        counters: Option<&KernelCounters>,
        generated: [u64; 3],
        transmitted: u64,
    ) -> VolleySummary {
        let Self { volley, engine, receiver, reason, seconds } = self;
        let mut received_by_type = judge.received.clone();
        let mut wrong = judge.wrong.clone();
        let mut foreign = judge.foreign;
        let mut malformed_answered = judge.malformed_answered;
        let mut latencies = Latencies::new();
        for us in &judge.latencies {
            latencies.record(u64::from(*us) * 1000, 1);
        }
        let mut by_class = generated;
        if let Some(counters) = counters {
            // Otherwise it has generated what a probe found that the interface does not send.
            if engine == Engine::LiveFrames {
                by_class.copy_from_slice(&counters.generated);
            }
            for kind in [MessageType::Advertise, MessageType::Reply] {
                *received_by_type.entry(kind.name()).or_default() += counters.received[kind as usize];
            }
            for finding in Finding::ALL {
                let count = counters.received[FIRST_FINDING as usize + finding as usize];
                match finding_name(finding) {
                    Some(name) => *wrong.entry(name).or_default() += count,
                    None if finding == Finding::Foreign => foreign += count,
                    None => malformed_answered += count,
                }
            }
            for class in 0..LATENCY_CLASSES {
                let end = u64::from(latency_class_end(class)) * 1000;
                latencies.record(end, counters.latencies[class as usize]);
            }
        }
        let sent = by_class.iter().sum();
        let malformed = by_class[Class::Malformed as usize];
        let received = received_by_type.values().sum();
        VolleySummary {
            engine,
            engine_reason: reason.filter(|_| engine != Engine::LiveFrames),
            receiver,
            mode: volley.mode,
            clients: volley.clients,
            seconds,
            sent,
            sent_by_kind: BTreeMap::from(
                Class::ALL.map(|class| (class_name(class), by_class[class as usize])),
            ),
            transmitted,
            rate: per_second(sent, seconds),
            received,
            received_rate: per_second(received, seconds),
            received_by_type,
            answered_share: VolleySummary::share(received, sent, malformed, transmitted),
            latency_us: latencies.quantiles(),
            histogram: latencies.classes(),
            checked: judge.checked,
            refused: judge.refused.clone(),
            wrong_replies: wrong.values().sum(),
            wrong,
            foreign,
            malformed_answered,
            neighbor_solicitations: judge.neighbor_solicitations,
            socket_drops: 0,
        }
    }
}

/// Sends a few live frames; otherwise says what the interface does with them.
fn probe(kernel: &mut Kernel, interface: &str, frames: u32) -> Result<(), String> {
    let count = || transmitted(interface).map_err(|failure| failure.to_string());
    let before = count()?;
    kernel.generate(frames).map_err(|failure| failure.to_string())?;
    let start = Instant::now();
    while start.elapsed() < PROBE_PATIENCE {
        if count()? - before >= u64::from(frames) {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(5));
    }
    Err(format!(
        "{interface} does not send live frames; over veth the other end needs an XDP program, or GRO (`ethtool -K NAME gro on`)"
    ))
}

/// Frames that an interface of this network namespace has sent.
fn transmitted(interface: &str) -> io::Result<u64> {
    // Not in /sys, which may be another namespace's.
    let interfaces = fs::read_to_string("/proc/thread-self/net/dev")?;
    let found = interfaces.lines().find_map(|line| {
        let (name, counters) = line.split_once(':')?;
        // Eight of received frames, then octets and frames that were sent.
        (name.trim() == interface).then(|| counters.split_whitespace().nth(9)?.parse().ok())?
    });
    found.ok_or_else(|| io::Error::other("the interface has no counters"))
}

/// CLOCK_MONOTONIC in nanoseconds, as XDP programs read it.
fn monotonic() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("the clock is there");
    Duration::from(now).as_nanos() as u64
}

fn class_name(class: Class) -> &'static str {
    match class {
        Class::Known => "known",
        Class::Unknown => "unknown",
        Class::Malformed => "malformed",
    }
}
