//! The words of this stage: what a flow's remote side was called, by whom and how.

use std::net::IpAddr;

use super::{Host, HostName};
use crate::event::{BootTime, FlowKey, ProcessKey};

/// Where a name was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// A proxy was asked for a tunnel to it (HTTP `CONNECT`).
    ProxyConnect,
    /// A SOCKS proxy of version 5 was asked for it.
    Socks5,
    /// A SOCKS proxy of version 4a was asked for it.
    Socks4,
    /// A proxy was asked for a URL of it.
    HttpAbsolute,
    /// The server name in a TLS `ClientHello`.
    TlsSni,
    /// The same in a QUIC Initial packet.
    QuicSni,
    /// The `Host` header of an HTTP/1 request.
    HttpHost,
    /// A DNS answer to a question for it gave the address.
    Dns,
    /// An HTTPS or SVCB record of it gave the address as a hint.
    DnsHttps,
    /// It is an alias that the name asked for stands for (CNAME, or the target of an HTTPS or SVCB record).
    DnsAlias,
}

impl Source {
    /// Every source.
    pub const ALL: [Self; 10] = [
        Self::ProxyConnect,
        Self::Socks5,
        Self::Socks4,
        Self::HttpAbsolute,
        Self::TlsSni,
        Self::QuicSni,
        Self::HttpHost,
        Self::Dns,
        Self::DnsHttps,
        Self::DnsAlias,
    ];

    /// The stable token.
    #[must_use]
    pub const fn as_token(self) -> &'static str {
        match self {
            Self::ProxyConnect => "proxy_connect",
            Self::Socks5 => "socks5",
            Self::Socks4 => "socks4",
            Self::HttpAbsolute => "http_absolute",
            Self::TlsSni => "tls_sni",
            Self::QuicSni => "quic_sni",
            Self::HttpHost => "http_host",
            Self::Dns => "dns",
            Self::DnsHttps => "dns_https",
            Self::DnsAlias => "dns_cname",
        }
    }
}

/// Who saw a name, from near to far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// It was said on the flow itself.
    Flow,
    /// The flow's process got the answer.
    Process,
    /// Another process in the same network namespace got it: a resolver that answers for it, or one with other business.
    NetworkNamespace,
    /// A process somewhere else on this host got it.
    Host,
}

/// A proxy's protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProxyProtocol {
    /// Requests by absolute URL.
    Http,
    /// HTTP `CONNECT`.
    HttpConnect,
    /// SOCKS version 4 or 4a.
    Socks4,
    /// SOCKS version 5.
    Socks5,
}

impl ProxyProtocol {
    /// The stable token.
    #[must_use]
    pub const fn as_token(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::HttpConnect => "http_connect",
            Self::Socks4 => "socks4",
            Self::Socks5 => "socks5",
        }
    }

    pub(super) const fn source(self) -> Source {
        match self {
            Self::Http => Source::HttpAbsolute,
            Self::HttpConnect => Source::ProxyConnect,
            Self::Socks4 => Source::Socks4,
            Self::Socks5 => Source::Socks5,
        }
    }
}

/// What a proxy was asked to connect to: the flow's real destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxied {
    /// How it was asked.
    pub protocol: ProxyProtocol,
    /// Whom.
    pub host: Host,
    /// At which port, where the request says it.
    pub port: Option<u16>,
}

impl Proxied {
    /// The address asked for, where it is one.
    #[must_use]
    pub const fn address(&self) -> Option<IpAddr> {
        match &self.host {
            Host::Address(address) => Some(*address),
            Host::Name(_) => None,
        }
    }
}

/// What hides names on a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NameCaveat {
    /// The `ClientHello` offers an encrypted one: the name in it may be the public name of a provider. Browsers offer it to
    /// every server, mostly with nothing in it.
    EchOffered,
    /// The flow is to the port of DNS over TLS: the names asked for on it cannot be read.
    DnsOverTls,
    /// The flow is to the port of DNS over QUIC.
    DnsOverQuic,
    /// The flow is to a well-known server of DNS over HTTPS: names may be asked for on it, which cannot be read.
    DnsOverHttps,
    /// The first bytes of the flow were longer than what is captured of them: a name may stand in the rest, and whether an
    /// encrypted one is offered there is not known.
    OpeningCut,
}

/// A name of a flow's remote side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The name.
    pub name: HostName,
    /// Where it was seen.
    pub source: Source,
    /// By whom.
    pub scope: Scope,
    /// When.
    pub seen_at: BootTime,
    /// How long the answer might be kept, for what DNS says.
    pub ttl_s: Option<u32>,
    /// The name that was asked for, where this one is an alias that it stands for.
    pub asked: Option<HostName>,
    /// The `ClientHello` that it stood in offers an encrypted one.
    pub offers_ech: bool,
    /// It is near enough to decide on: see [`super::Names::of`].
    pub is_decisive: bool,
}

/// Everything that a flow's remote side was called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlowNames {
    /// Best first.
    pub names: Vec<Named>,
    /// Its real destination, if it goes to a proxy.
    pub proxied: Option<Proxied>,
    /// What hides names.
    pub caveats: Vec<NameCaveat>,
}

/// A flow, as far as its names depend on it.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    /// Which flow.
    pub key: &'a FlowKey,
    /// Its processes: the one that sends, the one that connected.
    pub processes: [Option<ProcessKey>; 2],
    /// Cookie of their network namespace.
    pub network_namespace_cookie: Option<u64>,
    /// Now.
    pub at: BootTime,
}

/// A name that was said on a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) name: HostName,
    pub(super) source: Source,
    pub(super) offers_ech: bool,
}
