//! More messages than the daemon can answer: who has a lease keeps it.

use std::{
    collections::BTreeSet,
    fs, mem,
    net::{Ipv6Addr, SocketAddrV6},
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use dhcp6_common::wire::{CLIENT_PORT, MessageType};
use serde_json::Value;
use socket2::{Domain, Protocol, Socket, Type};
use tests::{
    client::BareClient,
    frame::{MessageBuilder, Route},
    netns::{CLIENT_INTERFACE, Namespace, Wire, privileged, run},
    raw::RawClient,
    server::{Plane, Server},
    subscriber::{address_in, server_id_in},
};

/// Who has a lease and renews it once a second.
const CLIENTS: u8 = 100;
const ROUNDS: u8 = 5;
/// Who asks for one, all from [`SOURCE`]: so they take one place in the kernel's neighbour table.
const STRANGERS: u16 = 40_000;
/// An address of the clients' end.
const SOURCE: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0xbad);
/// Solicits a second at first. There will be more, until there are more than the daemon can answer.
const FIRST_RATE: u32 = 20_000;
const GREATEST_RATE: u32 = 500_000;
/// How often it is looked at whether there are.
const LOOKS: Duration = Duration::from_millis(100);
/// So many Solicits are sent between two looks at the clock, at most.
const BURST: u64 = 1000;
/// No more of a class wait in the daemon.
const MOST_QUEUED: u64 = 16_384;
/// No flood takes longer.
const LONGEST: Duration = Duration::from_secs(12);

const REPLY: u8 = MessageType::Reply as u8;

fn duid(client: u8) -> [u8; 10] {
    [0, 3, 0, 1, 2, 0, 0, 0, 1, client]
}

fn renew(round: u8, client: u8, server: &[u8], address: Ipv6Addr) -> Vec<u8> {
    let message = MessageBuilder::new(MessageType::Renew, [2, round, client]);
    message.client_id(&duid(client)).server_id(server).elapsed_time().ia_na(1, &[address]).build()
}

/// The Solicits of strangers, in four messages: those that are answered stay strangers.
fn strangers() -> Vec<Vec<u8>> {
    let route = Route { source: SOURCE, ..Route::default() };
    let solicit = |[high, low]: [u8; 2]| {
        let message = MessageBuilder::new(MessageType::Solicit, [1, high, low]);
        message.client_id(&[0, 3, 0, 1, 6, 0, 0, 0, high, low]).elapsed_time().ia_na(1, &[]).build()
    };
    (0..STRANGERS).map(|stranger| route.frame(&solicit(stranger.to_be_bytes()))).collect()
}

/// Gives the clients' end the strangers' address, and a socket that takes what is sent to them and is not read.
fn take_their_answers(namespace: &Namespace) -> Result<Socket> {
    let address = format!("{SOURCE}/64");
    // Deprecated: nobody else sends from it.
    let how = ["nodad", "preferred_lft", "0"];
    run(namespace.command("ip").args(["addr", "add", &address, "dev", CLIENT_INTERFACE]).args(how))?;
    namespace.enter(|| {
        let scope = nix::net::if_::if_nametoindex(CLIENT_INTERFACE)?;
        let socket = Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddrV6::new(SOURCE, CLIENT_PORT, 0, scope).into())?;
        Ok(socket)
    })
}

/// A flood, and what it is told meanwhile.
struct Flood {
    /// Frames a second.
    rate: AtomicU32,
    is_over: AtomicBool,
}

impl Flood {
    fn new() -> Self {
        Self { rate: AtomicU32::new(FIRST_RATE), is_over: AtomicBool::new(false) }
    }

    fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// Makes it greater by a quarter.
    fn swell(&self) {
        let rate = self.rate.load(Ordering::Relaxed);
        self.rate.store((rate + rate / 4).min(GREATEST_RATE), Ordering::Relaxed);
    }

    /// Sends frames, one after the other, until it is over. Returns how many.
    fn send(&self, raw: &RawClient, frames: &[Vec<u8>]) -> Result<u64> {
        let started = Instant::now();
        // What is due, in millionths of a frame.
        let (mut sent, mut due, mut last) = (0, 0, started);
        let mut frames = frames.iter().cycle();
        while !self.is_over.load(Ordering::Relaxed) && started.elapsed() < LONGEST {
            let now = Instant::now();
            due += (now - last).as_micros() as u64 * u64::from(self.rate.load(Ordering::Relaxed));
            last = now;
            // Not more at once, where the machine has stood still.
            due = due.min(BURST * 1_000_000);
            for frame in frames.by_ref().take((due / 1_000_000) as usize) {
                raw.send(frame)?;
                sent += 1;
            }
            due %= 1_000_000;
            thread::sleep(Duration::from_micros(500));
        }
        Ok(sent)
    }
}

/// Has all clients renew once a second, each in its turn, then stops the flood. Returns how many Renews were answered,
/// none of which was repeated.
fn renew_all(client: &BareClient, server_id: &[u8], addresses: &[Ipv6Addr], flood: &Flood) -> Result<usize> {
    let started = Instant::now();
    let gap = Duration::from_secs(1) / u32::from(CLIENTS);
    let mut answered = BTreeSet::new();
    let take = |answered: &mut BTreeSet<_>, patience: Duration| -> Result<()> {
        let deadline = Instant::now() + patience;
        while let Some(left) = deadline.checked_duration_since(Instant::now())
            && let Some(reply) = client.receive(left.max(Duration::from_millis(1)))?
        {
            let [REPLY, 2, round, number] = reply[..4] else { continue };
            ensure!(address_in(&reply)? == addresses[usize::from(number)], "another address");
            answered.insert((round, number));
        }
        Ok(())
    };
    for round in 0..ROUNDS {
        for (number, address) in (0..CLIENTS).zip(addresses) {
            client.send(&renew(round, number, server_id, *address))?;
            let due = gap * (u32::from(round) * u32::from(CLIENTS) + u32::from(number));
            take(&mut answered, due.saturating_sub(started.elapsed()))?;
        }
    }
    flood.end();
    // A client would send its Renew again after ten seconds (RFC 9915, section 7.6).
    let deadline = Instant::now() + Duration::from_secs(5);
    while answered.len() < usize::from(CLIENTS) * usize::from(ROUNDS) && Instant::now() < deadline {
        take(&mut answered, LOOKS)?;
    }
    Ok(answered.len())
}

