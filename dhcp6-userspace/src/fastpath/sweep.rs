//! Reading the bindings many at a time, to see which of them the kernel has granted.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _},
    path::Path,
    ptr,
};

use aya::{maps::MapData, sys::SyscallError};
use dhcp6_common::contract::{BINDINGS, Binding, BindingKey, LONG_BINDINGS, LongBindingKey};
use nix::libc;

use super::maps::{BindingEntry, MapError, entry_key, map_directory};

/// Elements that are read at once: a third of a megabyte at most, in less than a millisecond.
const AT_ONCE: usize = 2048;
/// The command of bpf(2): Linux 5.6, commit cb4d03ab499d.
const BPF_MAP_LOOKUP_BATCH: libc::c_int = 24;

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
            self.long.next_batch(entry_key::<17>)?
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
        decode_key: impl Fn(&[u8]) -> Option<(u32, dhcp6_common::wire::Duid)>,
    ) -> Result<(Vec<BindingEntry>, bool), MapError> {
        let mut keys = vec![0; self.key_len * AT_ONCE];
        let mut values = vec![0; size_of::<Binding>() * AT_ONCE];
        let read = look_up_batch(&self.map, self.cursor, &mut keys, &mut values);
        let (count, cursor) = read.map_err(|io_error| {
            self.cursor = None;
            MapError::access(self.name)(SyscallError { call: "bpf_map_lookup_batch", io_error }.into())
        })?;
        self.cursor = cursor;
        let entries =
            keys.chunks_exact(self.key_len).zip(values.chunks_exact(size_of::<Binding>())).take(count);
        let decode = |(key, value)| {
            let (slot, duid) = decode_key(key)?;
            Some(BindingEntry { slot, duid, binding: bytemuck::pod_read_unaligned(value) })
        };
        Ok((entries.filter_map(decode).collect(), cursor.is_none()))
    }
}

/// What bpf(2) takes for a batch.
#[repr(C)]
struct BatchAttributes {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// Reads up to [`AT_ONCE`] elements of a hash map. Returns how many, and where to go on, `None` at the end.
#[expect(unsafe_code, reason = "aya has no batch operations")]
fn look_up_batch(
    map: &MapData,
    cursor: Option<u32>,
    keys: &mut [u8],
    values: &mut [u8],
) -> io::Result<(usize, Option<u32>)> {
    let mut next = 0_u32;
    let mut attributes = BatchAttributes {
        in_batch: cursor.as_ref().map_or(0, |cursor| ptr::from_ref(cursor) as u64),
        out_batch: &raw mut next as u64,
        keys: keys.as_mut_ptr() as u64,
        values: values.as_mut_ptr() as u64,
        count: AT_ONCE as u32,
        map_fd: map.fd().as_fd().as_raw_fd().cast_unsigned(),
        elem_flags: 0,
        flags: 0,
    };
    // SAFETY: the kernel reads a cursor of four octets, as hash maps have, and writes one; it writes at most
    // `AT_ONCE` keys and values, for which the callers' slices, of keys and values of this map, have room; it writes
    // `count` into the attributes, and keeps none of the pointers.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, BPF_MAP_LOOKUP_BATCH, &raw mut attributes, size_of::<BatchAttributes>())
    };
    let count = attributes.count as usize;
    match result {
        0 => Ok((count, Some(next))),
        _ => match io::Error::last_os_error() {
            // The last batch.
            error if error.kind() == io::ErrorKind::NotFound => Ok((count, None)),
            error => Err(error),
        },
    }
}
