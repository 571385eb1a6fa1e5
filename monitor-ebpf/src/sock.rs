//! Reading a `struct sock` and its messages at offsets from BTF.

use monitor_common::{
    address::Address,
    offsets::UNKNOWN,
    packet::{PROTOCOL_SCTP, PROTOCOL_TCP, PROTOCOL_UDP, PROTOCOL_UDP_LITE},
    record::{FAMILY_IPV4, FAMILY_IPV6, FlowKey},
};

use crate::{offset, read::field};

/// `IPPROTO_MPTCP` (`include/uapi/linux/in.h`): the protocol of a socket whose bytes travel on TCP subflows.
pub(crate) const PROTOCOL_MPTCP: u16 = 262;

/// Where a packet socket's frames go.
pub(crate) struct FrameTarget {
    /// Index of the interface; 0 unknown.
    pub(crate) interface: u32,
    /// Its name; zeros unknown.
    pub(crate) interface_name: [u8; 16],
    /// Ethernet protocol, in network byte order; 0 unknown.
    pub(crate) ether_type_be: u16,
}

/// The cookie that a hook made for the socket; 0 if none did yet.
#[inline(always)]
pub(crate) fn cookie(sk: u64) -> u64 {
    field(sk, offset!(sock_cookie)).unwrap_or(0)
}

/// The cookie of the socket's network namespace; 0 unknown.
#[inline(always)]
pub(crate) fn namespace_cookie(sk: u64) -> u64 {
    let namespace: u64 = field(sk, offset!(sock_namespace)).unwrap_or(0);
    field(namespace, offset!(namespace_cookie)).unwrap_or(0)
}

/// The flow to the peer of a connected socket. The bytes of an MPTCP socket travel on its first subflow, a socket of its
/// own that connects.
#[inline(always)]
pub(crate) fn peer(sk: u64) -> Option<FlowKey> {
    let mut sk = sk;
    let mut protocol: u16 = field(sk, offset!(sock_protocol))?;
    if protocol == PROTOCOL_MPTCP {
        sk = field(sk, offset!(mptcp_first))?;
        protocol = u16::from(PROTOCOL_TCP);
    }
    let family = field::<u16>(sk, offset!(sock_family))? as u8;
    let mut key = FlowKey {
        socket_cookie: cookie(sk),
        remote_address: remote_address(sk, family)?,
        remote_port_be: port(protocol as u8, field(sk, offset!(sock_remote_port))?),
        protocol: protocol as u8,
        family,
        padding: 0,
    };
    if key.socket_cookie == 0 {
        return None;
    }
    if key.remote_address.is_mapped() {
        key.family = FAMILY_IPV4;
    }
    Some(key)
}

/// The peer's address; `None` if the socket has none.
#[inline(always)]
fn remote_address(sk: u64, family: u8) -> Option<Address> {
    if family == FAMILY_IPV4 {
        let address: u32 = field(sk, offset!(sock_remote_ipv4))?;
        return if address == 0 { None } else { Some(Address::mapped(address)) };
    }
    if family != FAMILY_IPV6 {
        return None;
    }
    let address: Address = field(sk, offset!(sock_remote_ipv6))?;
    if address == Address::NONE { None } else { Some(address) }
}

/// The socket's own address, and its port in network byte order.
#[inline(always)]
pub(crate) fn local(sk: u64, family: u8) -> (Address, u16) {
    let port: u16 = field(sk, offset!(sock_local_port)).unwrap_or(0);
    let address = if family == FAMILY_IPV4 {
        Address::mapped(field(sk, offset!(sock_local_ipv4)).unwrap_or_default())
    } else {
        field(sk, offset!(sock_local_ipv6)).unwrap_or_default()
    };
    (address, port.to_be())
}

/// The flow to the address that a message carries; `None` if it carries none.
#[inline(always)]
pub(crate) fn addressed(sk: u64, cookie: u64, message: u64) -> Option<FlowKey> {
    let address: u64 = field(message, offset!(message_address))?;
    let length: i32 = field(message, offset!(message_address_bytes))?;
    if address == 0 || length < 8 {
        return None;
    }
    let protocol = field::<u16>(sk, offset!(sock_protocol))? as u8;
    // `struct sockaddr_in` and `sockaddr_in6` (include/uapi/linux/in.h, in6.h) are the same everywhere.
    let family: u16 = field(address, 0)?;
    let mut key = FlowKey {
        socket_cookie: cookie,
        remote_address: Address::NONE,
        remote_port_be: port(protocol, field(address, 2)?),
        protocol,
        family: family as u8,
        padding: 0,
    };
    if family == u16::from(FAMILY_IPV4) {
        key.remote_address = Address::mapped(field(address, 4)?);
    } else if family == u16::from(FAMILY_IPV6) {
        key.remote_address = field(address, 8)?;
        if key.remote_address.is_mapped() {
            key.family = FAMILY_IPV4;
        }
    } else {
        return None;
    }
    Some(key)
}

/// Where a packet socket writes to: what it is bound to, or what the message says (`struct sockaddr_ll`).
#[inline(always)]
pub(crate) fn frame_target(sk: u64, message: u64) -> FrameTarget {
    let device: u64 = field(sk, offset!(packet_device)).unwrap_or(0);
    let mut target = FrameTarget {
        interface: field(sk, offset!(packet_interface)).unwrap_or(0),
        interface_name: field(device, offset!(device_name)).unwrap_or_default(),
        ether_type_be: field(sk, offset!(packet_ether_type)).unwrap_or(0),
    };
    if message == 0 || offset!(message_address) == UNKNOWN {
        return target;
    }
    let address: u64 = field(message, offset!(message_address)).unwrap_or(0);
    if address != 0 {
        // `sll_protocol` at 2, `sll_ifindex` at 4 (include/uapi/linux/if_packet.h).
        target.ether_type_be = field(address, 2).unwrap_or(0);
        let interface = field(address, 4).unwrap_or(0);
        if interface != target.interface {
            target.interface = interface;
            target.interface_name = [0; 16];
        }
    }
    target
}

/// The port, if the protocol has ports that the packet hooks read.
#[inline(always)]
fn port(protocol: u8, port_be: u16) -> u16 {
    match protocol {
        PROTOCOL_TCP | PROTOCOL_UDP | PROTOCOL_UDP_LITE | PROTOCOL_SCTP => port_be,
        _ => 0,
    }
}
