//! The daemon's end of the control socket.

use std::{
    fs, io,
    os::unix::{fs::PermissionsExt as _, net::UnixStream as StdUnixStream},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    sync::{mpsc, oneshot},
};

use super::{Query, Response};

/// No query is longer than this, in octets.
const LONGEST_QUERY: u64 = 1 << 16;

/// A query on its way to the daemon.
#[derive(Debug)]
pub struct Question {
    /// What is asked.
    pub query: Query,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Response>,
}

/// Listens on the control socket until it is dropped; then the socket is removed.
#[derive(Debug)]
pub struct ControlServer {
    path: PathBuf,
    task: tokio::task::JoinHandle<()>,
    questions: mpsc::Receiver<Question>,
}

impl ControlServer {
    /// Creates the socket, open to its owner and group, and its directory where that is missing. The socket of a
    /// daemon that has died is replaced.
    ///
    /// # Errors
    ///
    /// `AddrInUse` where another daemon answers on it; otherwise the file system's.
    pub fn listen(path: &Path) -> io::Result<Self> {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        match StdUnixStream::connect(path) {
            Ok(_) => return Err(io::ErrorKind::AddrInUse.into()),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path)?,
            Err(_) => {}
        }
        let listener = UnixListener::bind(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
        let (sender, questions) = mpsc::channel(16);
        let task = tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => drop(tokio::spawn(converse(stream, sender.clone()))),
                    // Descriptors have run out, for one; it works again when some are closed.
                    Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
                }
            }
        });
        Ok(Self { path: path.to_owned(), task, questions })
    }

    /// The next question.
    pub async fn next(&mut self) -> Option<Question> {
        self.questions.recv().await
    }
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        self.task.abort();
        // Somebody else may have removed it, and the next daemon replaces it anyway.
        fs::remove_file(&self.path).ok();
    }
}

/// Answers what one client asks, line by line, until it hangs up.
async fn converse(stream: UnixStream, daemon: mpsc::Sender<Question>) {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read.take(LONGEST_QUERY)).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let response = match serde_json::from_str(&line) {
            Ok(query) => {
                let (answer, answered) = oneshot::channel();
                if daemon.send(Question { query, answer }).await.is_err() {
                    return;
                }
                answered.await.unwrap_or_else(|_| Response::Refused("the daemon is stopping".to_owned()))
            }
            Err(error) => Response::Refused(format!("not a query: {error}")),
        };
        let Ok(mut json) = serde_json::to_vec(&response) else { return };
        json.push(b'\n');
        if write.write_all(&json).await.is_err() {
            return;
        }
    }
}
