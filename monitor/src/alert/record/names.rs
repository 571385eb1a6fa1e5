//! Own fields of names: `egresswatch.names.*`, `egresswatch.proxied.*`; and ECS `tls.*` and `url.*`.

use std::net::IpAddr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;

use super::{OwnerFields, Timestamp};
use crate::names;

/// One name of the remote side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct NameFields {
    /// The name.
    pub name: String,
    /// Where it was seen.
    #[schemars(schema_with = "source_schema")]
    pub source: &'static str,
    /// Who saw it.
    pub scope: NameScope,
    /// When it was seen last.
    pub seen_at: Timestamp,
    /// Milliseconds from the sight of the name to this record.
    pub age_ms: u64,
    /// Seconds for which the DNS answer might be kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u32>,
    /// The name that was asked for, where this one is an alias that it stands for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked: Option<String>,
    /// The `ClientHello` that it stood in offers an encrypted one (ECH): this may be the public name of a provider, and the
    /// server another one. Browsers offer it to every server, mostly with nothing in it.
    #[serde(skip_serializing_if = "is_false")]
    pub ech: bool,
    /// Whether lists were asked for it. Names that other processes got are told but not matched while a nearer one is
    /// known, because an address may serve many.
    pub decisive: bool,
}

/// Values of `egresswatch.names.scope`, from near to far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NameScope {
    /// It was said on this flow.
    Flow,
    /// DNS told it to this flow's process.
    Process,
    /// DNS told it to another process in the same network namespace: a resolver, or one with other business.
    NetworkNamespace,
    /// DNS told it to a process elsewhere on this host.
    Host,
}

impl From<names::Scope> for NameScope {
    fn from(scope: names::Scope) -> Self {
        match scope {
            names::Scope::Flow => Self::Flow,
            names::Scope::Process => Self::Process,
            names::Scope::NetworkNamespace => Self::NetworkNamespace,
            names::Scope::Host => Self::Host,
        }
    }
}

/// Values of `egresswatch.name_caveats`: what hides names on this flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NameCaveat {
    /// The `ClientHello` offers an encrypted one: see `egresswatch.names.ech`.
    EchOffered,
    /// The flow goes to the port of DNS over TLS: what is asked on it cannot be read.
    DnsOverTls,
    /// The flow goes to the port of DNS over QUIC: what is asked on it cannot be read.
    DnsOverQuic,
    /// The flow goes to a well-known server of DNS over HTTPS: what is asked on it cannot be read.
    DnsOverHttps,
    /// The program's first message on the flow, such as its `ClientHello` or the head of its request, is longer than what
    /// is read of it: a name may stand in the rest.
    OpeningCut,
}

impl From<names::NameCaveat> for NameCaveat {
    fn from(caveat: names::NameCaveat) -> Self {
        match caveat {
            names::NameCaveat::EchOffered => Self::EchOffered,
            names::NameCaveat::DnsOverTls => Self::DnsOverTls,
            names::NameCaveat::DnsOverQuic => Self::DnsOverQuic,
            names::NameCaveat::DnsOverHttps => Self::DnsOverHttps,
            names::NameCaveat::OpeningCut => Self::OpeningCut,
        }
    }
}

/// What a proxy was asked to connect to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ProxiedFields {
    /// How it was asked.
    pub protocol: ProxyProtocol,
    /// The name asked for, where it was a name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// The address asked for, where it was an address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip: Option<IpAddr>,
    /// The port asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Who owns the address asked for. `egresswatch.owner` is the owner of the proxy's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<OwnerFields>,
}

/// Values of `egresswatch.proxied.protocol`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProxyProtocol {
    /// A request by absolute URL.
    Http,
    /// HTTP `CONNECT`.
    HttpConnect,
    /// SOCKS version 4 or 4a.
    Socks4,
    /// SOCKS version 5.
    Socks5,
}

impl From<names::ProxyProtocol> for ProxyProtocol {
    fn from(protocol: names::ProxyProtocol) -> Self {
        match protocol {
            names::ProxyProtocol::Http => Self::Http,
            names::ProxyProtocol::HttpConnect => Self::HttpConnect,
            names::ProxyProtocol::Socks4 => Self::Socks4,
            names::ProxyProtocol::Socks5 => Self::Socks5,
        }
    }
}

/// ECS `tls.*`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Tls {
    /// The client's side.
    pub client: TlsClient,
}

/// ECS `tls.client.*`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct TlsClient {
    /// The server name (SNI) that this host's program asked for, over TCP or QUIC.
    pub server_name: String,
}

/// ECS `url.*`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Url {
    /// The host that an HTTP/1 request asked for. Nothing else of a request is kept.
    pub domain: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
const fn is_false(value: &bool) -> bool {
    !*value
}

fn source_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "enum": names::Source::ALL.map(names::Source::as_token) })
}
