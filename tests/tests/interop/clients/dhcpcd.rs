//! dhcpcd.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::client::{Client, Delegation, OneByOne, Outage, Release, Timers};

pub(crate) const CLIENT: Client = Client {
    name: "dhcpcd",
    program: "dhcpcd",
    package: "dhcpcd-base",
    config: |wish| {
        let rapid_commit = wish.with_rapid_commit("option dhcp6_rapid_commit\n");
        let address = wish.with_address("ia_na 7\n");
        let prefix = wish.with_prefix("ia_pd 7 lan0/1\n");
        format!(
            "nodev\nduid\nnoipv4\nnoipv6rs\n{rapid_commit}option dhcp6_name_servers, dhcp6_domain_search\n\
             interface cli0\n{address}{prefix}"
        )
    },
    // It assigns addresses of prefixes only to interfaces that it runs on.
    arguments: |wish| wish.with_prefix("lan0"),
    script: "echo \"$reason $new_dhcp6_name_servers $new_dhcp6_domain_search\" >> events",
    start: "mkdir /run/dhcpcd
        mount --bind state /var/lib/dhcpcd
        exec dhcpcd -6 -B -d -f $HOME/config -c $HOME/script cli0 $ARGUMENTS",
    options: "cat events",
    delegation: Delegation::Assigned,
    one_by_one: OneByOne::NEVER,
    forget: "rm -f state/*.lease6",
    renewal: Timers { t1: 2, t2: 5 },
    // SIGALRM is its signal for that.
    release: Ok(Release::Signal(Signal::SIGALRM)),
    rebind: Ok(Outage { timers: Timers { t1: 2, t2: 5 }, lasts: Duration::from_millis(3500) }),
    decline: Err("it goes on waiting for an address that the kernel has found to be in use"),
    crashes_after_decline: false,
    fast_path: Ok(()),
};
