//! The UDP sockets of the server.

use std::{
    fs,
    io::{self, IoSlice, IoSliceMut},
    net::{Ipv6Addr, SocketAddrV6},
    os::fd::{AsFd, AsRawFd as _, BorrowedFd},
    task::{Context, Poll},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use dhcp6_common::{
    Vlan,
    wire::{ALL_RELAY_AGENTS_AND_SERVERS, ALL_SERVERS},
};
use nix::{
    cmsg_space, libc,
    net::if_::if_nameindex,
    sys::socket::{
        ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn6, recvmsg, sendmsg, setsockopt,
        sockopt::{Ipv6RecvPacketInfo, ReceiveTimestampns},
    },
    sys::time::TimeSpec,
};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::{io::Interest, net::UdpSocket};

use super::{
    InheritedSocket, Interface, Tags,
    packet::{option, set_option_of, size_receive_buffer, size_send_buffer},
};
use crate::engine::{AnswerPort, DropReason};

/// Octets asked of the kernel for datagrams that wait: tens of thousands of Solicits.
pub const RECEIVE_BUFFER: usize = 16 << 20;
/// Asked of the kernel for answers that wait: more than its neighbour table has clients in question, by default.
pub(super) const SEND_BUFFER: usize = 16 << 20;
/// The groups of this thread's network namespace.
const GROUPS: &str = "/proc/thread-self/net/igmp6";
/// The longest datagram that UDP can carry.
const LONGEST: usize = 65535;
/// Of linux/in6.h: whether a socket gets what goes to groups that it is no member of (Linux 4.20, commit 15033f0457dc).
const IPV6_MULTICAST_ALL: libc::c_int = 29;

/// Why the server cannot listen.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} on {place}, UDP port {port}: {source}")]
pub struct SocketError {
    pub(super) what: &'static str,
    pub(super) place: String,
    pub(super) port: u16,
    pub(super) source: io::Error,
}

/// A socket that receives what clients and relay agents send to the server, on one interface or on all.
#[derive(Debug)]
pub struct ServerSocket {
    socket: UdpSocket,
    /// The interface that the socket is bound to.
    interface: Option<Interface>,
    port: u16,
    buffer: Vec<u8>,
}

/// The way that a datagram came, and that its answer takes back.
#[derive(Clone, Copy, Debug)]
pub struct Path {
    /// Where it came from.
    pub source: SocketAddrV6,
    /// Where it was sent to.
    pub destination: Ipv6Addr,
    /// Index of the interface that it came in on.
    pub interface: u32,
    /// Where it came by a [`FrameSocket`](super::FrameSocket): the MAC address that the frame came from, and its tags.
    pub frame: Option<([u8; 6], Option<Tags>)>,
}

impl Path {
    /// The VLAN that it came from.
    pub fn vlan(&self) -> Vlan {
        self.frame.and_then(|(_, tags)| tags).map_or(Vlan::NONE, Tags::vlan)
    }

    /// The MAC address that it came from, where the socket tells.
    pub fn mac(&self) -> Option<[u8; 6]> {
        self.frame.map(|(mac, _)| mac)
    }
}

/// A datagram that was received.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// The way that it came.
    pub path: Path,
    /// Its payload.
    pub payload: &'a [u8],
    /// When it arrived, by the wall clock.
    pub arrived: SystemTime,
    /// Why it is no datagram, where the socket has found that: it has no payload then.
    pub fault: Option<DropReason>,
}

impl ServerSocket {
    /// Listens on an interface: to what is sent to an address of it or to ff05::1:3, and, where it `hears_clients`, to
    /// ff02::1:2 (RFC 9915, section 7.1). `shared` says that there is a socket for all interfaces beside it.
    ///
    /// # Errors
    ///
    /// [`SocketError`], for one where the port is taken or takes privileges.
    pub fn open(
        interface: Interface,
        port: u16,
        shared: bool,
        hears_clients: bool,
    ) -> Result<Self, SocketError> {
        let place = place_of(Some(&interface));
        let failed = |what| {
            let place = place.clone();
            move |source| SocketError { what, place, port, source }
        };
        let socket = new_socket(shared).map_err(failed("open a socket"))?;
        socket.bind_device(Some(interface.name.as_bytes())).map_err(failed("bind"))?;
        bind(&socket, port).map_err(failed("listen"))?;
        Self::finish(socket, Some(interface), port, hears_clients)
    }

