//! Keeps the kernel's maps in step with the engine.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use anyhow::Result;
use dhcp6_common::{Reason, contract::Stamp};
use tracing::{error, info, warn};

use crate::{
    clock::Clock,
    config::{Config, XdpModeSetting},
    control::FastPathRow,
    engine::{Engine, Grant, KernelBinding, Owner},
    fastpath::{
        AttachedMode, Attachment, BindingEntry, FastPath, MapError, Predecessor, Rendering, Sweep,
        wait_for_programs,
    },
    metrics::InterfaceCounters,
    net::{Interface, InterfaceKind, hold_group},
    pool::Resource,
    time::Time,
};

/// The fast path of a running daemon.
pub(super) struct Kernel {
    fast_path: FastPath,
    clock: Clock,
    /// The links that the kernel answers on, and their interfaces.
    interfaces: Vec<(u32, Interface)>,
    /// These links again.
    served: HashSet<u32>,
    /// Each interface once, with its slot.
    slots: Vec<(u32, Interface)>,
    /// Finds out what the kernel has granted; `None` where the maps cannot be read that way.
    sweep: Option<Sweep>,
    /// Bindings that the maps did not take.
    pub(super) refused: u64,
}

impl Kernel {
    /// Has the kernel answer known clients on all links that have an interface with Ethernet. What a daemon has left there, another
    /// one or this one under its last configuration, goes on answering until its place is taken, and is gone then.
    /// `None` where the fast path is off or no link has such an interface.
    ///
    /// # Errors
    ///
    /// Where the program cannot be loaded, or not be attached to an interface that has none. What was there goes on
    /// then.
    pub(super) fn start(
        config: &Config,
        engine: &Engine,
        clock: Clock,
        interfaces: &[(u32, Interface)],
    ) -> Result<Option<Self>> {
        let pin_dir = &config.fast_path.pin_dir;
        let interfaces = &with_ethernet(interfaces);
        if !config.fast_path.enabled || interfaces.is_empty() {
            // Without privileges none can be seen.
            let detached = Predecessor::find(pin_dir).and_then(|mut before| before.detach());
            if let Err(failure) = detached {
                warn!("{failure}: if an earlier daemon has left a fast path there, it goes on");
            }
            return Ok(None);
        }
        let mut predecessor = Predecessor::find(pin_dir)?;
        let mut kernel = Self::load(config, engine, clock, interfaces, &predecessor)?;
        kernel.attach(config.fast_path.mode, &mut predecessor)?;
        match Sweep::open(pin_dir) {
            Ok(sweep) => kernel.sweep = Some(sweep),
            Err(failure) => warn!("{failure}: each client is answered by the daemon once in a horizon"),
        }
        Ok(Some(kernel))
    }

    /// Loads the program for the links that have an interface, and fills the maps; what `predecessor` has counted goes
    /// on. Nothing is attached yet.
    fn load(
        config: &Config,
        engine: &Engine,
        clock: Clock,
        interfaces: &[(u32, Interface)],
        predecessor: &Predecessor,
    ) -> Result<Self> {
        for (index, _) in interfaces {
            let link = &config.links[*index as usize];
            if Duration::from_secs(link.lifetimes.t1.into()) > config.fast_path.horizon {
                warn!(
                    "link {}: a client renews after {} s (t1), but the kernel answers it for {} s only (horizon): \
                     after an outage in between, the daemon has to answer",
                    link.name,
                    link.lifetimes.t1,
                    config.fast_path.horizon.as_secs()
                );
            }
        }
        let rendering = Rendering::new(config, engine, interfaces, rand::random());
        let fast_path = FastPath::load(&config.fast_path, &rendering)?;
        let served = interfaces.iter().map(|(link, _)| *link).collect();
        let slots = rendering.slots(interfaces);
        let mut kernel = Self {
            fast_path,
            clock,
            interfaces: interfaces.to_vec(),
            served,
            slots,
            sweep: None,
            refused: 0,
        };
        kernel.fill(engine);
        if predecessor.maps.is_some() {
            kernel.continue_stamps(config, engine, predecessor);
        }
        Ok(kernel)
    }

    /// Lets the kernel answer every client that it may.
    fn fill(&mut self, engine: &Engine) {
        let Self { fast_path, clock, served: is_served, refused, .. } = self;
        let served = engine.kernel_bindings(clock.now());
        let served = served.filter(|binding| is_served.contains(&binding.owner.link));
        *refused = fast_path.bindings.fill(served.map(|binding| entry(&binding, clock, Stamp::NONE)));
        if *refused > 0 {
            warn!(
                "the maps have no room for {refused} clients, which are answered by the daemon only: raise \
                 [fast_path] max_bindings"
            );
        }
    }

