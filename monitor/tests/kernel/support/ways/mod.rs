//! The generator's ways to send: each hands exactly known bytes to the kernel by another call, socket or process.

mod datagram;
mod handed;
mod packet;
mod stream;
mod uring;

use std::{
    io,
    mem::size_of_val,
    net::SocketAddr,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
};

use anyhow::{Context as _, Result};
use nix::{
    errno::Errno,
    libc,
    sys::{
        socket::{SockaddrLike as _, SockaddrStorage, setsockopt, sockopt},
        time::{TimeVal, TimeValLike as _},
    },
};

pub(crate) use self::{
    datagram::{DatagramWay, Datagrams},
    handed::{HandOver, Handed},
    packet::{PacketWay, Packets},
    stream::{Stream, StreamWay},
};
use super::generate::SILENCE_MAX;

/// Payload that differs from byte to byte.
fn payload(bytes: u64) -> Vec<u8> {
    (0..bytes).map(|at| (at % 251) as u8).collect()
}

/// A socket that gives up on a silent peer.
fn socket(family: i32, kind: i32, protocol: i32) -> Result<OwnedFd> {
    // SAFETY: plain numbers; the result is checked and owned below.
    let descriptor = unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol) };
    Errno::result(descriptor).with_context(|| format!("no socket {family} {kind} {protocol}"))?;
    // SAFETY: a fresh descriptor that nobody else owns.
    let socket = unsafe { OwnedFd::from_raw_fd(descriptor) };
    let silence = TimeVal::seconds(i64::try_from(SILENCE_MAX.as_secs())?);
    setsockopt(&socket, sockopt::ReceiveTimeout, &silence)?;
    // Also how long a connect may take.
    setsockopt(&socket, sockopt::SendTimeout, &silence)?;
    Ok(socket)
}

const fn family_of(address: &SocketAddr) -> i32 {
    if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }
}

/// Connects, whatever the protocol.
fn connect(socket: &OwnedFd, to: SocketAddr) -> Result<()> {
    nix::sys::socket::connect(socket.as_raw_fd(), &SockaddrStorage::from(to))
        .with_context(|| format!("cannot connect to {to}"))
}

/// Switches an option with a number on.
fn set_option(socket: &OwnedFd, level: i32, option: i32, value: i32) -> Result<()> {
    let length = u32::try_from(size_of_val(&value))?;
    // SAFETY: a live socket, and a number of the length given.
    let set = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), length) };
    Errno::result(set).with_context(|| format!("no socket option {level}/{option}"))?;
    Ok(())
}

/// A call's result as a count of bytes or messages.
fn counted(result: isize) -> Result<u64> {
    Ok(u64::try_from(Errno::result(result)?)?)
}

/// One message of `sendmsg`, in up to two pieces.
fn send_message(socket: RawFd, to: Option<SocketAddr>, pieces: &[&[u8]], flags: i32) -> Result<u64> {
    let pieces: Vec<_> = pieces.iter().map(|piece| io::IoSlice::new(piece)).collect();
    let address = to.map(SockaddrStorage::from);
    // SAFETY: all zeros are an empty message.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    if let Some(address) = &address {
        message.msg_name = address.as_ptr().cast_mut().cast();
        message.msg_namelen = address.len();
    }
    // `IoSlice` has the layout of `iovec` by its documentation.
    message.msg_iov = pieces.as_ptr().cast_mut().cast();
    message.msg_iovlen = pieces.len() as _;
    // SAFETY: the message points to values that live beyond the call.
    counted(unsafe { libc::sendmsg(socket, &raw const message, flags) }).context("sendmsg failed")
}

/// The same bytes as several messages of `sendmmsg`; says how many of them were taken.
fn send_messages(socket: RawFd, to: Option<SocketAddr>, messages: &[&[u8]]) -> Result<u64> {
    let address = to.map(SockaddrStorage::from);
    let pieces: Vec<_> = messages.iter().map(|message| io::IoSlice::new(message)).collect();
    let mut headers: Vec<libc::mmsghdr> = pieces
        .iter()
        .map(|piece| {
            // SAFETY: all zeros are an empty message.
            let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
            if let Some(address) = &address {
                header.msg_hdr.msg_name = address.as_ptr().cast_mut().cast();
                header.msg_hdr.msg_namelen = address.len();
            }
            header.msg_hdr.msg_iov = std::ptr::from_ref(piece).cast_mut().cast();
            header.msg_hdr.msg_iovlen = 1;
            header
        })
        .collect();
    let count = u32::try_from(headers.len())?;
    // SAFETY: every header points to values that live beyond the call.
    let sent = unsafe { libc::sendmmsg(socket, headers.as_mut_ptr(), count, 0) };
    counted(sent as isize).context("sendmmsg failed")
}
