//! The answering side of the control socket.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::Request;

/// A request is one short word.
const REQUEST_MAX_BYTES: u64 = 64;
/// A client that neither asks nor reads for this long is let go.
const PATIENCE: Duration = Duration::from_secs(10);

/// A question for the pipeline, and where its answer goes: JSON Lines, each without its line feed.
pub type Question = (Request, oneshot::Sender<Vec<String>>);

/// Why the socket cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// It cannot be made.
    #[error("cannot make the control socket {}: {source}; set control.socket to a place that root can write", path.display())]
    Bind {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another daemon answers there.
    #[error("another daemon answers at {}: stop it, or set control.socket to another path", path.display())]
    Taken {
        /// Where.
        path: PathBuf,
    },
}

/// The listening socket. Its file goes away with it.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
}

impl Server {
    /// Makes the socket, and its folder if only that is missing. A socket file that nobody answers at is replaced.
    pub fn bind(path: &Path) -> Result<Self, ServerError> {
        let failed = |source| ServerError::Bind { path: path.to_owned(), source };
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        if fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket()) {
            if std::os::unix::net::UnixStream::connect(path).is_ok() {
                return Err(ServerError::Taken { path: path.to_owned() });
            }
            fs::remove_file(path).map_err(failed)?;
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
        Ok(Self { listener, path: path.to_owned() })
    }

    /// Answers one client after another until the pipeline is gone. One at a time is enough for people, and bounds what
    /// clients can ask of the pipeline.
    pub async fn serve(self, questions: mpsc::Sender<Question>) {
        loop {
            let (stream, _) = match self.listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "the control socket refused a client");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            if questions.is_closed() {
                return;
            }
            match timeout(PATIENCE, answer(stream, &questions)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "a client of the control socket went away"),
                Err(_) => tracing::debug!("a client of the control socket was too slow"),
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be gone already, with its folder.
        let _ = fs::remove_file(&self.path);
    }
}

async fn answer(mut stream: UnixStream, questions: &mpsc::Sender<Question>) -> io::Result<()> {
    let (reader, mut writer) = stream.split();
    let mut word = String::new();
    BufReader::new(reader.take(REQUEST_MAX_BYTES)).read_line(&mut word).await?;
    let Some(request) = Request::from_token(word.trim_end()) else {
        let known: Vec<_> = Request::ALL.into_iter().map(Request::as_token).collect();
        let answer =
            serde_json::json!({ "error": format!("unknown request; this daemon knows: {}", known.join(", ")) });
        return writer.write_all(format!("{answer}\n").as_bytes()).await;
    };
    let (sender, receiver) = oneshot::channel();
    if questions.send((request, sender)).await.is_err() {
        return Ok(());
    }
    for line in receiver.await.unwrap_or_default() {
        writer.write_all(line.as_bytes()).await?;
        writer.write_all(b"\n").await?;
    }
    writer.shutdown().await
}
