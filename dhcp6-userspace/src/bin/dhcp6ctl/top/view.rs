//! Rates: what two samples say about the time between them.

use std::{collections::BTreeMap, iter, time::Duration};

use dhcp6_userspace::control::{Count, Counts, Status};

use super::sample::{DaemonSample, FastPathSample, Sample};
use crate::maps::FastPathCounters;

/// What is shown.
pub(super) struct View<'a> {
    /// The daemon's part, or why there is none.
    pub(super) daemon: Result<DaemonView<'a>, &'a str>,
    /// The fast path's part.
    pub(super) fast_path: FastPathView<'a>,
}

/// The daemon's part, the busiest and fullest first.
pub(super) struct DaemonView<'a> {
    pub(super) status: &'a Status,
    pub(super) received: Vec<Rate<'a>>,
    pub(super) sent: Vec<Rate<'a>>,
    /// By reason; also what was lost before the daemon saw it.
    pub(super) dropped: Vec<Rate<'a>>,
    pub(super) pools: Vec<PoolView>,
}

/// The fast path's part.
pub(super) enum FastPathView<'a> {
    Off,
    Unreadable(&'a str),
    /// The busiest first.
    Interfaces(Vec<InterfaceView<'a>>),
}

/// One interface with the XDP program.
pub(super) struct InterfaceView<'a> {
    pub(super) name: &'a str,
    /// Only the daemon knows it.
    pub(super) mode: Option<&'a str>,
    pub(super) answered: PerSecond,
    pub(super) passed: PerSecond,
    pub(super) dropped: PerSecond,
    /// Why frames were passed or dropped just now.
    pub(super) reasons: Vec<Rate<'a>>,
}

/// The pools of addresses, or those of prefixes, of one link.
pub(super) struct PoolView {
    pub(super) name: String,
    pub(super) used: u128,
    /// All that are not excluded.
    pub(super) assignable: u128,
    pub(super) conflict: u128,
}

impl PoolView {
    /// The share in use, 0 to 1.
    #[expect(clippy::cast_precision_loss, reason = "a share is shown with two digits")]
    pub(super) fn usage(&self) -> f64 {
        if self.assignable == 0 { 0.0 } else { self.used as f64 / self.assignable as f64 }
    }
}

/// How often something happens in a second; `None` as long as there is nothing to compare with.
pub(super) type PerSecond = Option<f64>;

/// How often something with a name happens. It has happened at least once.
#[derive(Debug, PartialEq)]
pub(super) struct Rate<'a> {
    pub(super) name: &'a str,
    pub(super) per_second: PerSecond,
}

impl<'a> View<'a> {
    /// `before` is the sample before `now`, if there was one.
    pub(super) fn new(before: Option<&Sample>, now: &'a Sample) -> Self {
        let past = before.map(|before| (before, now.at.saturating_duration_since(before.at)));
        let daemon = now.daemon.as_ref().map_err(String::as_str).map(|daemon| {
            let past = past.and_then(|(before, elapsed)| Some((before.daemon.as_ref().ok()?, elapsed)));
            DaemonView::new(past, daemon)
        });
        let fast_path = match &now.fast_path {
            FastPathSample::Off => FastPathView::Off,
            FastPathSample::Unreadable(reason) => FastPathView::Unreadable(reason),
            FastPathSample::Interfaces(interfaces) => {
                let status = now.daemon.as_ref().ok().map(|daemon| &daemon.status);
                let mut rows: Vec<_> = interfaces
                    .iter()
                    .map(|(name, counters)| {
                        let past = past.and_then(|(before, elapsed)| match &before.fast_path {
                            FastPathSample::Interfaces(before) => Some((before.get(name)?, elapsed)),
                            FastPathSample::Off | FastPathSample::Unreadable(_) => None,
                        });
                        InterfaceView::new(name, status, past, counters)
                    })
                    .collect();
                rows.sort_by(|a, b| b.total().total_cmp(&a.total()));
                FastPathView::Interfaces(rows)
            }
        };
        Self { daemon, fast_path }
    }
}

impl<'a> DaemonView<'a> {
    fn new(past: Option<(&DaemonSample, Duration)>, now: &'a DaemonSample) -> Self {
        let DaemonSample { status, pools, counters } = now;
        let past = past.map(|(before, elapsed)| (&before.counters, elapsed));
        let mut dropped = rates(past.map(|(before, elapsed)| (&before.dropped, elapsed)), &counters.dropped);
        for (name, before, now) in [
            ("socket full", past.map(|(before, _)| before.socket_drops), counters.socket_drops),
            ("cannot receive", past.map(|(before, _)| before.receive_errors), counters.receive_errors),
        ] {
            if now > 0 {
                let elapsed = past.map(|(_, elapsed)| elapsed);
                dropped.push(Rate { name, per_second: per_second(before.zip(elapsed), now) });
            }
        }
        sort(&mut dropped);
        let mut pools: Vec<_> = { pools.iter() }
            .flat_map(|row| {
                let addresses = PoolView::new(row.link.clone(), &row.counts);
                let prefixes = (!row.prefix_counts.are_zero())
                    .then(|| PoolView::new(format!("{} prefixes", row.link), &row.prefix_counts));
                iter::once(addresses).chain(prefixes)
            })
            .collect();
        pools.sort_by(|a, b| b.usage().total_cmp(&a.usage()));
        Self {
            status,
            received: rates(past.map(|(before, elapsed)| (&before.received, elapsed)), &counters.received),
            sent: rates(past.map(|(before, elapsed)| (&before.sent, elapsed)), &counters.sent),
            dropped,
            pools,
        }
    }
}

