//! The other end of the load: takes connections, streams and datagrams and throws away what comes.

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket},
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
    let connections = listener(CONNECTION_PORT)?;
    let streams = listener(STREAM_PORT)?;
    let datagrams = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, DATAGRAM_PORT)).context("cannot take datagrams")?;
    pin(1);
    for _ in 0..2 {
        let connections = connections.try_clone()?;
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
    thread::spawn(move || {
        let mut buffer = [0_u8; 2048];
        loop {
            // An error is about one datagram; the next one is another matter.
            let _ = datagrams.recv(&mut buffer);
        }
    });
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
fn listener(port: u16) -> Result<TcpListener> {
    let listener =
        TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).with_context(|| format!("cannot listen on port {port}"))?;
    // SAFETY: an open descriptor and a number.
    let outcome = unsafe { libc::listen(listener.as_raw_fd(), BACKLOG) };
    nix::errno::Errno::result(outcome).context("cannot lengthen the queue of connections")?;
    Ok(listener)
}
