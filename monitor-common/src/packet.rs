//! Reading an IP packet's headers through a bounded window, as the packet hooks see it: from the IP header on.

use crate::{
    address::Address,
    record::{FAMILY_IPV4, FAMILY_IPV6},
};

/// Access to a packet's bytes.
pub trait Packet {
    /// The `N` bytes at `AT`, where they lie; `None` when they must be copied, or the packet is shorter.
    fn linear<const AT: usize, const N: usize>(&self) -> Option<&[u8; N]>;

    /// The `N` bytes at `offset`; `None` when the packet is shorter. Each call is one bounded copy, so that the reader
    /// decides how few there are.
    fn load<const N: usize>(&self, offset: u32) -> Option<[u8; N]>;
}

/// TCP, by its IP protocol number.
pub const PROTOCOL_TCP: u8 = 6;
/// UDP, by its IP protocol number.
pub const PROTOCOL_UDP: u8 = 17;
/// SCTP, by its IP protocol number.
pub const PROTOCOL_SCTP: u8 = 132;
/// UDP-Lite, by its IP protocol number.
pub const PROTOCOL_UDP_LITE: u8 = 136;
/// ICMP for IPv4, by its IP protocol number.
pub const PROTOCOL_ICMP: u8 = 1;
/// ICMP for IPv6, by its IP protocol number.
pub const PROTOCOL_ICMPV6: u8 = 58;

/// TCP flag bits as they stand in byte 13 of the header.
pub mod tcp_flag {
    /// The sender has no more data.
    pub const FIN: u8 = 0x01;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// The acknowledgement number is valid.
    pub const ACK: u8 = 0x10;
}

/// What a packet's headers say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    /// [`FAMILY_IPV4`] or [`FAMILY_IPV6`].
    pub family: u8,
    /// Transport protocol number, after IPv6 extension headers.
    pub protocol: u8,
    /// TCP flags; 0 for other protocols.
    pub tcp_flags: u8,
    /// Source address.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
    /// Source port in network byte order; 0 without ports.
    pub source_port_be: u16,
    /// Destination port in network byte order; 0 without ports.
    pub destination_port_be: u16,
    /// TCP sequence number of the first byte (SYN included).
    pub tcp_sequence: u32,
    /// Bytes of the IP and transport headers together.
    pub header_bytes: u32,
}

/// Bytes of a UDP header (RFC 768), and of UDP-Lite's (RFC 3828).
const UDP_HEADER_BYTES: u32 = 8;
/// IPv6 extension headers that are followed before giving up.
const EXTENSION_LIMIT: usize = 6;

impl Headers {
    /// Takes the fields of an IPv4 header, and returns the header's length.
    #[inline(always)]
    fn read_ipv4(&mut self, ip: &[u8; 20]) -> u32 {
        self.family = FAMILY_IPV4;
        self.protocol = ip[9];
        self.source = Address::mapped(word::<12, 20>(ip));
        self.destination = Address::mapped(word::<16, 20>(ip));
        u32::from(ip[0] & 0x0f) * 4
    }

    /// Takes the fields of a TCP header, and returns the header's length.
    #[inline(always)]
    fn read_tcp(&mut self, tcp: &[u8; 14]) -> u32 {
        self.read_ports(word::<0, 14>(tcp));
        self.tcp_sequence = u32::from_be(word::<4, 14>(tcp));
        self.tcp_flags = tcp[13];
        u32::from(tcp[12] >> 4) * 4
    }

    /// Takes the ports, with which every transport that has some begins, as they lie in memory.
    #[inline(always)]
    fn read_ports(&mut self, ports: u32) {
        let [a, b, c, d] = ports.to_ne_bytes();
        self.source_port_be = u16::from_ne_bytes([a, b]);
        self.destination_port_be = u16::from_ne_bytes([c, d]);
    }
}

