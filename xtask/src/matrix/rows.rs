//! The rows of the requirement matrix.

use anyhow::{Result, bail};

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
    /// Whether a test is demanded: a MUST, a SHOULD or a definition, in the sections about the protocol itself.
    pub(super) fn demands_a_test(&self) -> bool {
        let number = self.section.split('.').next().and_then(|number| number.parse::<u32>().ok());
        number.is_some_and(|number| number <= 10) && self.level.contains(['M', 'S', 'D'])
    }
}

/// Reads the tables of the matrix, a row being `| id | RFC section | level | stimulus | expected |`.
///
/// # Errors
///
/// A row without five columns or without a heading above it, and an id that occurs twice.
pub(super) fn read(text: &str) -> Result<Vec<Row>> {
    let mut rows: Vec<Row> = Vec::new();
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
            bail!("line {number} has {} columns instead of 5", cells.len());
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
    Ok(rows)
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
        let rows = read(&text).expect("well-formed");
        assert_eq!(rows, [row("S-1", "M", "SOL, no RC"), row("S-2", "S/M", "SOL")]);
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        let row = "| S-1 | 18.3.1 | M | SOL | ADV |";
        for (text, expected) in [
            (format!("{HEAD}| S-1 | M | SOL | ADV |\n"), "line 6 has 4 columns instead of 5"),
            (format!("{HEAD}{row}\n{row}\n"), "line 7 has the id S-1 again"),
            (row.to_owned(), "line 1 has no heading above it"),
        ] {
            assert_eq!(read(&text).expect_err("a mistake").to_string(), expected);
        }
    }

    #[test]
    fn only_some_levels_and_sections_demand_a_test() {
        for (section, level, expected) in [
            ("1. Transport", "M", true),
            ("10. Relay", "S/M", true),
            ("2. Validation", "D", true),
            ("2. Validation", "m", false),
            ("2. Validation", "P", false),
            ("2. Validation", "—", false),
            ("11. Related RFCs", "M", false),
        ] {
            let row = Row {
                id: "S-1".to_owned(),
                section: section.to_owned(),
                level: level.to_owned(),
                stimulus: String::new(),
            };
            assert_eq!(row.demands_a_test(), expected, "{section}, {level}");
        }
    }
}
