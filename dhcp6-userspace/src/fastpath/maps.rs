//! The pinned BPF maps, typed.

use std::{
    borrow::{Borrow, BorrowMut},
    fs, io,
    path::{Path, PathBuf},
};

use aya::maps::{Array, HashMap, IterableMap as _, Map, MapData, MapInfo, PerCpuArray, PerCpuValues};
use bytemuck::{Pod, Zeroable};
use dhcp6_common::{
    Reason,
    contract::{
        BINDINGS, Binding, BindingKey, COUNTERS, Key, LAYOUT_VERSION, LINKS, LONG_BINDINGS, Link,
        LongBindingKey, REPLY_BLOCKS, ReplyBlock, counter_index,
    },
    wire::Duid,
};
use serde::Serialize;

use super::batch::{self, AT_ONCE};

const KEY: usize = size_of::<BindingKey>();
const LONG_KEY: usize = size_of::<LongBindingKey>();
const VALUE: usize = size_of::<Binding>();
const LINK: usize = size_of::<Link>();
const BLOCK: usize = size_of::<ReplyBlock>();

/// Why a map could not be used.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    /// The pin is not there, or may not be opened.
    #[error(
        "cannot open the pinned map {path}: {source}; has dhcp6d been started with this pin_dir, and may you read it?"
    )]
    Open {
        /// The pin.
        path: PathBuf,
        /// What the kernel said.
        source: aya::maps::MapError,
    },
    /// The map is of another layout, and nothing in it may be believed.
    #[error("the pinned map {path} has {what} {found} where this program has {expected}")]
    Layout {
        /// The pin.
        path: PathBuf,
        /// Key size, value size or capacity.
        what: &'static str,
        /// What the map has.
        found: u32,
        /// What this program has.
        expected: u32,
    },
    /// A read or a write failed.
    #[error("cannot access the map {name}: {}", causes(source))]
    Access {
        /// The map.
        name: &'static str,
        /// What the kernel said.
        source: aya::maps::MapError,
    },
    /// The directory of the pins cannot be listed.
    #[error("cannot access {path}: {source}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// An error with all that it came from: aya says what the kernel answered only behind its own words.
fn causes(error: &dyn std::error::Error) -> String {
    let behind = std::iter::successors(error.source(), |error| error.source());
    behind.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

impl MapError {
    pub(super) fn access(name: &'static str) -> impl FnOnce(aya::maps::MapError) -> Self {
        move |source| Self::Access { name, source }
    }
}

/// The directory under `pin_dir` that holds the maps of this layout.
pub fn map_directory(pin_dir: &Path) -> PathBuf {
    pin_dir.join(format!("v{LAYOUT_VERSION}"))
}

/// A map as `dhcp6ctl map list` describes it.
#[derive(Clone, Debug, Serialize)]
pub struct MapDescription {
    /// Name in the program.
    pub name: String,
    /// Kind of map.
    #[serde(rename = "type")]
    pub kind: String,
    /// Octets.
    pub key_size: u32,
    /// Octets.
    pub value_size: u32,
    /// Elements in the map; those in use for a hash map, all for an array.
    pub entries: u64,
    /// The most elements it can hold.
    pub capacity: u32,
    /// Memory that the kernel accounts to the map, in octets.
    pub bytes: u64,
}

/// An element of the bindings maps, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BindingEntry {
    /// Slot of the link.
    pub slot: u32,
    /// The client.
    pub duid: Duid,
    /// What it is granted.
    pub binding: Binding,
}

/// The bindings, in two maps by the length of the DUID.
///
/// The daemon's own are held through `MapData`; `dhcp6ctl` reads through pins.
pub struct Bindings<T> {
    short: HashMap<T, [u8; KEY], [u8; VALUE]>,
    long: HashMap<T, [u8; LONG_KEY], [u8; VALUE]>,
}

