//! The rows of the requirement matrix, and why some have no test.

use anyhow::{Result, bail};

/// The section about what this server may leave out.
const RELATED: u32 = 11;

/// The rows of that section that bind this server all the same: what an access network relies on.
const TAKEN_UP: [u32; 22] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 15, 17, 27, 28, 29, 30, 31, 32, 33, 34];

/// The matrix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Matrix {
    pub(super) rows: Vec<Row>,
    pub(super) reasons: Vec<Reason>,
}

/// Why a row has no test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reason {
    /// The row's id.
    pub(super) id: String,
    /// The words.
    pub(super) why: String,
}

/// A requirement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// Such as `S-13`.
    pub(super) id: String,
    /// The heading that it stands under, without the marks and without the RFC's sections.
    pub(super) section: String,
    /// How binding it is: the letters M, S, m, D and P, explained at the head of the matrix.
    pub(super) level: String,
    /// What arrives.
    pub(super) stimulus: String,
}

impl Row {
    /// Whether nothing excuses from a test: a MUST, a SHOULD or a definition in the sections about the protocol
    /// itself, and what the server takes up of the related RFCs.
    pub(super) fn is_binding(&self) -> bool {
        let number = self.section.split('.').next().and_then(|number| number.parse::<u32>().ok());
        match number {
            Some(RELATED) => TAKEN_UP.iter().any(|number| self.id == format!("E-{number}")),
            Some(number) => number < RELATED && self.level.contains(['M', 'S', 'D']),
            None => false,
        }
    }
}

/// Reads the tables of the matrix. A row is `| id | RFC section | level | stimulus | expected |`, and why one has no
/// test is `| id | reason |`.
///
/// # Errors
///
/// Another number of columns, a row without a heading above it, an id that occurs twice, and a reason for what is no
/// row.
pub(super) fn read(text: &str) -> Result<Matrix> {
    let Matrix { mut rows, mut reasons } = Matrix::default();
    let mut section = None;
    for (number, line) in (1..).zip(text.lines()) {
        if let Some(heading) = line.strip_prefix("## ") {
            section = Some(heading.split(" (").next().unwrap_or(heading).to_owned());
            continue;
        }
        let Some(cells) = line.strip_prefix('|') else { continue };
        let cells: Vec<_> = cells.trim_end().trim_end_matches('|').split('|').map(str::trim).collect();
        if cells[0] == "id" || cells[0].starts_with('-') {
            continue;
        }
        let [id, _rfc_section, level, stimulus, _expected] = cells[..] else {
            let [id, why] = cells[..] else { bail!("line {number} has {} columns", cells.len()) };
            if rows.iter().all(|row| row.id != id) {
                bail!("line {number} is about {id}, which is no row above it");
            }
            if reasons.iter().any(|reason: &Reason| reason.id == id) {
                bail!("line {number} is about {id} again");
            }
            reasons.push(Reason { id: id.to_owned(), why: why.to_owned() });
            continue;
        };
        let Some(section) = section.clone() else { bail!("line {number} has no heading above it") };
        if rows.iter().any(|row| row.id == id) {
            bail!("line {number} has the id {id} again");
        }
        rows.push(Row {
            id: id.to_owned(),
            section,
            level: level.split_whitespace().next().unwrap_or_default().to_owned(),
            stimulus: stimulus.to_owned(),
        });
    }
    Ok(Matrix { rows, reasons })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "# Matrix\n\n## 4. Solicit (18.3.1)\n| id | RFC section | lvl | stimulus | expected |\n\
                        |---|---|---|---|---|\n";

    #[test]
    fn rows_are_read_under_their_heading() {
        let text = format!("{HEAD}| S-1 | 18.3.1 | M | SOL, no RC | ADV |\n| S-2 | — | S/M | SOL | ADV |\n");
        let row = |id: &str, level: &str, stimulus: &str| Row {
            id: id.to_owned(),
            section: "4. Solicit".to_owned(),
            level: level.to_owned(),
            stimulus: stimulus.to_owned(),
        };
        let reason = "\n## Without a test\n| id | reason |\n|---|---|\n| S-2 | not offered |\n";
        let matrix = read(&(text + reason)).expect("well-formed");
        assert_eq!(matrix.rows, [row("S-1", "M", "SOL, no RC"), row("S-2", "S/M", "SOL")]);
        assert_eq!(matrix.reasons, [Reason { id: "S-2".to_owned(), why: "not offered".to_owned() }]);
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        let row = "| S-1 | 18.3.1 | M | SOL | ADV |";
        for (text, expected) in [
            (format!("{HEAD}| S-1 | M | SOL | ADV |\n"), "line 6 has 4 columns"),
            (format!("{HEAD}| S-1 | never |\n"), "line 6 is about S-1, which is no row above it"),
            (format!("{HEAD}{row}\n| S-1 | a |\n| S-1 | b |\n"), "line 8 is about S-1 again"),
            (format!("{HEAD}{row}\n{row}\n"), "line 7 has the id S-1 again"),
            (row.to_owned(), "line 1 has no heading above it"),
        ] {
            assert_eq!(read(&text).expect_err("a mistake").to_string(), expected);
        }
    }

    #[test]
    fn some_levels_and_sections_are_binding() {
        for (id, section, level, expected) in [
            ("T-1", "1. Transport", "M", true),
            ("Y-1", "10. Relay", "S/M", true),
            ("V-1", "2. Validation", "D", true),
            ("V-1", "2. Validation", "m", false),
            ("V-1", "2. Validation", "P", false),
            ("V-1", "2. Validation", "—", false),
            ("E-1", "11. Related RFCs", "D", true),
            ("E-5", "11. Related RFCs", "—", true),
            ("E-10", "11. Related RFCs", "S", false),
            ("E-16", "11. Related RFCs", "M", false),
            ("E-34", "11. Related RFCs", "P", true),
            ("S-1", "Preface", "M", false),
        ] {
            let [id, section, level] = [id, section, level].map(str::to_owned);
            let name = format!("{id} of {section}, {level}");
            let row = Row { id, section, level, stimulus: String::new() };
            assert_eq!(row.is_binding(), expected, "{name}");
        }
    }
}
