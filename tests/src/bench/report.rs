//! What was measured: as tables, as JSON, and as plots.

use std::{fmt, fs, path::Path};

use anyhow::{Context as _, Result};
use comfy_table::{
    Table,
    presets::{ASCII_MARKDOWN, UTF8_FULL_CONDENSED},
};
use serde_json::{Value, json};

use super::{figure::Figure, machine::Machine, plot, stats::Sample};

/// What a quantity is to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// Said in words, and not judged here.
    Words(&'static str),
    /// So much or more, in the case that is named, or in all of them.
    AtLeast(f64, Option<&'static str>),
    /// So much or less, in the case that is named, or in all of them.
    AtMost(f64, Option<&'static str>),
}

impl Goal {
    /// The number, where there is one.
    pub(super) fn value(self) -> Option<f64> {
        match self {
            Self::Words(_) => None,
            Self::AtLeast(value, _) | Self::AtMost(value, _) => Some(value),
        }
    }

    fn json(self) -> Value {
        match self {
            Self::Words(words) => json!({ "words": words }),
            Self::AtLeast(value, case) => json!({ "at_least": value, "case": case }),
            Self::AtMost(value, case) => json!({ "at_most": value, "case": case }),
        }
    }

    /// Whether the median is as it is to be in every case that counts. `None` where nobody can tell.
    fn is_met(self, cases: &[(String, Sample)]) -> Option<bool> {
        let (Self::AtLeast(_, named) | Self::AtMost(_, named)) = self else { return None };
        let counts = |case: &str| named.is_none_or(|named| named == case);
        let mut medians = cases.iter().filter(|(case, _)| counts(case)).map(|(_, sample)| sample.median());
        let judge = |median: f64| match self {
            Self::AtLeast(least, _) => median >= least,
            Self::AtMost(most, _) => median <= most,
            Self::Words(_) => true,
        };
        medians.try_fold(None, |met, median| Some(Some(met.unwrap_or(true) && judge(median?)))).flatten()
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (bound, value, case) = match self {
            Self::Words(words) => return f.write_str(words),
            Self::AtLeast(value, case) => ("at least", value, case),
            Self::AtMost(value, case) => ("at most", value, case),
        };
        write!(f, "{bound} {value}")?;
        case.map_or(Ok(()), |case| write!(f, " ({case})"))
    }
}

/// One quantity, in one or several cases.
#[derive(Clone, Debug)]
pub struct Quantity {
    /// What it is.
    pub name: String,
    /// Its unit.
    pub unit: &'static str,
    /// What it is to be.
    pub goal: Option<Goal>,
    /// The values, by the name of the case.
    pub cases: Vec<(String, Sample)>,
}

impl Quantity {
    /// Whether it is as it is to be; `None` where there is no goal or nobody can tell.
    pub fn is_met(&self) -> Option<bool> {
        self.goal?.is_met(&self.cases)
    }

    /// The goal, and whether it is met.
    fn verdict(&self) -> String {
        let goal = self.goal.map(|goal| goal.to_string()).unwrap_or_default();
        match self.is_met() {
            Some(true) => format!("{goal}: met"),
            Some(false) => format!("{goal}: missed"),
            None => goal,
        }
    }
}

/// What one subject has measured.
#[derive(Clone, Debug, Default)]
pub struct Results {
    /// Name of the subject.
    pub subject: &'static str,
    /// What the numbers mean and how they were measured, a sentence each.
    pub notes: Vec<String>,
    /// The numbers.
    pub quantities: Vec<Quantity>,
}

impl Results {
    /// Nothing measured yet.
    pub fn new(subject: &'static str) -> Self {
        Self { subject, ..Self::default() }
    }

    /// Says something about the numbers, once.
    pub fn note(&mut self, note: impl Into<String>) {
        let note = note.into();
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// Adds the value of a run. Quantities and cases appear in the order of their first values.
    pub fn add(&mut self, name: &str, unit: &'static str, case: &str, value: f64) {
        let quantity = self.quantity(name, unit);
        let known = quantity.cases.iter().position(|(known, _)| known == case);
        let index = known.unwrap_or_else(|| {
            quantity.cases.push((case.to_owned(), Sample::default()));
            quantity.cases.len() - 1
        });
        quantity.cases[index].1.add(value);
    }

    /// Says in words what a quantity is to be.
    pub fn aim(&mut self, name: &str, unit: &'static str, goal: &'static str) {
        self.require(name, unit, Goal::Words(goal));
    }

    /// Says what a quantity is to be.
    pub fn require(&mut self, name: &str, unit: &'static str, goal: Goal) {
        self.quantity(name, unit).goal = Some(goal);
    }

    fn quantity(&mut self, name: &str, unit: &'static str) -> &mut Quantity {
        let known = self.quantities.iter().position(|known| known.name == name);
        let index = known.unwrap_or_else(|| {
            self.quantities.push(Quantity { name: name.to_owned(), unit, goal: None, cases: Vec::new() });
            self.quantities.len() - 1
        });
        &mut self.quantities[index]
    }

    /// Every case of every quantity, in the order in which they first appeared.
    fn cases(&self) -> Vec<&str> {
        let mut cases = Vec::new();
        for (case, _) in self.quantities.iter().flat_map(|quantity| &quantity.cases) {
            if !cases.contains(&case.as_str()) {
                cases.push(case);
            }
        }
        cases
    }

    fn json(&self) -> Value {
        let case = |(case, sample): &(String, Sample)| {
            let (min, max) = sample.range().unzip();
            json!({
                "case": case,
                "median": sample.median(),
                "min": min,
                "max": max,
                "quartiles": [sample.quantile(0.25), sample.quantile(0.75)],
                "values": sample.values(),
            })
        };
        let json = |quantity: &Quantity| {
            let Quantity { name, unit, goal, cases } = quantity;
            json!({
                "quantity": name,
                "unit": unit,
                "goal": goal.map(Goal::json),
                "met": quantity.is_met(),
                "cases": cases.iter().map(case).collect::<Vec<_>>(),
            })
        };
        json!({
            "subject": self.subject,
            "notes": self.notes,
            "results": self.quantities.iter().map(json).collect::<Vec<_>>(),
        })
    }
}

impl Results {
    /// A row for each quantity, a column for each case: the median, and the least and the greatest value.
    fn table(&self, style: Style) -> Table {
        let cases = self.cases();
        let mut table = Table::new();
        table.load_preset(match style {
            Style::Terminal => UTF8_FULL_CONDENSED,
            Style::Markdown => ASCII_MARKDOWN,
        });
        let has_goals = self.quantities.iter().any(|quantity| quantity.goal.is_some());
        let goal = has_goals.then_some("goal");
        table.set_header([self.subject].into_iter().chain(cases.iter().copied()).chain(goal));
        for quantity in &self.quantities {
            let Quantity { name, unit, cases: measured, .. } = quantity;
            let cell = |case: &&str| {
                let sample = measured.iter().find(|(known, _)| known == case);
                sample.map_or_else(String::new, |(_, sample)| cell(sample, style))
            };
            let goal = has_goals.then(|| quantity.verdict());
            let title = match style {
                Style::Terminal => format!("{name}\n[{unit}]"),
                Style::Markdown => format!("{name} [{unit}]"),
            };
            table.add_row([title].into_iter().chain(cases.iter().map(cell)).chain(goal));
        }
        table
    }
}

/// Where a table is shown.
#[derive(Clone, Copy)]
enum Style {
    Terminal,
    Markdown,
}

/// As a table for the terminal.
impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.table(Style::Terminal))?;
        self.notes.iter().try_for_each(|note| writeln!(f, "- {note}"))
    }
}

