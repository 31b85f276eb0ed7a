//! Interfaces that go and come while the server runs.

use std::{
    collections::BTreeMap,
    mem, thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use nix::net::if_::{if_indextoname, if_nametoindex};
use tracing::{error, info, warn};

use super::{Daemon, kernel::Kernel, listeners::Listener, vlan_offload};
use crate::{
    config::Config,
    engine::DropReason,
    net::{Interface, InterfaceError, InterfaceNews, InterfaceWatch},
};

/// The interfaces of a configuration, by the names that they have there.
pub(super) struct Presence {
    interfaces: BTreeMap<String, State>,
    /// Says when to look; `None` where the kernel does not.
    watch: Option<InterfaceWatch>,
    /// Why those that are there cannot be served, as it was logged.
    complaint: Option<String>,
}

/// An interface of the configuration.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    /// The interface, whatever its name is now; `None` where it is missing.
    pub(super) now: Option<Interface>,
    /// Whether it has come, or come again, since the fast path was started last.
    pub(super) lacks_fast_path: bool,
}

/// Something that has come in the place of what was there.
struct Change {
    /// The name in the configuration.
    name: String,
    found: Interface,
    /// For the log.
    what: String,
}

impl Presence {
    /// Finds the interfaces of the links that have one, and waits for link-local addresses where they have just come up.
    ///
    /// # Errors
    ///
    /// [`InterfaceError`], of one that is missing or has no link-local address in time.
    pub(super) fn find(config: &Config, patience: Duration) -> Result<Self> {
        let watch = InterfaceWatch::open().inspect_err(|failure| {
            warn!("cannot hear of interfaces that change, and look once a second: {failure}");
        });
        // Before the first look, so that nothing is missed in between.
        let none = Self { interfaces: BTreeMap::new(), watch: watch.ok(), complaint: None };
        let interfaces = none.of(config, patience)?;
        Ok(Self { interfaces, ..none })
    }

    /// The interfaces of another configuration. Those that are missing already may still be.
    ///
    /// # Errors
    ///
    /// As [`Presence::find`].
    pub(super) fn of(&self, config: &Config, patience: Duration) -> Result<BTreeMap<String, State>> {
        let deadline = Instant::now() + patience;
        let mut interfaces = BTreeMap::new();
        for name in config.links.iter().filter_map(|link| link.interface.as_ref()) {
            if interfaces.contains_key(name) {
                continue;
            }
            let known = self.interfaces.get(name);
            let state = match (wait_for_interface(name, deadline), known) {
                (Ok(found), _) => State { now: Some(found), lacks_fast_path: false },
                // Renamed, or down.
                (Err(_), Some(known)) => known.clone(),
                (Err(failure), None) => return Err(failure.into()),
            };
            interfaces.insert(name.clone(), state);
        }
        Ok(interfaces)
    }

    /// Goes on with the interfaces of another configuration, for which the fast path was started.
    pub(super) fn replace(&mut self, interfaces: BTreeMap<String, State>) {
        self.interfaces = interfaces;
        self.note_fast_path();
    }

    /// The interfaces that are there, by the index of the link.
    pub(super) fn by_link(&self, config: &Config) -> Vec<(u32, Interface)> {
        by_link(config, &self.interfaces)
    }

    /// Whether the fast path still runs on an interface that had this name when it was started.
    pub(super) fn has_fast_path(&self, interface: &str) -> bool {
        self.interfaces.iter().any(|(name, state)| {
            let now = state.now.as_ref().filter(|_| !state.lacks_fast_path);
            now.is_some_and(|now| name == interface || now.name == interface)
        })
    }

    /// What is known of an interface of the configuration.
    pub(super) fn get(&self, name: &str) -> Option<&State> {
        self.interfaces.get(name)
    }

    fn note_fast_path(&mut self) {
        self.interfaces.values_mut().for_each(|state| state.lacks_fast_path = false);
    }

    /// Whether something may have changed since the last look, and what.
    fn news(&self) -> Option<InterfaceNews> {
        let Some(watch) = &self.watch else { return Some(InterfaceNews::default()) };
        let news = watch.news();
        let is_waiting =
            self.complaint.is_some() || self.interfaces.values().any(|state| state.now.is_none());
        (news.is_any || is_waiting).then_some(news)
    }

    /// Notes what has gone. Returns the indexes that have been served and are no more.
    fn forget(&mut self, news: &InterfaceNews) -> Vec<u32> {
        let mut gone = Vec::new();
        for (name, state) in &mut self.interfaces {
            let Some(interface) = &state.now else { continue };
            let index = interface.index;
            if news.deleted.contains(&index) || if_indextoname(index).is_err() {
                warn!("interface {name} is gone: nothing is served on it until it is back");
                gone.push(index);
                *state = State { now: None, lacks_fast_path: true };
            }
        }
        gone
    }

    /// Looks at what is there. Returns what has changed so that sockets have to be opened.
    fn look(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        for (name, State { now, .. }) in &mut self.interfaces {
            let found = match (Interface::find(name), &*now) {
                (Ok(found), _) => found,
                // Down, or without an address for another reason: its sockets go on when it has one again.
                (Err(_), Some(known)) if if_nametoindex(name.as_str()) == Ok(known.index) => continue,
                (Err(_), Some(known)) => {
                    let renamed = name_of(known.index).and_then(|name| Interface::find(&name).ok());
                    let Some(renamed) = renamed else { continue };
                    renamed
                }
                (Err(_), None) => continue,
            };
            let what = match now {
                Some(known) if known.is_same(&found) => {
                    if known.name != found.name {
                        info!("interface {name} is called {} now, and served as before", found.name);
                        known.name = found.name;
                    }
                    continue;
                }
                Some(known) if known.index != found.index => format!(
                    "{name} is another interface now (index {}, before {}), which is served in its place",
                    found.index, known.index
                ),
                Some(_) => format!("interface {name} is served from another address: {}", found.link_local),
                None => format!("interface {name} is back: serving it from {}", found.link_local),
            };
            changes.push(Change { name: name.clone(), found, what });
        }
        changes
    }

