//! A disk that loses what was not synced.
//!
//! It is as forgetful as POSIX lets it be: what was written to a file is there after a power cut if the file was
//! synced since, what happened to a name if the directory was, and of everything else any part may be there.

use std::{collections::BTreeMap, ffi::OsString};

use rand::{Rng as _, rngs::StdRng, seq::IndexedRandom as _};

/// What a disk writes whole or not at all, in octets.
const SECTOR: usize = 512;

/// Why an operation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskError {
    /// There is no such name or file.
    Missing,
    /// The name is taken.
    Exists,
    /// The power is off.
    Off,
    /// The disk takes no changes.
    ReadOnly,
    /// The disk could not do it.
    Broken,
}

/// What does not work although the power is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Every change fails, as on a file system that has made itself read-only. What is open stays open.
    ReadOnly,
    /// The next sync of the file of this name fails, once. As on Linux, what it should have written counts as written
    /// then: the next sync succeeds without it, and processes see it until the power goes.
    Sync(OsString),
}

/// A file, by its number on the disk.
pub type FileId = usize;

/// A disk with one directory.
#[derive(Debug, Default)]
pub struct Disk {
    files: Vec<File>,
    names: BTreeMap<OsString, FileId>,
    synced_names: BTreeMap<OsString, FileId>,
    unsynced_names: Vec<Naming>,
    trigger: Option<Trigger>,
    /// What does not work.
    pub faults: Vec<Fault>,
    is_off: bool,
    /// How many files and directories were synced.
    pub syncs: u64,
}

#[derive(Debug, Default)]
struct File {
    content: Vec<u8>,
    synced: Vec<u8>,
    unsynced: Vec<Change>,
}

/// A change of a file.
#[derive(Clone, Debug)]
enum Change {
    Write { offset: usize, octets: Vec<u8> },
    Resize { len: usize },
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write { offset, octets } => {
                let end = offset + octets.len();
                content.resize(content.len().max(end), 0);
                content[*offset..end].copy_from_slice(octets);
            }
            Self::Resize { len } => content.resize(*len, 0),
        }
    }

    /// The change as it is where the power goes while it is written: up to the beginning of a sector.
    fn torn(&self, rng: &mut StdRng) -> Option<Self> {
        let Self::Write { offset, octets } = self else { return None };
        let sectors = (offset / SECTOR + 1)..=((offset + octets.len() - 1) / SECTOR);
        let ends: Vec<_> = sectors.map(|sector| sector * SECTOR - offset).collect();
        let end = ends.choose(rng)?;
        Some(Self::Write { offset: *offset, octets: octets[..*end].to_vec() })
    }
}

/// A change of the directory, which happens as a whole or not at all.
#[derive(Clone, Debug)]
struct Naming {
    removed: Option<OsString>,
    named: Option<(OsString, FileId)>,
}

impl Naming {
    fn apply(&self, names: &mut BTreeMap<OsString, FileId>) {
        if let Some(removed) = &self.removed {
            names.remove(removed);
        }
        if let Some((name, file)) = &self.named {
            names.insert(name.clone(), *file);
        }
    }
}

/// When the power goes by itself.
#[derive(Clone, Debug)]
struct Trigger {
    /// Which operations count: those on the file of this name, where there is one.
    on: Option<OsString>,
    /// How many of them are carried out yet.
    left: u64,
}

impl Disk {
    /// Has the power go after so many changes and syncs, of one file or of all.
    pub fn cut_after(&mut self, operations: u64, on: Option<&str>) {
        self.trigger = Some(Trigger { on: on.map(Into::into), left: operations });
    }

    /// Turns the power off: nothing works any more until [`Disk::after_cut`].
    pub fn turn_off(&mut self) {
        self.is_off = true;
    }

    /// Whether the power is off.
    pub fn is_off(&self) -> bool {
        self.is_off
    }