impl PoolView {
    fn new(name: String, counts: &Counts) -> Self {
        let Counts { idle: Count(idle), used: Count(used), conflict: Count(conflict), .. } = *counts;
        let assignable = idle.saturating_add(used).saturating_add(conflict);
        Self { name, used, assignable, conflict }
    }
}

impl<'a> InterfaceView<'a> {
    fn new(
        name: &'a str,
        status: Option<&'a Status>,
        past: Option<(&FastPathCounters, Duration)>,
        now: &'a FastPathCounters,
    ) -> Self {
        let attached =
            status.and_then(|status| status.fast_path.iter().find(|attached| attached.interface == name));
        let passed = rates(past.map(|(before, elapsed)| (&before.passed, elapsed)), &now.passed);
        let dropped = rates(past.map(|(before, elapsed)| (&before.dropped, elapsed)), &now.dropped);
        let sum = |rates: &[Rate<'_>]| past.map(|_| rates.iter().filter_map(|rate| rate.per_second).sum());
        let (passed_sum, dropped_sum) = (sum(&passed), sum(&dropped));
        let mut reasons = passed;
        reasons.extend(dropped);
        reasons.retain(|rate| rate.per_second.is_some_and(|rate| rate > 0.0));
        sort(&mut reasons);
        Self {
            name,
            mode: attached.map(|attached| attached.mode.as_str()),
            answered: per_second(past.map(|(before, elapsed)| (before.answered, elapsed)), now.answered),
            passed: passed_sum,
            dropped: dropped_sum,
            reasons,
        }
    }

    fn total(&self) -> f64 {
        [self.answered, self.passed, self.dropped].into_iter().flatten().sum()
    }
}

/// The rates of all counters that are not 0, the highest first.
fn rates<'a, K: AsRef<str> + Ord>(
    past: Option<(&BTreeMap<K, u64>, Duration)>,
    now: &'a BTreeMap<K, u64>,
) -> Vec<Rate<'a>> {
    let mut rates: Vec<_> = now
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(name, count)| {
            let past = past.map(|(before, elapsed)| (before.get(name).copied().unwrap_or_default(), elapsed));
            Rate { name: name.as_ref(), per_second: per_second(past, *count) }
        })
        .collect();
    sort(&mut rates);
    rates
}

/// A counter that is lower than before has started anew from 0.
#[expect(clippy::cast_precision_loss, reason = "a rate is shown with two digits")]
fn per_second(past: Option<(u64, Duration)>, now: u64) -> PerSecond {
    let (before, elapsed) = past?;
    let happened = now.checked_sub(before).unwrap_or(now);
    (!elapsed.is_zero()).then(|| happened as f64 / elapsed.as_secs_f64())
}

