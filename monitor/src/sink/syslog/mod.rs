//! Syslog by RFC 5424: over a Unix socket, UDP (RFC 5426), TCP (RFC 6587) and TLS (RFC 5425).
//!
//! Syslog has no acknowledgement. Over a stream, what stands for one is the end of the connection: after a batch the
//! sending side is closed, and a receiver that then closes its own has read everything. Of a receiver that was killed
//! the kernel closes all connections: over TLS the `close_notify` is missing, and otherwise another connection, opened
//! before and used for the next batch, ends as well. A new one would not tell, if the receiver is soon started again.

mod message;
mod stream;

use std::{
    io,
    path::{Path, PathBuf},
    time,
};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use tokio::net::{UdpSocket, UnixDatagram};

use self::{
    message::{Writer, frame},
    stream::{Connection, StreamError},
};
use super::{
    delivery::{Delivered, Delivery, Failure, Item, Refused},
    tls::{TlsClient, TlsConfig, TlsError, advice},
};
use crate::units::{ByteSize, Duration};

/// Most bytes that a UDP datagram over IPv4 carries.
const UDP_MAX_BYTES: usize = 65_507;

/// Settings of an output of type `syslog`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SyslogConfig {
    /// How to reach the receiver: "unix" (a datagram socket), `"unix_stream"`, "udp", "tcp", or "tls".
    pub transport: Transport,
    /// Host and port of the receiver, for "udp", "tcp" and "tls".
    #[serde(deserialize_with = "host_and_port", skip_serializing_if = "Option::is_none")]
    #[schemars(example = "siem.example.com:6514")]
    pub address: Option<String>,
    /// Socket of the receiver, for "unix" and `"unix_stream"`.
    pub socket: PathBuf,
    /// Authorities, certificate and key, for "tls".
    pub tls: TlsConfig,
    /// When a batch over a stream counts as delivered. "close": when the receiver has closed the connection after it, and
    /// so has read everything; each batch has a connection of its own. "write": when this host's kernel has taken it; one
    /// connection is kept, and what was under way when it breaks is lost. Datagrams always count when written.
    pub confirm: Confirm,
    /// How a message ends in a stream: `"octet_counting"` (RFC 6587, 3.4.1; the default over TCP and TLS) or "newline"
    /// (3.4.2; the default over `"unix_stream"`).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = &"octet_counting")]
    pub framing: Option<Framing>,
    /// Facility: "kern", "user", "daemon", "auth", "authpriv", or "local0" to "local7".
    pub facility: Facility,
    /// Name of this host in messages. The kernel's name of the host if unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(example = "web-1.example.com")]
    pub hostname: Option<String>,
    /// Name of the program in messages.
    pub app_name: String,
    /// Private enterprise number behind the `@` of the structured data's name. The default is the one that RFC 5612 keeps
    /// for examples: it is nobody's, so it takes no vendor's place. Write your organisation's own if the receiver cares.
    pub enterprise_number: u32,
    /// Largest message. A larger one is refused and not cut, because half a record cannot be read; it is kept in the
    /// output's dead-letter file. Set the receiver's own limit at least as high (rsyslog's is 8 KiB by default).
    #[schemars(with = "String")]
    pub max_message_bytes: ByteSize,
    /// Longest time for a batch, from connecting to its confirmation.
    #[schemars(with = "String")]
    pub timeout: Duration,
}

impl Default for SyslogConfig {
    fn default() -> Self {
        Self {
            transport: Transport::Unix,
            address: None,
            socket: PathBuf::from("/dev/log"),
            tls: TlsConfig::default(),
            confirm: Confirm::Close,
            framing: None,
            facility: Facility::Local0,
            hostname: None,
            app_name: "egresswatch".to_owned(),
            enterprise_number: 32_473,
            max_message_bytes: ByteSize::from_bytes(64 << 10),
            timeout: Duration::from_secs(30),
        }
    }
}

/// How to reach a receiver of syslog.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// Unix datagram socket.
    Unix,
    /// Unix stream socket.
    UnixStream,
    /// UDP.
    Udp,
    /// TCP.
    Tcp,
    /// TLS over TCP.
    Tls,
}

