//! Packets of an application's own making.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::AsRawFd as _,
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    errno::Errno,
    libc,
    sys::socket::{MsgFlags, SockaddrStorage, bind, sendto},
};
use serde::{Deserialize, Serialize};

use super::{family_of, payload, set_option, socket};

/// `count` packets with `size` bytes of payload each.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[expect(clippy::unsafe_derive_deserialize, reason = "no unsafe call depends on what the fields hold")]
pub(crate) struct Packets {
    pub(crate) from: IpAddr,
    /// One socket sends to all of them in turn. The port matters to packets with a header that has some.
    pub(crate) to: Vec<SocketAddr>,
    pub(crate) way: PacketWay,
    /// For each destination.
    pub(crate) count: u64,
    pub(crate) size: u64,
}

/// What kind of socket sends them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PacketWay {
    /// A raw socket of a protocol for experiments.
    RawIp,
    /// A raw socket of TCP: segments that are part of no connection, all with the same sequence number.
    RawTcp,
    /// A raw socket that writes the IP header as well: a UDP datagram that no UDP socket sent.
    RawHeader,
    /// A packet socket, below IP: the same datagram.
    PacketSocket,
}

/// For experiments (RFC 3692).
const PROTOCOL_EXPERIMENT: i32 = 253;
const PROTOCOL_UDP: u8 = 17;
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
/// The loopback interface's index in every namespace (`LOOPBACK_IFINDEX`).
const LOOPBACK: i32 = 1;

impl Packets {
    pub(in super::super) fn make(&self) -> Result<()> {
        match self.way {
            PacketWay::RawIp => self.raw(PROTOCOL_EXPERIMENT, |_| payload(self.size)),
            PacketWay::RawTcp => self.raw(libc::IPPROTO_TCP, |to| self.segment(to)),
            PacketWay::RawHeader => self.raw(libc::IPPROTO_RAW, |to| self.datagram(to)),
            PacketWay::PacketSocket => self.to.iter().try_for_each(|to| self.below_ip(*to)),
        }
    }

    fn raw(&self, protocol: i32, bytes: impl Fn(SocketAddr) -> Vec<u8>) -> Result<()> {
        let first = self.to.first().context("no destination")?;
        let socket = socket(family_of(first), libc::SOCK_RAW, protocol)?;
        if protocol == libc::IPPROTO_RAW && !first.is_ipv4() {
            set_option(&socket, libc::IPPROTO_IPV6, libc::IPV6_HDRINCL, 1)?;
        }
        // The other end is on this machine: without an address of its own the socket would get what it sends.
        bind(socket.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(self.from, 0)))?;
        for _ in 0..self.count {
            for to in &self.to {
                let (bytes, to) = (bytes(*to), SockaddrStorage::from(SocketAddr::new(to.ip(), 0)));
                let sent = sendto(socket.as_raw_fd(), &bytes, &to, MsgFlags::empty()).context("cannot send raw")?;
                ensure!(sent == bytes.len(), "only {sent} bytes were taken");
            }
        }
        Ok(())
    }

    fn below_ip(&self, to: SocketAddr) -> Result<()> {
        let ethertype = if to.is_ipv4() { ETHERTYPE_IPV4 } else { ETHERTYPE_IPV6 };
        let socket = socket(libc::AF_PACKET, libc::SOCK_DGRAM, 0)?;
        let bytes = self.datagram(to);
        // SAFETY: all zeros are a valid address.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = ethertype.to_be();
        address.sll_ifindex = LOOPBACK;
        address.sll_halen = 6;
        let length = u32::try_from(size_of::<libc::sockaddr_ll>())?;
        let pointer = (&raw const address).cast();
        for _ in 0..self.count {
            // SAFETY: a live socket, and bytes and an address of the lengths given.
            let sent =
                unsafe { libc::sendto(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0, pointer, length) };
            let sent = Errno::result(sent).context("cannot send below IP")?;
            ensure!(usize::try_from(sent)? == bytes.len(), "only {sent} bytes were taken");
        }
        Ok(())
    }

    /// A TCP segment (RFC 9293), whose checksum nobody looks at: it is for no connection.
    fn segment(&self, to: SocketAddr) -> Vec<u8> {
        let mut tcp = Vec::new();
        tcp.extend(to.port().to_be_bytes());
        tcp.extend(to.port().to_be_bytes());
        tcp.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 0xff, 0xff, 0, 0, 0, 0]);
        tcp.extend(payload(self.size));
        tcp
    }

    /// A whole UDP datagram with its IP header (RFC 791, RFC 8200, RFC 768).
    fn datagram(&self, to: SocketAddr) -> Vec<u8> {
        let mut udp = Vec::new();
        udp.extend(to.port().to_be_bytes());
        udp.extend(to.port().to_be_bytes());
        udp.extend((8 + self.size as u16).to_be_bytes());
        udp.extend([0, 0]);
        udp.extend(payload(self.size));
        match (self.from, to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => ipv4(from, to, &udp),
            (IpAddr::V6(from), IpAddr::V6(to)) => ipv6(from, to, udp),
            // No such pair is asked for.
            _ => Vec::new(),
        }
    }
}

fn ipv4(from: Ipv4Addr, to: Ipv4Addr, udp: &[u8]) -> Vec<u8> {
    let length = 20 + udp.len() as u16;
    let mut packet = vec![0x45, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([0, 0, 0, 0, 64, PROTOCOL_UDP, 0, 0]);
    packet.extend(from.octets());
    packet.extend(to.octets());
    let checksum = super::super::generate::internet_checksum(&packet).to_be_bytes();
    packet.splice(10..12, checksum);
    // A checksum of zero in the UDP header says that there is none.
    packet.extend(udp);
    packet
}

fn ipv6(from: Ipv6Addr, to: Ipv6Addr, mut udp: Vec<u8>) -> Vec<u8> {
    let length = udp.len() as u16;
    let mut pseudo = [from.octets(), to.octets()].concat();
    pseudo.extend(u32::from(length).to_be_bytes());
    pseudo.extend([0, 0, 0, PROTOCOL_UDP]);
    pseudo.extend(&udp);
    let checksum = super::super::generate::internet_checksum(&pseudo).to_be_bytes();
    udp.splice(6..8, checksum);
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([PROTOCOL_UDP, 64]);
    packet.extend(from.octets());
    packet.extend(to.octets());
    packet.extend(udp);
    packet
}
