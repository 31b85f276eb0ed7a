//! Room in the write-ahead log before it is needed.
//!
//! A commit that makes the log longer has the file system note that, which takes longer than the commit: 290 us for both
//! instead of 130 us, measured on ext4. So the log is made longer now and then, by many commits' worth of zeros. SQLite
//! finds the end of what it has written by the checksums, as it has to: a log that was moved into the database is written
//! over from its beginning, with the rest of its octets behind that.

use std::{
    fs::OpenOptions,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use nix::libc;

/// By so many octets at once, which takes some milliseconds.
const STEP: u64 = 4 << 20;

/// The log of a database that is open.
#[derive(Debug)]
pub(super) struct LogRoom {
    path: PathBuf,
    /// The length above which it is moved into the database.
    enough: u64,
    /// The length after the last step.
    len: u64,
}

impl LogRoom {
    /// Looks after the log at `path`, which is as long as it has to be with `enough` octets.
    pub(super) fn new(path: PathBuf, enough: u64) -> Self {
        Self { path, enough, len: 0 }
    }

    /// Makes the log longer where the last commit did. Nothing may be writing to it.
    ///
    /// Where that fails, commits are slower; whether there is room for them is another question.
    pub(super) fn provide(&mut self) {
        let Ok(found) = self.path.metadata() else { return };
        let len = found.len();
        // It may have been cut off since.
        self.len = self.len.min(len);
        if len == self.len || len >= self.enough {
            return;
        }
        self.len = len;
        if append_zeros(&self.path, len).is_ok() {
            self.len += STEP;
        }
    }
}

/// Writes zeros behind the first `len` octets of a file; all or none.
fn append_zeros(path: &Path, len: u64) -> io::Result<()> {
    // SQLite's locks are on other files: closing this one takes none away.
    let mut file = OpenOptions::new().append(true).custom_flags(libc::O_NOFOLLOW).open(path)?;
    let zeros = vec![0; STEP as usize];
    file.write_all(&zeros).or_else(|failure| file.set_len(len).and(Err(failure)))?;
    // Or the next commit would write them: the first client after a start would wait for that.
    file.sync_data()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{LogRoom, STEP};

    #[test]
    fn a_log_that_grows_gets_room() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut room = LogRoom::new(path.clone(), 2 * STEP);
        let len = || fs::metadata(&path).map(|found| found.len()).ok();
        room.provide();
        assert_eq!(len(), None, "there is none yet");
        fs::write(&path, b"first").unwrap();
        for _ in 0..2 {
            room.provide();
            assert_eq!(len(), Some(5 + STEP));
        }
        // Written beyond the room.
        let mut octets = fs::read(&path).unwrap();
        assert!(octets.starts_with(b"first") && octets[5..].iter().all(|octet| *octet == 0));
        octets.push(7);
        fs::write(&path, &octets).unwrap();
        room.provide();
        assert_eq!(len(), Some(6 + 2 * STEP));
        octets.resize(7 + 2 * STEP as usize, 7);
        fs::write(&path, &octets).unwrap();
        room.provide();
        assert_eq!(len(), Some(7 + 2 * STEP), "it is as long as it will be");
        // Cut off, and written to again.
        fs::write(&path, b"").unwrap();
        room.provide();
        fs::write(&path, b"anew").unwrap();
        room.provide();
        assert_eq!(len(), Some(4 + STEP));
    }
}
