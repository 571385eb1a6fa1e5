//! What a lent socket says of itself.

use std::{
    net::SocketAddr,
    os::fd::{AsRawFd as _, OwnedFd},
};

use monitor_common::{
    address::Address,
    packet::{PROTOCOL_SCTP, PROTOCOL_TCP, PROTOCOL_UDP, PROTOCOL_UDP_LITE},
    record::{FAMILY_IPV4, FAMILY_IPV6, FlowKey},
};
use nix::{
    libc,
    sys::socket::{SockaddrStorage, getpeername, getsockname},
};

/// `IPPROTO_MPTCP` (include/uapi/linux/in.h).
const PROTOCOL_MPTCP: u32 = 262;
/// Of `struct tcp_info` (include/uapi/linux/tcp.h): the connection's state, and where counters of eight bytes stand. It
/// only ever grows at its end.
const STATE_AT: usize = 0;
const RECEIVED_AT: usize = 128;
const SENT_AT: usize = 200;
const SENT_AGAIN_AT: usize = 208;
const INFO_BYTES: usize = 216;

/// States of a TCP connection (`include/net/tcp_states.h`) in which payload moves, or did.
const ESTABLISHED: [u8; 4] = [1, 4, 5, 8];
/// The handshake is under way.
const SYN_SENT: u8 = 2;

/// A socket of the Internet families.
pub(super) struct Socket {
    pub(super) cookie: u64,
    /// 0: the kernel does not tell (before 5.14).
    pub(super) namespace_cookie: u64,
    pub(super) is_multipath: bool,
    protocol: u8,
    /// Address and port.
    pub(super) local: (Address, u16),
    pub(super) peer: Option<(Address, u16)>,
}

/// What TCP says that it has moved.
pub(super) struct Counters {
    pub(super) is_established: bool,
    /// Payload, without what was sent again.
    pub(super) sent_bytes: u64,
    pub(super) received_bytes: u64,
}

impl Socket {
    /// Asks the socket. `None` for another family.
    pub(super) fn read(socket: &OwnedFd) -> Option<Self> {
        let number = |name| option(socket, libc::SOL_SOCKET, name).map(u32::from_ne_bytes);
        let family = u8::try_from(number(libc::SO_DOMAIN)?).ok()?;
        if family != FAMILY_IPV4 && family != FAMILY_IPV6 {
            return None;
        }
        let protocol = number(libc::SO_PROTOCOL)?;
        let local = getsockname::<SockaddrStorage>(socket.as_raw_fd()).ok().and_then(|address| end(&address));
        let peer = getpeername::<SockaddrStorage>(socket.as_raw_fd()).ok().and_then(|address| end(&address));
        Some(Self {
            cookie: option(socket, libc::SOL_SOCKET, libc::SO_COOKIE).map(u64::from_ne_bytes)?,
            namespace_cookie: option(socket, libc::SOL_SOCKET, libc::SO_NETNS_COOKIE).map_or(0, u64::from_ne_bytes),
            is_multipath: protocol == PROTOCOL_MPTCP,
            protocol: protocol as u8,
            local: local.unwrap_or_default(),
            peer: peer.filter(|(address, _)| !address.ip().is_unspecified()),
        })
    }

    pub(super) const fn is_tcp(&self) -> bool {
        self.protocol == PROTOCOL_TCP
    }

    pub(super) const fn is_datagram(&self) -> bool {
        self.protocol == PROTOCOL_UDP
    }

    /// The flow to its peer; `None` without one. The bytes of an MPTCP socket travel on sockets of their own.
    pub(super) fn flow_key(&self) -> Option<FlowKey> {
        let (remote_address, port) = self.peer.filter(|_| !self.is_multipath)?;
        let has_ports = matches!(self.protocol, PROTOCOL_TCP | PROTOCOL_UDP | PROTOCOL_UDP_LITE | PROTOCOL_SCTP);
        Some(FlowKey {
            socket_cookie: self.cookie,
            remote_address,
            remote_port_be: if has_ports { port.to_be() } else { 0 },
            protocol: self.protocol,
            family: if remote_address.is_mapped() { FAMILY_IPV4 } else { FAMILY_IPV6 },
            padding: 0,
        })
    }
}

