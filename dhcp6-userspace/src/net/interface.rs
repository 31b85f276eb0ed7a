//! What the server has to know of an interface.

use std::net::Ipv6Addr;

use nix::{ifaddrs::getifaddrs, net::if_::if_nametoindex};

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
}

impl Interface {
    /// Looks an interface up by its name.
    ///
    /// # Errors
    ///
    /// [`InterfaceError`].
    pub fn find(name: &str) -> Result<Self, InterfaceError> {
        let index = if_nametoindex(name).map_err(|_| InterfaceError::Missing(name.to_owned()))?;
        let mut mac = [0; 6];
        let mut link_local = None;
        for entry in getifaddrs()?.filter(|entry| entry.interface_name == name) {
            let Some(address) = entry.address else { continue };
            if let Some(link) = address.as_link_addr() {
                mac = link.addr().unwrap_or_default();
            }
            if let Some(inet) = address.as_sockaddr_in6()
                && inet.ip().is_unicast_link_local()
            {
                link_local.get_or_insert(inet.ip());
            }
        }
        let link_local = link_local.ok_or_else(|| InterfaceError::NoLinkLocal(name.to_owned()))?;
        Ok(Self { name: name.to_owned(), index, mac, link_local })
    }
}
