//! The UDP socket of a link.

use std::{
    io::{self, IoSlice, IoSliceMut},
    net::{Ipv6Addr, SocketAddrV6},
    os::fd::AsRawFd as _,
    task::{Context, Poll},
};

use dhcp6_common::wire::ALL_RELAY_AGENTS_AND_SERVERS;
use nix::{
    cmsg_space, libc,
    sys::socket::{
        ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn6, recvmsg, sendmsg, setsockopt,
        sockopt::{Ipv6RecvPacketInfo, RcvBufForce, RxqOvfl},
    },
};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{io::Interest, net::UdpSocket};

use super::Interface;

/// Asked of the kernel for datagrams that wait: tens of thousands of Solicits.
const RECEIVE_BUFFER: usize = 16 << 20;
/// The longest datagram that UDP can carry.
const LONGEST: usize = 65535;

/// Why a link cannot be listened to.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} on interface {interface}, UDP port {port}: {source}")]
pub struct SocketError {
    what: &'static str,
    interface: String,
    port: u16,
    source: io::Error,
}

/// A socket that receives what clients on one interface send to ff02::1:2 (RFC 9915, section 7.1), and sends
/// out of that interface from its link-local address.
#[derive(Debug)]
pub struct LinkSocket {
    socket: UdpSocket,
    interface: Interface,
    client_port: u16,
    dropped: u32,
    buffer: Vec<u8>,
}

/// A datagram that was received.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// Its sender.
    pub source: SocketAddrV6,
    /// Whether it was sent to a multicast address.
    pub multicast: bool,
    /// Its payload.
    pub payload: &'a [u8],
}

impl LinkSocket {
    /// Listens on an interface. Clients are answered on the port below `port`.
    ///
    /// # Errors
    ///
    /// [`SocketError`], for one where the port is taken or takes privileges.
    pub fn open(interface: Interface, port: u16) -> Result<Self, SocketError> {
        let context = |what| {
            let interface = interface.name.clone();
            move |source| SocketError { what, interface, port, source }
        };
        let socket = Socket::new(Domain::IPV6, Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))
            .map_err(context("open a socket"))?;
        let configure = || {
            socket.set_only_v6(true)?;
            setsockopt(&socket, Ipv6RecvPacketInfo, &true)?;
            setsockopt(&socket, RxqOvfl, &1)?;
            socket.bind_device(Some(interface.name.as_bytes()))?;
            socket.set_multicast_if_v6(interface.index)?;
            socket.set_multicast_loop_v6(false)
        };
        configure().map_err(context("configure the socket"))?;
        // With CAP_NET_ADMIN beyond net.core.rmem_max, without it up to there.
        if setsockopt(&socket, RcvBufForce, &RECEIVE_BUFFER).is_err() {
            socket.set_recv_buffer_size(RECEIVE_BUFFER).map_err(context("size the receive buffer"))?;
        }
        socket
            .bind(&SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0).into())
            .map_err(context("listen"))?;
        socket
            .join_multicast_v6(&ALL_RELAY_AGENTS_AND_SERVERS.into(), interface.index)
            .map_err(context("join ff02::1:2"))?;
        let socket = UdpSocket::from_std(socket.into()).map_err(context("wait for datagrams"))?;
        Ok(Self { socket, interface, client_port: port - 1, dropped: 0, buffer: vec![0; LONGEST] })
    }

    /// The interface.
    pub fn interface(&self) -> &Interface {
        &self.interface
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
        let mut multicast = false;
        for message in received.cmsgs()? {
            match message {
                ControlMessageOwned::Ipv6PacketInfo(info) => {
                    multicast = Ipv6Addr::from(info.ipi6_addr.s6_addr).is_multicast();
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
        Ok(Some(Datagram { source, multicast, payload: &self.buffer[..len] }))
    }

    /// Sends a message to the client at an address: to the port that clients listen on, whatever port the
    /// client's message came from (RFC 9915, section 7.2).
    ///
    /// # Errors
    ///
    /// The kernel's, `WouldBlock` among them. The message is lost then, and the client will repeat its own.
    pub fn send(&self, client: Ipv6Addr, message: &[u8]) -> io::Result<()> {
        let to = SocketAddrV6::new(client, self.client_port, 0, self.interface.index);
        let source = libc::in6_pktinfo {
            ipi6_addr: libc::in6_addr { s6_addr: self.interface.link_local.octets() },
            ipi6_ifindex: self.interface.index,
        };
        sendmsg(
            self.socket.as_raw_fd(),
            &[IoSlice::new(message)],
            &[ControlMessage::Ipv6PacketInfo(&source)],
            MsgFlags::MSG_DONTWAIT,
            Some(&SockaddrIn6::from(to)),
        )?;
        Ok(())
    }
}
