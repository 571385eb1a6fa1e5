//! Why an address has no owner in any table.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Scope;

/// The scope of `address` by the registries of special addresses. IPv4-mapped addresses have the scope of their IPv4
/// address; IPv6 space that was never handed out for unicast (outside `2000::/3`) is reserved.
#[must_use]
pub fn scope(address: IpAddr) -> Scope {
    match address.to_canonical() {
        IpAddr::V4(address) => V4
            .iter()
            .find(|(network, length, _)| contains(network.to_bits().into(), *length + 96, address.to_bits().into()))
            .map_or(Scope::Global, |&(_, _, scope)| scope),
        IpAddr::V6(address) => V6
            .iter()
            .find(|(network, length, _)| contains(network.to_bits(), *length, address.to_bits()))
            .map_or(Scope::Reserved, |&(_, _, scope)| scope),
    }
}

/// IANA IPv4 Special-Purpose Address Registry (RFC 6890 and successors) and the multicast block; the first network that
/// holds an address decides, so an exception stands before the network it is cut from. Blocks whose reachability the
/// registry calls global (AS112, AMT) or leaves open (6to4 relays) are not listed: their packets leave the host's site.
const V4: &[(Ipv4Addr, u8, Scope)] = &[
    (Ipv4Addr::UNSPECIFIED, 8, Scope::Reserved),
    (Ipv4Addr::new(10, 0, 0, 0), 8, Scope::Private),
    (Ipv4Addr::new(100, 64, 0, 0), 10, Scope::Private),
    (Ipv4Addr::new(127, 0, 0, 0), 8, Scope::Loopback),
    (Ipv4Addr::new(169, 254, 0, 0), 16, Scope::LinkLocal),
    (Ipv4Addr::new(172, 16, 0, 0), 12, Scope::Private),
    // Port Control Protocol and TURN anycast.
    (Ipv4Addr::new(192, 0, 0, 9), 32, Scope::Global),
    (Ipv4Addr::new(192, 0, 0, 10), 32, Scope::Global),
    (Ipv4Addr::new(192, 0, 0, 0), 24, Scope::Reserved),
    (Ipv4Addr::new(192, 0, 2, 0), 24, Scope::Reserved),
    (Ipv4Addr::new(192, 168, 0, 0), 16, Scope::Private),
    (Ipv4Addr::new(198, 18, 0, 0), 15, Scope::Reserved),
    (Ipv4Addr::new(198, 51, 100, 0), 24, Scope::Reserved),
    (Ipv4Addr::new(203, 0, 113, 0), 24, Scope::Reserved),
    (Ipv4Addr::new(224, 0, 0, 0), 4, Scope::Multicast),
    (Ipv4Addr::new(240, 0, 0, 0), 4, Scope::Reserved),
];

/// IANA IPv6 Special-Purpose Address Registry, in the order of [`V4`]. Teredo and 6to4, whose reachability the registry
/// leaves open, count as global.
const V6: &[(Ipv6Addr, u8, Scope)] = &[
    (Ipv6Addr::LOCALHOST, 128, Scope::Loopback),
    // IPv4/IPv6 translation; never holds a private IPv4 address (RFC 6052, section 3.1).
    (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96, Scope::Global),
    (Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48, Scope::Private),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 32, Scope::Global),
    // Port Control Protocol, TURN and DNS-SD anycast.
    (Ipv6Addr::new(0x2001, 1, 0, 0, 0, 0, 0, 1), 128, Scope::Global),
    (Ipv6Addr::new(0x2001, 1, 0, 0, 0, 0, 0, 2), 128, Scope::Global),
    (Ipv6Addr::new(0x2001, 1, 0, 0, 0, 0, 0, 3), 128, Scope::Global),
    (Ipv6Addr::new(0x2001, 3, 0, 0, 0, 0, 0, 0), 32, Scope::Global),
    (Ipv6Addr::new(0x2001, 4, 0x112, 0, 0, 0, 0, 0), 48, Scope::Global),
    (Ipv6Addr::new(0x2001, 0x20, 0, 0, 0, 0, 0, 0), 28, Scope::Global),
    (Ipv6Addr::new(0x2001, 0x30, 0, 0, 0, 0, 0, 0), 28, Scope::Global),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23, Scope::Reserved),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32, Scope::Reserved),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20, Scope::Reserved),
    (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3, Scope::Global),
    // Segment identifiers, routed inside one operator's network (RFC 9602).
    (Ipv6Addr::new(0x5f00, 0, 0, 0, 0, 0, 0, 0), 16, Scope::Private),
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7, Scope::Private),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10, Scope::LinkLocal),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8, Scope::Multicast),
];

