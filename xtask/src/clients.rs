//! The DHCPv6 clients, relay agents and other programs that the server is demonstrated and tested with.

use crate::setup::{Host, Need, Packages};
use crate::workspace::Workspace;

/// ISC dhclient.
pub(crate) const DHCLIENT: Need = Need {
    programs: &["dhclient"],
    reason: "dhclient, a client that the demonstration and the end-to-end tests use",
    debian: &["isc-dhcp-client"],
    fedora: &["dhcp-client"],
    arch: &["dhclient"],
};

/// dhcpcd.
pub(crate) const DHCPCD: Need = Need {
    programs: &["dhcpcd"],
    reason: "dhcpcd, a client that the end-to-end tests use",
    debian: &["dhcpcd-base"],
    fedora: &["dhcpcd"],
    arch: &["dhcpcd"],
};

/// dhcp6c of the WIDE project.
pub(crate) const DHCP6C: Need = Need {
    programs: &["dhcp6c"],
    reason: "dhcp6c, a client that the end-to-end tests use",
    debian: &["wide-dhcpv6-client"],
    fedora: &["wide-dhcpv6"],
    arch: &["wide-dhcpv6"],
};

/// The client of Dibbler.
pub(crate) const DIBBLER: Need = Need {
    programs: &["dibbler-client"],
    reason: "Dibbler, a client that the end-to-end tests use",
    debian: &["dibbler-client"],
    fedora: &["dibbler-client"],
    arch: &["dibbler"],
};

/// systemd-networkd, whose own program is in no directory of programs: networkctl comes with it.
pub(crate) const NETWORKD: Need = Need {
    programs: &["networkctl"],
    reason: "systemd-networkd, a client that the end-to-end tests use",
    debian: &["systemd"],
    fedora: &["systemd-networkd"],
    arch: &["systemd"],
};

/// ISC dhcrelay, the relay agent.
pub(crate) const DHCRELAY: Need = Need {
    programs: &["dhcrelay"],
    reason: "dhcrelay, the relay agent that the end-to-end tests use",
    debian: &["isc-dhcp-relay"],
    fedora: &["dhcp-relay"],
    arch: &["dhcp"],
};

/// libfaketime, whose library is in no directory of programs: the program `faketime` comes with it.
pub(crate) const FAKETIME: Need = Need {
    programs: &["faketime"],
    reason: "faketime, with which an end-to-end test steps the server's wall clock",
    debian: &["faketime"],
    fedora: &["libfaketime"],
    arch: &["libfaketime"],
};

/// ethtool, with which operators, too, have an interface leave VLAN tags in frames.
pub(crate) const ETHTOOL: Need = Need {
    programs: &["ethtool"],
    reason: "ethtool, with which the end-to-end tests set interfaces up for VLANs",
    debian: &["ethtool"],
    fedora: &["ethtool"],
    arch: &["ethtool"],
};

/// Installs them, or says that they are missing: what uses them does without, skips or fails by itself.
pub(crate) fn provide(workspace: &Workspace, clients: &[Need]) {
    let mut host = Host::new(&workspace.root);
    let mut installer = Packages::default();
    for client in clients {
        if let Some(note) = installer.provide(&mut host, client) {
            eprintln!("setup: {note}");
        }
    }
}
