//! Wall clocks that are wrong, or are set while the server runs.
//!
//! libfaketime stands between the server and CLOCK_REALTIME; CLOCK_BOOTTIME, by which leases end, is the machine's.

use std::{
    fs,
    net::Ipv6Addr,
    path::PathBuf,
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result, ensure};
use dhcp6_common::wire::{IA_NA_HEADER_LEN, MESSAGE_HEADER_LEN, MessageType, OptionCode, OptionWalker};
use dhcp6_userspace::lease::{Change, ClockReading, SqliteStore, Store as _};
use tempfile::TempDir;
use tests::{
    client::BareClient,
    frame::MessageBuilder,
    netns::{Wire, privileged},
    server::{Additions, Plane, Server},
};

const DAY: i64 = 86_400;
const YEAR: i64 = 365 * DAY;
/// Preferred and valid lifetime that the server gives by default, in seconds.
const LIFETIMES: (u32, u32) = (3600, 7200);

/// The server's wall clock, which is as much ahead of the machine's as a file says.
struct WallClock {
    library: PathBuf,
    directory: TempDir,
}

impl WallClock {
    /// A wall clock that is right; `None`, said aloud, without libfaketime.
    fn new() -> Result<Option<Self>> {
        let Some(library) = libfaketime() else {
            tests::skip(&tests::not_installed("faketime"));
            return Ok(None);
        };
        let clock = Self { library, directory: TempDir::new()? };
        clock.set_ahead(0)?;
        Ok(Some(clock))
    }

    /// Has a server go by it from its next start on.
    fn govern(&self, server: &mut Server<'_>) {
        server.set_environment("LD_PRELOAD", &self.library);
        server.set_environment("FAKETIME_TIMESTAMP_FILE", self.file());
        // A step is seen at once.
        server.set_environment("FAKETIME_NO_CACHE", "1");
        // Neither CLOCK_MONOTONIC nor CLOCK_BOOTTIME.
        server.set_environment("DONT_FAKE_MONOTONIC", "1");
    }

    /// Sets it so many seconds ahead of the machine's.
    fn set_ahead(&self, seconds: i64) -> Result<()> {
        // Under another name first: the server reads the file each time that it looks at the clock.
        let new = self.directory.path().join("new");
        fs::write(&new, format!("{seconds:+}\n"))?;
        Ok(fs::rename(new, self.file())?)
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("ahead")
    }
}

/// The library for programs with threads, wherever distributions put it.
fn libfaketime() -> Option<PathBuf> {
    let below = |directory: &str| fs::read_dir(directory).into_iter().flatten().flatten().map(|it| it.path());
    let library = |directory: PathBuf| directory.join("faketime/libfaketimeMT.so.1");
    let directories = below("/usr/lib").chain(["/usr/lib", "/usr/lib64"].map(PathBuf::from));
    directories.map(library).find(|path| path.exists())
}

/// The machine's date, `seconds` from now, as log lines begin with it.
fn date(seconds: i64) -> String {
    let now = SystemTime::now();
    let offset = Duration::from_secs(seconds.unsigned_abs());
    let then = if seconds < 0 { now - offset } else { now + offset };
    let text = humantime::format_rfc3339_seconds(then).to_string();
    text[..10].to_owned()
}

fn duid(client: u8) -> [u8; 10] {
    [0, 3, 0, 1, 2, 0, 0, 0, 0, client]
}

fn solicit(client: u8, transaction: u8) -> Vec<u8> {
    let message =
        MessageBuilder::new(MessageType::Solicit, [1, client, transaction]).client_id(&duid(client));
    message.rapid_commit().ia_na(1, &[]).build()
}

fn option(options: &[u8], code: OptionCode) -> Result<&[u8]> {
    let mut options = OptionWalker::new(options).filter_map(Result::ok);
    options.find(|option| option.code == code).map(|option| option.value).context("an option is missing")
}

/// A Renew of what a Reply has given.
fn renew(client: u8, transaction: u8, reply: &[u8]) -> Result<Vec<u8>> {
    let server = option(&reply[MESSAGE_HEADER_LEN..], OptionCode::SERVER_ID)?;
    let message = MessageBuilder::new(MessageType::Renew, [2, client, transaction]).client_id(&duid(client));
    Ok(message.server_id(server).ia_na(1, &[lease(reply)?.0]).build())
}

/// The address in a Reply, and its preferred and valid lifetimes.
fn lease(message: &[u8]) -> Result<(Ipv6Addr, (u32, u32))> {
    ensure!(message[0] == MessageType::Reply as u8, "not a Reply");
    let ia = option(&message[MESSAGE_HEADER_LEN..], OptionCode::IA_NA)?;
    let value = option(&ia[IA_NA_HEADER_LEN..], OptionCode::IA_ADDRESS)?;
    let address: [u8; 16] = *value.first_chunk().context("an address")?;
    let seconds = |at: usize| {
        let octets = value.get(at..).and_then(|value| value.first_chunk()).context("a lifetime")?;
        anyhow::Ok(u32::from_be_bytes(*octets))
    };
    Ok((address.into(), (seconds(16)?, seconds(20)?)))
}