fn cell(sample: &Sample, style: Style) -> String {
    let Some((median, (least, greatest))) = sample.median().zip(sample.range()) else {
        return String::new();
    };
    let [median, least, greatest] = [median, least, greatest].map(number);
    match style {
        _ if sample.values().len() < 2 => median,
        Style::Terminal => format!("{median}\n{least} - {greatest}"),
        Style::Markdown => format!("{median} ({least} - {greatest})"),
    }
}

/// A number with three significant digits, or all in front of the point.
pub(super) fn number(value: f64) -> String {
    match value.abs() {
        magnitude if magnitude >= 99.95 => format!("{value:.0}"),
        magnitude if magnitude >= 9.995 => format!("{value:.1}"),
        magnitude if magnitude >= 0.9995 => format!("{value:.2}"),
        0.0 => "0".to_owned(),
        _ => format!("{value:.3}"),
    }
}

/// A whole run of the benchmark.
#[derive(Clone, Debug)]
pub struct Report {
    /// Where it ran.
    pub machine: Machine,
    /// How it was called.
    pub command: String,
    /// How often each thing was measured.
    pub runs: u32,
    /// What was measured.
    pub subjects: Vec<Results>,
}

impl Report {
    /// The report as one JSON document.
    pub fn json(&self) -> Value {
        json!({
            "command": self.command,
            "runs": self.runs,
            "machine": self.machine.json(),
            "subjects": self.subjects.iter().map(Results::json).collect::<Vec<_>>(),
        })
    }

    /// The report as Markdown, for a document.
    pub fn markdown(&self) -> String {
        let mut lines = self.headline();
        lines.push(String::new());
        lines.extend(self.verdicts().iter().map(|verdict| format!("- {verdict}")));
        for results in &self.subjects {
            lines.extend([String::new(), results.table(Style::Markdown).to_string(), String::new()]);
            lines.extend(results.notes.iter().map(|note| format!("- {note}")));
            lines.push(String::new());
            for figure in Figure::all(&results.quantities) {
                if let Some(file) = figure.file(results.subject) {
                    lines.push(format!("![{}: {}]({file})", results.subject, figure.name));
                }
            }
        }
        lines.push(String::new());
        lines.join("\n")
    }

