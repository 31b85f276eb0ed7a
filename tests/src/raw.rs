//! Frames in and out of the client's interface, with any MAC address.

use std::{
    fs::File,
    io::{self, IoSlice, Read as _, Write as _},
    mem,
    os::fd::{AsFd as _, AsRawFd as _},
    ptr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use nix::{
    ifaddrs::getifaddrs,
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{LinkAddr, bind, setsockopt, sockopt::RcvBufForce},
};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    frame::{split_tags, with_tags},
    netns::{CLIENT_INTERFACE, Namespace, run},
};

/// A socket for the IPv6 frames of the client's interface: what goes out, it does not see.
#[derive(Debug)]
pub struct RawClient(Socket);

impl RawClient {
    /// Opens the socket.
    ///
    /// # Errors
    ///
    /// The system's, for one without CAP_NET_RAW.
    pub fn open(namespace: &Namespace) -> Result<Self> {
        namespace.enter(|| {
            let protocol = Protocol::from(i32::from((libc::ETH_P_IPV6 as u16).to_be()));
            let socket = Socket::new(Domain::PACKET, Type::RAW, Some(protocol))?;
            bind(socket.as_raw_fd(), &client_interface()?)?;
            Ok(Self(socket))
        })
    }

    /// Sends a frame.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        self.0.send(frame)?;
        Ok(())
    }

    /// Sends a frame where the interface has room for it, and says whether it had.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn offer(&self, frame: &[u8]) -> Result<bool> {
        match self.0.send(frame) {
            Ok(_) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Has so many octets of frames wait until they are received, beyond what the system grants to all.
    ///
    /// # Errors
    ///
    /// The system's, for one without CAP_NET_ADMIN.
    pub fn set_receive_buffer(&self, octets: usize) -> Result<()> {
        Ok(setsockopt(&self.0, RcvBufForce, &octets)?)
    }

    /// The next frame that arrives until `deadline`; `None` where none does.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn receive(&self, deadline: Instant) -> Result<Option<Vec<u8>>> {
        let mut buffer = vec![0; 65535];
        // A timeout of zero would mean none.
        let patience = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        self.0.set_read_timeout(Some(patience))?;
        match nix::sys::socket::recv(self.0.as_raw_fd(), &mut buffer, nix::sys::socket::MsgFlags::empty()) {
            Ok(len) => {
                buffer.truncate(len);
                Ok(Some(buffer))
            }
            Err(nix::Error::EAGAIN) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// A socket for all frames that the client's interface receives, with their VLAN tags.
#[derive(Debug)]
pub struct TaggedClient {
    socket: Socket,
    /// Only sends, what has no checksum yet.
    unsummed: Socket,
}

impl TaggedClient {
    /// Opens the socket.
    ///
    /// # Errors
    ///
    /// The system's, for one without CAP_NET_RAW.
    pub fn open(namespace: &Namespace) -> Result<Self> {
        namespace.enter(|| {
            let protocol = Protocol::from(i32::from((libc::ETH_P_ALL as u16).to_be()));
            let socket = Socket::new(Domain::PACKET, Type::RAW, Some(protocol))?;
            turn_on(&socket, libc::PACKET_AUXDATA)?;
            turn_on(&socket, libc::PACKET_IGNORE_OUTGOING)?;
            bind(socket.as_raw_fd(), &client_interface()?)?;
            let unsummed = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0)))?;
            turn_on(&unsummed, libc::PACKET_VNET_HDR)?;
            bind(unsummed.as_raw_fd(), &client_interface()?)?;
            Ok(Self { socket, unsummed })
        })
    }

    /// Sends a frame whose checksum the network card is to finish: from this offset of the UDP header on.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn send_unsummed(&self, frame: &[u8], udp: usize) -> Result<()> {
        // struct virtio_net_hdr of linux/virtio_net.h, with VIRTIO_NET_HDR_F_NEEDS_CSUM.
        let mut header = [0; 10];
        header[0] = 1;
        header[6..8].copy_from_slice(&u16::try_from(udp)?.to_ne_bytes());
        header[8..10].copy_from_slice(&6_u16.to_ne_bytes());
        self.unsummed.send_vectored(&[IoSlice::new(&header), IoSlice::new(frame)])?;
        Ok(())
    }

    /// Sends a frame.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        self.socket.send(frame)?;
        Ok(())
    }

    /// The next frame of IPv6 UDP, tagged or not, that arrives until `deadline`; `None` where none does.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn receive(&self, deadline: Instant) -> Result<Option<Vec<u8>>> {
        self.receive_ip(17, deadline)
    }

    /// The next frame of IPv6 with this next header, tagged or not, that arrives until `deadline`; `None` where none
    /// does.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn receive_ip(&self, next_header: u8, deadline: Instant) -> Result<Option<Vec<u8>>> {
        loop {
            // A timeout of zero would mean none.
            let patience = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            self.socket.set_read_timeout(Some(patience))?;
            match self.receive_any() {
                Ok(frame) => {
                    let (_, untagged) = split_tags(&frame);
                    if untagged.get(12..14) == Some(&[0x86, 0xdd]) && untagged.get(20) == Some(&next_header) {
                        return Ok(Some(frame));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Receives a frame, and puts the tag that the kernel has taken out of it back.
    #[expect(unsafe_code, reason = "nix does not know the control message of packet sockets")]
    fn receive_any(&self) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0_u8; 65535];
        let mut control = [0_u64; 16];
        let mut slice = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        // SAFETY: all fields are integers or pointers, for which zero is a value.
        let mut header: libc::msghdr = unsafe { mem::zeroed() };
        header.msg_iov = ptr::from_mut(&mut slice);
        header.msg_iovlen = 1;
        header.msg_control = control.as_mut_ptr().cast();
        header.msg_controllen = size_of_val(&control);
        // SAFETY: the header points to one iovec and one control buffer, both alive and of the lengths that it says.
        let len = unsafe { libc::recvmsg(self.socket.as_raw_fd(), &raw mut header, 0) };
        let len = nix::Error::result(len)?.cast_unsigned();
        buffer.truncate(len);
        // SAFETY: the kernel has written the only control message that was asked for, in full, or none.
        let auxiliary = unsafe {
            let message = libc::CMSG_FIRSTHDR(&raw const header);
            (!message.is_null())
                .then(|| libc::CMSG_DATA(message).cast::<libc::tpacket_auxdata>().read_unaligned())
        };
        let tagged = auxiliary.filter(|data| data.tp_status & libc::TP_STATUS_VLAN_VALID != 0);
        Ok(match tagged {
            Some(data) => with_tags(&buffer, &[(data.tp_vlan_tpid, data.tp_vlan_tci)]),
            None => buffer,
        })
    }
}

/// What packets of a tunnel begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TunnelKind {
    /// The Ethernet header.
    Tap,
    /// The IP header.
    Tun,
}

