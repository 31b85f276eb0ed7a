//! Messages that wait to be handled, the most important first.
//!
//! In a flood more arrives than can be answered. Whoever has a lease has to keep it, then whoever comes back gets it
//! back, and strangers have what time is left. Within a class messages are handled in the order of their arrival.
//!
//! The order in which one client's messages are handled is that of their arrival with one exception: a Solicit may be
//! overtaken by what is of a higher class. That harms only where a Release or a Decline overtakes a Solicit, which would
//! take a lease for a client that has just given it back. So what such a message overtakes is not handled any more: its
//! client has gone on.

use std::{
    collections::VecDeque,
    hash::BuildHasher as _,
    time::{Duration, Instant},
};

use dhcp6_common::wire::MessageType;
use hashbrown::{DefaultHashBuilder, HashMap, hash_map::Entry};

use crate::engine::Glance;

/// So many messages of a class may wait. Handled at tens of thousands a second, the last of them is not yet repeated by
/// its client, which takes a second.
const MOST: usize = 16_384;
/// So many octets of messages of a class may wait.
const MOST_OCTETS: usize = 8 << 20;
/// While fewer messages of a class wait, all of them are handled, however old: that takes some hundredths of a second.
const BUSY: usize = 1024;

/// How important a message is: the first before the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Of clients that are known to have something, or are about to get it: Request, Confirm, Renew, Rebind, Release,
    /// Decline.
    Clients,
    /// Solicits of clients that are known.
    Known,
    /// All others, whatever they say, and what gives nobody an address: Information-request.
    Strangers,
}

impl Class {
    const COUNT: usize = 3;

    fn of(glance: &Glance<'_>) -> Self {
        match glance.kind {
            MessageType::Solicit if glance.is_known => Self::Known,
            MessageType::InformationRequest => Self::Strangers,
            _ if glance.is_known => Self::Clients,
            _ => Self::Strangers,
        }
    }
}

/// The messages that wait. `T` is what is needed to handle one.
#[derive(Debug)]
pub(super) struct Queue<T> {
    /// By [`Class`].
    classes: [Line<T>; Class::COUNT],
    /// The clients whose Solicits wait, by their hashes.
    soliciting: HashMap<u64, Soliciting>,
    hasher: DefaultHashBuilder,
    /// How many messages have come.
    arrivals: u64,
}

/// The messages of one class, the oldest first.
#[derive(Debug)]
struct Line<T> {
    waiting: VecDeque<Waiting<T>>,
    octets: usize,
}

#[derive(Debug)]
struct Waiting<T> {
    what: T,
    octets: usize,
    number: u64,
    /// The hash of the client whose Solicit it is.
    soliciting: Option<u64>,
    /// When its client repeats it, or gives up.
    stale_at: Instant,
}

#[derive(Clone, Copy, Debug, Default)]
struct Soliciting {
    /// How many Solicits wait.
    count: u32,
    /// Those that came before this one are not handled any more.
    void_before: u64,
}

/// Messages that are not handled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Shed {
    /// Because their clients do not wait for an answer any more.
    pub(super) stale: u64,
    /// Because there are too many.
    pub(super) full: u64,
}

impl<T> Queue<T> {
    pub(super) fn new() -> Self {
        Self {
            classes: [(); Class::COUNT].map(|()| Line { waiting: VecDeque::new(), octets: 0 }),
            soliciting: HashMap::new(),
            hasher: DefaultHashBuilder::default(),
            arrivals: 0,
        }
    }

    /// How many messages of a class wait.
    pub(super) fn len(&self, class: Class) -> usize {
        self.classes[class as usize].waiting.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.classes.iter().all(|line| line.waiting.is_empty())
    }

