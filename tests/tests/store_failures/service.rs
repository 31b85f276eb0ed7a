//! A server whose store is about to fail, and its clients.

use std::{
    collections::HashMap,
    net::Ipv6Addr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use dhcp6_common::wire::MessageType;
use tests::{
    client::BareClient,
    netns::Wire,
    server::Server,
    subscriber::{address_in, renew, server_id_in, solicit},
};

/// The client that storage knows before it fails.
const KNOWN: u8 = 1;

/// How long a client waits for an answer that does not come: longer than the daemon for a lock.
const NO_ANSWER: Duration = Duration::from_millis(400);

pub(crate) struct Service<'a> {
    pub(crate) server: Server<'a>,
    client: BareClient,
    server_id: Vec<u8>,
    newest: u8,
    /// What each client was given.
    promised: HashMap<u8, Ipv6Addr>,
    transaction: u8,
}

impl<'a> Service<'a> {
    /// Has a server that was started give the first client its address.
    pub(crate) fn begin(wire: &'a Wire, server: Server<'a>) -> Result<Self> {
        let client = BareClient::open(&wire.client)?;
        let reply = client.exchange(&solicit(KNOWN, 0))?;
        let promised = [(KNOWN, address_in(&reply)?)].into();
        let server_id = server_id_in(&reply)?;
        Ok(Self { server, client, server_id, newest: KNOWN, promised, transaction: 0 })
    }

    /// Sends a Solicit; whether it is answered within `patience`.
    fn ask(&mut self, subscriber: u8, patience: Duration) -> Result<bool> {
        self.transaction = self.transaction.wrapping_add(1);
        let message = solicit(subscriber, self.transaction);
        self.client.send(&message)?;
        let Some(reply) = self.client.receive(patience)? else { return Ok(false) };
        ensure!(reply[..4] == [&[MessageType::Reply as u8], &message[1..4]].concat(), "not the answer");
        let address = address_in(&reply)?;
        let before = self.promised.insert(subscriber, address);
        ensure!(before.is_none_or(|before| before == address), "client {subscriber} has moved");
        Ok(true)
    }

    /// A client that is new is answered.
    pub(crate) fn serves_a_new_client(&mut self) -> Result<()> {
        self.newest += 1;
        let is_served = self.ask(self.newest, Duration::from_secs(3))?;
        ensure!(is_served, "a new client is not served: {}", self.server.log());
        Ok(())
    }

    /// A client that is new is not answered, and its message is counted.
    pub(crate) fn refuses_a_new_client(&mut self) -> Result<()> {
        self.newest += 1;
        let before = self.refused()?;
        let is_served = self.ask(self.newest, NO_ANSWER)?;
        ensure!(!is_served, "client {} is served: {}", self.newest, self.server.log());
        ensure!(self.refused()? == before + 1, "not counted");
        Ok(())
    }

    /// Whether a client that is new is answered once the disk, which has hung for so long, goes on. Not before.
    pub(crate) fn answers_a_new_client_after(
        &mut self,
        pause: Duration,
        go_on: impl FnOnce(),
    ) -> Result<bool> {
        self.newest += 1;
        ensure!(!self.ask(self.newest, pause)?, "client {} is served before it is stored", self.newest);
        go_on();
        let Some(reply) = self.client.receive(Duration::from_secs(1))? else { return Ok(false) };
        self.promised.insert(self.newest, address_in(&reply)?);
        Ok(true)
    }

    /// The client that came last is answered.
    pub(crate) fn serves_who_was_refused(&mut self) -> Result<()> {
        let is_served = self.ask(self.newest, Duration::from_secs(3))?;
        ensure!(is_served, "who was refused is not served: {}", self.server.log());
        Ok(())
    }

    fn refused(&self) -> Result<u64> {
        let stats = self.server.ctl_json(&["stats"])?;
        // What was never counted is not listed.
        Ok(stats["slow_path"]["dropped"]["store_failed"].as_u64().unwrap_or_default())
    }

