//! systemd-networkd, without the rest of systemd.

use std::time::Duration;

use crate::client::{Client, Outage, Timers};

pub(crate) const CLIENT: Client = Client {
    name: "systemd-networkd",
    program: "/lib/systemd/systemd-networkd",
    package: "systemd",
    config: |rapid_commit| {
        let rapid_commit = if rapid_commit { "yes" } else { "no" };
        format!(
            "[Match]\nName=cli0\n[Network]\nDHCP=ipv6\nIPv6AcceptRA=no\nLinkLocalAddressing=ipv6\n\
             [DHCPv6]\nWithoutRA=solicit\nRapidCommit={rapid_commit}\nDUIDType=link-layer\nIAID=7\n\
             UseDelegatedPrefix=no\nUseDomains=yes\n"
        )
    },
    script: "",
    // It waits for udev unless /sys cannot be written to.
    start: "mkdir -p /run/systemd/network /run/systemd/netif state/links state/leases state/lldp
        cp config /run/systemd/network/10-cli0.network
        chown -R systemd-network state
        mount --bind state /run/systemd/netif
        mount -t sysfs -o ro sysfs /sys
        SYSTEMD_LOG_LEVEL=debug exec /lib/systemd/systemd-networkd",
    options: "cat state/links/*",
    forget: "true",
    // Its timers go off seconds late: with T2 close to T1 it rebinds and never renews.
    renewal: Timers { t1: 1, t2: 15 },
    release: Err("its DHCPv6 client has no Release in this version"),
    rebind: Ok(Outage { timers: Timers { t1: 2, t2: 2 }, lasts: Duration::ZERO }),
    decline: Err("its DHCPv6 client has no Decline in this version"),
    crashes_after_decline: false,
    fast_path: Ok(()),
};
