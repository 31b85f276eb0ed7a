//! dhcp6c of the WIDE project.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::client::{Client, Outage, Release, Timers};

pub(crate) const CLIENT: Client = Client {
    name: "WIDE dhcp6c",
    program: "dhcp6c",
    package: "wide-dhcpv6-client",
    config: |rapid_commit| {
        let rapid_commit = if rapid_commit { "send rapid-commit; " } else { "" };
        format!(
            "interface cli0 {{ send ia-na 7; {rapid_commit}request domain-name-servers, domain-name; \
             script \"/etc/interop-script\"; }};\nid-assoc na 7 {{ }};\n"
        )
    },
    script: "echo \"$REASON $new_domain_name_servers $new_domain_name\" >> events",
    start: "cp script /etc/interop-script
        mount --bind state /var/lib/dhcpv6
        exec dhcp6c -f -D -c $HOME/config -p $HOME/pid cli0",
    options: "cat events",
    forget: "true",
    // It takes no T2 below 30 s.
    renewal: Timers { t1: 2, t2: 30 },
    release: Ok(Release::Signal(Signal::SIGTERM)),
    // A second Renew would follow the first within 9 s to 11 s.
    rebind: Ok(Outage { timers: Timers { t1: 24, t2: 30 }, lasts: Duration::from_millis(26_500) }),
    decline: Err("it does not look whether an address is in use"),
    crashes_after_decline: false,
    fast_path: Ok(()),
};
