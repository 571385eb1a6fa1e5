//! Ways to send on a connection.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, Write as _},
    net::{SocketAddr, TcpStream},
    os::fd::{AsRawFd as _, OwnedFd},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    errno::Errno,
    libc,
    sched::{CloneFlags, setns},
    sys::{
        memfd::{MFdFlags, memfd_create},
        prctl::set_name,
        socket::{MsgFlags, SockaddrStorage, sendto},
    },
    unistd::pipe,
};
use serde::{Deserialize, Serialize};

use super::{connect, counted, family_of, payload, send_message, send_messages, set_option, socket, uring};

/// One connection: `send` bytes by the way named, then `receive` bytes back.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Stream {
    pub(crate) to: SocketAddr,
    pub(crate) way: StreamWay,
    pub(crate) send: u64,
    pub(crate) receive: u64,
}

/// How the bytes get to the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StreamWay {
    /// `write`.
    Write,
    /// Both directions at once.
    AtOnce,
    /// A byte now and then.
    Drip,
    /// `sendmsg` with several pieces.
    Sendmsg,
    /// `sendmmsg`.
    Sendmmsg,
    /// `sendfile` from a file in memory.
    Sendfile,
    /// `splice` from a pipe.
    Splice,
    /// `MSG_ZEROCOPY`.
    ZeroCopy,
    /// The first bytes in the SYN.
    FastOpen,
    /// The first bytes with what ends the handshake.
    LateAcknowledgement,
    /// A multipath connection.
    Mptcp,
    /// An SCTP association.
    Sctp,
    /// `io_uring`: connect, send and receive.
    Uring,
    /// The same with registered files, and a kernel thread that takes the submissions.
    UringPolled,
    /// A thread that gave itself the name of a kernel thread.
    RenamedThread,
    /// A socket of the network namespace that the process was in before.
    LeftNamespace,
}

const IPPROTO_MPTCP: i32 = 262;

impl Stream {
    pub(in super::super) fn make(&self) -> Result<()> {
        match self.way {
            StreamWay::Uring => return uring::converse(self, false),
            StreamWay::UringPolled => return uring::converse(self, true),
            StreamWay::RenamedThread => {
                let plain = Self { way: StreamWay::Write, ..self.clone() };
                let thread = thread::spawn(move || {
                    set_name(c"kworker/u8:2")?;
                    plain.make()
                });
                return thread.join().map_err(|_| anyhow::anyhow!("the thread panicked"))?;
            }
            _ => {}
        }
        let socket = self.open()?;
        if self.way == StreamWay::AtOnce {
            return self.both_at_once(TcpStream::from(socket));
        }
        if self.way != StreamWay::FastOpen {
            connect(&socket, self.to)?;
            if self.way == StreamWay::LateAcknowledgement {
                ensure!(sent_one_segment(&socket)?, "the handshake was acknowledged before there was payload");
            }
            self.hand_over(&socket)?;
        }
        self.read_reply(&mut TcpStream::from(socket))
    }

    fn open(&self) -> Result<OwnedFd> {
        let protocol = match self.way {
            StreamWay::Mptcp => IPPROTO_MPTCP,
            StreamWay::Sctp => libc::IPPROTO_SCTP,
            _ => 0,
        };
        let socket = socket(family_of(&self.to), libc::SOCK_STREAM, protocol)?;
        if self.way == StreamWay::LeftNamespace {
            setns(
                File::open(format!("/proc/{}/ns/net", std::os::unix::process::parent_id()))?,
                CloneFlags::CLONE_NEWNET,
            )
            .context("cannot leave the namespace")?;
        }
        if self.way == StreamWay::LateAcknowledgement {
            set_option(&socket, libc::IPPROTO_TCP, libc::TCP_QUICKACK, 0)?;
        }
        if self.way == StreamWay::FastOpen {
            let sent = sendto(
                socket.as_raw_fd(),
                &payload(self.send),
                &SockaddrStorage::from(self.to),
                MsgFlags::from_bits_retain(libc::MSG_FASTOPEN),
            )?;
            ensure!(sent as u64 == self.send, "only {sent} bytes were taken with the SYN");
            ensure!(is_acknowledged_with_syn(&socket)?, "the bytes did not go with the SYN");
        }
        Ok(socket)
    }

    fn read_reply(&self, stream: &mut TcpStream) -> Result<()> {
        let mut reply = vec![0; usize::try_from(self.receive)?];
        stream.read_exact(&mut reply).context("the reply is too short")
    }

    fn both_at_once(&self, socket: impl Into<OwnedFd>) -> Result<()> {
        let socket = socket.into();
        connect(&socket, self.to)?;
        let mut reader = TcpStream::from(socket);
        let mut outgoing = reader.try_clone()?;
        let bytes = payload(self.send);
        let writes = thread::spawn(move || outgoing.write_all(&bytes));
        self.read_reply(&mut reader)?;
        Ok(writes.join().map_err(|_| anyhow::anyhow!("the writer panicked"))??)
    }

