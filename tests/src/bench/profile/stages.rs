//! What a stack says about the stage that it is in.

use std::collections::BTreeMap;

/// Stages, each with parts of the names of functions that tell it. The innermost function that tells a stage decides,
/// and for one function the first stage. Names of the kernel and of libraries are older than any version of the daemon;
/// of the daemon's own only modules count.
const STAGES: [(&str, &[&str]); 12] = [
    ("stage: delivery (softirq)", &["__do_softirq", "handle_softirqs", "net_rx_action", "process_backlog"]),
    ("stage: neighbour resolution", &["neigh_", "ndisc_"]),
    (
        "stage: disk (write, fsync)",
        &[
            "_fdatasync",
            "_fsync",
            "_pwrite",
            "ksys_write",
            "vfs_write",
            "ext4_",
            "jbd2_",
            "unixSync",
            "unixWrite",
        ],
    ),
    ("stage: store (SQLite)", &["sqlite3", "rusqlite", "dhcp6_userspace::lease"]),
    ("stage: kernel map (BPF)", &["__sys_bpf", "bpf_map", "dhcp6_userspace::fastpath", "aya::"]),
    (
        "stage: receive",
        &["_recvmsg", "_recvmmsg", "_recvfrom", "libc_recv", "recvmmsg", "::receive", "io_recv"],
    ),
    (
        "stage: send",
        &[
            "_sendmsg",
            "_sendmmsg",
            "_sendto",
            "libc_send",
            "sendmmsg",
            "::send",
            "packet_snd",
            "udpv6_sendmsg",
        ],
    ),
    (
        "stage: waiting and waking (epoll, futex)",
        &[
            "epoll",
            "futex",
            "eventfd",
            "ksys_read",
            "schedule",
            "tokio",
            "parking_lot",
            "std::sync",
            "pthread_",
        ],
    ),
    ("stage: glance and queue", &["engine::glance", "daemon::queue"]),
    (
        "stage: engine",
        &["dhcp6_userspace::engine", "dhcp6_userspace::pool", "dhcproto", "dhcp6_common", "hashbrown"],
    ),
    ("stage: sockets (addresses, filters)", &["dhcp6_userspace::net"]),
    ("stage: daemon (the rest)", &["dhcp6_userspace", "dhcp6d"]),
];
const OTHER: &str = "stage: none of these";

/// How many samples each stage has.
#[derive(Debug, Default)]
pub(super) struct Tally {
    stages: BTreeMap<&'static str, u32>,
    /// Innermost functions of those that are in no stage.
    others: BTreeMap<String, u32>,
    samples: u32,
}

impl Tally {
    /// Counts stacks, each with its innermost function first.
    pub(super) fn of(stacks: &[Vec<String>]) -> Self {
        let mut tally = Self::default();
        for stack in stacks {
            tally.samples += 1;
            let stage = stack.iter().find_map(|function| stage(function)).unwrap_or_else(|| {
                let innermost = stack.first().cloned().unwrap_or_default();
                *tally.others.entry(innermost).or_default() += 1;
                OTHER
            });
            *tally.stages.entry(stage).or_default() += 1;
        }
        tally
    }

    /// The share that each stage has of all samples, in the order of a packet's way.
    pub(super) fn shares(&self) -> impl Iterator<Item = (&'static str, f64)> {
        let order = [5, 8, 9, 7, 3, 2, 4, 6, 1, 0, 10, 11].map(|index: usize| STAGES[index].0);
        order.into_iter().chain([OTHER]).map(|stage| {
            let samples = self.stages.get(stage).copied().unwrap_or_default();
            (stage, f64::from(samples) / f64::from(self.samples.max(1)))
        })
    }

    /// The innermost functions of most samples that are in no stage, with their shares of all samples.
    pub(super) fn others(&self, most: usize) -> Vec<String> {
        let mut others: Vec<_> = self.others.iter().collect();
        others.sort_by_key(|(_, samples)| std::cmp::Reverse(**samples));
        let share = |samples: u32| f64::from(samples) / f64::from(self.samples.max(1)) * 100.0;
        let text = |(function, samples): &(&String, &u32)| format!("{function} ({:.1} %)", share(**samples));
        others.iter().take(most).map(text).collect()
    }
}

/// The stage that a function tells, if any.
fn stage(function: &str) -> Option<&'static str> {
    STAGES.iter().find(|(_, parts)| parts.iter().any(|part| function.contains(part))).map(|(stage, _)| *stage)
}

#[cfg(test)]
mod tests {
    use super::{OTHER, Tally};

    #[test]
    fn the_innermost_function_that_tells_a_stage_decides() {
        for (stack, stage) in [
            (
                &["memcpy", "sqlite3VdbeExec", "dhcp6_userspace::lease::sqlite::commit"][..],
                "stage: store (SQLite)",
            ),
            (
                &["submit_bio", "ext4_sync_file", "__x64_sys_fdatasync", "unixSync"],
                "stage: disk (write, fsync)",
            ),
            (&["packet_rcv", "__do_softirq", "ip6_output", "__sys_sendmsg"], "stage: delivery (softirq)"),
            (&["ndisc_send_ns", "ip6_output", "udpv6_sendmsg"], "stage: neighbour resolution"),
            (
                &["ip6_output", "udpv6_sendmsg", "dhcp6_userspace::net::socket::ServerSocket::send"],
                "stage: send",
            ),
            (&["malloc", "dhcp6_userspace::engine::handlers::solicit"], "stage: engine"),
            (&["dhcp6_userspace::daemon::queue::Queue::take"], "stage: glance and queue"),
            (&["dhcp6_userspace::daemon::Daemon::round"], "stage: daemon (the rest)"),
            (&["malloc", "[unknown]"], OTHER),
        ] {
            let stack: Vec<_> = stack.iter().map(|function| (*function).to_owned()).collect();
            let tally = Tally::of(&[stack]);
            let whole: Vec<_> = tally.shares().filter(|(_, share)| *share > 0.0).collect();
            assert_eq!(whole, [(stage, 1.0)]);
        }
    }

    #[test]
    fn every_stage_is_shown_once() {
        let tally = Tally::of(&[vec!["a".to_owned()], vec!["b".to_owned()], vec!["a".to_owned()]]);
        let mut names: Vec<_> = tally.shares().map(|(stage, _)| stage).collect();
        assert_eq!(names.len(), super::STAGES.len() + 1);
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), super::STAGES.len() + 1);
        assert_eq!(tally.others(1), ["a (66.7 %)"]);
    }
}
