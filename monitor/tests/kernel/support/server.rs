//! Servers inside a test's network, which know what they were sent.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::{
    libc,
    sys::{
        socket::{
            AddressFamily, Backlog, MsgFlags, SockFlag, SockType, SockaddrStorage, bind, connect, listen, recvfrom,
            sendto, setsockopt, shutdown, socket, sockopt,
        },
        time::{TimeVal, TimeValLike as _},
    },
};

use super::{Network, generate::SILENCE_MAX, patience};

/// Connections served at a time.
const WORKERS: usize = 8;

/// One connection, from the server's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Connection {
    /// The client's end.
    pub(crate) client: SocketAddr,
    /// Bytes that the client sent.
    pub(crate) received: u64,
    /// Bytes that it was sent.
    pub(crate) sent: u64,
}

/// Serves every address of its network at one TCP port: reads a request, answers, and waits for the client to close.
pub(crate) struct TcpServer {
    /// The port.
    pub(crate) port: u16,
    listener: Arc<TcpListener>,
    closing: Arc<AtomicBool>,
    connections: Arc<Mutex<Vec<Connection>>>,
    workers: Vec<JoinHandle<()>>,
}

/// What ends a request, and what answers it.
#[derive(Clone, Copy)]
enum Exchange {
    Counted { request_bytes: u64, reply_bytes: u64 },
    AtOnce { reply_bytes: u64 },
    Http,
    Scripted(&'static [&'static [u8]]),
}

/// An answer to any HTTP request.
const HTTP_ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";

impl TcpServer {
    /// Serves requests of exactly `request_bytes` with replies of `reply_bytes`.
    pub(crate) fn start(network: &Network, request_bytes: u64, reply_bytes: u64) -> Result<Self> {
        Self::serve(network, Exchange::Counted { request_bytes, reply_bytes }, Protocol::Tcp)
    }

    /// The same over another protocol.
    pub(crate) fn over(network: &Network, protocol: Protocol, request_bytes: u64, reply_bytes: u64) -> Result<Self> {
        Self::serve(network, Exchange::Counted { request_bytes, reply_bytes }, protocol)
    }

    /// Sends `reply_bytes` to each client from the start, and reads what it sends meanwhile.
    pub(crate) fn at_once(network: &Network, reply_bytes: u64) -> Result<Self> {
        Self::serve(network, Exchange::AtOnce { reply_bytes }, Protocol::Tcp)
    }

    /// Serves HTTP requests without a body.
    pub(crate) fn http(network: &Network) -> Result<Self> {
        Self::serve(network, Exchange::Http, Protocol::Tcp)
    }

    /// Answers whatever it reads with the next of `answers`, and then with nothing. An answer before anything was read
    /// is the first, unless it is empty.
    pub(crate) fn scripted(network: &Network, answers: &'static [&'static [u8]]) -> Result<Self> {
        Self::serve(network, Exchange::Scripted(answers), Protocol::Tcp)
    }

    fn serve(network: &Network, exchange: Exchange, protocol: Protocol) -> Result<Self> {
        let port = network.port();
        let any = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port);
        let listener = network.inside(|| listener(any, protocol))?;
        let listener = Arc::new(listener);
        let closing = Arc::default();
        let connections = Arc::default();
        let workers = (0..WORKERS)
            .map(|_| {
                let listener = Arc::clone(&listener);
                let (closing, connections) = (Arc::clone(&closing), Arc::clone(&connections));
                thread::spawn(move || work(&listener, exchange, &closing, &connections))
            })
            .collect();
        Ok(Self { port, listener, closing, connections, workers })
    }

    /// Closes the port and returns every connection, in the order of their ends.
    pub(crate) fn finish(mut self) -> Vec<Connection> {
        self.close();
        std::mem::take(&mut *self.connections.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn close(&mut self) {
        self.closing.store(true, Ordering::Relaxed);
        // Wakes every worker out of `accept`, except with SCTP. The port may be closed already.
        let _ = shutdown(self.listener.as_raw_fd(), nix::sys::socket::Shutdown::Both);
        for worker in self.workers.drain(..) {
            // A worker that panicked has reported it on standard error.
            let _ = worker.join();
        }
    }
}

impl Drop for TcpServer {
    fn drop(&mut self) {
        self.close();
    }
}

/// What connections are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// TCP.
    Tcp,
    /// Multipath TCP.
    Mptcp,
    /// SCTP, one-to-one.
    Sctp,
}

