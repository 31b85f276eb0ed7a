//! The interfaces that are served, and the sockets on them.

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd, BorrowedFd},
    task::{Context, Poll},
};

use anyhow::{Context as _, Result};
use dhcp6_common::Vlan;
use tracing::{error, info, warn};

use super::{
    service::{ServiceManager, socket_name},
    vlan_table::VlanTable,
};
use crate::{
    config::{Config, LinkConfig},
    engine::AnswerPort,
    net::{
        Datagram, FrameSocket, Heard, InheritedSocket, Interface, InterfaceKind, Path, ServerSocket,
        SocketError,
    },
};

/// A socket, and the links that its messages may come from.
pub(super) struct Listener {
    pub(super) links: Links,
    way: Way,
    pub(super) socket: Endpoint,
}

/// The links whose messages a socket receives.
#[derive(Debug, Default)]
pub(super) struct Links {
    /// That of what comes without a VLAN.
    untagged: Option<u32>,
    tagged: Option<VlanTable>,
}

/// What messages come by.
#[derive(Debug)]
pub(super) enum Endpoint {
    /// From clients.
    Frames(Box<FrameSocket>),
    /// From relay agents, from clients to an address of the server, and from all clients where there are no frames.
    Udp(ServerSocket),
}

/// Where to listen, and for whom.
struct Place<'a> {
    links: Links,
    /// `None` for all.
    interface: Option<&'a Interface>,
    way: Way,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Frames,
    Udp { hears_clients: bool },
}

/// A listener in the making.
pub(super) struct Planned {
    links: Links,
    way: Way,
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
        if vlan == Vlan::NONE { self.untagged } else { self.tagged.as_ref()?.link_of(vlan) }
    }

    fn heard(&self) -> Heard {
        Heard { untagged: self.untagged.is_some(), tagged: self.tagged.is_some() }
    }
}

impl Endpoint {
    fn is_frames(&self) -> bool {
        matches!(self, Self::Frames(_))
    }

    /// The interface that it is bound to; `None` for all.
    pub(super) fn interface(&self) -> Option<&Interface> {
        match self {
            Self::Udp(socket) => socket.interface(),
            Self::Frames(socket) => Some(socket.interface()),
        }
    }

    /// What the kernel has dropped, as far as known.
    pub(super) fn dropped(&self) -> u32 {
        match self {
            Self::Udp(socket) => socket.dropped(),
            Self::Frames(socket) => socket.dropped(),
        }
    }

    /// How many octets may wait.
    pub(super) fn receive_buffer(&self) -> usize {
        match self {
            Self::Udp(socket) => socket.receive_buffer(),
            Self::Frames(socket) => socket.receive_buffer(),
        }
    }

    /// Whether there is something that was taken from the kernel and not received yet.
    pub(super) fn has_rest(&self) -> bool {
        match self {
            Self::Udp(_) => false,
            Self::Frames(socket) => socket.has_rest(),
        }
    }

    pub(super) fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Udp(socket) => socket.poll_readable(context),
            Self::Frames(socket) => socket.poll_readable(context),
        }
    }

    pub(super) fn receive(&mut self) -> io::Result<Option<Datagram<'_>>> {
        match self {
            Self::Udp(socket) => socket.receive(),
            Self::Frames(socket) => socket.receive(),
        }
    }

    /// Sends answers back the way that their messages came. `sent` is told of each, by its place among them, what has
    /// become of it.
    pub(super) fn send<'a>(
        &mut self,
        answers: impl IntoIterator<Item = (&'a Path, AnswerPort, &'a [u8])>,
        mut sent: impl FnMut(usize, io::Result<()>),
    ) {
        match self {
            Self::Frames(socket) => socket.send(answers, sent),
            Self::Udp(socket) => {
                for (place, (path, port, message)) in answers.into_iter().enumerate() {
                    sent(place, socket.send(path, port, message));
                }
            }
        }
    }

    /// Hears what these links are to hear from now on.
    fn hear(&mut self, links: &Links, way: Way) -> Result<(), SocketError> {
        match (self, way) {
            (Self::Frames(socket), _) => socket.hear(links.heard()),
            (Self::Udp(socket), Way::Udp { hears_clients }) => socket.hear_clients(hears_clients),
            (Self::Udp(_), Way::Frames) => Ok(()),
        }
    }

    /// Lets a socket for all interfaces be opened beside this one.
    fn share(&self) -> io::Result<()> {
        match self {
            Self::Udp(socket) => socket.share(),
            Self::Frames(_) => Ok(()),
        }
    }
}

