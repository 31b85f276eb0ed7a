//! Asking a running daemon.

use std::{
    io::{self, BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::de::DeserializeOwned;

use super::{Query, Response};

/// How long the daemon may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The daemon cannot be reached.
    #[error("cannot reach dhcp6d at {path}: {source}; is it running, and may you open the socket?")]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The daemon's words make no sense: its version is another.
    #[error("cannot understand dhcp6d at {path}: {source}")]
    Gibberish {
        /// The socket.
        path: PathBuf,
        /// Where it makes no sense.
        source: serde_json::Error,
    },
    /// The daemon said no.
    #[error("{0}")]
    Refused(String),
}

/// Asks the daemon one question.
///
/// # Errors
///
/// [`ControlError`].
pub fn ask<T: DeserializeOwned>(socket: &Path, query: &Query) -> Result<T, ControlError> {
    let gibberish = |source| ControlError::Gibberish { path: socket.to_owned(), source };
    let exchange = || -> io::Result<String> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        writeln!(&stream, "{}", serde_json::to_string(query)?)?;
        let mut line = String::new();
        if BufReader::new(&stream).read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line)
    };
    let line = exchange().map_err(|source| ControlError::Unreachable { path: socket.to_owned(), source })?;
    match serde_json::from_str(&line).map_err(gibberish)? {
        Response::Ok(document) => serde_json::from_value(document).map_err(gibberish),
        Response::Refused(reason) => Err(ControlError::Refused(reason)),
    }
}
