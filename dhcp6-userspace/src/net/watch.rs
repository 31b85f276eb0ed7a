//! Word of interfaces that come, go or change (rtnetlink(7)).

use std::{collections::BTreeSet, io, os::fd::AsRawFd as _};

use nix::{
    libc,
    sys::socket::{MsgFlags, NetlinkAddr, bind, recv},
};
use socket2::{Domain, Protocol, Socket, Type};

/// RTMGRP_LINK and RTMGRP_IPV6_IFADDR of linux/rtnetlink.h.
const GROUPS: u32 = 0x1 | 0x100;
/// Octets of a `struct nlmsghdr`.
const HEADER: usize = 16;
/// More messages than this are left for the next look.
const MOST: usize = 4096;

/// Hears of the interfaces of this thread's network namespace and of their IPv6 addresses.
#[derive(Debug)]
pub struct InterfaceWatch(Socket);

/// What was heard since the last time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InterfaceNews {
    /// Whether anything has changed.
    pub is_any: bool,
    /// Indexes of interfaces that were deleted, or moved to another network namespace. Another may have the index by now.
    pub deleted: BTreeSet<u32>,
}

impl InterfaceWatch {
    /// Begins to listen.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn open() -> io::Result<Self> {
        let kind = Type::RAW.nonblocking().cloexec();
        let route = Protocol::from(libc::NETLINK_ROUTE);
        let socket = Socket::new(Domain::from(libc::AF_NETLINK), kind, Some(route))?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, GROUPS))?;
        Ok(Self(socket))
    }

    /// What has changed since this was called last.
    pub fn news(&self) -> InterfaceNews {
        let mut news = InterfaceNews::default();
        let mut buffer = [0; 8192];
        for _ in 0..MOST {
            match recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(len) => news.note(&buffer[..len]),
                Err(nix::Error::EAGAIN) => break,
                // Something was lost.
                Err(_) => news.is_any = true,
            }
        }
        news
    }
}

impl InterfaceNews {
    /// Notes what is in a datagram: messages, each with its length in front and padded to four octets.
    fn note(&mut self, mut datagram: &[u8]) {
        self.is_any = true;
        while let Some(message) = Message::first_of(datagram) {
            if message.kind == libc::RTM_DELLINK
                && let Some(index) = message.removed_interface()
            {
                self.deleted.insert(index);
            }
            datagram = datagram.get(message.len.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

/// A netlink message.
struct Message<'a> {
    len: usize,
    kind: u16,
    payload: &'a [u8],
}

impl<'a> Message<'a> {
    fn first_of(datagram: &'a [u8]) -> Option<Self> {
        let len = u32::from_ne_bytes(*datagram.first_chunk()?) as usize;
        let kind = u16::from_ne_bytes(*datagram.get(4..)?.first_chunk()?);
        Some(Self { len, kind, payload: datagram.get(HEADER..len)? })
    }

    /// The index in its `struct ifinfomsg`; `None` where the interface has only left a bridge.
    fn removed_interface(&self) -> Option<u32> {
        let family = *self.payload.first()?;
        let index = u32::from_ne_bytes(*self.payload.get(4..)?.first_chunk()?);
        (i32::from(family) == libc::AF_UNSPEC).then_some(index)
    }
}

#[cfg(test)]
mod tests {
    use super::InterfaceNews;

    /// A message about an interface.
    fn message(kind: u16, family: u8, index: u32) -> Vec<u8> {
        let mut message =
            [&33_u32.to_ne_bytes()[..], &kind.to_ne_bytes(), &[0; 10], &[family, 0, 0, 0]].concat();
        message.extend(index.to_ne_bytes());
        message.resize(36, 0);
        message
    }

    #[test]
    fn deleted_interfaces_are_told_from_changed_ones() {
        const NEW: u16 = 16;
        const DELETED: u16 = 17;
        const BRIDGE: u8 = 7;
        let mut news = InterfaceNews::default();
        news.note(&[message(NEW, 0, 1), message(DELETED, 0, 2), message(DELETED, BRIDGE, 3)].concat());
        news.note(&message(DELETED, 0, 4));
        news.note(&message(DELETED, 0, 5)[..20]);
        assert_eq!(news, InterfaceNews { is_any: true, deleted: [2, 4].into() });
    }
}
