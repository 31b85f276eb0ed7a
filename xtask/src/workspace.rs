//! Where things are, and how cargo is called for them.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

/// The directories of this checkout.
pub(crate) struct Workspace {
    /// The top of the checkout.
    pub(crate) root: PathBuf,
    /// Where cargo builds: `CARGO_TARGET_DIR` where that is set, else `target` in the checkout.
    pub(crate) target: PathBuf,
}

impl Workspace {
    /// Finds the checkout this program was started for.
    ///
    /// # Errors
    ///
    /// When the working directory cannot be determined.
    pub(crate) fn find() -> Result<Self> {
        // Cargo says at run time which package it runs; a binary started by hand falls back to where it was
        // built.
        let package = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let package = PathBuf::from(package);
        let root = package
            .parent()
            .with_context(|| format!("finding the workspace above {}: it is at the top", package.display()))?
            .to_path_buf();
        let target = match env::var_os("CARGO_TARGET_DIR") {
            Some(directory) => {
                let directory = PathBuf::from(directory);
                std::path::absolute(&directory)
                    .with_context(|| format!("making CARGO_TARGET_DIR={} absolute", directory.display()))?
            }
            None => root.join("target"),
        };
        Ok(Self { root, target })
    }

    /// The directory that the XDP program is built in; apart from the host's, so that neither build
    /// invalidates the other.
    pub(crate) fn bpf_target(&self) -> PathBuf {
        self.target.join("bpf")
    }

    /// The XDP program that the daemon embeds.
    pub(crate) fn xdp_object(&self) -> PathBuf {
        self.bpf_target().join("dhcp6-ebpf.o")
    }

    /// Where the release binaries are.
    pub(crate) fn binaries(&self) -> PathBuf {
        self.target.join("release")
    }

    /// A cargo command in this checkout.
    ///
    /// Programs and tests run through it find the XDP program by `DHCP6_XDP_OBJECT` and the release
    /// binaries by `DHCP6_BIN_DIR`, both absolute.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = cargo(&self.root);
        command
            .env("CARGO_TARGET_DIR", &self.target)
            .env("DHCP6_XDP_OBJECT", self.xdp_object())
            .env("DHCP6_BIN_DIR", self.binaries());
        command
    }
}

/// The cargo that started this program, else the one on PATH, to be run in `directory`.
pub(crate) fn cargo(directory: &Path) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(directory);
    // What `cargo run` tells this program about its own package is not true of what it builds, and build
    // scripts that watch these variables would run again.
    for (name, _value) in env::vars_os() {
        let own = name.to_str().is_some_and(|name| {
            ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"]
                .iter()
                .any(|p| name.starts_with(p))
        });
        if own {
            command.env_remove(name);
        }
    }
    command
}
