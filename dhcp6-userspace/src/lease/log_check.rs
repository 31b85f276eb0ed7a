//! Whether a write-ahead log is whole.
//!
//! At start, SQLite takes the log up to the first frame that is not what its checksum says, since that is where a crash
//! has interrupted it. Where the frame was damaged later, the commits behind it are left out, and nobody is told.

use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::Path,
};

use super::StoreError;

/// Octets of the header of the log, and of each frame's.
const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;

/// What the header begins with; its last bit tells the byte order of the words that are summed.
const MAGIC: u32 = 0x377f_0682;

/// Octets in a page, where the header of the log does not say it: SQLite's default.
const PAGE: usize = 4096;

/// A crash interrupts one commit at most.
const MOST_INTERRUPTED: u32 = 1;

/// Makes sure that the log at `log` of the database at `path` has nothing of value behind a damaged part, and that it is
/// not the log of a database that is gone.
///
/// # Errors
///
/// - [`StoreError::Orphaned`] where there is a log, but no database
/// - [`StoreError::DamagedLog`] where more commits are behind a damaged frame than a crash can have interrupted
/// - [`StoreError::File`] where the log cannot be read
pub(super) fn check_log(path: &Path, log: &Path) -> Result<(), StoreError> {
    let failed = |source| StoreError::File { doing: "read", path: log.to_owned(), source };
    let file = match File::open(log) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        file => file.map_err(failed)?,
    };
    if file.metadata().map_err(failed)?.len() > 0 && !path.exists() {
        return Err(StoreError::Orphaned { path: path.to_owned(), log: log.to_owned() });
    }
    match find_damage(BufReader::with_capacity(1 << 20, file)).map_err(failed)? {
        Some(Damage { offset, lost }) if lost > MOST_INTERRUPTED => {
            Err(StoreError::DamagedLog { path: path.to_owned(), log: log.to_owned(), offset, lost })
        }
        _ => Ok(()),
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Damage {
    /// Where in the log.
    offset: u64,
    /// Commits behind it, or in it.
    lost: u32,
}

/// Both halves of SQLite's checksum.
type Checksum = [u32; 2];

/// What all frames of one log have, and those that it has overwritten have not.
type Salts = [u8; 8];

/// The checksum of `octets`, a multiple of 8, behind what has the checksum `sum`.
fn checksum(mut sum: Checksum, octets: &[u8], word: fn([u8; 4]) -> u32) -> Checksum {
    let (words, _) = octets.as_chunks::<4>();
    for [first, second] in words.as_chunks::<2>().0 {
        sum[0] = sum[0].wrapping_add(word(*first)).wrapping_add(sum[1]);
        sum[1] = sum[1].wrapping_add(word(*second)).wrapping_add(sum[0]);
    }
    sum
}

fn big_endian(octets: &[u8], offset: usize) -> u32 {
    u32::from_be_bytes(*octets[offset..].first_chunk().expect("the header is longer"))
}

/// Follows the frames of a log (<https://www.sqlite.org/fileformat2.html#the_write_ahead_log>) to the first one that is
/// not what its checksum says, and counts the commits from there on: frames of the same log, each of which continues
/// the checksum that stands in the one before.
fn find_damage(mut log: impl Read) -> io::Result<Option<Damage>> {
    let mut header = [0; HEADER];
    if !fill(&mut log, &mut header)? {
        return Ok(None);
    }
    let magic = big_endian(&header, 0);
    let said = if magic & 1 == 0 { u32::from_le_bytes } else { u32::from_be_bytes };
    let stored = [big_endian(&header, 24), big_endian(&header, 28)];
    let is_whole = magic & !1 == MAGIC && checksum([0, 0], &header[..24], said) == stored;
    let word = if is_whole { said } else { u32::from_ne_bytes };
    let page_size = if is_whole { big_endian(&header, 8) as usize } else { PAGE };
    let mut salts = is_whole.then(|| salts_at(&header, 16));
    let mut before = is_whole.then_some(stored);
    let mut damage = (!is_whole).then_some(Damage { offset: 0, lost: 0 });
    // Salts, and whether it ends a commit.
    let mut frame_before: Option<(Salts, bool)> = None;
    let mut frame = vec![0; FRAME_HEADER + page_size];
    let mut offset = HEADER as u64;
    while fill(&mut log, &mut frame)? {
        let stored = [big_endian(&frame, 16), big_endian(&frame, 20)];
        let is_commit = big_endian(&frame, 4) != 0;
        let own_salts = salts_at(&frame, 8);
        let continues =
            |sum| stored == checksum(checksum(sum, &frame[..8], word), &frame[FRAME_HEADER..], word);
        // Without the header, the first frame that continues another one says which log this is. No page has the number 0.
        if salts.is_none()
            && let (Some(damage), Some((salts_before, was_commit))) = (&mut damage, frame_before)
            && own_salts == salts_before
            && big_endian(&frame, 0) != 0
            && before.is_some_and(continues)
        {
            salts = Some(own_salts);
            damage.lost += u32::from(was_commit);
        }
        let is_of_log = salts == Some(own_salts);
        let follows = before.is_none_or(continues);
        match &mut damage {
            None if is_of_log && follows => {}
            None => damage = Some(Damage { offset, lost: u32::from(is_of_log && is_commit) }),
            // What a commit that failed has left behind a shorter one continues nothing.
            Some(_) if is_of_log && !follows => break,
            Some(damage) => damage.lost += u32::from(is_of_log && is_commit),
        }
        // A frame whose header is gone says nothing of the next one.
        before = (is_of_log || salts.is_none()).then_some(stored);
        frame_before = Some((own_salts, is_commit));
        offset += frame.len() as u64;
    }
    Ok(damage)
}

fn salts_at(octets: &[u8], offset: usize) -> Salts {
    *octets[offset..].first_chunk().expect("the header is longer")
}

/// Whether there was as much left to read.
fn fill(log: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match log.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use tempfile::TempDir;

    use super::{FRAME_HEADER, HEADER, PAGE};
    use crate::lease::{Change, SqliteStore, Store as _, StoreError, testing::put_lease};

    const DATABASE: &str = "leases.sqlite";
    const LOG: &str = "leases.sqlite-wal";
    const FRAME: usize = FRAME_HEADER + PAGE;

    /// What a crash leaves of a store that has committed these, one by one, on top of what another one has left.
    fn crashed(before: Option<&TempDir>, commits: &[&[Change]]) -> TempDir {
        let directory = tempfile::tempdir().unwrap();
        for name in [DATABASE, LOG] {
            if let Some(before) = before {
                fs::copy(before.path().join(name), directory.path().join(name)).unwrap();
            }
        }
        let mut store = SqliteStore::open(directory.path().join(DATABASE)).unwrap();
        for changes in commits {
            store.commit(changes).unwrap();
        }
        let left = tempfile::tempdir().unwrap();
        for name in [DATABASE, LOG] {
            fs::copy(directory.path().join(name), left.path().join(name)).unwrap();
        }
        left
    }

    /// The log in a directory, without the room behind it.
    fn log_in(directory: &TempDir) -> Vec<u8> {
        let mut log = fs::read(directory.path().join(LOG)).unwrap();
        // No page has the number 0.
        let frames = log[HEADER..].chunks(FRAME).take_while(|frame| frame[..4] != [0; 4]).count();
        assert!(log[HEADER + frames * FRAME..].iter().all(|octet| *octet == 0));
        log.truncate(HEADER + frames * FRAME);
        log
    }

    /// How many leases a store finds in a directory, with another log.
    fn leases(directory: &Path, log: &[u8]) -> Result<usize, StoreError> {
        let copy = tempfile::tempdir().unwrap();
        fs::copy(directory.join(DATABASE), copy.path().join(DATABASE)).unwrap();
        fs::write(copy.path().join(LOG), log).unwrap();
        let result = SqliteStore::open(copy.path().join(DATABASE)).and_then(|mut store| store.load());
        if result.is_err() {
            assert_eq!(fs::read(copy.path().join(LOG)).unwrap(), log, "the evidence stays as it is");
        }
        result.map(|contents| contents.leases.len())
    }

    fn is_refused(directory: &Path, log: &[u8]) -> bool {
        match leases(directory, log) {
            Err(StoreError::DamagedLog { .. }) => true,
            Err(failure) => panic!("{failure}"),
            Ok(_) => false,
        }
    }

    /// Ten commits of a lease each, and their log.
    fn ten() -> (TempDir, Vec<u8>) {
        let left = crashed(
            None,
            &std::array::from_fn::<_, 10, _>(|last| [put_lease(last as u16)]).each_ref().map(|one| &one[..]),
        );
        let log = log_in(&left);
        (left, log)
    }

    /// Whether each frame ends a commit.
    fn commits(log: &[u8]) -> Vec<bool> {
        log[HEADER..].chunks(FRAME).map(|frame| frame[4..8] != [0; 4]).collect()
    }

    #[test]
    fn commits_behind_a_damaged_frame_are_not_left_out() {
        let (directory, log) = ten();
        assert_eq!(leases(directory.path(), &log).unwrap(), 10);
        let with_room = [&log[..], &vec![0; 4 * FRAME]].concat();
        assert_eq!(leases(directory.path(), &with_room).unwrap(), 10);
        let commits = commits(&log);
        let mut refused = 0;
        for damaged in 0..commits.len() {
            let begin = HEADER + damaged * FRAME;
            for (range, first_seen) in [
                (begin + 999..begin + 1000, damaged),
                (begin..begin + FRAME, damaged + 1),
                (begin..begin + 2 * FRAME, damaged + 2),
            ] {
                let mut log = log.clone();
                let end = range.end.min(log.len());
                log[range.start..end].iter_mut().for_each(|octet| *octet ^= 0x5a);
                let seen = commits.iter().skip(first_seen).filter(|is_commit| **is_commit).count();
                assert_eq!(
                    is_refused(directory.path(), &log),
                    seen > 1,
                    "frame {damaged} of {}",
                    commits.len()
                );
                refused += u32::from(seen > 1);
            }
        }
        assert!(refused > 20, "{refused}");
        for octet in 0..HEADER {
            for bits in [0x5a, 0x01, 0x80] {
                let mut log = log.clone();
                log[octet] ^= bits;
                assert!(is_refused(directory.path(), &log), "octet {octet}, bits {bits:#x}");
            }
        }
    }

    #[test]
    fn a_header_that_is_gone_hides_no_commits() {
        let (directory, log) = ten();
        // The header alone; a sector, a block; and so much that whole frames are gone, too.
        for gone in [HEADER, 512, 4096, HEADER + FRAME, 3 * 4096] {
            for filling in [0, 0xff] {
                let mut log = log.clone();
                log[..gone].fill(filling);
                assert!(is_refused(directory.path(), &log), "{gone} octets of {filling:#x}");
            }
        }
        let nothing = vec![0; log.len()];
        assert_eq!(leases(directory.path(), &nothing).unwrap(), 0, "a log that was never written");
    }

    #[test]
    fn a_commit_that_was_interrupted_is_left_out() {
        let (directory, log) = ten();
        let commits = commits(&log);
        let last = commits.iter().rposition(|is_commit| *is_commit).unwrap();
        let before = commits[..last].iter().rposition(|is_commit| *is_commit).unwrap();
        for len in (0..log.len()).step_by(512) {
            assert!(!is_refused(directory.path(), &log[..len]), "{len} octets");
        }
        for torn in before + 1..=last {
            let mut log = log.clone();
            log[HEADER + torn * FRAME..][..FRAME].fill(0);
            assert_eq!(leases(directory.path(), &log).unwrap(), 9, "frame {torn}");
        }
    }

    #[test]
    fn what_failed_commits_have_left_is_no_damage() {
        let base = crashed(None, &[&[put_lease(1)], &[put_lease(2)]]);
        let [small, large, larger] = [1, 200, 400].map(|many| {
            let changes: Vec<_> = (10..10 + many).map(put_lease).collect();
            let left = crashed(Some(&base), &[&changes]);
            log_in(&left)
        });
        assert!(small.len() < large.len() && large.len() < larger.len());
        let log = [&small, &large[small.len()..], &larger[large.len()..]].concat();
        assert!(
            commits(&log).iter().filter(|is_commit| **is_commit).count() > 4,
            "three behind those of the base"
        );
        assert_eq!(leases(base.path(), &log).unwrap(), 3);
    }

    #[test]
    fn a_log_without_its_database_is_refused() {
        let (directory, _) = ten();
        fs::remove_file(directory.path().join(DATABASE)).unwrap();
        let result = SqliteStore::open(directory.path().join(DATABASE));
        assert!(matches!(result, Err(StoreError::Orphaned { .. })), "{result:?}");
        assert!(!directory.path().join(DATABASE).exists());
    }
}
