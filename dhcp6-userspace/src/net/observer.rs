//! Whose frame a datagram came in.

use std::{
    collections::HashMap,
    io, mem,
    net::Ipv6Addr,
    ops::Range,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd},
};

use nix::{
    libc,
    sys::socket::{LinkAddr, recvfrom},
};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use super::{
    InheritedSocket, Interface, SocketError,
    packet::{
        bind,
        filter::{AND, IF_EQUAL, LOAD_HALF, LOAD_OCTET, LOAD_WORD, RETURN, ancillary, group_word},
        set_option, size_receive_buffer, step,
    },
    socket::RECEIVE_BUFFER,
};

/// Offset and end of the source address in an IPv6 header.
const SOURCE: Range<usize> = 8..24;
/// No more frames than this fit the receive buffer, none of which takes less than 512 octets of it: what is
/// queued when it is looked at is seen, and a flood keeps nobody longer.
const MOST_QUEUED: usize = 2 * RECEIVE_BUFFER / 512;
/// That many sources are remembered for certain, and twice as many at most.
const GENERATION: usize = 1 << 15;

/// Tells the MAC address that a client's datagram came from, which a UDP socket does not.
///
/// It listens to an interface beside the [`ServerSocket`](super::ServerSocket), for what clients send to ff02::1:2.
/// What the XDP program answers does not reach it, and what waits for somebody to ask is bounded by the receive
/// buffer.
///
/// The kernel shows a frame to a socket for all protocols before it hands it to IPv6, and so what
/// [`FrameObserver::mac_of`] asks for is there when the datagram is. To a socket for IPv6 alone that is bound to an
/// interface the frame comes last, and a quick reader would find nothing
/// (<https://github.com/torvalds/linux/blob/v6.12/net/core/dev.c>, `__netif_receive_skb_core`).
#[derive(Debug)]
pub struct FrameObserver {
    socket: Socket,
    seen: Sources,
}

impl FrameObserver {
    /// Listens on an interface to what goes to the server's port.
    ///
    /// # Errors
    ///
    /// [`SocketError`], for one without CAP_NET_RAW.
    pub fn open(interface: &Interface, port: u16) -> Result<Self, SocketError> {
        let failed = |what| {
            let place = format!("interface {}", interface.name);
            move |source| SocketError { what, place, port, source }
        };
        // Without a protocol it receives nothing until it is bound.
        let socket = Socket::new(Domain::PACKET, Type::DGRAM.cloexec(), Some(Protocol::from(0)))
            .map_err(failed("open a packet socket (CAP_NET_RAW)"))?;
        let observer = Self::set_up(socket, interface, port)?;
        bind(&observer.socket, interface.index, libc::ETH_P_ALL as u16).map_err(failed("observe frames"))?;
        Ok(observer)
    }

    /// Takes a socket over that was found to observe the interface, with the frames that wait in it.
    ///
    /// # Errors
    ///
    /// [`SocketError`].
    pub fn take_over(
        inherited: InheritedSocket,
        interface: &Interface,
        port: u16,
    ) -> Result<Self, SocketError> {
        Self::set_up(inherited.into_socket(), interface, port)
    }

    /// Sets all options.
    fn set_up(socket: Socket, interface: &Interface, port: u16) -> Result<Self, SocketError> {
        let failed = |what| {
            let place = format!("interface {}", interface.name);
            move |source| SocketError { what, place, port, source }
        };
        socket.set_nonblocking(true).map_err(failed("set up a packet socket"))?;
        socket.attach_filter(&filter(port)).map_err(failed("filter frames"))?;
        size_receive_buffer(&socket, RECEIVE_BUFFER).map_err(failed("size the receive buffer"))?;
        set_option(&socket, libc::PACKET_IGNORE_OUTGOING, &1_i32)
            .map_err(failed("leave out outgoing frames"))?;
        Ok(Self { socket, seen: Sources::default() })
    }

    /// The MAC address that the latest message from `source` came from, for a datagram that was received by now;
    /// `None` for a source that was not seen, or not lately.
    ///
    /// Both addresses are whatever the sender says they are.
    pub fn mac_of(&mut self, source: Ipv6Addr) -> Option<[u8; 6]> {
        for _ in 0..MOST_QUEUED {
            match receive(&self.socket) {
                Ok(Some((source, mac))) => self.seen.insert(source, mac),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // A frame without a MAC address, or word that the interface went down, which comes once.
                Ok(None) | Err(_) => {}
            }
        }
        self.seen.mac_of(source)
    }
}