    /// Whether the store works, and its last error.
    fn store(&self) -> Result<(bool, Option<String>)> {
        let status = self.server.ctl_json(&["status"])?;
        let ok = status["store"]["ok"].as_bool().context("no state of the store")?;
        Ok((ok, status["store"]["last_error"].as_str().map(ToOwned::to_owned)))
    }

    /// The client of before is answered by both planes.
    pub(crate) fn serves_the_known_client(&mut self) -> Result<()> {
        let address = self.promised[&KNOWN];
        let renewed = self.client.exchange(&renew(KNOWN, &self.server_id, address))?;
        ensure!(renewed[0] == MessageType::Reply as u8 && address_in(&renewed)? == address, "not renewed");
        let before = self.server.answered()?;
        ensure!(self.ask(KNOWN, Duration::from_secs(3))?, "no answer");
        ensure!(self.server.answered()? == before + 1, "not the kernel's answer");
        Ok(())
    }

    /// The store fails, with an error that contains this: nothing new is promised, what is covered goes on, and
    /// everybody who wants to know is told.
    pub(crate) fn fails(&mut self, error: &str) -> Result<()> {
        for _ in 0..3 {
            self.refuses_a_new_client()?;
        }
        self.serves_the_known_client()?;
        let (ok, last_error) = self.store()?;
        ensure!(!ok, "the store works");
        ensure!(last_error.as_ref().is_some_and(|last| last.contains(error)), "{last_error:?}");
        self.server.ensure_running()?;
        let log = self.server.log();
        ensure!(log.matches("nothing new is promised until this works").count() == 1, "said once: {log}");
        ensure!(log.matches(error).count() == 1, "with its reason: {log}");
        ensure!(!log.contains("the store works again"), "{log}");
        Ok(())
    }

    /// The cause is gone: the store works without anybody's doing, clients that were refused are served, and the log
    /// says it.
    pub(crate) fn recovers(&mut self) -> Result<()> {
        let began = Instant::now();
        while !self.store()?.0 {
            ensure!(began.elapsed() < Duration::from_secs(3), "no recovery: {}", self.server.log());
            thread::sleep(Duration::from_millis(20));
        }
        self.serves_who_was_refused()?;
        self.serves_a_new_client()?;
        self.serves_the_known_client()?;
        ensure!(self.store()?.0, "the store fails again");
        while !self.server.log().contains("the store works again") {
            ensure!(began.elapsed() < Duration::from_secs(6), "not said: {}", self.server.log());
            thread::sleep(Duration::from_millis(20));
        }
        let log = self.server.log();
        for text in ["the store works again", "nothing new is promised"] {
            ensure!(log.matches(text).count() == 1, "{text} once: {log}");
        }
        Ok(())
    }

    /// What the client that came last was given.
    pub(crate) fn newest_address(&self) -> Ipv6Addr {
        self.promised[&self.newest]
    }

    /// The clients that were answered, and what they were given.
    pub(crate) fn promised(&self) -> &HashMap<u8, Ipv6Addr> {
        &self.promised
    }

    /// A server that is started on what the killed one has left knows all who were answered.
    pub(crate) fn survives_a_crash(&mut self) -> Result<()> {
        self.server.kill()?;
        self.server.restart()?;
        self.knows_all()
    }

    /// Everybody who was answered has a lease.
    pub(crate) fn knows_all(&self) -> Result<()> {
        let leases = self.server.ctl_json(&["lease", "list"])?;
        let leases = leases.as_array().context("a list")?;
        for (subscriber, address) in &self.promised {
            let duid = format!("00:03:00:01:02:00:00:00:01:{subscriber:02x}");
            let is_bound = leases.iter().any(|lease| {
                lease["address"] == address.to_string() && lease["duid"] == duid && lease["state"] == "bound"
            });
            ensure!(is_bound, "client {subscriber} was given {address}: {leases:?}");
        }
        Ok(())
    }
}