    /// What is on the disk after the power has gone: everything that was synced, and a random part of the rest.
    #[must_use]
    pub fn after_cut(&self, rng: &mut StdRng) -> Self {
        let mut names = self.synced_names.clone();
        for naming in survivors(&self.unsynced_names, rng, |_, _| None) {
            naming.apply(&mut names);
        }
        let mut disk = Self { syncs: self.syncs, ..Self::default() };
        for (name, id) in names {
            let File { synced, unsynced, .. } = &self.files[id];
            let mut content = synced.clone();
            for change in survivors(unsynced, rng, Change::torn) {
                change.apply(&mut content);
            }
            disk.synced_names.insert(name, disk.files.len());
            disk.files.push(File { synced: content.clone(), content, unsynced: Vec::new() });
        }
        disk.names.clone_from(&disk.synced_names);
        disk
    }

    /// The names and contents of all files as a process sees them.
    pub fn contents(&self) -> impl Iterator<Item = (&OsString, &[u8])> {
        self.names.iter().map(|(name, id)| (name, self.files[*id].content.as_slice()))
    }

    /// The file of a name.
    ///
    /// # Errors
    ///
    /// [`DiskError::Missing`], [`DiskError::Off`].
    pub fn find(&self, name: &OsString) -> Result<FileId, DiskError> {
        self.powered()?;
        self.names.get(name).copied().ok_or(DiskError::Missing)
    }

    /// The length of a file.
    ///
    /// # Errors
    ///
    /// [`DiskError::Missing`], [`DiskError::Off`].
    pub fn len(&self, id: FileId) -> Result<usize, DiskError> {
        self.powered()?;
        Ok(self.files.get(id).ok_or(DiskError::Missing)?.content.len())
    }

    /// Makes an empty file.
    ///
    /// # Errors
    ///
    /// [`DiskError::Exists`], [`DiskError::Off`], [`DiskError::ReadOnly`].
    pub fn create(&mut self, name: OsString) -> Result<FileId, DiskError> {
        self.writable()?;
        self.operate(None)?;
        if self.names.contains_key(&name) {
            return Err(DiskError::Exists);
        }
        let id = self.files.len();
        self.files.push(File::default());
        self.name(Naming { removed: None, named: Some((name, id)) });
        Ok(id)
    }

    /// Removes a name. The file stays for those who have it open.
    ///
    /// # Errors
    ///
    /// [`DiskError::Missing`], [`DiskError::Off`], [`DiskError::ReadOnly`].
    pub fn unlink(&mut self, name: OsString) -> Result<(), DiskError> {
        let id = self.find(&name)?;
        self.writable()?;
        self.operate(Some(id))?;
        self.name(Naming { removed: Some(name), named: None });
        Ok(())
    }

    /// Gives a file another name, in place of the file that has it.
    ///
    /// # Errors
    ///
    /// [`DiskError::Missing`], [`DiskError::Off`], [`DiskError::ReadOnly`].
    pub fn rename(&mut self, from: OsString, to: OsString) -> Result<(), DiskError> {
        let id = self.find(&from)?;
        self.writable()?;
        self.operate(Some(id))?;
        self.name(Naming { removed: Some(from), named: Some((to, id)) });
        Ok(())
    }

    /// What is in a file from `offset` on, at most `len` octets.
    ///
    /// # Errors
    ///
    /// [`DiskError::Missing`], [`DiskError::Off`].
    pub fn read(&self, id: FileId, offset: usize, len: usize) -> Result<&[u8], DiskError> {
        self.powered()?;
        let content = &self.files.get(id).ok_or(DiskError::Missing)?.content;
        let end = content.len().min(offset.saturating_add(len));
        Ok(content.get(offset..end).unwrap_or_default())
    }

    /// Writes into a file.
    ///
    /// # Errors
    ///
    /// [`DiskError::Missing`], [`DiskError::Off`], [`DiskError::ReadOnly`].
    pub fn write(&mut self, id: FileId, offset: usize, octets: &[u8]) -> Result<(), DiskError> {
        if octets.is_empty() {
            return self.powered();
        }
        self.change(id, Change::Write { offset, octets: octets.to_vec() })
    }

    /// Shortens a file, or extends it with zeros.
    ///
    /// # Errors
    ///
    /// [`DiskError::Missing`], [`DiskError::Off`], [`DiskError::ReadOnly`].
    pub fn resize(&mut self, id: FileId, len: usize) -> Result<(), DiskError> {
        self.change(id, Change::Resize { len })
    }