impl AsFd for FrameObserver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Receives the source and MAC address of a frame; `None` where the interface has no MAC addresses.
fn receive(socket: &Socket) -> io::Result<Option<(Ipv6Addr, [u8; 6])>> {
    let mut header = [0; SOURCE.end];
    let (_, sender) = recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut header)?;
    let source: [u8; 16] = header[SOURCE].try_into().expect("16 octets");
    let mac = sender.filter(|sender| sender.halen() == 6).and_then(|sender| sender.addr());
    Ok(mac.map(|mac| (source.into(), mac)))
}

/// The sources seen lately, with the MAC address that each was seen with last, in bounded memory.
#[derive(Debug, Default)]
struct Sources {
    recent: HashMap<Ipv6Addr, [u8; 6]>,
    older: HashMap<Ipv6Addr, [u8; 6]>,
}

impl Sources {
    fn insert(&mut self, source: Ipv6Addr, mac: [u8; 6]) {
        if self.recent.len() >= GENERATION && !self.recent.contains_key(&source) {
            self.older = mem::take(&mut self.recent);
        }
        self.recent.insert(source, mac);
    }

    fn mac_of(&self, source: Ipv6Addr) -> Option<[u8; 6]> {
        self.recent.get(&source).or_else(|| self.older.get(&source)).copied()
    }
}

/// A BPF program that passes the IPv6 header of what clients send to ff02::1:2: UDP to a port, and whatever has
/// extension headers, fragments among them, since it cannot follow those (what else would go to that group?).
///
/// A socket for all protocols sees frames before their VLAN tag is looked at. The interface has none but those
/// without a VLAN; a tagged one belongs to another interface.
fn filter(port: u16) -> [SockFilter; 20] {
    const VLAN_ID: u32 = 0x0fff;
    const ACCEPT: u32 = SOURCE.end as u32;
    [
        step(LOAD_HALF, 0, 0, ancillary(libc::SKF_AD_PROTOCOL)),
        step(IF_EQUAL, 0, 17, libc::ETH_P_IPV6.cast_unsigned()),
        step(LOAD_HALF, 0, 0, ancillary(libc::SKF_AD_VLAN_TAG)),
        step(AND, 0, 0, VLAN_ID),
        step(IF_EQUAL, 0, 14, 0),
        // The destination.
        step(LOAD_WORD, 0, 0, 24),
        step(IF_EQUAL, 0, 12, group_word(0)),
        step(LOAD_WORD, 0, 0, 28),
        step(IF_EQUAL, 0, 10, group_word(1)),
        step(LOAD_WORD, 0, 0, 32),
        step(IF_EQUAL, 0, 8, group_word(2)),
        step(LOAD_WORD, 0, 0, 36),
        step(IF_EQUAL, 0, 6, group_word(3)),
        // The next header.
        step(LOAD_OCTET, 0, 0, 6),
        step(IF_EQUAL, 1, 0, libc::IPPROTO_UDP.cast_unsigned()),
        // An ICMPv6 message has no business with the server.
        step(IF_EQUAL, 3, 2, libc::IPPROTO_ICMPV6.cast_unsigned()),
        // The destination port.
        step(LOAD_HALF, 0, 0, 42),
        step(IF_EQUAL, 0, 1, port.into()),
        step(RETURN, 0, 0, ACCEPT),
        step(RETURN, 0, 0, 0),
    ]
}

#[cfg(test)]
mod tests {
    use super::{GENERATION, Sources};

    #[test]
    fn sources_are_forgotten_only_for_many_newer_ones() {
        let address = |number: usize| std::net::Ipv6Addr::from(0xfe80 << 112 | number as u128);
        let mac = |number: usize| [2, 0, 0, 0, (number >> 8) as u8, number as u8];
        let mut sources = Sources::default();
        for number in 0..5 * GENERATION / 2 {
            sources.insert(address(number), mac(number));
            assert!(sources.recent.len() + sources.older.len() <= 2 * GENERATION);
        }
        let kept = |number| sources.mac_of(address(number));
        let last = 5 * GENERATION / 2 - 1;
        assert_eq!(kept(last - GENERATION), Some(mac(last - GENERATION)));
        assert_eq!(kept(0), None);
        sources.insert(address(last), mac(0));
        assert_eq!(sources.mac_of(address(last)), Some(mac(0)), "the latest wins");
    }
}