impl AsFd for Endpoint {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Udp(socket) => socket.as_fd(),
            Self::Frames(socket) => socket.as_fd(),
        }
    }
}

/// Whether there is a link that only relay agents reach.
fn has_relayed(config: &Config) -> bool {
    config.links.iter().any(|link| link.interface.is_none())
}

/// Where to listen: for each interface a socket for the frames of all its links, and one for what is sent to an address of
/// a link without a VLAN; and one for relay agents elsewhere if there is a link that only they reach.
///
/// Where frames cannot be had, clients are heard through UDP, as far as their links can do without.
fn places<'a>(config: &Config, interfaces: &'a [(u32, Interface)]) -> Result<Vec<Place<'a>>> {
    let mut of_interfaces: BTreeMap<u32, (&Interface, Vec<u32>)> = BTreeMap::new();
    for (slot, interface) in interfaces {
        of_interfaces.entry(interface.index).or_insert((interface, Vec::new())).1.push(*slot);
    }
    let is_permitted = FrameSocket::is_permitted().context("cannot open a packet socket")?;
    let mut places = Vec::new();
    for (interface, slots) in of_interfaces.into_values() {
        let link = |slot: &u32| &config.links[*slot as usize];
        let vlans: Vec<_> =
            slots.iter().filter_map(|slot| Some((*slot, link(slot).vlans.as_ref()?))).collect();
        let untagged = slots.iter().copied().find(|slot| link(slot).vlans.is_none());
        let needs_frames = slots.iter().any(|slot| link(slot).vlans.is_some() || needs_macs(link(slot)));
        let has_ethernet = InterfaceKind::of(interface).map_or(true, |kind| kind.has_ethernet);
        // Whoever asks for VLANs where there are none hears why that fails.
        let has_frames = !vlans.is_empty() || has_ethernet && (is_permitted || needs_frames);
        if has_frames {
            let tagged = (!vlans.is_empty()).then(|| VlanTable::new(vlans));
            let links = Links { untagged, tagged };
            places.push(Place { links, interface: Some(interface), way: Way::Frames });
        }
        if untagged.is_some() {
            let way = Way::Udp { hears_clients: !has_frames };
            places.push(Place { links: Links { untagged, tagged: None }, interface: Some(interface), way });
        }
    }
    if has_relayed(config) {
        let way = Way::Udp { hears_clients: false };
        places.push(Place { links: Links::default(), interface: None, way });
    }
    Ok(places)
}

fn needs_macs(link: &LinkConfig) -> bool {
    link.bind_to_mac || link.knows_macs()
}

