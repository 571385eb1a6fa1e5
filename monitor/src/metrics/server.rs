//! The HTTP side: `/metrics`, `/live`, `/ready`.

use std::{convert::Infallible, fs, io, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request, Response, StatusCode, body::Incoming, header, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::errno::Errno;
use prometheus_client::metrics::histogram::Histogram;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::timeout,
};

use super::{Config, DEFAULT_SOCKET_NAME, Listen, Snapshot, render};
use crate::{
    control::{self, Question},
    memory,
};

/// Clients served at a time; more wait.
const CLIENTS_MAX: usize = 16;
/// A client is let go after this long, whatever it does.
const CLIENT_PATIENCE: Duration = Duration::from_secs(30);
/// A loop that does not answer for this long is stuck.
const LOOP_PATIENCE: Duration = Duration::from_secs(5);

/// Why the endpoint cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// It cannot listen.
    #[error("cannot serve metrics at {listen}: {source}; set metrics.listen to another place")]
    Bind {
        /// Where.
        listen: Listen,
        /// Why.
        source: io::Error,
    },
}

/// The listening socket.
#[derive(Debug)]
pub struct Server {
    listener: Listener,
    listen: Listen,
}

#[derive(Debug)]
enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Server {
    /// Listens where `config` says, or at a socket beside the control socket where it says nothing; `None` where it says
    /// "off", and where that socket cannot be made, because nobody has asked for it: that is told. Needs a running runtime.
    pub async fn bind(config: &Config, control_socket: &Path) -> Result<Option<Self>, ServerError> {
        let beside_control = || Listen::Unix(control_socket.with_file_name(DEFAULT_SOCKET_NAME));
        let listen = config.listen.clone().unwrap_or_else(beside_control);
        let bound = match &listen {
            Listen::Tcp(address) => TcpListener::bind(address).await.map(Listener::Tcp),
            Listen::Unix(path) => bind_unix(path).map(Listener::Unix),
            Listen::Off => return Ok(None),
        };
        match bound {
            Ok(listener) => Ok(Some(Self { listener, listen })),
            Err(error) if config.listen.is_none() => {
                tracing::warn!(%error, place = %listen, "metrics are not served: set metrics.listen to another place, or to \"off\"");
                Ok(None)
            }
            Err(source) => Err(ServerError::Bind { listen, source }),
        }
    }

    /// Answers until it is aborted. The tasks of clients end with this one.
    pub async fn serve(self, questions: mpsc::Sender<Question>, alert_latency: Histogram) {
        let answers = Arc::new(Answers { questions, alert_latency });
        let mut clients = JoinSet::new();
        loop {
            while clients.len() >= CLIENTS_MAX {
                clients.join_next().await;
            }
            let accepted = match &self.listener {
                Listener::Tcp(listener) => listener.accept().await.map(|(stream, _)| {
                    clients.spawn(converse(stream, Arc::clone(&answers)));
                }),
                Listener::Unix(listener) => listener.accept().await.map(|(stream, _)| {
                    clients.spawn(converse(stream, Arc::clone(&answers)));
                }),
            };
            if let Err(error) = accepted {
                tracing::warn!(%error, "the metrics endpoint refused a client");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            while clients.try_join_next().is_some() {}
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Listen::Unix(path) = &self.listen {
            // It may be gone already.
            let _ = fs::remove_file(path);
        }
    }
}

fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    control::listen(path, 0o660)?.ok_or_else(|| Errno::EADDRINUSE.into())
}

async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin, answers: Arc<Answers>) {
    let service = service_fn(move |request| {
        let answers = Arc::clone(&answers);
        async move { Ok::<_, Infallible>(answers.answer(&request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(10))
        .serve_connection(TokioIo::new(stream), service);
    if let Ok(Err(error)) = timeout(CLIENT_PATIENCE, connection).await {
        tracing::debug!(%error, "a client of the metrics endpoint went away");
    }
}

struct Answers {
    questions: mpsc::Sender<Question>,
    alert_latency: Histogram,
}

impl Answers {
    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if request.method() != Method::GET {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered\n".to_owned());
        }
        let path = request.uri().path();
        if !["/metrics", "/live", "/ready"].contains(&path) {
            return text(StatusCode::NOT_FOUND, "there are /metrics, /live and /ready\n".to_owned());
        }
        let Some(snapshot) = self.snapshot().await else {
            return text(StatusCode::SERVICE_UNAVAILABLE, "the loop does not answer\n".to_owned());
        };
        let not_ready: Vec<_> = snapshot
            .outputs
            .iter()
            .filter(|output| !output.takes_records())
            .map(|output| output.output.as_str())
            .collect();
        match path {
            "/metrics" => text(StatusCode::OK, render::text(&snapshot, &self.alert_latency, memory::resident_bytes())),
            "/ready" if !not_ready.is_empty() => {
                let body = format!("these outputs take no records: {}\n", not_ready.join(", "));
                text(StatusCode::SERVICE_UNAVAILABLE, body)
            }
            _ => text(StatusCode::OK, "yes\n".to_owned()),
        }
    }

    async fn snapshot(&self) -> Option<Snapshot> {
        let ask = async {
            let (sender, receiver) = oneshot::channel();
            self.questions.send(Question::Snapshot(sender)).await.ok()?;
            receiver.await.ok()
        };
        timeout(LOOP_PATIENCE, ask).await.ok()?.map(|snapshot| *snapshot)
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let kind = header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
