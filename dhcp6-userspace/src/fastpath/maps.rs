//! The pinned BPF maps, typed.

use std::{
    borrow::{Borrow, BorrowMut},
    fs, io,
    net::Ipv6Addr,
    path::{Path, PathBuf},
};

use aya::maps::{Array, HashMap, IterableMap as _, Map, MapData, MapInfo, PerCpuArray, PerCpuValues};
use bytemuck::{Pod, Zeroable};
use dhcp6_common::{
    Reason,
    contract::{
        BINDINGS, Binding, BindingKey, COUNTERS, GRANTED_ADDRESS, GRANTED_PREFIX, INNER_VLANS, INTERFACES,
        Interface, Key, LAYOUT_VERSION, LINK_IN_USE, LINKS, LONG_BINDINGS, Link, LongBindingKey,
        REPLY_BLOCKS, ReplyBlock, Stamp, VlanTable, counter_index,
    },
};
use serde::Serialize;

use super::{
    batch::{self, AT_ONCE},
    render::Rendering,
};
use crate::{
    engine::{KernelBinding, Owner},
    pool::{IaKind, Prefix, Resource},
};

const KEY: usize = size_of::<BindingKey>();
const LONG_KEY: usize = size_of::<LongBindingKey>();
const VALUE: usize = size_of::<Binding>();
const INTERFACE: usize = size_of::<Interface>();
const VLANS: usize = size_of::<VlanTable>();
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
    /// The client.
    pub owner: Owner,
    /// What it is granted.
    pub binding: Binding,
}

impl BindingEntry {
    /// The element for what the engine lets the kernel serve until `serve_until`, CLOCK_BOOTTIME in nanoseconds; not
    /// sealed yet.
    pub fn new(binding: &KernelBinding, serve_until: u64, stamp: Stamp) -> Self {
        let KernelBinding { owner, address, prefix, serve_until: _ } = *binding;
        let mut binding =
            Binding { serve_until: Binding::serve_until_from(serve_until), stamp, ..Binding::zeroed() };
        if let Some((iaid, address)) = address {
            binding.address_iaid = iaid.to_be_bytes();
            binding.address = address.octets();
        }
        if let Some((iaid, prefix)) = prefix {
            binding.prefix_iaid = iaid.to_be_bytes();
            binding.prefix = *prefix.first().octets().first_chunk().expect("16 octets begin with 8");
            binding.seal_and_length = prefix.length().into();
        }
        Self { owner, binding }
    }

    /// The IA_NA: its IAID and address.
    pub fn address(&self) -> Option<(u32, Ipv6Addr)> {
        let Binding { address, address_iaid, .. } = self.binding;
        self.binding.has_address().then(|| (u32::from_be_bytes(address_iaid), address.into()))
    }

    /// The IA_PD: its IAID and prefix.
    pub fn prefix(&self) -> Option<(u32, Prefix)> {
        let Binding { prefix, prefix_iaid, .. } = self.binding;
        let length = Some(self.binding.prefix_length()).filter(|length| *length != 0)?;
        let first = Ipv6Addr::from(u128::from(u64::from_be_bytes(prefix)) << 64);
        Some((u32::from_be_bytes(prefix_iaid), Prefix::around(first, length)?))
    }

    /// What it holds: IAIDs and resources.
    pub fn resources(&self) -> impl Iterator<Item = (u32, Resource)> {
        let address = self.address().map(|(iaid, address)| (iaid, Resource::from(address)));
        let prefix = self.prefix().map(|(iaid, prefix)| (iaid, Resource::from(prefix)));
        address.into_iter().chain(prefix)
    }

    /// What of it was granted last.
    pub fn granted(&self) -> impl Iterator<Item = (u32, Resource)> {
        let granted = self.binding.stamp.granted();
        self.resources().filter(move |(_, resource)| {
            let what = match resource.kind() {
                IaKind::Na => GRANTED_ADDRESS,
                IaKind::Pd => GRANTED_PREFIX,
            };
            granted & what != 0
        })
    }
}

/// The bindings, in two maps: those of long DUIDs and of clients that are known by their MAC addresses have their own.
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
    pub fn get(&self, owner: &Owner) -> Result<Option<Binding>, MapError> {
        let (name, found) = match short_key(owner) {
            Some(key) => (BINDINGS, self.short.get(&octets(&key), 0)),
            None => (LONG_BINDINGS, self.long.get(&octets(&long_key(owner)), 0)),
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
        let long = self.long.iter().map(|e| decode(e, LONG_BINDINGS, |key| entry_key::<18>(&key)));
        short.chain(long).filter_map(Result::transpose)
    }
}

