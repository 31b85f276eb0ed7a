//! Questions of known clients that only the daemon answers, all from one address.
//!
//! With one address the kernel's neighbour table has one entry, however many clients there are.

use std::{
    io::ErrorKind,
    net::{Ipv6Addr, SocketAddrV6, UdpSocket},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use dhcp6_common::wire::{
    CLIENT_PORT, MESSAGE_HEADER_LEN, MessageType, OptionCode, OptionWalker, SERVER_PORT,
};
use socket2::{Domain, Protocol, Socket, Type};

use super::leases::Leases;
use crate::{
    frame::{MULTICAST, MessageBuilder},
    netns::{CLIENT_INTERFACE, Namespace},
};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The clients' socket.
pub(super) struct Asker {
    socket: UdpSocket,
    servers: SocketAddrV6,
    leases: Leases,
    transaction: u32,
    buffer: [u8; 2048],
}

/// How a server has answered while it was asked steadily.
pub(super) struct Steady {
    /// The longest time without an answer.
    pub(super) gap: Duration,
    /// Questions.
    pub(super) asked: u32,
    /// Questions without an answer.
    pub(super) unanswered: u32,
}

impl Asker {
    pub(super) fn open(namespace: &Namespace, leases: Leases) -> Result<Self> {
        namespace.enter(|| {
            let scope = nix::net::if_::if_nametoindex(CLIENT_INTERFACE)?;
            let socket = Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP))?;
            socket.set_multicast_if_v6(scope)?;
            // The answers to all questions that wait in a server's socket.
            socket.set_recv_buffer_size(4 << 20)?;
            socket.bind(&SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, CLIENT_PORT, 0, 0).into())?;
            let servers = SocketAddrV6::new(MULTICAST, SERVER_PORT, 0, scope);
            Ok(Self { socket: socket.into(), servers, leases, transaction: 0, buffer: [0; 2048] })
        })
    }

    /// Asks every `interval` from now on, until there is an answer. Returns when it came.
    pub(super) fn first_answer(&mut self, interval: Duration, stop: &AtomicBool) -> Result<Instant> {
        let (leases, clients) = (self.leases, self.leases.some(1000));
        let first = self.transaction + 1;
        self.socket.set_nonblocking(true)?;
        for client in clients.iter().cycle() {
            ensure!(!stop.load(Ordering::Relaxed), "no answer");
            self.solicit(*client)?;
            thread::sleep(interval);
            while let Some((number, message)) = self.receive()? {
                let at = Instant::now();
                if let Some(index) = number.checked_sub(first) {
                    check(leases, clients[index as usize % clients.len()], message, MessageType::Advertise)?;
                    return Ok(at);
                }
            }
        }
        bail!("there are no clients")
    }

    /// Asks one question after the other: a Solicit, which is answered from memory. Returns how long each took.
    pub(super) fn solicits(&mut self, count: u32) -> Result<Vec<Duration>> {
        let clients = self.leases.some(count);
        clients
            .iter()
            .map(|client| self.timed(*client, |asker| asker.solicit(*client)).map(|it| it.0))
            .collect()
    }

    /// Asks one question after the other: a Renew, which is answered when storage has it. Returns how long each took.
    ///
    /// The clients are others in each run, since one that has just renewed need not be stored again.
    pub(super) fn renews(&mut self, count: u32, run: u32) -> Result<Vec<Duration>> {
        let clients = self.leases.others(count, run);
        let client = *clients.first().context("there are no clients")?;
        let (_, advertise) = self.timed(client, |asker| asker.solicit(client))?;
        let server = option(&advertise, OptionCode::SERVER_ID).context("no Server Identifier")?.to_vec();
        let renew = |asker: &mut Self, client| {
            let message = asker.message(MessageType::Renew, client).server_id(&server);
            asker.send(message.ia_na(Leases::iaid(client), &[asker.leases.address(client)]))
        };
        clients
            .iter()
            .map(|client| self.timed(*client, |asker| renew(asker, *client)).map(|it| it.0))
            .collect()
    }

    /// Asks every `interval` until told to stop, whether there are answers or not, for clients from number `from` on.
    pub(super) fn steadily(&mut self, interval: Duration, from: u32, stop: &AtomicBool) -> Result<Steady> {
        let mut clients = self.leases.some(1 << 16);
        clients.retain(|client| *client >= from);
        self.socket.set_nonblocking(true)?;
        while self.receive()?.is_some() {}
        let (first, start) = (self.transaction + 1, Instant::now());
        let mut steady = Steady { gap: Duration::ZERO, asked: 0, unanswered: 0 };
        let (mut answered, mut last, mut stopped) = (0, start, None);
        loop {
            let now = Instant::now();
            if stopped.is_none() && stop.load(Ordering::Relaxed) {
                stopped = Some(now);
            }
            if stopped.is_none() && now >= start + interval * steady.asked {
                self.solicit(clients[steady.asked as usize % clients.len()])?;
                steady.asked += 1;
            }
            while let Some((number, _)) = self.receive()? {
                if number >= first {
                    let now = Instant::now();
                    steady.gap = steady.gap.max(now - last);
                    last = now;
                    answered += 1;
                }
            }
            steady.unanswered = steady.asked - answered;
            // The last ones get some time.
            if stopped.is_some_and(|at| steady.unanswered == 0 || at.elapsed() > Duration::from_secs(1)) {
                break;
            }
            thread::sleep(interval / 4);
        }
        // An end without answers is a gap like any other.
        if steady.unanswered > 0
            && let Some(at) = stopped
        {
            steady.gap = steady.gap.max(at.saturating_duration_since(last));
        }
        ensure!(answered > 0, "none of {} questions was answered", steady.asked);
        Ok(steady)
    }

    /// Asks and waits for the answer, which is checked.
    fn timed(
        &mut self,
        client: u32,
        ask: impl FnOnce(&mut Self) -> Result<MessageType>,
    ) -> Result<(Duration, Vec<u8>)> {
        self.socket.set_nonblocking(false)?;
        self.socket.set_read_timeout(Some(PATIENCE))?;
        let start = Instant::now();
        let wanted = ask(self)?;
        let asked = self.transaction;
        loop {
            let (number, message) = self.receive()?.context("no answer")?;
            let took = start.elapsed();
            if number == asked {
                let message = message.to_vec();
                check(self.leases, client, &message, wanted)?;
                return Ok((took, message));
            }
        }
    }

    fn solicit(&mut self, client: u32) -> Result<MessageType> {
        let message = self.message(MessageType::Solicit, client).ia_na(Leases::iaid(client), &[]);
        self.send(message)?;
        Ok(MessageType::Advertise)
    }

    fn message(&mut self, kind: MessageType, client: u32) -> MessageBuilder {
        self.transaction += 1;
        let [_, a, b, c] = self.transaction.to_be_bytes();
        MessageBuilder::new(kind, [a, b, c])
            .client_id(Leases::duid(client).as_slice())
            .elapsed_time()
            .request(&[23, 24])
    }

    /// Returns what the answer to anything but a Solicit is.
    fn send(&self, message: MessageBuilder) -> Result<MessageType> {
        self.socket.send_to(&message.build(), self.servers)?;
        Ok(MessageType::Reply)
    }

    /// The next answer that is there, or comes in time, and the number of its question.
    fn receive(&mut self) -> Result<Option<(u32, &[u8])>> {
        let length = match self.socket.recv(&mut self.buffer) {
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let message = &self.buffer[..length];
        ensure!(length >= MESSAGE_HEADER_LEN, "an answer of {length} octets");
        Ok(Some((u32::from_be_bytes([0, message[1], message[2], message[3]]), message)))
    }
}

/// Makes sure that an answer names the client and its address.
fn check(leases: Leases, client: u32, message: &[u8], kind: MessageType) -> Result<()> {
    let address = leases.address(client).octets();
    ensure!(
        message[0] == kind as u8
            && option(message, OptionCode::CLIENT_ID) == Some(Leases::duid(client).as_slice())
            && option(message, OptionCode::IA_NA)
                .is_some_and(|ia| ia.windows(16).any(|part| part == address)),
        "the answer to client {client} is not a {kind:?} with its address {}: {message:02x?}",
        leases.address(client)
    );
    Ok(())
}

fn option(message: &[u8], code: OptionCode) -> Option<&[u8]> {
    let mut options = OptionWalker::new(&message[MESSAGE_HEADER_LEN..]).filter_map(Result::ok);
    options.find(|option| option.code == code).map(|option| option.value)
}
