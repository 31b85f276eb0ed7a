//! The socket for clients: frames, with their MAC addresses and VLANs.

use std::{
    io, mem,
    net::{Ipv6Addr, SocketAddrV6},
    ops::Range,
    os::fd::{AsFd, BorrowedFd},
    task::{Context, Poll},
    time::{Instant, SystemTime},
};

use dhcp6_common::wire::ALL_RELAY_AGENTS_AND_SERVERS;
use nix::{
    libc,
    net::if_::if_indextoname,
    sys::socket::{setsockopt, sockopt::ReceiveTimestampns},
};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{Interest, unix::AsyncFd};

use super::{
    Datagram, InheritedSocket, Interface, Path, SocketError,
    assembly::{Assembled, Assembly},
    batch::{AT_ONCE, Ancillary, Batch, send_batch},
    frame::{Frames, Packet, Route, Upper, VLAN_ID, longest_frame},
    frame_filter::{Heard, filter},
    membership::GROUP_MAC,
    packet::{bind, set_option, size_receive_buffer, size_send_buffer},
    request::mtu,
    socket::{RECEIVE_BUFFER, SEND_BUFFER, dropped, join as join_group, port_number, receive_buffer},
};
use crate::engine::{AnswerPort, DropReason};

/// Every interface with IPv6 has such an MTU (RFC 8200, section 5): for a frame with a message up to this length and its
/// headers nobody has to ask.
const SHORT_MESSAGE: usize = 1280 - 40 - 8 - 2 * 4;

/// A packet socket that receives what clients send to ff02::1:2 on an interface, in untagged frames, tagged ones or both,
/// and answers in such frames. There need be no VLAN interfaces, and nobody has to find out a client's MAC address.
///
/// Tagged frames have one or two tags, of which the outer has the type 0x8100 or 0x88a8 and the inner 0x8100, and none
/// the identifier 0. Packets may come in fragments, and with extension headers that say nothing to a server.
#[derive(Debug)]
pub struct FrameSocket {
    socket: AsyncFd<Socket>,
    interface: Interface,
    port: u16,
    heard: Heard,
    /// Has the network stack tell switches that the group is wanted here (RFC 3810), of which a packet socket tells none.
    member: Option<Socket>,
    batch: Batch,
    /// Octets of the payload of the frame at hand that were received already: of datagrams that the kernel has joined.
    received: usize,
    assembly: Assembly,
    /// The packet that was put together last.
    assembled: Vec<u8>,
    outgoing: Frames,
}

/// A datagram in the frame at hand, or in the packet that was put together last.
struct Found {
    path: Path,
    payload: Range<usize>,
    is_assembled: bool,
}

