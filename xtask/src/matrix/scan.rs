//! The rows that tests name: behind the words "matrix row", or as a string that holds nothing else.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The crates whose tests are about the server.
const CRATES: [&str; 4] = ["dhcp6-common", "dhcp6-ebpf", "dhcp6-userspace", "tests"];

/// What ids follow, where an `s` may stand in between. In lower case; it is found in any.
const WORDS: &str = "matrix row";

/// A row that a test names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mention {
    /// The row's id.
    pub(super) id: String,
    /// The file, from the top of the checkout.
    pub(super) file: PathBuf,
    /// The line of the words in front of the id.
    pub(super) line: usize,
}

/// Everything that the tests in a checkout name, in the order of the files.
///
/// # Errors
///
/// When a directory or file cannot be read.
pub(super) fn workspace(root: &Path) -> Result<Vec<Mention>> {
    let mut mentions = Vec::new();
    for name in CRATES {
        directory(root, Path::new(name), &mut mentions)?;
    }
    Ok(mentions)
}

fn directory(root: &Path, directory_name: &Path, mentions: &mut Vec<Mention>) -> Result<()> {
    let path = root.join(directory_name);
    // A workspace of its own: built directories are in it, and what fuzzing checks is checked by chance.
    if path.join("fuzz_targets").exists() {
        return Ok(());
    }
    let reading = || format!("reading {}", path.display());
    let mut names = fs::read_dir(&path)
        .and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect::<Result<Vec<_>, _>>())
        .with_context(reading)?;
    names.sort();
    for name in names {
        let file = directory_name.join(name);
        let full = root.join(&file);
        if full.is_dir() {
            directory(root, &file, mentions)?;
        } else if file.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&full).with_context(|| format!("reading {}", full.display()))?;
            let (first_line, tests) = tests_of(&file, &text);
            mentions.extend(ids(tests).into_iter().map(|(line, id)| Mention {
                id,
                file: file.clone(),
                line: first_line + line,
            }));
        }
    }
    Ok(())
}

/// The part of a source that is tests, and how many lines are above it: all of a file that is named for its tests,
/// or stands in a directory that is, else the module of tests at its foot.
fn tests_of<'a>(file: &Path, text: &'a str) -> (usize, &'a str) {
    let is_tests = |name: &str| name == "tests" || name.ends_with("_tests");
    let named = file.with_extension("");
    if named.iter().any(|part| part.to_str().is_some_and(is_tests)) {
        return (0, text);
    }
    let start = text.match_indices("#[cfg(test)]").map(|(start, _)| start).find(|start| {
        let module = text[*start..].lines().skip(1).find(|line| !line.trim_start().starts_with("#["));
        module.is_some_and(|line| line.contains("mod ") && line.trim_end().ends_with('{'))
    });
    let start = start.unwrap_or(text.len());
    (text[..start].matches('\n').count(), &text[start..])
}

/// The ids that a text names, each with its line, from 1.
fn ids(text: &str) -> Vec<(usize, String)> {
    let mut found = ids_behind_words(text);
    found.extend(ids_in_literals(text));
    // The order of the text; within a line, behind words before in literals.
    found.sort_by_key(|(line, _)| *line);
    found
}

/// The ids that follow the words.
fn ids_behind_words(text: &str) -> Vec<(usize, String)> {
    let lower = text.to_ascii_lowercase();
    let mut found = Vec::new();
    for (start, words) in lower.match_indices(WORDS) {
        let line = text[..start].matches('\n').count() + 1;
        let rest = &text[start + words.len()..];
        let mut rest = rest.strip_prefix('s').unwrap_or(rest);
        while let Some((id, behind)) = next_id(rest) {
            found.push((line, id.to_owned()));
            rest = behind;
        }
    }
    found
}

/// The ids of string literals that hold ids and nothing else: the column of a table of cases.
fn ids_in_literals(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        // What stands between two literals looks like one too, but does not consist of ids.
        for literal in line.split('"').skip(1) {
            let ids = || literal.split(' ').map(|id| id.strip_suffix(',').unwrap_or(id));
            if ids().all(|id| next_id(id).is_some_and(|(whole, _)| whole == id)) {
                found.extend(ids().map(|id| (number, id.to_owned())));
            }
        }
    }
    found
}