    /// Counts grants on from where a predecessor is, of the clients that are still served with the same.
    fn continue_stamps(&mut self, config: &Config, engine: &Engine, predecessor: &Predecessor) {
        let Self { fast_path, clock, interfaces, .. } = self;
        let now_at: HashMap<(&str, u32), u32> = { interfaces.iter() }
            .map(|(link, interface)| ((&*config.links[*link as usize].name, interface.index), *link))
            .collect();
        // Names that are too long for the map are too long to be found again.
        let before = predecessor.links();
        let links: HashMap<u32, u32> = { before.iter() }
            .filter_map(|(index, name, ifindex)| {
                let end = name.iter().position(|octet| *octet == 0)?;
                let name = str::from_utf8(&name[..end]).ok()?;
                Some((*index, *now_at.get(&(name, *ifindex))?))
            })
            .collect();
        let counted = Sweep::open(&config.fast_path.pin_dir).and_then(|mut sweep| {
            loop {
                let (entries, is_last) = sweep.next_batch()?;
                let granted = entries.into_iter().filter(|entry| entry.binding.stamp != Stamp::NONE);
                fast_path.bindings.fill(granted.filter_map(|before| {
                    let owner = Owner { link: *links.get(&before.owner.link)?, ..before.owner };
                    let binding = engine.kernel_binding_of(clock.now(), &owner)?;
                    let is_same = (binding.address, binding.prefix) == (before.address(), before.prefix());
                    is_same.then(|| entry(&binding, clock, before.binding.stamp))
                }));
                if is_last {
                    break Ok(());
                }
            }
        });
        if let Err(failure) = counted {
            warn!("{failure}: the grants of some clients are counted from 0 again");
        }
    }

    /// Attaches the program to every interface, takes the place of `predecessor`, and shows the maps to others.
    ///
    /// # Errors
    ///
    /// Where the program cannot be attached to an interface that has none yet, or the maps cannot be shown; the
    /// predecessor goes on then. An interface of the predecessor that refuses is left without a program, which is
    /// logged: the daemon answers there alone.
    fn attach(&mut self, setting: XdpModeSetting, predecessor: &mut Predecessor) -> Result<()> {
        let interfaces = self.slots.clone();
        let (taken, fresh): (Vec<_>, Vec<_>) =
            interfaces.iter().partition(|(_, interface)| predecessor.is_on(interface, setting));
        for (slot, interface) in fresh {
            // In a mode that is not allowed any more, it is in the way.
            predecessor.detach_from(interface)?;
            announce(self.fast_path.attach(*slot, interface, setting)?, setting);
        }
        self.continue_counters(predecessor);
        self.fast_path.publish()?;
        let has_predecessor = !taken.is_empty();
        for (slot, interface) in taken {
            let name = &interface.name;
            match self.fast_path.take_over(*slot, interface, predecessor) {
                Ok(_) => info!("the fast path goes on answering on {name}"),
                Err(failure) => {
                    warn!("{failure}");
                    match self.fast_path.attach(*slot, interface, setting) {
                        Ok(attachment) => announce(attachment, setting),
                        Err(failure) => error!("{failure}: no fast path on {name} before a restart"),
                    }
                }
            }
        }
        if has_predecessor {
            // Now it counts no more.
            wait_for_programs();
            self.continue_counters(predecessor);
        }
        if let Err(failure) = predecessor.detach() {
            error!("{failure}: the program that is there must not answer any more");
            predecessor.silence()?;
        }
        if let Err(failure) = self.fast_path.keep() {
            error!("{failure}: the fast path ends with this process");
        }
        for (_, interface) in &interfaces {
            if let Err(failure) = hold_group(interface) {
                let name = &interface.name;
                warn!("{name} may not receive clients' messages while the daemon is down: {failure}");
            }
        }
        Ok(())
    }

    /// Counts on from where a predecessor is. May be done again when that has counted on.
    fn continue_counters(&mut self, predecessor: &Predecessor) {
        for (slot, interface) in &self.slots {
            let Some((maps, from)) = predecessor.maps.as_ref().zip(predecessor.slot_of(interface)) else {
                continue;
            };
            if let Err(failure) = self.fast_path.counters.continue_from(*slot, &maps.counters, from) {
                warn!("{failure}: the counters of {} begin at 0 again", interface.name);
            }
        }
    }

    /// Makes the kernel forget clients. When this returns, it answers none of them.
    pub(super) fn forget(&mut self, clients: &[Owner]) {
        for owner in clients {
            if let Err(failure) = self.fast_path.bindings.remove(owner) {
                self.suspend(owner.link, &failure);
            }
        }
    }

    /// Lets the kernel answer clients. Those that the maps do not take are answered by the daemon.
    pub(super) fn serve(&mut self, bindings: impl IntoIterator<Item = KernelBinding>) {
        for binding in bindings {
            self.put(&binding);
        }
    }