/// A listening socket; the standard library's type serves all protocols with connections.
fn listener(at: SocketAddr, protocol: Protocol) -> Result<TcpListener> {
    let number = match protocol {
        Protocol::Tcp => return TcpListener::bind(at).context("cannot listen"),
        Protocol::Mptcp => 262,
        Protocol::Sctp => libc::IPPROTO_SCTP,
    };
    // SAFETY: plain numbers; the result is checked and owned below.
    let descriptor = unsafe { libc::socket(libc::AF_INET6, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, number) };
    nix::errno::Errno::result(descriptor).with_context(|| format!("no socket for {protocol:?}"))?;
    // SAFETY: a fresh descriptor that nobody else owns.
    let socket = unsafe { OwnedFd::from_raw_fd(descriptor) };
    // An SCTP listener that is shut down does not wake who waits in `accept`: look now and then whether to go on.
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::milliseconds(200))?;
    bind(socket.as_raw_fd(), &SockaddrStorage::from(at))?;
    listen(&socket, Backlog::new(64)?)?;
    Ok(TcpListener::from(socket))
}

fn work(listener: &TcpListener, exchange: Exchange, closing: &AtomicBool, connections: &Mutex<Vec<Connection>>) {
    loop {
        let (mut stream, client) = match listener.accept() {
            Ok(accepted) => accepted,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && !closing.load(Ordering::Relaxed) => continue,
            Err(_) => return,
        };
        let mut connection = Connection { client: canonical(client), received: 0, sent: 0 };
        // A client that breaks off is part of the test; what was counted until then stays.
        let _ = converse(&mut stream, exchange, &mut connection);
        connections.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
    }
}

fn converse(stream: &mut TcpStream, exchange: Exchange, connection: &mut Connection) -> io::Result<()> {
    stream.set_read_timeout(Some(patience()))?;
    let mut buffer = vec![0_u8; 1 << 16];
    let mut request: Vec<u8> = Vec::new();
    if let Exchange::AtOnce { reply_bytes } = exchange {
        let mut outgoing = stream.try_clone()?;
        let bytes = usize::try_from(reply_bytes).unwrap_or(0);
        let writes = thread::spawn(move || outgoing.write_all(&vec![b'r'; bytes]));
        while let length @ 1.. = stream.read(&mut buffer)? {
            connection.received += length as u64;
        }
        connection.sent += reply_bytes;
        return writes.join().unwrap_or(Ok(()));
    }
    let mut answers: &[&[u8]] = if let Exchange::Scripted(answers) = exchange { answers } else { &[] };
    let reply = loop {
        if let Some((answer, rest)) = answers.split_first() {
            stream.write_all(answer)?;
            connection.sent += answer.len() as u64;
            answers = rest;
        }
        match exchange {
            Exchange::Counted { request_bytes, reply_bytes } if connection.received >= request_bytes => {
                break vec![b'r'; usize::try_from(reply_bytes).unwrap_or(0)];
            }
            Exchange::Http if request.ends_with(b"\r\n\r\n") => break HTTP_ANSWER.to_vec(),
            _ => {}
        }
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        connection.received += length as u64;
        if matches!(exchange, Exchange::Http) {
            request.extend_from_slice(buffer.get(..length).unwrap_or_default());
        }
    };
    stream.write_all(&reply)?;
    connection.sent += reply.len() as u64;
    if matches!(exchange, Exchange::Http) {
        stream.shutdown(Shutdown::Write)?;
    }
    loop {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        connection.received += length as u64;
    }
}

