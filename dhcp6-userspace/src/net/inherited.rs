//! Sockets that another process has left.

use std::{
    io,
    net::{Ipv6Addr, SocketAddrV6},
    os::fd::OwnedFd,
};

use nix::libc;
use socket2::{Domain, Protocol, Socket, Type};

use super::{
    Interface,
    interface::{netns_cookie, netns_cookie_of},
    packet::bound_to,
};

/// A descriptor that came from another process, of which nothing is known yet.
#[derive(Debug)]
pub struct InheritedSocket(Socket);

impl InheritedSocket {
    /// Takes a descriptor, which need not be a socket.
    pub fn new(descriptor: OwnedFd) -> Self {
        Self(descriptor.into())
    }

    /// Whether this is what [`ServerSocket`](super::ServerSocket) opens on an interface of this network namespace,
    /// or, for `None`, on all interfaces.
    pub fn listens_on(&self, interface: Option<&Interface>, port: u16) -> bool {
        let any = SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0);
        let fits = || -> io::Result<bool> {
            // The kernel keeps the index of an interface, and tells the name that belongs to it now: none where the
            // interface is gone.
            let device = self.0.device()?;
            Ok(self.is_here(Domain::IPV6, Type::DGRAM)?
                && self.0.protocol()? == Some(Protocol::UDP)
                && self.0.only_v6()?
                && self.0.local_addr()?.as_socket_ipv6() == Some(any)
                && self.0.peer_addr().is_err()
                && device.as_deref() == interface.map(|interface| interface.name.as_bytes()))
        };
        fits().unwrap_or(false)
    }

    /// Whether this is the [`member`](super::FrameSocket::member) of a group on an interface of this network namespace.
    pub fn is_member_on(&self, interface: &Interface) -> bool {
        // It is bound to no port.
        self.listens_on(Some(interface), 0)
    }

    /// Whether this is what [`FrameSocket`](super::FrameSocket) opens on an interface of this network namespace.
    pub fn receives_frames(&self, interface: &Interface) -> bool {
        let fits = || -> io::Result<bool> {
            // One whose interface is gone is bound to none.
            let all = (interface.index.cast_signed(), libc::ETH_P_ALL as u16);
            Ok(self.is_here(Domain::PACKET, Type::RAW)? && bound_to(&self.0)? == all)
        };
        fits().unwrap_or(false)
    }

    /// Whether this is such a socket of this network namespace.
    fn is_here(&self, domain: Domain, kind: Type) -> io::Result<bool> {
        Ok(self.0.domain()? == domain
            && self.0.r#type()? == kind
            && netns_cookie_of(&self.0)? == netns_cookie()?)
    }

    /// The socket, where it was found to fit.
    pub(super) fn into_socket(self) -> Socket {
        self.0
    }
}
