//! What a fuzz target prints.

/// How much of the end of the output is kept, in lines: the panic, its backtrace and the input.
const TAIL: usize = 400;

/// What a run came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Output {
    /// How many inputs were tried.
    pub(super) executions: u64,
    /// How many of them in a second.
    pub(super) per_second: u64,
    /// How many places in the code were reached.
    pub(super) coverage: u64,
    /// The files of the inputs that break something.
    pub(super) findings: Vec<String>,
    lines: Vec<String>,
}

impl Output {
    /// Takes up a line. Those that count are
    ///
    /// ```text
    /// #4194304 pulse  cov: 182 ft: 741 corp: 96/2048b lim: 4096 exec/s: 190650 rss: 512Mb
    /// artifact_prefix='…'; Test unit written to …/crash-da39a3ee
    /// stat::number_of_executed_units: 4194304
    /// stat::average_exec_per_sec:     190650
    /// ```
    pub(super) fn read(&mut self, line: &str) {
        if let Some(number) = number_behind(line, "stat::number_of_executed_units:") {
            self.executions = number;
        } else if let Some(number) = number_behind(line, "stat::average_exec_per_sec:") {
            self.per_second = number;
        } else if let Some((_, file)) = line.split_once("Test unit written to ") {
            self.findings.push(file.trim().to_owned());
        } else if let Some(number) = number_behind(line, " cov:") {
            self.coverage = number;
            // Progress says nothing about a finding.
            return;
        }
        if self.lines.len() == TAIL {
            self.lines.remove(0);
        }
        self.lines.push(line.to_owned());
    }

    /// The end of the output, without the lines about progress.
    pub(super) fn tail(&self) -> String {
        self.lines.join("\n")
    }
}

/// The number behind a label.
fn number_behind(line: &str, label: &str) -> Option<u64> {
    let (_, behind) = line.split_once(label)?;
    behind.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Output {
        let mut output = Output::default();
        text.lines().for_each(|line| output.read(line));
        output
    }

    #[test]
    fn a_run_without_a_finding() {
        let output = read(
            "INFO: Seed: 1\n#2\tINITED cov: 12 ft: 13 corp: 1/1b exec/s: 0 rss: 41Mb\n\
             #4096\tpulse  cov: 182 ft: 741 corp: 96/2048b lim: 4096 exec/s: 190650 rss: 512Mb\n\
             stat::number_of_executed_units: 5000\nstat::average_exec_per_sec:     250\n",
        );
        assert_eq!((output.executions, output.per_second, output.coverage), (5000, 250, 182));
        assert!(output.findings.is_empty());
        assert!(!output.tail().contains("pulse"));
    }

    #[test]
    fn a_finding_is_a_file() {
        let output = read(
            "thread '<unnamed>' panicked at src/world.rs:1:1:\none owner\nstat::number_of_executed_units: 7\n\
             artifact_prefix='a/'; Test unit written to a/crash-0123\n",
        );
        assert_eq!((output.executions, &output.findings[..]), (7, &["a/crash-0123".to_owned()][..]));
        assert!(output.tail().starts_with("thread"));
    }

    #[test]
    fn the_end_of_long_output_is_kept() {
        let mut output = Output::default();
        (0..=TAIL).for_each(|number| output.read(&format!("line {number}")));
        assert_eq!(output.lines.len(), TAIL);
        assert!(output.tail().starts_with("line 1\n") && output.tail().ends_with(&format!("line {TAIL}")));
    }
}