/// Serves one UDP address: answers each datagram, or keeps silent.
pub(crate) struct UdpServer {
    /// Where.
    pub(crate) address: SocketAddr,
    socket: Arc<UdpSocket>,
    worker: Option<JoinHandle<u64>>,
}

impl UdpServer {
    /// Serves `address`; each datagram is answered with one of `reply_bytes`, or not at all if that is `None`.
    pub(crate) fn start(network: &Network, address: IpAddr, reply_bytes: Option<usize>) -> Result<Self> {
        let address = SocketAddr::new(address, network.port());
        let socket = Arc::new(network.inside(|| bound_udp(address))?);
        let worker = {
            let socket = Arc::clone(&socket);
            thread::spawn(move || answer(&socket, reply_bytes))
        };
        Ok(Self { address, socket, worker: Some(worker) })
    }

    /// Closes the port and says how many payload bytes arrived.
    pub(crate) fn finish(mut self) -> u64 {
        self.close().unwrap_or(0)
    }

    fn close(&mut self) -> Option<u64> {
        // An unconnected socket says that it is not connected, and wakes its reader all the same.
        let _ = shutdown(self.socket.as_raw_fd(), nix::sys::socket::Shutdown::Both);
        self.worker.take().and_then(|worker| worker.join().ok())
    }
}

impl Drop for UdpServer {
    fn drop(&mut self) {
        self.close();
    }
}

/// A listener at one address.
pub(crate) fn bound_tcp(address: SocketAddr) -> Result<TcpListener> {
    let socket = freely_bound(address, SockType::Stream)?;
    listen(&socket, Backlog::MAXCONN)?;
    Ok(TcpListener::from(socket))
}

/// A connection from one address to another.
pub(crate) fn connected_tcp(from: SocketAddr, to: SocketAddr) -> Result<TcpStream> {
    let socket = freely_bound(from, SockType::Stream)?;
    connect(socket.as_raw_fd(), &SockaddrStorage::from(to)).with_context(|| format!("cannot connect to {to}"))?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(SILENCE_MAX))?;
    Ok(stream)
}

/// A datagram socket at one address.
pub(crate) fn bound_udp(address: SocketAddr) -> Result<UdpSocket> {
    let socket = freely_bound(address, SockType::Datagram)?;
    // Room for a whole test's datagrams, beyond what an ordinary user may ask for.
    setsockopt(&socket, sockopt::RcvBufForce, &(16 << 20)).context("cannot enlarge the receive buffer")?;
    Ok(UdpSocket::from(socket))
}

/// A socket at an address that the machine owns by its routes only: IPv6 asks for a free binding there.
fn freely_bound(address: SocketAddr, kind: SockType) -> Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, kind, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&socket, sockopt::IpFreebind, &true).context("cannot bind freely")?;
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address)).with_context(|| format!("cannot serve {address}"))?;
    Ok(socket)
}

fn answer(socket: &UdpSocket, reply_bytes: Option<usize>) -> u64 {
    let mut buffer = vec![0_u8; 1 << 16];
    let reply = reply_bytes.map(|reply_bytes| vec![b'r'; reply_bytes]);
    let mut received = 0;
    // Only as long as a forgotten server may live.
    let _ = socket.set_read_timeout(Some(patience() + Duration::from_mins(1)));
    loop {
        // A shut down socket reads nothing from nobody, for which the standard library has no word. No test sends empty
        // datagrams.
        match recvfrom::<SockaddrStorage>(socket.as_raw_fd(), &mut buffer) {
            Ok((0, _)) | Err(_) => return received,
            Ok((length, client)) => {
                received += length as u64;
                if let (Some(reply), Some(client)) = (&reply, client) {
                    // A client that has gone is part of the test.
                    let _ = sendto(socket.as_raw_fd(), reply, &client, MsgFlags::empty());
                }
            }
        }
    }
}

/// IPv4-mapped addresses, as a dual-stack listener has them, as IPv4.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