impl<T: Borrow<MapData>> Bindings<T> {
    /// One client's element.
    ///
    /// # Errors
    ///
    /// [`MapError::Access`].
    pub fn get(&self, slot: u32, duid: &Duid) -> Result<Option<Binding>, MapError> {
        let (name, found) = match BindingKey::new(slot, duid) {
            Some(key) => (BINDINGS, self.short.get(&octets(&key), 0)),
            None => (LONG_BINDINGS, self.long.get(&octets(&long_key(slot, duid)), 0)),
        };
        match found {
            Ok(value) => Ok(Some(bytemuck::pod_read_unaligned(&value))),
            Err(aya::maps::MapError::KeyNotFound) => Ok(None),
            Err(source) => Err(MapError::Access { name, source }),
        }
    }

    /// Every element, in no order. One that changes meanwhile may be missed.
    ///
    /// # Errors
    ///
    /// [`MapError::Access`], each time an element cannot be read.
    pub fn iter(&self) -> impl Iterator<Item = Result<BindingEntry, MapError>> + '_ {
        let short = self.short.iter().map(|e| decode(e, BINDINGS, |key| entry_key::<3>(&key)));
        let long = self.long.iter().map(|e| decode(e, LONG_BINDINGS, |key| entry_key::<17>(&key)));
        short.chain(long).filter_map(Result::transpose)
    }
}

impl<T: BorrowMut<MapData>> Bindings<T> {
    /// Inserts or replaces many elements, which need no seal yet. Returns how many the maps did not take.
    pub fn fill(&mut self, entries: impl Iterator<Item = BindingEntry>) -> u64 {
        let (mut short, mut long) = (Elements::default(), Elements::default());
        let mut refused = 0;
        for BindingEntry { slot, duid, binding } in entries {
            match BindingKey::new(slot, &duid) {
                Some(key) => refused += short.push(&mut self.short, &key, binding),
                None => refused += long.push(&mut self.long, &long_key(slot, &duid), binding),
            }
        }
        refused + short.flush(&mut self.short) + long.flush(&mut self.long)
    }

    /// Inserts or replaces a client's element. Of the same address the stamps are kept, but for a grant in this
    /// very moment, which may go uncounted.
    ///
    /// # Errors
    ///
    /// [`MapError::Access`], for one where the map is full: the client is answered by the daemon.
    pub fn put(
        &mut self,
        slot: u32,
        duid: &Duid,
        address: [u8; 16],
        iaid: u32,
        serve_until: u64,
    ) -> Result<(), MapError> {
        let stamps = self.get(slot, duid)?.filter(|binding| binding.address == address);
        let stamped = |binding: Binding| {
            let (grants, last_grant) = stamps.map_or((0, 0), |stamps| (stamps.grants, stamps.last_grant));
            octets(&Binding { grants, last_grant, ..binding })
        };
        if let Some(key) = BindingKey::new(slot, duid) {
            let value = stamped(Binding::new(&key, address, iaid, serve_until));
            self.short.insert(octets(&key), value, 0).map_err(MapError::access(BINDINGS))
        } else {
            let key = long_key(slot, duid);
            let value = stamped(Binding::new(&key, address, iaid, serve_until));
            self.long.insert(octets(&key), value, 0).map_err(MapError::access(LONG_BINDINGS))
        }
    }

    /// Removes a client's element; none is fine.
    ///
    /// # Errors
    ///
    /// [`MapError::Access`]. The kernel may then still answer the client.
    pub fn remove(&mut self, slot: u32, duid: &Duid) -> Result<(), MapError> {
        let (name, removed) = match BindingKey::new(slot, duid) {
            Some(key) => (BINDINGS, self.short.remove(&octets(&key))),
            None => (LONG_BINDINGS, self.long.remove(&octets(&long_key(slot, duid)))),
        };
        match removed {
            Ok(()) | Err(aya::maps::MapError::KeyNotFound) => Ok(()),
            // A failed deletion of what is not there says so as a syscall error.
            Err(aya::maps::MapError::SyscallError(error))
                if error.io_error.kind() == io::ErrorKind::NotFound =>
            {
                Ok(())
            }
            Err(source) => Err(MapError::Access { name, source }),
        }
    }
}