/// The highest first, in the order of the names where they are equal.
fn sort(rates: &mut [Rate<'_>]) {
    rates.sort_by(|a, b| {
        b.per_second.unwrap_or_default().total_cmp(&a.per_second.unwrap_or_default()).then(a.name.cmp(b.name))
    });
}

#[cfg(test)]
pub(super) mod tests {
    use std::{
        collections::BTreeMap,
        path::PathBuf,
        time::{Duration, Instant},
    };

    use dhcp6_userspace::control::{
        Count, Counts, FastPathRow, FastPathStatus, PoolRow, Queued, ReceiveBuffer, SlowPathCounters, Status,
        StoreStatus,
    };

    use super::{
        super::sample::{DaemonSample, FastPathSample, Sample},
        FastPathView, PerSecond, Rate, View,
    };
    use crate::maps::FastPathCounters;

    /// Counters that were at `count` times some factor after `seconds`.
    pub(in super::super) fn sample(start: Instant, seconds: u64, count: u64) -> Sample {
        let counts = |counts: &[(&str, u64)]| -> BTreeMap<String, u64> {
            counts.iter().map(|(name, factor)| ((*name).to_owned(), factor * count)).collect()
        };
        let pool = |link: &str, idle, used, conflict| PoolRow {
            link: link.to_owned(),
            interface: None,
            counts: Counts {
                idle: Count(idle),
                used: Count(used),
                conflict: Count(conflict),
                excluded: Count(1000),
            },
            prefix_counts: Counts::default(),
        };
        Sample {
            at: start + Duration::from_secs(seconds),
            daemon: Ok(DaemonSample {
                status: Status {
                    version: "0.1.0".to_owned(),
                    pid: 7,
                    since: "2026-11-23T15:03:16Z".to_owned(),
                    server_duid: String::new(),
                    links: Vec::new(),
                    fast_path: vec![FastPathRow {
                        interface: "eth1".to_owned(),
                        mode: "native".to_owned(),
                        warning: None,
                    }],
                    fast_path_maps: Some(FastPathStatus { pin_dir: PathBuf::new(), refused_bindings: 0 }),
                    receive_buffer: ReceiveBuffer::default(),
                    store: StoreStatus {
                        kind: "sqlite".to_owned(),
                        path: None,
                        ok: true,
                        last_error: None,
                        commits: 0,
                        failed_commits: 0,
                        commit_takes: None,
                    },
                    last_reload: None,
                },
                pools: vec![pool("access0", 75, 25, 0), pool("access1", 1, 96, 3), pool("empty", 0, 0, 0)],
                counters: SlowPathCounters {
                    received: counts(&[("solicit", 1), ("request", 2), ("renew", 0)]),
                    sent: counts(&[("reply", 3)]),
                    dropped: counts(&[("malformed", 1)]),
                    socket_drops: 10 * count,
                    receive_errors: 0,
                    queued: Queued::default(),
                },
            }),
            fast_path: FastPathSample::Interfaces(BTreeMap::from([
                ("eth0".to_owned(), FastPathCounters::default()),
                (
                    "eth1".to_owned(),
                    FastPathCounters {
                        answered: 100 * count,
                        passed: BTreeMap::from([("not_solicit", 4 * count), ("unknown_client", 6 * count)]),
                        dropped: BTreeMap::from([("internal", 0)]),
                    },
                ),
            ])),
        }
    }

    fn rate(name: &str, per_second: Option<f64>) -> Rate<'_> {
        Rate { name, per_second }
    }

    /// Name, mode, and rates of what was answered, passed and dropped.
    type InterfaceRow<'a> = (&'a str, Option<&'a str>, [PerSecond; 3]);

    fn interfaces<'a>(view: &'a View<'_>) -> Vec<InterfaceRow<'a>> {
        let FastPathView::Interfaces(interfaces) = &view.fast_path else { panic!("there are interfaces") };
        interfaces.iter().map(|i| (i.name, i.mode, [i.answered, i.passed, i.dropped])).collect()
    }

    #[test]
    fn rates_are_the_differences_of_two_samples_the_highest_first() {
        let start = Instant::now();
        let (before, now) = (sample(start, 0, 10), sample(start, 2, 16));
        let view = View::new(Some(&before), &now);
        let daemon = view.daemon.as_ref().ok().unwrap();
        assert_eq!(daemon.received, [rate("request", Some(6.0)), rate("solicit", Some(3.0))]);
        assert_eq!(daemon.sent, [rate("reply", Some(9.0))]);
        assert_eq!(daemon.dropped, [rate("socket full", Some(30.0)), rate("malformed", Some(3.0))]);
        assert_eq!(
            interfaces(&view),
            [
                ("eth1", Some("native"), [Some(300.0), Some(30.0), Some(0.0)]),
                ("eth0", None, [Some(0.0), Some(0.0), Some(0.0)]),
            ]
        );
        let FastPathView::Interfaces(shown) = &view.fast_path else { panic!("there are interfaces") };
        assert_eq!(shown[0].reasons, [rate("unknown_client", Some(18.0)), rate("not_solicit", Some(12.0))]);
    }

    #[test]
    fn one_sample_has_no_rates() {
        let now = sample(Instant::now(), 0, 10);
        let view = View::new(None, &now);
        assert_eq!(view.daemon.as_ref().ok().unwrap().sent, [rate("reply", None)]);
        assert_eq!(interfaces(&view)[1], ("eth1", Some("native"), [None; 3]));
    }

    #[test]
    fn counters_that_start_anew_count_from_zero() {
        let start = Instant::now();
        let (before, now) = (sample(start, 0, 10), sample(start, 1, 2));
        assert_eq!(View::new(Some(&before), &now).daemon.ok().unwrap().sent, [rate("reply", Some(6.0))]);
    }

    #[test]
    fn the_fast_path_is_shown_while_the_daemon_is_down() {
        let start = Instant::now();
        let (before, mut now) = (sample(start, 0, 10), sample(start, 1, 11));
        now.daemon = Err("down".to_owned());
        let view = View::new(Some(&before), &now);
        assert_eq!(view.daemon.as_ref().err(), Some(&"down"));
        assert_eq!(interfaces(&view)[0], ("eth1", None, [Some(100.0), Some(10.0), Some(0.0)]));
        // And there is nothing to compare with when the daemon is back.
        let back = sample(start, 2, 12);
        assert_eq!(View::new(Some(&now), &back).daemon.ok().unwrap().sent, [rate("reply", None)]);
    }

    #[test]
    fn the_fullest_pool_comes_first() {
        let now = sample(Instant::now(), 0, 0);
        let view = View::new(None, &now);
        let pools = &view.daemon.as_ref().ok().unwrap().pools;
        let shown: Vec<_> =
            pools.iter().map(|pool| (pool.name.as_str(), pool.used, pool.assignable)).collect();
        assert_eq!(shown, [("access1", 96, 100), ("access0", 25, 100), ("empty", 0, 0)]);
        assert!((pools[2].usage() - 0.0).abs() < f64::EPSILON);
    }
}
