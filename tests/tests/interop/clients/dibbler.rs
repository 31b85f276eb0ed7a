//! The client of Dibbler.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::{
    client::{Client, Delegation, OneByOne, Outage, Release, Timers},
    table::Feature,
};

pub(crate) const CLIENT: Client = Client {
    name: "Dibbler",
    program: "dibbler-client",
    package: "dibbler-client",
    config: |wish| {
        let downlink = wish.with_prefix("downlink-prefix-ifaces \"lan0\"\n");
        let rapid_commit = wish.with_rapid_commit("rapid-commit yes\n");
        let address = wish.with_address("ia { }\n");
        let prefix = wish.with_prefix("pd { }\n");
        format!(
            "log-level 7\nduid-type duid-ll\n{downlink}iface cli0 {{\n{rapid_commit}{address}{prefix}\
             option dns-server\noption domain\n}}\n"
        )
    },
    arguments: |_| "",
    script: "",
    start: "mkdir -p /etc/dibbler
        cp config /etc/dibbler/client.conf
        mount --bind state /var/lib/dibbler
        exec dibbler-client run",
    options: "cat state/option-*",
    // It routes the prefix there.
    delegation: Delegation::Printed("ip -6 route show dev lan0"),
    one_by_one: OneByOne {
        features: &[Feature::Renew, Feature::Rebind],
        why: "its timers for the two go off up to some seconds apart",
    },
    forget: "rm -f state/client-AddrMgr.xml",
    renewal: Timers { t1: 2, t2: 5 },
    release: Ok(Release::Signal(Signal::SIGTERM)),
    rebind: Ok(Outage { timers: Timers { t1: 4, t2: 9 }, lasts: Duration::from_millis(6500) }),
    decline: Ok(()),
    // A segmentation fault once the Decline is sent, whether it is answered or not.
    crashes_after_decline: true,
    fast_path: Ok(()),
};
