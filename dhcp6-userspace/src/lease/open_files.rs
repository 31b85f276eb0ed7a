//! Whether the names of files still lead to what was opened under them.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::StoreError;

/// Files that are open, and the directory that they are in. What is written to a file whose name is gone is lost when it
/// is closed, though every sync of it succeeds.
#[derive(Debug)]
pub(super) struct OpenFiles {
    directory: OpenFile,
    files: Vec<OpenFile>,
}

#[derive(Debug)]
struct OpenFile {
    path: PathBuf,
    identity: (u64, u64),
}

/// What a file is to the kernel, whatever its name: device and inode.
fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    move |source| StoreError::File { doing: "find", path: path.to_owned(), source }
}

impl OpenFile {
    fn new(path: &Path) -> Result<Self, StoreError> {
        Ok(Self { path: path.to_owned(), identity: identity(path).map_err(failed(path))? })
    }

    /// Whether the name is still there.
    fn check(&self) -> Result<bool, StoreError> {
        match identity(&self.path) {
            Ok(found) if found == self.identity => Ok(true),
            Ok(_) => Err(StoreError::Replaced { path: self.path.clone() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(failed(&self.path)(source)),
        }
    }
}

impl OpenFiles {
    /// Notes what these files are, which were opened before, and their directory.
    ///
    /// # Errors
    ///
    /// [`StoreError::File`] where one of them is not there.
    pub(super) fn note(directory: &Path, files: &[PathBuf]) -> Result<Self, StoreError> {
        let files = files.iter().map(|path| OpenFile::new(path)).collect::<Result<_, _>>()?;
        Ok(Self { directory: OpenFile::new(directory)?, files })
    }

    /// The first file whose name is gone, if there is one.
    ///
    /// # Errors
    ///
    /// - [`StoreError::Replaced`] where a name leads to another file, or to another directory
    /// - [`StoreError::File`] where the directory is gone
    pub(super) fn missing(&self) -> Result<Option<&Path>, StoreError> {
        if !self.directory.check()? {
            return Err(failed(&self.directory.path)(io::ErrorKind::NotFound.into()));
        }
        let mut missing = None;
        for file in &self.files {
            if !file.check()? {
                missing.get_or_insert(file.path.as_path());
            }
        }
        Ok(missing)
    }
}