impl<T: BorrowMut<MapData>> Bindings<T> {
    /// Inserts or replaces many elements, which need no seal yet. Returns how many the maps did not take.
    pub fn fill(&mut self, entries: impl Iterator<Item = BindingEntry>) -> u64 {
        let (mut short, mut long) = (Elements::default(), Elements::default());
        let mut refused = 0;
        for BindingEntry { owner, binding } in entries {
            match short_key(&owner) {
                Some(key) => refused += short.push(&mut self.short, &key, binding),
                None => refused += long.push(&mut self.long, &long_key(&owner), binding),
            }
        }
        refused + short.flush(&mut self.short) + long.flush(&mut self.long)
    }

    /// Inserts or replaces a client's element, which needs no seal yet. Of the same address and prefix the stamp is kept,
    /// but for a grant in this very moment, which may go uncounted.
    ///
    /// # Errors
    ///
    /// [`MapError::Access`], for one where the map is full: the client is answered by the daemon.
    pub fn put(&mut self, entry: &BindingEntry) -> Result<(), MapError> {
        let BindingEntry { owner, binding } = entry;
        let of = |binding: &Binding| (binding.address, binding.prefix, binding.prefix_length());
        let before = self.get(owner)?.filter(|before| of(before) == of(binding));
        let stamp = before.map_or(Stamp::NONE, |before| before.stamp);
        let binding = Binding { stamp, ..*binding };
        if let Some(key) = short_key(owner) {
            let value = octets(&binding.sealed(&key));
            self.short.insert(octets(&key), value, 0).map_err(MapError::access(BINDINGS))
        } else {
            let key = long_key(owner);
            let value = octets(&binding.sealed(&key));
            self.long.insert(octets(&key), value, 0).map_err(MapError::access(LONG_BINDINGS))
        }
    }

    /// Removes a client's element; none is fine.
    ///
    /// # Errors
    ///
    /// [`MapError::Access`]. The kernel may then still answer the client.
    pub fn remove(&mut self, owner: &Owner) -> Result<(), MapError> {
        let (name, removed) = match short_key(owner) {
            Some(key) => (BINDINGS, self.short.remove(&octets(&key))),
            None => (LONG_BINDINGS, self.long.remove(&octets(&long_key(owner)))),
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
        binding: Binding,
    ) -> u64 {
        self.keys.push(octets(key));
        self.values.push(octets(&binding.sealed(key)));
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
        Ok(sum(counter_index(slot, reason as u32))? + sum(self.earlier(slot, reason))?)
    }

    /// The index of what earlier programs have counted.
    fn earlier(&self, slot: u32, reason: Reason) -> u32 {
        let slots = self.0.len() / (2 * Reason::COUNT as u32);
        counter_index(slots + slot, reason as u32)
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

/// What is known of interfaces and links, and the blocks of their Replies.
pub struct Tables<T> {
    interfaces: Array<T, [u8; INTERFACE]>,
    inner_vlans: Array<T, [u8; VLANS]>,
    links: Array<T, [u8; LINK]>,
    blocks: Array<T, [u8; BLOCK]>,
}

impl<T: Borrow<MapData>> Tables<T> {
    /// The interfaces in use, with their slots.
    ///
    /// # Errors
    ///
    /// [`MapError::Access`].
    pub fn interfaces(&self) -> impl Iterator<Item = Result<(u32, Interface), MapError>> + '_ {
        let slots = 0..self.interfaces.len();
        let read = |slot| {
            let value = self.interfaces.get(&slot, 0).map_err(MapError::access(INTERFACES))?;
            Ok((slot, bytemuck::pod_read_unaligned::<Interface>(&value)))
        };
        slots
            .map(read)
            .filter(|read| read.as_ref().is_ok_and(|(_, interface)| interface.ifindex != 0) || read.is_err())
    }

    /// The links in use, with their indexes.
    ///
    /// # Errors
    ///
    /// [`MapError::Access`].
    pub fn links(&self) -> impl Iterator<Item = Result<(u32, Link), MapError>> + '_ {
        let indexes = 0..self.links.len();
        let read = |index| {
            let value = self.links.get(&index, 0).map_err(MapError::access(LINKS))?;
            Ok((index, bytemuck::pod_read_unaligned::<Link>(&value)))
        };
        indexes
            .map(read)
            .filter(|read| read.as_ref().is_ok_and(|(_, link)| link.is(LINK_IN_USE)) || read.is_err())
    }
}

impl<T: BorrowMut<MapData>> Tables<T> {
    /// Stores all of it, the interfaces last.
    ///
    /// # Errors
    ///
    /// [`MapError::Access`], for one where the maps were made for less.
    pub fn put(&mut self, rendering: &Rendering) -> Result<(), MapError> {
        let Rendering { interfaces, inner_vlans, links, blocks } = rendering;
        for (index, block) in (0..).zip(blocks) {
            self.blocks.set(index, octets(block), 0).map_err(MapError::access(REPLY_BLOCKS))?;
        }
        for (index, link) in (0..).zip(links) {
            self.links.set(index, octets(link), 0).map_err(MapError::access(LINKS))?;
        }
        for (index, table) in (0..).zip(inner_vlans) {
            self.inner_vlans.set(index, octets(table), 0).map_err(MapError::access(INNER_VLANS))?;
        }
        for (slot, interface) in (0..).zip(interfaces) {
            self.interfaces.set(slot, octets(interface), 0).map_err(MapError::access(INTERFACES))?;
        }
        Ok(())
    }