fn sum(counters: &Value) -> u64 {
    counters.as_object().into_iter().flatten().filter_map(|(_, count)| count.as_u64()).sum()
}

/// Messages that were shed.
fn shed(stats: &Value) -> u64 {
    ["queue_full", "stale"].into_iter().filter_map(|reason| stats["dropped"][reason].as_u64()).sum()
}

/// The most memory that a process has ever had, in MiB.
fn peak_memory(server: &Server<'_>) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid().context("it runs")?))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? / 1024)
}

/// The slow path's counters, once nothing waits any more and each message has ended in one of them.
fn settled(server: &Server<'_>) -> Result<Value> {
    let started = Instant::now();
    let mut before = Value::Null;
    loop {
        let stats = server.ctl_json(&["stats"])?["slow_path"].take();
        let ended = sum(&stats["sent"]) + sum(&stats["dropped"]);
        if sum(&stats["queued"]) == 0 && sum(&stats["received"]) == ended && stats == before {
            return Ok(stats);
        }
        ensure!(started.elapsed() < Duration::from_secs(20), "some messages do not end: {stats}");
        before = stats;
        thread::sleep(LOOKS);
    }
}

#[test]
fn leases_are_renewed_in_a_flood_of_strangers() -> Result<()> {
    if !privileged("leases_are_renewed_in_a_flood_of_strangers") {
        return Ok(());
    }
    let wire = Wire::new()?;
    let mut server = Server::start(&wire, Plane::DaemonOnly)?;
    let client = BareClient::open(&wire.client)?;
    let _answers = take_their_answers(&wire.client)?;
    let mut addresses = Vec::new();
    let mut server_id = Vec::new();
    for number in 0..CLIENTS {
        let solicit = MessageBuilder::new(MessageType::Solicit, [0, 0, number]);
        let reply =
            client.exchange(&solicit.client_id(&duid(number)).rapid_commit().ia_na(1, &[]).build())?;
        addresses.push(address_in(&reply)?);
        server_id = server_id_in(&reply)?;
    }
    let raw = RawClient::open(&wire.client)?;
    let frames = strangers();
    let before = peak_memory(&server)?;
    let flood = Flood::new();

    let (sent, answered, longest_queue) = thread::scope(|scope| -> Result<_> {
        let flooding = scope.spawn(|| flood.send(&raw, &frames));
        let renewing = scope.spawn(|| renew_all(&client, &server_id, &addresses, &flood));
        let started = Instant::now();
        let (mut longest_queue, mut shed_before, mut is_reloaded) = (0, 0, false);
        while !renewing.is_finished() {
            thread::sleep(LOOKS);
            let stats = server.ctl_json(&["stats"])?;
            longest_queue =
                longest_queue.max(stats["slow_path"]["queued"]["strangers"].as_u64().context("a depth")?);
            if shed(&stats["slow_path"]) == mem::replace(&mut shed_before, shed(&stats["slow_path"])) {
                flood.swell();
            }
            if !is_reloaded && started.elapsed() > Duration::from_secs(u64::from(ROUNDS) / 2) {
                server.ctl_json(&["config", "reload"])?;
                is_reloaded = true;
            }
        }
        let answered = renewing.join().expect("no panic")?;
        Ok((flooding.join().expect("no panic")?, answered, longest_queue))
    })?;

    let stats = settled(&server)?;
    let renews = usize::from(CLIENTS) * usize::from(ROUNDS);
    let lost = stats["socket_drops"].as_u64().context("a count")?;
    let all = sent + renews as u64 + u64::from(CLIENTS);
    ensure!(sum(&stats["received"]) + lost == all, "{all} were sent: {stats}");
    ensure!(shed(&stats) > 0 && longest_queue > 0, "the flood was too small: {sent} sent, {stats}");
    ensure!(longest_queue <= MOST_QUEUED, "{longest_queue} Solicits have waited");
    // What the kernel drops on a machine that is busy with other things may be anybody's, and comes in bursts.
    let unlucky = renews as u64 * lost / all;
    let least = (renews as u64 * 99 / 100).saturating_sub(2 * unlucky);
    ensure!(
        answered as u64 >= least,
        "{answered} of {renews} Renews were answered, at least {least} had to be: {stats}"
    );
    let grown = peak_memory(&server)? - before;
    ensure!(grown < 128, "the daemon has grown by {grown} MiB: {stats}");

    // What waits when it has to stop is no reason to stay.
    let flood = Flood { rate: flood.rate, is_over: AtomicBool::new(false) };
    thread::scope(|scope| -> Result<_> {
        let flooding = scope.spawn(|| flood.send(&raw, &frames));
        thread::sleep(Duration::from_secs(1));
        let stopped = server.stop();
        flood.end();
        flooding.join().expect("no panic")?;
        ensure!(stopped? < Duration::from_secs(5));
        Ok(())
    })
}
