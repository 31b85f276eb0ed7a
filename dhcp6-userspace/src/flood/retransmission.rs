//! When a client says a thing again (RFC 9915, section 15).

use rand::Rng;

use super::Step;

/// The parameters of a message type's retransmission (RFC 9915, section 7.6).
#[derive(Debug)]
pub(super) struct Parameters {
    /// IRT, in seconds.
    initial: f64,
    /// MRT, in seconds.
    maximum: f64,
    /// MRC, where there is one.
    retransmissions: Option<u32>,
    /// RFC 9915, section 18.2.1: the first wait after a Solicit is longer than IRT, never shorter.
    first_is_longer: bool,
}

/// SOL_TIMEOUT and SOL_MAX_RT.
pub(super) static SOLICIT: Parameters =
    Parameters { initial: 1.0, maximum: 3600.0, retransmissions: None, first_is_longer: true };
/// REQ_TIMEOUT, REQ_MAX_RT and REQ_MAX_RC.
pub(super) static REQUEST: Parameters =
    Parameters { initial: 1.0, maximum: 30.0, retransmissions: Some(10), first_is_longer: false };

/// REN_TIMEOUT and REN_MAX_RT, which are REB_TIMEOUT and REB_MAX_RT, too.
static RENEW: Parameters =
    Parameters { initial: 10.0, maximum: 600.0, retransmissions: None, first_is_longer: false };
/// REL_TIMEOUT and REL_MAX_RC, which are DEC_TIMEOUT and DEC_MAX_RC, too. There is no maximum.
static RELEASE: Parameters =
    Parameters { initial: 1.0, maximum: f64::INFINITY, retransmissions: Some(4), first_is_longer: false };
/// INF_TIMEOUT and INF_MAX_RT.
static INFORMATION_REQUEST: Parameters =
    Parameters { initial: 1.0, maximum: 3600.0, retransmissions: None, first_is_longer: false };

impl Step {
    /// The parameters of its message.
    pub(super) fn parameters(self) -> &'static Parameters {
        match self {
            Self::Renew | Self::Rebind => &RENEW,
            Self::Release | Self::Decline => &RELEASE,
            Self::InformationRequest => &INFORMATION_REQUEST,
        }
    }
}

/// The retransmissions of one message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Retransmission {
    parameters: &'static Parameters,
    /// RT in seconds, zero before the message was sent for the first time.
    timeout: f64,
    /// How often it was sent.
    pub(super) sent: u32,
}

impl Retransmission {
    pub(super) fn new(parameters: &'static Parameters) -> Self {
        Self { parameters, timeout: 0.0, sent: 0 }
    }

    /// Counts a transmission. Returns how long to wait for its answer, in nanoseconds, or `None` where it may not be
    /// sent again and so was not sent this time.
    pub(super) fn transmit(&mut self, rng: &mut impl Rng) -> Option<u64> {
        let Parameters { initial, maximum, retransmissions, first_is_longer } = *self.parameters;
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
        self.timeout = base * (factor + random);
        if self.timeout > maximum {
            self.timeout = maximum * (1.0 + random);
        }
        self.sent += 1;
        #[expect(clippy::cast_sign_loss, reason = "no wait is negative")]
        Some((self.timeout * 1e9) as u64)
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
            let mut solicit = Retransmission::new(&SOLICIT);
            let mut request = Retransmission::new(&REQUEST);
            let seconds = |nanoseconds| std::time::Duration::from_nanos(nanoseconds).as_secs_f64();
            let mut previous: f64 = 0.0;
            for n in 0..20 {
                let wait = seconds(solicit.transmit(&mut rng).unwrap());
                match n {
                    0 => assert!((1.0..=1.1).contains(&wait), "{wait}: longer than SOL_TIMEOUT"),
                    1..=10 => assert!((1.9..=2.1).contains(&(wait / previous)), "{n}: {wait}"),
                    _ => assert!(wait <= 3960.0, "{n}: {wait}"),
                }
                previous = wait;
            }
            let waits: Vec<_> = std::iter::from_fn(|| request.transmit(&mut rng)).map(seconds).collect();
            assert_eq!(waits.len(), 11, "once, and REQ_MAX_RC times again");
            assert!((0.9..=1.1).contains(&waits[0]));
            assert!((27.0..=33.0).contains(&waits[10]), "REQ_MAX_RT: {waits:?}");
        }
    }
}
