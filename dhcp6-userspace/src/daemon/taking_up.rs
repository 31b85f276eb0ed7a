//! From the store to an engine: one thread reads, another takes up.

use std::{
    mem,
    sync::mpsc::{SyncSender, sync_channel},
    thread,
    time::Duration,
};

use anyhow::{Result, anyhow};
use dhcp6_common::wire::Duid;
use tracing::info;

use crate::{
    config::Config,
    engine::Engine,
    lease::{Change, ClockReading, Conflict, Contents, Lease, LeaseState, Row, Store, StoreError},
    time::Time,
};

/// Rows that go from one thread to the other at a time.
const AT_ONCE: usize = 512;

/// An engine with all that the store holds.
///
/// # Errors
///
/// Where something stored cannot be read.
pub(super) fn take_up(config: &Config, duid: Duid, store: &mut dyn Store, now: Time) -> Result<Engine> {
    let (sender, chunks) = sync_channel::<Vec<Row>>(8);
    let mut engine = Engine::new(config, duid, Contents::default(), now, rand::random());
    engine.expect(store.expected_rows());
    let (mut leases, mut conflicts) = (0_u64, 0_u64);
    let reader = thread::scope(|scope| {
        let reader = scope.spawn(move || read(store, &sender));
        for row in chunks.into_iter().flatten() {
            match row {
                Row::Lease(_) => leases += 1,
                Row::Conflict(_) => conflicts += 1,
            }
            engine.take_up(row, now);
        }
        reader.join()
    });
    reader.map_err(|_| anyhow!("the lease store cannot be read: its reader panicked"))??;
    info!("{leases} leases and {conflicts} conflicts in the store");
    Ok(engine)
}

fn read(store: &mut dyn Store, sender: &SyncSender<Vec<Row>>) -> Result<(), StoreError> {
    let mut rows = Vec::with_capacity(AT_ONCE);
    // The other thread takes all there is, unless it panics.
    let send = |rows: &mut Vec<Row>| {
        sender.send(mem::replace(rows, Vec::with_capacity(AT_ONCE))).ok();
    };
    store.read(&mut |row| {
        rows.push(row);
        if rows.len() == AT_ONCE {
            send(&mut rows);
        }
    })?;
    send(&mut rows);
    Ok(())
}

/// Has what had not ended when the clock was `seen` last end later by `pause`, by which the clock has jumped since: it may
/// be wrong, and somebody still use it. Where the clock is right, resources stay with clients that are gone for as long
/// as they were promised. All in one commit with the clock's `reading`, so that it happens once.
///
/// # Errors
///
/// Where the store cannot be read or written.
pub(super) fn hold_on(
    store: &mut dyn Store,
    seen: Time,
    pause: Duration,
    reading: ClockReading,
) -> Result<(), StoreError> {
    let later = |time: Time| if time > seen { time.after(pause) } else { time };
    let mut changes = Vec::new();
    store.read(&mut |row| match row {
        Row::Lease(lease) if lease.state == LeaseState::Bound && lease.expires_at > seen => {
            let Lease { preferred_until, valid_until, expires_at, .. } = lease;
            changes.push(Change::PutLease(Lease {
                preferred_until: later(preferred_until),
                valid_until: later(valid_until),
                expires_at: later(expires_at),
                ..lease
            }));
        }
        Row::Conflict(conflict) if conflict.until > seen => {
            changes.push(Change::PutConflict(Conflict { until: later(conflict.until), ..conflict }));
        }
        Row::Lease(_) | Row::Conflict(_) => {}
    })?;
    changes.push(Change::PutClock(reading));
    store.commit(&changes)
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv6Addr, time::Duration};

    use dhcp6_common::{Origin, wire::Duid};

    use super::hold_on;
    use crate::{
        lease::{
            Change, ClockReading, Conflict, ConflictCause, Contents, Lease, LeaseState, MemoryStore,
            Store as _,
        },
        pool::Resource,
        time::Time,
    };

    const SEEN: u64 = 1_700_000_000;

    fn second(second: u64) -> Time {
        Time::from_millis(second * 1000)
    }

    fn address(last: u16) -> Resource {
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last).into()
    }

    /// With these ends, in seconds.
    fn lease(last: u16, state: LeaseState, [preferred, valid, expires]: [u64; 3]) -> Lease {
        Lease {
            resource: address(last),
            link: "access0".into(),
            origin: Origin::ANY,
            duid: Duid::new(&last.to_be_bytes()).unwrap(),
            iaid: 1,
            state,
            preferred_until: second(preferred),
            valid_until: second(valid),
            expires_at: second(expires),
        }
    }

    fn conflict(last: u16, until: u64) -> Conflict {
        let cause = ConflictCause::Declined;
        let duid = Duid::new(&[1]).unwrap();
        Conflict { resource: address(last), link: "access0".into(), duid, cause, until: second(until) }
    }

    #[test]
    fn what_had_not_ended_lasts_as_much_longer_as_the_clock_has_jumped() {
        use LeaseState::{Bound, Remembered};
        let mut store = MemoryStore::new();
        let never = Lease { expires_at: Time::NEVER, ..lease(5, Bound, [SEEN, SEEN + 1, 0]) };
        let before = [
            lease(1, Bound, [SEEN - 5, SEEN + 10, SEEN + 20]),
            lease(2, Bound, [SEEN - 5, SEEN - 1, SEEN]),
            lease(3, Remembered, [SEEN + 1, SEEN + 1, SEEN + 1]),
            lease(4, Bound, [SEEN + 1, SEEN + 2, SEEN + 3]),
            never.clone(),
        ];
        let put = before.iter().cloned().map(Change::PutLease);
        let conflicts = [conflict(6, SEEN), conflict(7, SEEN + 9)].map(Change::PutConflict);
        store.commit(&put.chain(conflicts).collect::<Vec<_>>()).unwrap();
        let reading = ClockReading { boot_id: [7; 16], booted_at: Time::EPOCH, seen: second(SEEN + 1000) };
        hold_on(&mut store, second(SEEN), Duration::from_secs(1000), reading).unwrap();
        let leases = vec![
            lease(1, Bound, [SEEN - 5, SEEN + 1010, SEEN + 1020]),
            before[1].clone(),
            before[2].clone(),
            lease(4, Bound, [SEEN + 1001, SEEN + 1002, SEEN + 1003]),
            Lease { valid_until: second(SEEN + 1001), ..never },
        ];
        let conflicts = vec![conflict(6, SEEN), conflict(7, SEEN + 1009)];
        assert_eq!(store.load().unwrap(), Contents { leases, conflicts });
        assert_eq!(store.clock().unwrap(), Some(reading));
    }
}
