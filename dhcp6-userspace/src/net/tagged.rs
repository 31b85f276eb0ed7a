//! The socket for links in VLANs.

use std::{
    io,
    net::{Ipv6Addr, SocketAddrV6},
    os::fd::{AsFd, BorrowedFd},
    task::{Context, Poll},
    time::SystemTime,
};

use nix::{
    libc,
    net::if_::if_indextoname,
    sys::socket::{setsockopt, sockopt::ReceiveTimestampns},
};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use tokio::io::{Interest, unix::AsyncFd};

use super::{
    Datagram, InheritedSocket, Interface, Path, SocketError,
    batch::{Batch, LONGEST},
    frame::{C_TAG, Route, longest_frame, parse},
    membership::GROUP_MAC,
    packet::{
        bind,
        filter::{
            AND, IF_EQUAL, INDEX, LOAD_HALF, LOAD_HALF_INDEXED, LOAD_OCTET_INDEXED, LOAD_WORD_INDEXED,
            RETURN, ancillary, group_word,
        },
        set_option, size_receive_buffer, size_send_buffer, step,
    },
    request::mtu,
    socket::{RECEIVE_BUFFER, SEND_BUFFER, dropped, port_number, receive_buffer},
};
use crate::engine::{AnswerPort, DropReason};

/// Every interface with IPv6 has such an MTU (RFC 8200, section 5): for a frame with a message up to this length and its
/// headers nobody has to ask.
const SHORT_MESSAGE: usize = 1280 - 40 - 8 - 2 * 4;

/// A packet socket that receives what clients send to ff02::1:2 in tagged frames of an interface, whatever the VLAN, and
/// answers in such frames. There need be no VLAN interfaces.
///
/// Frames come with one or two tags, of which the outer has the type 0x8100 or 0x88a8 and the inner 0x8100, and none
/// the identifier 0. Fragments and extension headers are not followed.
#[derive(Debug)]
pub struct TaggedSocket {
    socket: AsyncFd<Socket>,
    interface: Interface,
    port: u16,
    batch: Batch,
}

impl TaggedSocket {
    /// Listens on an interface.
    ///
    /// # Errors
    ///
    /// [`SocketError`], for one without CAP_NET_RAW.
    pub fn open(interface: Interface, port: u16) -> Result<Self, SocketError> {
        let failed = |what| failure(what, &interface, port);
        // Without a protocol it receives nothing until it is bound.
        let socket = Socket::new(Domain::PACKET, Type::RAW.cloexec(), Some(Protocol::from(0)))
            .map_err(failed("open a packet socket (CAP_NET_RAW)"))?;
        set_up(&socket, &interface, port)?;
        // The outer tag is off when the kernel shows a frame to a socket for all protocols, which it does before it
        // looks for the VLAN's interface.
        bind(&socket, interface.index, libc::ETH_P_ALL as u16).map_err(failed("receive tagged frames"))?;
        let group = libc::packet_mreq {
            mr_ifindex: interface.index.cast_signed(),
            mr_type: libc::PACKET_MR_MULTICAST as u16,
            mr_alen: GROUP_MAC.len() as u16,
            mr_address: [
                GROUP_MAC[0],
                GROUP_MAC[1],
                GROUP_MAC[2],
                GROUP_MAC[3],
                GROUP_MAC[4],
                GROUP_MAC[5],
                0,
                0,
            ],
        };
        set_option(&socket, libc::PACKET_ADD_MEMBERSHIP, &group).map_err(failed("join a group"))?;
        Self::finish(socket, interface, port)
    }

    /// Takes a socket over that was found to receive the interface's tagged frames, with those that wait in it.
    ///
    /// # Errors
    ///
    /// [`SocketError`].
    pub fn take_over(
        inherited: InheritedSocket,
        interface: Interface,
        port: u16,
    ) -> Result<Self, SocketError> {
        let socket = inherited.into_socket();
        set_up(&socket, &interface, port)?;
        Self::finish(socket, interface, port)
    }

