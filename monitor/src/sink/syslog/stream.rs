//! A connection that carries messages one after the other: TCP, TLS, or a Unix stream socket.

use std::{io, path::Path};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::sink::tls::{TlsClient, TlsError, advice};

/// One open connection.
pub(super) enum Connection {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Unix(UnixStream),
}

/// Why there is no connection, or why it cannot be used any longer.
#[derive(Debug, thiserror::Error)]
pub(super) enum StreamError {
    #[error("cannot connect: {error}{}", advice(error).map(|advice| format!(" ({advice})")).unwrap_or_default())]
    Connect { error: io::Error },
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("no TLS: {error}{}", advice(error).map(|advice| format!(" ({advice})")).unwrap_or_default())]
    Handshake { error: io::Error },
    #[error("the connection broke off: {error}{}", advice(error).map(|advice| format!(" ({advice})")).unwrap_or_default())]
    Broken { error: io::Error },
    #[error("the receiver closed the connection before everything was sent")]
    ClosedEarly,
    #[error("the receiver ended the connection without TLS's close_notify, so that it is unknown what it has read")]
    NoCloseNotify,
    #[error(
        "the receiver ended another connection as well, as one that was killed, so that it is unknown what it has read"
    )]
    Gone,
}

impl Connection {
    pub(super) async fn tcp(address: &str) -> Result<Self, StreamError> {
        Ok(Self::Tcp(connect_tcp(address).await?))
    }

    pub(super) async fn tls(address: &str, host: &str, client: &mut TlsClient) -> Result<Self, StreamError> {
        let (settings, name) = (client.current()?, client.server_name(host)?);
        let stream = connect_tcp(address).await?;
        let stream = TlsConnector::from(settings).connect(name, stream).await;
        Ok(Self::Tls(Box::new(stream.map_err(|error| StreamError::Handshake { error })?)))
    }

    pub(super) async fn unix(path: &Path) -> Result<Self, StreamError> {
        Ok(Self::Unix(UnixStream::connect(path).await.map_err(|error| StreamError::Connect { error })?))
    }

    /// Writes all of `bytes`. What the receiver said meanwhile, such as a TLS alert, explains a failure.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<(), StreamError> {
        match self {
            Self::Tcp(stream) => write(stream, bytes).await,
            Self::Tls(stream) => write(stream, bytes).await,
            Self::Unix(stream) => write(stream, bytes).await,
        }
    }

    /// Fails if the receiver has ended the connection. Looks at what is there and does not wait.
    pub(super) async fn check(&mut self) -> Result<(), StreamError> {
        let mut buffer = [0_u8; 1_024];
        let read = async {
            match self {
                Self::Tcp(stream) => stream.read(&mut buffer).await,
                Self::Tls(stream) => stream.read(&mut buffer).await,
                Self::Unix(stream) => stream.read(&mut buffer).await,
            }
        };
        tokio::select! {
            biased;
            read = read => match read {
                Ok(0) => Err(StreamError::ClosedEarly),
                // A receiver of syslog has nothing to say.
                Ok(_) => Ok(()),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(StreamError::ClosedEarly),
                Err(error) => Err(StreamError::Broken { error }),
            },
            () = std::future::ready(()) => Ok(()),
        }
    }

    /// Ends the sending side and waits for the receiver to end its own, which it does once it has read everything.
    pub(super) async fn close(self) -> Result<(), StreamError> {
        match self {
            Self::Tcp(stream) => close(stream).await,
            Self::Tls(stream) => close(*stream).await,
            Self::Unix(stream) => close(stream).await,
        }
    }
}

async fn connect_tcp(address: &str) -> Result<TcpStream, StreamError> {
    TcpStream::connect(address).await.map_err(|error| StreamError::Connect { error })
}

async fn write<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, bytes: &[u8]) -> Result<(), StreamError> {
    let written = async {
        stream.write_all(bytes).await?;
        stream.flush().await
    };
    let Err(error) = written.await else { return Ok(()) };
    let mut buffer = [0_u8; 1_024];
    match stream.read(&mut buffer).await {
        Err(said) if advice(&said).is_some() => Err(StreamError::Broken { error: said }),
        _ => Err(StreamError::Broken { error }),
    }
}

async fn close<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) -> Result<(), StreamError> {
    let shut = stream.shutdown().await;
    let mut buffer = [0_u8; 1_024];
    loop {
        match stream.read(&mut buffer).await {
            Ok(0) => break,
            Ok(_) => {}
            // Of a process that is killed, the kernel ends the connection as well, but cannot say so in TLS.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(StreamError::NoCloseNotify),
            Err(error) => return Err(StreamError::Broken { error }),
        }
    }
    shut.map_err(|error| StreamError::Broken { error })
}