impl FrameSocket {
    /// Whether this process may open packet sockets.
    ///
    /// # Errors
    ///
    /// The kernel's, other than that it may not.
    pub fn is_permitted() -> io::Result<bool> {
        match Socket::new(Domain::PACKET, Type::RAW.cloexec(), Some(Protocol::from(0))) {
            Ok(_) => Ok(true),
            Err(refusal) if refusal.kind() == io::ErrorKind::PermissionDenied => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    /// Listens on an interface.
    ///
    /// # Errors
    ///
    /// [`SocketError`], for one without CAP_NET_RAW.
    pub fn open(interface: Interface, port: u16, heard: Heard) -> Result<Self, SocketError> {
        let failed = |what| failure(what, &interface, port);
        // Without a protocol it receives nothing until it is bound.
        let socket = Socket::new(Domain::PACKET, Type::RAW.cloexec(), Some(Protocol::from(0)))
            .map_err(failed("open a packet socket (CAP_NET_RAW)"))?;
        set_up(&socket, &interface, port, heard)?;
        // The outer tag is off when the kernel shows a frame to a socket for all protocols, which it does before it
        // looks for the VLAN's interface.
        bind(&socket, interface.index, libc::ETH_P_ALL as u16).map_err(failed("receive frames"))?;
        let mut group_mac = [0; 8];
        group_mac[..GROUP_MAC.len()].copy_from_slice(&GROUP_MAC);
        let group = libc::packet_mreq {
            mr_ifindex: interface.index.cast_signed(),
            mr_type: libc::PACKET_MR_MULTICAST as u16,
            mr_alen: GROUP_MAC.len() as u16,
            mr_address: group_mac,
        };
        set_option(&socket, libc::PACKET_ADD_MEMBERSHIP, &group).map_err(failed("join a group"))?;
        Self::finish(socket, interface, port, heard, None)
    }

    /// Takes a socket over that was found to receive the interface's frames, with those that wait in it, and its
    /// [`member`](Self::member).
    ///
    /// # Errors
    ///
    /// [`SocketError`].
    pub fn take_over(
        inherited: InheritedSocket,
        member: Option<InheritedSocket>,
        interface: Interface,
        port: u16,
        heard: Heard,
    ) -> Result<Self, SocketError> {
        let socket = inherited.into_socket();
        set_up(&socket, &interface, port, heard)?;
        let member = member.map(InheritedSocket::into_socket);
        Self::finish(socket, interface, port, heard, member)
    }

    #[expect(unsafe_code, reason = "the runtime watches the descriptor")]
    fn finish(
        socket: Socket,
        interface: Interface,
        port: u16,
        heard: Heard,
        member: Option<Socket>,
    ) -> Result<Self, SocketError> {
        // SAFETY: the socket has one descriptor, which stays open for as long as the socket lives.
        let socket = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }
            .map_err(|error| failure("wait for frames", &interface, port)(error.into()))?;
        let joined = heard.untagged.then(|| join(member, &interface)).transpose();
        Ok(Self {
            socket,
            member: joined.map_err(failure("join a group", &interface, port))?,
            interface,
            port,
            heard,
            batch: Batch::new(),
            received: 0,
            assembly: Assembly::default(),
            assembled: Vec::new(),
            outgoing: Frames::default(),
        })
    }

    /// Receives other frames from now on.
    ///
    /// # Errors
    ///
    /// [`SocketError`]; all is as before then.
    pub fn hear(&mut self, heard: Heard) -> Result<(), SocketError> {
        let Self { socket, interface, port, .. } = self;
        if heard == self.heard {
            return Ok(());
        }
        let kept = self.member.as_ref().map(Socket::try_clone).transpose();
        let member = kept.and_then(|kept| heard.untagged.then(|| join(kept, interface)).transpose());
        let member = member.map_err(failure("join a group", interface, *port))?;
        { socket.get_ref().attach_filter(&filter(*port, heard)) }.map_err(failure(
            "filter frames",
            interface,
            *port,
        ))?;
        (self.member, self.heard) = (member, heard);
        Ok(())
    }

    /// What keeps the interface a member of the clients' group while no daemon runs, where it has frames without a VLAN.
    pub fn member(&self) -> Option<BorrowedFd<'_>> {
        self.member.as_ref().map(Socket::as_fd)
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
        self.received > 0 || !self.batch.is_empty()
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

    /// Receives a datagram that is waiting; `None` where there is none, or none yet in many frames, of which more may wait:
    /// a flood of fragments keeps nobody in here. One that is not valid has no payload.
    ///
    /// # Errors
    ///
    /// The kernel's. The socket stays usable.
    pub fn receive(&mut self) -> io::Result<Option<Datagram<'_>>> {
        let mut fruitless = 0;
        let (found, arrived) = loop {
            while self.received == 0 && !self.batch.advance() {
                if fruitless >= AT_ONCE {
                    return Ok(None);
                }
                let Self { socket, batch, .. } = self;
                match socket.try_io(Interest::READABLE, |socket| batch.fill(socket)) {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                    // Word that the interface went down, which comes once.
                    Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => {}
                    Err(error) => return Err(error),
                }
            }
            let (_, ancillary) = self.batch.current();
            if let Some(found) = self.look_at().transpose() {
                break (found, ancillary.arrived);
            }
            fruitless += 1;
        };
        let arrived = arrived.unwrap_or_else(SystemTime::now);
        Ok(Some(match found {
            Ok(Found { path, payload, is_assembled }) => {
                let octets = if is_assembled { &self.assembled } else { self.batch.current().0 };
                Datagram { path, payload: &octets[payload], arrived, fault: None }
            }
            Err(fault) => {
                let interface = self.interface.index;
                let source = SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, 0, 0, interface);
                let path = Path { source, destination: Ipv6Addr::UNSPECIFIED, interface, frame: None };
                Datagram { path, payload: &[], arrived, fault: Some(fault) }
            }
        }))
    }

    /// Looks for a datagram in the frame at hand; `None` where there is none for the server, or not yet.
    fn look_at(&mut self) -> Result<Option<Found>, DropReason> {
        let Self { batch, received, assembly, assembled, interface, port, .. } = self;
        let (frame, Ancillary { tag, is_summed, joined, .. }) = batch.current();
        // One with a priority alone is none.
        let tag = tag.filter(|(_, content)| content & VLAN_ID != 0);
        let packet = Packet::parse(frame, tag)?;
        let (datagram, is_assembled) = match packet.upper()? {
            Upper::Datagram(datagram) => (datagram, false),
            Upper::Fragment(fragment) => match assembly.add(Instant::now(), &packet, &fragment)? {
                Assembled::Incomplete => return Ok(None),
                Assembled::Whole(next_header, octets) => {
                    *assembled = octets;
                    let Upper::Datagram(datagram) = Packet::upper_of(next_header, assembled)? else {
                        return Err(DropReason::BadFrame);
                    };
                    (datagram, true)
                }
            },
        };
        let is_joined = joined != 0 && !is_assembled;
        // The checksums of what is joined were compared before.
        let ([from, to], mut payload) = packet.udp(datagram, is_joined || is_summed && !is_assembled)?;
        if is_joined {
            let rest = payload.get(*received..).unwrap_or_default();
            payload = &rest[..rest.len().min(joined.into())];
            *received = if payload.len() < rest.len() { *received + payload.len() } else { 0 };
        }
        if to != *port {
            // The filter does not look for the port behind extension headers.
            return Ok(None);
        }
        let path = Path {
            source: SocketAddrV6::new(packet.source, from, 0, interface.index),
            destination: packet.destination,
            interface: interface.index,
            frame: Some((packet.mac, packet.tags)),
        };
        let start =
            payload.as_ptr().addr() - if is_assembled { assembled.as_ptr() } else { frame.as_ptr() }.addr();
        Ok(Some(Found { path, payload: start..start + payload.len(), is_assembled }))
    }

    /// Sends answers back in frames with the same tags, to the MAC addresses that the messages came from, and from
    /// the interface's link-local address. The tags stay in the frames, as in what the XDP program sends. `sent` is told
    /// of each, by its place among them, what has become of it.
    ///
    /// Where it fails, `WouldBlock` among others, the message is lost, and the client will repeat its own.
    pub fn send<'a>(
        &mut self,
        answers: impl IntoIterator<Item = (&'a Path, AnswerPort, &'a [u8])>,
        mut sent: impl FnMut(usize, io::Result<()>),
    ) {
        let mut outgoing = mem::take(&mut self.outgoing);
        outgoing.clear();
        let mut last_of = Vec::with_capacity(AT_ONCE);
        for (place, (path, port, message)) in answers.into_iter().enumerate() {
            match self.write(path, port, message, &mut outgoing) {
                Ok(()) => last_of.push((place, outgoing.len())),
                Err(failure) => sent(place, Err(failure)),
            }
            if outgoing.len() >= AT_ONCE {
                self.send_frames(&outgoing, &last_of, &mut sent);
                outgoing.clear();
                last_of.clear();
            }
        }
        self.send_frames(&outgoing, &last_of, &mut sent);
        self.outgoing = outgoing;
    }

    /// Adds the frames of an answer.
    fn write(&self, path: &Path, port: AnswerPort, message: &[u8], frames: &mut Frames) -> io::Result<()> {
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
        let written = route.write(message, longest, rand::random, frames);
        written.ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }

    /// Sends frames; `last_of` has the place of each answer, and how many frames there are up to its last. An answer is
    /// sent when all of its frames are.
    fn send_frames(
        &self,
        frames: &Frames,
        last_of: &[(usize, usize)],
        sent: &mut impl FnMut(usize, io::Result<()>),
    ) {
        let mut done = 0;
        for (place, end) in last_of {
            let mut result = Ok(());
            while done < *end {
                // Up to the first that is refused.
                match send_batch(self.socket.get_ref(), frames, done) {
                    Ok(count) => done += count,
                    Err(failure) => {
                        result = Err(failure);
                        done = *end;
                    }
                }
            }
            sent(*place, result);
        }
    }

    /// The interface's MTU, whatever its name is by now.
    fn mtu(&self) -> io::Result<usize> {
        let name = if_indextoname(self.interface.index)?;
        mtu(name.to_str().map_err(io::Error::other)?)
    }
}

