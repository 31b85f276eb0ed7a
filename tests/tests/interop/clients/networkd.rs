//! systemd-networkd, without the rest of systemd.

use std::time::Duration;

use dhcp6_userspace::pool::IaKind;

use crate::client::{Client, Delegation, OneByOne, Outage, Timers};

pub(crate) const CLIENT: Client = Client {
    name: "systemd-networkd",
    program: "/lib/systemd/systemd-networkd",
    package: "systemd",
    config: |wish| {
        let yes_or_no = |yes: bool| if yes { "yes" } else { "no" };
        let rapid_commit = yes_or_no(wish.rapid_commit);
        let address = yes_or_no(wish.ias.contains(&IaKind::Na));
        let prefix = yes_or_no(wish.ias.contains(&IaKind::Pd));
        format!(
            "[Match]\nName=cli0\n[Network]\nDHCP=ipv6\nIPv6AcceptRA=no\nLinkLocalAddressing=ipv6\n\
             [DHCPv6]\nWithoutRA=solicit\nRapidCommit={rapid_commit}\nDUIDType=link-layer\nIAID=7\n\
             UseAddress={address}\nUseDelegatedPrefix={prefix}\nUseDomains=yes\n"
        )
    },
    arguments: |_| "",
    script: "",
    // It waits for udev unless /sys cannot be written to.
    start: "mkdir -p /run/systemd/network /run/systemd/netif state/links state/leases state/lldp
        cp config /run/systemd/network/10-cli0.network
        printf '[Match]\\nName=lan0\\n[Network]\\nDHCPPrefixDelegation=yes\\nIPv6AcceptRA=no\\n' \
            > /run/systemd/network/20-lan0.network
        chown -R systemd-network state
        mount --bind state /run/systemd/netif
        mount -t sysfs -o ro sysfs /sys
        SYSTEMD_LOG_LEVEL=debug exec /lib/systemd/systemd-networkd",
    // It writes them down when the interface has an address, which a prefix alone does not give it.
    options: "ip address replace fd00::7/128 dev cli0; sleep 0.2; cat state/links/*",
    delegation: Delegation::Assigned,
    one_by_one: OneByOne::NEVER,
    forget: "true",
    // Its timers go off seconds late: with T2 close to T1 it rebinds and never renews.
    renewal: Timers { t1: 1, t2: 15 },
    release: Err("its DHCPv6 client has no Release in this version"),
    rebind: Ok(Outage { timers: Timers { t1: 2, t2: 2 }, lasts: Duration::ZERO }),
    decline: Err("its DHCPv6 client has no Decline in this version"),
    crashes_after_decline: false,
    fast_path: Ok(()),
};