/// When a batch over a stream counts as delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Confirm {
    /// When the receiver has closed the connection.
    Close,
    /// When it is written.
    Write,
}

/// How a message ends in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Framing {
    /// Its length stands before it.
    OctetCounting,
    /// A newline stands behind it.
    Newline,
}

/// Facilities of RFC 5424 (section 6.2.1) that make sense for a monitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names are those of syslog and say what they are")]
pub enum Facility {
    Kern,
    User,
    Daemon,
    Auth,
    Authpriv,
    Local0,
    Local1,
    Local2,
    Local3,
    Local4,
    Local5,
    Local6,
    Local7,
}

impl Facility {
    /// Its number.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Kern => 0,
            Self::User => 1,
            Self::Daemon => 3,
            Self::Auth => 4,
            Self::Authpriv => 10,
            Self::Local0 => 16,
            Self::Local1 => 17,
            Self::Local2 => 18,
            Self::Local3 => 19,
            Self::Local4 => 20,
            Self::Local5 => 21,
            Self::Local6 => 22,
            Self::Local7 => 23,
        }
    }
}

/// Why an output of type `syslog` cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum SyslogError {
    /// No receiver.
    #[error("address is not set: write the receiver's host and port, such as \"siem.example.com:6514\"")]
    NoAddress,
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Hands batches to a receiver of syslog.
pub struct Syslog {
    description: String,
    place: Place,
    writer: Writer,
    framing: Framing,
    confirm: Confirm,
    max_message_bytes: usize,
    timeout: time::Duration,
    /// Ready for the next batch.
    connection: Option<Connection>,
}

enum Place {
    Unix(PathBuf),
    UnixStream(PathBuf),
    Udp(String),
    Tcp(String),
    Tls { address: String, host: String, client: TlsClient },
}

impl Syslog {
    /// Checks the settings, certificates too. It connects with the first batch.
    pub fn open(config: &SyslogConfig) -> Result<Self, SyslogError> {
        let address = || config.address.clone().ok_or(SyslogError::NoAddress);
        let (description, place) = match config.transport {
            Transport::Unix => (config.socket.display().to_string(), Place::Unix(config.socket.clone())),
            Transport::UnixStream => (config.socket.display().to_string(), Place::UnixStream(config.socket.clone())),
            Transport::Udp => (format!("{} over UDP", address()?), Place::Udp(address()?)),
            Transport::Tcp => (format!("{} over TCP", address()?), Place::Tcp(address()?)),
            Transport::Tls => {
                let address = address()?;
                let host = host_of(&address).to_owned();
                let mut client = TlsClient::new(config.tls.clone());
                client.current()?;
                client.server_name(&host)?;
                (format!("{address} over TLS"), Place::Tls { address, host, client })
            }
        };
        let max_message_bytes = usize::try_from(config.max_message_bytes.bytes()).unwrap_or(usize::MAX);
        let is_udp = config.transport == Transport::Udp;
        let default_framing =
            if config.transport == Transport::UnixStream { Framing::Newline } else { Framing::OctetCounting };
        Ok(Self {
            description: format!("syslog {description}"),
            place,
            writer: Writer::new(config, &crate::host::read().hostname),
            framing: config.framing.unwrap_or(default_framing),
            confirm: config.confirm,
            max_message_bytes: if is_udp { max_message_bytes.min(UDP_MAX_BYTES) } else { max_message_bytes },
            timeout: config.timeout.get(),
            connection: None,
        })
    }

    /// The messages of `batch` with their positions, and those that are too large.
    fn messages(&self, batch: &[Item]) -> (Vec<(usize, Vec<u8>)>, Vec<Refused>) {
        let (mut messages, mut refused) = (Vec::with_capacity(batch.len()), Vec::new());
        for (index, item) in batch.iter().enumerate() {
            let message = self.writer.message(item);
            if message.len() > self.max_message_bytes {
                refused.push(Refused { index, reason: self.too_large(message.len()) });
            } else {
                messages.push((index, message));
            }
        }
        (messages, refused)
    }

