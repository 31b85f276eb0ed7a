//! The server's own DUID.

use std::{
    fs::{self, DirBuilder, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use dhcp6_common::wire::{Duid, DuidError};

use super::durable::sync_parent;

/// Name of the file in the state directory.
const FILE_NAME: &str = "duid";

/// Why the server has no DUID.
#[derive(Debug, thiserror::Error)]
pub enum ServerDuidError {
    /// The operating system refused.
    #[error("cannot {doing} {}: {source}", path.display())]
    File {
        /// What was being done to it.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// The file is there and does not hold a DUID. It is never replaced: clients would take the server for
    /// another one and abandon their bindings.
    #[error(
        "{} does not hold the server's DUID: {source}; restore it, or remove it: the lease database has it, too",
        path.display()
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with its content.
        source: DuidError,
    },
}

/// The DUID in the file `duid` of `state_dir`, one line in the notation of [`Duid`]'s `Display`. Where there is no such
/// file, it is written, on stable storage when this returns, so that it stays the same for as long as the file does
/// (RFC 9915, section 11.2): with the DUID that the lease database has `stored`, or with a new one.
///
/// A new one is a DUID-UUID (RFC 6355) with a random UUID, since that depends on no interface.
///
/// # Errors
///
/// Where the file cannot be read or written, and where it holds anything else.
pub fn server_duid(state_dir: &Path, stored: Option<Duid>) -> Result<Duid, ServerDuidError> {
    let path = state_dir.join(FILE_NAME);
    match fs::read(&path) {
        Ok(content) => parse(&content).map_err(|source| ServerDuidError::Malformed { path, source }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let duid = stored.unwrap_or_else(random_duid);
            write(&path, duid).map_err(failed("write", &path))?;
            Ok(duid)
        }
        Err(source) => Err(failed("read", &path)(source)),
    }
}

/// Creates the state directory where it is not there, accessible to its owner alone.
///
/// # Errors
///
/// [`ServerDuidError::File`].
pub fn create_state_dir(path: &Path) -> Result<(), ServerDuidError> {
    if path.is_dir() {
        return Ok(());
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        // The mode above is subject to the process's umask.
        .and_then(|()| fs::set_permissions(path, Permissions::from_mode(0o700)))
        .and_then(|()| sync_parent(path))
        .map_err(failed("create the directory", path))
}

fn parse(content: &[u8]) -> Result<Duid, DuidError> {
    let text = str::from_utf8(content).map_err(|_| DuidError::NotHex)?;
    text.strip_suffix('\n').unwrap_or(text).parse()
}

/// DUID-UUID: type 4, then the UUID (RFC 6355, section 4) of version 4 (RFC 9562, section 5.4).
fn random_duid() -> Duid {
    let mut octets = [0; 18];
    let (kind, uuid) = octets.split_at_mut(2);
    kind.copy_from_slice(&4u16.to_be_bytes());
    rand::fill(uuid);
    uuid[6] = 0x40 | uuid[6] & 0x0f;
    uuid[8] = 0x80 | uuid[8] & 0x3f;
    Duid::new(&octets).expect("18 octets are a DUID")
}

/// Writes the file so that a crash leaves either none or a whole one.
fn write(path: &Path, duid: Duid) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    writeln!(file, "{duid}")?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    sync_parent(path)
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ServerDuidError {
    move |source| ServerDuidError::File { doing, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

    use dhcp6_common::wire::{Duid, DuidType};

    use super::{ServerDuidError, create_state_dir, server_duid};

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn the_generated_duid_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let state_dir = directory.path().join("lib/dhcp6d");
        create_state_dir(&state_dir).unwrap();
        let duid = server_duid(&state_dir, None).unwrap();
        assert_eq!(server_duid(&state_dir, None).unwrap(), duid, "matrix row U-8");
        let other = Some(Duid::new(&[0, 9, 1]).unwrap());
        assert_eq!(server_duid(&state_dir, other).unwrap(), duid, "the file counts");
        assert_eq!(fs::read_to_string(state_dir.join("duid")).unwrap(), format!("{duid}\n"));
        assert_eq!(fs::read_dir(&state_dir).unwrap().count(), 1, "no temporary file is left");
        assert_eq!((mode(&state_dir), mode(&state_dir.join("duid"))), (0o700, 0o600));
    }

    #[test]
    fn a_lost_file_is_written_again_with_the_stored_duid() {
        let directory = tempfile::tempdir().unwrap();
        let stored = Duid::new(&[0, 3, 0, 1, 2, 0, 0, 0, 0, 9]).unwrap();
        for _ in 0..2 {
            assert_eq!(server_duid(directory.path(), Some(stored)).unwrap(), stored, "matrix row U-8");
            assert_eq!(fs::read_to_string(directory.path().join("duid")).unwrap(), format!("{stored}\n"));
        }
    }

    #[test]
    fn the_generated_duid_is_a_random_uuid() {
        let duids = [(), ()].map(|()| server_duid(tempfile::tempdir().unwrap().path(), None).unwrap());
        assert_ne!(duids[0], duids[1]);
        for duid in duids {
            assert_eq!((duid.kind(), duid.as_slice().len()), (DuidType::Uuid, 18));
            let uuid = &duid.as_slice()[2..];
            assert_eq!((uuid[6] >> 4, uuid[8] >> 6), (4, 0b10), "version 4 of the variant of RFC 9562");
        }
    }

    #[test]
    fn what_is_there_is_taken_or_refused_but_never_replaced() {
        for (content, expected) in [
            (&b"00:03:00:01:02:00:00:00:00:0a\n"[..], Some("00:03:00:01:02:00:00:00:00:0a")),
            (b"00:03:00:01:02:00:00:00:00:0A", Some("00:03:00:01:02:00:00:00:00:0a")),
            (b"", None),
            (b"\n", None),
            (b"00:04:\n", None),
            (b"00:04:01\n\n", None),
            (b"00:04:01\n00:04:02\n", None),
            (b"\xff\xfe", None),
            (&[b'0'; 1000], None),
        ] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("duid");
            fs::write(&path, content).unwrap();
            match (server_duid(directory.path(), None), expected) {
                (Ok(duid), Some(text)) => assert_eq!(duid.to_string(), text),
                (Err(ServerDuidError::Malformed { path: named, .. }), None) => assert_eq!(named, path),
                (result, _) => panic!("{content:?}: {result:?}"),
            }
            assert_eq!(fs::read(&path).unwrap(), content, "matrix row U-8");
        }
    }

    #[test]
    fn an_existing_directory_keeps_its_mode() {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o750)).unwrap();
        create_state_dir(directory.path()).unwrap();
        assert_eq!(mode(directory.path()), 0o750);
    }

    #[test]
    fn what_cannot_be_read_or_written_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        fs::create_dir(directory.path().join("duid")).unwrap();
        for (state_dir, named) in [
            (file.join("below"), "file/below"),
            (file, "file"),
            (directory.path().to_owned(), "duid"),
            // The kernel lets nobody create a file there, root included.
            ("/proc/self".into(), "/proc/self/duid"),
        ] {
            let result = create_state_dir(&state_dir).and_then(|()| server_duid(&state_dir, None));
            let Err(ServerDuidError::File { path, .. }) = result else { panic!("{}", state_dir.display()) };
            assert!(path.ends_with(named), "{}", path.display());
        }
    }
}