    /// Logs why interfaces cannot be served, unless that was said already.
    fn complain(&mut self, failure: &anyhow::Error) {
        let complaint = Some(format!("{failure:#}"));
        if self.complaint != complaint {
            warn!("{failure:#}: tried again once a second");
            self.complaint = complaint;
        }
    }
}

/// The interfaces that are there, by the index of the link.
pub(super) fn by_link(config: &Config, interfaces: &BTreeMap<String, State>) -> Vec<(u32, Interface)> {
    { config.links.iter().zip(0..) }
        .filter_map(|(link, index)| Some((index, interfaces.get(link.interface.as_ref()?)?.now.clone()?)))
        .collect()
}

fn name_of(index: u32) -> Option<String> {
    if_indextoname(index).ok()?.into_string().ok()
}

/// Looks an interface up, and waits for its link-local address where it has just come up.
fn wait_for_interface(name: &str, deadline: Instant) -> Result<Interface, InterfaceError> {
    loop {
        match Interface::find(name) {
            Err(InterfaceError::NoLinkLocal(_)) if Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(100));
            }
            found => return found,
        }
    }
}

impl Daemon {
    /// Closes the sockets on interfaces that are gone, and opens those on interfaces that have come, or have other
    /// addresses now.
    pub(super) fn look_after_interfaces(&mut self) {
        let Some(news) = self.presence.news() else { return };
        let gone = self.presence.forget(&news);
        if !gone.is_empty() {
            let is_there = |of: &Listener| of.place().0.is_none_or(|index| !gone.contains(&index));
            self.replace_sockets(|before| before.into_iter().filter(is_there).collect());
        }
        let changes = self.presence.look();
        if !changes.is_empty() {
            self.open_anew(&changes);
        }
    }

    fn open_anew(&mut self, changes: &[Change]) {
        let mut states = self.presence.interfaces.clone();
        for Change { name, found, .. } in changes {
            states.insert(name.clone(), State { now: Some(found.clone()), lacks_fast_path: true });
        }
        let interfaces = by_link(&self.config, &states);
        match Listener::plan(&self.config, &interfaces, &self.sockets) {
            Ok(planned) => self.replace_sockets(|before| Listener::carry_out(planned, before)),
            Err(failure) => return self.presence.complain(&failure),
        }
        self.presence.interfaces = states;
        self.presence.complaint = None;
        for change in changes {
            info!("{}", change.what);
        }
        if !self.config.fast_path.enabled {
            return;
        }
        // The engine lets the kernel serve no more than is stored.
        let kernel = vlan_offload::check(&self.config, &interfaces)
            .and_then(|()| Kernel::start(&self.config, &self.engine, self.clock, &interfaces));
        match kernel {
            Ok(kernel) => {
                self.replace_kernel(kernel);
                self.presence.note_fast_path();
            }
            Err(failure) => {
                let names: Vec<_> = changes.iter().map(|change| change.name.as_str()).collect();
                error!(
                    "{failure:#}: the daemon answers on {} alone; `dhcp6ctl config reload` tries again",
                    names.join(", ")
                );
            }
        }
    }

    /// Has other listeners take the place of those that are there. What waits goes on with them.
    pub(super) fn replace_sockets(&mut self, change: impl FnOnce(Vec<Listener>) -> Vec<Listener>) {
        let drops = self.socket_drops();
        let before: Vec<_> = self.sockets.iter().map(Listener::place).collect();
        self.sockets = change(mem::take(&mut self.sockets));
        self.stats.earlier_socket_drops += drops.saturating_sub(self.socket_drops());
        self.redirect_what_waits(&before);
        self.manager.keep(&self.sockets);
    }

    /// Has another fast path take the place of the one that was there.
    pub(super) fn replace_kernel(&mut self, kernel: Option<Kernel>) {
        let refused = self.kernel.as_ref().map_or(0, |before| before.refused);
        self.kernel = kernel;
        if let Some(kernel) = &mut self.kernel {
            kernel.refused += refused;
        }
    }

    /// Has the messages that wait be answered by the listeners that are there now, by the interfaces that they came in on;
    /// `before` is where the listeners of before were. What came in on a link that is not served any more is dropped.
    fn redirect_what_waits(&mut self, before: &[(Option<u32>, bool)]) {
        let now: Vec<_> = self.sockets.iter().map(Listener::place).collect();
        let socket_now = |socket: usize| now.iter().position(|place| *place == before[socket]);
        let gone = self.queue.retain(|received| {
            let Some(socket) = socket_now(received.socket) else { return false };
            received.socket = socket;
            received.arrival.link = self.sockets[socket].links.link_of(received.arrival.vlan);
            received.path.frame.is_none() || received.arrival.link.is_some()
        });
        for _ in 0..gone {
            self.stats.dropped(DropReason::UnknownLink);
        }
        for answers in [&mut self.waiting, &mut self.committing] {
            answers.retain_mut(|addressed| {
                let socket = socket_now(addressed.socket);
                addressed.socket = socket.unwrap_or_default();
                if socket.is_none() {
                    self.stats.dropped(DropReason::SendFailed);
                }
                socket.is_some()
            });
        }
    }
}