    fn too_large(&self, bytes: usize) -> String {
        format!("a message of {bytes} bytes is larger than the {} of max_message_bytes", self.max_message_bytes)
    }

    async fn connect(&mut self) -> Result<Connection, StreamError> {
        match &mut self.place {
            Place::Tls { address, host, client } => Connection::tls(address, host, client).await,
            Place::Tcp(address) | Place::Udp(address) => Connection::tcp(address).await,
            Place::Unix(path) | Place::UnixStream(path) => Connection::unix(path).await,
        }
    }

    async fn stream(&mut self, bytes: &[u8]) -> Result<(), StreamError> {
        let mut kept = self.connection.take();
        if let Some(connection) = &mut kept
            && connection.check().await.is_err()
        {
            kept = None;
        }
        let mut connection = match kept {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        connection.write(bytes).await?;
        // A receiver that is gone already has not closed because it was told that this is all.
        connection.check().await?;
        if self.confirm == Confirm::Write {
            self.connection = Some(connection);
            return Ok(());
        }
        if matches!(connection, Connection::Tls(_)) {
            return connection.close().await;
        }
        let mut witness = self.connect().await?;
        // Nor has one whose end came meanwhile: by now the receiver has had the time of a whole handshake.
        connection.check().await?;
        connection.close().await?;
        tokio::time::sleep(DEATH).await;
        witness.check().await.map_err(|_| StreamError::Gone)?;
        self.connection = Some(witness);
        Ok(())
    }
}

impl Delivery for Syslog {
    fn describe(&self) -> &str {
        &self.description
    }

    fn patience(&self) -> std::time::Duration {
        self.timeout
    }

    async fn deliver(&mut self, batch: &[Item]) -> Result<Delivered, Failure> {
        let (messages, mut refused) = self.messages(batch);
        if messages.is_empty() {
            return Ok(Delivered::but(refused));
        }
        let timeout = self.timeout;
        let late = || {
            let advice = "if it never closes a connection, set confirm = \"write\"";
            Failure::new(format!("no confirmation within {} s: {advice}", timeout.as_secs_f32()))
        };
        match &self.place {
            Place::Udp(address) => {
                let sent = tokio::time::timeout(timeout, send_udp(address, &messages, &mut refused)).await;
                sent.map_err(|_| late())??;
            }
            Place::Unix(path) => {
                let sent = tokio::time::timeout(timeout, send_unix(path, &messages, &mut refused)).await;
                sent.map_err(|_| Failure::new("the receiver does not read its socket"))??;
            }
            Place::UnixStream(_) | Place::Tcp(_) | Place::Tls { .. } => {
                let mut bytes = Vec::new();
                for (_, message) in &messages {
                    frame(&mut bytes, message, self.framing);
                }
                let sent = tokio::time::timeout(timeout, self.stream(&bytes)).await;
                sent.map_err(|_| late())?.map_err(|error| Failure::new(error.to_string()))?;
            }
        }
        refused.sort_by_key(|refused| refused.index);
        Ok(Delivered::but(refused))
    }

    fn reopen(&mut self) {
        self.connection = None;
        if let Place::Tls { client, .. } = &mut self.place {
            client.forget();
        }
    }

