//! The answering side of the control socket.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    sync::{broadcast, mpsc, oneshot},
    task::JoinSet,
    time::timeout,
};

use super::{AlertLog, ReloadAnswer, ReloadRequest, Request, Trigger};
use crate::{alert::Record, metrics::Snapshot};

/// A request is one short word.
const REQUEST_MAX_BYTES: u64 = 64;
/// A client that neither asks nor reads for this long is let go.
const PATIENCE: Duration = Duration::from_secs(10);
/// Clients that are answered at a time; more wait.
const CLIENTS_MAX: usize = 8;

/// A question for the pipeline, and where its answer goes: JSON Lines, each without its line feed.
#[derive(Debug)]
pub enum Question {
    /// The live flows, part by part; the answer ends when its sender is dropped.
    Flows(mpsc::Sender<Vec<String>>),
    /// The monitor's own state.
    Snapshot(oneshot::Sender<Box<Snapshot>>),
}

/// Where the server takes what clients ask.
#[derive(Clone, Debug)]
pub struct Desk {
    /// To the pipeline.
    pub questions: mpsc::Sender<Question>,
    /// To whoever reloads.
    pub reloads: mpsc::Sender<ReloadRequest>,
    /// The last alerts.
    pub alerts: Arc<AlertLog>,
}

impl Desk {
    async fn ask(&self, request: Request) -> Vec<String> {
        match request {
            // These are answered part by part.
            Request::Flows | Request::FollowAlerts => Vec::new(),
            Request::Status => {
                let (sender, receiver) = oneshot::channel();
                let _ = self.questions.send(Question::Snapshot(sender)).await;
                receiver.await.ok().and_then(|snapshot| serde_json::to_string(&snapshot).ok()).into_iter().collect()
            }
            Request::Alerts => lines(&self.alerts.follow().0),
            Request::Reload => {
                let (sender, receiver) = oneshot::channel();
                let request = ReloadRequest { trigger: Trigger::Command, answer: Some(sender) };
                let _ = self.reloads.send(request).await;
                let stopping =
                    |_| ReloadAnswer::Refused { error: "the monitor stops".to_owned(), is_configuration: false };
                serde_json::to_string(&receiver.await.unwrap_or_else(stopping)).into_iter().collect()
            }
        }
    }
}

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

/// Makes a socket file with these permissions, and its folder if only that is missing. A socket file that nobody answers at
/// is replaced; where somebody answers, `None`; anything else that is there stays.
pub(crate) fn listen(path: &Path, mode: u32) -> io::Result<Option<UnixListener>> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    if fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket()) {
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Ok(None);
        }
        fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    Ok(Some(listener))
}

/// The listening socket. Its file goes away with it.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
}

impl Server {
    /// Makes the socket, for root alone.
    pub fn bind(path: &Path) -> Result<Self, ServerError> {
        match listen(path, 0o600) {
            Ok(Some(listener)) => Ok(Self { listener, path: path.to_owned() }),
            Ok(None) => Err(ServerError::Taken { path: path.to_owned() }),
            Err(source) => Err(ServerError::Bind { path: path.to_owned(), source }),
        }
    }

    /// Answers clients until the pipeline is gone, a few at a time: that is enough for people, and bounds what clients can
    /// ask of the pipeline. The tasks of clients end with this one.
    pub async fn serve(self, desk: Desk) {
        let mut clients = JoinSet::new();
        loop {
            while clients.len() >= CLIENTS_MAX {
                clients.join_next().await;
            }
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                // A client that is done is forgotten.
                Some(_) = clients.join_next() => continue,
            };
            let (stream, _) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "the control socket refused a client");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            if desk.questions.is_closed() {
                return;
            }
            let desk = desk.clone();
            clients.spawn(async move {
                match answer(stream, &desk).await {
                    Ok(()) => {}
                    Err(error) => tracing::debug!(%error, "a client of the control socket went away or was too slow"),
                }
            });
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be gone already, with its folder.
        let _ = fs::remove_file(&self.path);
    }
}

async fn answer(mut stream: UnixStream, desk: &Desk) -> io::Result<()> {
    let (reader, mut writer) = stream.split();
    let mut word = String::new();
    timeout(PATIENCE, BufReader::new(reader.take(REQUEST_MAX_BYTES)).read_line(&mut word)).await??;
    let lines = match Request::from_token(word.trim_end()) {
        Some(Request::FollowAlerts) => return follow(stream, &desk.alerts).await,
        Some(Request::Flows) => return flows(stream, &desk.questions).await,
        Some(request) => timeout(request.patience().unwrap_or(PATIENCE), desk.ask(request)).await?,
        None => {
            let known: Vec<_> = Request::ALL.into_iter().map(Request::as_token).collect();
            let error = format!("unknown request; this daemon knows: {}", known.join(", "));
            vec![serde_json::json!({ "error": error }).to_string()]
        }
    };
    let send = async {
        for line in lines {
            writer.write_all(line.as_bytes()).await?;
            writer.write_all(b"\n").await?;
        }
        writer.shutdown().await
    };
    timeout(PATIENCE, send).await?
}

/// Sends the open flows, of which there may be many, as fast as the client takes them.
async fn flows(mut stream: UnixStream, questions: &mpsc::Sender<Question>) -> io::Result<()> {
    let (sender, mut parts) = mpsc::channel(1);
    // A pipeline that stops answers nothing.
    let _ = questions.send(Question::Flows(sender)).await;
    while let Some(part) = timeout(PATIENCE, parts.recv()).await? {
        let mut text = part.join("\n");
        if !text.is_empty() {
            text.push('\n');
            timeout(PATIENCE, stream.write_all(text.as_bytes())).await??;
        }
    }
    stream.shutdown().await
}

/// Sends the alerts there are and each further one, until the client goes or takes none for a while.
async fn follow(mut stream: UnixStream, alerts: &AlertLog) -> io::Result<()> {
    let (reader, mut writer) = stream.split();
    let (last, mut news) = alerts.follow();
    let mut rest = reader.take(REQUEST_MAX_BYTES);
    let mut nothing = [0; 16];
    let mut next = lines(&last);
    loop {
        for line in std::mem::take(&mut next) {
            timeout(PATIENCE, writer.write_all(format!("{line}\n").as_bytes())).await??;
        }
        tokio::select! {
            alert = news.recv() => match alert {
                Ok(alert) => next = lines(&[alert]),
                Err(broadcast::error::RecvError::Lagged(count)) => {
                    let note = format!("{count} alerts were missed: they came faster than they were read");
                    next = vec![serde_json::json!({ "note": note }).to_string()];
                }
                Err(broadcast::error::RecvError::Closed) => return Ok(()),
            },
            // A client says nothing more, but it hangs up.
            read = rest.read(&mut nothing) => if read? == 0 { return Ok(()) },
        }
    }
}

/// A record serialises by construction; one that does not is left out.
fn lines(records: &[Arc<Record>]) -> Vec<String> {
    records.iter().filter_map(|record| serde_json::to_string(&**record).ok()).collect()
}
