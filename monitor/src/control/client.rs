//! The asking side of the control socket.

use std::{
    io::{self, BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use super::Request;

/// A daemon that takes nothing for this long is not listening.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No daemon listens there.
    #[error(
        "no daemon answers at {}: start one with `egresswatch run`, or name its socket with --socket",
        socket.display()
    )]
    NotRunning {
        /// The socket.
        socket: PathBuf,
    },
    /// The socket belongs to somebody else.
    #[error("{} may only be used by root: run this command with sudo", socket.display())]
    Forbidden {
        /// The socket.
        socket: PathBuf,
    },
    /// The connection broke.
    #[error("the daemon at {} stopped answering: {source}", socket.display())]
    Broken {
        /// The socket.
        socket: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl ClientError {
    fn new(socket: &Path, source: io::Error) -> Self {
        let socket = socket.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Self::NotRunning { socket },
            io::ErrorKind::PermissionDenied => Self::Forbidden { socket },
            _ => Self::Broken { socket, source },
        }
    }
}

/// Asks the daemon behind `socket` and returns its answer line by line as it arrives.
pub fn ask(
    socket: &Path,
    request: Request,
) -> Result<impl Iterator<Item = Result<String, ClientError>> + use<>, ClientError> {
    let connect = || -> io::Result<UnixStream> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(request.patience())?;
        stream.set_write_timeout(Some(SILENCE_MAX))?;
        writeln!(stream, "{}", request.as_token())?;
        Ok(stream)
    };
    let stream = connect().map_err(|source| ClientError::new(socket, source))?;
    let socket = socket.to_owned();
    Ok(BufReader::new(stream).lines().map(move |line| line.map_err(|source| ClientError::new(&socket, source))))
}