    #[expect(unsafe_code, reason = "the runtime watches the descriptor")]
    fn finish(socket: Socket, interface: Interface, port: u16) -> Result<Self, SocketError> {
        // SAFETY: the socket has one descriptor, which stays open for as long as the socket lives.
        let socket = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }
            .map_err(|error| failure("wait for frames", &interface, port)(error.into()))?;
        Ok(Self { socket, interface, port, batch: Batch::new() })
    }

    /// The interface that it is bound to.
    pub fn interface(&self) -> &Interface {
        &self.interface
    }

    /// Frames that the kernel has dropped since the socket was opened, by this process or by the one that it was taken
    /// over from, because nobody read them in time.
    pub fn dropped(&self) -> u32 {
        dropped(self.socket.get_ref())
    }

    /// How many octets of frames, and of the kernel's own with them, may wait.
    pub fn receive_buffer(&self) -> usize {
        receive_buffer(self.socket.get_ref())
    }

    /// Whether there is something that was taken from the kernel and not received yet.
    pub fn has_rest(&self) -> bool {
        !self.batch.is_empty()
    }

    /// Whether there is something to receive; if not, the task is woken when there is.
    ///
    /// # Errors
    ///
    /// The runtime's.
    pub fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.has_rest() {
            return Poll::Ready(Ok(()));
        }
        self.socket.poll_read_ready(context).map_ok(|mut guard| guard.retain_ready())
    }

    /// Receives a datagram that is waiting; `None` where there is none. One that is not valid has no payload.
    ///
    /// # Errors
    ///
    /// The kernel's. The socket stays usable.
    pub fn receive(&mut self) -> io::Result<Option<Datagram<'_>>> {
        while self.batch.is_empty() {
            let Self { socket, batch, .. } = self;
            match socket.try_io(Interest::READABLE, |socket| batch.fill(socket)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                // Word that the interface went down, which comes once.
                Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => {}
                Err(error) => return Err(error),
            }
        }
        let interface = self.interface.index;
        let Some((frame, ancillary)) = self.batch.next() else { return Ok(None) };
        let arrived = ancillary.arrived.unwrap_or_else(SystemTime::now);
        // The filter lets none without a tag pass.
        let outer = ancillary.tag.ok_or(DropReason::BadFrame);
        let parsed = outer.and_then(|outer| parse(frame, outer, ancillary.is_unsummed));
        Ok(Some(match parsed {
            Ok(parsed) => {
                let source = SocketAddrV6::new(parsed.source, parsed.source_port, 0, interface);
                let frame = Some((parsed.mac, parsed.tags));
                let path = Path { source, destination: parsed.destination, interface, frame };
                Datagram { path, payload: parsed.payload, arrived, fault: None }
            }
            Err(fault) => {
                let source = SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, 0, 0, interface);
                let path = Path { source, destination: Ipv6Addr::UNSPECIFIED, interface, frame: None };
                Datagram { path, payload: &[], arrived, fault: Some(fault) }
            }
        }))
    }

    /// Sends an answer back in frames with the same tags, to the MAC address that the message came from, and from
    /// the interface's link-local address. The tags stay in the frames, as in what the XDP program sends.
    ///
    /// # Errors
    ///
    /// The kernel's, `WouldBlock` among them. The message is lost then, and the client will repeat its own.
    pub fn send(&self, path: &Path, port: AnswerPort, message: &[u8]) -> io::Result<()> {
        let (mac, tags) = path.frame.ok_or(io::ErrorKind::InvalidInput)?;
        let route = Route {
            source_mac: self.interface.mac,
            destination_mac: mac,
            tags,
            source: self.interface.link_local,
            destination: *path.source.ip(),
            source_port: self.port,
            destination_port: port_number(port, self.port, path.source),
        };
        let longest =
            if message.len() <= SHORT_MESSAGE { usize::MAX } else { longest_frame(self.mtu()?, tags) };
        let frames = route.frames(message, longest, rand::random()).ok_or(io::ErrorKind::InvalidInput)?;
        frames.iter().try_for_each(|frame| self.socket.get_ref().send(frame).map(drop))
    }

    /// The interface's MTU, whatever its name is by now.
    fn mtu(&self) -> io::Result<usize> {
        let name = if_indextoname(self.interface.index)?;
        mtu(name.to_str().map_err(io::Error::other)?)
    }
}

