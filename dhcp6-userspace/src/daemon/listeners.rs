//! The interfaces that are served, and the sockets on them.

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd, BorrowedFd},
    task::{Context, Poll},
};

use anyhow::Result;
use dhcp6_common::Vlan;
use tracing::{info, warn};

use super::{
    service::{ServiceManager, socket_name},
    vlan_table::VlanTable,
};
use crate::{
    config::{Config, LinkConfig},
    engine::AnswerPort,
    net::{
        Datagram, FrameObserver, InheritedSocket, Interface, InterfaceKind, Path, ServerSocket, SocketError,
        TaggedSocket,
    },
};

/// A socket, and the links that its messages may come from.
pub(super) struct Listener {
    pub(super) links: Links,
    /// Tells MAC addresses, where the link is to know them and the socket does not tell them.
    pub(super) observer: Option<FrameObserver>,
    pub(super) socket: Endpoint,
}

/// The links whose messages a socket receives.
#[derive(Debug)]
pub(super) enum Links {
    /// That of frames without a tag, where there is one.
    Untagged(Option<u32>),
    /// Those of tagged frames.
    Tagged(VlanTable),
}

/// What messages come by.
#[derive(Debug)]
pub(super) enum Endpoint {
    Untagged(ServerSocket),
    Tagged(TaggedSocket),
}

/// Where to listen, and for whom.
struct Place<'a> {
    links: Links,
    /// `None` for all.
    interface: Option<&'a Interface>,
    /// Whether the socket does not tell MAC addresses that are to be known.
    needs_observer: bool,
}

/// A listener in the making.
pub(super) struct Planned {
    links: Links,
    needs_observer: bool,
    /// Opened where the listener kept, if any, has none.
    observer: Option<FrameObserver>,
    socket: PlannedSocket,
}

enum PlannedSocket {
    Opened(Endpoint),
    /// That of the listener that was there before, by its index.
    Kept(usize),
}

impl Links {
    /// The link that a message from a VLAN belongs to.
    pub(super) fn link_of(&self, vlan: Vlan) -> Option<u32> {
        match self {
            Self::Untagged(link) => *link,
            Self::Tagged(table) => table.link_of(vlan),
        }
    }
}

impl Endpoint {
    fn is_tagged(&self) -> bool {
        matches!(self, Self::Tagged(_))
    }

    /// The interface that it is bound to; `None` for all.
    pub(super) fn interface(&self) -> Option<&Interface> {
        match self {
            Self::Untagged(socket) => socket.interface(),
            Self::Tagged(socket) => Some(socket.interface()),
        }
    }

    /// What the kernel has dropped, as far as known.
    pub(super) fn dropped(&self) -> u32 {
        match self {
            Self::Untagged(socket) => socket.dropped(),
            Self::Tagged(socket) => socket.dropped(),
        }
    }

    /// How many octets may wait.
    pub(super) fn receive_buffer(&self) -> usize {
        match self {
            Self::Untagged(socket) => socket.receive_buffer(),
            Self::Tagged(socket) => socket.receive_buffer(),
        }
    }

    /// Whether there is something that was taken from the kernel and not received yet.
    pub(super) fn has_rest(&self) -> bool {
        match self {
            Self::Untagged(_) => false,
            Self::Tagged(socket) => socket.has_rest(),
        }
    }

    pub(super) fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Untagged(socket) => socket.poll_readable(context),
            Self::Tagged(socket) => socket.poll_readable(context),
        }
    }

    pub(super) fn receive(&mut self) -> io::Result<Option<Datagram<'_>>> {
        match self {
            Self::Untagged(socket) => socket.receive(),
            Self::Tagged(socket) => socket.receive(),
        }
    }

    pub(super) fn send(&self, path: &Path, port: AnswerPort, message: &[u8]) -> io::Result<()> {
        match self {
            Self::Untagged(socket) => socket.send(path, port, message),
            Self::Tagged(socket) => socket.send(path, port, message),
        }
    }

    /// Lets a socket for all interfaces be opened beside this one.
    fn share(&self) -> io::Result<()> {
        match self {
            Self::Untagged(socket) => socket.share(),
            Self::Tagged(_) => Ok(()),
        }
    }
}

impl AsFd for Endpoint {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Untagged(socket) => socket.as_fd(),
            Self::Tagged(socket) => socket.as_fd(),
        }
    }
}

/// Whether there is a link that only relay agents reach.
fn has_relayed(config: &Config) -> bool {
    config.links.iter().any(|link| link.interface.is_none())
}

