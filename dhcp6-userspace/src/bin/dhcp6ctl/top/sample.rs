//! What both planes have counted up to one moment.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Instant,
};

use dhcp6_userspace::{
    control::{ControlError, PoolRow, Query, SlowPathCounters, Status, ask},
    fastpath::PinnedMaps,
};

use crate::{
    DEFAULT_PIN_DIR,
    maps::{FastPathCounters, interface_counters},
};

/// Both planes in one moment.
pub(super) struct Sample {
    /// When it was complete.
    pub(super) at: Instant,
    /// What the daemon says, or why it does not.
    pub(super) daemon: Result<DaemonSample, String>,
    /// What the maps hold.
    pub(super) fast_path: FastPathSample,
}

/// What the daemon says.
pub(super) struct DaemonSample {
    pub(super) status: Status,
    pub(super) pools: Vec<PoolRow>,
    pub(super) counters: SlowPathCounters,
}

/// What the maps hold.
pub(super) enum FastPathSample {
    /// Nothing: the daemon runs without a fast path.
    Off,
    /// Nothing that can be read, and why.
    Unreadable(String),
    /// The counters of each interface.
    Interfaces(BTreeMap<String, FastPathCounters>),
}

/// Takes samples of whichever planes can be reached.
pub(super) struct Sampler {
    socket: PathBuf,
    /// As given by the operator.
    given_pin_dir: Option<PathBuf>,
    /// Where the daemon had its maps when it was last reached.
    known_pin_dir: Option<PathBuf>,
}

impl Sampler {
    pub(super) fn new(socket: &Path, pin_dir: Option<PathBuf>) -> Self {
        Self { socket: socket.to_owned(), given_pin_dir: pin_dir, known_pin_dir: None }
    }

    pub(super) fn sample(&mut self) -> Sample {
        let daemon = self.ask();
        let off = daemon.as_ref().is_ok_and(|daemon| daemon.status.fast_path_maps.is_none());
        if let Ok(DaemonSample { status: Status { fast_path_maps: Some(maps), .. }, .. }) = &daemon {
            self.known_pin_dir = Some(maps.pin_dir.clone());
        }
        let fast_path = if off && self.given_pin_dir.is_none() {
            FastPathSample::Off
        } else {
            let pin_dir = self.given_pin_dir.as_deref().or(self.known_pin_dir.as_deref());
            PinnedMaps::open(pin_dir.unwrap_or(Path::new(DEFAULT_PIN_DIR)))
                .and_then(|maps| interface_counters(&maps))
                .map_or_else(
                    |failure| FastPathSample::Unreadable(failure.to_string()),
                    FastPathSample::Interfaces,
                )
        };
        Sample { at: Instant::now(), daemon: daemon.map_err(|failure| failure.to_string()), fast_path }
    }

    fn ask(&self) -> Result<DaemonSample, ControlError> {
        Ok(DaemonSample {
            status: ask(&self.socket, &Query::Status)?,
            pools: ask(&self.socket, &Query::PoolList)?,
            counters: ask(&self.socket, &Query::Stats)?,
        })
    }
}