/// The four bytes at `AT` as they lie in memory. A packet's headers lie anywhere: the compiler would read byte by byte what
/// the kernel, where it takes such programs, reads at once.
#[inline(always)]
#[cfg_attr(not(target_arch = "bpf"), expect(clippy::indexing_slicing, reason = "inside the array"))]
fn word<const AT: usize, const N: usize>(bytes: &[u8; N]) -> u32 {
    const { assert!(AT + 4 <= N) };
    #[cfg(target_arch = "bpf")]
    {
        let word: u64;
        // SAFETY: four bytes of the array; the verifier checks it as well.
        unsafe {
            core::arch::asm!(
                "{word} = *(u32 *)({bytes} + {at})",
                word = lateout(reg) word,
                bytes = in(reg) bytes,
                at = const AT,
                options(pure, readonly, nostack, preserves_flags),
            );
        }
        word as u32
    }
    #[cfg(not(target_arch = "bpf"))]
    u32::from_ne_bytes([bytes[AT], bytes[AT + 1], bytes[AT + 2], bytes[AT + 3]])
}

/// Reads the IP and transport headers. `None` if the packet is cut short or is neither IPv4 nor IPv6.
#[inline(always)]
pub fn read_headers(packet: &impl Packet) -> Option<Headers> {
    match read_plain_headers(packet) {
        Some(headers) => Some(headers),
        None => read_any_headers(packet),
    }
}

/// Reads the headers of TCP or UDP behind an IP header without options or extensions where they lie: those of nearly every
/// packet. `None`: it is another kind of packet, or not all of them can be read in place.
#[inline(always)]
fn read_plain_headers(packet: &impl Packet) -> Option<Headers> {
    let mut headers = Headers::default();
    let ip = packet.linear::<0, 20>()?;
    if ip[0] == 0x45 {
        headers.read_ipv4(ip);
        return read_plain_transport::<20>(packet, headers);
    }
    let ip = packet.linear::<0, 40>()?;
    if ip[0] >> 4 != 6 {
        return None;
    }
    headers.family = FAMILY_IPV6;
    headers.protocol = ip[6];
    headers.source =
        Address::from_words([word::<8, 40>(ip), word::<12, 40>(ip), word::<16, 40>(ip), word::<20, 40>(ip)]);
    headers.destination =
        Address::from_words([word::<24, 40>(ip), word::<28, 40>(ip), word::<32, 40>(ip), word::<36, 40>(ip)]);
    read_plain_transport::<40>(packet, headers)
}

/// The same from the transport header on, which begins at `AT`.
#[inline(always)]
fn read_plain_transport<const AT: usize>(packet: &impl Packet, mut headers: Headers) -> Option<Headers> {
    let transport_bytes = match headers.protocol {
        PROTOCOL_TCP => headers.read_tcp(packet.linear::<AT, 14>()?),
        PROTOCOL_UDP => {
            headers.read_ports(word::<0, 4>(packet.linear::<AT, 4>()?));
            UDP_HEADER_BYTES
        }
        _ => return None,
    };
    headers.header_bytes = AT as u32 + transport_bytes;
    Some(headers)
}

/// Reads the headers of every kind of packet, copying them.
#[inline(always)]
fn read_any_headers(packet: &impl Packet) -> Option<Headers> {
    let mut headers = Headers::default();
    // Both versions' headers are at least as long.
    let ip = packet.load::<20>(0)?;
    let transport = match ip[0] >> 4 {
        4 => headers.read_ipv4(&ip),
        6 => {
            headers.family = FAMILY_IPV6;
            headers.source = Address::from_octets(packet.load::<16>(8)?);
            headers.destination = Address::from_octets(packet.load::<16>(24)?);
            let (protocol, transport) = skip_extensions(packet, ip[6])?;
            headers.protocol = protocol;
            transport
        }
        _ => return None,
    };
    let transport_bytes = match headers.protocol {
        PROTOCOL_TCP => headers.read_tcp(&packet.load::<14>(transport)?),
        PROTOCOL_UDP | PROTOCOL_UDP_LITE | PROTOCOL_SCTP => {
            headers.read_ports(u32::from_ne_bytes(packet.load::<4>(transport)?));
            // SCTP's common header (RFC 9260, section 3.1); its chunks count as payload.
            if headers.protocol == PROTOCOL_SCTP { 12 } else { UDP_HEADER_BYTES }
        }
        PROTOCOL_ICMP | PROTOCOL_ICMPV6 => 8,
        _ => 0,
    };
    headers.header_bytes = transport + transport_bytes;
    Some(headers)
}

