//! The table of clients and what works with them.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Result;

use crate::{
    client::{Ability, Client},
    clients,
};

/// A column of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Feature {
    TwoMessages,
    FourMessages,
    Options,
    Renew,
    Rebind,
    Decline,
    Release,
    FastPath,
}

impl Feature {
    pub(crate) const ALL: [Self; 8] = [
        Self::TwoMessages,
        Self::FourMessages,
        Self::Options,
        Self::Renew,
        Self::Rebind,
        Self::Decline,
        Self::Release,
        Self::FastPath,
    ];

    fn title(self) -> &'static str {
        match self {
            Self::TwoMessages => "two messages",
            Self::FourMessages => "four messages",
            Self::Options => "options",
            Self::Renew => "Renew",
            Self::Rebind => "Rebind",
            Self::Decline => "Decline",
            Self::Release => "Release",
            Self::FastPath => "fast path",
        }
    }

    pub(crate) fn ability(self, client: &Client) -> Ability {
        match self {
            Self::TwoMessages | Self::FourMessages | Self::Options | Self::Renew => Ok(()),
            Self::Rebind => client.rebind.as_ref().map(|_| ()).map_err(|why| *why),
            Self::Decline => client.decline,
            Self::Release => client.release.as_ref().map(|_| ()).map_err(|why| *why),
            Self::FastPath => client.fast_path,
        }
    }
}

/// Writes the row of a client, and the table of all clients that have one.
pub(crate) fn write(client: &Client, done: &[Feature]) -> Result<()> {
    let directory = directory();
    fs::create_dir_all(&directory)?;
    fs::write(row_file(client), row(client, done))?;

    let titles = Feature::ALL.map(Feature::title);
    let mut table = format!("| client | version | {} |\n|---|---|{}\n", titles.join(" | "), "---|".repeat(8));
    for client in clients::ALL {
        table += &fs::read_to_string(row_file(client)).unwrap_or_default();
    }
    table.push('\n');
    for client in clients::ALL {
        for feature in Feature::ALL {
            if let Err(why) = feature.ability(client) {
                writeln!(table, "- {}, {}: {why}.", client.name, feature.title())?;
            }
        }
        if client.crashes_after_decline {
            writeln!(
                table,
                "- {}, Decline: it crashes after its Decline, and gets another address when it is started again.",
                client.name
            )?;
        }
    }
    // Clients finish at the same time: each writes a whole table, and the last one has all the rows.
    let new = directory.join(format!("table.{}", client.program.replace('/', "-")));
    fs::write(&new, table)?;
    Ok(fs::rename(new, directory.join("table.md"))?)
}

fn row(client: &Client, done: &[Feature]) -> String {
    let cells = Feature::ALL.map(|feature| match feature.ability(client) {
        _ if done.contains(&feature) => "yes",
        Ok(()) => "no",
        Err(_) => "client cannot",
    });
    format!("| {} | {} | {} |\n", client.name, client.version(), cells.join(" | "))
}

fn row_file(client: &Client) -> PathBuf {
    directory().join(format!("{}.row", client.package))
}

/// `interop/` in the target directory: beside what Cargo keeps for tests.
fn directory() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it is in the target directory").join("interop")
}