    fn put(&mut self, binding: &KernelBinding) {
        if !self.serves(binding.owner.link) {
            return;
        }
        let entry = entry(binding, &self.clock, Stamp::NONE);
        if let Err(failure) = self.fast_path.bindings.put(&entry) {
            if self.refused == 0 {
                warn!(
                    "{failure}: this client, and perhaps others, are answered by the daemon only; where the map is full, raise \
                     [fast_path] max_bindings"
                );
            }
            self.refused += 1;
            // What the map may still hold of the client is not what the engine says.
            self.forget(&[binding.owner]);
        }
    }

    /// When the kernel last granted a client's address or prefix; `None` where it has not.
    pub(super) fn last_grant(&self, owner: &Owner, resource: Resource) -> Option<Time> {
        let binding = self.fast_path.bindings.get(owner).ok().flatten()?;
        let entry = BindingEntry { owner: *owner, binding };
        let is_granted = entry.granted().any(|(_, granted)| granted == resource);
        is_granted.then(|| self.clock.time_of(binding.stamp.last_grant()))
    }

    /// Whether the kernel has granted a client's lease within the last `period`.
    ///
    /// Whoever gives its address back, and solicits again before the daemon has read that it does, may be answered by
    /// the kernel. Its Release must not take away then what was granted after it.
    pub(super) fn granted_since(&self, owner: &Owner, period: Duration) -> bool {
        let binding = self.fast_path.bindings.get(owner).ok().flatten();
        binding.is_some_and(|binding| binding.stamp.last_grant() > self.clock.boottime_ago(period))
    }

    /// Whether the kernel answers on a link at all.
    pub(super) fn serves(&self, link: u32) -> bool {
        self.served.contains(&link)
    }

    /// Looks at some of the bindings: what the kernel has granted of them, and whether a round through all is complete.
    pub(super) fn sweep(&mut self) -> (Vec<Grant>, bool) {
        let Some(sweep) = &mut self.sweep else { return (Vec::new(), true) };
        let (entries, is_complete) = sweep.next_batch().unwrap_or_else(|failure| {
            warn!("{failure}: this round through the bindings is given up");
            (Vec::new(), true)
        });
        let clock = self.clock;
        let grants = entries.iter().flat_map(|entry| {
            let at = clock.time_of(entry.binding.stamp.last_grant());
            entry.granted().map(move |(iaid, resource)| Grant { owner: entry.owner, iaid, resource, at })
        });
        (grants.collect(), is_complete)
    }

    /// Where the program runs, with this `mode` in the configuration.
    pub(super) fn rows(&self, setting: XdpModeSetting) -> Vec<FastPathRow> {
        self.fast_path
            .attachments()
            .map(|attachment| FastPathRow {
                interface: attachment.interface.clone(),
                mode: attachment.mode.name().to_owned(),
                warning: warning(attachment, setting),
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

    /// A client that cannot be forgotten must not be answered, so the kernel stops answering on its link; where
    /// even that fails, on all links.
    fn suspend(&mut self, link: u32, failure: &MapError) {
        error!(
            "the kernel cannot be made to forget a client ({failure}): no fast path on this link any more"
        );
        if self.fast_path.tables.clear_link(link).is_err()
            && let Err(failure) = self.fast_path.detach()
        {
            error!("{failure}: stopping, so that nothing is answered wrongly");
            std::process::abort();
        }
    }
}

/// An element for the maps, with what was granted of it.
fn entry(binding: &KernelBinding, clock: &Clock, stamp: Stamp) -> BindingEntry {
    BindingEntry::new(binding, clock.boottime_of(binding.serve_until), stamp)
}

/// The interfaces that have frames as the program reads them, by the index of the link.
fn with_ethernet(interfaces: &[(u32, Interface)]) -> Vec<(u32, Interface)> {
    let lacks = |interface: &Interface| InterfaceKind::of(interface).is_ok_and(|kind| !kind.has_ethernet);
    let (without, with): (Vec<_>, Vec<_>) =
        interfaces.iter().cloned().partition(|(_, interface)| lacks(interface));
    for (_, Interface { name, .. }) in without {
        info!("{name} has no Ethernet headers: no fast path there, the daemon answers alone");
    }
    with
}

/// What an operator should know of an attachment under this `mode` in the configuration: who has asked for generic mode
/// knows what it is.
fn warning(attachment: &Attachment, setting: XdpModeSetting) -> Option<String> {
    let Attachment { interface, mode, .. } = attachment;
    let is_fallback = *mode == AttachedMode::Generic && setting == XdpModeSetting::Auto;
    is_fallback.then(|| {
        format!("{interface} has no native XDP: the fast path runs in the network stack, and slower")
    })
}

fn announce(attachment: &Attachment, setting: XdpModeSetting) {
    let Attachment { interface, mode, .. } = attachment;
    if let Some(warning) = warning(attachment, setting) {
        warn!("{warning}");
    }
    info!("the fast path answers on {interface} in {} mode", mode.name());
}
