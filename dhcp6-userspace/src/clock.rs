//! The clock: the one place that turns CLOCK_BOOTTIME into UTC and back.

use std::{
    fmt, fs,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use nix::time::{ClockId, clock_gettime};

use crate::{lease::ClockReading, time::Time};

/// The longest time that a server is believed to have been down.
const LONGEST_PAUSE: Duration = Duration::from_hours(365 * 24);
/// A step of the wall clock that is worth a word.
const NOTABLE_STEP: Duration = Duration::from_mins(1);

/// UTC as it was when the clock was started, advanced by CLOCK_BOOTTIME since: suspend counts, and a step of the
/// wall clock does not. Within one boot of the machine it goes on as it was, whatever the wall clock says.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// UTC when CLOCK_BOOTTIME was zero.
    boot: Duration,
    boot_id: [u8; 16],
}

/// What is strange about the wall clock at start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// It was stepped since the machine was booted. The server goes on by its own clock.
    Stepped(Duration),
    /// It is before what an earlier server has seen, by so much. The server goes on from there.
    Behind(Duration),
    /// It is so far behind what an earlier server has seen that it is hardly right. The server believes it, but not that
    /// the leases of then have ended.
    FarAhead(Duration),
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rounded =
            |duration: &Duration| humantime::format_duration(Duration::from_secs(duration.as_secs()));
        match self {
            Self::Stepped(by) => write!(
                f,
                "the wall clock was stepped by {} since leases were given: they end when they would have without that",
                rounded(by)
            ),
            Self::Behind(by) => write!(
                f,
                "the wall clock is {} before the last lease in the store: is it right? the server goes on from there",
                rounded(by)
            ),
            Self::FarAhead(by) => write!(
                f,
                "the wall clock is {} behind the last lease in the store: is it right? the leases of then last as much \
                 longer",
                rounded(by)
            ),
        }
    }
}

impl Clock {
    /// Compares the two clocks, and goes on from what the store says of the time before.
    pub fn start(before: Option<&ClockReading>) -> (Self, Option<Doubt>) {
        let utc = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::resume(before, utc, since_boot(), boot_id())
    }

    fn resume(
        before: Option<&ClockReading>,
        utc: Duration,
        since_boot: Duration,
        boot_id: [u8; 16],
    ) -> (Self, Option<Doubt>) {
        let at = |time: Time| Duration::from_millis(time.as_millis());
        let by_wall_clock = Self { boot: utc.saturating_sub(since_boot), boot_id };
        let Some(before) = before else { return (by_wall_clock, None) };
        if before.boot_id == boot_id {
            let boot = at(before.booted_at);
            let step = boot.abs_diff(by_wall_clock.boot);
            return (Self { boot, boot_id }, (step >= NOTABLE_STEP).then_some(Doubt::Stepped(step)));
        }
        let seen = at(before.seen);
        let Some(pause) = utc.checked_sub(seen) else {
            let boot = seen.saturating_sub(since_boot);
            return (Self { boot, boot_id }, Some(Doubt::Behind(seen.abs_diff(utc))));
        };
        (by_wall_clock, (pause > LONGEST_PAUSE).then_some(Doubt::FarAhead(pause)))
    }

    /// What the next server has to know to go on from here.
    pub fn reading(&self) -> ClockReading {
        ClockReading { boot_id: self.boot_id, booted_at: Time::EPOCH.after(self.boot), seen: self.now() }
    }

    /// The time now.
    pub fn now(&self) -> Time {
        self.time_of(u64::try_from(since_boot().as_nanos()).unwrap_or(u64::MAX))
    }

    /// What CLOCK_BOOTTIME showed, in nanoseconds, so long ago.
    pub fn boottime_ago(&self, ago: Duration) -> u64 {
        u64::try_from(since_boot().saturating_sub(ago).as_nanos()).unwrap_or(u64::MAX)
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

/// Tells one boot of the machine from another; zeros where the kernel does not.
fn boot_id() -> [u8; 16] {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    u128::from_str_radix(&digits, 16).unwrap_or_default().to_be_bytes()
}

fn since_boot() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Clock, Doubt};
    use crate::{lease::ClockReading, time::Time};

    #[test]
    fn the_two_clocks_convert_into_each_other() {
        let (clock, _) = Clock::start(None);
        let now = clock.now();
        let there_and_back = clock.time_of(clock.boottime_of(now));
        assert!(now.since(there_and_back).as_millis() <= 1 && there_and_back <= now, "never later");
        assert_eq!(clock.boottime_of(Time::NEVER), u64::MAX);
        assert_eq!(clock.time_of(u64::MAX), Time::NEVER);
        assert_eq!(clock.boottime_of(Time::EPOCH), 0);
    }

    fn day(number: u64) -> Time {
        Time::from_millis(number * 86_400_000)
    }

    const DAY: Duration = Duration::from_hours(24);
    /// A machine that was booted 100 days after the epoch, and a server that wrote a lease 10 days later.
    const BEFORE: ClockReading = ClockReading {
        boot_id: [7; 16],
        booted_at: Time::from_millis(100 * 86_400_000),
        seen: Time::from_millis(110 * 86_400_000),
    };

    #[test]
    fn a_step_of_the_wall_clock_changes_nothing_within_a_boot() {
        for (wall_clock, doubt) in [
            (111, None),
            (112, Some(Doubt::Stepped(DAY))),
            (110, Some(Doubt::Stepped(DAY))),
            (9111, Some(Doubt::Stepped(9000 * DAY))),
            (0, Some(Doubt::Stepped(100 * DAY))),
        ] {
            let (clock, said) = Clock::resume(Some(&BEFORE), wall_clock * DAY, 11 * DAY, [7; 16]);
            assert_eq!(clock.time_of((11 * DAY).as_nanos() as u64), day(111), "{wall_clock}");
            assert_eq!(said, doubt, "{wall_clock}");
        }
    }

    #[test]
    fn after_a_boot_time_does_not_go_back() {
        for (wall_clock, now, doubt) in [
            (111, 111, None),
            (110, 110, None),
            (5, 110, Some(Doubt::Behind(105 * DAY))),
            (0, 110, Some(Doubt::Behind(110 * DAY))),
            (475, 475, None),
            (476, 476, Some(Doubt::FarAhead(366 * DAY))),
        ] {
            let (clock, said) = Clock::resume(Some(&BEFORE), wall_clock * DAY, DAY / 2, [8; 16]);
            assert_eq!(clock.time_of((DAY / 2).as_nanos() as u64), day(now), "{wall_clock}");
            assert_eq!(said, doubt, "{wall_clock}");
        }
        let (clock, said) = Clock::resume(None, 5 * DAY, DAY, [8; 16]);
        assert_eq!((clock.time_of(0), said), (day(4), None), "the first server of all");
    }

    #[test]
    fn the_next_server_goes_on_from_the_reading() {
        let (first, _) = Clock::start(None);
        let (second, doubt) = Clock::start(Some(&first.reading()));
        assert_eq!(doubt, None);
        assert!(second.time_of(1 << 60).since(first.time_of(1 << 60)).as_millis() <= 1);
    }
}
