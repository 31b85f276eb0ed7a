//! The threads of a process, and the time that they had.

use std::{collections::BTreeMap, fs, time::Duration};

use anyhow::{Context as _, Result};

/// Time of a thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Times {
    /// On a processor.
    pub(super) running: Duration,
    /// Ready to run, without a processor.
    pub(super) waiting: Duration,
}

/// The threads of a process by their identifiers, each with its name.
#[derive(Clone, Debug, Default)]
pub(super) struct Threads(BTreeMap<u32, (String, Times)>);

impl Threads {
    /// Those that a process has now, and the time that they had so far.
    ///
    /// # Errors
    ///
    /// Where there is no such process.
    pub(super) fn of(pid: u32) -> Result<Self> {
        let mut threads = BTreeMap::new();
        for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
            let directory = entry?.path();
            let id =
                directory.file_name().and_then(|name| name.to_str()?.parse().ok()).context("a thread")?;
            let read = |name: &str| fs::read_to_string(directory.join(name));
            // A thread that has ended meanwhile.
            let (Ok(name), Ok(times)) = (read("comm"), read("schedstat")) else { continue };
            threads.insert(id, (name.trim().to_owned(), times_of(&times).context("schedstat")?));
        }
        Ok(Self(threads))
    }

    /// The time that they had since then.
    pub(super) fn since(&self, before: &Self) -> Self {
        let since = |(id, (name, now)): (&u32, &(String, Times))| {
            let then = before.0.get(id).map_or_else(Times::default, |(_, times)| *times);
            let running = now.running.saturating_sub(then.running);
            (*id, (name.clone(), Times { running, waiting: now.waiting.saturating_sub(then.waiting) }))
        };
        Self(self.0.iter().map(since).collect())
    }

    /// The time that all of them ran.
    pub(super) fn running(&self) -> Duration {
        self.0.values().map(|(_, times)| times.running).sum()
    }

    /// The times by name, those of threads with the same name together; without those that hardly ran.
    pub(super) fn by_name(&self) -> BTreeMap<&str, Times> {
        let mut named: BTreeMap<&str, Times> = BTreeMap::new();
        for (name, times) in self.0.values() {
            let sum = named.entry(name).or_default();
            sum.running += times.running;
            sum.waiting += times.waiting;
        }
        let all = self.running();
        named.retain(|_, times| times.running * 100 >= all);
        named
    }
}

/// The first two numbers of schedstat: nanoseconds.
fn times_of(schedstat: &str) -> Option<Times> {
    let mut numbers =
        schedstat.split_whitespace().map(|number| number.parse().ok().map(Duration::from_nanos));
    Some(Times { running: numbers.next()??, waiting: numbers.next()?? })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Threads, Times, times_of};

    #[test]
    fn threads_of_a_name_count_together_and_idle_ones_not_at_all() {
        let threads = |entries: [(u32, &str, u64, u64); 4]| {
            let times = |running, waiting| Times {
                running: Duration::from_nanos(running),
                waiting: Duration::from_nanos(waiting),
            };
            let thread = |(id, name, running, waiting): (u32, &str, u64, u64)| {
                (id, (name.to_owned(), times(running, waiting)))
            };
            Threads(entries.into_iter().map(thread).collect())
        };
        let before =
            threads([(1, "main", 100, 10), (2, "worker", 5, 0), (3, "worker", 5, 0), (4, "idle", 9, 0)]);
        let after =
            threads([(1, "main", 300, 30), (2, "worker", 55, 1), (3, "worker", 65, 2), (4, "idle", 10, 0)]);
        let since = after.since(&before);
        assert_eq!(since.running(), Duration::from_nanos(311));
        let named: Vec<_> =
            since.by_name().into_iter().map(|(name, times)| (name, times.running.as_nanos())).collect();
        assert_eq!(named, [("main", 200), ("worker", 110)]);
    }

    #[test]
    fn schedstat_has_nanoseconds() {
        let times = times_of("1694766721 518325293 10254\n").unwrap();
        assert_eq!(times.running, Duration::from_nanos(1_694_766_721));
        assert_eq!(times.waiting, Duration::from_nanos(518_325_293));
        assert_eq!(times_of("7"), None);
    }
}
