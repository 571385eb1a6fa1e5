//! Sockets that one process connects and another one gets hold of.

use std::{
    io::{IoSlice, IoSliceMut, Write as _},
    net::{SocketAddr, TcpStream},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
    path::PathBuf,
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    errno::Errno,
    fcntl::{FcntlArg, FdFlag, fcntl},
    libc,
    sys::socket::{
        AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, sendmsg, socketpair,
    },
};
use serde::{Deserialize, Serialize};

use super::{super::generate::generator, payload};
use crate::support::{Facts, Traffic};

/// Connect and send; then `program` gets the connection and sends the rest.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct HandOver {
    pub(crate) to: SocketAddr,
    pub(crate) before: u64,
    pub(crate) after: u64,
    pub(crate) program: PathBuf,
    /// Over a Unix socket (`SCM_RIGHTS`), or else by `pidfd_getfd`.
    pub(crate) by_rights: bool,
}

/// The other process's part.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Handed {
    /// Take the connection from the Unix socket `descriptor`.
    Rights { descriptor: RawFd, send: u64 },
    /// Take descriptor `descriptor` of process `pid`.
    Pidfd { pid: u32, descriptor: RawFd, send: u64 },
}

impl HandOver {
    pub(in super::super) fn make(&self) -> Result<Facts> {
        let mut stream = TcpStream::connect(self.to)?;
        stream.write_all(&payload(self.before))?;
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)?;
        let handed = if self.by_rights {
            fcntl(&theirs, FcntlArg::F_SETFD(FdFlag::empty()))?;
            let rights = [stream.as_raw_fd()];
            let message = [ControlMessage::ScmRights(&rights)];
            sendmsg::<()>(ours.as_raw_fd(), &[IoSlice::new(b".")], &message, MsgFlags::empty(), None)?;
            Handed::Rights { descriptor: theirs.as_raw_fd(), send: self.after }
        } else {
            Handed::Pidfd { pid: std::process::id(), descriptor: stream.as_raw_fd(), send: self.after }
        };
        let mut child = generator(&self.program, &Traffic::Handed(handed))?.spawn()?;
        let id = child.id();
        ensure!(child.wait()?.success(), "the process that got the connection failed");
        Ok(Facts { child: Some(id.cast_signed()), ..Facts::default() })
    }
}

impl Handed {
    pub(in super::super) fn make(&self) -> Result<()> {
        let (socket, send) = match *self {
            Self::Rights { descriptor, send } => (from_rights(descriptor)?, send),
            Self::Pidfd { pid, descriptor, send } => (from_process(pid, descriptor)?, send),
        };
        TcpStream::from(socket).write_all(&payload(send)).context("cannot send on the connection that was handed over")
    }
}

fn from_rights(descriptor: RawFd) -> Result<OwnedFd> {
    let mut byte = [0_u8; 1];
    let mut pieces = [IoSliceMut::new(&mut byte)];
    let mut space = nix::cmsg_space!([RawFd; 1]);
    let message = recvmsg::<()>(descriptor, &mut pieces, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let rights = message.cmsgs()?.find_map(|message| match message {
        ControlMessageOwned::ScmRights(descriptors) => descriptors.first().copied(),
        _ => None,
    });
    // SAFETY: a descriptor that the kernel just made for this process.
    Ok(unsafe { OwnedFd::from_raw_fd(rights.context("no descriptor came")?) })
}

fn from_process(pid: u32, descriptor: RawFd) -> Result<OwnedFd> {
    // SAFETY: plain numbers; the result is checked and owned below.
    let process = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) }).context("pidfd_open")?;
    // SAFETY: a fresh descriptor that nobody else owns.
    let process = unsafe { OwnedFd::from_raw_fd(RawFd::try_from(process)?) };
    // SAFETY: as above.
    let taken = unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), descriptor, 0) };
    let taken = Errno::result(taken).context("pidfd_getfd")?;
    // SAFETY: as above.
    Ok(unsafe { OwnedFd::from_raw_fd(RawFd::try_from(taken)?) })
}