/// Where to listen: a socket for the link of an interface's untagged frames, one for all links in its VLANs, and one
/// for relay agents elsewhere if there is a link that only they reach.
fn places<'a>(config: &Config, interfaces: &'a [(u32, Interface)]) -> Vec<Place<'a>> {
    let mut places = Vec::new();
    let mut tagged: BTreeMap<u32, (&Interface, Vec<_>)> = BTreeMap::new();
    for (slot, interface) in interfaces {
        let link = &config.links[*slot as usize];
        match &link.vlans {
            Some(vlans) => {
                let (_, links) = tagged.entry(interface.index).or_insert((interface, Vec::new()));
                links.push((*slot, vlans));
            }
            None => places.push(Place {
                links: Links::Untagged(Some(*slot)),
                interface: Some(interface),
                needs_observer: needs_macs(link),
            }),
        }
    }
    places.extend(tagged.into_values().map(|(interface, links)| Place {
        links: Links::Tagged(VlanTable::new(links)),
        interface: Some(interface),
        needs_observer: false,
    }));
    if has_relayed(config) {
        places.push(Place { links: Links::Untagged(None), interface: None, needs_observer: false });
    }
    places
}

fn needs_macs(link: &LinkConfig) -> bool {
    link.bind_to_mac || link.knows_macs()
}

impl Place<'_> {
    fn is_tagged(&self) -> bool {
        matches!(self.links, Links::Tagged(_))
    }

    /// Whether a listener is the one for this place.
    fn has(&self, listener: &Listener) -> bool {
        listener.socket.is_tagged() == self.is_tagged()
            && is_same(listener.socket.interface(), self.interface)
    }

    /// Makes a listener of the sockets that an earlier daemon has left, as far as they fit.
    fn take_over(self, inherited: &mut Vec<InheritedSocket>, port: u16, is_shared: bool) -> Option<Listener> {
        let mut take = |fits: &dyn Fn(&InheritedSocket) -> bool| {
            inherited.iter().position(fits).map(|index| inherited.swap_remove(index))
        };
        let Self { links, interface, needs_observer } = self;
        let (socket, observer) = if let (Links::Tagged(_), Some(interface)) = (&links, interface) {
            let socket = take(&|socket| socket.receives_tagged(interface))?;
            let socket = usable(TaggedSocket::take_over(socket, interface.clone(), port))?;
            (Endpoint::Tagged(socket), None)
        } else {
            let socket = take(&|socket| socket.listens_on(interface, port))?;
            let socket = usable(ServerSocket::take_over(socket, interface.cloned(), port, is_shared))?;
            let observer = interface.filter(|_| needs_observer).and_then(|interface| {
                let socket = take(&|socket| socket.observes(interface))?;
                usable(FrameObserver::take_over(socket, interface, port))
            });
            (Endpoint::Untagged(socket), observer)
        };
        let place = interface.map_or("all interfaces", |interface| &interface.name);
        info!("the socket of an earlier daemon goes on: {place}");
        Some(Listener { links, observer, socket })
    }
}

impl Listener {
    /// Opens a socket for each of the interfaces, and one for relay agents elsewhere if there is a link that only
    /// they reach. Those that an earlier daemon has left are taken over where they fit, and closed where not.
    pub(super) fn open_all(
        config: &Config,
        interfaces: &[(u32, Interface)],
        manager: &mut ServiceManager,
    ) -> Result<Vec<Self>> {
        let mut inherited = manager.inherited();
        let (port, is_shared) = (config.server.port, has_relayed(config));
        let before: Vec<_> = { places(config, interfaces).into_iter() }
            .filter_map(|place| place.take_over(&mut inherited, port, is_shared))
            .collect();
        // Closed here, before others listen in their place.
        drop(inherited);
        manager.close_others(&before);
        let planned = Self::plan(config, interfaces, &before)?;
        Ok(Self::carry_out(planned, before))
    }