/// How many bound leases there are, and for how many seconds by the machine's clock the first is still valid.
fn left(server: &Server<'_>) -> Result<(usize, i64)> {
    let leases = server.ctl_json(&["lease", "list"])?;
    let leases = leases.as_array().context("a list")?;
    let bound: Vec<_> = leases.iter().filter(|lease| lease["state"] == "bound").collect();
    let Some(first) = bound.first() else { return Ok((0, 0)) };
    let until = humantime::parse_rfc3339(first["valid_until"].as_str().context("a time")?)?;
    let seconds = until.duration_since(SystemTime::now()).map_or_else(
        |past| -i64::try_from(past.duration().as_secs()).unwrap_or(i64::MAX),
        |left| i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
    );
    Ok((bound.len(), seconds))
}

/// How often the log says something.
fn said(server: &Server<'_>, words: &str) -> usize {
    server.log().matches(words).count()
}

/// Has the next server find what one in an earlier boot of the machine has left. The kernel has nothing then.
fn reboot(server: &Server<'_>) -> Result<()> {
    server.detach()?;
    let mut store = SqliteStore::open(server.database())?;
    let reading = store.clock()?.context("the server has left no reading of its clock")?;
    store.commit(&[Change::PutClock(ClockReading { boot_id: [9; 16], ..reading })])?;
    Ok(())
}

#[test]
fn a_step_of_the_wall_clock_expires_and_extends_nothing() -> Result<()> {
    if !privileged("a_step_of_the_wall_clock_expires_and_extends_nothing") {
        return Ok(());
    }
    let Some(wall_clock) = WallClock::new()? else { return Ok(()) };
    for plane in [Plane::Native, Plane::Generic] {
        let wire = Wire::new()?;
        let mut server = Server::prepare(&wire, plane, &Additions::default())?;
        wall_clock.set_ahead(0)?;
        wall_clock.govern(&mut server);
        server.restart()?;
        let client = BareClient::open(&wire.client)?;
        let given = lease(&client.exchange(&solicit(1, 0))?)?;
        assert_eq!(given.1, LIFETIMES);
        let listed = server.ctl_json(&["lease", "list"])?;
        let mut transaction = 0;
        for (round, step) in [DAY, -DAY, 0].into_iter().enumerate() {
            let case = format!("{plane:?}, {step} s");
            wall_clock.set_ahead(step)?;
            let lines = server.log().lines().count();
            server.ctl_json(&["config", "reload"])?;
            let log = server.log();
            let line = log.lines().nth(lines).context("a reload is logged")?;
            assert!(line.contains(&date(step)), "{case}: the server does not see the step: {line}");
            if round == 0 {
                assert_eq!(server.ctl_json(&["lease", "list"])?, listed, "{case}");
            }

            let answered = server.answered()?;
            transaction += 1;
            let reply = client.exchange(&solicit(1, transaction))?;
            assert_eq!(lease(&reply)?, given, "{case}");
            assert_eq!(server.answered()?, answered + 1, "{case}: the kernel answers as before");

            let replies = server.replies()?;
            assert_eq!(lease(&client.exchange(&renew(1, transaction, &reply)?)?)?, given, "{case}");
            assert_eq!(server.replies()?, replies + 1, "{case}: a Renew is the daemon's");
            let (bound, seconds) = left(&server)?;
            assert_eq!(bound, 1, "{case}");
            assert!((7190..=7200).contains(&seconds), "{case}: {seconds} s are left");
            let other = lease(&client.exchange(&solicit(2, transaction))?)?.0;
            assert_ne!(other, given.0, "{case}");
            server.ctl_json(&["lease", "release", &other.to_string()])?;
        }
        assert_eq!(said(&server, "the wall clock"), 0, "{plane:?}: {}", server.log());

        // The next server of this boot goes on by the clock of the first.
        for (count, step) in [DAY, -DAY].into_iter().enumerate() {
            let case = format!("{plane:?}, restart at {step} s");
            server.stop()?;
            wall_clock.set_ahead(step)?;
            server.restart()?;
            assert_eq!(said(&server, "the wall clock was stepped by"), count + 1, "{case}: {}", server.log());
            let (bound, seconds) = left(&server)?;
            assert!(bound == 1 && (7190..=7200).contains(&seconds), "{case}: {bound}, {seconds} s are left");
            let answered = server.answered()?;
            transaction += 1;
            let reply = client.exchange(&solicit(1, transaction))?;
            assert_eq!(lease(&reply)?, given, "{case}");
            assert_eq!(server.answered()?, answered + 1, "{case}: the kernel answers as before");
            assert_eq!(lease(&client.exchange(&renew(1, transaction, &reply)?)?)?, given, "{case}");
            let (_, seconds) = left(&server)?;
            assert!((7190..=7200).contains(&seconds), "{case}: {seconds} s are left");
        }
    }
    Ok(())
}

