//! `cargo xtask matrix`: which rows of the requirement matrix have a test.

mod rows;
mod scan;

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::process::ExitCode;

use anyhow::{Context, Result};

use self::rows::Row;
use self::scan::Mention;
use crate::workspace::Workspace;

/// The matrix, in the checkout.
const MATRIX: &str = "dhcp6-userspace/docs/rfc-matrix.md";

/// Prints the rows without a test. With `strict`, one of a level and section that demand a test is a failure.
///
/// # Errors
///
/// When the matrix or a source cannot be read.
pub(crate) fn run(workspace: &Workspace, strict: bool) -> Result<ExitCode> {
    let coverage = Coverage::read(workspace)?;
    print!("{coverage}");
    let failed = strict && coverage.missing().any(Row::demands_a_test);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
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
    rows: Vec<Row>,
    mentions: Vec<Mention>,
    named: BTreeSet<String>,
}

impl Coverage {
    fn read(workspace: &Workspace) -> Result<Self> {
        let path = workspace.root.join(MATRIX);
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let rows = rows::read(&text).with_context(|| format!("reading {}", path.display()))?;
        Ok(Self::new(rows, scan::workspace(&workspace.root)?))
    }

    fn new(rows: Vec<Row>, mentions: Vec<Mention>) -> Self {
        let named = mentions.iter().map(|mention| mention.id.clone()).collect();
        Self { rows, mentions, named }
    }

    fn has_test(&self, row: &Row) -> bool {
        self.named.contains(&row.id)
    }

    fn missing(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| !self.has_test(row))
    }

    /// Mentions of rows that the matrix does not have.
    fn unknown(&self) -> impl Iterator<Item = &Mention> {
        self.mentions.iter().filter(|mention| self.rows.iter().all(|row| row.id != mention.id))
    }

    /// Of the rows for which `which` says so: how many have a test, and how many there are.
    fn count(&self, which: impl Fn(&Row) -> bool) -> (usize, usize) {
        let rows = || self.rows.iter().filter(|row| which(row));
        (rows().filter(|row| self.has_test(row)).count(), rows().count())
    }

    fn summary(&self) -> String {
        let (covered, all) = self.count(|_| true);
        let (demanded, of_those) = self.count(Row::demands_a_test);
        format!(
            "requirement matrix: {covered} of {all} rows have a test, {demanded} of the {of_those} that demand one"
        )
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sections: Vec<&str> = self.rows.iter().map(|row| row.section.as_str()).collect();
        sections.dedup();
        writeln!(formatter, "with a test    rows  section")?;
        for section in sections {
            let (covered, all) = self.count(|row| row.section == section);
            writeln!(formatter, "{covered:>11} {all:>7}  {section}")?;
        }
        writeln!(formatter, "\nrows without a test (* demands one):")?;
        for row in self.missing() {
            let mark = if row.demands_a_test() { '*' } else { ' ' };
            writeln!(formatter, "{mark} {:<5} {}", row.id, row.stimulus)?;
        }
        for Mention { id, file, line } in self.unknown() {
            let file = file.display();
            writeln!(formatter, "warning: {file}:{line} names row {id}, which is not in {MATRIX}")?;
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

    #[test]
    fn covered_missing_and_unknown_rows_are_told_apart() {
        let rows = vec![
            row("T-1", "1. Transport", "M"),
            row("T-2", "1. Transport", "D"),
            row("E-1", "11. Related", "M"),
        ];
        let coverage = Coverage::new(rows, vec![mention("T-2"), mention("T-2"), mention("Z-9")]);
        assert_eq!(
            coverage.to_string(),
            "\
with a test    rows  section
          1       2  1. Transport
          0       1  11. Related

rows without a test (* demands one):
* T-1   a message
  E-1   a message
warning: tests/a.rs:7 names row Z-9, which is not in dhcp6-userspace/docs/rfc-matrix.md

requirement matrix: 1 of 3 rows have a test, 1 of the 2 that demand one
"
        );
    }

    #[test]
    fn the_matrix_of_this_checkout_is_read() {
        let workspace = Workspace::find().expect("a checkout");
        let coverage = Coverage::read(&workspace).expect("a readable matrix");
        assert!(coverage.rows.len() > 200, "{}", coverage.rows.len());
        assert!(!coverage.named.is_empty());
    }
}
