//! ECS `source.*`, `destination.*` and `network.*`.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::Serialize;

/// ECS `source.*` and `destination.*`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Endpoint {
    /// Address. IPv4-mapped IPv6 is written as IPv4.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip: Option<IpAddr>,
    /// Port; absent for protocols without ports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Best name of the remote address; all names with their sources are in `egresswatch.names`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// Transport payload bytes that this side sent in this flow, retransmissions not counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// IP packets that this side sent in this flow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packets: Option<u64>,
    /// Autonomous system that originates the remote address.
    #[serde(rename = "as")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub autonomous_system: Option<AutonomousSystem>,
    /// Country of the remote address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub geo: Option<Geo>,
    /// Where packets to the remote address really go, if this host's network translates it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nat: Option<Nat>,
}

/// ECS `as.*`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct AutonomousSystem {
    /// Its number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<u32>,
    /// The organisation that holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub organization: Option<Organization>,
}

/// ECS `as.organization.*`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Organization {
    /// Its name as the ownership data has it.
    pub name: String,
}

/// ECS `geo.*`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Geo {
    /// Country in which the address range is registered (ISO 3166-1 alpha-2). It need not be where the machine
    /// stands, nor the country of the autonomous system (`egresswatch.owner.as_country`).
    pub country_iso_code: String,
}

/// ECS `nat.*`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Nat {
    /// Translated address.
    pub ip: IpAddr,
    /// Translated port; absent for protocols without ports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

/// ECS `network.*`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Network {
    /// Transport protocol: `tcp`, `udp`, `icmp`, `ipv6-icmp`, `sctp`, or `ip-` and the protocol's number;
    /// `packet` for frames that a process wrote to a packet socket, around the IP stack.
    pub transport: String,
    /// The transport protocol's number at IANA; absent for a packet socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iana_number: Option<String>,
    /// Version of IP; absent for a packet socket.
    #[serde(rename = "type")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<NetworkType>,
    /// `egress` for a flow that this host opened, `ingress` for one that the remote side opened.
    pub direction: Direction,
    /// Transport payload bytes of both directions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// IP packets of both directions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packets: Option<u64>,
    /// Community ID v1 (seed 0), the same in Zeek, Suricata and others. Absent for ICMP, and before the local
    /// address is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub community_id: Option<String>,
}

/// Values of `network.type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the values are those of ECS and say what they are")]
pub enum NetworkType {
    Ipv4,
    Ipv6,
}

/// Values of `network.direction`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the values are those of ECS and say what they are")]
pub enum Direction {
    Egress,
    Ingress,
}
