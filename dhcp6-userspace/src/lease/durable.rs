//! Names in directories that survive a crash.

use std::{fs::File, io, path::Path};

/// Makes the names in the directory of `path` durable: a file that is synced but whose name is not may be gone
/// after a crash.
pub(super) fn sync_parent(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}
