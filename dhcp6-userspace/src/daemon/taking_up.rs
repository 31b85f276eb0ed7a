//! From the store to an engine: one thread reads, another takes up.

use std::{
    mem,
    sync::mpsc::{SyncSender, sync_channel},
    thread,
};

use anyhow::{Result, anyhow};
use dhcp6_common::wire::Duid;
use tracing::info;

use crate::{
    config::Config,
    engine::Engine,
    lease::{Contents, Row, Store, StoreError},
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
