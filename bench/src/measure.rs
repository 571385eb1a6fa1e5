//! What is measured: one file per question.

pub(crate) mod flows;
pub(crate) mod idle;
pub(crate) mod lookups;
pub(crate) mod machine;
pub(crate) mod neighbours;
pub(crate) mod overhead;
pub(crate) mod prefixes;
pub(crate) mod programs;
pub(crate) mod rates;

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    path::Path,
};

use crate::{
    generator::Ground,
    load::{Addresses, Load},
    serve::{CONNECTION_PORT, DATAGRAM_PORT, STREAM_PORT},
};

/// What every measurement needs.
#[derive(Debug)]
pub(crate) struct Bench<'a> {
    /// The monitor's program.
    pub(crate) daemon: &'a Path,
    /// Namespaces, servers and cgroup.
    pub(crate) ground: Ground,
    /// A short run.
    pub(crate) quick: bool,
    /// Only loads whose name contains this.
    pub(crate) load: &'a str,
}

impl Bench<'_> {
    /// The first for a full run, the second for a short one.
    pub(crate) const fn choose<T: Copy>(&self, full: T, short: T) -> T {
        if self.quick { short } else { full }
    }

    /// The loads that show what the monitor costs whoever makes them, with what one operation is.
    fn loads(&self, seconds: f64) -> impl Iterator<Item = (&'static str, &'static str, Load)> {
        let wanted = self.load;
        loads(seconds).into_iter().filter(move |(name, _, _)| name.contains(wanted))
    }

    /// Loads that make the programs run that no other load does.
    fn further_loads(&self, seconds: f64) -> impl Iterator<Item = (&'static str, &'static str, Load)> {
        let wanted = self.load;
        let datagrams =
            Load::Udp { to: (Ipv6Addr::LOCALHOST, DATAGRAM_PORT).into(), seconds, bytes: 64, connected: false };
        [
            ("connect and close, IPv6 loopback", "connection", Load::ConnectIpv6 { port: CONNECTION_PORT, seconds }),
            ("UDP 64 B, unconnected, IPv6 loopback", "datagram", datagrams),
            ("start and end of a program", "program", Load::Start { seconds }),
        ]
        .into_iter()
        .filter(move |(name, _, _)| name.contains(wanted))
    }
}

/// Addresses that no embedded list names, of a network in the United States; here they are the server's.
const ORDINARY: Addresses = Addresses { first: Ipv4Addr::new(8, 8, 4, 0), count: 64, port: CONNECTION_PORT };
/// Addresses of the client's own loopback.
const LOOPBACK: Addresses = Addresses { first: Ipv4Addr::new(127, 0, 1, 0), count: 64, port: CONNECTION_PORT };
/// One ordinary address.
const PEER: Ipv4Addr = Ipv4Addr::new(8, 8, 4, 4);

fn loads(seconds: f64) -> [(&'static str, &'static str, Load); 6] {
    let datagrams = |connected| Load::Udp { to: (PEER, DATAGRAM_PORT).into(), seconds, bytes: 64, connected };
    let stream = |bytes, no_delay| {
        let to = std::net::SocketAddrV4::new(PEER, STREAM_PORT);
        Load::Stream { to, seconds, bytes, no_delay }
    };
    [
        ("connect and close, loopback", "connection", Load::Connect { to: LOOPBACK, seconds }),
        ("connect and close, veth", "connection", Load::Connect { to: ORDINARY, seconds }),
        ("UDP 64 B, unconnected", "datagram", datagrams(false)),
        ("UDP 64 B, connected", "datagram", datagrams(true)),
        ("TCP bulk, 128 KiB writes", "write", stream(128 << 10, false)),
        ("TCP 64 B writes, no delay", "write", stream(64, true)),
    ]
}
