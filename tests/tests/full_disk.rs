//! A store that cannot be written to.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use dhcp6_common::wire::MessageType;
use tests::{
    client::BareClient,
    netns::{Wire, privileged},
    server::{Plane, Server},
    subscriber::{address_in, renew, server_id_in, solicit},
    tmpfs::Tmpfs,
};

/// Mounts a small disk over a directory, whose files it takes.
fn small_disk(directory: &Path) -> Result<Tmpfs> {
    let files: Vec<_> = fs::read_dir(directory)?
        .map(|entry| {
            let path = entry?.path();
            Ok((path.clone(), fs::read(path)?))
        })
        .collect::<Result<_>>()?;
    let disk = Tmpfs::mount(directory)?;
    for (path, content) in files {
        fs::write(path, content)?;
    }
    Ok(disk)
}

#[test]
fn nothing_new_is_promised_while_the_disk_is_full() -> Result<()> {
    if !privileged("nothing_new_is_promised_while_the_disk_is_full") {
        return Ok(());
    }
    let wire = Wire::new()?;
    let mut server = Server::start(&wire, Plane::DaemonOnly)?;
    server.stop()?;
    let state = server.database().parent().context("a directory")?.to_owned();
    let disk = small_disk(&state)?;
    server.restart()?;
    let client = BareClient::open(&wire.client)?;
    let known = client.exchange(&solicit(1, 0))?;
    let server_id = server_id_in(&known)?;
    let address = address_in(&known)?;

    let ballast = disk.fill()?;
    // The log of the database may still have some room of its own.
    let mut answered = 1_u8;
    let first_refused = (2..=250).find(|client_number| {
        let sent = client.send(&solicit(*client_number, 0)).is_ok();
        let reply = client.receive(Duration::from_millis(300)).ok().flatten();
        answered += u8::from(reply.is_some());
        sent && reply.is_none()
    });
    let refused = first_refused.context("a disk without room takes everything")?;
    let status = server.ctl_json(&["status"])?;
    assert_eq!(status["store"]["ok"], false, "{status}");
    assert!(status["store"]["last_error"].as_str().is_some_and(|error| error.contains("full")), "{status}");
    let counters = server.ctl_json(&["stats"])?;
    assert!(counters["slow_path"]["dropped"]["store_failed"].as_u64() > Some(0), "{counters}");
    // What storage covers already goes on.
    let renewed = client.exchange(&renew(1, &server_id, address))?;
    assert_eq!(renewed[0], MessageType::Reply as u8);

    fs::remove_file(ballast)?;
    let began = Instant::now();
    let delay = loop {
        client.send(&solicit(refused, 1))?;
        if client.receive(Duration::from_millis(200))?.is_some() {
            break began.elapsed();
        }
        ensure!(began.elapsed() < Duration::from_secs(5), "no service: {}", server.log());
    };
    assert!(delay < Duration::from_secs(1), "back after {delay:?}");
    assert_eq!(server.ctl_json(&["status"])?["store"]["ok"], true);
    let log = server.log();
    assert_eq!(log.matches("nothing new is promised until this works").count(), 1, "said once: {log}");

    // After a crash, everybody who was answered still has a lease.
    server.kill()?;
    server.restart()?;
    let bound = server.ctl_json(&["lease", "list"])?;
    let bound = bound.as_array().context("a list")?.iter().filter(|lease| lease["state"] == "bound").count();
    assert!(bound > usize::from(answered), "{bound} leases of {answered} and the last");
    server.kill()
}