/// Elements on their way into a map.
struct Elements<const KEY: usize> {
    keys: Vec<[u8; KEY]>,
    values: Vec<[u8; VALUE]>,
}

impl<const KEY: usize> Default for Elements<KEY> {
    fn default() -> Self {
        Self { keys: Vec::with_capacity(AT_ONCE), values: Vec::with_capacity(AT_ONCE) }
    }
}

impl<const KEY: usize> Elements<KEY> {
    fn push<T: BorrowMut<MapData>, const WORDS: usize>(
        &mut self,
        map: &mut HashMap<T, [u8; KEY], [u8; VALUE]>,
        key: &Key<WORDS>,
        mut binding: Binding,
    ) -> u64 {
        binding.seal = binding.compute_seal(key);
        self.keys.push(octets(key));
        self.values.push(octets(&binding));
        if self.keys.len() < AT_ONCE { 0 } else { self.flush(map) }
    }

    /// Returns how many the map did not take.
    fn flush<T: BorrowMut<MapData>>(&mut self, map: &mut HashMap<T, [u8; KEY], [u8; VALUE]>) -> u64 {
        let taken = batch::update(map.map(), &self.keys, &self.values);
        // Those behind the first that is refused may still be taken: where they are there already.
        let rest = self.keys.drain(..).zip(self.values.drain(..)).skip(taken);
        rest.filter(|(key, value)| map.insert(key, value, 0).is_err()).count() as u64
    }
}

/// The XDP program's counters. Each counts on from where that of an earlier program was.
pub struct Counters<T>(PerCpuArray<T, u64>);

impl<T: Borrow<MapData>> Counters<T> {
    /// The counter of a reason on the interface in a slot, summed over the CPUs.
    ///
    /// # Errors
    ///
    /// [`MapError::Access`].
    pub fn get(&self, slot: u32, reason: Reason) -> Result<u64, MapError> {
        let sum = |index| {
            let values = self.0.get(&index, 0).map_err(MapError::access(COUNTERS))?;
            Ok::<u64, MapError>(values.iter().sum())
        };
        Ok(sum(counter_index(slot, reason))? + sum(self.earlier(slot, reason))?)
    }

    /// The index of what earlier programs have counted.
    fn earlier(&self, slot: u32, reason: Reason) -> u32 {
        let slots = self.0.len() / (2 * Reason::COUNT as u32);
        counter_index(slots + slot, reason)
    }
}

impl<T: BorrowMut<MapData>> Counters<T> {
    /// Counts for a slot what another map has in its slot `from_slot`, instead of what was so counted before.
    ///
    /// # Errors
    ///
    /// [`MapError::Access`].
    pub fn continue_from<U: Borrow<MapData>>(
        &mut self,
        slot: u32,
        from: &Counters<U>,
        from_slot: u32,
    ) -> Result<(), MapError> {
        for &reason in Reason::ALL {
            let index = self.earlier(slot, reason);
            let cpus = self.0.get(&index, 0).map_err(MapError::access(COUNTERS))?.len();
            let mut values = vec![0; cpus];
            values[0] = from.get(from_slot, reason)?;
            let values = PerCpuValues::try_from(values).expect("there were as many CPUs just now");
            self.0.set(index, values, 0).map_err(MapError::access(COUNTERS))?;
        }
        Ok(())
    }
}

/// The links and the blocks of their Replies.
pub struct ReplyBlocks<T> {
    links: Array<T, [u8; LINK]>,
    blocks: Array<T, [u8; BLOCK]>,
}

impl<T: Borrow<MapData>> ReplyBlocks<T> {
    /// How many links there is room for.
    pub fn slots(&self) -> u32 {
        self.links.len()
    }