#[test]
fn leases_end_in_time_whatever_the_wall_clock_does() -> Result<()> {
    const VALID: Duration = Duration::from_secs(3);
    /// The lifetime had begun when the Reply came.
    const NEARLY: Duration = Duration::from_millis(2500);
    if !privileged("leases_end_in_time_whatever_the_wall_clock_does") {
        return Ok(());
    }
    let Some(wall_clock) = WallClock::new()? else { return Ok(()) };
    for step in [DAY, -DAY] {
        let wire = Wire::new()?;
        let additions = Additions {
            fast_path: "horizon = \"1s\"",
            link: "preferred_lifetime = \"2s\"\nvalid_lifetime = \"3s\"",
            ..Additions::default()
        };
        let mut server = Server::prepare(&wire, Plane::Generic, &additions)?;
        wall_clock.set_ahead(0)?;
        wall_clock.govern(&mut server);
        server.restart()?;
        let client = BareClient::open(&wire.client)?;
        client.exchange(&solicit(1, 0))?;
        let given = Instant::now();
        wall_clock.set_ahead(step)?;
        while left(&server)?.0 > 0 {
            ensure!(given.elapsed() < 3 * VALID, "{step}: the lease does not end");
            thread::sleep(Duration::from_millis(50));
        }
        assert!(given.elapsed() >= NEARLY, "{step}: after {:?}", given.elapsed());
    }
    Ok(())
}

#[test]
fn a_start_with_a_clock_that_is_wrong_by_years_is_said_once() -> Result<()> {
    if !privileged("a_start_with_a_clock_that_is_wrong_by_years_is_said_once") {
        return Ok(());
    }
    let Some(wall_clock) = WallClock::new()? else { return Ok(()) };
    for (ahead, doubt) in [
        (-5 * YEAR, "before the last lease in the store: is it right? the server goes on from there"),
        (3 * YEAR, "behind the last lease in the store: is it right? the leases of then last as much longer"),
    ] {
        let wire = Wire::new()?;
        let mut server = Server::prepare(&wire, Plane::Generic, &Additions::default())?;
        wall_clock.set_ahead(0)?;
        wall_clock.govern(&mut server);
        server.restart()?;
        let client = BareClient::open(&wire.client)?;
        let given = lease(&client.exchange(&solicit(1, 0))?)?;
        server.stop()?;
        reboot(&server)?;

        wall_clock.set_ahead(ahead)?;
        server.restart()?;
        assert_eq!((said(&server, doubt), said(&server, "the wall clock")), (1, 1), "{}", server.log());
        let (bound, seconds) = left(&server)?;
        // A server whose clock is behind goes on by the one before.
        let seconds = seconds - ahead.max(0);
        assert!(bound == 1 && (7100..=7200).contains(&seconds), "{ahead} s: {bound}, {seconds} s are left");
        let stranger = lease(&client.exchange(&solicit(2, 0))?)?;
        assert_ne!(stranger.0, given.0, "{ahead} s: an address of somebody else's");
        assert_eq!(stranger.1, LIFETIMES, "{ahead} s");
        let reply = client.exchange(&solicit(1, 1))?;
        assert_eq!(lease(&reply)?, given, "{ahead} s: who comes again gets what it had");
        assert_eq!(lease(&client.exchange(&renew(1, 2, &reply)?)?)?, given, "{ahead} s");
        let answered = server.answered()?;
        assert_eq!(lease(&client.exchange(&solicit(2, 3))?)?, stranger, "{ahead} s");
        assert_eq!(server.answered()?, answered + 1, "{ahead} s: by the kernel");

        // The clock is put right, as by NTP, and the next server of this boot goes on by its own.
        wall_clock.set_ahead(0)?;
        let (bound, before) = left(&server)?;
        server.ctl_json(&["config", "reload"])?;
        assert_eq!(said(&server, "the wall clock"), 1, "{}", server.log());
        server.stop()?;
        server.restart()?;
        let (still, after) = left(&server)?;
        assert_eq!((bound, still), (2, 2), "{ahead} s");
        assert!((before - 10..=before + 1).contains(&after), "{ahead} s: {before} s were left, then {after}");
        assert_eq!(lease(&client.exchange(&solicit(1, 4))?)?, given, "{ahead} s");
    }
    Ok(())
}
