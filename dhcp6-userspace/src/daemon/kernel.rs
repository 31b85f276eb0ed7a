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
    /// The links that the kernel answers on, and their interfaces.
    interfaces: Vec<(u32, Interface)>,
    /// Bindings that the maps did not take.
    pub(super) refused: u64,
}

impl Kernel {
    /// Loads the program for the links that have an interface, and fills the maps; what `before` has counted goes on.
    /// Nothing is attached yet. `None` where the fast path is off or no link has an interface.
    pub(super) fn load(
        config: &Config,
        engine: &Engine,
        clock: Clock,
        interfaces: &[(u32, Interface)],
        before: Option<&Self>,
    ) -> Result<Option<Self>> {
        if !config.fast_path.enabled {
            return Ok(None);
        }
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
        let mut kernel = Self { fast_path, clock, interfaces: interfaces.to_vec(), refused: 0 };
        for binding in engine.kernel_bindings() {
            kernel.put(&binding, before);
        }
        Ok(Some(kernel))
    }

    /// Attaches the program to every interface, and shows the maps to others. Where `before` is attached, it takes
    /// its place.
    ///
    /// # Errors
    ///
    /// Where the program cannot be attached to one of the interfaces that `before` does not have, or the maps cannot
    /// be shown; `before` is as it was then. An interface of `before` that refuses is left without a program, which
    /// is logged: the daemon answers there alone.
    pub(super) fn attach(&mut self, setting: XdpModeSetting, mut before: Option<&mut Self>) -> Result<()> {
        let interfaces = self.interfaces.clone();
        let slot_before = |before: &Option<&mut Self>, interface: &Interface| {
            before.as_ref().and_then(|before| before.slot_of(interface))
        };
        for (slot, interface) in &interfaces {
            if slot_before(&before, interface).is_none() {
                self.attach_one(*slot, &interface.name, setting)?;
            }
        }
        self.fast_path.publish()?;
        for (slot, interface) in &interfaces {
            let Some(from_slot) = slot_before(&before, interface) else { continue };
            let Some(before) = &mut before else { continue };
            let Self { fast_path, .. } = self;
            let continued = fast_path.counters.continue_from(*slot, &before.fast_path.counters, from_slot);
            if let Err(failure) = continued {
                warn!("{failure}: the counters of {} begin at 0 again", interface.name);
            }
            let name = &interface.name;
            let replaced = fast_path.take_over(*slot, name, setting, &mut before.fast_path);
            let attached = match replaced {
                Ok(true) => Ok(()),
                // In another mode, or nowhere.
                Ok(false) => before
                    .fast_path
                    .detach_from(name)
                    .map_err(Into::into)
                    .and_then(|()| self.attach_one(*slot, name, setting)),
                Err(failure) => Err(failure.into()),
            };
            if let Err(failure) = attached {
                error!("{failure:#}: no fast path on {name} any more");
            }
        }
        Ok(())
    }

    fn attach_one(&mut self, slot: u32, name: &str, setting: XdpModeSetting) -> Result<()> {
        let mode = self.fast_path.attach(slot, name, setting)?.mode;
        if mode == AttachedMode::Generic && setting == XdpModeSetting::Auto {
            warn!("{name} has no native XDP: the fast path runs in the network stack, and slower");
        }
        info!("the fast path answers on {name} in {} mode", mode.name());
        Ok(())
    }

    /// The slot of an interface, where it is the same as ever.
    fn slot_of(&self, interface: &Interface) -> Option<u32> {
        self.interfaces.iter().find(|(_, other)| other == interface).map(|(slot, _)| *slot)
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
            self.put(&binding, None);
        }
    }

    /// Lets the kernel answer a client, whose stamps `before` may have.
    fn put(&mut self, binding: &KernelBinding, before: Option<&Self>) {
        let KernelBinding { link, duid, iaid, address, serve_until } = *binding;
        let Some((_, interface)) = self.interfaces.iter().find(|(slot, _)| *slot == link) else { return };
        let stamps = before.and_then(|before| {
            let slot = before.slot_of(interface)?;
            before.fast_path.bindings.get(slot, &duid).ok()?
        });
        let serve_until = self.clock.boottime_of(serve_until);
        let bindings = &mut self.fast_path.bindings;
        if let Err(failure) = bindings.put(link, &duid, address.octets(), iaid, serve_until, stamps) {
            if self.refused == 0 {
                warn!("{failure}: this client, and perhaps others, are answered by the daemon only");
            }
            self.refused += 1;
            // What the map may still hold of the client is not what the engine says.
            self.forget(&[(link, duid)]);
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
