//! dhcpcd.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::client::{Client, Outage, Release, Timers};

pub(crate) const CLIENT: Client = Client {
    name: "dhcpcd",
    program: "dhcpcd",
    package: "dhcpcd-base",
    config: |rapid_commit| {
        let rapid_commit = if rapid_commit { "option dhcp6_rapid_commit\n" } else { "" };
        format!(
            "duid\nnoipv4\nnoipv6rs\n{rapid_commit}option dhcp6_name_servers, dhcp6_domain_search\n\
             interface cli0\nia_na 7\n"
        )
    },
    script: "echo \"$reason $new_dhcp6_name_servers $new_dhcp6_domain_search\" >> events",
    start: "mkdir /run/dhcpcd
        mount --bind state /var/lib/dhcpcd
        exec dhcpcd -6 -B -d -f $HOME/config -c $HOME/script cli0",
    options: "cat events",
    forget: "rm -f state/*.lease6",
    renewal: Timers { t1: 2, t2: 5 },
    // SIGALRM is its signal for that.
    release: Ok(Release::Signal(Signal::SIGALRM)),
    rebind: Ok(Outage { timers: Timers { t1: 2, t2: 5 }, lasts: Duration::from_millis(3500) }),
    decline: Err("it goes on waiting for an address that the kernel has found to be in use"),
    crashes_after_decline: false,
    fast_path: Ok(()),
};
