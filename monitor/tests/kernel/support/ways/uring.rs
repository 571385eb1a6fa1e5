//! Sending through `io_uring`: what is submitted is done by the kernel, in the submitting process or in threads of it.

use std::{
    mem::size_of_val,
    net::SocketAddr,
    os::fd::{AsRawFd as _, OwnedFd},
};

use anyhow::{Context as _, Result, ensure};
use io_uring::{IoUring, opcode, squeue, types};
use nix::{
    errno::Errno,
    libc,
    sys::socket::{SockaddrLike as _, SockaddrStorage},
};

use super::{Stream, family_of, payload, socket};

/// Milliseconds after which an idle submission thread sleeps.
const IDLE_MS: u32 = 200;

/// A ring on one socket.
pub(super) struct Ring {
    queues: IoUring,
    socket: OwnedFd,
    registered: bool,
}

impl Ring {
    /// `polled`: with the socket registered, and a kernel thread that takes the submissions.
    pub(super) fn new(socket: OwnedFd, polled: bool) -> Result<Self> {
        let mut builder = IoUring::builder();
        if polled {
            builder.setup_sqpoll(IDLE_MS);
        }
        let ring = builder.build(8).context("no io_uring")?;
        if polled {
            ring.submitter().register_files(&[socket.as_raw_fd()]).context("cannot register the socket")?;
        }
        Ok(Self { queues: ring, socket, registered: polled })
    }

    fn connect(&mut self, to: SocketAddr) -> Result<()> {
        let address = SockaddrStorage::from(to);
        let (pointer, length) = (address.as_ptr(), address.len());
        let entry = if self.registered {
            opcode::Connect::new(types::Fixed(0), pointer, length).build()
        } else {
            opcode::Connect::new(types::Fd(self.socket.as_raw_fd()), pointer, length).build()
        };
        self.run(&entry).context("cannot connect through io_uring").map(drop)
    }

    /// Hands `bytes` over and says how many were taken.
    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<usize> {
        let length = u32::try_from(bytes.len())?;
        let entry = if self.registered {
            opcode::Send::new(types::Fixed(0), bytes.as_ptr(), length).build()
        } else {
            opcode::Send::new(types::Fd(self.socket.as_raw_fd()), bytes.as_ptr(), length).build()
        };
        self.run(&entry).context("cannot send through io_uring")
    }

    /// Sends one datagram to an address.
    pub(super) fn send_to(&mut self, to: SocketAddr, bytes: &[u8]) -> Result<usize> {
        let address = SockaddrStorage::from(to);
        let mut piece = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        // SAFETY: all zeros are an empty message.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_name = address.as_ptr().cast_mut().cast();
        message.msg_namelen = address.len();
        message.msg_iov = &raw mut piece;
        message.msg_iovlen = 1;
        ensure!(size_of_val(&message) == size_of::<libc::msghdr>());
        let entry = if self.registered {
            opcode::SendMsg::new(types::Fixed(0), &raw const message).build()
        } else {
            opcode::SendMsg::new(types::Fd(self.socket.as_raw_fd()), &raw const message).build()
        };
        self.run(&entry).context("cannot send a message through io_uring")
    }

    /// Takes what is there.
    pub(super) fn receive(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let length = u32::try_from(buffer.len())?;
        let entry = if self.registered {
            opcode::Recv::new(types::Fixed(0), buffer.as_mut_ptr(), length).build()
        } else {
            opcode::Recv::new(types::Fd(self.socket.as_raw_fd()), buffer.as_mut_ptr(), length).build()
        };
        self.run(&entry).context("cannot receive through io_uring")
    }

    /// Submits one entry and waits for its result.
    fn run(&mut self, entry: &squeue::Entry) -> Result<usize> {
        // SAFETY: what the entry points to outlives this call, which waits for the completion.
        unsafe { self.queues.submission().push(entry) }?;
        self.queues.submit_and_wait(1)?;
        let completion = self.queues.completion().next().context("no completion")?;
        let result = completion.result();
        ensure!(result >= 0, Errno::from_raw(-result));
        Ok(usize::try_from(result)?)
    }
}

/// A whole conversation: connect, send, receive.
pub(super) fn converse(stream: &Stream, polled: bool) -> Result<()> {
    let socket = socket(family_of(&stream.to), libc::SOCK_STREAM, 0)?;
    let mut ring = Ring::new(socket, polled)?;
    ring.connect(stream.to)?;
    let bytes = payload(stream.send);
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        let taken = ring.send(rest)?;
        rest = rest.get(taken..).context("more was taken than given")?;
    }
    let mut buffer = vec![0; 1 << 16];
    let mut left = usize::try_from(stream.receive)?;
    while left > 0 {
        let length = ring.receive(&mut buffer)?;
        ensure!(length > 0, "the reply is too short");
        left = left.checked_sub(length).context("the reply is too long")?;
    }
    Ok(())
}
