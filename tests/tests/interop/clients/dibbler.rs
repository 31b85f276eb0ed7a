//! The client of Dibbler.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::client::{Client, Outage, Release, Timers};

pub(crate) const CLIENT: Client = Client {
    name: "Dibbler",
    program: "dibbler-client",
    package: "dibbler-client",
    config: |rapid_commit| {
        let rapid_commit = if rapid_commit { "rapid-commit yes\n" } else { "" };
        format!(
            "log-level 7\nduid-type duid-ll\niface cli0 {{\n{rapid_commit}ia {{ }}\noption dns-server\n\
             option domain\n}}\n"
        )
    },
    script: "",
    start: "mkdir -p /etc/dibbler
        cp config /etc/dibbler/client.conf
        mount --bind state /var/lib/dibbler
        exec dibbler-client run",
    options: "cat state/option-*",
    forget: "rm -f state/client-AddrMgr.xml",
    renewal: Timers { t1: 2, t2: 5 },
    release: Ok(Release::Signal(Signal::SIGTERM)),
    rebind: Ok(Outage { timers: Timers { t1: 4, t2: 9 }, lasts: Duration::from_millis(6500) }),
    decline: Ok(()),
    // A segmentation fault once the Decline is sent, whether it is answered or not.
    crashes_after_decline: true,
    fast_path: Ok(()),
};
