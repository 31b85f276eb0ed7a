//! The chapters of a client's life.

use std::{
    fs,
    net::Ipv6Addr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use dhcp6_common::wire::MessageType;
use dhcp6_userspace::pool::Resource;
use serde_json::Value;
use tests::{
    capture::{Capture, Captured},
    describe::describe,
    netns::{CLIENT_INTERFACE, SERVER_INTERFACE, Wire, run},
    server::{Additions, Plane, Server},
};

use crate::{
    client::{Client, Home, Release, Wish},
    exchange::Exchange,
    frames::Frames,
    session::{Network, Session},
    table::Feature,
};

/// How long a client may take for a step, on a machine that runs all of them at once.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a client may take until it does what a signal says. dhcpcd at times does not hear it.
const HEARS_A_SIGNAL: Duration = Duration::from_secs(5);

/// The address that the server leases first.
const FIRST: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x1000);

/// A part of a client's life. Each is the first time that the client meets the server.
pub(crate) struct Chapter {
    name: &'static str,
    /// Whether the client asks for the two-message exchange.
    rapid_commit: bool,
    /// The keys of the server's links; `None` where the client cannot live through the chapter.
    keys: fn(&Client) -> Option<String>,
    plot: fn(&mut Scene<'_>, &mut Server<'_>) -> Result<()>,
}

const RENEWAL: Chapter = Chapter {
    name: "binding, renewal and release",
    rapid_commit: false,
    keys: |client| Some(client.renewal.settings()),
    plot: |scene, server| scene.renewal(server),
};
const POWER_UP: Chapter = Chapter {
    name: "power-up",
    rapid_commit: true,
    keys: |_| Some(String::new()),
    plot: |scene, server| scene.power_up(server),
};
const RESTART: Chapter = Chapter {
    name: "restart of the server",
    rapid_commit: true,
    keys: |client| client.rebind.as_ref().ok().map(|outage| outage.timers.settings()),
    plot: |scene, server| scene.restart(server),
};
const DECLINE: Chapter = Chapter {
    name: "an address in use",
    rapid_commit: true,
    // The kernel removes a duplicate address whose lifetime ends before the client can see what it is.
    keys: |client| {
        let keys = "preferred_lifetime = \"infinity\"\nvalid_lifetime = \"infinity\"";
        client.decline.ok().map(|()| keys.to_owned())
    },
    plot: |scene, server| scene.decline(server),
};

/// The chapters that a client lives through in a session.
pub(crate) fn chapters(session: &Session) -> &'static [Chapter] {
    if session.is_plain() { &[RENEWAL, POWER_UP, RESTART, DECLINE] } else { &[RENEWAL, POWER_UP, RESTART] }
}

impl Chapter {
    /// Plays the chapter with a server on this plane. Returns what the client has done up to the end or to what went
    /// wrong.
    pub(crate) fn play(
        &self,
        client: &Client,
        session: &Session,
        plane: Plane,
    ) -> (Vec<Feature>, Result<()>) {
        let mut done = Vec::new();
        let outcome = (self.keys)(client)
            .map_or(Ok(()), |keys| self.try_to_play(client, session, plane, &keys, &mut done));
        (done, outcome.with_context(|| format!("{}, {plane:?}", self.name)))
    }

    fn try_to_play(
        &self,
        client: &Client,
        session: &Session,
        plane: Plane,
        keys: &str,
        done: &mut Vec<Feature>,
    ) -> Result<()> {
        let network = Network::new(session)?;
        let wire = network.ends();
        let capture = Capture::start(&wire.client)?;
        let wish = Wish { rapid_commit: self.rapid_commit, ias: session.ias };
        let home = Home::new(client, wish, &wire.client)?;
        let file = session.configuration(keys);
        let additions = Additions { link: keys, file: &file, ..Additions::default() };
        let mut server = Server::start_with(wire, plane, &additions)?;
        let frames = Frames::watch(wire, &server, plane)?;
        let mut scene = Scene { client, session, plane, wire, capture: &capture, home, done };
        let outcome = (self.plot)(&mut scene, &mut server)
            .and_then(|()| frames.as_ref().map_or(Ok(()), |frames| frames.check(&server)));
        let log = scene.home.log();
        drop(scene);
        let seen = capture.stop();
        let outcome = outcome.and_then(|()| Exchange::new(&seen)?.check(client, session));
        outcome.with_context(|| {
            let start = seen.first().map_or(Duration::ZERO, |first| first.at);
            let line = |seen: &Captured| {
                format!("{:6.2} s {}", seen.at.saturating_sub(start).as_secs_f64(), describe(&seen.message))
            };
            let exchange: String = seen.iter().map(line).collect();
            format!("the exchange:\n{exchange}the client says:\n{log}")
        })
    }
}

