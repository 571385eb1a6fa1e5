//! Ways to send datagrams.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsRawFd as _, OwnedFd},
};

use anyhow::{Context as _, Result, ensure};
use nix::libc;
use serde::{Deserialize, Serialize};

use super::{connect, counted, family_of, payload, send_message, send_messages, set_option, socket, uring::Ring};

/// `count` datagrams of `size` bytes each on one socket; each is answered by one if `answered`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Datagrams {
    pub(crate) to: SocketAddr,
    pub(crate) way: DatagramWay,
    pub(crate) connected: bool,
    pub(crate) count: usize,
    pub(crate) size: u64,
    pub(crate) answered: bool,
    /// Interface to leave by: for addresses that are no single host's.
    pub(crate) interface: Option<String>,
    /// Whether this host's own members of a group get a copy (`IP_MULTICAST_LOOP`).
    pub(crate) loops: bool,
}

/// How the bytes get to the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DatagramWay {
    /// `sendmsg` with several pieces.
    Sendmsg,
    /// `sendmmsg`, and replies by `recvmmsg`.
    Sendmmsg,
    /// One call with the payload of all, cut up by the kernel (`UDP_SEGMENT`).
    Segmented,
    /// `MSG_ZEROCOPY`.
    ZeroCopy,
    /// `io_uring`.
    Uring,
    /// The same with a registered socket, and a kernel thread that takes the submissions.
    UringPolled,
}

/// Datagrams handed over at a time: fewer than fit into a receive buffer.
const BATCH: usize = 16;

impl Datagrams {
    pub(in super::super) fn make(&self) -> Result<()> {
        let socket = socket(family_of(&self.to), libc::SOCK_DGRAM, 0)?;
        if let Some(interface) = &self.interface {
            bind_to(&socket, interface)?;
            set_option(&socket, libc::SOL_SOCKET, libc::SO_BROADCAST, 1)?;
            let (level, option) = if self.to.is_ipv4() {
                (libc::IPPROTO_IP, libc::IP_MULTICAST_LOOP)
            } else {
                (libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_LOOP)
            };
            set_option(&socket, level, option, i32::from(self.loops))?;
        }
        if self.connected {
            connect(&socket, self.to)?;
        }
        let one = payload(self.size);
        if matches!(self.way, DatagramWay::Uring | DatagramWay::UringPolled) {
            return self.through_ring(socket, &one);
        }
        if self.way == DatagramWay::ZeroCopy {
            set_option(&socket, libc::SOL_SOCKET, libc::SO_ZEROCOPY, 1)?;
        }
        if self.way == DatagramWay::Segmented {
            set_option(&socket, libc::SOL_UDP, libc::UDP_SEGMENT, i32::try_from(self.size)?)?;
        }
        let mut left = self.count;
        while left > 0 {
            let batch = left.min(BATCH);
            self.hand_over(&socket, &one, batch)?;
            if self.answered {
                self.take_replies(&socket, batch)?;
            }
            left -= batch;
        }
        Ok(())
    }

    fn address(&self) -> Option<SocketAddr> {
        (!self.connected).then_some(self.to)
    }

    fn hand_over(&self, socket: &OwnedFd, one: &[u8], batch: usize) -> Result<()> {
        let descriptor = socket.as_raw_fd();
        match self.way {
            DatagramWay::Segmented => {
                let all = one.repeat(batch);
                let taken = send_message(descriptor, self.address(), &[&all], 0)?;
                ensure!(taken == all.len() as u64, "only {taken} bytes were taken");
            }
            DatagramWay::Sendmmsg => {
                let taken = send_messages(descriptor, self.address(), &vec![one; batch])?;
                ensure!(taken == batch as u64, "only {taken} datagrams were taken");
            }
            way => {
                let flags = if way == DatagramWay::ZeroCopy { libc::MSG_ZEROCOPY } else { 0 };
                let (first, second) = one.split_at(one.len() / 2);
                for _ in 0..batch {
                    let taken = send_message(descriptor, self.address(), &[first, second], flags)?;
                    ensure!(taken == self.size, "only {taken} bytes were taken");
                }
            }
        }
        Ok(())
    }

    fn take_replies(&self, socket: &OwnedFd, batch: usize) -> Result<()> {
        let mut left = batch;
        while left > 0 {
            left -= if self.way == DatagramWay::Sendmmsg {
                receive_messages(socket, left)?
            } else {
                nix::sys::socket::recv(socket.as_raw_fd(), &mut [0; 1 << 12], nix::sys::socket::MsgFlags::empty())
                    .context("no reply")?;
                1
            };
        }
        Ok(())
    }

    fn through_ring(&self, socket: OwnedFd, one: &[u8]) -> Result<()> {
        let mut ring = Ring::new(socket, self.way == DatagramWay::UringPolled)?;
        for _ in 0..self.count {
            let taken = if self.connected { ring.send(one)? } else { ring.send_to(self.to, one)? };
            ensure!(taken as u64 == self.size, "only {taken} bytes were taken");
            if self.answered {
                ring.receive(&mut [0; 1 << 12])?;
            }
        }
        Ok(())
    }
}

fn bind_to(socket: &OwnedFd, interface: &str) -> Result<()> {
    let name = std::ffi::OsString::from(interface);
    nix::sys::socket::setsockopt(socket, nix::sys::socket::sockopt::BindToDevice, &name)
        .with_context(|| format!("cannot bind to {interface}"))
}

/// Up to `count` datagrams by one `recvmmsg`; says how many came.
fn receive_messages(socket: &OwnedFd, count: usize) -> Result<usize> {
    let mut buffers = vec![[0_u8; 1 << 12]; count];
    let mut pieces: Vec<_> = buffers.iter_mut().map(|buffer| io::IoSliceMut::new(buffer)).collect();
    let mut headers: Vec<libc::mmsghdr> = pieces
        .iter_mut()
        .map(|piece| {
            // SAFETY: all zeros are an empty message.
            let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
            // `IoSliceMut` has the layout of `iovec` by its documentation.
            header.msg_hdr.msg_iov = std::ptr::from_mut(piece).cast();
            header.msg_hdr.msg_iovlen = 1;
            header
        })
        .collect();
    let count = u32::try_from(headers.len())?;
    let flags = libc::MSG_WAITFORONE;
    // SAFETY: every header points to a buffer that lives beyond the call.
    let came =
        unsafe { libc::recvmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), count, flags as _, std::ptr::null_mut()) };
    Ok(usize::try_from(counted(came as isize).context("no reply")?)?)
}
