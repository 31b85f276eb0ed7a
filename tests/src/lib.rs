//! What the end-to-end tests share.

pub mod bench;
pub mod capture;
pub mod client;
pub mod describe;
pub mod frame;
pub mod netns;
pub mod raw;
pub mod server;
pub mod service_manager;
pub mod subscriber;
pub mod tmpfs;
pub mod torture;
pub mod xdp;

/// Says that a test cannot run here, and what it lacks. In CI (where the variable CI is set), which lacks nothing,
/// that is a failure.
///
/// # Panics
///
/// In CI.
pub fn skip(complaint: &str) {
    assert!(std::env::var_os("CI").is_none_or(|value| value.is_empty()), "{complaint}");
    eprintln!("SKIPPED: {complaint}");
}

/// What a test says that lacks a program.
pub fn not_installed(program: &str) -> String {
    format!("{program} is not installed: `cargo xtask test` installs it where it may")
}