    /// The link in a slot; `None` where the slot is not in use.
    ///
    /// # Errors
    ///
    /// [`MapError::Access`].
    pub fn link(&self, slot: u32) -> Result<Option<Link>, MapError> {
        let link = self.links.get(&slot, 0).map_err(MapError::access(LINKS))?;
        let link: Link = bytemuck::pod_read_unaligned(&link);
        Ok((link.ifindex != 0).then_some(link))
    }
}

impl<T: BorrowMut<MapData>> ReplyBlocks<T> {
    /// Stores the blocks of a link, then the link.
    ///
    /// # Errors
    ///
    /// [`MapError::Access`].
    pub fn put(&mut self, slot: u32, link: &Link, blocks: &[ReplyBlock]) -> Result<(), MapError> {
        for (requested, block) in (0u8..).zip(blocks) {
            let index = dhcp6_common::contract::reply_block_index(slot, requested);
            self.blocks.set(index, octets(block), 0).map_err(MapError::access(REPLY_BLOCKS))?;
        }
        self.links.set(slot, octets(link), 0).map_err(MapError::access(LINKS))
    }

    /// Makes the program pass everything on the interface in a slot.
    ///
    /// # Errors
    ///
    /// [`MapError::Access`].
    pub fn clear(&mut self, slot: u32) -> Result<(), MapError> {
        self.links.set(slot, octets(&Link::zeroed()), 0).map_err(MapError::access(LINKS))
    }
}

/// All pinned maps, opened by their pins: for programs beside the daemon, and while it is down.
pub struct PinnedMaps {
    /// The bindings.
    pub bindings: Bindings<MapData>,
    /// The links.
    pub links: ReplyBlocks<MapData>,
    /// The counters.
    pub counters: Counters<MapData>,
    directory: PathBuf,
}

impl PinnedMaps {
    /// Opens the maps of this layout under `pin_dir`.
    ///
    /// # Errors
    ///
    /// [`MapError::Open`] where a pin is missing, [`MapError::Layout`] where a map is not what it should be.
    pub fn open(pin_dir: &Path) -> Result<Self, MapError> {
        let directory = map_directory(pin_dir);
        let hash = |name, key, value| open(&directory, name, key, value).map(Map::HashMap);
        let array = |name, value| open(&directory, name, 4, value);
        Ok(Self {
            bindings: Bindings::from_maps(
                hash(BINDINGS, KEY, VALUE)?,
                hash(LONG_BINDINGS, LONG_KEY, VALUE)?,
            )?,
            links: ReplyBlocks::from_maps(
                Map::Array(array(LINKS, LINK)?),
                Map::Array(array(REPLY_BLOCKS, BLOCK)?),
            )?,
            counters: Counters::from_map(Map::PerCpuArray(array(COUNTERS, size_of::<u64>())?))?,
            directory,
        })
    }

    /// Describes every pinned map.
    ///
    /// # Errors
    ///
    /// [`MapError::Open`] and [`MapError::Access`].
    pub fn describe(&self) -> Result<Vec<MapDescription>, MapError> {
        [BINDINGS, LONG_BINDINGS, LINKS, REPLY_BLOCKS, COUNTERS]
            .into_iter()
            .map(|name| {
                let path = self.directory.join(name);
                let open = |source| MapError::Open { path: path.clone(), source };
                let info = MapInfo::from_pin(&path).map_err(open)?;
                let kind = info.map_type().map_err(MapError::access(name))?;
                let entries = match name {
                    BINDINGS => self.bindings.short.keys().count(),
                    LONG_BINDINGS => self.bindings.long.keys().count(),
                    _ => info.max_entries() as usize,
                };
                Ok(MapDescription {
                    name: name.to_owned(),
                    kind: format!("{kind:?}").to_lowercase(),
                    key_size: info.key_size(),
                    value_size: info.value_size(),
                    entries: entries as u64,
                    capacity: info.max_entries(),
                    bytes: accounted_bytes(&info).unwrap_or_default(),
                })
            })
            .collect()
    }
}

