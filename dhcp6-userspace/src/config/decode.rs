//! From the text to the wire form, past every syntax error, wrong type and unknown key.

use std::{collections::HashSet, ops::Range};

use serde::Deserialize;
use toml::{
    Spanned,
    de::{DeArray, DeTable, DeValue, Deserializer},
};

use super::{errors::Report, file::File};

/// How many wrong types and unknown keys are reported of one file. Each costs a pass over the whole file.
const MAX_DECODE_ERRORS: usize = 100;
/// From which Jaro-Winkler similarity on an unknown key is taken for a misspelling of a known one, so that the
/// known one is not reported as missing as well.
const MISSPELLED: f64 = 0.85;

/// What could be decoded.
pub(super) struct Decoded {
    pub(super) file: File,
    pub(super) removed: Removed,
}

/// Keys that were in the text, but whose values were unusable and already reported.
#[derive(Default)]
pub(super) struct Removed(HashSet<(Range<usize>, String)>);

impl Removed {
    /// Whether `key` of the table at `table` was there; if so, its absence is no further mistake.
    pub(super) fn contains(&self, table: &Range<usize>, key: &str) -> bool {
        self.0.contains(&(table.clone(), key.to_owned()))
    }
}

/// The place of the file's top level, the table that has no header.
pub(super) const TOP_LEVEL: Range<usize> = 0..0;

/// Decodes `text`. Serde stops at the first mistake; so that all are reported in one go, the offending entry is
/// removed and the rest decoded again. `None` where there is nothing left to validate.
pub(super) fn decode(text: &str, report: &mut Report<'_>) -> Option<Decoded> {
    let (table, syntax_errors) = DeTable::parse_recoverable(text);
    for error in &syntax_errors {
        report.add(&error.span().unwrap_or(TOP_LEVEL), error.message());
    }
    if !syntax_errors.is_empty() {
        // What the parser made of the rest is a guess.
        return None;
    }

    let mut table = table.into_inner();
    let mut removed = Removed::default();
    for _ in 0..MAX_DECODE_ERRORS {
        let deserializer = Deserializer::from(Spanned::new(TOP_LEVEL, table.clone()));
        let error = match File::deserialize(deserializer) {
            Ok(file) => return Some(Decoded { file, removed }),
            Err(error) => error,
        };
        let span = error.span().unwrap_or(TOP_LEVEL);
        let Some(entry) = remove_from_table(&mut table, &Section::top(), &TOP_LEVEL, &span) else {
            report.add(&span, error.message());
            return None;
        };
        report.add(&span, describe(&entry, error.message(), &mut removed));
        removed.0.insert((entry.table, entry.key));
    }
    report.add(&(text.len()..text.len()), "too many mistakes; the rest of the file was not checked");
    None
}

/// An entry that was taken out of the document.
struct Entry {
    section: Section,
    /// The place of the table that held it.
    table: Range<usize>,
    key: String,
    is_table: bool,
}

/// A table by the header that an operator would write for it.
#[derive(Clone)]
struct Section {
    path: String,
    in_array: bool,
}

impl Section {
    fn top() -> Self {
        Self { path: String::new(), in_array: false }
    }

    fn child(&self, key: &str, in_array: bool) -> Self {
        let path = if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
        Self { path, in_array }
    }

    fn header(&self) -> String {
        if self.in_array { format!("[[{}]]", self.path) } else { format!("[{}]", self.path) }
    }

    /// `in [[link]]`
    fn place(&self) -> String {
        if self.path.is_empty() { "at the top level".to_owned() } else { format!("in {}", self.header()) }
    }
}

/// Removes the outermost entry whose key or value stands at `wanted`.
fn remove_from_table(
    table: &mut DeTable<'_>,
    section: &Section,
    table_span: &Range<usize>,
    wanted: &Range<usize>,
) -> Option<Entry> {
    let found = table.iter().find(|(key, value)| key.span() == *wanted || value.span() == *wanted);
    if let Some(key) = found.map(|(key, _)| key.get_ref().to_string()) {
        let value = table.remove(key.as_str())?;
        let is_table = value.get_ref().is_table();
        return Some(Entry { section: section.clone(), table: table_span.clone(), key, is_table });
    }

    for (key, value) in table.iter_mut() {
        let span = value.span();
        let entry = match value.get_mut() {
            DeValue::Table(inner) => {
                remove_from_table(inner, &section.child(key.get_ref(), false), &span, wanted)
            }
            DeValue::Array(array) => {
                if array.iter().any(|element| element.span() == *wanted) {
                    let elements = std::mem::replace(array, DeArray::new()).into_iter();
                    *array = elements.filter(|element| element.span() != *wanted).collect();
                    let key = key.get_ref().to_string();
                    let table = table_span.clone();
                    return Some(Entry { section: section.clone(), table, key, is_table: false });
                }
                let section = section.child(key.get_ref(), true);
                array.iter_mut().find_map(|element| {
                    let span = element.span();
                    match element.get_mut() {
                        DeValue::Table(inner) => remove_from_table(inner, &section, &span, wanted),
                        _ => None,
                    }
                })
            }
            _ => None,
        };
        if entry.is_some() {
            return entry;
        }
    }
    None
}

/// Says what is wrong with `entry` in the operator's terms.
fn describe(entry: &Entry, message: &str, removed: &mut Removed) -> String {
    let Entry { section, table, key, is_table } = entry;
    if let Some(known) = message.strip_prefix(&format!("unknown field `{key}`")) {
        let unknown = format!("unknown key `{key}` {}", section.place());
        // Serde lists the known keys in backquotes: every second piece between them is one.
        let nearest = known
            .split('`')
            .skip(1)
            .step_by(2)
            .map(|known| (known, strsim::jaro_winkler(key, known)))
            .max_by(|(_, one), (_, other)| one.total_cmp(other));
        let Some((nearest, similarity)) = nearest else { return unknown };
        if similarity >= MISSPELLED {
            removed.0.insert((table.clone(), nearest.to_owned()));
        }
        return format!("{unknown}; did you mean `{nearest}`?");
    }
    if *is_table && message.ends_with("expected a sequence") {
        return format!("`{key}` is written as {}, once for each", section.child(key, true).header());
    }
    let message =
        [("type: map", "type: table"), ("type: sequence", "type: array"), ("a sequence", "an array")]
            .iter()
            .fold(message.to_owned(), |message, (serde, toml)| message.replace(serde, toml));
    format!("`{key}` {}: {message}", section.place())
}