/// What a TCP connection has moved; `None` if it is over.
pub(super) fn counters(socket: &OwnedFd) -> Option<Counters> {
    let info: [u8; INFO_BYTES] = option(socket, libc::IPPROTO_TCP, libc::TCP_INFO)?;
    let state = *info.get(STATE_AT)?;
    let is_established = ESTABLISHED.contains(&state);
    if !is_established && state != SYN_SENT {
        return None;
    }
    let counter = |at: usize| Some(u64::from_ne_bytes(*info.get(at..)?.first_chunk()?));
    Some(Counters {
        is_established,
        sent_bytes: counter(SENT_AT)?.saturating_sub(counter(SENT_AGAIN_AT)?),
        received_bytes: counter(RECEIVED_AT)?,
    })
}

/// Address and port.
fn end(address: &SockaddrStorage) -> Option<(Address, u16)> {
    let ipv4 = address.as_sockaddr_in().map(|address| SocketAddr::from(std::net::SocketAddrV4::from(*address)));
    let address = ipv4.or_else(|| {
        address.as_sockaddr_in6().map(|address| SocketAddr::from(std::net::SocketAddrV6::from(*address)))
    })?;
    Some((address.ip().into(), address.port()))
}

/// A socket option of `N` bytes; `None` if the socket has none such, or a shorter one.
fn option<const N: usize>(socket: &OwnedFd, level: libc::c_int, name: libc::c_int) -> Option<[u8; N]> {
    let mut value = [0_u8; N];
    let mut length = libc::socklen_t::try_from(N).ok()?;
    // SAFETY: the kernel writes at most `length` bytes, which is the size of `value`, and the new length.
    let result =
        unsafe { libc::getsockopt(socket.as_raw_fd(), level, name, value.as_mut_ptr().cast(), &raw mut length) };
    (result == 0 && length as usize == N).then_some(value)
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::{IpAddr, TcpListener, TcpStream, UdpSocket},
    };

    use super::*;

    #[test]
    fn a_connection_says_its_ends_and_what_it_moved() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut served, _) = listener.accept().unwrap();
        client.write_all(b"twelve bytes").unwrap();
        served.read_exact(&mut [0; 12]).unwrap();
        let port = listener.local_addr().unwrap().port();
        let descriptor = OwnedFd::from(client);
        let socket = Socket::read(&descriptor).unwrap();
        let key = socket.flow_key().unwrap();
        assert_eq!(
            (key.remote_address, key.remote_port_be),
            (Address::from(IpAddr::from([127, 0, 0, 1])), port.to_be())
        );
        assert_eq!((key.protocol, key.family), (PROTOCOL_TCP, FAMILY_IPV4));
        assert!(socket.cookie != 0 && key.socket_cookie == socket.cookie);
        let moved = counters(&descriptor).unwrap();
        assert!(moved.is_established);
        assert_eq!((moved.sent_bytes, moved.received_bytes), (12, 0));
        let listening = OwnedFd::from(listener);
        assert!(Socket::read(&listening).unwrap().flow_key().is_none());
        assert!(counters(&listening).is_none());
    }

    #[test]
    fn only_a_connected_datagram_socket_has_a_flow_and_other_families_are_no_concern() {
        let socket = UdpSocket::bind("[::]:0").unwrap();
        let read = Socket::read(&OwnedFd::from(socket.try_clone().unwrap())).unwrap();
        assert!(read.is_datagram() && read.flow_key().is_none());
        socket.connect("[::1]:53").unwrap();
        let key = Socket::read(&OwnedFd::from(socket)).unwrap().flow_key().unwrap();
        assert_eq!((key.remote_port_be, key.family), (53_u16.to_be(), FAMILY_IPV6));
        let (unix, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(Socket::read(&OwnedFd::from(unix)).is_none());
    }
}