    /// Takes a message of so many octets in. Returns what is shed for it, or that it is shed itself.
    pub(super) fn push(
        &mut self,
        now: Instant,
        arrived: Instant,
        glance: &Glance<'_>,
        octets: usize,
        what: impl FnOnce() -> T,
    ) -> Shed {
        let mut shed = Shed::default();
        let class = Class::of(glance);
        while self.is_full(class, octets)
            && self.classes[class as usize].waiting.front().is_some_and(|oldest| oldest.stale_at <= now)
        {
            self.pop(class);
            shed.stale += 1;
        }
        if self.is_full(class, octets) {
            shed.full += 1;
            return shed;
        }
        let number = self.arrivals;
        self.arrivals += 1;
        let client = glance.client.map(|client| self.hasher.hash_one(client));
        let soliciting = client.filter(|_| glance.kind == MessageType::Solicit);
        if let Some(client) = soliciting {
            self.soliciting.entry(client).or_default().count += 1;
        }
        if matches!(glance.kind, MessageType::Release | MessageType::Decline)
            && let Some(overtaken) = client.and_then(|client| self.soliciting.get_mut(&client))
        {
            overtaken.void_before = number;
        }
        let stale_at = arrived + patience(glance.kind, glance.elapsed);
        let line = &mut self.classes[class as usize];
        line.octets += octets;
        line.waiting.push_back(Waiting { what: what(), octets, number, soliciting, stale_at });
        shed
    }

    /// The message that is to be handled next, and what is shed before it.
    pub(super) fn next(&mut self, now: Instant) -> (Option<T>, Shed) {
        let mut shed = Shed::default();
        for class in [Class::Clients, Class::Known, Class::Strangers] {
            while let Some((message, is_void)) = self.pop(class) {
                let is_busy = self.len(class) >= BUSY;
                if !is_void && (!is_busy || message.stale_at > now) {
                    return (Some(message.what), shed);
                }
                shed.stale += 1;
            }
        }
        (None, shed)
    }

    /// Changes what waits, and drops that for which `keep` says no. Returns how many were dropped.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&mut T) -> bool) -> usize {
        let mut gone = 0;
        for line in &mut self.classes {
            line.waiting.retain_mut(|message| {
                let is_kept = keep(&mut message.what);
                if !is_kept {
                    gone += 1;
                    line.octets -= message.octets;
                    forget(&mut self.soliciting, message);
                }
                is_kept
            });
        }
        gone
    }

    fn is_full(&self, class: Class, more: usize) -> bool {
        let Line { waiting, octets } = &self.classes[class as usize];
        waiting.len() >= MOST || octets + more > MOST_OCTETS
    }

    /// Takes the oldest message of a class out; says whether its client has given up what it asks for.
    fn pop(&mut self, class: Class) -> Option<(Waiting<T>, bool)> {
        let line = &mut self.classes[class as usize];
        let message = line.waiting.pop_front()?;
        line.octets -= message.octets;
        let is_void = forget(&mut self.soliciting, &message);
        Some((message, is_void))
    }
}

/// Notes that a message does not wait any more; says whether its client has given up what it asks for.
fn forget<T>(soliciting: &mut HashMap<u64, Soliciting>, message: &Waiting<T>) -> bool {
    let Some(client) = message.soliciting else { return false };
    let Entry::Occupied(mut entry) = soliciting.entry(client) else { return false };
    let Soliciting { count, void_before } = entry.get_mut();
    let is_void = message.number < *void_before;
    *count -= 1;
    if *count == 0 {
        entry.remove();
    }
    is_void
}