    /// Makes the program pass everything on a link.
    ///
    /// # Errors
    ///
    /// [`MapError::Access`].
    pub fn clear_link(&mut self, index: u32) -> Result<(), MapError> {
        self.links.set(index, octets(&Link::zeroed()), 0).map_err(MapError::access(LINKS))
    }

    /// Makes the program pass everything on all interfaces.
    ///
    /// # Errors
    ///
    /// [`MapError::Access`].
    pub fn clear(&mut self) -> Result<(), MapError> {
        let nothing = octets(&Interface::zeroed());
        (0..self.interfaces.len())
            .try_for_each(|slot| self.interfaces.set(slot, nothing, 0))
            .map_err(MapError::access(INTERFACES))
    }
}

/// All pinned maps, opened by their pins: for programs beside the daemon, and while it is down.
pub struct PinnedMaps {
    /// The bindings.
    pub bindings: Bindings<MapData>,
    /// Interfaces and links.
    pub tables: Tables<MapData>,
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
            tables: Tables::from_maps(
                Map::Array(array(INTERFACES, INTERFACE)?),
                Map::Array(array(INNER_VLANS, VLANS)?),
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
        [BINDINGS, LONG_BINDINGS, INTERFACES, INNER_VLANS, LINKS, REPLY_BLOCKS, COUNTERS]
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

impl<T> Tables<T> {
    pub(super) fn from_maps<M>(interfaces: M, inner_vlans: M, links: M, blocks: M) -> Result<Self, MapError>
    where
        Array<T, [u8; INTERFACE]>: TryFrom<M, Error = aya::maps::MapError>,
        Array<T, [u8; VLANS]>: TryFrom<M, Error = aya::maps::MapError>,
        Array<T, [u8; LINK]>: TryFrom<M, Error = aya::maps::MapError>,
        Array<T, [u8; BLOCK]>: TryFrom<M, Error = aya::maps::MapError>,
    {
        Ok(Self {
            interfaces: Array::try_from(interfaces).map_err(MapError::access(INTERFACES))?,
            inner_vlans: Array::try_from(inner_vlans).map_err(MapError::access(INNER_VLANS))?,
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

fn short_key(owner: &Owner) -> Option<BindingKey> {
    BindingKey::new(owner.link, owner.origin, &owner.duid)
}

fn long_key(owner: &Owner) -> LongBindingKey {
    LongBindingKey::new(owner.link, owner.origin, &owner.duid)
        .expect("the configuration has no more links than fit a key, which has room for every DUID")
}

pub(super) fn entry_key<const WORDS: usize>(key: &[u8]) -> Option<Owner> {
    let key: Key<WORDS> = bytemuck::pod_read_unaligned(key);
    Some(Owner { link: key.link(), origin: key.origin(), duid: key.duid()? })
}

type RawEntry<K> = Result<(K, [u8; VALUE]), aya::maps::MapError>;

fn decode<K>(
    entry: RawEntry<K>,
    name: &'static str,
    key: impl FnOnce(K) -> Option<Owner>,
) -> Result<Option<BindingEntry>, MapError> {
    let (raw_key, value) = entry.map_err(MapError::access(name))?;
    let binding = bytemuck::pod_read_unaligned(&value);
    Ok(key(raw_key).map(|owner| BindingEntry { owner, binding }))
}
