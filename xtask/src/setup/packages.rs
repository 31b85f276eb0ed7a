//! Packages of the operating system: installed on Debian as root, named elsewhere.

use std::path::Path;

use anyhow::{Context, Result};

use super::system::System;

/// Programs that come in packages.
pub(crate) struct Need {
    /// The programs, all of which have to be there.
    pub(crate) programs: &'static [&'static str],
    /// What they are and what for.
    pub(crate) reason: &'static str,
    /// Debian's packages with them.
    pub(crate) debian: &'static [&'static str],
    /// Fedora's.
    pub(crate) fedora: &'static [&'static str],
    /// Arch Linux's.
    pub(crate) arch: &'static [&'static str],
}

/// Installs packages; refreshes the lists of what there is once at most.
#[derive(Default)]
pub(crate) struct Packages {
    updated: bool,
}

impl Packages {
    /// Makes sure that programs are there; returns what to type where they are not.
    pub(crate) fn provide(&mut self, system: &mut impl System, need: &Need) -> Option<String> {
        let is_there = |system: &_| need.programs.iter().all(|name| System::find(system, name).is_some());
        if is_there(system) {
            return None;
        }
        let mut failure = String::new();
        if can_install(system) {
            match self.install(system, need.debian) {
                Ok(()) if is_there(system) => return None,
                Ok(()) => {}
                Err(error) => failure = format!(" ({error:#})"),
            }
        }
        Some(format!("{}{failure}: {}", need.reason, how(system, need)))
    }

    /// Refreshes the lists of packages. What is installed next says whether an old list was good enough.
    pub(super) fn update(&mut self, system: &mut impl System) {
        if !self.updated {
            self.updated = true;
            if let Err(error) = system.change("apt-get", &["update"]) {
                eprintln!("setup: {error:#}; going on with the lists that are there");
            }
        }
    }

    /// Installs packages without asking.
    pub(super) fn install(&mut self, system: &mut impl System, packages: &[&str]) -> Result<()> {
        self.update(system);
        let mut args = vec!["install", "-y", "--no-install-recommends"];
        args.extend(packages);
        system.change("apt-get", &args).with_context(|| format!("installing {}", packages.join(", ")))
    }
}

/// Whether this is Debian or a descendant, and we may.
pub(super) fn can_install(system: &impl System) -> bool {
    system.is_root() && is_debian(system)
}

fn is_debian(system: &impl System) -> bool {
    system.exists(Path::new("/etc/debian_version")) && system.find("apt-get").is_some()
}

/// What to type here to install something.
fn how(system: &impl System, need: &Need) -> String {
    let sudo = if system.is_root() { "" } else { "sudo " };
    let debian = ("apt-get install -y --no-install-recommends", need.debian);
    let (command, packages) = if is_debian(system) {
        debian
    } else if system.find("dnf").is_some() {
        ("dnf install", need.fedora)
    } else if system.find("pacman").is_some() {
        ("pacman -S", need.arch)
    } else {
        return format!("install what Debian calls {}", need.debian.join(" "));
    };
    format!("type `{sudo}{command} {}`", packages.join(" "))
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::*;

    const NEED: Need = Need {
        programs: &["one", "two"],
        reason: "two programs",
        debian: &["numbers"],
        fedora: &["fedora-numbers"],
        arch: &["arch-numbers"],
    };

    const INSTALL: &str = "apt-get install -y --no-install-recommends numbers";

    #[test]
    fn all_programs_have_to_be_there() {
        let mut both = Fake::default().program("one").program("two");
        assert_eq!(Packages::default().provide(&mut both, &NEED), None);
        let mut one = Fake::default().program("one");
        assert!(Packages::default().provide(&mut one, &NEED).is_some());
    }

    #[test]
    fn the_lists_are_refreshed_once() {
        let mut fake = Fake::default().root().debian();
        let mut packages = Packages::default();
        packages.provide(&mut fake, &NEED);
        packages.provide(&mut fake, &NEED);
        assert_eq!(fake.changes(), ["apt-get update", INSTALL, INSTALL]);
    }

    #[test]
    fn old_lists_may_be_good_enough() {
        let mut fake = Fake::default()
            .root()
            .debian()
            .program("one")
            .refuses("apt-get update")
            .brings(INSTALL, "/bin/two");
        assert_eq!(Packages::default().provide(&mut fake, &NEED), None);
    }

    #[test]
    fn the_command_is_the_one_for_this_system() {
        let machine = |program: &str| Fake::default().program(program);
        for (case, mut fake, expected) in [
            ("Debian", Fake::default().debian(), "two programs: type `sudo apt-get install -y"),
            ("Fedora", machine("dnf"), "two programs: type `sudo dnf install fedora-numbers`"),
            ("Fedora as root", machine("dnf").root(), "two programs: type `dnf install fedora-numbers`"),
            ("Arch", machine("pacman"), "two programs: type `sudo pacman -S arch-numbers`"),
            ("another", Fake::default(), "two programs: install what Debian calls numbers"),
            (
                "a failure",
                Fake::default().debian().root().refuses(INSTALL),
                "two programs (installing numbers",
            ),
        ] {
            let message = Packages::default().provide(&mut fake, &NEED).expect("missing");
            assert!(message.starts_with(expected), "{case}: {message}");
        }
    }
}