/// Follows IPv6 extension headers (RFC 8200, section 4) to the transport protocol and its offset.
#[inline(always)]
fn skip_extensions(packet: &impl Packet, first: u8) -> Option<(u8, u32)> {
    let mut protocol = first;
    let mut offset = 40;
    for _ in 0..EXTENSION_LIMIT {
        match protocol {
            // Hop-by-hop options, routing, destination options.
            0 | 43 | 60 => {
                let [next, length] = packet.load::<2>(offset)?;
                offset += (u32::from(length) + 1) * 8;
                protocol = next;
            }
            // Fragment: always eight bytes.
            44 => {
                [protocol] = packet.load::<1>(offset)?;
                offset += 8;
            }
            _ => break,
        }
    }
    Some((protocol, offset))
}

#[cfg(test)]
mod tests {
    use core::net::IpAddr;

    use proptest::prelude::*;

    use super::*;

    impl Packet for &[u8] {
        fn linear<const AT: usize, const N: usize>(&self) -> Option<&[u8; N]> {
            self.get(AT..AT + N)?.try_into().ok()
        }

        fn load<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
            let offset = offset as usize;
            self.get(offset..offset + N)?.try_into().ok()
        }
    }

    #[test]
    fn reads_tcp_over_ipv4_with_options() {
        let mut packet = vec![0x46, 0, 0, 0, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 120, 232, 0, 1, 1, 1, 1, 1];
        packet.extend([0x9c, 0x40, 0x01, 0xbb, 0, 0, 1, 0, 0, 0, 0, 0, 0x60, 0x18, 0, 0, 0, 0, 0, 0, 9, 9, 9, 9]);
        let headers = read_headers(&packet.as_slice()).expect("whole headers");
        assert_eq!(headers.family, FAMILY_IPV4);
        assert_eq!(headers.destination.ip(), IpAddr::from([120, 232, 0, 1]));
        assert_eq!(u16::from_be(headers.source_port_be), 40_000);
        assert_eq!(u16::from_be(headers.destination_port_be), 443);
        assert_eq!(headers.tcp_sequence, 256);
        assert_eq!(headers.tcp_flags, 0x18);
        assert_eq!(headers.header_bytes, 24 + 24);
    }

    #[test]
    fn follows_ipv6_extension_headers_to_udp() {
        let mut packet = vec![0x60, 0, 0, 0, 0, 0, 0, 64];
        packet.extend([0x20; 16]);
        packet.extend([0x24; 16]);
        packet.extend([44, 0, 0, 0, 0, 0, 0, 0]);
        packet.extend([17, 0, 0, 0, 0, 0, 0, 0]);
        packet.extend([0x13, 0x88, 0, 53, 0, 8, 0, 0]);
        let headers = read_headers(&packet.as_slice()).expect("whole headers");
        assert_eq!((headers.protocol, u16::from_be(headers.destination_port_be)), (PROTOCOL_UDP, 53));
        assert_eq!(headers.header_bytes, 40 + 8 + 8 + 8);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..128)) {
            let _ = read_headers(&bytes.as_slice());
        }

        #[test]
        fn reading_in_place_says_what_copying_says(
            first in prop_oneof![Just(0x45u8), Just(0x60), any::<u8>()],
            protocol in prop_oneof![Just(PROTOCOL_TCP), Just(PROTOCOL_UDP), any::<u8>()],
            mut bytes in proptest::collection::vec(any::<u8>(), 10..128),
        ) {
            bytes[0] = first;
            bytes[if first >> 4 == 6 { 6 } else { 9 }] = protocol;
            let packet = bytes.as_slice();
            if let Some(headers) = read_plain_headers(&packet) {
                prop_assert_eq!(Some(headers), read_any_headers(&packet));
            }
        }
    }
}