    async fn probe(&mut self) -> Result<Option<String>, Failure> {
        let timeout = self.timeout;
        match &self.place {
            Place::Udp(address) => {
                let none = &mut Vec::new();
                let sent = tokio::time::timeout(timeout, send_udp(address, &[], none)).await;
                sent.map_err(|_| Failure::new("the receiver's name was not resolved in time"))??;
                return Ok(Some("there is a way to it; UDP has no answer that would say more".to_owned()));
            }
            Place::Unix(path) => {
                send_unix(path, &[], &mut Vec::new()).await?;
                return Ok(Some("the receiver has its socket open".to_owned()));
            }
            Place::UnixStream(_) | Place::Tcp(_) | Place::Tls { .. } => {}
        }
        let late = |what, advice| Failure::new(format!("{what} within {} s: {advice}", timeout.as_secs_f32()));
        let failed = |error: StreamError| Failure::new(error.to_string());
        let connection = tokio::time::timeout(timeout, self.connect()).await;
        let connection = connection.map_err(|_| late("no connection", "see whether the receiver is up"))?;
        // What a receiver has against a client's certificate comes after the handshake.
        let closing = connection.map_err(failed)?.close();
        if self.confirm == Confirm::Write {
            let closed = tokio::time::timeout(timeout.min(CLOSE_WAIT), closing).await;
            return match closed {
                Ok(Err(error @ StreamError::Broken { .. })) => Err(failed(error)),
                _ => Ok(Some("the receiver took the connection".to_owned())),
            };
        }
        let closed = tokio::time::timeout(timeout, closing).await;
        closed
            .map_err(|_| {
                late("the receiver did not close an ended connection", "if it never does, set confirm = \"write\"")
            })?
            .map_err(failed)?;
        Ok(Some("the receiver took the connection, and closes it when it has read everything".to_owned()))
    }
}

/// The kernel closes the connections of a process that was killed one after the other: by now all are closed.
const DEATH: time::Duration = time::Duration::from_millis(2);

/// How long a receiver that confirms nothing is given to say what it has against a connection.
const CLOSE_WAIT: time::Duration = time::Duration::from_secs(2);

/// One datagram for each message. A socket of its own for each batch finds the receiver anew.
async fn send_udp(address: &str, messages: &[(usize, Vec<u8>)], refused: &mut Vec<Refused>) -> Result<(), Failure> {
    let failed = |error: &io::Error| {
        let advice = advice(error).map(|advice| format!(" ({advice})")).unwrap_or_default();
        Failure::new(format!("cannot send: {error}{advice}"))
    };
    let targets: Vec<_> = tokio::net::lookup_host(address).await.map_err(|error| failed(&error))?.collect();
    let target = targets.first().ok_or_else(|| Failure::new("the receiver's name has no address"))?;
    let local = if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(local).await.map_err(|error| failed(&error))?;
    socket.connect(target).await.map_err(|error| failed(&error))?;
    for (index, message) in messages {
        match socket.send(message).await {
            Ok(_) => {}
            Err(error) if is_too_large(&error) => refused.push(refusal(*index, message)),
            // An ICMP message about an earlier datagram: which one is unknown, so all are sent again.
            Err(error) => return Err(failed(&error)),
        }
    }
    Ok(())
}

async fn send_unix(path: &Path, messages: &[(usize, Vec<u8>)], refused: &mut Vec<Refused>) -> Result<(), Failure> {
    let socket = UnixDatagram::unbound().map_err(|error| Failure::new(format!("no socket: {error}")))?;
    socket.connect(path).map_err(|error| {
        Failure::new(format!("cannot connect to {}: {error} (does a receiver run here?)", path.display()))
    })?;
    for (index, message) in messages {
        match socket.send(message).await {
            Ok(_) => {}
            Err(error) if is_too_large(&error) => refused.push(refusal(*index, message)),
            Err(error) => {
                let earlier = refused.iter().filter(|refused| refused.index < *index).cloned().collect();
                return Err(Failure {
                    confirmed: *index,
                    refused: earlier,
                    ..Failure::new(format!("cannot send: {error}"))
                });
            }
        }
    }
    Ok(())
}

fn is_too_large(error: &io::Error) -> bool {
    error.raw_os_error() == Some(nix::libc::EMSGSIZE)
}

fn refusal(index: usize, message: &[u8]) -> Refused {
    Refused { index, reason: format!("a datagram does not hold a message of {} bytes", message.len()) }
}

fn host_of(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

fn host_and_port<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let Some(address) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    let port = address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    if port.is_none_or(|port| port == 0) || host_of(&address).is_empty() {
        let example = "\"siem.example.com:6514\" or \"[2001:db8::1]:6514\"";
        return Err(D::Error::custom(format!("`{address}` is no host with a port: write one such as {example}")));
    }
    Ok(Some(address))
}

#[cfg(test)]
mod tests;