/// How long a client waits for the answer to a message before it sends it again, or gives up, at most.
///
/// The first time it waits for IRT, then for twice as long each time, up to MRT, each within a tenth (RFC 9915, section
/// 15): as long as it has been trying, and IRT more. The values are those of section 7.6.
fn patience(kind: MessageType, elapsed: Duration) -> Duration {
    const HOUR: u64 = 3600;
    let (initial, most) = match kind {
        MessageType::Renew | MessageType::Rebind => (10, 600),
        MessageType::Request => (1, 30),
        MessageType::Confirm => (1, 4),
        _ => (1, HOUR),
    };
    let wait = elapsed.saturating_add(Duration::from_secs(initial)).min(Duration::from_secs(most));
    wait + wait / 10
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use dhcp6_common::wire::MessageType;

    use super::{BUSY, Class, MOST, MOST_OCTETS, Queue, Shed, patience};
    use crate::engine::Glance;

    const SECOND: Duration = Duration::from_secs(1);

    fn glance(kind: MessageType, client: &[u8]) -> Glance<'_> {
        let is_known = kind != MessageType::Solicit;
        Glance { kind, client: Some(client), elapsed: Duration::ZERO, is_known }
    }

    fn known(client: &[u8]) -> Glance<'_> {
        Glance { is_known: true, ..glance(MessageType::Solicit, client) }
    }

    fn in_order<T>(queue: &mut Queue<T>, now: Instant) -> (Vec<T>, Shed) {
        let mut handled = Vec::new();
        let mut all = Shed::default();
        loop {
            let (message, Shed { stale, full }) = queue.next(now);
            all.stale += stale;
            all.full += full;
            let Some(message) = message else { break };
            handled.push(message);
        }
        assert!(queue.is_empty() && queue.soliciting.is_empty());
        assert!(queue.classes.iter().all(|line| line.octets == 0));
        (handled, all)
    }

    #[test]
    fn who_has_something_comes_first_then_who_is_known() {
        let now = Instant::now();
        let mut queue = Queue::new();
        let messages = [
            (glance(MessageType::Solicit, b"1"), "stranger"),
            (glance(MessageType::InformationRequest, b"2"), "asks for options"),
            (known(b"3"), "comes back"),
            (glance(MessageType::Renew, b"4"), "renews"),
            (glance(MessageType::Release, b"5"), "releases"),
            (known(b"6"), "comes back, too"),
            (glance(MessageType::Request, b"7"), "requests"),
            (glance(MessageType::Confirm, b"7"), "confirms"),
            (glance(MessageType::Rebind, b"7"), "rebinds"),
            (glance(MessageType::Decline, b"7"), "declines"),
        ];
        for (glance, what) in messages {
            assert_eq!(queue.push(now, now, &glance, 100, || what), Shed::default());
        }
        let depth = [Class::Clients, Class::Known, Class::Strangers].map(|class| queue.len(class));
        assert_eq!(depth, [6, 2, 2]);
        let expected = [
            "renews",
            "releases",
            "requests",
            "confirms",
            "rebinds",
            "declines",
            "comes back",
            "comes back, too",
            "stranger",
            "asks for options",
        ];
        assert_eq!(in_order(&mut queue, now), (expected.to_vec(), Shed::default()));
    }

    #[test]
    fn what_a_client_asked_for_before_it_gave_something_back_is_void() {
        for end in [MessageType::Release, MessageType::Decline] {
            let now = Instant::now();
            let mut queue = Queue::new();
            for (glance, what) in [
                (glance(MessageType::Solicit, b"1"), "unknown then"),
                (known(b"1"), "known then"),
                (glance(MessageType::Solicit, b"2"), "another client"),
                (glance(MessageType::InformationRequest, b"1"), "needs no lease"),
                (glance(end, b"1"), "gives back"),
                (known(b"1"), "comes again"),
                (glance(MessageType::Renew, b"1"), "renews"),
            ] {
                queue.push(now, now, &glance, 100, || what);
            }
            let expected =
                ["gives back", "renews", "comes again", "another client", "needs no lease"].to_vec();
            assert_eq!(in_order(&mut queue, now), (expected, Shed { stale: 2, full: 0 }), "{end:?}");
        }
    }

    #[test]
    fn a_full_class_sheds_what_is_stale_then_what_is_new_and_leaves_the_others_alone() {
        let start = Instant::now();
        let mut queue = Queue::new();
        for number in 0..MOST {
            let client = number.to_be_bytes();
            let shed = queue.push(start, start, &glance(MessageType::Solicit, &client), 100, || number);
            assert_eq!(shed, Shed::default());
        }
        let push = |queue: &mut Queue<usize>, now, kind, number: usize| {
            queue.push(now, now, &glance(kind, &number.to_be_bytes()), 100, || number)
        };
        let soon = start + SECOND;
        assert_eq!(push(&mut queue, soon, MessageType::Solicit, MOST), Shed { stale: 0, full: 1 });
        assert_eq!(push(&mut queue, soon, MessageType::Renew, MOST + 1), Shed::default());
        let late = start + 2 * SECOND;
        assert_eq!(push(&mut queue, late, MessageType::Solicit, MOST + 2), Shed { stale: 1, full: 0 });
        let (handled, shed) = in_order(&mut queue, soon);
        assert_eq!(shed, Shed::default(), "none is stale yet");
        assert_eq!((handled[0], handled[1], handled.last()), (MOST + 1, 1, Some(&(MOST + 2))));
        assert_eq!(handled.len(), MOST + 1);
    }

    #[test]
    fn what_waits_can_be_changed_or_dropped() {
        let now = Instant::now();
        let mut queue = Queue::new();
        for number in 0..10 {
            let kind = if number % 4 == 0 { MessageType::Renew } else { MessageType::Solicit };
            queue.push(now, now, &glance(kind, &[number / 2]), 100, || number);
        }
        let gone = queue.retain(|number| {
            *number += 10;
            *number % 2 == 0
        });
        assert_eq!(gone, 5);
        assert_eq!(in_order(&mut queue, now), (vec![10, 14, 18, 12, 16], Shed::default()));
    }

    #[test]
    fn octets_are_bounded_too() {
        let now = Instant::now();
        let mut queue = Queue::new();
        let long = 65_507;
        let fit = MOST_OCTETS / long;
        for number in 0..2 * fit {
            let shed = queue.push(now, now, &glance(MessageType::Renew, b"1"), long, || number);
            assert_eq!(shed, Shed { stale: 0, full: u64::from(number >= fit) });
        }
        assert_eq!(queue.push(now, now, &known(b"2"), long, || 0), Shed::default());
        assert_eq!(in_order(&mut queue, now).0.len(), fit + 1);
    }

    #[test]
    fn what_is_stale_is_shed_only_while_many_wait() {
        let start = Instant::now();
        let mut queue = Queue::new();
        let most = 3 * BUSY;
        for number in 0..most {
            queue.push(start, start, &glance(MessageType::Solicit, &number.to_be_bytes()), 100, || number);
        }
        queue.push(start, start, &glance(MessageType::Renew, b"1"), 100, || most);
        let late = start + 5 * SECOND;
        assert_eq!(queue.next(late), (Some(most), Shed::default()), "a Renew waits for ten seconds");
        let (next, shed) = queue.next(late);
        assert_eq!((next, shed), (Some(most - BUSY), Shed { stale: (most - BUSY) as u64, full: 0 }));
        let patient = Glance { elapsed: 5 * SECOND, ..glance(MessageType::Solicit, b"2") };
        for number in 0..most {
            queue.push(start, start, &patient, 100, || number);
        }
        let (handled, shed) = in_order(&mut queue, late);
        let stale = BUSY - 1;
        assert_eq!((handled.len(), shed), (most, Shed { stale: stale as u64, full: 0 }), "they still wait");
    }

    #[test]
    fn a_client_waits_as_long_as_it_has_waited_and_the_first_time_more() {
        let ms = Duration::from_millis;
        for (kind, elapsed, expected) in [
            (MessageType::Solicit, ms(0), ms(1100)),
            (MessageType::Solicit, ms(1000), ms(2200)),
            (MessageType::Solicit, Duration::MAX, ms(3_960_000)),
            (MessageType::InformationRequest, ms(3000), ms(4400)),
            (MessageType::Request, Duration::MAX, ms(33_000)),
            (MessageType::Confirm, ms(3000), ms(4400)),
            (MessageType::Confirm, Duration::MAX, ms(4400)),
            (MessageType::Renew, ms(0), ms(11_000)),
            (MessageType::Rebind, Duration::MAX, ms(660_000)),
            (MessageType::Release, ms(0), ms(1100)),
            (MessageType::Decline, ms(1000), ms(2200)),
        ] {
            assert_eq!(patience(kind, elapsed), expected, "{kind:?} {elapsed:?}");
        }
    }
}
