//! When clients send again: many timers, most of which are forgotten before their time.

/// How exact they are, in nanoseconds: 4 ms.
const TICK: u64 = 1 << 22;
/// Ticks that the wheel has slots for: two seconds. Timers beyond wait for another turn of it.
const SLOTS: usize = 512;

/// A timing wheel. Times are nanoseconds from the start of the run.
#[derive(Debug)]
pub(super) struct Timers {
    slots: Box<[Vec<Timer>]>,
    /// The first tick that has not been looked at.
    next: u64,
    /// Timers in the slots.
    count: usize,
    /// Those whose time has come.
    ready: Vec<Timer>,
}

/// A client's message that is sent again, unless it was answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timer {
    /// Not before the end of the one before this.
    tick: u64,
    pub(super) client: u32,
    /// The message's number.
    pub(super) message: u32,
}

impl Timers {
    pub(super) fn new() -> Self {
        Self { slots: (0..SLOTS).map(|_| Vec::new()).collect(), next: 0, count: 0, ready: Vec::new() }
    }

    /// Sets a timer. It may be late by a tick.
    pub(super) fn push(&mut self, at: u64, client: u32, message: u32) {
        let tick = at.div_ceil(TICK).max(self.next);
        self.slots[slot(tick)].push(Timer { tick, client, message });
        self.count += 1;
    }

    /// A timer whose time has come.
    pub(super) fn pop(&mut self, now: u64) -> Option<Timer> {
        while self.ready.is_empty() && self.next * TICK <= now {
            if self.count == 0 {
                self.next = now / TICK + 1;
                break;
            }
            let (tick, ready) = (self.next, &mut self.ready);
            self.slots[slot(tick)].retain(|timer| {
                let later = timer.tick > tick;
                if !later {
                    ready.push(*timer);
                }
                later
            });
            // The last is taken first.
            ready.reverse();
            self.count -= ready.len();
            self.next += 1;
        }
        self.ready.pop()
    }

    /// When there will be one; `None` where never.
    pub(super) fn next(&self) -> Option<u64> {
        if !self.ready.is_empty() {
            return Some(0);
        }
        if self.count == 0 {
            return None;
        }
        let turn = self.next..self.next + SLOTS as u64;
        let is_due = |tick: &u64| self.slots[slot(*tick)].iter().any(|timer| timer.tick == *tick);
        let tick = turn.into_iter().find(is_due);
        let tick = tick.or_else(|| self.slots.iter().flatten().map(|timer| timer.tick).min())?;
        Some(tick * TICK)
    }
}

fn slot(tick: u64) -> usize {
    tick as usize % SLOTS
}

#[cfg(test)]
mod tests {
    use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

    use super::{TICK, Timers};

    #[test]
    fn timers_are_late_by_a_tick_at_most() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut timers = Timers::new();
        let mut set = Vec::new();
        let mut now = 0;
        for number in 0..20_000 {
            let at = now + if number % 10 == 0 { rng.random_range(0..100_000_000_000) } else { number << 16 };
            timers.push(at, number as u32, 7);
            set.push(Some(at));
            if number % 3 == 0 {
                now = timers.next().unwrap().max(now);
            }
            while let Some(timer) = timers.pop(now) {
                let at = set[timer.client as usize].take().expect("each comes once");
                assert!(at <= now && now - at <= TICK && timer.message == 7, "{at} at {now}");
            }
        }
        while let Some(next) = timers.next() {
            now = next.max(now);
            let timer = timers.pop(now).expect("it was said to be there");
            let at = set[timer.client as usize].take().expect("each comes once");
            assert!(at <= now && now - at <= TICK, "{at} at {now}");
        }
        assert!(set.iter().all(Option::is_none), "none is lost");
    }
}
