//! Community ID v1: one id for a flow in every tool that sees it (Zeek, Suricata, Elastic, …).
//!
//! Source: <https://github.com/corelight/community-id-spec>.

use std::net::SocketAddr;

use crate::event::Protocol;

/// The Community ID v1 of a flow with seed 0, the same for both directions.
///
/// `None` where the id would be a guess: for ICMP, whose id is made of a message type and code that a flow does not
/// have, and for end points of different address families.
#[must_use]
pub fn community_id(local: SocketAddr, remote: SocketAddr, protocol: Protocol) -> Option<String> {
    let ports = match protocol {
        Protocol::Tcp | Protocol::Udp | Protocol::Sctp => (Some(local.port()), Some(remote.port())),
        Protocol::Icmp | Protocol::IcmpV6 | Protocol::Packet => return None,
        Protocol::Other(_) => (None, None),
    };
    community_id::calculate_community_id(0, local.ip(), remote.ip(), ports.0, ports.1, protocol.number()?, false).ok()
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, SocketAddr};

    use super::community_id;
    use crate::event::Protocol;

    /// `baseline/baseline_deflt.json` of the specification, unchanged.
    const BASELINE: &str = include_str!("testdata/community-id-baseline.json");

    #[derive(serde::Deserialize)]
    struct Vector {
        proto: u8,
        saddr: IpAddr,
        daddr: IpAddr,
        sport: Option<u16>,
        dport: Option<u16>,
        communityid: String,
    }

    fn vectors() -> Vec<Vector> {
        serde_json::from_str(BASELINE).expect("the baseline is JSON")
    }

    #[test]
    fn the_crate_gives_the_published_ids_for_every_protocol() {
        for Vector { proto, saddr, daddr, sport, dport, communityid } in vectors() {
            let id = community_id::calculate_community_id(0, saddr, daddr, sport, dport, proto, false);
            assert_eq!(id.as_deref(), Ok(communityid.as_str()), "{proto} {saddr} {daddr}");
        }
    }

    #[test]
    fn flows_get_the_published_ids_and_icmp_gets_none() {
        let mut with_id = 0;
        for Vector { proto, saddr, daddr, sport, dport, communityid } in vectors() {
            let protocol = Protocol::from_number(proto);
            let source = SocketAddr::new(saddr, sport.unwrap_or(0));
            let destination = SocketAddr::new(daddr, dport.unwrap_or(0));
            let expected = match protocol {
                Protocol::Icmp | Protocol::IcmpV6 => None,
                _ => Some(communityid),
            };
            with_id += usize::from(expected.is_some());
            assert_eq!(community_id(source, destination, protocol), expected, "{proto} {saddr} {daddr}");
        }
        assert_eq!(with_id, 10, "TCP, UDP, SCTP and RSVP vectors of the baseline");
    }

    #[test]
    fn mixed_address_families_have_no_id() {
        let local: SocketAddr = "192.0.2.1:1000".parse().expect("an address");
        let remote: SocketAddr = "[2001:db8::1]:443".parse().expect("an address");
        assert_eq!(community_id(local, remote, Protocol::Tcp), None);
    }
}