impl AsFd for TaggedSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.get_ref().as_fd()
    }
}

fn failure(
    what: &'static str,
    interface: &Interface,
    port: u16,
) -> impl FnOnce(io::Error) -> SocketError + use<> {
    let place = format!("interface {}", interface.name);
    move |source| SocketError { what, place, port, source }
}

/// Sets what can be set at any time.
fn set_up(socket: &Socket, interface: &Interface, port: u16) -> Result<(), SocketError> {
    let set = || -> io::Result<()> {
        socket.set_nonblocking(true)?;
        set_option(socket, libc::PACKET_IGNORE_OUTGOING, &1_i32)?;
        set_option(socket, libc::PACKET_AUXDATA, &1_i32)?;
        setsockopt(socket, ReceiveTimestampns, &true)?;
        size_receive_buffer(socket, RECEIVE_BUFFER)?;
        size_send_buffer(socket, SEND_BUFFER)
    };
    set().map_err(failure("set up a packet socket", interface, port))?;
    socket.attach_filter(&filter(port)).map_err(failure("filter frames", interface, port))
}

/// A BPF program that passes what clients send to ff02::1:2 and a UDP port in frames with one or two tags. The outer
/// tag is beside the frame, and its type was found to be 0x8100 or 0x88a8 when it was taken off.
fn filter(port: u16) -> [SockFilter; 31] {
    const VLAN_ID: u32 = 0x0fff;
    const IPV6: u32 = libc::ETH_P_IPV6.cast_unsigned();
    [
        step(LOAD_HALF, 0, 0, ancillary(libc::SKF_AD_PKTTYPE)),
        step(IF_EQUAL, 28, 0, u32::from(libc::PACKET_OTHERHOST)),
        step(LOAD_HALF, 0, 0, ancillary(libc::SKF_AD_VLAN_TAG_PRESENT)),
        step(IF_EQUAL, 26, 0, 0),
        step(LOAD_HALF, 0, 0, ancillary(libc::SKF_AD_VLAN_TAG)),
        step(AND, 0, 0, VLAN_ID),
        step(IF_EQUAL, 23, 0, 0),
        // What follows the outer tag.
        step(LOAD_HALF, 0, 0, 12),
        step(IF_EQUAL, 7, 0, IPV6),
        step(IF_EQUAL, 0, 20, C_TAG.into()),
        step(LOAD_HALF, 0, 0, 14),
        step(AND, 0, 0, VLAN_ID),
        step(IF_EQUAL, 17, 0, 0),
        step(INDEX, 0, 0, 4),
        step(LOAD_HALF, 0, 0, 16),
        step(IF_EQUAL, 1, 14, IPV6),
        step(INDEX, 0, 0, 0),
        // The destination.
        step(LOAD_WORD_INDEXED, 0, 0, 38),
        step(IF_EQUAL, 0, 11, group_word(0)),
        step(LOAD_WORD_INDEXED, 0, 0, 42),
        step(IF_EQUAL, 0, 9, group_word(1)),
        step(LOAD_WORD_INDEXED, 0, 0, 46),
        step(IF_EQUAL, 0, 7, group_word(2)),
        step(LOAD_WORD_INDEXED, 0, 0, 50),
        step(IF_EQUAL, 0, 5, group_word(3)),
        // The next header and the destination port.
        step(LOAD_OCTET_INDEXED, 0, 0, 20),
        step(IF_EQUAL, 0, 3, libc::IPPROTO_UDP.cast_unsigned()),
        step(LOAD_HALF_INDEXED, 0, 0, 56),
        step(IF_EQUAL, 0, 1, port.into()),
        step(RETURN, 0, 0, LONGEST as u32),
        step(RETURN, 0, 0, 0),
    ]
}
