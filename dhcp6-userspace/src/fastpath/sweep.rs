//! Reading the bindings many at a time, to see which of them the kernel has granted.

use std::path::Path;

use aya::maps::MapData;
use dhcp6_common::contract::{BINDINGS, Binding, BindingKey, LONG_BINDINGS, LongBindingKey};

use super::{
    batch::{self, AT_ONCE},
    maps::{BindingEntry, MapError, entry_key, map_directory},
};
use crate::engine::Owner;

/// Goes round through all bindings, some at a time. One that is removed or inserted meanwhile may be missed.
pub struct Sweep {
    short: Batches,
    long: Batches,
    in_long: bool,
}

/// The elements of one hash map.
struct Batches {
    map: MapData,
    name: &'static str,
    key_len: usize,
    /// Where the kernel goes on; `None` to begin.
    cursor: Option<u32>,
}

impl Sweep {
    /// Opens the pinned maps under `pin_dir`.
    ///
    /// # Errors
    ///
    /// [`MapError::Open`].
    pub fn open(pin_dir: &Path) -> Result<Self, MapError> {
        let directory = map_directory(pin_dir);
        let batches = |name, key_len| {
            let path = directory.join(name);
            let map = MapData::from_pin(&path).map_err(|source| MapError::Open { path, source })?;
            Ok(Batches { map, name, key_len, cursor: None })
        };
        Ok(Self {
            short: batches(BINDINGS, size_of::<BindingKey>())?,
            long: batches(LONG_BINDINGS, size_of::<LongBindingKey>())?,
            in_long: false,
        })
    }

    /// The next bindings; `true` with the last of a round, after which the next one begins.
    ///
    /// # Errors
    ///
    /// [`MapError::Access`].
    pub fn next_batch(&mut self) -> Result<(Vec<BindingEntry>, bool), MapError> {
        let (entries, is_last) = if self.in_long {
            self.long.next_batch(entry_key::<18>)?
        } else {
            self.short.next_batch(entry_key::<3>)?
        };
        let was_in_long = self.in_long;
        self.in_long ^= is_last;
        Ok((entries, is_last && was_in_long))
    }
}

impl Batches {
    fn next_batch(
        &mut self,
        decode_key: impl Fn(&[u8]) -> Option<Owner>,
    ) -> Result<(Vec<BindingEntry>, bool), MapError> {
        let mut keys = vec![0; self.key_len * AT_ONCE];
        let mut values = vec![0; size_of::<Binding>() * AT_ONCE];
        let cursor = self.cursor.take();
        let (count, cursor) = batch::look_up(&self.map, self.name, cursor, &mut keys, &mut values)?;
        self.cursor = cursor;
        let entries =
            keys.chunks_exact(self.key_len).zip(values.chunks_exact(size_of::<Binding>())).take(count);
        let decode = |(key, value)| {
            Some(BindingEntry { owner: decode_key(key)?, binding: bytemuck::pod_read_unaligned(value) })
        };
        Ok((entries.filter_map(decode).collect(), cursor.is_none()))
    }
}
