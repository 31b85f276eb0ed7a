//! A machine made of answers, for the tests of setup.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::system::System;

/// A machine with nothing on it but what the test says. Programs are in `/bin`.
#[derive(Default)]
pub(super) struct Fake {
    root: bool,
    files: HashMap<PathBuf, String>,
    answers: HashMap<String, String>,
    brings: HashMap<String, PathBuf>,
    refuses: HashSet<String>,
    changes: Vec<String>,
}

impl Fake {
    /// Run by root.
    pub(super) fn root(mut self) -> Self {
        self.root = true;
        self
    }

    /// Debian, with its package manager.
    pub(super) fn debian(self) -> Self {
        self.file("/etc/debian_version", "12.9\n").program("apt-get")
    }

    /// A program on PATH.
    pub(super) fn program(self, name: &str) -> Self {
        self.file(&format!("/bin/{name}"), "")
    }

    /// A file.
    pub(super) fn file(mut self, path: &str, content: &str) -> Self {
        self.files.insert(path.into(), content.to_owned());
        self
    }

    /// What a query prints; where it names a program by path, only once that is there.
    pub(super) fn answers(mut self, query: &str, output: &str) -> Self {
        self.answers.insert(query.to_owned(), output.to_owned());
        self
    }

    /// A change that succeeds and leaves a file.
    pub(super) fn brings(mut self, change: &str, path: &str) -> Self {
        self.brings.insert(change.to_owned(), path.into());
        self
    }

    /// A change that fails.
    pub(super) fn refuses(mut self, change: &str) -> Self {
        self.refuses.insert(change.to_owned());
        self
    }

    /// What was done to this machine, in order.
    pub(super) fn changes(&self) -> &[String] {
        &self.changes
    }
}

impl System for Fake {
    fn is_root(&self) -> bool {
        self.root
    }

    fn exists(&self, path: &Path) -> bool {
        self.files.contains_key(path)
    }

    fn read(&self, path: &Path) -> Option<String> {
        self.files.get(path).cloned()
    }

    fn find(&self, program: &str) -> Option<PathBuf> {
        Some(Path::new("/bin").join(program)).filter(|path| self.exists(path))
    }

    fn query(&self, program: &str, args: &[&str]) -> Option<String> {
        // Debian's compiler comes with its package, which the tests stand for by the library source.
        let installed = program != "/home/.cargo/bin/bpf-linker" || self.exists(Path::new(program));
        self.answers.get(&format!("{program} {}", args.join(" "))).filter(|_| installed).cloned()
    }

    fn cargo_bin(&self) -> PathBuf {
        "/home/.cargo/bin".into()
    }

    fn change(&mut self, program: &str, args: &[&str]) -> Result<()> {
        let change = format!("{program} {}", args.join(" "));
        self.changes.push(change.clone());
        if self.refuses.contains(&change) {
            bail!("{change} refused");
        }
        if let Some(path) = self.brings.get(&change) {
            self.files.insert(path.clone(), String::new());
        }
        Ok(())
    }
}
