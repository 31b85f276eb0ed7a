//! The UDP sockets of the server.

use std::{
    io::{self, IoSlice, IoSliceMut},
    net::{Ipv6Addr, SocketAddrV6},
    os::fd::AsRawFd as _,
    task::{Context, Poll},
};

use dhcp6_common::wire::{ALL_RELAY_AGENTS_AND_SERVERS, ALL_SERVERS};
use nix::{
    cmsg_space, libc,
    net::if_::if_nameindex,
    sys::socket::{
        ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn6, recvmsg, sendmsg, setsockopt,
        sockopt::{Ipv6RecvPacketInfo, RcvBufForce, RxqOvfl},
    },
};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::{io::Interest, net::UdpSocket};

use super::Interface;
use crate::engine::AnswerPort;

/// Asked of the kernel for datagrams that wait: tens of thousands of Solicits.
pub(super) const RECEIVE_BUFFER: usize = 16 << 20;
/// The longest datagram that UDP can carry.
const LONGEST: usize = 65535;

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
    dropped: u32,
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
}

/// A datagram that was received.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// The way that it came.
    pub path: Path,
    /// Its payload.
    pub payload: &'a [u8],
}

impl ServerSocket {
    /// Listens on an interface: to what clients send to ff02::1:2 (RFC 9915, section 7.1), and to what relay
    /// agents send there, to ff05::1:3, or to an address of the interface. `shared` says that there is a socket
    /// for all interfaces beside it.
    ///
    /// # Errors
    ///
    /// [`SocketError`], for one where the port is taken or takes privileges.
    pub fn open(interface: Interface, port: u16, shared: bool) -> Result<Self, SocketError> {
        let place = format!("interface {}", interface.name);
        let failed = |what| {
            let place = place.clone();
            move |source| SocketError { what, place, port, source }
        };
        let socket = new_socket(shared).map_err(failed("open a socket"))?;
        socket.bind_device(Some(interface.name.as_bytes())).map_err(failed("bind"))?;
        bind(&socket, port).map_err(failed("listen"))?;
        for group in [ALL_RELAY_AGENTS_AND_SERVERS, ALL_SERVERS] {
            socket.join_multicast_v6(&group.into(), interface.index).map_err(failed("join a group"))?;
        }
        let socket = UdpSocket::from_std(socket.into()).map_err(failed("wait for datagrams"))?;
        Ok(Self { socket, interface: Some(interface), port, dropped: 0, buffer: vec![0; LONGEST] })
    }

    /// Listens on all interfaces that have no socket of their own, to relay agents.
    ///
    /// # Errors
    ///
    /// [`SocketError`].
    pub fn open_for_relays(port: u16) -> Result<Self, SocketError> {
        let failed =
            |what| move |source| SocketError { what, place: "all interfaces".to_owned(), port, source };
        let socket = new_socket(true).map_err(failed("open a socket"))?;
        bind(&socket, port).map_err(failed("listen"))?;
        let interfaces = if_nameindex().map_err(|error| failed("list them")(error.into()))?;
        for interface in &interfaces {
            // An interface without multicast (the loopback is one) has no relay agents to be heard this way.
            socket.join_multicast_v6(&ALL_SERVERS.into(), interface.index()).ok();
        }
        let socket = UdpSocket::from_std(socket.into()).map_err(failed("wait for datagrams"))?;
        Ok(Self { socket, interface: None, port, dropped: 0, buffer: vec![0; LONGEST] })
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

    /// Datagrams that the kernel has dropped since the socket was opened because nobody read them in time, as
    /// far as known: the number comes with the next one that is received.
    pub fn dropped(&self) -> u32 {
        self.dropped
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
        let mut control = cmsg_space!(libc::in6_pktinfo, u32);
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
        for message in received.cmsgs()? {
            match message {
                ControlMessageOwned::Ipv6PacketInfo(info) => {
                    destination = info.ipi6_addr.s6_addr.into();
                    interface = info.ipi6_ifindex;
                }
                ControlMessageOwned::RxqOvfl(dropped) => self.dropped = dropped,
                _ => {}
            }
        }
        let len = received.bytes;
        let source = received.address.map_or_else(
            || SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, 0, 0, 0),
            |source| SocketAddrV6::new(source.ip(), source.port(), 0, source.scope_id()),
        );
        let path = Path { source, destination, interface };
        Ok(Some(Datagram { path, payload: &self.buffer[..len] }))
    }

    /// Sends an answer back: from the address that was spoken to, or, where that was a group, from the
    /// interface's link-local address, which is also what the XDP program answers from.
    ///
    /// # Errors
    ///
    /// The kernel's, `WouldBlock` among them. The message is lost then, and the client will repeat its own.
    pub fn send(&self, path: &Path, port: AnswerPort, message: &[u8]) -> io::Result<()> {
        let Path { source: to, destination, interface } = *path;
        let port = match port {
            AnswerPort::Client => self.port - 1,
            AnswerPort::Relay => self.port,
            AnswerPort::Source => to.port(),
        };
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

/// A socket that tells of each datagram how it came, with room for many. One that is `shared` lets another have
/// the same port.
fn new_socket(shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV6, Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))?;
    socket.set_only_v6(true)?;
    socket.set_reuse_address(shared)?;
    setsockopt(&socket, Ipv6RecvPacketInfo, &true)?;
    setsockopt(&socket, RxqOvfl, &1)?;
    // With CAP_NET_ADMIN beyond net.core.rmem_max, without it up to there.
    if setsockopt(&socket, RcvBufForce, &RECEIVE_BUFFER).is_err() {
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    }
    Ok(socket)
}

fn bind(socket: &Socket, port: u16) -> io::Result<()> {
    socket.bind(&SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0).into())
}
