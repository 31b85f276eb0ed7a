//! What the server has to know of an interface.

use std::{fs, io, net::Ipv6Addr};

use nix::{ifaddrs::getifaddrs, libc, net::if_::if_nametoindex};
use socket2::{Domain, Socket, Type};

use super::packet::option;

/// The addresses of this thread's network namespace, with their flags.
const ADDRESSES: &str = "/proc/thread-self/net/if_inet6";

/// An interface that a link is attached to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name, at most 15 octets.
    pub name: String,
    /// Its index in this network namespace.
    pub index: u32,
    /// Its MAC address; zeros where it has none.
    pub mac: [u8; 6],
    /// Its link-local address, the source of all replies.
    pub link_local: Ipv6Addr,
}

/// Why an interface cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum InterfaceError {
    /// No such interface.
    #[error("there is no interface {0}")]
    Missing(String),
    /// The interface is there, but cannot be the source of a reply.
    #[error(
        "interface {0} has no link-local address; is it up, and is IPv6 on (net.ipv6.conf.{0}.disable_ipv6)?"
    )]
    NoLinkLocal(String),
    /// The kernel does not list its interfaces.
    #[error("cannot list the interfaces: {0}")]
    List(#[from] nix::Error),
    /// The kernel does not tell its addresses.
    #[error("cannot read {ADDRESSES}: {0}")]
    Addresses(io::Error),
}

/// A number of this thread's network namespace, which no other has had or will have since the machine was booted
/// (Linux 5.14, commit e8b9eab99232).
///
/// # Errors
///
/// The kernel's.
pub fn netns_cookie() -> io::Result<u64> {
    netns_cookie_of(&Socket::new(Domain::IPV6, Type::DGRAM.cloexec(), None)?)
}

/// The number of a socket's network namespace.
pub(super) fn netns_cookie_of(socket: &Socket) -> io::Result<u64> {
    option(socket, libc::SOL_SOCKET, libc::SO_NETNS_COOKIE)
}

impl Interface {
    /// Whether another is this one, with the same addresses, whatever their names are.
    pub fn is_same(&self, other: &Self) -> bool {
        let Self { name: _, index, mac, link_local } = self;
        (*index, *mac, *link_local) == (other.index, other.mac, other.link_local)
    }

    /// Looks an interface up by its name.
    ///
    /// # Errors
    ///
    /// [`InterfaceError`].
    pub fn find(name: &str) -> Result<Self, InterfaceError> {
        let index = if_nametoindex(name).map_err(|_| InterfaceError::Missing(name.to_owned()))?;
        // Not from /sys, which shows the network namespace that it was mounted in.
        let mac = getifaddrs()?
            .filter(|entry| entry.interface_name == name)
            .find_map(|entry| entry.address?.as_link_addr()?.addr());
        let addresses = fs::read_to_string(ADDRESSES).map_err(InterfaceError::Addresses)?;
        Ok(Self {
            name: name.to_owned(),
            index,
            mac: mac.unwrap_or_default(),
            link_local: addresses
                .lines()
                .find_map(|line| parse_link_local(line, name))
                .ok_or_else(|| InterfaceError::NoLinkLocal(name.to_owned()))?,
        })
    }
}

/// How many neighbours the kernel keeps at most (net.ipv6.neigh.default.gc_thresh3), each with its MAC address;
/// `None` in a network namespace that does not tell.
pub fn neighbor_limit() -> Option<u64> {
    fs::read_to_string("/proc/sys/net/ipv6/neigh/default/gc_thresh3").ok()?.trim().parse().ok()
}

/// A usable link-local address of an interface, from a line of if_inet6: address, index, prefix
/// length, scope and flags in hexadecimal, and the interface.
fn parse_link_local(line: &str, interface: &str) -> Option<Ipv6Addr> {
    /// IFA_F_TENTATIVE and IFA_F_DADFAILED of linux/if_addr.h: nothing can be sent from such an address.
    const UNUSABLE: u32 = 0x40 | 0x08;
    let [address, _index, _prefix, _scope, flags, name] = *line.split_whitespace().collect::<Vec<_>>() else {
        return None;
    };
    let address = Ipv6Addr::from(u128::from_str_radix(address, 16).ok()?);
    let usable = u32::from_str_radix(flags, 16).ok()? & UNUSABLE == 0;
    (name == interface && usable && address.is_unicast_link_local()).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::parse_link_local;

    #[test]
    fn only_usable_link_local_addresses_are_taken() {
        let used = "fe80000000000000000000fffe0000c1 02 40 20 80     eth1";
        let expected = "fe80::ff:fe00:c1".parse().unwrap();
        for (line, interface, address) in [
            (used, "eth1", Some(expected)),
            (used, "eth2", None),
            ("fe80000000000000000000fffe0000c1 02 40 20 c0     eth1", "eth1", None),
            ("fe80000000000000000000fffe0000c1 02 40 20 88     eth1", "eth1", None),
            ("20010db8000000000000000000000001 02 40 00 80     eth1", "eth1", None),
            ("", "eth1", None),
        ] {
            assert_eq!(parse_link_local(line, interface), address, "{line}");
        }
    }
}