/// Memory that the kernel accounts to a map: `memlock` in the map descriptor's fdinfo (Linux 4.10, commit
/// 80b7d81912d6), which knows more than key and value sizes do.
fn accounted_bytes(info: &MapInfo) -> Option<u64> {
    use std::os::fd::{AsFd as _, AsRawFd as _};
    let fd = info.fd().ok()?;
    let path = format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd());
    let fdinfo = fs::read_to_string(path).ok()?;
    fdinfo.lines().find_map(|line| line.strip_prefix("memlock:")?.trim().parse().ok())
}

/// Opens a pin and compares key and value size. aya would take whatever is pinned there.
fn open(directory: &Path, name: &str, key: usize, value: usize) -> Result<MapData, MapError> {
    let path = directory.join(name);
    let map = MapData::from_pin(&path).map_err(|source| MapError::Open { path: path.clone(), source })?;
    let info = map.info().map_err(|source| MapError::Open { path: path.clone(), source })?;
    for (what, found, expected) in
        [("key size", info.key_size(), key as u32), ("value size", info.value_size(), value as u32)]
    {
        if found != expected {
            return Err(MapError::Layout { path, what, found, expected });
        }
    }
    Ok(map)
}

impl<T> Bindings<T> {
    pub(super) fn from_maps<M>(short: M, long: M) -> Result<Self, MapError>
    where
        HashMap<T, [u8; KEY], [u8; VALUE]>: TryFrom<M, Error = aya::maps::MapError>,
        HashMap<T, [u8; LONG_KEY], [u8; VALUE]>: TryFrom<M, Error = aya::maps::MapError>,
    {
        Ok(Self {
            short: HashMap::try_from(short).map_err(MapError::access(BINDINGS))?,
            long: HashMap::try_from(long).map_err(MapError::access(LONG_BINDINGS))?,
        })
    }
}

impl<T> ReplyBlocks<T> {
    pub(super) fn from_maps<M>(links: M, blocks: M) -> Result<Self, MapError>
    where
        Array<T, [u8; LINK]>: TryFrom<M, Error = aya::maps::MapError>,
        Array<T, [u8; BLOCK]>: TryFrom<M, Error = aya::maps::MapError>,
    {
        Ok(Self {
            links: Array::try_from(links).map_err(MapError::access(LINKS))?,
            blocks: Array::try_from(blocks).map_err(MapError::access(REPLY_BLOCKS))?,
        })
    }
}

impl<T> Counters<T> {
    pub(super) fn from_map<M>(counters: M) -> Result<Self, MapError>
    where
        PerCpuArray<T, u64>: TryFrom<M, Error = aya::maps::MapError>,
    {
        Ok(Self(PerCpuArray::try_from(counters).map_err(MapError::access(COUNTERS))?))
    }
}

fn octets<T: Pod, const N: usize>(value: &T) -> [u8; N] {
    bytemuck::cast(*value)
}

fn long_key(slot: u32, duid: &Duid) -> LongBindingKey {
    LongBindingKey::new(slot, duid).expect("the long key has room for every DUID")
}

pub(super) fn entry_key<const WORDS: usize>(key: &[u8]) -> Option<(u32, Duid)> {
    let key: Key<WORDS> = bytemuck::pod_read_unaligned(key);
    Some((key.link(), key.duid()?))
}

type RawEntry<K> = Result<(K, [u8; VALUE]), aya::maps::MapError>;

fn decode<K>(
    entry: RawEntry<K>,
    name: &'static str,
    key: impl FnOnce(K) -> Option<(u32, Duid)>,
) -> Result<Option<BindingEntry>, MapError> {
    let (raw_key, value) = entry.map_err(MapError::access(name))?;
    let binding = bytemuck::pod_read_unaligned(&value);
    Ok(key(raw_key).map(|(slot, duid)| BindingEntry { slot, duid, binding }))
}
