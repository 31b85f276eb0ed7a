//! ISC dhclient, with Debian's script for it.

use std::time::Duration;

use dhcp6_userspace::pool::IaKind;

use crate::client::{Client, Delegation, OneByOne, Outage, Release, Timers};

/// Debian's script does not look whether an address is in use, so this one does, as ISC's does: status 3 makes
/// dhclient decline.
const SCRIPT: &str = r#"
echo "$reason $new_ip6_address $new_ip6_prefix $new_dhcp6_name_servers $new_dhcp6_domain_search" >> events
/sbin/dhclient-script || exit
test "$reason" = BOUND6 && test -n "$new_ip6_address" || exit 0
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    here=$(ip -6 -oneline address show dev "$interface" to "$new_ip6_address")
    case $here in
        ''|*dadfailed*) ip address del "$new_ip6_address/128" dev "$interface"; exit 3;;
        *tentative*) sleep 0.2;;
        *) exit 0;;
    esac
done
"#;

pub(crate) const CLIENT: Client = Client {
    name: "ISC dhclient",
    program: "dhclient",
    package: "isc-dhcp-client",
    config: |wish| {
        let rapid_commit = wish.with_rapid_commit("send dhcp6.rapid-commit;\n");
        format!("{rapid_commit}also request dhcp6.name-servers, dhcp6.domain-search;\n")
    },
    arguments: |wish| match wish.ias {
        [IaKind::Na] => "-N",
        [IaKind::Pd] => "-P",
        _ => "-N -P",
    },
    script: SCRIPT,
    start: "touch state/leases
        exec dhclient -6 $ARGUMENTS -d -v -cf $HOME/config -lf $HOME/state/leases -pf $HOME/pid -sf $HOME/script \
            --dad-wait-time 5 cli0",
    options: "cat events",
    delegation: Delegation::Printed("cat events"),
    one_by_one: OneByOne::NEVER,
    forget: "sed -i '/^default-duid/!d' state/leases",
    renewal: Timers { t1: 2, t2: 5 },
    release: Ok(Release::Command(
        "dhclient -6 $ARGUMENTS -r -cf $HOME/config -lf $HOME/state/leases -pf $HOME/pid -sf /bin/true cli0",
    )),
    rebind: Ok(Outage { timers: Timers { t1: 2, t2: 5 }, lasts: Duration::from_millis(3500) }),
    decline: Ok(()),
    crashes_after_decline: false,
    fast_path: Ok(()),
};
