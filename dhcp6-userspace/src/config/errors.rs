//! What is wrong with a configuration file and with those that it names, all of it at once.

use std::{fmt, ops::Range, path::Path};

/// How many mistakes are listed of each further file, which nobody may have written by hand.
const MAX_LISTED: usize = 100;

/// One mistake in a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file, as it was named to the loader.
    pub file: String,
    /// The line, counted from 1; `None` where the message is about the whole file.
    pub line: Option<usize>,
    /// What is wrong there, and what to write instead.
    pub message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.file, self.message),
            None => write!(f, "{}: {}", self.file, self.message),
        }
    }
}

impl std::error::Error for ConfigError {}

/// Every mistake in a configuration file and in those that it names, by file and line; at least one. Displays as one line of text for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    /// The mistakes in the order of the files.
    pub fn iter(&self) -> std::slice::Iter<'_, ConfigError> {
        self.0.iter()
    }

    /// The one error of a file that cannot be read.
    pub(super) fn unreadable(path: &Path, error: &std::io::Error) -> Self {
        Self(vec![ConfigError {
            file: path.display().to_string(),
            line: None,
            message: format!("the configuration cannot be read: {error}"),
        }])
    }
}

impl<'a> IntoIterator for &'a ConfigErrors {
    type Item = &'a ConfigError;
    type IntoIter = std::slice::Iter<'a, ConfigError>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// A place in the configuration. Ordered as in the files, the one with the text first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// An offset in the text.
    Offset(usize),
    /// A line of a file that the text names.
    Line {
        /// As [`Report::further_file`] has numbered it.
        file: usize,
        /// Counted from 1.
        line: usize,
    },
}

impl From<&Range<usize>> for Place {
    fn from(span: &Range<usize>) -> Self {
        Self::Offset(span.start)
    }
}

/// Collects the mistakes of a text, and of the files that it names, while they are decoded and validated.
pub(super) struct Report<'a> {
    file_name: &'a str,
    /// The offsets at which lines behind the first one begin.
    line_starts: Vec<usize>,
    further_files: Vec<FurtherFile>,
    mistakes: Vec<(Place, String)>,
}

struct FurtherFile {
    name: String,
    mistakes: usize,
}

impl<'a> Report<'a> {
    pub(super) fn new(file_name: &'a str, text: &'a str) -> Self {
        let line_starts =
            text.bytes().zip(1..).filter(|(octet, _)| *octet == b'\n').map(|(_, next)| next).collect();
        Self { file_name, line_starts, further_files: Vec::new(), mistakes: Vec::new() }
    }

    /// The directory that the text's relative paths start from.
    pub(super) fn directory(&self) -> &'a Path {
        Path::new(self.file_name).parent().unwrap_or(Path::new(""))
    }

    /// A number for a file that the text names.
    pub(super) fn further_file(&mut self, name: String) -> usize {
        self.further_files.push(FurtherFile { name, mistakes: 0 });
        self.further_files.len() - 1
    }

    /// Notes a mistake.
    pub(super) fn add(&mut self, place: impl Into<Place>, message: impl Into<String>) {
        let place = place.into();
        if let Place::Line { file, .. } = place {
            let file = &mut self.further_files[file];
            file.mistakes += 1;
            if file.mistakes > MAX_LISTED {
                return;
            }
        }
        self.mistakes.push((place, message.into()));
    }

    /// How many mistakes were noted so far.
    pub(super) fn mistakes(&self) -> usize {
        self.mistakes.len()
    }

    /// `other` for a message about a mistake at `here`: `line 5`, or `access0.csv:5` for one in another file.
    pub(super) fn refer(&self, here: impl Into<Place>, other: impl Into<Place>) -> String {
        let ((here, _), (file, line)) = (self.locate(here.into()), self.locate(other.into()));
        if file == here { format!("line {line}") } else { format!("{file}:{line}") }
    }

    /// File and line, counted from 1.
    fn locate(&self, place: Place) -> (&str, usize) {
        match place {
            Place::Offset(offset) => {
                (self.file_name, 1 + self.line_starts.partition_point(|start| *start <= offset))
            }
            Place::Line { file, line } => (&self.further_files[file].name, line),
        }
    }

    /// `value` where no mistake was noted.
    ///
    /// # Errors
    ///
    /// Every mistake that was noted.
    pub(super) fn finish<T>(mut self, value: Option<T>) -> Result<T, ConfigErrors> {
        if let Some(value) = value
            && self.mistakes.is_empty()
        {
            return Ok(value);
        }
        let mut mistakes = std::mem::take(&mut self.mistakes);
        mistakes.sort_by_key(|(place, _)| *place);
        let listed = mistakes.into_iter().map(|(place, message)| {
            let (file, line) = self.locate(place);
            ConfigError { file: file.to_owned(), line: Some(line), message }
        });
        let unlisted = self.further_files.iter().filter(|file| file.mistakes > MAX_LISTED);
        let unlisted = unlisted.map(|file| ConfigError {
            file: file.name.clone(),
            line: None,
            message: format!("{} more mistakes are not listed", file.mistakes - MAX_LISTED),
        });
        Err(ConfigErrors(listed.chain(unlisted).collect()))
    }
}
