//! When a client says a thing again (RFC 9915, section 15).

use std::time::Duration;

use rand::Rng;

use super::Step;

/// The parameters of a message type's retransmission (RFC 9915, section 7.6).
#[derive(Clone, Copy, Debug)]
pub(super) struct Timers {
    /// IRT
    initial: Duration,
    /// MRT
    maximum: Duration,
    /// MRC, where there is one.
    retransmissions: Option<u32>,
    /// RFC 9915, section 18.2.1: the first wait after a Solicit is longer than IRT, never shorter.
    first_is_longer: bool,
}

/// SOL_TIMEOUT and SOL_MAX_RT.
pub(super) const SOLICIT: Timers = Timers {
    initial: Duration::from_secs(1),
    maximum: Duration::from_hours(1),
    retransmissions: None,
    first_is_longer: true,
};
/// REQ_TIMEOUT, REQ_MAX_RT and REQ_MAX_RC.
pub(super) const REQUEST: Timers = Timers {
    initial: Duration::from_secs(1),
    maximum: Duration::from_secs(30),
    retransmissions: Some(10),
    first_is_longer: false,
};

/// REN_TIMEOUT and REN_MAX_RT, which are REB_TIMEOUT and REB_MAX_RT, too.
const RENEW: Timers = Timers {
    initial: Duration::from_secs(10),
    maximum: Duration::from_mins(10),
    retransmissions: None,
    first_is_longer: false,
};
/// REL_TIMEOUT and REL_MAX_RC, which are DEC_TIMEOUT and DEC_MAX_RC, too. There is no maximum.
const RELEASE: Timers = Timers {
    initial: Duration::from_secs(1),
    maximum: Duration::MAX,
    retransmissions: Some(4),
    first_is_longer: false,
};
/// INF_TIMEOUT and INF_MAX_RT.
const INFORMATION_REQUEST: Timers = Timers {
    initial: Duration::from_secs(1),
    maximum: Duration::from_hours(1),
    retransmissions: None,
    first_is_longer: false,
};

impl Step {
    /// The parameters of its message.
    pub(super) fn timers(self) -> Timers {
        match self {
            Self::Renew | Self::Rebind => RENEW,
            Self::Release | Self::Decline => RELEASE,
            Self::InformationRequest => INFORMATION_REQUEST,
        }
    }
}

/// The retransmissions of one message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Retransmission {
    timers: Timers,
    /// RT, zero before the message was sent for the first time.
    timeout: Duration,
    /// How often it was sent.
    pub(super) sent: u32,
}

impl Retransmission {
    pub(super) fn new(timers: Timers) -> Self {
        Self { timers, timeout: Duration::ZERO, sent: 0 }
    }

    /// Counts a transmission. Returns how long to wait for its answer, or `None` where it may not be sent again
    /// and so was not sent this time.
    pub(super) fn transmit(&mut self, rng: &mut impl Rng) -> Option<Duration> {
        let Timers { initial, maximum, retransmissions, first_is_longer } = self.timers;
        if retransmissions.is_some_and(|limit| self.sent > limit) {
            return None;
        }
        // RAND, and the base that it is a part of, in the formulas of section 15.
        let (base, factor) = if self.sent == 0 { (initial, 1.0) } else { (self.timeout, 2.0) };
        let random: f64 = if self.sent == 0 && first_is_longer {
            rng.random_range(f64::EPSILON..=0.1)
        } else {
            rng.random_range(-0.1..=0.1)
        };
        self.timeout = base.mul_f64(factor + random);
        if self.timeout > maximum {
            self.timeout = maximum.mul_f64(1.0 + random);
        }
        self.sent += 1;
        Some(self.timeout)
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng as _, rngs::StdRng};

    use super::{REQUEST, Retransmission, SOLICIT};

    #[test]
    fn waits_double_up_to_the_maximum() {
        for seed in 0..100 {
            let mut rng = StdRng::seed_from_u64(seed);
            let mut solicit = Retransmission::new(SOLICIT);
            let mut request = Retransmission::new(REQUEST);
            let mut previous: f64 = 0.0;
            for n in 0..20 {
                let wait = solicit.transmit(&mut rng).unwrap().as_secs_f64();
                match n {
                    0 => assert!((1.0..=1.1).contains(&wait), "{wait}: longer than SOL_TIMEOUT"),
                    1..=10 => assert!((1.9..=2.1).contains(&(wait / previous)), "{n}: {wait}"),
                    _ => assert!(wait <= 3960.0, "{n}: {wait}"),
                }
                previous = wait;
            }
            let waits: Vec<_> = std::iter::from_fn(|| request.transmit(&mut rng)).collect();
            assert_eq!(waits.len(), 11, "once, and REQ_MAX_RC times again");
            assert!((0.9..=1.1).contains(&waits[0].as_secs_f64()));
            assert!((27.0..=33.0).contains(&waits[10].as_secs_f64()), "REQ_MAX_RT: {waits:?}");
        }
    }
}
