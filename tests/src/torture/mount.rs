//! A [`Disk`] as a file system that processes see (FUSE).

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result};
use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use nix::mount::{MntFlags, umount2};

use super::disk::{Disk, DiskError, FileId};

/// How long the kernel may believe what it was told: there is nobody else who changes anything.
const TTL: Duration = Duration::from_hours(1);

/// Whether the kernel has FUSE. Where it has not, says so; in CI that is a failure.
pub fn has_fuse() -> bool {
    let is_there = fs::exists("/dev/fuse").unwrap_or_default();
    if !is_there {
        crate::skip("a disk of the tests' own needs /dev/fuse: `modprobe fuse`");
    }
    is_there
}

/// A disk that is mounted. It is unmounted with this value, which nobody should use it then.
#[derive(Debug)]
pub struct Mounted {
    path: PathBuf,
    disk: Arc<Mutex<Disk>>,
    session: Option<BackgroundSession>,
}

impl Mounted {
    /// Mounts a disk on a directory.
    ///
    /// # Errors
    ///
    /// The system's: it takes root and /dev/fuse.
    pub fn new(disk: Disk, path: &Path) -> Result<Self> {
        let disk = Arc::new(Mutex::new(disk));
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("dhcp6-disk".to_owned())];
        let session = fuser::spawn_mount(Directory(Arc::clone(&disk)), path, &config)
            .with_context(|| format!("cannot mount a FUSE file system on {}", path.display()))?;
        Ok(Self { path: path.to_owned(), disk, session: Some(session) })
    }

    /// The disk.
    pub fn disk(&self) -> MutexGuard<'_, Disk> {
        locked(&self.disk)
    }

    /// Unmounts the disk, and mounts another one instead: nothing of what the kernel has cached remains.
    ///
    /// # Errors
    ///
    /// As [`Mounted::new`].
    pub fn replace(&mut self, disk: Disk) -> Result<()> {
        self.unmount()?;
        *self = Self::new(disk, &self.path)?;
        Ok(())
    }

    fn unmount(&mut self) -> Result<()> {
        let Some(session) = self.session.take() else { return Ok(()) };
        // Where somebody still has a file open, it ends with them.
        umount2(&self.path, MntFlags::MNT_DETACH).context("cannot unmount")?;
        drop(session);
        Ok(())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        self.unmount().ok();
    }
}

fn locked(disk: &Mutex<Disk>) -> MutexGuard<'_, Disk> {
    disk.lock().expect("nobody panics with the disk in hand")
}

/// The disk's only directory.
struct Directory(Arc<Mutex<Disk>>);

impl Directory {
    fn disk(&self) -> MutexGuard<'_, Disk> {
        locked(&self.0)
    }
}

impl From<DiskError> for Errno {
    fn from(error: DiskError) -> Self {
        match error {
            DiskError::Missing => Self::ENOENT,
            DiskError::Exists => Self::EEXIST,
            DiskError::Off | DiskError::Broken => Self::EIO,
            DiskError::ReadOnly => Self::EROFS,
        }
    }
}

/// Files are behind the directory, which is number 1.
fn number(id: FileId) -> INodeNo {
    INodeNo(id as u64 + 2)
}

fn id(number: INodeNo) -> FileId {
    (number.0 as usize).wrapping_sub(2)
}

fn attributes(ino: INodeNo, kind: FileType, size: usize) -> FileAttr {
    FileAttr {
        ino,
        size: size as u64,
        blocks: size.div_ceil(512) as u64,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind,
        perm: if kind == FileType::Directory { 0o700 } else { 0o600 },
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

fn of_file(disk: &Disk, file: FileId) -> Result<FileAttr, DiskError> {
    Ok(attributes(number(file), FileType::RegularFile, disk.len(file)?))
}

fn done(result: Result<(), DiskError>, reply: ReplyEmpty) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error.into()),
    }
}

impl Filesystem for Directory {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let disk = self.disk();
        match disk.find(&name.into()).and_then(|file| of_file(&disk, file)) {
            Ok(attributes) => reply.entry(&TTL, &attributes, Generation(0)),
            Err(error) => reply.error(error.into()),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        if ino == INodeNo::ROOT {
            return reply.attr(&TTL, &attributes(ino, FileType::Directory, 0));
        }
        match of_file(&self.disk(), id(ino)) {
            Ok(attributes) => reply.attr(&TTL, &attributes),
            Err(error) => reply.error(error.into()),
        }
    }

    fn setattr(
        &self,
        request: &Request,
        ino: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        if let Some(size) = size
            && let Err(error) = self.disk().resize(id(ino), size as usize)
        {
            return reply.error(error.into());
        }
        self.getattr(request, ino, handle, reply);
    }

    fn create(
        &self,
        _: &Request,
        _: INodeNo,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let mut disk = self.disk();
        match disk.create(name.into()).and_then(|file| of_file(&disk, file)) {
            Ok(attributes) => {
                reply.created(&TTL, &attributes, Generation(0), FileHandle(0), FopenFlags::empty());
            }
            Err(error) => reply.error(error.into()),
        }
    }

    fn unlink(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        done(self.disk().unlink(name.into()), reply);
    }

    fn rename(
        &self,
        _: &Request,
        _: INodeNo,
        name: &OsStr,
        _: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        if !flags.is_empty() {
            return reply.error(Errno::EINVAL);
        }
        done(self.disk().rename(name.into(), new_name.into()), reply);
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.disk().read(id(ino), offset as usize, size as usize) {
            Ok(octets) => reply.data(octets),
            Err(error) => reply.error(error.into()),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        octets: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.disk().write(id(ino), offset as usize, octets) {
            Ok(()) => reply.written(octets.len() as u32),
            Err(error) => reply.error(error.into()),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        done(self.disk().sync(id(ino)), reply);
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        done(self.disk().sync_names(), reply);
    }

    fn readdir(&self, _: &Request, _: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let disk = self.disk();
        for (position, (name, _)) in (1..).zip(disk.contents()).skip(offset as usize) {
            let Ok(file) = disk.find(name) else { break };
            if reply.add(number(file), position, FileType::RegularFile, name) {
                break;
            }
        }
        reply.ok();
    }
}
