//! A snapshot in the OpenMetrics text format, which Prometheus reads.

use std::fmt;

use dhcp6_common::Verdict;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder, text},
    metrics::{MetricType, exemplar::Exemplar},
    registry::Registry,
};

use super::Snapshot;
use crate::control::{Count, Counts, PoolRow, Queued};

/// The snapshot as it is sent.
///
/// # Errors
///
/// None: text takes everything. The signature is that of the encoder.
pub fn render(snapshot: Snapshot) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("dhcp6");
    registry.register_collector(Box::new(snapshot));
    let mut text = String::new();
    text::encode(&mut text, &registry)?;
    Ok(text)
}

impl Collector for Snapshot {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Self { since, status, pools, slow_path, fast_path } = self;
        let mut page = Page(encoder);

        page.info("build", "The running daemon.", [("version", &status.version)])?;
        page.gauge(
            "start_time_seconds",
            "Since when the daemon serves, in seconds since the Unix epoch.",
            since.as_millis() / 1000,
        )?;

        page.counters(
            "slow_path_messages_received",
            "Messages that the daemon received, by type.",
            slow_path.received.iter().map(|(kind, count)| ([("type", kind.as_str())], *count)),
        )?;
        page.counters(
            "slow_path_messages_sent",
            "Messages that the daemon sent, by type.",
            slow_path.sent.iter().map(|(kind, count)| ([("type", kind.as_str())], *count)),
        )?;
        page.counters(
            "slow_path_messages_dropped",
            "Messages that the daemon did not answer, by reason.",
            slow_path.dropped.iter().map(|(reason, count)| ([("reason", reason.as_str())], *count)),
        )?;
        page.counter(
            "slow_path_socket_drops",
            "Datagrams that the kernel dropped because the daemon's sockets were full.",
            slow_path.socket_drops,
        )?;
        page.counter(
            "slow_path_receive_errors",
            "Attempts of the daemon to receive that failed.",
            slow_path.receive_errors,
        )?;
        let Queued { clients, known, strangers } = slow_path.queued;
        page.gauges(
            "slow_path_messages_queued",
            "Messages that wait for the daemon, by class: those of clients with a lease first, then Solicits of known \
             clients, then those of strangers.",
            [("clients", clients), ("known", known), ("strangers", strangers)]
                .map(|(class, count)| ([("class", class)], Count(count.into()))),
        )?;

        page.gauges(
            "pool_addresses",
            "Addresses of each link, by state; those that are used are leased.",
            pools.iter().flat_map(|row| states(row, &row.counts)),
        )?;
        page.gauges(
            "pool_prefixes",
            "Prefixes of each link, by state; those that are used are delegated.",
            { pools.iter() }
                .filter(|row| !row.prefix_counts.are_zero())
                .flat_map(|row| states(row, &row.prefix_counts)),
        )?;

        let store = &status.store;
        page.gauge(
            "store_ok",
            "1 where the last commit to the lease store succeeded; 0 where it failed, and nothing new is promised.",
            u64::from(store.ok),
        )?;
        page.counter("store_commits", "Commits to the lease store that succeeded.", store.commits)?;
        page.counter(
            "store_failed_commits",
            "Commits to the lease store that failed.",
            store.failed_commits,
        )?;

        page.gauges(
            "fast_path_attached",
            "1 for each interface that the XDP program is attached to, by mode.",
            status
                .fast_path
                .iter()
                .map(|row| ([("interface", &*row.interface), ("mode", &*row.mode)], Count(1))),
        )?;
        page.counters(
            "fast_path_frames",
            "Frames that the XDP program saw, by what it did with them and why.",
            fast_path.iter().flat_map(|counters| {
                counters.frames.iter().map(|(reason, count)| {
                    let verdict = match reason.verdict() {
                        Verdict::Answered => "answered",
                        Verdict::Passed => "passed",
                        Verdict::Dropped => "dropped",
                    };
                    let interface = &*counters.interface;
                    ([("interface", interface), ("verdict", verdict), ("reason", reason.name())], *count)
                })
            }),
        )?;
        if let Some(maps) = &status.fast_path_maps {
            page.counter(
                "fast_path_refused_bindings",
                "Bindings that the BPF maps did not take, for one because they were full.",
                maps.refused_bindings,
            )?;
        }
        Ok(())
    }
}

