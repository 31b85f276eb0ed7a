//! Real clients, each through its whole life with the server, with an address, a prefix or both, directly and through
//! relay agents: binding, renewal, release, power-up, a restart of the server, and an address that is in use already. All
//! of that three times: with the daemon alone, and with the XDP program in native and in generic mode.
//!
//! What came out is written to `interop/` in the target directory: the rows of each client, and all of them as the
//! table that `dhcp6-userspace/docs/interop.md` shows.

mod client;
mod clients;
mod exchange;
mod frames;
mod life;
mod session;
mod table;

use std::{process::Command, thread};

use anyhow::{Result, ensure};
use tests::{netns::privileged, server::Plane};

use self::{
    client::Client,
    session::{SESSIONS, Session},
    table::{Feature, Row},
};

/// With what a server answers: all of them.
const PLANES: [Plane; 3] = [Plane::DaemonOnly, Plane::Native, Plane::Generic];

/// Runs the chapters of a client's life, in all sessions and with all planes, side by side, each with a server and a
/// network of its own.
fn live(client: &Client) -> Result<()> {
    if !privileged(client.name) || !client.is_installed() {
        return Ok(());
    }
    let has_relay_agent = Command::new("dhcrelay").arg("--version").output().is_ok();
    if !has_relay_agent {
        tests::skip(&tests::not_installed("dhcrelay"));
    }
    let sessions: Vec<_> = SESSIONS.iter().filter(|session| session.relays == 0 || has_relay_agent).collect();
    let (rows, outcomes): (Vec<_>, Vec<_>) = thread::scope(|scope| {
        let threads: Vec<_> =
            sessions.iter().map(|session| scope.spawn(move || live_through(client, session))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a session does not panic")).unzip()
    });
    table::write(client, &rows)?;
    let failures = outcomes.into_iter().flatten().collect::<Vec<_>>();
    ensure!(failures.is_empty(), "{}: {}", client.name, failures.join("\n"));
    Ok(())
}

/// Runs the chapters of a session side by side. Returns also what went wrong.
fn live_through<'a>(client: &Client, session: &'a Session) -> (Row<'a>, Vec<String>) {
    let chapters =
        || PLANES.into_iter().flat_map(|plane| life::chapters(session).iter().map(move |it| (plane, it)));
    let played: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = chapters()
            .map(|(plane, chapter)| scope.spawn(move || (plane, chapter.play(client, session, plane))))
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("a chapter does not panic")).collect()
    });
    let mut row = Row { session, done: Vec::new() };
    let mut failures = Vec::new();
    for (plane, (done, outcome)) in played {
        row.done.extend(done.into_iter().map(|feature| (plane, feature)));
        failures.extend(outcome.err().map(|error| format!("{error:#}")));
    }
    for feature in Feature::ALL {
        if row.ability(client, feature) == Some(Ok(())) && !row.has_done(feature) {
            failures.push(format!("no chapter is about {feature:?} with all planes"));
        }
    }
    (row, failures.into_iter().map(|failure| format!("{}: {failure}", session.name)).collect())
}

#[test]
fn dhcp6c() -> Result<()> {
    live(&clients::dhcp6c::CLIENT)
}

#[test]
fn dhclient() -> Result<()> {
    live(&clients::dhclient::CLIENT)
}

#[test]
fn dhcpcd() -> Result<()> {
    live(&clients::dhcpcd::CLIENT)
}

#[test]
fn dibbler() -> Result<()> {
    live(&clients::dibbler::CLIENT)
}

#[test]
fn networkd() -> Result<()> {
    live(&clients::networkd::CLIENT)
}