    /// Makes what is in a file durable. Its name is another matter.
    ///
    /// # Errors
    ///
    /// [`DiskError::Missing`], [`DiskError::Off`], [`DiskError::Broken`].
    pub fn sync(&mut self, id: FileId) -> Result<(), DiskError> {
        self.operate(Some(id))?;
        let is_hit = |fault: &Fault| matches!(fault, Fault::Sync(name) if self.names.get(name) == Some(&id));
        let hit = self.faults.iter().position(is_hit);
        let file = self.files.get_mut(id).ok_or(DiskError::Missing)?;
        if let Some(hit) = hit {
            self.faults.remove(hit);
            file.unsynced.clear();
            return Err(DiskError::Broken);
        }
        for change in file.unsynced.drain(..) {
            change.apply(&mut file.synced);
        }
        self.syncs += 1;
        Ok(())
    }

    /// Makes the names durable.
    ///
    /// # Errors
    ///
    /// [`DiskError::Off`].
    pub fn sync_names(&mut self) -> Result<(), DiskError> {
        self.operate(None)?;
        self.unsynced_names.clear();
        self.synced_names.clone_from(&self.names);
        self.syncs += 1;
        Ok(())
    }

    fn change(&mut self, id: FileId, change: Change) -> Result<(), DiskError> {
        self.writable()?;
        self.operate(Some(id))?;
        let file = self.files.get_mut(id).ok_or(DiskError::Missing)?;
        change.apply(&mut file.content);
        file.unsynced.push(change);
        Ok(())
    }

    fn name(&mut self, naming: Naming) {
        naming.apply(&mut self.names);
        self.unsynced_names.push(naming);
    }

    fn powered(&self) -> Result<(), DiskError> {
        if self.is_off { Err(DiskError::Off) } else { Ok(()) }
    }

    fn writable(&self) -> Result<(), DiskError> {
        if self.faults.contains(&Fault::ReadOnly) { Err(DiskError::ReadOnly) } else { Ok(()) }
    }

    /// Counts a change or sync that is about to happen, to which the power may go.
    fn operate(&mut self, id: Option<FileId>) -> Result<(), DiskError> {
        self.powered()?;
        let Self { names, trigger, .. } = self;
        let Some(Trigger { on, left }) = trigger else { return Ok(()) };
        if on.as_ref().is_some_and(|name| names.get(name).copied() != id || id.is_none()) {
            return Ok(());
        }
        self.is_off = *left == 0;
        *left = left.saturating_sub(1);
        self.powered()
    }
}