    /// Takes a socket over that was found to listen on the interface, or on all, as [`ServerSocket::open`] or
    /// [`ServerSocket::open_for_relays`] would, with the datagrams that wait in it.
    ///
    /// # Errors
    ///
    /// [`SocketError`].
    pub fn take_over(
        inherited: InheritedSocket,
        interface: Option<Interface>,
        port: u16,
        shared: bool,
        hears_clients: bool,
    ) -> Result<Self, SocketError> {
        let socket = inherited.into_socket();
        socket.set_nonblocking(true).and_then(|()| set_up(&socket, shared)).map_err(|source| {
            let place = place_of(interface.as_ref());
            SocketError { what: "go on", place, port, source }
        })?;
        Self::finish(socket, interface, port, hears_clients)
    }

    /// Joins the groups.
    fn finish(
        socket: Socket,
        interface: Option<Interface>,
        port: u16,
        hears_clients: bool,
    ) -> Result<Self, SocketError> {
        let failed = |what| {
            let place = place_of(interface.as_ref());
            move |source| SocketError { what, place, port, source }
        };
        if let Some(interface) = &interface {
            join(&socket, ALL_SERVERS, interface.index).map_err(failed("join a group"))?;
            hear_clients(&socket, interface.index, hears_clients).map_err(failed("join a group"))?;
        } else {
            let interfaces = if_nameindex().map_err(|error| failed("list them")(error.into()))?;
            for interface in &interfaces {
                // An interface without multicast (the loopback is one) has no relay agents to be heard this way.
                join(&socket, ALL_SERVERS, interface.index()).ok();
            }
        }
        let socket = UdpSocket::from_std(socket.into()).map_err(failed("wait for datagrams"))?;
        Ok(Self { socket, interface, port, buffer: vec![0; LONGEST] })
    }

    /// Listens on all interfaces that have no socket of their own, to relay agents.
    ///
    /// # Errors
    ///
    /// [`SocketError`].
    pub fn open_for_relays(port: u16) -> Result<Self, SocketError> {
        let failed = |what| move |source| SocketError { what, place: place_of(None), port, source };
        let socket = new_socket(true).map_err(failed("open a socket"))?;
        bind(&socket, port).map_err(failed("listen"))?;
        Self::finish(socket, None, port, false)
    }

    /// Hears clients from now on, or does not. Nothing for a socket on all interfaces.
    ///
    /// # Errors
    ///
    /// [`SocketError`].
    pub fn hear_clients(&self, hears_clients: bool) -> Result<(), SocketError> {
        let Some(interface) = &self.interface else { return Ok(()) };
        let changed = hear_clients(&SockRef::from(&self.socket), interface.index, hears_clients);
        changed.map_err(|source| SocketError {
            what: "join a group",
            place: place_of(Some(interface)),
            port: self.port,
            source,
        })
    }

