//! Promises survive the death of the server, and power cuts. `cargo xtask torture` tries that for longer.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read as _, Seek as _, SeekFrom, Write as _},
};

use anyhow::{Context as _, Result};
use rand::{SeedableRng as _, rngs::StdRng};
use tempfile::TempDir;
use tests::{
    netns::privileged,
    server::Plane,
    torture::{
        Crash, Outcome,
        disk::Disk,
        mount::{Mounted, has_fuse},
        torture,
    },
};

/// Of each kind, and with the XDP program in each place.
const CRASHES: u32 = 8;

fn survives(crash: Crash) -> Result<()> {
    let seed = rand::random();
    let mut outcome = Outcome::default();
    for plane in [Plane::Native, Plane::Generic] {
        let one = torture(crash, plane, CRASHES, seed, || {});
        outcome.add(one.with_context(|| format!("{crash:?}, {plane:?}, seed {seed}"))?);
    }
    println!("{crash:?}, seed {seed}: {outcome}");
    assert!(outcome.is_clean(), "{crash:?}, seed {seed}: {outcome}");
    assert!(outcome.crashes >= 2 * CRASHES, "{outcome}");
    assert!(outcome.relayed > 0, "nothing came by way of a relay agent");
    assert!(outcome.compared > 0, "nothing was promised");
    Ok(())
}

#[test]
fn promises_survive_the_death_of_the_server() -> Result<()> {
    if !privileged("promises_survive_the_death_of_the_server") {
        return Ok(());
    }
    survives(Crash::Kill)
}

#[test]
fn promises_survive_power_cuts() -> Result<()> {
    if !privileged("promises_survive_power_cuts") || !has_fuse() {
        return Ok(());
    }
    survives(Crash::PowerCut)
}

/// A server that does not sync would be found out: what it writes is lost.
#[test]
fn a_power_cut_takes_what_was_not_synced() -> Result<()> {
    if !privileged("a_power_cut_takes_what_was_not_synced") || !has_fuse() {
        return Ok(());
    }
    let directory = TempDir::new()?;
    let path = |name: &str| directory.path().join(name);
    let mut rng = StdRng::seed_from_u64(1);
    let mut mounted = Mounted::new(Disk::default(), directory.path())?;
    for name in ["synced", "written", "nameless"] {
        File::create(path(name))?.write_all(b"before")?;
    }
    for name in ["synced", "written"] {
        File::open(path(name))?.sync_all()?;
    }
    fs::remove_file(path("nameless"))?;
    File::open(directory.path())?.sync_all()?;
    for name in ["synced", "written"] {
        let mut file = OpenOptions::new().write(true).open(path(name))?;
        file.seek(SeekFrom::End(0))?;
        file.write_all(b" and after")?;
        if name == "synced" {
            file.sync_data()?;
        }
    }
    File::create(path("nameless"))?.sync_all()?;
    let (mut kept, mut lost, mut nameless) = (0, 0, 0);
    for _ in 0..200 {
        let left = mounted.disk().after_cut(&mut rng);
        let contents: Vec<_> =
            left.contents().map(|(name, content)| (name.clone(), content.to_vec())).collect();
        let content = |wanted: &str| contents.iter().find(|(name, _)| name == wanted).map(|(_, it)| &it[..]);
        assert_eq!(content("synced"), Some(&b"before and after"[..]));
        match content("written") {
            Some(b"before") => lost += 1,
            Some(b"before and after") => kept += 1,
            other => panic!("neither before nor after: {other:?}"),
        }
        nameless += u32::from(content("nameless").is_some());
    }
    assert!(kept > 20 && lost > 20 && (21..180).contains(&nameless), "{kept}, {lost}, {nameless}");

    mounted.disk().turn_off();
    assert!(File::open(path("synced")).is_err() || File::open(path("synced"))?.sync_all().is_err());
    let left = mounted.disk().after_cut(&mut rng);
    mounted.replace(left)?;
    let mut text = String::new();
    File::open(path("synced"))?.read_to_string(&mut text)?;
    assert_eq!(text, "before and after", "as processes see it after the cut");
    Ok(())
}
