//! Many elements of a hash map with one call of the kernel.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _},
    ptr,
};

use aya::{maps::MapData, sys::SyscallError};
use nix::libc;

use super::maps::MapError;

/// Elements that are read or written at once: a third of a megabyte at most, in less than a millisecond.
pub(super) const AT_ONCE: usize = 2048;
/// The commands of bpf(2): Linux 5.6, commits cb4d03ab499d and aa2e93b8e58e.
const BPF_MAP_LOOKUP_BATCH: libc::c_int = 24;
const BPF_MAP_UPDATE_BATCH: libc::c_int = 26;

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

/// Reads up to [`AT_ONCE`] elements of a hash map into `keys` and `values`, which have room for so many. Returns how
/// many, and where to go on, `None` at the end.
///
/// # Errors
///
/// [`MapError::Access`].
#[expect(unsafe_code, reason = "aya has no batch operations")]
pub(super) fn look_up(
    map: &MapData,
    name: &'static str,
    cursor: Option<u32>,
    keys: &mut [u8],
    values: &mut [u8],
) -> Result<(usize, Option<u32>), MapError> {
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
            io_error => {
                Err(MapError::access(name)(SyscallError { call: "bpf_map_lookup_batch", io_error }.into()))
            }
        },
    }
}

/// Inserts or replaces elements of a hash map. Returns how many; behind them is the first that it does not take.
#[expect(unsafe_code, reason = "aya has no batch operations")]
pub(super) fn update<K: bytemuck::Pod, V: bytemuck::Pod>(map: &MapData, keys: &[K], values: &[V]) -> usize {
    assert_eq!(keys.len(), values.len());
    let mut attributes = BatchAttributes {
        in_batch: 0,
        out_batch: 0,
        keys: keys.as_ptr() as u64,
        values: values.as_ptr() as u64,
        count: keys.len() as u32,
        map_fd: map.fd().as_fd().as_raw_fd().cast_unsigned(),
        elem_flags: 0,
        flags: 0,
    };
    // SAFETY: the kernel reads as many keys and values as the slices have, of the sizes of this map's, which the caller
    // chooses; it writes `count` into the attributes, and keeps none of the pointers.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, BPF_MAP_UPDATE_BATCH, &raw mut attributes, size_of::<BatchAttributes>())
    };
    if result == 0 { keys.len() } else { taken_before_failure(attributes.count as usize, keys.len()) }
}

/// How many elements were taken, where not all were. A call that fails before it looks at the first one leaves the count
/// as it was: where the map may not be written to or there is no memory, depending on the kernel's version.
fn taken_before_failure(count: usize, wanted: usize) -> usize {
    if count < wanted { count } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::taken_before_failure;

    #[test]
    fn a_failure_that_leaves_the_count_alone_has_taken_nothing() {
        for (count, taken) in [(5, 0), (0, 0), (4, 4)] {
            assert_eq!(taken_before_failure(count, 5), taken, "{count}");
        }
    }
}
