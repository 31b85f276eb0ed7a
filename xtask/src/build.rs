//! `cargo xtask build`: the XDP program, then the release binaries with it inside.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::command;
use crate::setup::{self, Compiler, Tools};
use crate::workspace::Workspace;

/// The BPF virtual machine, little endian, as compilers name it.
const TARGET: &str = "bpfel-unknown-none";

/// What separates compiler flags in `CARGO_ENCODED_RUSTFLAGS`.
const SEPARATOR: &str = "\x1f";

/// Sets up and builds everything that is installed.
///
/// # Errors
///
/// When something needed is missing and cannot be installed, or when a build fails.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let tools = setup::run(workspace)?;
    all(workspace, &tools)?;
    println!("build: dhcp6d, dhcp6ctl and dhcp6flood are in {}", workspace.binaries().display());
    Ok(())
}

/// Builds the XDP program and then the binaries that embed it.
///
/// # Errors
///
/// When one of the builds fails.
pub(crate) fn all(workspace: &Workspace, tools: &Tools) -> Result<()> {
    xdp_program(workspace, tools).context("building the XDP program")?;
    let mut binaries = workspace.cargo();
    binaries.args(["build", "--release", "--package", "dhcp6-userspace"]);
    command::run(&mut binaries).context("building the release binaries")
}

fn xdp_program(workspace: &Workspace, tools: &Tools) -> Result<()> {
    command::run(&mut xdp_build(workspace, tools))?;
    let built = workspace.bpf_target().join(TARGET).join("release");
    copy_if_changed(&built.join("dhcp6-ebpf"), &workspace.xdp_object())?;
    // Where the build of dhcp6flood, and the benchmarks, look for them.
    ["dhcp6-flood", "dhcp6-reflector"].into_iter().try_for_each(|name| {
        copy_if_changed(&built.join(name), &workspace.xdp_object().with_file_name(format!("{name}.o")))
    })
}

fn xdp_build(workspace: &Workspace, tools: &Tools) -> Command {
    let mut build = workspace.cargo();
    build
        .args(["build", "--package", "dhcp6-ebpf", "--release", "--target", TARGET])
        // No compiled `core` is distributed for this target.
        .args(["-Z", "build-std=core"])
        .arg("--target-dir")
        .arg(workspace.bpf_target())
        // `-Z` on a stable compiler.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags(&tools.linker))
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTC_WORKSPACE_WRAPPER");
    match &tools.compiler {
        Compiler::Active => build.env_remove("RUSTC"),
        Compiler::Debian => build.env("RUSTC", setup::DEBIAN_RUSTC),
    };
    build
}

/// The compiler flags, in the form of `CARGO_ENCODED_RUSTFLAGS`.
fn flags(linker: &Path) -> String {
    [
        // Line numbers and types, from which the linker makes the BTF that describes maps and programs.
        "-Cdebuginfo=2".to_owned(),
        "-Clink-arg=--btf".to_owned(),
        format!("-Clinker={}", linker.display()),
        // aya-ebpf chooses the layout of kernel structures by the host's architecture.
        format!("--cfg=bpf_target_arch=\"{}\"", env::consts::ARCH),
    ]
    .join(SEPARATOR)
}

/// Leaves the time of an unchanged file alone, so that cargo does not build again what embeds it.
fn copy_if_changed(from: &Path, to: &Path) -> Result<()> {
    let new = fs::read(from)
        .with_context(|| format!("reading {}, which the build should have left", from.display()))?;
    if fs::read(to).is_ok_and(|old| old == new) {
        return Ok(());
    }
    // A rename, because an interrupted copy would be embedded.
    let partial = to.with_extension("partial");
    fs::write(&partial, new).with_context(|| format!("writing {}", partial.display()))?;
    fs::rename(&partial, to).with_context(|| format!("renaming {} to {}", partial.display(), to.display()))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn flags_are_separated_as_cargo_wants_them() {
        let flags = flags(Path::new("/opt/my tools/bpf-linker"));
        let flags: Vec<_> = flags.split(SEPARATOR).collect();
        assert_eq!(flags[2], "-Clinker=/opt/my tools/bpf-linker");
        assert_eq!(flags.len(), 4);
    }

    #[test]
    fn the_compiler_that_setup_chose_is_used() {
        let workspace = Workspace { root: "/src".into(), target: "/elsewhere".into() };
        for (compiler, expected) in [(Compiler::Active, None), (Compiler::Debian, Some("/usr/bin/rustc"))] {
            let tools = Tools { compiler, linker: "/opt/bpf-linker".into() };
            let build = xdp_build(&workspace, &tools);
            let env =
                |name: &str| build.get_envs().find(|(key, _)| *key == name).and_then(|(_, value)| value);
            assert_eq!(env("RUSTC"), expected.map(OsStr::new), "{compiler:?}");
            assert_eq!(env("DHCP6_XDP_OBJECT"), Some(OsStr::new("/elsewhere/bpf/dhcp6-ebpf.o")));
        }
    }

    #[test]
    fn an_unchanged_object_keeps_its_time() {
        let directory = env::temp_dir().join(format!("xtask-copy-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("temporary directory");
        let (from, to) = (directory.join("from"), directory.join("to.o"));

        fs::write(&from, "first").expect("write");
        copy_if_changed(&from, &to).expect("copy");
        let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).expect("stat"));
        let first = inode(&to);

        copy_if_changed(&from, &to).expect("copy of the same content");
        assert_eq!(inode(&to), first, "the same file");

        fs::write(&from, "second").expect("write");
        copy_if_changed(&from, &to).expect("copy of new content");
        assert_eq!(fs::read(&to).expect("read"), b"second");

        fs::remove_dir_all(&directory).expect("clean up");
    }
}
