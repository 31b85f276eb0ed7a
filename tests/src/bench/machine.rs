//! The machine that measures.

use std::{fs, path::Path, thread, time::SystemTime};

use nix::sys::utsname::uname;
use serde_json::{Value, json};

/// What results depend on, as far as this machine tells it.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Model of the processor.
    pub processor: String,
    /// Processors that may be used.
    pub processors: usize,
    /// In octets.
    pub memory: u64,
    /// Name and version of the kernel, and when it was built.
    pub kernel: String,
    /// What decides on the processor's frequency; `None` where the machine does not say, as a virtual one.
    pub governor: Option<String>,
    /// Whether a hypervisor runs it.
    pub is_virtual: bool,
    /// File system that temporary files are on, the lease databases among them.
    pub file_system: String,
    /// How busy the machine was in the minute before: its load average.
    pub load: f64,
    /// When it was measured.
    pub at: SystemTime,
}

impl Machine {
    /// This machine, now.
    pub fn here() -> Self {
        let cpuinfo = read("/proc/cpuinfo");
        let line = |key: &str| {
            cpuinfo.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                (name.trim() == key).then(|| value.trim().to_owned())
            })
        };
        let memory = read("/proc/meminfo").lines().find_map(|line| {
            line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
        });
        let kernel = uname().map_or_else(
            |_| "unknown".to_owned(),
            |name| {
                [name.sysname(), name.release(), name.version(), name.machine()]
                    .map(|part| part.to_string_lossy().into_owned())
                    .join(" ")
            },
        );
        let governor = read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
        Self {
            processor: line("model name").unwrap_or_else(|| "unknown".to_owned()),
            processors: thread::available_parallelism().map_or(1, Into::into),
            memory: memory.unwrap_or_default() * 1024,
            kernel,
            governor: Some(governor.trim().to_owned()).filter(|governor| !governor.is_empty()),
            is_virtual: line("flags")
                .is_some_and(|flags| flags.split_whitespace().any(|flag| flag == "hypervisor")),
            file_system: file_system(&std::env::temp_dir()),
            load: read("/proc/loadavg")
                .split(' ')
                .next()
                .and_then(|load| load.parse().ok())
                .unwrap_or_default(),
            at: SystemTime::now(),
        }
    }

    /// What results depend on, a line each.
    pub fn lines(&self) -> Vec<String> {
        let kind = if self.is_virtual { " (virtual machine)" } else { "" };
        let governor = self.governor.as_deref().unwrap_or("not told");
        #[expect(clippy::cast_precision_loss, reason = "for people")]
        let gibibytes = self.memory as f64 / f64::from(1 << 30);
        vec![
            format!("{} x {}{kind}, {gibibytes:.1} GiB of memory", self.processors, self.processor),
            format!("{}, frequency governor: {governor}", self.kernel),
            format!("lease databases on {}", self.file_system),
            format!(
                "begun on {} with a load average of {:.1}",
                humantime::format_rfc3339_seconds(self.at),
                self.load
            ),
        ]
    }

    /// The same for programs.
    pub fn json(&self) -> Value {
        json!({
            "processor": self.processor,
            "processors": self.processors,
            "memory_bytes": self.memory,
            "kernel": self.kernel,
            "governor": self.governor,
            "virtual": self.is_virtual,
            "file_system": self.file_system,
            "load_average_before": self.load,
            "at": humantime::format_rfc3339_seconds(self.at).to_string(),
        })
    }
}

/// The kind of file system of a directory: that of the longest mount point above it.
fn file_system(directory: &Path) -> String {
    let mounts = read("/proc/self/mounts");
    let kinds = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (point, kind) = (fields.next()?, fields.next()?);
        directory.starts_with(point).then_some((point.len(), kind))
    });
    kinds.max().map_or_else(|| "an unknown file system".to_owned(), |(_, kind)| kind.to_owned())
}

/// The content of a file; nothing where it cannot be read.
fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}
