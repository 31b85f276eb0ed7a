//! The interfaces that are served, and the sockets on them.

use std::{
    os::fd::{AsFd as _, BorrowedFd},
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use tracing::{info, warn};

use super::service::{ServiceManager, socket_name};
use crate::{
    config::Config,
    net::{FrameObserver, InheritedSocket, Interface, InterfaceError, ServerSocket, SocketError},
};

/// A socket, and the index of the link that its interface is attached to.
pub(super) struct Listener {
    pub(super) link: Option<u32>,
    /// Tells MAC addresses, where the link has reservations by them.
    pub(super) observer: Option<FrameObserver>,
    pub(super) socket: ServerSocket,
}

/// A listener in the making.
pub(super) struct Planned {
    link: Option<u32>,
    /// Whether it is to tell MAC addresses.
    needs_macs: bool,
    /// Opened where the listener kept, if any, has none.
    observer: Option<FrameObserver>,
    socket: PlannedSocket,
}

enum PlannedSocket {
    Opened(ServerSocket),
    /// That of the listener that was there before, by its index.
    Kept(usize),
}

impl Listener {
    /// Opens a socket for each of the interfaces, and one for relay agents elsewhere if there is a link that only
    /// they reach. Those that an earlier daemon has left are taken over where they fit, and closed where not.
    pub(super) fn open_all(
        config: &Config,
        interfaces: &[(u32, Interface)],
        manager: &mut ServiceManager,
    ) -> Result<Vec<Self>> {
        let before = Self::take_over(config, interfaces, manager.inherited());
        manager.close_others(&before);
        let planned = Self::plan(config, interfaces, &before)?;
        Ok(Self::carry_out(planned, before))
    }

    /// Makes listeners of the sockets that an earlier daemon has left, as far as they fit. The others are closed.
    fn take_over(
        config: &Config,
        interfaces: &[(u32, Interface)],
        mut inherited: Vec<InheritedSocket>,
    ) -> Vec<Self> {
        let port = config.server.port;
        let relayed = config.links.iter().any(|link| link.interface.is_none());
        let on_interfaces = interfaces.iter().map(|(link, interface)| (Some(*link), Some(interface)));
        let mut take = |fits: &dyn Fn(&InheritedSocket) -> bool| {
            inherited.iter().position(fits).map(|index| inherited.swap_remove(index))
        };
        let listener = |(link, interface): (Option<u32>, Option<&Interface>)| {
            let socket = take(&|socket| socket.listens_on(interface, port))?;
            let socket = usable(ServerSocket::take_over(socket, interface.cloned(), port, relayed))?;
            let needs_macs = link.is_some_and(|link| config.links[link as usize].knows_macs());
            let observer = interface.filter(|_| needs_macs).and_then(|interface| {
                let socket = take(&|socket| socket.observes(interface))?;
                usable(FrameObserver::take_over(socket, interface, port))
            });
            let place = interface.map_or("all interfaces", |interface| &interface.name);
            info!("the socket of an earlier daemon goes on: {place}");
            Some(Self { link, observer, socket })
        };
        on_interfaces.chain(relayed.then_some((None, None))).filter_map(listener).collect()
    }

    /// The sockets, for the next daemon, and their names.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = (String, BorrowedFd<'_>)> {
        let Self { link: _, observer, socket } = self;
        let interface = socket.interface();
        let observer = observer.as_ref().map(|observer| (socket_name("frames", interface), observer.as_fd()));
        [(socket_name("udp", interface), socket.as_fd())].into_iter().chain(observer)
    }

    /// Opens what is not there yet. Nothing of `before` is changed but that its sockets may get others beside them.
    pub(super) fn plan(
        config: &Config,
        interfaces: &[(u32, Interface)],
        before: &[Self],
    ) -> Result<Vec<Planned>> {
        let port = config.server.port;
        let relayed = config.links.iter().any(|link| link.interface.is_none());
        if relayed {
            before.iter().try_for_each(|listener| listener.socket.share())?;
        }
        let on_interfaces = interfaces.iter().map(|(link, interface)| (Some(*link), Some(interface)));
        let elsewhere = relayed.then_some((None, None));
        let plan = |(link, interface): (Option<u32>, Option<&Interface>)| {
            let kept = before.iter().position(|listener| listener.socket.interface() == interface);
            // One whose address or MAC address has changed is opened anew, beside what is there.
            let index = |interface: Option<&Interface>| interface.map(|interface| interface.index);
            let outdated = before.iter().filter(|listener| {
                let old = listener.socket.interface();
                old != interface && old.is_some() && index(old) == index(interface)
            });
            let mut is_shared = relayed;
            for listener in outdated {
                listener.socket.share()?;
                is_shared = true;
            }
            let needs_macs = link.is_some_and(|link| config.links[link as usize].knows_macs());
            let has_observer = kept.is_some_and(|index| before[index].observer.is_some());
            // Before the socket: what that receives has been observed then.
            let observer = interface
                .filter(|_| needs_macs && !has_observer)
                .map(|interface| FrameObserver::open(interface, port))
                .transpose()?;
            let socket = match (kept, interface) {
                (Some(index), _) => PlannedSocket::Kept(index),
                (None, Some(interface)) => {
                    PlannedSocket::Opened(ServerSocket::open(interface.clone(), port, is_shared)?)
                }
                (None, None) => PlannedSocket::Opened(ServerSocket::open_for_relays(port)?),
            };
            Ok(Planned { link, needs_macs, observer, socket })
        };
        on_interfaces.chain(elsewhere).map(plan).collect()
    }

    /// Makes listeners of what was planned, with those that were there before; of these, what is not kept is closed.
    pub(super) fn carry_out(planned: Vec<Planned>, before: Vec<Self>) -> Vec<Self> {
        let mut before: Vec<_> = before.into_iter().map(Some).collect();
        let listener = |Planned { link, needs_macs, observer, socket }| match socket {
            PlannedSocket::Opened(socket) => Some(Self { link, observer, socket }),
            PlannedSocket::Kept(index) => {
                let kept = before[index].take()?;
                let observer = observer.or(kept.observer).filter(|_| needs_macs);
                Some(Self { link, observer, socket: kept.socket })
            }
        };
        planned.into_iter().filter_map(listener).collect()
    }

    /// Index of the interface that it listens on; `None` for all.
    pub(super) fn interface_index(&self) -> Option<u32> {
        self.socket.interface().map(|interface| interface.index)
    }

    /// Says in the log where it listens.
    pub(super) fn announce(&self) {
        if let Some(Interface { name, link_local, .. }) = self.socket.interface() {
            info!("serving {name} from {link_local}");
        } else {
            info!("serving relay agents on all interfaces");
        }
    }
}

/// What was taken over, unless the kernel refuses it.
fn usable<T>(taken_over: Result<T, SocketError>) -> Option<T> {
    taken_over.inspect_err(|failure| warn!("{failure}: the socket of an earlier daemon is opened anew")).ok()
}

/// The interfaces of the links that have one, by the links' index. Those without a link-local address are waited for.
pub(super) fn interfaces(config: &Config, patience: Duration) -> Result<Vec<(u32, Interface)>> {
    let deadline = Instant::now() + patience;
    let mut interfaces = Vec::new();
    for (link, index) in config.links.iter().zip(0..) {
        if let Some(name) = &link.interface {
            interfaces.push((index, wait_for_interface(name, deadline)?));
        }
    }
    Ok(interfaces)
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
