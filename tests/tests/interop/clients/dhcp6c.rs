//! dhcp6c of the WIDE project.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::{
    client::{Client, Delegation, OneByOne, Outage, Release, Timers},
    table::Feature,
};

pub(crate) const CLIENT: Client = Client {
    name: "WIDE dhcp6c",
    program: "dhcp6c",
    package: "wide-dhcpv6-client",
    config: |wish| {
        let address = wish.with_address("send ia-na 7; ");
        let prefix = wish.with_prefix("send ia-pd 7; ");
        let rapid_commit = wish.with_rapid_commit("send rapid-commit; ");
        let address_association = wish.with_address("id-assoc na 7 { };\n");
        let prefix_association =
            wish.with_prefix("id-assoc pd 7 { prefix-interface lan0 { sla-id 1; sla-len 8; }; };\n");
        format!(
            "interface cli0 {{ {address}{prefix}{rapid_commit}request domain-name-servers, domain-name; \
             script \"/etc/interop-script\"; }};\n{address_association}{prefix_association}"
        )
    },
    arguments: |_| "",
    script: "echo \"$REASON $new_domain_name_servers $new_domain_name\" >> events",
    start: "cp script /etc/interop-script
        mount --bind state /var/lib/dhcpv6
        exec dhcp6c -f -D -c $HOME/config -p $HOME/pid cli0",
    options: "cat events",
    delegation: Delegation::Assigned,
    one_by_one: OneByOne {
        features: &[Feature::Renew, Feature::Rebind, Feature::Release],
        why: "it sends a message for each IA",
    },
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