/// The far end of an interface of type tun, which lasts as long as this.
#[derive(Debug)]
pub struct Tunnel(File);

impl Tunnel {
    /// Makes the interface in a namespace, and sets it up.
    ///
    /// # Errors
    ///
    /// The system's, for one without CAP_NET_ADMIN.
    #[expect(unsafe_code, reason = "nix has no such request")]
    pub fn open(namespace: &Namespace, name: &str, kind: TunnelKind) -> Result<Self> {
        let flags = libc::IFF_NO_PI | if kind == TunnelKind::Tap { libc::IFF_TAP } else { libc::IFF_TUN };
        let tunnel = namespace.enter(|| {
            let file = File::options().read(true).write(true).open("/dev/net/tun")?;
            // SAFETY: all fields are integers or unions of integers and one pointer, for which zero is a value.
            let mut request: libc::ifreq = unsafe { mem::zeroed() };
            for (place, octet) in request.ifr_name.iter_mut().zip(name.as_bytes()) {
                *place = octet.cast_signed();
            }
            request.ifr_ifru.ifru_flags = flags as i16;
            // SAFETY: the kernel reads and writes an ifreq of a live, exclusive reference and keeps none of it.
            let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF as _, &raw mut request) };
            nix::Error::result(result)?;
            anyhow::Ok(Self(file))
        })?;
        run(namespace.command("ip").args(["link", "set", name, "up"]))?;
        Ok(tunnel)
    }

    /// Has the interface receive a packet.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn send(&self, packet: &[u8]) -> Result<()> {
        Ok((&self.0).write_all(packet)?)
    }

    /// The next packet that the interface sends until `deadline`; `None` where it sends none.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn receive(&self, deadline: Instant) -> Result<Option<Vec<u8>>> {
        let patience = deadline.saturating_duration_since(Instant::now()).as_millis();
        let mut ready = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        if poll(&mut ready, PollTimeout::try_from(patience)?)? == 0 {
            return Ok(None);
        }
        let mut packet = vec![0; 65535];
        let len = (&self.0).read(&mut packet)?;
        packet.truncate(len);
        Ok(Some(packet))
    }
}

fn client_interface() -> Result<LinkAddr> {
    getifaddrs()?
        .filter(|entry| entry.interface_name == CLIENT_INTERFACE)
        .find_map(|entry| entry.address?.as_link_addr().copied())
        .context("the client's interface is gone")
}

/// Turns an option of packet sockets on.
#[expect(unsafe_code, reason = "neither socket2 nor nix knows the options of packet sockets")]
fn turn_on(socket: &Socket, option: i32) -> io::Result<()> {
    let on = 1_i32;
    // SAFETY: the kernel reads four octets from a live reference and keeps none of them.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            option,
            (&raw const on).cast(),
            size_of::<i32>() as libc::socklen_t,
        )
    };
    nix::Error::result(result)?;
    Ok(())
}
