//! Small file systems in memory.

use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;

use crate::netns::run;

/// A file system in memory, mounted for as long as this value lives.
#[derive(Debug)]
pub struct Tmpfs(PathBuf);

impl Tmpfs {
    /// Mounts one with room for 2 MiB over a directory.
    ///
    /// # Errors
    ///
    /// What mount(8) says.
    pub fn mount(directory: &Path) -> Result<Self> {
        run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m,mode=0700", "tmpfs"]).arg(directory))?;
        Ok(Self(directory.to_owned()))
    }

    /// Mounts it with other options. One with a file open for writing does not become read-only.
    ///
    /// # Errors
    ///
    /// What mount(8) says.
    pub fn remount(&self, options: &str) -> Result<()> {
        let options = format!("remount,{options}");
        run(Command::new("mount").args(["-o", &options]).arg(&self.0)).map(drop)
    }

    /// Leaves no room, with a file that is returned.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn fill(&self) -> Result<PathBuf> {
        let path = self.0.join("ballast");
        let mut ballast = File::create(&path)?;
        while ballast.write(&[0; 4096]).is_ok_and(|len| len > 0) {}
        Ok(path)
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        run(Command::new("umount").arg("--lazy").arg(&self.0)).ok();
    }
}