    /// Lets a socket for all interfaces be opened beside this one.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn share(&self) -> io::Result<()> {
        SockRef::from(&self.socket).set_reuse_address(true)
    }

    /// The interface that it is bound to; `None` for all.
    pub fn interface(&self) -> Option<&Interface> {
        self.interface.as_ref()
    }

    /// Datagrams that the kernel has dropped since the socket was opened, by this process or by the one that it was
    /// taken over from, because nobody read them in time.
    pub fn dropped(&self) -> u32 {
        dropped(&SockRef::from(&self.socket))
    }

    /// How many octets of datagrams, and of the kernel's own with them, may wait.
    pub fn receive_buffer(&self) -> usize {
        receive_buffer(&SockRef::from(&self.socket))
    }

    /// Whether there is something to receive; if not, the task is woken when there is.
    ///
    /// # Errors
    ///
    /// The runtime's.
    pub fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_recv_ready(context)
    }

    /// Receives a datagram that is waiting; `None` where there is none.
    ///
    /// # Errors
    ///
    /// The kernel's. The socket stays usable.
    pub fn receive(&mut self) -> io::Result<Option<Datagram<'_>>> {
        let fd = self.socket.as_raw_fd();
        let mut control = cmsg_space!(libc::in6_pktinfo, TimeSpec);
        let mut octets = [IoSliceMut::new(&mut self.buffer)];
        let received = self.socket.try_io(Interest::READABLE, || {
            Ok(recvmsg::<SockaddrIn6>(fd, &mut octets, Some(&mut control), MsgFlags::MSG_DONTWAIT)?)
        });
        let received = match received {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut destination = Ipv6Addr::UNSPECIFIED;
        let mut interface = 0;
        let mut arrived = None;
        for message in received.cmsgs()? {
            match message {
                ControlMessageOwned::Ipv6PacketInfo(info) => {
                    destination = info.ipi6_addr.s6_addr.into();
                    interface = info.ipi6_ifindex;
                }
                ControlMessageOwned::ScmTimestampns(time) => {
                    arrived = UNIX_EPOCH.checked_add(Duration::from(time));
                }
                _ => {}
            }
        }
        let len = received.bytes;
        let source = received.address.map_or_else(
            || SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, 0, 0, 0),
            |source| SocketAddrV6::new(source.ip(), source.port(), 0, source.scope_id()),
        );
        let path = Path { source, destination, interface, frame: None };
        let arrived = arrived.unwrap_or_else(SystemTime::now);
        Ok(Some(Datagram { path, payload: &self.buffer[..len], arrived, fault: None }))
    }

    /// Sends an answer back: from the address that was spoken to, or, where that was a group, from the
    /// interface's link-local address, which is also what the XDP program answers from.
    ///
    /// # Errors
    ///
    /// The kernel's, `WouldBlock` among them. The message is lost then, and the client will repeat its own.
    pub fn send(&self, path: &Path, port: AnswerPort, message: &[u8]) -> io::Result<()> {
        let Path { source: to, destination, interface, frame: _ } = *path;
        let port = port_number(port, self.port, to);
        let link_local = to.ip().is_unicast_link_local();
        let from = match &self.interface {
            _ if !destination.is_multicast() => destination,
            Some(interface) if link_local => interface.link_local,
            _ => Ipv6Addr::UNSPECIFIED,
        };
        let info = libc::in6_pktinfo {
            ipi6_addr: libc::in6_addr { s6_addr: from.octets() },
            ipi6_ifindex: if link_local { interface } else { 0 },
        };
        let to = SocketAddrV6::new(*to.ip(), port, 0, if link_local { interface } else { 0 });
        sendmsg(
            self.socket.as_raw_fd(),
            &[IoSlice::new(message)],
            &[ControlMessage::Ipv6PacketInfo(&info)],
            MsgFlags::MSG_DONTWAIT,
            Some(&SockaddrIn6::from(to)),
        )?;
        Ok(())
    }
}

impl AsFd for ServerSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A socket that tells of each datagram how it came, with room for many. One that is `shared` lets another have
/// the same port.
fn new_socket(shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV6, Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))?;
    socket.set_only_v6(true)?;
    set_up(&socket, shared)?;
    Ok(socket)
}

/// Sets what can be set at any time.
fn set_up(socket: &Socket, shared: bool) -> io::Result<()> {
    socket.set_reuse_address(shared)?;
    setsockopt(socket, Ipv6RecvPacketInfo, &true)?;
    setsockopt(socket, ReceiveTimestampns, &true)?;
    // Groups that others have joined are not for this one.
    set_option_of(socket, libc::SOL_IPV6, IPV6_MULTICAST_ALL, &0_i32)?;
    size_receive_buffer(socket, RECEIVE_BUFFER)?;
    // An answer is in it until the kernel knows the MAC address of its client.
    size_send_buffer(socket, SEND_BUFFER)
}

