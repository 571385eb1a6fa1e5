//! The other end of the load: takes connections, streams and datagrams and throws away what comes.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsRawFd as _,
    thread,
};

use anyhow::{Context as _, Result};
use nix::libc;

use crate::load::pin;

/// Where short connections go.
pub(crate) const CONNECTION_PORT: u16 = 7_001;
/// Where streams go.
pub(crate) const STREAM_PORT: u16 = 7_002;
/// Where datagrams go.
pub(crate) const DATAGRAM_PORT: u16 = 7_003;

/// Connections that may wait for the server: more than ever do, because a full queue costs a second each.
const BACKLOG: i32 = 16_384;

/// Serves until standard input ends.
pub(crate) fn run() -> Result<()> {
    let (any, loopback) = (IpAddr::from(Ipv4Addr::UNSPECIFIED), IpAddr::from(Ipv6Addr::LOCALHOST));
    let connections = listener(any, CONNECTION_PORT)?;
    let connections_ipv6 = listener(loopback, CONNECTION_PORT)?;
    let streams = listener(any, STREAM_PORT)?;
    let sinks = [any, loopback].map(|address| UdpSocket::bind((address, DATAGRAM_PORT)));
    let [datagrams, datagrams_ipv6] = sinks.map(|socket| socket.context("cannot take datagrams"));
    pin(1);
    for connections in [connections.try_clone()?, connections, connections_ipv6] {
        thread::spawn(move || {
            let mut buffer = [0_u8; 4096];
            while let Ok((stream, _)) = connections.accept() {
                drain(stream, &mut buffer);
            }
        });
    }
    thread::spawn(move || {
        while let Ok((stream, _)) = streams.accept() {
            thread::spawn(move || drain(stream, &mut vec![0; 256 << 10]));
        }
    });
    for datagrams in [datagrams?, datagrams_ipv6?] {
        thread::spawn(move || {
            let mut buffer = [0_u8; 2048];
            loop {
                // An error is about one datagram; the next one is another matter.
                let _ = datagrams.recv(&mut buffer);
            }
        });
    }
    let mut output = io::stdout().lock();
    writeln!(output, "ready")?;
    output.flush()?;
    io::copy(&mut io::stdin().lock(), &mut io::sink())?;
    Ok(())
}

fn drain(mut stream: TcpStream, buffer: &mut [u8]) {
    while stream.read(buffer).is_ok_and(|length| length > 0) {}
}

/// Listens, with a longer queue than the standard library asks for.
fn listener(address: IpAddr, port: u16) -> Result<TcpListener> {
    let listener =
        TcpListener::bind((address, port)).with_context(|| format!("cannot listen on {address}, port {port}"))?;
    // SAFETY: an open descriptor and a number.
    let outcome = unsafe { libc::listen(listener.as_raw_fd(), BACKLOG) };
    nix::errno::Errno::result(outcome).context("cannot lengthen the queue of connections")?;
    Ok(listener)
}
