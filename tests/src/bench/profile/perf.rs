//! Samples of what a process does, by `perf`.

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

use crate::netns::run;

/// Samples in a second of processor time. A prime, so that they do not keep step with timers.
const FREQUENCY: &str = "997";
/// How much of the stack comes with each sample, in octets.
const STACK: &str = "dwarf,16384";
/// How long perf may take to begin.
const PATIENCE: Duration = Duration::from_secs(5);

/// What perf lacks to work here; `None` where it works.
pub(super) fn lack() -> Option<String> {
    let attempt = Command::new("perf")
        .args(["record", "--event", "cpu-clock", "--output", "/dev/null", "true"])
        .output();
    match attempt {
        Err(error) => Some(format!("perf cannot be run ({error}); Debian's package is linux-perf")),
        Ok(output) if output.status.success() => None,
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stderr);
            let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim();
            Some(format!("perf cannot record here: {line}"))
        }
    }
}

/// A perf that records; it is stopped with this value.
pub(super) struct Recording {
    perf: Child,
    directory: TempDir,
}

impl Recording {
    /// Begins to sample all threads of a process.
    ///
    /// # Errors
    ///
    /// Where perf does not begin.
    pub(super) fn start(pid: u32) -> Result<Self> {
        let directory = TempDir::new()?;
        let log = fs::File::create(directory.path().join("log"))?;
        let mut command = Command::new("perf");
        command.args(["record", "--event", "cpu-clock", "--freq", FREQUENCY, "--call-graph", STACK]);
        command.args(["--pid", &pid.to_string(), "--output"]).arg(directory.path().join("samples"));
        let perf = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn()?;
        let recording = Self { perf, directory };
        // It makes the file before it begins.
        let start = Instant::now();
        while !recording.samples().exists() {
            ensure!(start.elapsed() < PATIENCE, "perf does not begin: {}", recording.log());
            thread::sleep(Duration::from_millis(10));
        }
        thread::sleep(Duration::from_millis(200));
        Ok(recording)
    }

    /// Ends sampling. Returns the stack of each sample, the innermost function first.
    ///
    /// # Errors
    ///
    /// Where perf has failed: with what it said.
    pub(super) fn stop(mut self) -> Result<Vec<Vec<String>>> {
        kill(Pid::from_raw(self.perf.id().cast_signed()), Signal::SIGINT)?;
        self.perf.wait()?;
        let mut command = Command::new("perf");
        command.args(["script", "--no-inline", "--fields", "ip,sym", "--input"]).arg(self.samples());
        let stacks = stacks(&run(&mut command)?);
        ensure!(!stacks.is_empty(), "perf has no samples: {}", self.log());
        Ok(stacks)
    }

    fn samples(&self) -> PathBuf {
        self.directory.path().join("samples")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.perf.kill().ok();
        self.perf.wait().ok();
    }
}

/// The stacks in what `perf script` prints: a line for each function, with its address first, and an empty one behind
/// each stack.
fn stacks(text: &str) -> Vec<Vec<String>> {
    let function = |line: &str| line.trim().split_once(' ').map(|(_, name)| name.trim().to_owned());
    let blocks = text.split("\n\n");
    blocks
        .map(|block| block.lines().filter_map(function).collect())
        .filter(|stack: &Vec<_>| !stack.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::stacks;

    #[test]
    fn a_stack_ends_at_an_empty_line() {
        let text = "\tffff81 fdget\n\t  10aae7 <a::B as c::D<e, f>>::g\n\n\n\t 42 main\n\n";
        assert_eq!(stacks(text), [vec!["fdget", "<a::B as c::D<e, f>>::g"], vec!["main"]]);
    }
}