/// How many addresses or prefixes of one link are in each state.
fn states<'a>(row: &'a PoolRow, counts: &Counts) -> [([(&'static str, &'a str); 2], Count); 4] {
    let Counts { idle, used, conflict, excluded } = *counts;
    [("idle", idle), ("used", used), ("conflict", conflict), ("excluded", excluded)]
        .map(|(state, count)| ([("link", &*row.link), ("state", state)], count))
}

/// Writes metrics one after the other. Names come without prefix, those of counters without `_total`.
struct Page<'a>(DescriptorEncoder<'a>);

/// Labels of counters have no exemplars.
const NO_EXEMPLAR: Option<&Exemplar<[(&str, &str); 0], u64>> = None;

impl Page<'_> {
    fn info<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        labels: [(&'static str, &str); N],
    ) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Info)?.encode_info(&labels)
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
    }

    fn gauges<'l, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = ([(&'static str, &'l str); N], Count)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, count) in rows {
            encode_count(family.encode_family(&labels)?, count)?;
        }
        Ok(())
    }

    fn counter(&mut self, name: &str, help: &str, count: u64) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Counter)?.encode_counter(&count, NO_EXEMPLAR)
    }

    fn counters<'l, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = ([(&'static str, &'l str); N], u64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, count) in rows {
            family.encode_family(&labels)?.encode_counter(&count, NO_EXEMPLAR)?;
        }
        Ok(())
    }
}

