//! What is wrong with a configuration file, all of it at once.

use std::{fmt, ops::Range, path::Path};

/// One mistake in a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file, as it was named to the loader.
    pub file: String,
    /// The line, counted from 1; `None` where the file could not be read at all.
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

/// Every mistake in a configuration file, by line; at least one. Displays as one line of text for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    /// The mistakes in the order of the file.
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

/// Collects the mistakes of one file while it is decoded and validated.
pub(super) struct Report<'a> {
    file_name: &'a str,
    text: &'a str,
    /// Offset in the text, and message.
    mistakes: Vec<(usize, String)>,
}

impl<'a> Report<'a> {
    pub(super) fn new(file_name: &'a str, text: &'a str) -> Self {
        Self { file_name, text, mistakes: Vec::new() }
    }

    /// Notes a mistake at `span` of the text.
    pub(super) fn add(&mut self, span: &Range<usize>, message: impl Into<String>) {
        self.mistakes.push((span.start, message.into()));
    }

    /// The line of `span`, counted from 1, for a message that refers to another place.
    pub(super) fn line(&self, span: &Range<usize>) -> usize {
        line_at(self.text, span.start)
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
        self.mistakes.sort_by_key(|(offset, _)| *offset);
        let errors = self.mistakes.into_iter().map(|(offset, message)| ConfigError {
            file: self.file_name.to_owned(),
            line: Some(line_at(self.text, offset)),
            message,
        });
        Err(ConfigErrors(errors.collect()))
    }
}

fn line_at(text: &str, offset: usize) -> usize {
    let before = &text.as_bytes()[..offset.min(text.len())];
    before.split(|octet| *octet == b'\n').count()
}
