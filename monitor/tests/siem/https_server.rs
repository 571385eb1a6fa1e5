//! A server over TLS that asks clients for a certificate, and answers as the receivers do that the outputs are for.

use std::{
    convert::Infallible,
    fs,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use hyper::{
    HeaderMap, Request, Response, body::Incoming, header::HeaderValue, server::conn::http1, server::conn::http2,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};
use serde_json::json;
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpListener, TcpStream},
    sync::oneshot,
};
use tokio_rustls::TlsAcceptor;

use crate::support::runtime;

/// A running server; it ends when this is dropped.
pub(crate) struct HttpsServer {
    /// Its port on 127.0.0.1.
    pub(crate) port: u16,
    seen: Seen,
    _stop: oneshot::Sender<()>,
}

/// Path and body of each request.
type Seen = Arc<Mutex<Vec<(String, Bytes)>>>;

impl HttpsServer {
    /// Starts it with `receiver.pem` and `receiver.key` of `folder`. Clients must have a certificate of its `ca.pem`.
    pub(crate) fn start(folder: &Path) -> Result<Self> {
        let acceptor = TlsAcceptor::from(Arc::new(settings(folder)?));
        let seen = Seen::default();
        let (stop, stopped) = oneshot::channel();
        let (tell_port, port) = std::sync::mpsc::channel();
        let runtime = runtime()?;
        let requests = Arc::clone(&seen);
        thread::spawn(move || {
            runtime.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await?;
                // The test waits for it.
                let _ = tell_port.send(listener.local_addr()?.port());
                tokio::select! {
                    _ = stopped => Ok(()),
                    ended = accept(&listener, &acceptor, &requests) => ended,
                }
            })
        });
        let port = port.recv().context("no port")?;
        Ok(Self { port, seen, _stop: stop })
    }

    /// The requests so far.
    pub(crate) fn seen(&self) -> Vec<(String, Bytes)> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn settings(folder: &Path) -> Result<ServerConfig> {
    let provider = Arc::new(ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&fs::read(folder.join("ca.pem"))?)?)?;
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build()?;
    let certificate = CertificateDer::from_pem_slice(&fs::read(folder.join("receiver.pem"))?)?;
    let key = PrivateKeyDer::from_pem_slice(&fs::read(folder.join("receiver.key"))?)?;
    let mut settings = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(clients)
        .with_single_cert(vec![certificate], key)?;
    settings.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(settings)
}

async fn accept(listener: &TcpListener, acceptor: &TlsAcceptor, seen: &Seen) -> std::io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        let (acceptor, seen) = (acceptor.clone(), Arc::clone(seen));
        tokio::spawn(async move { serve(stream, acceptor, seen).await });
    }
}

async fn serve(stream: TcpStream, acceptor: TlsAcceptor, seen: Seen) {
    let stream = match acceptor.accept(stream).into_fallible().await {
        Ok(stream) => stream,
        Err((_, mut stream)) => {
            // With something unread the kernel would reset the connection, and the client would not see TLS's alert.
            let _ = stream.read_to_end(&mut Vec::new()).await;
            return;
        }
    };
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let stream = TokioIo::new(stream);
    let service = service_fn(move |request| answer(request, Arc::clone(&seen)));
    // A client that breaks off is part of the test.
    if is_http2 {
        let _ = http2::Builder::new(TokioExecutor::new()).serve_connection(stream, service).await;
    } else {
        let _ = http1::Builder::new().serve_connection(stream, service).await;
    }
}

/// As the receiver answers that has this path.
async fn answer(
    request: Request<Incoming>,
    seen: Seen,
) -> Result<Response<BoxBody<Bytes, Infallible>>, Box<dyn std::error::Error + Send + Sync>> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await?.to_bytes();
    let full = |text: String| Full::new(Bytes::from(text)).boxed();
    let answer = Response::builder();
    let answer = match path.as_str() {
        // gRPC: an empty message, and the status behind it.
        "/opentelemetry.proto.collector.logs.v1.LogsService/Export" => {
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            let message = Full::new(Bytes::from_static(&[0; 5])).with_trailers(async { Some(Ok(trailers)) });
            answer.header("content-type", "application/grpc").body(message.boxed())?
        }
        "/v1/logs" => answer.header("content-type", "application/x-protobuf").body(full(String::new()))?,
        "/_bulk" => {
            let lines = body.split(|byte| *byte == b'\n').count();
            let items = vec![json!({"create": {"status": 201}}); lines / 2];
            answer.body(full(json!({"errors": false, "items": items}).to_string()))?
        }
        "/" => answer.body(full(json!({"version": {"number": "9.1.0"}}).to_string()))?,
        "/services/collector/event" if body.is_empty() => {
            answer.status(400).body(full(json!({"text": "No data", "code": 5}).to_string()))?
        }
        "/services/collector/event" => answer.body(full(json!({"text": "Success", "code": 0}).to_string()))?,
        "/loki/api/v1/push" => answer.status(204).body(full(String::new()))?,
        "/hook" => answer.body(full(String::new()))?,
        _ => answer.status(404).body(full(String::new()))?,
    };
    seen.lock().unwrap_or_else(PoisonError::into_inner).push((path, body));
    Ok(answer)
}