/// The id at the head of a text, behind what separates ids in a list: commas, `and`, and the end of a line with the
/// marks of a comment or of a string that goes on.
fn next_id(text: &str) -> Option<(&str, &str)> {
    let separator = |c: char| c.is_whitespace() || [',', '/', '\\', '`'].contains(&c);
    let text = text.trim_start_matches(separator);
    let text = text.strip_prefix("and").filter(|behind| behind.starts_with(separator)).unwrap_or(text);
    let text = text.trim_start_matches(separator);
    let number = text.strip_prefix(|c: char| c.is_ascii_uppercase())?.strip_prefix('-')?;
    let digits = number.bytes().take_while(u8::is_ascii_digit).count();
    (digits > 0).then(|| text.split_at(2 + digits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_found_behind_the_words() {
        for (text, expected) in [
            ("\"matrix row S-13\"", &["S-13"][..]),
            ("matrix rows L-1 and X-2: done", &["L-1", "X-2"]),
            ("matrix rows T-8, T-9 and T-10", &["T-8", "T-9", "T-10"]),
            ("matrix rows T-8, T-9, and T-10.", &["T-8", "T-9", "T-10"]),
            ("// Matrix row S-13: each pool", &["S-13"]),
            ("// matrix rows S-1,\n    // S-2 and\n    // S-3", &["S-1", "S-2", "S-3"]),
            ("\"matrix rows S-1, \\\n     S-2\"", &["S-1", "S-2"]),
            ("matrix row T-1, and matrix row T-2", &["T-1", "T-2"]),
            ("matrix row T-1. T-2 is another", &["T-1"]),
            ("matrix rows T-1 to T-3", &["T-1"]),
            ("matrix rows", &[]),
            ("matrix row t-1, T1, T-, -1", &[]),
            ("T-1", &[]),
        ] {
            let found: Vec<_> = ids(text).into_iter().map(|(_, id)| id).collect();
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn ids_are_found_in_literals_of_their_own() {
        for (text, expected) in [
            ("(\"T-8\", \"a unicast frame\")", &["T-8"][..]),
            ("rows: \"T-1 T-3 V-25\",", &["T-1", "T-3", "V-25"]),
            ("\"T-1, T-3\"", &["T-1", "T-3"]),
            ("\"\", \"T-8\"", &["T-8"]),
            ("\"T-8 and more\"", &[]),
            ("\"T-8x\"", &[]),
            ("\"/T-8\"", &[]),
            ("\"\"", &[]),
        ] {
            let found: Vec<_> = ids(text).into_iter().map(|(_, id)| id).collect();
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn the_line_is_that_of_the_words() {
        let text = "one\n// matrix row S-1\n\n// matrix rows S-2,\n// S-3";
        let lines: Vec<_> = ids(text).into_iter().map(|(line, _)| line).collect();
        assert_eq!(lines, [2, 4, 4]);
    }

    #[test]
    fn only_tests_count() {
        let text =
            "// code\n#[cfg(test)]\nmod tests;\n\n#[cfg(test)]\n#[path = \"a.rs\"]\nmod more {\n// tests\n}";
        for (file, expected) in [
            ("tests/tests/end_to_end.rs", (0, "// code")),
            ("dhcp6-userspace/src/engine/tests/model.rs", (0, "// code")),
            ("dhcp6-userspace/src/engine/tests.rs", (0, "// code")),
            ("dhcp6-userspace/src/lease/sqlite_tests.rs", (0, "// code")),
            ("dhcp6-userspace/src/engine/contests.rs", (4, "#[cfg(test)]")),
            ("dhcp6-common/src/wire/walker.rs", (4, "#[cfg(test)]")),
        ] {
            let (above, tests) = tests_of(Path::new(file), text);
            assert_eq!((above, tests.lines().next().unwrap_or_default()), expected, "{file}");
        }
        assert_eq!(tests_of(Path::new("src/main.rs"), "// code\n"), (1, ""));
    }
}
