//! What came out of the steps, as a table and as the last line.

use std::fmt;
use std::ops::AddAssign;
use std::time::{Duration, Instant};

use anyhow::Result;

/// Numbers of tests.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tally {
    /// Tests that passed.
    pub(super) passed: usize,
    /// Tests that failed.
    pub(super) failed: usize,
    /// Tests that were not run because they are marked `#[ignore]`, or because this machine cannot run them.
    pub(super) ignored: usize,
}

impl Tally {
    /// Reads the line with which each test program ends:
    /// `test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s`.
    pub(super) fn read(line: &str) -> Option<Self> {
        let (_verdict, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
        let count =
            |what: &str| counts.split("; ").find_map(|part| part.strip_suffix(what)?.trim_end().parse().ok());
        Some(Self { passed: count("passed")?, failed: count("failed")?, ignored: count("ignored")? })
    }

    fn is_empty(self) -> bool {
        self == Self::default()
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, Self { passed, failed, ignored }: Self) {
        self.passed += passed;
        self.failed += failed;
        self.ignored += ignored;
    }
}

/// One step and what came out of it.
struct Step {
    name: &'static str,
    passed: bool,
    took: Duration,
    tally: Tally,
}

/// The steps so far.
#[derive(Default)]
pub(super) struct Report {
    steps: Vec<Step>,
    notes: Vec<String>,
}

impl Report {
    /// Runs a step under a heading. `None` means that it failed, which has been shown.
    pub(super) fn step<T>(
        &mut self,
        name: &'static str,
        work: impl FnOnce(&mut Tally) -> Result<T>,
    ) -> Option<T> {
        println!("\n==== {name}");
        let start = Instant::now();
        let mut tally = Tally::default();
        let result = work(&mut tally);
        let took = start.elapsed();
        match &result {
            Ok(_) => println!("==== {name}: passed in {:.1} s", took.as_secs_f64()),
            Err(error) => {
                println!("{error:#}");
                println!("==== {name}: FAILED after {:.1} s", took.as_secs_f64());
            }
        }
        self.steps.push(Step { name, passed: result.is_ok(), took, tally });
        result.ok()
    }

    /// Adds a line that stands below the table.
    pub(super) fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    /// Whether no step failed.
    pub(super) fn passed(&self) -> bool {
        self.steps.iter().all(|step| step.passed)
    }

    /// All tests of all steps. A step that failed without a test to blame, such as a build, counts as one
    /// failure, so that a failed run never ends in "0 failed".
    fn total(&self) -> Tally {
        let mut total = Tally::default();
        for step in &self.steps {
            total += step.tally;
            if !step.passed && step.tally.failed == 0 {
                total.failed += 1;
            }
        }
        total
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = |step: &str, result: &str, seconds: &str, counts: [&str; 3]| {
            let [passed, failed, ignored] = counts;
            format!("{step:<20} {result:<6} {seconds:>8} {passed:>7} {failed:>7} {ignored:>8}")
        };
        writeln!(formatter, "\n{}", row("step", "result", "seconds", ["passed", "failed", "ignored"]))?;
        for step in &self.steps {
            let result = if step.passed { "passed" } else { "FAILED" };
            let seconds = format!("{:.1}", step.took.as_secs_f64());
            let Tally { passed, failed, ignored } = step.tally;
            let counts = if step.tally.is_empty() {
                Default::default()
            } else {
                [passed.to_string(), failed.to_string(), ignored.to_string()]
            };
            let line = row(step.name, result, &seconds, counts.each_ref().map(String::as_str));
            writeln!(formatter, "{}", line.trim_end())?;
        }
        if !self.notes.is_empty() {
            writeln!(formatter, "\n{}", self.notes.join("\n"))?;
        }
        let Tally { passed, failed, ignored } = self.total();
        write!(formatter, "\n{passed} passed, {failed} failed")?;
        if ignored > 0 {
            write!(formatter, ", {ignored} skipped")?;
        }
        writeln!(formatter)
    }
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    #[test]
    fn result_lines() {
        let tally = |passed, failed, ignored| Some(Tally { passed, failed, ignored });
        for (line, expected) in [
            (
                "test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s",
                tally(5, 0, 1),
            ),
            (
                "test result: FAILED. 12 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1s",
                tally(12, 3, 0),
            ),
            (
                "test result: \u{1b}[32mok\u{1b}(B\u{1b}[m. 7 passed; 0 failed; 0 ignored; 0 measured",
                tally(7, 0, 0),
            ),
            ("test reading::result ... ok", None),
            ("running 5 tests", None),
            ("test result: nonsense", None),
        ] {
            assert_eq!(Tally::read(line), expected, "{line}");
        }
    }

    fn last_line(report: &Report) -> String {
        report.to_string().lines().last().expect("never empty").to_owned()
    }

    #[test]
    fn the_last_line_is_the_sum() {
        let mut report = Report::default();
        for _ in 0..2 {
            let ran = report.step("unit tests", |tally| {
                *tally += Tally { passed: 5, failed: 0, ignored: 1 };
                Ok(())
            });
            assert!(ran.is_some());
        }
        assert!(report.passed());
        assert_eq!(last_line(&report), "10 passed, 0 failed, 2 skipped");
    }

    #[test]
    fn a_step_that_fails_without_a_test_counts_as_a_failure() {
        let mut report = Report::default();
        report.step("clippy", |_| Ok(()));
        let built: Option<()> = report.step("build", |_| bail!("no linker"));
        assert!(built.is_none());
        assert!(!report.passed());
        assert_eq!(last_line(&report), "0 passed, 1 failed");
    }

    #[test]
    fn a_failed_test_is_counted_once() {
        let mut report = Report::default();
        let _failed: Option<()> = report.step("unit tests", |tally| {
            *tally += Tally { passed: 4, failed: 2, ignored: 0 };
            bail!("cargo test failed")
        });
        assert_eq!(last_line(&report), "4 passed, 2 failed");
    }

    #[test]
    fn the_table_has_a_row_for_each_step() {
        let mut report = Report::default();
        report.steps.push(Step {
            name: "format",
            passed: true,
            took: Duration::from_millis(640),
            tally: Tally::default(),
        });
        report.steps.push(Step {
            name: "end-to-end tests",
            passed: false,
            took: Duration::from_secs(12),
            tally: Tally { passed: 3, failed: 1, ignored: 0 },
        });
        report.note("2 of 3 requirements have a test".to_owned());
        assert_eq!(
            report.to_string(),
            "
step                 result  seconds  passed  failed  ignored
format               passed      0.6
end-to-end tests     FAILED     12.0       3       1        0

2 of 3 requirements have a test

3 passed, 1 failed
"
        );
    }
}