/// Whether the first `length` of 128 bits are those of `network`; `length` is never 0 in the tables above.
fn contains(network: u128, length: u8, address: u128) -> bool {
    (network ^ address).leading_zeros() >= u32::from(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// First and last addresses of blocks and their neighbours outside.
    const CASES: &[(&str, Scope)] = &[
        ("0.0.0.0", Scope::Reserved),
        ("0.255.255.255", Scope::Reserved),
        ("1.0.0.0", Scope::Global),
        ("9.255.255.255", Scope::Global),
        ("10.0.0.0", Scope::Private),
        ("10.255.255.255", Scope::Private),
        ("11.0.0.0", Scope::Global),
        ("100.63.255.255", Scope::Global),
        ("100.64.0.0", Scope::Private),
        ("100.127.255.255", Scope::Private),
        ("100.128.0.0", Scope::Global),
        ("111.13.100.1", Scope::Global),
        ("126.255.255.255", Scope::Global),
        ("127.0.0.1", Scope::Loopback),
        ("127.255.255.255", Scope::Loopback),
        ("128.0.0.0", Scope::Global),
        ("169.253.255.255", Scope::Global),
        ("169.254.0.0", Scope::LinkLocal),
        ("169.254.169.254", Scope::LinkLocal),
        ("169.255.0.0", Scope::Global),
        ("172.15.255.255", Scope::Global),
        ("172.16.0.0", Scope::Private),
        ("172.31.255.255", Scope::Private),
        ("172.32.0.0", Scope::Global),
        ("191.255.255.255", Scope::Global),
        ("192.0.0.0", Scope::Reserved),
        ("192.0.0.8", Scope::Reserved),
        ("192.0.0.9", Scope::Global),
        ("192.0.0.10", Scope::Global),
        ("192.0.0.11", Scope::Reserved),
        ("192.0.0.171", Scope::Reserved),
        ("192.0.1.0", Scope::Global),
        ("192.0.2.1", Scope::Reserved),
        ("192.0.3.0", Scope::Global),
        ("192.31.196.1", Scope::Global),
        ("192.88.99.1", Scope::Global),
        ("192.167.255.255", Scope::Global),
        ("192.168.0.0", Scope::Private),
        ("192.168.255.255", Scope::Private),
        ("192.169.0.0", Scope::Global),
        ("198.17.255.255", Scope::Global),
        ("198.18.0.0", Scope::Reserved),
        ("198.19.255.255", Scope::Reserved),
        ("198.20.0.0", Scope::Global),
        ("198.51.100.7", Scope::Reserved),
        ("203.0.113.255", Scope::Reserved),
        ("203.0.114.0", Scope::Global),
        ("223.255.255.255", Scope::Global),
        ("224.0.0.1", Scope::Multicast),
        ("239.255.255.255", Scope::Multicast),
        ("240.0.0.0", Scope::Reserved),
        ("255.255.255.255", Scope::Reserved),
        ("::", Scope::Reserved),
        ("::1", Scope::Loopback),
        ("::2", Scope::Reserved),
        ("::8.8.8.8", Scope::Reserved),
        ("::ffff:8.8.8.8", Scope::Global),
        ("::ffff:192.168.1.1", Scope::Private),
        ("::ffff:127.0.0.1", Scope::Loopback),
        ("64:ff9b::808:808", Scope::Global),
        ("64:ff9b:0:0:0:1::", Scope::Reserved),
        ("64:ff9b:1::1", Scope::Private),
        ("64:ff9b:2::1", Scope::Reserved),
        ("100::1", Scope::Reserved),
        ("100:0:0:1::1", Scope::Reserved),
        ("1fff:ffff::1", Scope::Reserved),
        ("2000::", Scope::Global),
        ("2001::1", Scope::Global),
        ("2001:1::", Scope::Reserved),
        ("2001:1::1", Scope::Global),
        ("2001:1::3", Scope::Global),
        ("2001:1::4", Scope::Reserved),
        ("2001:2::1", Scope::Reserved),
        ("2001:3::1", Scope::Global),
        ("2001:4:112::1", Scope::Global),
        ("2001:4:113::1", Scope::Reserved),
        ("2001:10::1", Scope::Reserved),
        ("2001:20::1", Scope::Global),
        ("2001:3f:ffff::1", Scope::Global),
        ("2001:40::1", Scope::Reserved),
        ("2001:1ff:ffff::1", Scope::Reserved),
        ("2001:200::1", Scope::Global),
        ("2001:db7:ffff::1", Scope::Global),
        ("2001:db8::1", Scope::Reserved),
        ("2001:db9::1", Scope::Global),
        ("2002:808:808::1", Scope::Global),
        ("2409:8c00::1", Scope::Global),
        ("2620:4f:8000::1", Scope::Global),
        ("3ffe::1", Scope::Global),
        ("3fff::1", Scope::Reserved),
        ("3fff:fff:ffff::1", Scope::Reserved),
        ("3fff:1000::1", Scope::Global),
        ("4000::", Scope::Reserved),
        ("5f00::1", Scope::Private),
        ("5f01::1", Scope::Reserved),
        ("fbff::1", Scope::Reserved),
        ("fc00::1", Scope::Private),
        ("fdff:ffff::1", Scope::Private),
        ("fe00::1", Scope::Reserved),
        ("fe80::1", Scope::LinkLocal),
        ("febf:ffff::1", Scope::LinkLocal),
        ("fec0::1", Scope::Reserved),
        ("ff00::", Scope::Multicast),
        ("ff02::fb", Scope::Multicast),
        ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Scope::Multicast),
    ];

    #[test]
    fn scopes_follow_the_registries() {
        for &(text, expected) in CASES {
            let address = text.parse().expect("an address");
            assert_eq!(scope(address), expected, "{text}");
        }
    }

    #[test]
    fn an_exception_stands_before_the_network_it_is_cut_from() {
        let v4 = V4.iter().map(|&(network, length, _)| (u128::from(network.to_bits()), length + 96)).collect();
        let v6 = V6.iter().map(|&(network, length, _)| (network.to_bits(), length)).collect();
        for networks in [v4, v6] as [Vec<(u128, u8)>; 2] {
            for (position, &(network, length)) in networks.iter().enumerate() {
                let hidden_by = networks[..position]
                    .iter()
                    .find(|(wide, wide_length)| contains(*wide, *wide_length, network) && *wide_length <= length);
                assert_eq!(hidden_by, None, "entry {position} can never match");
            }
        }
    }
}
