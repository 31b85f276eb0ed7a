//! Real clients, each through its whole life with the server: binding, renewal, release, power-up, a restart of the
//! server, and an address that is in use already.
//!
//! What came out is written to `interop/` in the target directory: a row for each client, and all of them as the
//! table that `dhcp6-userspace/docs/interop.md` shows.

mod client;
mod clients;
mod life;
mod table;

use std::thread;

use anyhow::{Context as _, Result, bail};
use tests::netns::privileged;

use self::{client::Client, life::CHAPTERS};

/// Runs the chapters of a client's life side by side, each with a server and a wire of its own.
fn live(client: &Client) -> Result<()> {
    if !privileged(client.name) || !client.is_installed() {
        return Ok(());
    }
    let played: Vec<_> = thread::scope(|scope| {
        let threads = CHAPTERS.map(|chapter| scope.spawn(move || chapter.play(client)));
        threads.into_iter().map(|thread| thread.join().expect("a chapter does not panic")).collect()
    });
    let done: Vec<_> = played.iter().flat_map(|(done, _)| done.iter().copied()).collect();
    table::write(client, &done)?;
    for (chapter, (_, outcome)) in CHAPTERS.iter().zip(played) {
        outcome.with_context(|| format!("{}: {}", client.name, chapter.name))?;
    }
    for feature in table::Feature::ALL {
        if feature.ability(client).is_ok() && !done.contains(&feature) {
            bail!("{}: no chapter is about {feature:?}", client.name);
        }
    }
    Ok(())
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
