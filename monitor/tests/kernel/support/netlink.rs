//! The few routing messages that make a network: interface up, addresses, routes (`linux/rtnetlink.h`).
//!
//! Written by hand because the guests have no `ip`, and three messages do not deserve a crate.

use std::{io, net::IpAddr, os::fd::AsRawFd as _};

use anyhow::{Context as _, Result, ensure};
use nix::{
    libc,
    sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket},
};

/// The loopback interface has this index in every network namespace (`LOOPBACK_IFINDEX`).
pub(super) const LOOPBACK: u32 = 1;

/// Brings the loopback interface up and sets the largest IP packet that it takes.
pub(super) fn set_up_loopback(packet_bytes: u32) -> Result<()> {
    let mut message = set_up(LOOPBACK);
    message.attribute(libc::IFLA_MTU, &packet_bytes.to_ne_bytes());
    message.exchange().context("cannot bring the loopback interface up")
}

/// Makes a virtual cable with an interface at each end (`drivers/net/veth.c`).
pub(super) fn add_cable(names: [&str; 2]) -> Result<()> {
    /// The other end, in the attributes of the first (`VETH_INFO_PEER`).
    const PEER: u16 = 1;
    let name = |name: &str| attribute(libc::IFLA_IFNAME, &[name.as_bytes(), &[0]].concat());
    let [first, second] = names.map(name);
    // An empty `struct ifinfomsg`, then the other end's name.
    let peer = attribute(PEER, &[vec![0; 16], second].concat());
    let kind = attribute(libc::IFLA_INFO_KIND, b"veth");
    let information = [kind, attribute(libc::IFLA_INFO_DATA, &peer)].concat();
    let mut message = Message::new(libc::RTM_NEWLINK, libc::NLM_F_CREATE | libc::NLM_F_EXCL);
    message.bytes(&[0; 16]).bytes(&first).attribute(libc::IFLA_LINKINFO, &information);
    message.exchange().context("cannot make a veth pair; in a guest its module must be loaded")
}

/// Gives an interface an address and brings it up.
pub(super) fn set_up_interface(name: &str, address: IpAddr) -> Result<()> {
    let index = nix::net::if_::if_nametoindex(name).with_context(|| format!("no interface {name}"))?;
    add_address(index, address)?;
    set_up(index).exchange().with_context(|| format!("cannot bring {name} up"))
}

fn set_up(index: u32) -> Message {
    let up = libc::IFF_UP.cast_unsigned();
    let mut message = Message::new(libc::RTM_NEWLINK, 0);
    message.bytes(&[0, 0]).bytes(&0_u16.to_ne_bytes()).number(index).number(up).number(up);
    message
}

/// Gives an interface an address.
pub(super) fn add_address(interface: u32, address: IpAddr) -> Result<()> {
    let mut message = Message::new(libc::RTM_NEWADDR, libc::NLM_F_CREATE | libc::NLM_F_EXCL);
    // Nobody else is there who could have the address: no duplicate address detection.
    message.bytes(&[family(address), full_length(address), 0x02, libc::RT_SCOPE_UNIVERSE]).number(interface);
    message.attribute(libc::IFA_LOCAL, &octets(address)).attribute(libc::IFA_ADDRESS, &octets(address));
    message.exchange().with_context(|| format!("cannot add the address {address}"))
}

/// Makes every address of the family of `source` one of this machine's, reached from `source`.
pub(super) fn own_every_address(source: IpAddr) -> Result<()> {
    let mut message = Message::new(libc::RTM_NEWROUTE, libc::NLM_F_CREATE | libc::NLM_F_EXCL);
    message
        .bytes(&[family(source), 0, 0, 0])
        .bytes(&[libc::RT_TABLE_LOCAL, libc::RTPROT_STATIC, libc::RT_SCOPE_HOST, libc::RTN_LOCAL])
        .number(0)
        .attribute(libc::RTA_OIF, &LOOPBACK.to_ne_bytes())
        .attribute(libc::RTA_PREFSRC, &octets(source));
    message.exchange().with_context(|| format!("cannot add the local route from {source}"))
}

/// A request under construction.
struct Message(Vec<u8>);

impl Message {
    fn new(kind: u16, flags: i32) -> Self {
        let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK | flags).cast_unsigned() as u16;
        let mut message = Self(Vec::new());
        // The length is filled in at the end; sequence number and port stay 0.
        message.number(0).bytes(&kind.to_ne_bytes()).bytes(&flags.to_ne_bytes()).number(0).number(0);
        message
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn number(&mut self, number: u32) -> &mut Self {
        self.bytes(&number.to_ne_bytes())
    }

    /// Appends an attribute.
    fn attribute(&mut self, kind: u16, content: &[u8]) -> &mut Self {
        self.bytes(&attribute(kind, content))
    }

    /// Sends the request and waits for the kernel's answer.
    fn exchange(&mut self) -> Result<()> {
        let length = u32::try_from(self.0.len())?.to_ne_bytes();
        self.0.splice(0..4, length);
        let netlink =
            socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
        send(netlink.as_raw_fd(), &self.0, MsgFlags::empty())?;
        let mut answer = [0_u8; 4_096];
        let length = recv(netlink.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        // `struct nlmsgerr` after the header: 0 is an acknowledgement.
        let code = answer.get(16..20).filter(|_| length >= 20).context("the answer is too short")?;
        let code = i32::from_ne_bytes(code.try_into()?);
        ensure!(code == 0, io::Error::from_raw_os_error(-code));
        Ok(())
    }
}

/// An attribute: its length, kind and content, padded to four bytes.
fn attribute(kind: u16, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + content.len()).unwrap_or(u16::MAX);
    let mut bytes = [&length.to_ne_bytes(), &kind.to_ne_bytes(), content].concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { libc::AF_INET as u8 } else { libc::AF_INET6 as u8 }
}

fn full_length(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}