    /// Hands all bytes to the connected socket.
    fn hand_over(&self, socket: &OwnedFd) -> Result<()> {
        let bytes = payload(self.send);
        if self.way == StreamWay::Sendfile {
            return send_file(socket, &bytes);
        }
        if self.way == StreamWay::ZeroCopy {
            set_option(socket, libc::SOL_SOCKET, libc::SO_ZEROCOPY, 1)?;
        }
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let taken = self.hand_over_some(socket, rest)?;
            rest = rest.get(taken..).context("more was taken than given")?;
        }
        Ok(())
    }

    fn hand_over_some(&self, socket: &OwnedFd, rest: &[u8]) -> Result<usize> {
        let descriptor = socket.as_raw_fd();
        let (first, second) = rest.split_at(rest.len() / 2);
        Ok(match self.way {
            StreamWay::Drip => {
                thread::sleep(Duration::from_millis(25));
                usize::try_from(send_message(descriptor, None, &[rest.get(..1).unwrap_or_default()], 0)?)?
            }
            StreamWay::Sendmsg => usize::try_from(send_message(descriptor, None, &[first, second], 0)?)?,
            StreamWay::ZeroCopy => usize::try_from(send_message(descriptor, None, &[rest], libc::MSG_ZEROCOPY)?)?,
            StreamWay::Sendmmsg => {
                // Each message is small enough to be taken whole, or the count would not tell the bytes.
                let messages: Vec<_> = rest.chunks(1_000).take(16).collect();
                let taken = usize::try_from(send_messages(descriptor, None, &messages)?)?;
                messages.iter().take(taken).map(|message| message.len()).sum()
            }
            StreamWay::Splice => splice(socket, rest.get(..rest.len().min(1 << 16)).unwrap_or_default())?,
            _ => nix::unistd::write(socket, rest)?,
        })
    }
}

/// Whether the other side took data that came with the SYN (`TCPI_OPT_SYN_DATA` of `tcp_info`, linux/tcp.h).
fn is_acknowledged_with_syn(socket: &OwnedFd) -> Result<bool> {
    const OPTIONS_AT: usize = 5;
    const SYN_DATA: u8 = 32;
    // The call returned with the SYN on its way; the first byte of the state says when the handshake is done.
    for _ in 0..200 {
        let information = tcp_information(socket)?;
        if information.get(OPTIONS_AT).is_some_and(|options| options & SYN_DATA != 0) {
            return Ok(true);
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(false)
}

/// Whether the SYN is all that was sent (`tcpi_segs_out`).
fn sent_one_segment(socket: &OwnedFd) -> Result<bool> {
    const SEGMENTS_AT: usize = 136;
    let information = tcp_information(socket)?;
    let segments = information.get(SEGMENTS_AT..).and_then(|rest| rest.first_chunk());
    Ok(u32::from_ne_bytes(*segments.context("no count of segments")?) == 1)
}

/// The start of `struct tcp_info` (linux/tcp.h).
fn tcp_information(socket: &OwnedFd) -> Result<[u8; 144]> {
    let mut information = [0; 144];
    let mut length = u32::try_from(information.len())?;
    // SAFETY: a live socket, and a buffer of the length given.
    let got = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            information.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    Errno::result(got)?;
    Ok(information)
}

fn send_file(socket: &OwnedFd, bytes: &[u8]) -> Result<()> {
    let mut file = File::from(memfd_create(c"payload", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(bytes)?;
    file.rewind()?;
    let mut left = bytes.len();
    while left > 0 {
        // SAFETY: two live descriptors; no offset, so that the file's own one moves.
        let sent = unsafe { libc::sendfile(socket.as_raw_fd(), file.as_raw_fd(), std::ptr::null_mut(), left) };
        left -= usize::try_from(counted(sent).context("sendfile failed")?)?;
    }
    Ok(())
}

/// As much as a pipe takes, through one.
fn splice(socket: &OwnedFd, bytes: &[u8]) -> Result<usize> {
    let (out, into) = pipe()?;
    let taken = nix::unistd::write(&into, bytes)?;
    drop(into);
    let mut left = taken;
    while left > 0 {
        let null = std::ptr::null_mut();
        // SAFETY: two live descriptors, no offsets.
        let moved = unsafe { libc::splice(out.as_raw_fd(), null, socket.as_raw_fd(), null, left, libc::SPLICE_F_MORE) };
        let moved = Errno::result(moved).map_err(io::Error::from).context("splice failed")?;
        left -= usize::try_from(moved)?;
    }
    Ok(taken)
}