#[expect(clippy::cast_precision_loss, reason = "the format's numbers are floats")]
fn encode_count(mut encoder: MetricEncoder<'_>, Count(count): Count) -> fmt::Result {
    match u64::try_from(count) {
        Ok(count) => encoder.encode_gauge(&count),
        Err(_) => encoder.encode_gauge(&(count as f64)),
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, path::PathBuf};

    use dhcp6_common::Reason;

    use super::{Count, Counts, PoolRow, Snapshot, render};
    use crate::{
        control::{
            FastPathRow, FastPathStatus, Queued, ReceiveBuffer, SlowPathCounters, Status, StoreStatus,
        },
        metrics::InterfaceCounters,
        time::Time,
    };

    fn counts(counts: &[(&str, u64)]) -> BTreeMap<String, u64> {
        counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    fn snapshot() -> Snapshot {
        Snapshot {
            since: Time::from_millis(1_700_000_000_999),
            status: Status {
                version: "1.2.3".to_owned(),
                pid: 1,
                since: String::new(),
                server_duid: String::new(),
                links: Vec::new(),
                fast_path: Vec::new(),
                fast_path_maps: None,
                receive_buffer: ReceiveBuffer::default(),
                store: StoreStatus {
                    kind: "sqlite".to_owned(),
                    path: None,
                    ok: false,
                    last_error: None,
                    commits: 5,
                    failed_commits: 1,
                    commit_takes: None,
                },
                last_reload: None,
            },
            pools: vec![PoolRow {
                link: "a\"0".to_owned(),
                interface: None,
                counts: Counts {
                    idle: Count(u128::MAX),
                    used: Count(3),
                    conflict: Count(0),
                    excluded: Count(7),
                },
                prefix_counts: Counts::default(),
            }],
            slow_path: SlowPathCounters {
                received: counts(&[("solicit", 4), ("unknown", 1)]),
                sent: counts(&[("advertise", 3)]),
                dropped: counts(&[("malformed", 2)]),
                socket_drops: 6,
                receive_errors: 8,
                queued: Queued { clients: 9, known: 10, strangers: 11 },
            },
            fast_path: Vec::new(),
        }
    }

    #[test]
    fn a_daemon_without_a_fast_path() {
        let expected = "\
# HELP dhcp6_build The running daemon.
# TYPE dhcp6_build info
dhcp6_build_info{version=\"1.2.3\"} 1
# HELP dhcp6_start_time_seconds Since when the daemon serves, in seconds since the Unix epoch.
# TYPE dhcp6_start_time_seconds gauge
dhcp6_start_time_seconds 1700000000
# HELP dhcp6_slow_path_messages_received Messages that the daemon received, by type.
# TYPE dhcp6_slow_path_messages_received counter
dhcp6_slow_path_messages_received_total{type=\"solicit\"} 4
dhcp6_slow_path_messages_received_total{type=\"unknown\"} 1
# HELP dhcp6_slow_path_messages_sent Messages that the daemon sent, by type.
# TYPE dhcp6_slow_path_messages_sent counter
dhcp6_slow_path_messages_sent_total{type=\"advertise\"} 3
# HELP dhcp6_slow_path_messages_dropped Messages that the daemon did not answer, by reason.
# TYPE dhcp6_slow_path_messages_dropped counter
dhcp6_slow_path_messages_dropped_total{reason=\"malformed\"} 2
# HELP dhcp6_slow_path_socket_drops Datagrams that the kernel dropped because the daemon's sockets were full.
# TYPE dhcp6_slow_path_socket_drops counter
dhcp6_slow_path_socket_drops_total 6
# HELP dhcp6_slow_path_receive_errors Attempts of the daemon to receive that failed.
# TYPE dhcp6_slow_path_receive_errors counter
dhcp6_slow_path_receive_errors_total 8
# HELP dhcp6_slow_path_messages_queued Messages that wait for the daemon, by class: those of clients with a lease first, \
then Solicits of known clients, then those of strangers.
# TYPE dhcp6_slow_path_messages_queued gauge
dhcp6_slow_path_messages_queued{class=\"clients\"} 9
dhcp6_slow_path_messages_queued{class=\"known\"} 10
dhcp6_slow_path_messages_queued{class=\"strangers\"} 11
# HELP dhcp6_pool_addresses Addresses of each link, by state; those that are used are leased.
# TYPE dhcp6_pool_addresses gauge
dhcp6_pool_addresses{link=\"a\\\"0\",state=\"idle\"} 3.402823669209385e38
dhcp6_pool_addresses{link=\"a\\\"0\",state=\"used\"} 3
dhcp6_pool_addresses{link=\"a\\\"0\",state=\"conflict\"} 0
dhcp6_pool_addresses{link=\"a\\\"0\",state=\"excluded\"} 7
# HELP dhcp6_pool_prefixes Prefixes of each link, by state; those that are used are delegated.
# TYPE dhcp6_pool_prefixes gauge
# HELP dhcp6_store_ok 1 where the last commit to the lease store succeeded; 0 where it failed, and nothing new is promised.
# TYPE dhcp6_store_ok gauge
dhcp6_store_ok 0
# HELP dhcp6_store_commits Commits to the lease store that succeeded.
# TYPE dhcp6_store_commits counter
dhcp6_store_commits_total 5
# HELP dhcp6_store_failed_commits Commits to the lease store that failed.
# TYPE dhcp6_store_failed_commits counter
dhcp6_store_failed_commits_total 1
# HELP dhcp6_fast_path_attached 1 for each interface that the XDP program is attached to, by mode.
# TYPE dhcp6_fast_path_attached gauge
# HELP dhcp6_fast_path_frames Frames that the XDP program saw, by what it did with them and why.
# TYPE dhcp6_fast_path_frames counter
# EOF
";
        assert_eq!(render(snapshot()).unwrap(), expected);
    }

    #[test]
    fn a_fast_path_is_shown_by_interface_and_reason() {
        let mut snapshot = snapshot();
        snapshot.status.fast_path =
            vec![FastPathRow { interface: "eth1".to_owned(), mode: "native".to_owned(), warning: None }];
        snapshot.status.fast_path_maps =
            Some(FastPathStatus { pin_dir: PathBuf::new(), refused_bindings: 9 });
        snapshot.fast_path = vec![InterfaceCounters {
            interface: "eth1".to_owned(),
            frames: vec![(Reason::Answered, 10), (Reason::NotSolicit, 11), (Reason::Internal, 0)],
        }];
        let text = render(snapshot).unwrap();
        let shown: Vec<_> = text.lines().filter(|line| line.starts_with("dhcp6_fast_path")).collect();
        assert_eq!(
            shown,
            [
                "dhcp6_fast_path_attached{interface=\"eth1\",mode=\"native\"} 1",
                "dhcp6_fast_path_frames_total{interface=\"eth1\",verdict=\"answered\",reason=\"answered\"} 10",
                "dhcp6_fast_path_frames_total{interface=\"eth1\",verdict=\"passed\",reason=\"not_solicit\"} 11",
                "dhcp6_fast_path_frames_total{interface=\"eth1\",verdict=\"dropped\",reason=\"internal\"} 0",
                "dhcp6_fast_path_refused_bindings_total 9",
            ]
        );
    }
}