impl AsFd for FrameSocket {
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
fn set_up(socket: &Socket, interface: &Interface, port: u16, heard: Heard) -> Result<(), SocketError> {
    let set = || -> io::Result<()> {
        socket.set_nonblocking(true)?;
        set_option(socket, libc::PACKET_IGNORE_OUTGOING, &1_i32)?;
        set_option(socket, libc::PACKET_AUXDATA, &1_i32)?;
        set_option(socket, libc::PACKET_VNET_HDR, &1_i32)?;
        setsockopt(socket, ReceiveTimestampns, &true)?;
        size_receive_buffer(socket, RECEIVE_BUFFER)?;
        size_send_buffer(socket, SEND_BUFFER)
    };
    set().map_err(failure("set up a packet socket", interface, port))?;
    socket.attach_filter(&filter(port, heard)).map_err(failure("filter frames", interface, port))
}

/// A socket that receives nothing, as a member of the clients' group: the one that was there before, or another.
fn join(before: Option<Socket>, interface: &Interface) -> io::Result<Socket> {
    let open = || {
        let socket = Socket::new(Domain::IPV6, Type::DGRAM.cloexec(), Some(Protocol::UDP))?;
        socket.set_only_v6(true)?;
        socket.bind_device(Some(interface.name.as_bytes()))?;
        io::Result::Ok(socket)
    };
    let socket = before.map_or_else(open, Ok)?;
    join_group(&socket, ALL_RELAY_AGENTS_AND_SERVERS, interface.index)?;
    Ok(socket)
}
