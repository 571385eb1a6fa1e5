//! What a condition can ask for: one table for the checker, the evaluation and the documentation.

use std::fmt;

use crate::names::Source;

/// The type of a value in a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Bool,
    Int,
    Text,
    Address,
    Texts,
    Parents,
    Names,
    Labels,
    /// An element of [`Type::Parents`].
    Parent,
    /// An element of [`Type::Names`].
    Name,
}

impl Type {
    /// What a list holds.
    pub(super) const fn element(self) -> Option<Self> {
        match self {
            Self::Texts => Some(Self::Text),
            Self::Parents => Some(Self::Parent),
            Self::Names => Some(Self::Name),
            _ => None,
        }
    }
}

/// In the alternate form (`{:#}`) with its article.
impl fmt::Display for Type {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if formatter.alternate() {
            formatter.write_str(if matches!(self, Self::Int | Self::Address) { "an " } else { "a " })?;
        }
        formatter.write_str(match self {
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Text => "string",
            Self::Address => "address",
            Self::Texts => "list of strings",
            Self::Parents => "list of {name, executable}",
            Self::Names => "list of {name, source}",
            Self::Labels => "map of strings",
            Self::Parent => "{name, executable}",
            Self::Name => "{name, source}",
        })
    }
}

/// What may stand beside a field in a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Values {
    Any,
    /// One of these words.
    Words(&'static [&'static str]),
    /// One of these, or `ip-` and the number of another one.
    Protocol(&'static [&'static str]),
    /// The id of a list.
    List,
    /// Two upper-case letters by ISO 3166-1.
    Country,
    /// A path from `/`.
    Path,
    /// A number within these.
    Range(i64, i64),
    /// 64 lower-case hexadecimal digits.
    Digest,
}

macro_rules! fields {
    ($($variant:ident $path:literal $kind:ident $values:expr, $about:literal;)*) => {
        /// A field of a flow.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(super) enum Field { $($variant),* }

        /// Every field.
        pub(super) const FIELDS: &[Row] = &[
            $(Row { field: Field::$variant, path: $path, kind: Type::$kind, values: $values, about: $about }),*
        ];
    };
}

/// A row of the table of fields.
pub(super) struct Row {
    pub(super) field: Field,
    /// How it is written.
    pub(super) path: &'static str,
    pub(super) kind: Type,
    pub(super) values: Values,
    /// What it says, for the documentation.
    pub(super) about: &'static str,
}

/// Protocols that have a name.
const PROTOCOLS: [&str; 6] = ["tcp", "udp", "icmp", "ipv6-icmp", "sctp", "packet"];
/// Where names are seen.
pub(super) const SOURCES: [&str; Source::ALL.len()] = [
    Source::ProxyConnect.as_token(),
    Source::Socks5.as_token(),
    Source::Socks4.as_token(),
    Source::HttpAbsolute.as_token(),
    Source::TlsSni.as_token(),
    Source::QuicSni.as_token(),
    Source::HttpHost.as_token(),
    Source::Dns.as_token(),
    Source::DnsHttps.as_token(),
    Source::DnsAlias.as_token(),
];
/// Days as `time.weekday` and maintenance windows name them, from Monday on.
pub(super) const WEEKDAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

