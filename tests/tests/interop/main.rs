//! Real clients, each through its whole life with the server, with an address, a prefix or both, directly and through
//! relay agents: binding, renewal, release, power-up, a restart of the server, and an address that is in use already.
//!
//! What came out is written to `interop/` in the target directory: the rows of each client, and all of them as the
//! table that `dhcp6-userspace/docs/interop.md` shows.

mod client;
mod clients;
mod exchange;
mod life;
mod session;
mod table;

use std::{process::Command, thread};

use anyhow::{Result, ensure};
use tests::netns::privileged;

use self::{
    client::Client,
    session::{SESSIONS, Session},
    table::{Feature, Row},
};

/// Runs the chapters of a client's life, in all sessions, side by side, each with a server and a network of its own.
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
    let played: Vec<_> = thread::scope(|scope| {
        let play = |chapter: life::Chapter| scope.spawn(move || chapter.play(client, session));
        let threads: Vec<_> = life::chapters(session).into_iter().map(play).collect();
        threads.into_iter().map(|thread| thread.join().expect("a chapter does not panic")).collect()
    });
    let (done, outcomes): (Vec<_>, Vec<_>) = played.into_iter().unzip();
    let row = Row { session, done: done.concat() };
    let errors = outcomes.into_iter().filter_map(Result::err).map(|error| format!("{error:#}"));
    let missing =
        |feature: &Feature| row.ability(client, *feature) == Some(Ok(())) && !row.done.contains(feature);
    let missing =
        Feature::ALL.into_iter().filter(missing).map(|feature| format!("no chapter is about {feature:?}"));
    let failures = errors.chain(missing).map(|failure| format!("{}: {failure}", session.name)).collect();
    (row, failures)
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
