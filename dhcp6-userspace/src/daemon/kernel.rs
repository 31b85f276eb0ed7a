//! Keeps the kernel's maps in step with the engine.

use std::time::Duration;

use anyhow::{Context as _, Result};
use dhcp6_common::{Reason, wire::Duid};
use tracing::{error, info, warn};

use crate::{
    clock::Clock,
    config::{Config, XdpModeSetting},
    control::FastPathRow,
    engine::{Engine, KernelBinding},
    fastpath::{AttachedMode, FastPath, MapError, render},
    metrics::InterfaceCounters,
    net::Interface,
    time::Time,
};

/// The fast path of a running daemon.
pub(super) struct Kernel {
    fast_path: FastPath,
    clock: Clock,
    /// The links that the kernel answers on.
    slots: Vec<u32>,
    /// Bindings that the maps did not take.
    pub(super) refused: u64,
}

impl Kernel {
    /// Loads the program for the links that have an interface, and fills the maps. Nothing is attached yet. `None`
    /// where no link has one.
    pub(super) fn load(
        config: &Config,
        engine: &Engine,
        clock: Clock,
        interfaces: &[(u32, Interface)],
    ) -> Result<Option<Self>> {
        let slots: Vec<_> = interfaces.iter().map(|(slot, _)| *slot).collect();
        if slots.is_empty() {
            return Ok(None);
        }
        let links = u32::try_from(config.links.len()).context("too many links")?;
        let mut fast_path = FastPath::load(&config.fast_path, links, &slots)?;
        for (slot, interface) in interfaces {
            let link = &config.links[*slot as usize];
            if Duration::from_secs(link.lifetimes.t1.into()) > config.fast_path.horizon {
                warn!(
                    "link {}: a client renews after {} s (t1), but the kernel answers it for {} s only (horizon): \
                     after an outage in between, the daemon has to answer",
                    link.name,
                    link.lifetimes.t1,
                    config.fast_path.horizon.as_secs()
                );
            }
            let (link, blocks) = render(engine, *slot, link, interface);
            fast_path.links.put(*slot, &link, &blocks)?;
        }
        let mut kernel = Self { fast_path, clock, slots, refused: 0 };
        kernel.serve(engine.kernel_bindings());
        Ok(Some(kernel))
    }

    /// Attaches the program to every interface.
    pub(super) fn attach(&mut self, setting: XdpModeSetting, interfaces: &[(u32, Interface)]) -> Result<()> {
        for (slot, Interface { name, .. }) in interfaces {
            let mode = self.fast_path.attach(*slot, name, setting)?.mode;
            if mode == AttachedMode::Generic && setting == XdpModeSetting::Auto {
                warn!("{name} has no native XDP: the fast path runs in the network stack, and slower");
            }
            info!("the fast path answers on {name} in {} mode", mode.name());
        }
        Ok(())
    }

    /// Makes the kernel forget clients. When this returns, it answers none of them.
    pub(super) fn forget(&mut self, clients: &[(u32, Duid)]) {
        for (link, duid) in clients {
            if let Err(failure) = self.fast_path.bindings.remove(*link, duid) {
                self.suspend(*link, &failure);
            }
        }
    }

    /// Lets the kernel answer clients. Those that the maps do not take are answered by the daemon.
    pub(super) fn serve(&mut self, bindings: impl IntoIterator<Item = KernelBinding>) {
        for binding in bindings {
            let KernelBinding { link, duid, iaid, address, serve_until } = binding;
            if !self.slots.contains(&link) {
                continue;
            }
            let serve_until = self.clock.boottime_of(serve_until);
            if let Err(failure) =
                self.fast_path.bindings.put(link, &duid, address.octets(), iaid, serve_until)
            {
                if self.refused == 0 {
                    warn!("{failure}: this client, and perhaps others, are answered by the daemon only");
                }
                self.refused += 1;
                // What the map may still hold of the client is not what the engine says.
                self.forget(&[(link, duid)]);
            }
        }
    }

    /// When the kernel last granted a client's address; `None` where it has not.
    pub(super) fn last_grant(&self, link: u32, duid: &Duid, address: [u8; 16]) -> Option<Time> {
        let binding = self.fast_path.bindings.get(link, duid).ok().flatten()?;
        (binding.address == address && binding.last_grant != 0)
            .then(|| self.clock.time_of(binding.last_grant))
    }

    pub(super) fn rows(&self) -> Vec<FastPathRow> {
        self.fast_path
            .attachments()
            .map(|attachment| FastPathRow {
                interface: attachment.interface.clone(),
                mode: attachment.mode.name().to_owned(),
            })
            .collect()
    }

    /// What became of the frames on each interface.
    pub(super) fn counters(&self) -> Result<Vec<InterfaceCounters>, MapError> {
        let frames = |slot| {
            Reason::ALL
                .iter()
                .map(|reason| Ok((*reason, self.fast_path.counters.get(slot, *reason)?)))
                .collect::<Result<_, _>>()
        };
        self.fast_path
            .attachments()
            .map(|attachment| {
                Ok(InterfaceCounters {
                    interface: attachment.interface.clone(),
                    frames: frames(attachment.slot)?,
                })
            })
            .collect()
    }

    pub(super) fn flush_logs(&mut self) {
        self.fast_path.flush_logs();
    }

    /// Takes the program off the interfaces.
    pub(super) fn detach(&mut self) -> Result<()> {
        Ok(self.fast_path.detach()?)
    }

    /// A client that cannot be forgotten must not be answered, so the kernel stops answering on its link; where
    /// even that fails, on all links.
    fn suspend(&mut self, link: u32, failure: &MapError) {
        error!(
            "the kernel cannot be made to forget a client ({failure}): no fast path on this link any more"
        );
        if self.fast_path.links.clear(link).is_err()
            && let Err(failure) = self.fast_path.detach()
        {
            error!("{failure}: stopping, so that nothing is answered wrongly");
            std::process::abort();
        }
    }
}
