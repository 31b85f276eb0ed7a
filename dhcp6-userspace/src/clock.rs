//! The clock: the one place that turns CLOCK_BOOTTIME into UTC and back.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};

use crate::time::Time;

/// UTC as it was when the clock was started, advanced by CLOCK_BOOTTIME since: suspend counts, and a step of the
/// wall clock does not.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// UTC when CLOCK_BOOTTIME was zero.
    boot: Duration,
}

impl Clock {
    /// Compares the two clocks.
    pub fn start() -> Self {
        let utc = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { boot: utc.saturating_sub(since_boot()) }
    }

    /// The time now.
    pub fn now(&self) -> Time {
        self.time_of(u64::try_from(since_boot().as_nanos()).unwrap_or(u64::MAX))
    }

    /// The time at which CLOCK_BOOTTIME shows `nanos`; `u64::MAX` is never.
    pub fn time_of(&self, nanos: u64) -> Time {
        if nanos == u64::MAX {
            return Time::NEVER;
        }
        Time::EPOCH.after(self.boot + Duration::from_nanos(nanos))
    }

    /// What CLOCK_BOOTTIME shows, in nanoseconds, at a time: 0 for one before the machine was started, and
    /// `u64::MAX` for never.
    pub fn boottime_of(&self, time: Time) -> u64 {
        if time == Time::NEVER {
            return u64::MAX;
        }
        let since_boot = Duration::from_millis(time.as_millis()).saturating_sub(self.boot);
        u64::try_from(since_boot.as_nanos()).unwrap_or(u64::MAX)
    }
}

fn since_boot() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}

#[cfg(test)]
mod tests {
    use super::Clock;
    use crate::time::Time;

    #[test]
    fn the_two_clocks_convert_into_each_other() {
        let clock = Clock::start();
        let now = clock.now();
        let there_and_back = clock.time_of(clock.boottime_of(now));
        assert!(now.since(there_and_back).as_millis() <= 1 && there_and_back <= now, "never later");
        assert_eq!(clock.boottime_of(Time::NEVER), u64::MAX);
        assert_eq!(clock.time_of(u64::MAX), Time::NEVER);
        assert_eq!(clock.boottime_of(Time::EPOCH), 0);
    }
}