fields! {
    Executable "process.executable" Text Values::Path, "Path of the executable in the process's mount namespace; `/memfd:…` for a file that never had one.";
    ProcessName "process.name" Text Values::Any, "File name of the executable, or the task name where the executable is not known.";
    Sha256 "process.sha256" Text Values::Digest, "SHA-256 of the file that ran, in lower-case digits. Unknown until it is read, a moment after the first packet.";
    Package "process.package" Text Values::Any, "Package that lists the executable's path. Unknown until it is read.";
    Unlinked "process.unlinked" Bool Values::Any, "The executable was deleted, or never had a name.";
    Arguments "process.arguments" Texts Values::Any, "Arguments; the first is the name that the program was called by.";
    User "process.user" Text Values::Any, "Name of the real user, or its number where the host knows no name.";
    EffectiveUser "process.effective_user" Text Values::Any, "The effective user; the real one where they are the same.";
    Parents "process.parents" Parents Values::Any, "Parent first, then its parent and so on, at most 16. Each has `name` and `executable`.";
    Unit "process.unit" Text Values::Any, "systemd unit.";
    ContainerId "process.container.id" Text Values::Any, "Full id of the container.";
    ContainerRuntime "process.container.runtime" Text Values::Any, "What made the container: `docker`, `containerd`, `cri-o`, `podman`, …";
    ContainerName "process.container.name" Text Values::Any, "Name of the container; in Kubernetes that of the container in its pod. Of LXC and systemd-nspawn it is the id. The files of every runtime but plain containerd (`ctr`) tell it.";
    ContainerImage "process.container.image" Text Values::Any, "Image of the container, whole, as its runtime names it: `docker.io/library/nginx:1.27`, `registry.example/shop/web@sha256:…`, `nginx`. Told by containerd's CRI plug-in, CRI-O, Docker and Podman; not by nerdctl, `ctr`, LXC and systemd-nspawn.";
    Pod "process.pod" Text Values::Any, "Kubernetes pod: its name, as in `process.pod.startsWith(\"web-\")`. Told by containerd's CRI plug-in, CRI-O and cri-dockerd.";
    PodUid "process.pod_uid" Text Values::Any, "Kubernetes pod: its uid, which the cgroup's path tells.";
    Namespace "process.namespace" Text Values::Any, "Kubernetes namespace of the pod. Told by containerd's CRI plug-in, CRI-O and cri-dockerd.";
    Labels "process.labels" Labels Values::Any, "Labels, as `process.labels[\"app\"]`: in Kubernetes the pod's, told by CRI-O and cri-dockerd and not by containerd; elsewhere the container's, told by Docker and nerdctl and not by Podman. A label that is not there is unknown.";
    DestinationIp "destination.ip" Address Values::Any, "Remote address; behind a proxy the address that the proxy was asked for, where it is one. Compare it with a literal, or use `in_cidr`.";
    DestinationPort "destination.port" Int Values::Range(1, 65_535), "Remote port; behind a proxy the port that the proxy was asked for.";
    Asn "destination.asn" Int Values::Range(1, 4_294_967_295), "Number of the autonomous system that originates the address.";
    Organisation "destination.organisation" Text Values::Any, "Organisation that holds the autonomous system.";
    AsCountry "destination.as_country" Text Values::Country, "Country of the autonomous system, such as `\"DE\"`.";
    RegisteredCountry "destination.registered_country" Text Values::Country, "Country in which the address range is registered.";
    Countries "destination.countries" Texts Values::Country, "The countries that are known, each once.";
    Names "destination.names" Names Values::Any, "What the remote side was called, best first, as far as it is near enough to decide on. Each has `name` and `source`: `proxy_connect`, `socks5`, `socks4`, `http_absolute`, `tls_sni`, `quic_sni`, `http_host`, `dns`, `dns_https` or `dns_cname`. Empty where no name was seen.";
    State "flow.state" Text Values::Words(&["attempted", "established", "sent"]), "How far the flow got: `attempted`, `established` or `sent`.";
    BytesOut "flow.bytes_out" Int Values::Range(0, i64::MAX), "Payload bytes sent so far. Unknown where nothing was counted.";
    BytesIn "flow.bytes_in" Int Values::Range(0, i64::MAX), "Payload bytes received so far. Unknown where nothing was counted.";
    Age "flow.age" Int Values::Range(0, i64::MAX), "Whole seconds since the flow's first sight.";
    Protocol "flow.protocol" Text Values::Protocol(&PROTOCOLS), "`tcp`, `udp`, `icmp`, `ipv6-icmp`, `sctp`, `packet` (a packet socket), or `ip-` and the number of another one, such as `ip-47`.";
    Direction "flow.direction" Text Values::Words(&["egress", "ingress"]), "`egress` for a flow that this host opened, `ingress` for one that the remote side opened.";
    Lists "lists" Texts Values::List, "Ids of the enabled lists that the flow hits.";
    Hour "time.hour" Int Values::Range(0, 23), "Hour of the report in UTC, from 0 to 23.";
    Weekday "time.weekday" Text Values::Words(&WEEKDAYS), "Day of the report in UTC: `monday` to `sunday`.";
    LocalHour "time.local_hour" Int Values::Range(0, 23), "The same hour in this host's time zone.";
    LocalWeekday "time.local_weekday" Text Values::Words(&WEEKDAYS), "The same day in this host's time zone.";
}

/// The field that is written so.
pub(super) fn find(path: &str) -> Option<&'static Row> {
    FIELDS.iter().find(|row| row.path == path)
}

/// Whether some field lies below `path`.
pub(super) fn is_group(path: &str) -> bool {
    FIELDS.iter().any(|row| row.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')))
}

/// Names of the same facts in records, for who writes them into a condition.
const IN_RECORDS: [(&str, &str); 14] = [
    ("user.name", "process.user"),
    ("user.effective.name", "process.effective_user"),
    ("process.hash.sha256", "process.sha256"),
    ("process.args", "process.arguments"),
    ("process.parent.name", "process.parents"),
    ("container.id", "process.container.id"),
    ("container.name", "process.container.name"),
    ("container.image.name", "process.container.image"),
    ("destination.as.number", "destination.asn"),
    ("destination.as.organization.name", "destination.organisation"),
    ("destination.bytes", "flow.bytes_in"),
    ("source.bytes", "flow.bytes_out"),
    ("network.transport", "flow.protocol"),
    ("network.direction", "flow.direction"),
];

/// The field that says what the record's field `path` says, else the one whose path is most like `path`.
pub(super) fn nearest(path: &str) -> Option<&'static str> {
    if let Some((_, field)) = IN_RECORDS.iter().find(|(name, _)| *name == path) {
        return Some(field);
    }
    let likeness = |row: &'static Row| {
        // `asn` alone means the field that ends so.
        let tail = row.path.rsplit('.').next().unwrap_or(row.path);
        strsim::jaro_winkler(path, row.path)
            .max(strsim::jaro_winkler(path.rsplit('.').next().unwrap_or(path), tail) - 0.02)
    };
    FIELDS
        .iter()
        .map(|row| (likeness(row), row.path))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .map(|(_, path)| path)
}

#[cfg(test)]
mod tests {
    use super::{IN_RECORDS, find, nearest};
    use crate::alert::schema;

    #[test]
    fn who_writes_a_records_field_is_told_the_rules_field() {
        let of_records = schema::fields();
        for (name, field) in IN_RECORDS {
            assert!(of_records.iter().any(|(path, _)| path == name), "records have no {name}");
            assert!(find(field).is_some() && find(name).is_none(), "{name}: {field}");
            assert_eq!(nearest(name), Some(field));
        }
    }
}
