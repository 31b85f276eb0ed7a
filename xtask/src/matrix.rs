//! `cargo xtask matrix`: which rows of the requirement matrix have a test, and why others have none.

mod rows;
mod scan;

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

use self::rows::{Matrix, Reason, Row};
use self::scan::Mention;
use crate::workspace::Workspace;

/// The matrix, in the checkout.
const MATRIX: &str = "dhcp6-userspace/docs/rfc-matrix.md";

/// Prints the rows without a test. With `strict`, a gap is a failure.
///
/// # Errors
///
/// When the matrix or a source cannot be read.
pub(crate) fn run(workspace: &Workspace, strict: bool) -> Result<ExitCode> {
    let coverage = Coverage::read(workspace)?;
    print!("{coverage}");
    Ok(if strict && coverage.has_gaps() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Prints the rows without a test.
///
/// # Errors
///
/// When the matrix or a source cannot be read, and where there is a gap.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    let coverage = Coverage::read(workspace)?;
    print!("{coverage}");
    if coverage.has_gaps() {
        bail!("the requirement matrix and the tests disagree; the rows are named above");
    }
    Ok(())
}

/// How many rows have a test, in one line.
///
/// # Errors
///
/// When the matrix or a source cannot be read.
pub(crate) fn summary(workspace: &Workspace) -> Result<String> {
    Ok(Coverage::read(workspace)?.summary())
}

/// The rows, and what the tests name.
struct Coverage {
    matrix: Matrix,
    mentions: Vec<Mention>,
    named: BTreeSet<String>,
}

impl Coverage {
    fn read(workspace: &Workspace) -> Result<Self> {
        let path = workspace.root.join(MATRIX);
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let matrix = rows::read(&text).with_context(|| format!("reading {}", path.display()))?;
        Ok(Self::new(matrix, scan::workspace(&workspace.root)?))
    }

    fn new(matrix: Matrix, mentions: Vec<Mention>) -> Self {
        let named = mentions.iter().map(|mention| mention.id.clone()).collect();
        Self { matrix, mentions, named }
    }

    fn has_test(&self, row: &Row) -> bool {
        self.named.contains(&row.id)
    }

    fn reason(&self, row: &Row) -> Option<&Reason> {
        self.matrix.reasons.iter().find(|reason| reason.id == row.id)
    }

    /// Rows that have neither a test nor what may stand for one.
    fn missing(&self) -> impl Iterator<Item = &Row> {
        let rows = self.matrix.rows.iter();
        rows.filter(|row| !self.has_test(row) && (row.is_binding() || self.reason(row).is_none()))
    }

    /// Reasons for having no test, of rows that may do without and of others.
    fn excused(&self, which: bool) -> impl Iterator<Item = &Reason> {
        let excused = |id: &str| {
            let row = self.matrix.rows.iter().find(|row| row.id == id);
            row.is_some_and(|row| !row.is_binding() && !self.has_test(row))
        };
        self.matrix.reasons.iter().filter(move |reason| excused(&reason.id) == which)
    }

    /// Mentions of rows that the matrix does not have.
    fn unknown(&self) -> impl Iterator<Item = &Mention> {
        self.mentions.iter().filter(|mention| self.matrix.rows.iter().all(|row| row.id != mention.id))
    }

    fn has_gaps(&self) -> bool {
        self.missing().next().is_some()
            || self.excused(false).next().is_some()
            || self.unknown().next().is_some()
    }

    /// Of the rows for which `which` says so: how many have a test, and how many there are.
    fn count(&self, which: impl Fn(&Row) -> bool) -> (usize, usize) {
        let rows = || self.matrix.rows.iter().filter(|row| which(row));
        (rows().filter(|row| self.has_test(row)).count(), rows().count())
    }

    fn summary(&self) -> String {
        let (covered, all) = self.count(|_| true);
        let (binding, of_those) = self.count(Row::is_binding);
        let excused = self.excused(true).count();
        format!(
            "requirement matrix: {covered} of {all} rows have a test, {binding} of the {of_those} that bind the \
             server; of {excused} the matrix says why they have none"
        )
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sections: Vec<&str> = self.matrix.rows.iter().map(|row| row.section.as_str()).collect();
        sections.dedup();
        writeln!(formatter, "with a test    rows  section")?;
        for section in sections {
            let (covered, all) = self.count(|row| row.section == section);
            writeln!(formatter, "{covered:>11} {all:>7}  {section}")?;
        }
        writeln!(formatter, "\nrows without a test, and why:")?;
        for Reason { id, why } in self.excused(true) {
            writeln!(formatter, "{id:<5} {why}")?;
        }
        for Row { id, stimulus, .. } in self.missing() {
            writeln!(
                formatter,
                "error: {id} demands a test, or a reason if it does not bind the server: {stimulus}"
            )?;
        }
        for Reason { id, why } in self.excused(false) {
            writeln!(formatter, "error: {id} has a test or needs one, and no such reason: {why}")?;
        }
        for Mention { id, file, line } in self.unknown() {
            let file = file.display();
            writeln!(formatter, "error: {file}:{line} names row {id}, which is not in {MATRIX}")?;
        }
        writeln!(formatter, "\n{}", self.summary())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str, section: &str, level: &str) -> Row {
        let [id, section, level] = [id, section, level].map(str::to_owned);
        Row { id, section, level, stimulus: "a message".to_owned() }
    }

    fn mention(id: &str) -> Mention {
        Mention { id: id.to_owned(), file: "tests/a.rs".into(), line: 7 }
    }

    fn reason(id: &str) -> Reason {
        Reason { id: id.to_owned(), why: "not offered".to_owned() }
    }

    fn coverage(reasons: &[&str], named: &[&str]) -> Coverage {
        let rows = vec![
            row("T-1", "1. Transport", "M"),
            row("T-2", "1. Transport", "P"),
            row("E-18", "11. Related", "M"),
        ];
        let reasons = reasons.iter().map(|id| reason(id)).collect();
        Coverage::new(Matrix { rows, reasons }, named.iter().map(|id| mention(id)).collect())
    }

    #[test]
    fn every_row_has_a_test_or_a_reason() {
        for (reasons, named, has_gaps) in [
            (&["E-18", "T-2"][..], &["T-1"][..], false),
            (&[], &["T-1", "T-2", "E-18"], false),
            (&["E-18"], &["T-1", "T-2", "T-2"], false),
            // One of each kind of gap.
            (&["E-18"], &["T-2"], true),
            (&["E-18"], &["T-1"], true),
            (&["E-18", "T-1"], &["T-2"], true),
            (&["E-18", "T-2"], &["T-1", "T-2"], true),
            (&["E-18", "T-2"], &["T-1", "Z-9"], true),
        ] {
            assert_eq!(coverage(reasons, named).has_gaps(), has_gaps, "{reasons:?}, {named:?}");
        }
    }

    #[test]
    fn covered_missing_and_unknown_rows_are_told_apart() {
        assert_eq!(
            coverage(&["E-18", "T-1"], &["T-1", "T-1", "Z-9"]).to_string(),
            "\
with a test    rows  section
          1       2  1. Transport
          0       1  11. Related

rows without a test, and why:
E-18  not offered
error: T-2 demands a test, or a reason if it does not bind the server: a message
error: T-1 has a test or needs one, and no such reason: not offered
error: tests/a.rs:7 names row Z-9, which is not in dhcp6-userspace/docs/rfc-matrix.md

requirement matrix: 1 of 3 rows have a test, 1 of the 1 that bind the server; of 1 the matrix says why they have none
"
        );
    }

    #[test]
    fn the_matrix_of_this_checkout_is_read() {
        let workspace = Workspace::find().expect("a checkout");
        let coverage = Coverage::read(&workspace).expect("a readable matrix");
        assert!(coverage.matrix.rows.len() > 200, "{}", coverage.matrix.rows.len());
        assert!(!coverage.named.is_empty());
    }
}
