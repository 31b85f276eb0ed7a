//! Which quantities share a plot.

use super::report::Quantity;

/// What one plot shows.
#[derive(Debug)]
pub(super) struct Figure<'a> {
    /// What its quantities have in common.
    pub(super) name: String,
    /// How the quantities are shown together.
    pub(super) kind: Kind,
    /// The quantities, each with what tells it from the others.
    pub(super) parts: Vec<(&'a str, &'a Quantity)>,
}

/// How quantities are shown together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Side by side.
    Groups,
    /// One upon the other: parts of a whole.
    Stack,
    /// Not at all: the table says it. Ratios of one to thousands have no common scale.
    Table,
}

impl<'a> Figure<'a> {
    /// Every quantity in one figure. Those that share one have one unit.
    pub(super) fn all(quantities: &'a [Quantity]) -> Vec<Self> {
        let mut figures: Vec<Self> = Vec::new();
        for quantity in quantities {
            let (name, kind, part) = parts(&quantity.name);
            let fits = |figure: &&mut Self| {
                let unit = figure.parts.first().map(|(_, first)| first.unit);
                (figure.name.as_str(), figure.kind, unit) == (name.as_str(), kind, Some(quantity.unit))
            };
            match figures.iter_mut().find(fits) {
                Some(figure) => figure.parts.push((part, quantity)),
                None => figures.push(Self { name, kind, parts: vec![(part, quantity)] }),
            }
        }
        // What stands alone keeps its own name.
        for figure in &mut figures {
            if let [(part, quantity)] = figure.parts.as_mut_slice()
                && figure.kind == Kind::Groups
            {
                figure.name.clone_from(&quantity.name);
                *part = "";
            }
        }
        figures
    }

    /// The name of its file, where there is anything to draw.
    pub(super) fn file(&self, subject: &str) -> Option<String> {
        let has_values = self.parts.iter().any(|(_, quantity)| !quantity.cases.is_empty());
        (has_values && self.kind != Kind::Table).then(|| format!("{subject}-{}.svg", file_name(&self.name)))
    }
}

/// What the names of quantities begin with that belong together, and the name of their figure.
const PREFIXES: [(&str, &str, Kind); 5] = [
    ("stage: ", "stages of an exchange", Kind::Stack),
    ("exchanges a second: ", "exchanges a second", Kind::Groups),
    ("storm: ", "storm, time until all are served", Kind::Groups),
    ("memory: ", "memory", Kind::Groups),
    ("dhcp6d is faster by: ", "dhcp6d is faster by", Kind::Table),
];

/// The name of the figure that a quantity belongs in, and what it is there.
fn parts(name: &str) -> (String, Kind, &str) {
    for (prefix, common, kind) in PREFIXES {
        if let Some(part) = name.strip_prefix(prefix) {
            return (common.to_owned(), kind, part);
        }
    }
    let separated = |separator| name.rsplit_once(separator);
    let is_number = |text: &str| text.bytes().all(|octet| octet.is_ascii_digit());
    let is_quantile = |text: &str| ["p50", "p99", "max"].contains(&text);
    match (separated(", "), separated(": ")) {
        (Some((stem, part)), _) if part.strip_prefix("window ").is_some_and(is_number) => {
            (stem.to_owned(), Kind::Groups, part)
        }
        (Some((stem, part)), _) | (_, Some((stem, part))) if is_quantile(part) => {
            (format!("{stem}: latency"), Kind::Groups, part)
        }
        (_, Some((stem, part))) if part.strip_suffix(" % served").is_some_and(is_number) => {
            (format!("{stem}: time until served"), Kind::Groups, part)
        }
        _ => (name.to_owned(), Kind::Groups, ""),
    }
}

/// A name as a part of the name of a file: letters and digits, and hyphens for the rest.
fn file_name(name: &str) -> String {
    let words = name.split(|character: char| !character.is_ascii_alphanumeric());
    words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join("-").to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::{Figure, Kind, file_name};
    use crate::bench::report::Results;

    #[test]
    fn quantities_that_differ_in_one_thing_share_a_figure() {
        let mut results = Results::new("subject");
        for (name, unit) in [
            ("new, window 1", "1/s"),
            ("new, window 64", "1/s"),
            ("new, window 64: p50", "ms"),
            ("new, window 64: p99", "ms"),
            ("Solicit answered, p50", "us"),
            ("known, window 1", "1/s"),
            ("new: 50 % served", "s"),
            ("new: 100 % served", "s"),
            ("stage: engine", "us"),
            ("stage: send", "us"),
            ("dhcp6d is faster by: storm", "times"),
            ("dhcp6d is faster by: new, window 1", "times"),
            ("time", "s"),
        ] {
            results.add(name, unit, "ours", 1.0);
        }
        let figures = Figure::all(&results.quantities);
        let shown: Vec<_> = figures
            .iter()
            .map(|Figure { name, kind, parts }| {
                (name.as_str(), *kind, parts.iter().map(|(part, _)| *part).collect::<Vec<_>>())
            })
            .collect();
        let groups = Kind::Groups;
        let expected = [
            ("new", groups, vec!["window 1", "window 64"]),
            ("new, window 64: latency", groups, vec!["p50", "p99"]),
            ("Solicit answered, p50", groups, vec![""]),
            ("known, window 1", groups, vec![""]),
            ("new: time until served", groups, vec!["50 % served", "100 % served"]),
            ("stages of an exchange", Kind::Stack, vec!["engine", "send"]),
            ("dhcp6d is faster by", Kind::Table, vec!["storm", "new, window 1"]),
            ("time", groups, vec![""]),
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn files_are_named_without_surprises() {
        assert_eq!(file_name("first answer, cold (p99)"), "first-answer-cold-p99");
    }
}