/// A chapter that is being played.
struct Scene<'a> {
    client: &'a Client,
    session: &'a Session,
    plane: Plane,
    wire: &'a Wire,
    capture: &'a Capture,
    home: Home<'a>,
    done: &'a mut Vec<Feature>,
}

impl Scene<'_> {
    fn renewal(&mut self, server: &mut Server<'_>) -> Result<()> {
        self.home.start()?;
        let leases = self.bound(server)?;
        ensure!(self.count(MessageType::Request)? == 1, "four messages");
        self.done.push(Feature::FourMessages);

        until("the options", || {
            let options = self.home.options().unwrap_or_default();
            Ok(["2001:db8::53", "example.net"].iter().all(|option| options.contains(option)).then_some(()))
        })?;
        self.done.push(Feature::Options);

        self.extended(server, MessageType::Renew, &leases)?;
        self.done.push(Feature::Renew);

        let Ok(release) = &self.client.release else { return Ok(()) };
        // Matrix rows L-1, L-5 and L-7.
        self.home.release(release)?;
        let mut told = Instant::now();
        until("a Release", || {
            let leases = leases_of(server)?;
            if leases.iter().all(|lease| lease.state == "remembered") {
                return Ok(Some(()));
            }
            if matches!(release, Release::Signal(_)) && told.elapsed() > HEARS_A_SIGNAL {
                self.home.release(release)?;
                told = Instant::now();
            }
            Ok(None)
        })?;
        let pool = server.ctl_json(&["pool", "show", self.session.link()])?;
        for counts in ["counts", "prefix_counts"] {
            ensure!(pool[counts]["used"] == 0, "what was leased is idle: {pool}");
        }
        self.done.push(Feature::Release);
        Ok(())
    }

    fn power_up(&mut self, server: &mut Server<'_>) -> Result<()> {
        self.home.start()?;
        let first = self.bound(server)?;
        ensure!(self.count(MessageType::Request)? == 0, "two messages");
        self.done.push(Feature::TwoMessages);

        self.home.cut_power()?;
        // A slow start may have had the client repeat its Solicit.
        let before = (server.replies()?, server.answered()?);
        self.home.start()?;
        // Matrix rows S-17 and E-31.
        until("the same leases after the power cut", || Ok(self.has(&first)?.then_some(())))?;
        self.done.push(Feature::PowerCut);
        let kernel_can = self.session.is_answered_by_kernel() && self.client.fast_path.is_ok();
        match self.plane {
            Plane::Native | Plane::Generic if kernel_can => {
                let now = (server.replies()?, server.answered()?);
                ensure!(
                    now.0 == before.0 && now.1 > before.1,
                    "the kernel answers: Replies of daemon and kernel were {before:?} and are {now:?}"
                );
                self.done.push(Feature::FastPath(self.plane));
            }
            _ => ensure!(server.answered()? == 0, "the daemon answers"),
        }
        Ok(())
    }

    fn restart(&mut self, server: &mut Server<'_>) -> Result<()> {
        let Ok(outage) = &self.client.rebind else { bail!("the client cannot rebind") };
        self.home.start()?;
        let first = self.bound(server)?;

        server.kill()?;
        thread::sleep(outage.lasts);
        server.restart()?;
        self.extended(server, MessageType::Rebind, &first)?;
        self.done.push(Feature::Rebind);
        Ok(())
    }

    fn decline(&mut self, server: &mut Server<'_>) -> Result<()> {
        self.wire
            .client
            .enter(|| fs::write(format!("/proc/sys/net/ipv6/conf/{CLIENT_INTERFACE}/accept_dad"), "1"))?;
        let host = format!("{FIRST}/64");
        run(self.wire.server.command("ip").args([
            "address",
            "add",
            &host,
            "dev",
            SERVER_INTERFACE,
            "nodad",
        ]))?;
        self.home.start()?;
        until("a Decline", || {
            let pool = server.ctl_json(&["pool", "show", "access0"])?;
            Ok((pool["counts"]["conflict"] == 1).then_some(()))
        })?;
        if self.client.crashes_after_decline {
            // With its record of the lease it would have the address confirmed that it has just declined.
            self.home.cut_power()?;
            self.home.start()?;
        }
        let leases = self.bound(server)?;
        ensure!(leases.iter().all(|lease| lease.resource != FIRST.into()), "another address");
        let pool = server.ctl_json(&["pool", "show", "access0", "--state", "conflict"])?;
        ensure!(pool["addresses"][0]["address"] == FIRST.to_string(), "in conflict: {pool}");
        self.done.push(Feature::Decline);
        Ok(())
    }

    /// How many transactions the client has begun with a message of this type.
    fn count(&self, kind: MessageType) -> Result<usize> {
        Ok(Exchange::new(&self.capture.seen())?.transactions(kind))
    }

    /// The client's leases, once server and client agree on one for each IA.
    fn bound(&self, server: &Server<'_>) -> Result<Vec<Lease>> {
        until("leases that both sides know", || {
            let leases = leases_of(server)?;
            let mut bound: Vec<_> = leases.into_iter().filter(|lease| lease.state == "bound").collect();
            bound.sort_by_key(|lease| lease.resource.kind());
            let agreed = bound.iter().map(|lease| lease.resource.kind()).eq(self.session.ias.iter().copied());
            Ok((agreed && self.has(&bound)?).then_some(bound))
        })
    }

    /// Whether the client has what the leases are about.
    fn has(&self, leases: &[Lease]) -> Result<bool> {
        for lease in leases {
            if !self.home.has(lease.resource)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Waits until the client has sent a message of this type, and all its leases last longer.
    fn extended(&self, server: &Server<'_>, kind: MessageType, leases: &[Lease]) -> Result<()> {
        let patience = PATIENCE
            + Duration::from_secs(self.client.rebind.as_ref().map_or(0, |outage| outage.timers.t2.into()));
        within(patience, &format!("a {kind:?}"), || Ok((self.count(kind)? > 0).then_some(())))?;
        until("leases that last longer", || {
            let now = self.bound(server)?;
            for (now, earlier) in now.iter().zip(leases) {
                ensure!(
                    now.resource == earlier.resource,
                    "the client keeps what it has: {now:?} after {earlier:?}"
                );
            }
            Ok(now
                .iter()
                .zip(leases)
                .all(|(now, earlier)| now.valid_until > earlier.valid_until)
                .then_some(()))
        })
    }
}

/// A line of `dhcp6ctl lease list`.
#[derive(Debug)]
struct Lease {
    resource: Resource,
    valid_until: String,
    state: String,
}

/// All leases of a server, which has one client.
fn leases_of(server: &Server<'_>) -> Result<Vec<Lease>> {
    let lease = |lease: &Value| -> Option<Lease> {
        let member = if lease["kind"] == "pd" { "prefix" } else { "address" };
        Some(Lease {
            resource: lease[member].as_str()?.parse().ok()?,
            valid_until: lease["valid_until"].as_str()?.to_owned(),
            state: lease["state"].as_str()?.to_owned(),
        })
    };
    let list = server.ctl_json(&["lease", "list"])?;
    list.as_array().into_iter().flatten().map(|row| lease(row).context("not a lease")).collect()
}

fn until<T>(what: &str, check: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    within(PATIENCE, what, check)
}

fn within<T>(patience: Duration, what: &str, mut check: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let started = Instant::now();
    while started.elapsed() < patience {
        if let Some(value) = check()? {
            return Ok(value);
        }
        thread::sleep(Duration::from_millis(250));
    }
    bail!("waited {patience:?} for {what}")
}
