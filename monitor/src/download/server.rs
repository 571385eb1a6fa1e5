//! A server on loopback for tests: what it answers is up to each of them.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

/// What a server answers.
pub(crate) type Answer = Response<Full<Bytes>>;
/// What a server asks about each request.
type Handler = Arc<Mutex<dyn FnMut(&Request<Incoming>) -> Answer + Send>>;

/// An answer with this status, this header unless its name is empty, and this body.
pub(crate) fn answer(status: u16, (name, value): (&'static str, &str), body: &str) -> Answer {
    let mut answer = Response::builder().status(status);
    if !name.is_empty() {
        answer = answer.header(name, value);
    }
    answer.body(Full::new(Bytes::from(body.to_owned()))).expect("an answer")
}

/// A request's header; empty if it is not there.
pub(crate) fn header(request: &Request<Incoming>, name: &str) -> String {
    request.headers().get(name).map(|value| value.to_str().expect("text").to_owned()).unwrap_or_default()
}

/// Starts a server without TLS.
pub(crate) async fn serve(handler: impl FnMut(&Request<Incoming>) -> Answer + Send + 'static) -> SocketAddr {
    start(None, handler).await
}

/// Starts a server, with TLS if there is a certificate.
pub(crate) async fn start(
    certificate: Option<&rcgen::CertifiedKey<rcgen::KeyPair>>,
    handler: impl FnMut(&Request<Incoming>) -> Answer + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let handler: Handler = Arc::new(Mutex::new(handler));
    let acceptor = certificate.map(|certified| {
        let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).expect("a key");
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certified.cert.der().clone()], key)
            .expect("a certificate");
        TlsAcceptor::from(Arc::new(config))
    });
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (handler, acceptor) = (Arc::clone(&handler), acceptor.clone());
            tokio::spawn(async move {
                match acceptor {
                    None => talk(stream, handler).await,
                    // A client that refuses the certificate is what a test may want.
                    Some(acceptor) => {
                        if let Ok(stream) = acceptor.accept(stream).await {
                            talk(stream, handler).await;
                        }
                    }
                }
            });
        }
    });
    address
}

async fn talk(stream: impl AsyncRead + AsyncWrite + Unpin, handler: Handler) {
    let service = service_fn(move |request| {
        let answer = (handler.lock().unwrap_or_else(PoisonError::into_inner))(&request);
        async move { Ok::<_, Infallible>(answer) }
    });
    // A client may break off.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}