    /// Every goal that can be judged, and whether it is met.
    fn verdicts(&self) -> Vec<String> {
        let of = |results: &Results| {
            let subject = results.subject;
            let judged = results.quantities.iter().filter(|quantity| quantity.is_met().is_some());
            judged
                .map(|quantity| {
                    format!("{subject}: {} [{}]: {}", quantity.name, quantity.unit, quantity.verdict())
                })
                .collect::<Vec<_>>()
        };
        self.subjects.iter().flat_map(of).collect()
    }

    /// What results depend on, and how they came about.
    fn headline(&self) -> Vec<String> {
        let mut lines = self.machine.lines();
        lines.push(format!("{}: median of {} runs, and the least and the greatest", self.command, self.runs));
        lines
    }

    /// Writes the tables as Markdown, the JSON, and the plots to a directory, which is made where it is not there.
    /// Quantities that differ in one thing share a plot.
    ///
    /// # Errors
    ///
    /// The file system's.
    pub fn save(&self, directory: &Path) -> Result<()> {
        fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
        let json = serde_json::to_string_pretty(&self.json())?;
        for (name, content) in [("bench.json", json), ("bench.md", self.markdown())] {
            let path = directory.join(name);
            fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
        }
        for results in &self.subjects {
            for figure in Figure::all(&results.quantities) {
                let Some(file) = figure.file(results.subject) else { continue };
                let path = directory.join(file);
                plot::draw(&path, results.subject, &figure)
                    .with_context(|| format!("cannot draw {}", path.display()))?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.headline().iter().try_for_each(|line| writeln!(f, "{line}"))?;
        self.subjects.iter().try_for_each(|results| write!(f, "\n{results}"))?;
        let verdicts = self.verdicts();
        if !verdicts.is_empty() {
            writeln!(f)?;
        }
        verdicts.iter().try_for_each(|verdict| writeln!(f, "{verdict}"))
    }
}

#[cfg(test)]
mod tests {
    use super::{Goal, Results, Style, number};

    #[test]
    fn values_of_a_case_come_together() {
        let mut results = Results::new("subject");
        for (case, value) in [("small", 1.0), ("large", 10.0), ("small", 3.0), ("large", 30.0)] {
            results.add("size", "B", case, value);
        }
        results.aim("size", "B", "15 at large");
        let json = results.json();
        assert_eq!(json["results"].as_array().map(Vec::len), Some(1));
        let cases = &json["results"][0]["cases"];
        assert_eq!((&cases[0]["case"], &cases[0]["median"]), (&"small".into(), &2.0.into()));
        assert_eq!((&cases[1]["min"], &cases[1]["max"]), (&10.0.into(), &30.0.into()));
        assert_eq!(cases[1]["values"].as_array().map(Vec::len), Some(2));
        let table = results.to_string();
        for part in ["size", "[B]", "20.0", "10.0 - 30.0", "15 at large"] {
            assert!(table.contains(part), "{part} in {table}");
        }
        let markdown = results.table(Style::Markdown).to_string();
        let row = "| size [B] | 2.00 (1.00 - 3.00) | 20.0 (10.0 - 30.0) | 15 at large |";
        assert!(markdown.lines().any(|line| line == row), "{markdown}");
    }

    #[test]
    fn goals_are_judged_by_the_median_of_the_cases_that_count() {
        let mut results = Results::new("subject");
        for (case, value) in [("ours", 1.0), ("ours", 4.0), ("ours", 5.0), ("theirs", 2.0)] {
            results.add("rate", "1/s", case, value);
        }
        for (goal, met, text) in [
            (Goal::AtLeast(4.0, Some("ours")), Some(true), "at least 4 (ours): met"),
            (Goal::AtLeast(4.1, Some("ours")), Some(false), "at least 4.1 (ours): missed"),
            (Goal::AtMost(4.0, None), Some(true), "at most 4: met"),
            (Goal::AtMost(3.0, None), Some(false), "at most 3: missed"),
            (Goal::AtMost(3.0, Some("nobody")), None, "at most 3 (nobody)"),
            (Goal::Words("fast"), None, "fast"),
        ] {
            results.require("rate", "1/s", goal);
            assert_eq!(results.quantities[0].is_met(), met, "{goal}");
            assert_eq!(results.quantities[0].verdict(), text);
        }
        results.require("missing", "1/s", Goal::AtLeast(1.0, None));
        assert_eq!(results.quantities[1].is_met(), None);
    }

    #[test]
    fn numbers_have_three_digits() {
        for (value, text) in [
            (0.0, "0"),
            (0.0123, "0.012"),
            (1.234, "1.23"),
            (0.9996, "1.00"),
            (9.5, "9.50"),
            (9.996, "10.0"),
            (99.5, "99.5"),
            (99.96, "100"),
            (123_456.7, "123457"),
            (-2.5, "-2.50"),
        ] {
            assert_eq!(number(value), text);
        }
    }
}