    /// The sockets, for the next daemon, and their names.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = (String, BorrowedFd<'_>)> {
        let Self { links: _, observer, socket } = self;
        let interface = socket.interface();
        let observer = observer.as_ref().map(|observer| (socket_name("frames", interface), observer.as_fd()));
        let kind = if socket.is_tagged() { "tagged" } else { "udp" };
        [(socket_name(kind, interface), socket.as_fd())].into_iter().chain(observer)
    }

    /// Opens what is not there yet. Nothing of `before` is changed but that its sockets may get others beside them.
    pub(super) fn plan(
        config: &Config,
        interfaces: &[(u32, Interface)],
        before: &[Self],
    ) -> Result<Vec<Planned>> {
        let port = config.server.port;
        let relayed = has_relayed(config);
        if relayed {
            before.iter().try_for_each(|listener| listener.socket.share())?;
        }
        let plan = |place: Place<'_>| {
            let kept = before.iter().position(|listener| place.has(listener));
            let Place { links, interface, needs_observer } = place;
            // One whose address or MAC address has changed is opened anew, beside what is there.
            let index = |interface: Option<&Interface>| interface.map(|interface| interface.index);
            let outdated = before.iter().filter(|listener| {
                let old = listener.socket.interface();
                !is_same(old, interface) && old.is_some() && index(old) == index(interface)
            });
            let mut is_shared = relayed;
            for listener in outdated {
                listener.socket.share()?;
                is_shared = true;
            }
            let has_observer = kept.is_some_and(|index| before[index].observer.is_some());
            // Before the socket: what that receives has been observed then.
            let observer = interface
                .filter(|_| needs_observer && !has_observer)
                .map(|interface| FrameObserver::open(interface, port))
                .transpose()?;
            let socket = match (kept, interface, &links) {
                (Some(index), ..) => PlannedSocket::Kept(index),
                (None, Some(interface), Links::Tagged(_)) => {
                    PlannedSocket::Opened(Endpoint::Tagged(TaggedSocket::open(interface.clone(), port)?))
                }
                (None, Some(interface), Links::Untagged(_)) => {
                    let socket = ServerSocket::open(interface.clone(), port, is_shared)?;
                    PlannedSocket::Opened(Endpoint::Untagged(socket))
                }
                (None, None, _) => {
                    PlannedSocket::Opened(Endpoint::Untagged(ServerSocket::open_for_relays(port)?))
                }
            };
            Ok(Planned { links, needs_observer, observer, socket })
        };
        places(config, interfaces).into_iter().map(plan).collect()
    }

    /// Makes listeners of what was planned, with those that were there before; of these, what is not kept is closed.
    pub(super) fn carry_out(planned: Vec<Planned>, before: Vec<Self>) -> Vec<Self> {
        let mut before: Vec<_> = before.into_iter().map(Some).collect();
        let listener = |Planned { links, needs_observer, observer, socket }| match socket {
            PlannedSocket::Opened(socket) => Some(Self { links, observer, socket }),
            PlannedSocket::Kept(index) => {
                let kept = before[index].take()?;
                let observer = observer.or(kept.observer).filter(|_| needs_observer);
                Some(Self { links, observer, socket: kept.socket })
            }
        };
        planned.into_iter().filter_map(listener).collect()
    }

    /// Where it listens: the index of the interface, `None` for all, and whether to tagged frames.
    pub(super) fn place(&self) -> (Option<u32>, bool) {
        (self.socket.interface().map(|interface| interface.index), self.socket.is_tagged())
    }

    /// Says in the log where it listens.
    pub(super) fn announce(&self) {
        let Some(Interface { name, link_local, .. }) = self.socket.interface() else {
            info!("serving relay agents on all interfaces");
            return;
        };
        let what = if self.socket.is_tagged() { "the VLANs of " } else { "" };
        info!("serving {what}{name} from {link_local}");
        self.warn_of_upper_interface();
    }

    /// Says where messages are lost to: the network stack hands none to a port of a bridge. Packet sockets see them all.
    fn warn_of_upper_interface(&self) {
        let interface = self.socket.interface().filter(|_| !self.socket.is_tagged());
        let kind = interface.and_then(|interface| InterfaceKind::of(interface).ok());
        if let (Some(Interface { name, .. }), Some((upper, kind))) =
            (interface, kind.and_then(|kind| kind.taken_by))
        {
            warn!(
                "{name} belongs to the {kind} {upper}, which takes its frames: new clients are not heard without a \
                 VLAN; set `interface = \"{upper}\"`"
            );
        }
    }
}

/// Whether these are one interface with the same addresses, or both all interfaces.
fn is_same(one: Option<&Interface>, other: Option<&Interface>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one.is_same(other),
        (one, other) => one.is_none() && other.is_none(),
    }
}

/// What was taken over, unless the kernel refuses it.
fn usable<T>(taken_over: Result<T, SocketError>) -> Option<T> {
    taken_over.inspect_err(|failure| warn!("{failure}: the socket of an earlier daemon is opened anew")).ok()
}
