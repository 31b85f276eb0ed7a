//! The machine as setup sees it, behind a trait so that its decisions can be tested on machines that
//! nobody has to break.

use std::env;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Result;

use crate::{command, workspace};

/// Questions to a machine, and the one way to change it.
pub(crate) trait System {
    /// Whether packages can be installed and filesystems mounted.
    fn is_root(&self) -> bool;
    /// Whether there is such a file or directory.
    fn exists(&self, path: &Path) -> bool;
    /// The content of a text file.
    fn read(&self, path: &Path) -> Option<String>;
    /// Where a program of this name is.
    fn find(&self, program: &str) -> Option<PathBuf>;
    /// What a command prints that changes nothing; `None` where it cannot be run or fails.
    fn query(&self, program: &str, args: &[&str]) -> Option<String>;
    /// The directory that `cargo install` puts programs into.
    fn cargo_bin(&self) -> PathBuf;
    /// Runs a command that changes the machine, and shows it.
    fn change(&mut self, program: &str, args: &[&str]) -> Result<()>;
}

/// The machine this program runs on.
pub(crate) struct Host {
    /// Where commands are run: rustup chooses the toolchain by it.
    directory: PathBuf,
}

impl Host {
    /// The machine, seen from a checkout.
    pub(crate) fn new(directory: &Path) -> Self {
        Self { directory: directory.to_path_buf() }
    }

    fn command(&self, program: &str) -> Command {
        if program == "cargo" {
            return workspace::cargo(&self.directory);
        }
        let mut command = Command::new(program);
        command.current_dir(&self.directory);
        command
    }
}

impl System for Host {
    fn is_root(&self) -> bool {
        // The owner of /proc/self is the effective user of this process.
        fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn read(&self, path: &Path) -> Option<String> {
        fs::read_to_string(path).ok()
    }

    fn find(&self, program: &str) -> Option<PathBuf> {
        let path = env::var_os("PATH").unwrap_or_default();
        // System programs are not on everybody's PATH, but root's processes can run them.
        env::split_paths(&path)
            .chain(["/usr/sbin".into(), "/sbin".into()])
            .map(|directory| directory.join(program))
            .find(|file| {
                fs::metadata(file).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
            })
    }

    fn query(&self, program: &str, args: &[&str]) -> Option<String> {
        let output = self.command(program).args(args).stdin(Stdio::null()).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn cargo_bin(&self) -> PathBuf {
        let home = || env::home_dir().unwrap_or_default().join(".cargo").into_os_string();
        let root = env::var_os("CARGO_INSTALL_ROOT").or_else(|| env::var_os("CARGO_HOME"));
        PathBuf::from(root.unwrap_or_else(home)).join("bin")
    }

    fn change(&mut self, program: &str, args: &[&str]) -> Result<()> {
        eprintln!("setup: {program} {}", args.join(" "));
        let mut change = self.command(program);
        // Debian's package scripts would ask questions on a terminal.
        change.args(args).env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
        // Standard output is for results.
        change.stdout(io::stderr());
        // Debian starts what it installs; in runlevel 1, which this says to invoke-rc.d, it does not. A client or
        // a relay agent that is only to be tested must not run on this machine's interfaces.
        change.env("RUNLEVEL", "1");
        command::run(&mut change)
    }
}

/// The first version number in a text, to the third place: `rustc 1.96.0 (ac68faa20 2026-05-25)`.
pub(super) fn version(text: &str) -> Option<[u32; 3]> {
    let start = text.find(|c: char| c.is_ascii_digit())?;
    let number = text[start..].split(|c: char| !c.is_ascii_digit() && c != '.').next()?;
    let mut places = number.split('.').map(str::parse);
    let first = places.next()?.ok()?;
    let second = places.next().unwrap_or(Ok(0)).ok()?;
    let third = places.next().unwrap_or(Ok(0)).ok()?;
    Some([first, second, third])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_where_programs_and_packages_write_them() {
        for (text, expected) in [
            ("rustc 1.96.0 (ac68faa20 2026-05-25) (built from a source tarball)", Some([1, 96, 0])),
            ("1.96.0+dfsg1-1~deb12u2", Some([1, 96, 0])),
            ("bpf-linker 0.10.3\n", Some([0, 10, 3])),
            ("1.95", Some([1, 95, 0])),
            ("(none)", None),
            ("", None),
        ] {
            assert_eq!(version(text), expected, "{text}");
        }
    }

    #[test]
    fn programs_are_found_and_directories_are_not_programs() {
        let host = Host::new(Path::new("/"));
        assert!(host.find("sh").is_some());
        assert_eq!(host.find(""), None);
        assert_eq!(host.find("no-such-program-anywhere"), None);
    }

    #[test]
    fn a_query_that_fails_has_no_answer() {
        let host = Host::new(Path::new("/"));
        assert_eq!(host.query("sh", &["-c", "echo yes"]).as_deref(), Some("yes\n"));
        assert_eq!(host.query("sh", &["-c", "echo yes; exit 1"]), None);
        assert_eq!(host.query("no-such-program-anywhere", &[]), None);
    }
}