/// What was dropped at a socket since it was opened.
pub(super) fn dropped(socket: &Socket) -> u32 {
    memory(socket)[libc::SK_MEMINFO_DROPS as usize]
}

/// How many octets may wait in a socket.
pub(super) fn receive_buffer(socket: &Socket) -> usize {
    // The kernel doubles what it is asked for (socket(7)).
    memory(socket)[libc::SK_MEMINFO_RCVBUF as usize] as usize / 2
}

/// The numbers that ss(8) shows as skmem; zeros before Linux 4.12.
fn memory(socket: &Socket) -> [u32; 9] {
    option(socket, libc::SOL_SOCKET, libc::SO_MEMINFO).unwrap_or_default()
}

/// The port that an answer goes to, from a server on `own` to what has asked from `source`.
pub(super) fn port_number(port: AnswerPort, own: u16, source: SocketAddrV6) -> u16 {
    match port {
        AnswerPort::Client => own - 1,
        AnswerPort::Relay => own,
        AnswerPort::Source => source.port(),
    }
}

/// Has a socket be a member of the clients' group on an interface, or not.
fn hear_clients(socket: &Socket, interface: u32, hears_clients: bool) -> io::Result<()> {
    if hears_clients {
        return join(socket, ALL_RELAY_AGENTS_AND_SERVERS, interface);
    }
    match socket.leave_multicast_v6(&ALL_RELAY_AGENTS_AND_SERVERS.into(), interface) {
        // It is none.
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => Ok(()),
        left => left,
    }
}

/// Has a socket be a member of a group on an interface.
pub(super) fn join(socket: &Socket, group: [u8; 16], interface: u32) -> io::Result<()> {
    let address = group.into();
    match socket.join_multicast_v6(&address, interface) {
        // It is. But where the interface has gone and come again with its index, that has no members.
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            if !has_members(group, interface) {
                socket.leave_multicast_v6(&address, interface)?;
                socket.join_multicast_v6(&address, interface)?;
            }
            Ok(())
        }
        joined => joined,
    }
}

/// Whether an interface takes in what is sent to a group; `false` where the kernel does not tell.
fn has_members(group: [u8; 16], interface: u32) -> bool {
    let groups = fs::read_to_string(GROUPS).unwrap_or_default();
    groups.lines().any(|line| is_membership(line, group, interface))
}

/// Whether a line of igmp6 says so: index and name of an interface, group in hexadecimal, and number of members.
fn is_membership(line: &str, group: [u8; 16], interface: u32) -> bool {
    let mut columns = line.split_whitespace();
    let (index, _name, address) = (columns.next(), columns.next(), columns.next());
    let hex = |address| u128::from_str_radix(address, 16).ok();
    index == Some(&interface.to_string()) && address.and_then(hex) == Some(u128::from_be_bytes(group))
}

fn place_of(interface: Option<&Interface>) -> String {
    interface.map_or_else(|| "all interfaces".to_owned(), |interface| format!("interface {}", interface.name))
}

fn bind(socket: &Socket, port: u16) -> io::Result<()> {
    socket.bind(&SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0).into())
}

#[cfg(test)]
mod tests {
    use dhcp6_common::wire::{ALL_RELAY_AGENTS_AND_SERVERS, ALL_SERVERS};

    use super::is_membership;

    #[test]
    fn a_membership_is_one_of_the_group_on_the_interface() {
        let line = "12   srv0            ff020000000000000000000000010002     1 00000004 0";
        for (group, interface, expected) in [
            (ALL_RELAY_AGENTS_AND_SERVERS, 12, true),
            (ALL_RELAY_AGENTS_AND_SERVERS, 1, false),
            (ALL_SERVERS, 12, false),
        ] {
            assert_eq!(is_membership(line, group, interface), expected, "{group:?} {interface}");
        }
        assert!(!is_membership("", ALL_SERVERS, 0));
    }
}
