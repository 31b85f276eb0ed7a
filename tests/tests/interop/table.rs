//! The table of clients and what works with them.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Result;
use tests::server::Plane;

use crate::{
    PLANES,
    client::{Ability, Client, OneByOne},
    clients,
    session::Session,
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
    PowerCut,
    /// The kernel answers, in the driver or in the network stack.
    FastPath(Plane),
}

impl Feature {
    pub(crate) const ALL: [Self; 10] = [
        Self::TwoMessages,
        Self::FourMessages,
        Self::Options,
        Self::Renew,
        Self::Rebind,
        Self::Decline,
        Self::Release,
        Self::PowerCut,
        Self::FastPath(Plane::Native),
        Self::FastPath(Plane::Generic),
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
            Self::PowerCut => "power cut",
            Self::FastPath(Plane::Native) => "native",
            Self::FastPath(_) => "generic",
        }
    }

    fn ability(self, client: &Client) -> Ability {
        match self {
            Self::TwoMessages | Self::FourMessages | Self::Options | Self::Renew | Self::PowerCut => Ok(()),
            Self::Rebind => client.rebind.as_ref().map(|_| ()).map_err(|why| *why),
            Self::Decline => client.decline,
            Self::Release => client.release.as_ref().map(|_| ()).map_err(|why| *why),
            Self::FastPath(_) => client.fast_path,
        }
    }

    /// The planes that it is about.
    fn planes(self) -> Vec<Plane> {
        match self {
            Self::FastPath(plane) => vec![plane],
            _ => PLANES.to_vec(),
        }
    }
}

/// What a client has done in a session.
pub(crate) struct Row<'a> {
    pub(crate) session: &'a Session,
    /// With which plane it has done what.
    pub(crate) done: Vec<(Plane, Feature)>,
}

impl Row<'_> {
    /// Whether the client can do it, or why not; `None` where the session is not about that.
    pub(crate) fn ability(&self, client: &Client, feature: Feature) -> Option<Ability> {
        let is_in_session = match feature {
            Feature::Decline => self.session.is_plain(),
            Feature::FastPath(_) => self.session.is_answered_by_kernel(),
            _ => true,
        };
        is_in_session.then(|| feature.ability(client))
    }

    /// Whether it was done with every plane that it is about.
    pub(crate) fn has_done(&self, feature: Feature) -> bool {
        feature.planes().into_iter().all(|plane| self.done.contains(&(plane, feature)))
    }

    fn is_one_by_one(&self, client: &Client, feature: Feature) -> bool {
        self.session.ias.len() > 1 && client.one_by_one.features.contains(&feature)
    }

    fn text(&self, client: &Client) -> String {
        let cells = Feature::ALL.map(|feature| match self.ability(client, feature) {
            None => "",
            Some(_) if !self.has_done(feature) => {
                if feature.ability(client).is_ok() {
                    "no"
                } else {
                    "client cannot"
                }
            }
            Some(_) if self.is_one_by_one(client, feature) => "one by one",
            Some(_) => "yes",
        });
        let (name, version, session) = (client.name, client.version(), self.session.name);
        format!("| {name} | {version} | {session} | {} |\n", cells.join(" | "))
    }
}

/// Writes the rows of a client, and the table of all clients that have some.
pub(crate) fn write(client: &Client, rows: &[Row<'_>]) -> Result<()> {
    let directory = directory();
    fs::create_dir_all(&directory)?;
    fs::write(rows_file(client), rows.iter().map(|row| row.text(client)).collect::<String>())?;

    let titles = Feature::ALL.map(Feature::title);
    let rule = "---|".repeat(3 + titles.len());
    let mut table = format!("| client | version | session | {} |\n|{rule}\n", titles.join(" | "));
    for client in clients::ALL {
        table += &fs::read_to_string(rows_file(client)).unwrap_or_default();
    }
    table.push('\n');
    for client in clients::ALL {
        for feature in Feature::ALL {
            if let Err(why) = feature.ability(client) {
                writeln!(table, "- {}, {}: {why}.", client.name, feature.title())?;
            }
        }
        let OneByOne { features, why } = client.one_by_one;
        for feature in features {
            writeln!(table, "- {}, {} of IA_NA + IA_PD: {why}.", client.name, feature.title())?;
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

fn rows_file(client: &Client) -> PathBuf {
    directory().join(format!("{}.rows", client.package))
}

/// `interop/` in the target directory: beside what Cargo keeps for tests.
fn directory() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it is in the target directory").join("interop")
}