/// What a power cut leaves of changes that were not synced: none, all, the first few, or any of them; where not all,
/// the last of them may be torn.
fn survivors<T: Clone>(
    changes: &[T],
    rng: &mut StdRng,
    torn: impl Fn(&T, &mut StdRng) -> Option<T>,
) -> Vec<T> {
    let mut survivors = match rng.random_range(0..5) {
        0 => return Vec::new(),
        1 => return changes.to_vec(),
        2 | 3 => changes[..rng.random_range(0..=changes.len())].to_vec(),
        _ => changes.iter().filter(|_| rng.random()).cloned().collect(),
    };
    if let Some(last) = survivors.last_mut()
        && let Some(part) = torn(last, rng)
    {
        *last = part;
    }
    survivors
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::{SeedableRng as _, rngs::StdRng};

    use super::{Disk, DiskError, Fault};

    /// What a thousand power cuts leave of the file `a`.
    fn outcomes(disk: &Disk) -> BTreeSet<Option<Vec<u8>>> {
        let after = |seed| {
            let disk = disk.after_cut(&mut StdRng::seed_from_u64(seed));
            disk.contents().find(|(name, _)| *name == "a").map(|(_, content)| content.to_vec())
        };
        (0..1000).map(after).collect()
    }

    fn text(texts: &[Option<&str>]) -> BTreeSet<Option<Vec<u8>>> {
        texts.iter().map(|text| text.map(|text| text.as_bytes().to_vec())).collect()
    }

    #[test]
    fn what_was_not_synced_may_be_lost() {
        let mut disk = Disk::default();
        let file = disk.create("a".into()).unwrap();
        disk.write(file, 0, b"new").unwrap();
        disk.sync(file).unwrap();
        assert_eq!(outcomes(&disk), text(&[None, Some("new")]), "a synced file without a synced name");
        disk.sync_names().unwrap();
        assert_eq!(outcomes(&disk), text(&[Some("new")]), "all is synced");
        disk.write(file, 1, b"o").unwrap();
        disk.write(file, 3, b"!").unwrap();
        let all = ["new", "now", "new!", "now!"].map(Some);
        assert_eq!(outcomes(&disk), text(&all), "any part of what came later");
        disk.sync(file).unwrap();
        assert_eq!(outcomes(&disk), text(&[Some("now!")]));
        disk.resize(file, 2).unwrap();
        assert_eq!(outcomes(&disk), text(&[Some("now!"), Some("no")]));
    }

    #[test]
    fn a_file_is_replaced_whole_or_not_at_all() {
        let mut disk = Disk::default();
        for (name, content) in [("a", b"old"), ("b", b"new")] {
            let file = disk.create(name.into()).unwrap();
            disk.write(file, 0, content).unwrap();
            disk.sync(file).unwrap();
        }
        disk.sync_names().unwrap();
        disk.rename("b".into(), "a".into()).unwrap();
        assert_eq!(outcomes(&disk), text(&[Some("old"), Some("new")]));
        disk.sync_names().unwrap();
        assert_eq!(outcomes(&disk), text(&[Some("new")]));
        disk.unlink("a".into()).unwrap();
        assert_eq!(outcomes(&disk), text(&[Some("new"), None]));
    }

    #[test]
    fn the_last_write_is_torn_between_sectors() {
        let mut disk = Disk::default();
        let file = disk.create("a".into()).unwrap();
        disk.sync_names().unwrap();
        disk.write(file, 0, &[0; 100]).unwrap();
        disk.sync(file).unwrap();
        disk.write(file, 100, &[1; 1000]).unwrap();
        let lengths: BTreeSet<_> =
            outcomes(&disk).into_iter().map(|content| content.unwrap().len()).collect();
        assert_eq!(lengths, [100, 512, 1024, 1100].into());
    }

    #[test]
    fn the_power_goes_when_it_is_told_to() {
        let mut disk = Disk::default();
        let [a, b] = ["a", "b"].map(|name| disk.create(name.into()).unwrap());
        disk.cut_after(1, Some("a"));
        disk.write(b, 0, b"1").unwrap();
        disk.write(a, 0, b"1").unwrap();
        disk.write(b, 0, b"2").unwrap();
        assert_eq!(disk.write(a, 0, b"2"), Err(DiskError::Off));
        assert_eq!(disk.read(a, 0, 1), Err(DiskError::Off));
        assert!(disk.is_off());
        let contents: Vec<_> = disk.contents().map(|(_, content)| content).collect();
        assert_eq!(contents, [b"1", b"2"]);
    }
    #[test]
    fn what_a_sync_failed_to_write_is_lost_though_the_next_succeeds() {
        let mut disk = Disk::default();
        let file = disk.create("a".into()).unwrap();
        disk.sync_names().unwrap();
        disk.write(file, 0, b"old").unwrap();
        disk.sync(file).unwrap();
        disk.write(file, 0, b"new").unwrap();
        disk.faults.push(Fault::Sync("a".into()));
        assert_eq!(disk.sync(file), Err(DiskError::Broken));
        disk.sync(file).unwrap();
        assert_eq!(disk.read(file, 0, 3), Ok(&b"new"[..]));
        assert_eq!(outcomes(&disk), text(&[Some("old")]));
    }

    #[test]
    fn a_disk_that_is_read_only_takes_no_changes() {
        let mut disk = Disk::default();
        let file = disk.create("a".into()).unwrap();
        disk.faults.push(Fault::ReadOnly);
        assert_eq!(disk.write(file, 0, b"new"), Err(DiskError::ReadOnly));
        assert_eq!(disk.resize(file, 9), Err(DiskError::ReadOnly));
        assert_eq!(disk.create("b".into()), Err(DiskError::ReadOnly));
        assert_eq!(disk.rename("a".into(), "b".into()), Err(DiskError::ReadOnly));
        assert_eq!(disk.unlink("a".into()), Err(DiskError::ReadOnly));
        disk.faults.clear();
        disk.write(file, 0, b"new").unwrap();
    }
}
