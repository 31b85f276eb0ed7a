//! Points in time as the engine and the store hold them.

use std::{fmt, time::Duration};

/// Milliseconds since the Unix epoch, UTC.
///
/// While the daemon runs, this clock advances with CLOCK_BOOTTIME, so a step of the wall clock neither expires
/// nor extends a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(u64);

impl Time {
    /// The Unix epoch.
    pub const EPOCH: Self = Self(0);
    /// Later than any other time: the end of an infinite lifetime.
    pub const NEVER: Self = Self(i64::MAX as u64);

    /// The time `millis` milliseconds after the epoch; [`Time::NEVER`] where that is beyond it.
    pub const fn from_millis(millis: u64) -> Self {
        if millis < Self::NEVER.0 { Self(millis) } else { Self::NEVER }
    }

    /// Milliseconds since the epoch.
    pub fn as_millis(self) -> u64 {
        self.0
    }

    /// `self` later by `duration`; [`Time::NEVER`] stays.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self::from_millis(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }

    /// `self` earlier by a lifetime in seconds: the last time at which the lifetime ends no later than `self`. An
    /// infinite one never does, which the epoch stands for; [`Time::NEVER`] stays.
    #[must_use]
    pub fn before_lifetime(self, seconds: u32) -> Self {
        match self {
            Self::NEVER => self,
            _ if seconds == dhcp6_common::wire::INFINITY => Self::EPOCH,
            Self(millis) => Self(millis.saturating_sub(u64::from(seconds) * 1000)),
        }
    }

    /// `self` later by a lifetime of the protocol in seconds, where 0xffffffff is infinity (RFC 9915,
    /// section 7.7).
    #[must_use]
    pub fn after_lifetime(self, seconds: u32) -> Self {
        if seconds == dhcp6_common::wire::INFINITY {
            Self::NEVER
        } else {
            self.after(Duration::from_secs(seconds.into()))
        }
    }

    /// How long after `earlier` this is; zero where it is not.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// RFC 3339 in UTC with seconds, or `never`.
impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // 9999-12-31T23:59:59Z, the last second that RFC 3339 can write.
        const LAST_WRITABLE: u64 = 253_402_300_799_000;
        if self.0 > LAST_WRITABLE {
            return f.write_str("never");
        }
        let time = std::time::UNIX_EPOCH + Duration::from_millis(self.0);
        humantime::format_rfc3339_seconds(time).fmt(f)
    }
}

impl serde::Serialize for Time {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::Time;

    #[test]
    fn infinite_lifetimes_never_end() {
        let now = Time::from_millis(1_700_000_000_000);
        assert_eq!(now.after_lifetime(u32::MAX), Time::NEVER, "matrix row R-15");
        assert_eq!(now.after_lifetime(u32::MAX - 1).since(now).as_secs(), u64::from(u32::MAX - 1));
        assert_eq!(Time::NEVER.after_lifetime(1), Time::NEVER);
    }

    #[test]
    fn no_end_covers_an_infinite_lifetime() {
        let now = Time::from_millis(1_700_000_000_000);
        // Even one that is farther away than 2^32 seconds.
        let end = now.after_lifetime(u32::MAX - 1).after_lifetime(u32::MAX - 1);
        assert_eq!(end.before_lifetime(u32::MAX), Time::EPOCH);
        assert_eq!(end.before_lifetime(u32::MAX - 1), now.after_lifetime(u32::MAX - 1));
        assert_eq!(Time::NEVER.before_lifetime(u32::MAX), Time::NEVER);
        assert_eq!(Time::from_millis(999).before_lifetime(1), Time::EPOCH);
    }

    #[test]
    fn times_are_written_as_rfc_3339() {
        assert_eq!(Time::from_millis(1_700_000_000_999).to_string(), "2023-11-14T22:13:20Z");
        assert_eq!(Time::NEVER.to_string(), "never");
    }
}