impl Place<'_> {
    /// Whether a listener is the one for this place.
    fn has(&self, listener: &Listener) -> bool {
        listener.socket.is_frames() == (self.way == Way::Frames)
            && is_same(listener.socket.interface(), self.interface)
    }

    /// Makes a listener of the sockets that an earlier daemon has left, as far as they fit.
    fn take_over(self, inherited: &mut Vec<InheritedSocket>, port: u16, is_shared: bool) -> Option<Listener> {
        let mut take = |fits: &dyn Fn(&InheritedSocket) -> bool| {
            inherited.iter().position(fits).map(|index| inherited.swap_remove(index))
        };
        let Self { links, interface, way } = self;
        let socket = match (way, interface) {
            (Way::Frames, Some(interface)) => {
                let socket = take(&|socket| socket.receives_frames(interface))?;
                let member = take(&|socket| socket.is_member_on(interface));
                let frames = FrameSocket::take_over(socket, member, interface.clone(), port, links.heard());
                Endpoint::Frames(Box::new(usable(frames)?))
            }
            (Way::Udp { hears_clients }, _) => {
                let socket = take(&|socket| socket.listens_on(interface, port))?;
                let udp = ServerSocket::take_over(socket, interface.cloned(), port, is_shared, hears_clients);
                Endpoint::Udp(usable(udp)?)
            }
            (Way::Frames, None) => return None,
        };
        let place = interface.map_or("all interfaces", |interface| &interface.name);
        info!("the socket of an earlier daemon goes on: {place}");
        Some(Listener { links, way, socket })
    }

    /// Opens a socket for this place.
    fn open(&self, port: u16, is_shared: bool) -> Result<Endpoint, SocketError> {
        match (self.way, self.interface) {
            (Way::Frames, Some(interface)) => {
                let socket = FrameSocket::open(interface.clone(), port, self.links.heard())?;
                Ok(Endpoint::Frames(Box::new(socket)))
            }
            (Way::Udp { hears_clients }, Some(interface)) => {
                ServerSocket::open(interface.clone(), port, is_shared, hears_clients).map(Endpoint::Udp)
            }
            (_, None) => ServerSocket::open_for_relays(port).map(Endpoint::Udp),
        }
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
        let before: Vec<_> = { places(config, interfaces)?.into_iter() }
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
        let name = |kind| socket_name(kind, self.socket.interface());
        let (kind, member) = match &self.socket {
            Endpoint::Frames(socket) => ("frames", socket.member()),
            Endpoint::Udp(_) => ("udp", None),
        };
        [(name(kind), self.socket.as_fd())].into_iter().chain(member.map(|member| (name("member"), member)))
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
            if let Some(index) = before.iter().position(|listener| place.has(listener)) {
                let Place { links, way, .. } = place;
                return Ok(Planned { links, way, socket: PlannedSocket::Kept(index) });
            }
            // One whose address or MAC address has changed is opened anew, beside what is there.
            let index = |interface: Option<&Interface>| interface.map(|interface| interface.index);
            let outdated = before.iter().filter(|listener| {
                let old = listener.socket.interface();
                !is_same(old, place.interface) && old.is_some() && index(old) == index(place.interface)
            });
            let mut is_shared = relayed;
            for listener in outdated {
                listener.socket.share()?;
                is_shared = true;
            }
            let socket = PlannedSocket::Opened(place.open(port, is_shared)?);
            Ok(Planned { links: place.links, way: place.way, socket })
        };
        places(config, interfaces)?.into_iter().map(plan).collect()
    }

    /// Makes listeners of what was planned, with those that were there before; of these, what is not kept is closed.
    pub(super) fn carry_out(planned: Vec<Planned>, before: Vec<Self>) -> Vec<Self> {
        let mut before: Vec<_> = before.into_iter().map(Some).collect();
        let listener = |Planned { links, way, socket }| match socket {
            PlannedSocket::Opened(socket) => Some(Self { links, way, socket }),
            PlannedSocket::Kept(index) => {
                let Self { mut socket, .. } = before[index].take()?;
                if let Err(failure) = socket.hear(&links, way) {
                    error!("{failure}: restart dhcp6d to hear all clients");
                }
                Some(Self { links, way, socket })
            }
        };
        planned.into_iter().filter_map(listener).collect()
    }

    /// Where it listens: the index of the interface, `None` for all, and whether to frames.
    pub(super) fn place(&self) -> (Option<u32>, bool) {
        (self.socket.interface().map(|interface| interface.index), self.socket.is_frames())
    }

    /// Says in the log where it listens.
    pub(super) fn announce(&self) {
        let Some(Interface { name, link_local, .. }) = self.socket.interface() else {
            info!("serving relay agents on all interfaces");
            return;
        };
        match self.way {
            Way::Frames => info!("serving {name} from {link_local}"),
            Way::Udp { hears_clients: true } => {
                info!("serving {name} from {link_local}, through UDP");
                self.warn_of_upper_interface();
            }
            Way::Udp { hears_clients: false } => {}
        }
    }

    /// Whether the network stack has to find out the MAC addresses of clients that are answered.
    pub(super) fn needs_neighbors(&self) -> bool {
        self.way == Way::Udp { hears_clients: true }
    }

    /// Says where messages are lost to: the network stack hands none to a port of a bridge. Packet sockets see them all.
    fn warn_of_upper_interface(&self) {
        let kind = self.socket.interface().and_then(|interface| InterfaceKind::of(interface).ok());
        if let (Some(Interface { name, .. }), Some((upper, kind))) =
            (self.socket.interface(), kind.and_then(|kind| kind.taken_by))
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
