//! The record in the Common Event Format (CEF) of `ArcSight`, version 0 with the dictionary of CEF 25: one line of
//! `CEF:0|vendor|product|version|class|name|severity|key=value …`.
//!
//! Keys are those of the published dictionary; what it has no key for goes into its custom fields (`cs1`–`cs6`, `cn1`–`cn3`,
//! `c6a2`–`c6a3`), each with its label. An unknown fact is left out.

use std::{
    fmt::{Display, Write as _},
    net::IpAddr,
};

use super::{
    Timestamp,
    record::{Dataset, Direction, Endpoint, Outcome, Record},
};
use crate::policy::Severity;

/// Longest value of a custom string (`cs1` and the like) that the dictionary allows, in characters.
const CUSTOM_CHARACTERS: usize = 4_000;
/// Longest `msg`, in characters.
const MESSAGE_CHARACTERS: usize = 1_023;

/// Appends the record to `buffer` as one line without its newline.
pub fn write(record: &Record, buffer: &mut Vec<u8>) {
    buffer.extend_from_slice(line(record).as_bytes());
}

/// The record as one line.
#[must_use]
pub fn line(record: &Record) -> String {
    let mut line = format!(
        "CEF:0|{}|{}|{}|{}|{}|{}|",
        header(record.observer.vendor),
        header(record.observer.product),
        header(record.observer.version),
        header(&class(record)),
        header(name(record)),
        severity(record),
    );
    let mut extension = Extension(String::new());
    fill(record, &mut extension);
    line.push_str(extension.0.trim_end());
    line
}

/// `Signature ID`: the kind of event, which SIEM rules are written against, such as `alert/first_contact`.
fn class(record: &Record) -> String {
    format!("{}/{}", kind(record), token(&record.event.action))
}

const fn kind(record: &Record) -> &'static str {
    match record.event.dataset {
        Dataset::Alert => "alert",
        Dataset::Flow => "flow",
        Dataset::Executable => "executable",
        Dataset::Loss => "loss",
        Dataset::Degradation => "degradation",
        Dataset::Status => "status",
    }
}

fn name(record: &Record) -> &str {
    match record.event.dataset {
        Dataset::Alert if !record.egresswatch.rules.is_empty() => {
            record.egresswatch.rules.first().map_or("Rule matched", |rule| &rule.title)
        }
        Dataset::Alert => "Contact with flagged infrastructure",
        Dataset::Flow => "Network flow",
        Dataset::Executable => "Executable of an alert",
        Dataset::Loss => "Data lost or late",
        Dataset::Degradation => "Monitor degraded",
        Dataset::Status => "Monitor status",
    }
}

/// 0 to 10; alerts are 3, 6 and 8: the middle of what the format calls low, medium and high.
fn severity(record: &Record) -> u8 {
    match record.egresswatch.severity {
        Some(Severity::High) => 8,
        Some(Severity::Medium) => 6,
        Some(Severity::Low) => 3,
        None if record.event.dataset == Dataset::Loss => 4,
        None => 1,
    }
}

fn fill(record: &Record, extension: &mut Extension) {
    extension.put("rt", milliseconds(record.timestamp));
    extension.put("externalId", &record.event.id);
    extension.put("cat", kind(record));
    extension.put("act", token(&record.event.action));
    extension.put("dvchost", &record.host.hostname);
    extension.put_some("deviceExternalId", record.host.id.as_ref());
    extension.put("msg", cut(&record.message, MESSAGE_CHARACTERS));
    extension.put_some("reason", record.event.reason.as_ref());
    extension.put_some("start", record.event.start.map(milliseconds));
    extension.put_some("end", record.event.end.map(milliseconds));
    let outcome = record.event.outcome.map(|outcome| match outcome {
        Outcome::Success => "success",
        Outcome::Failure => "failure",
        Outcome::Unknown => "unknown",
    });
    extension.put_some("outcome", outcome);
    fill_network(record, extension);
    fill_process(record, extension);
    fill_own(record, extension);
}

fn fill_network(record: &Record, extension: &mut Extension) {
    fill_endpoint(record.source.as_ref(), &SOURCE_KEYS, extension);
    fill_endpoint(record.destination.as_ref(), &DESTINATION_KEYS, extension);
    let Some(network) = &record.network else { return };
    extension.put("proto", network.transport.to_ascii_uppercase());
    let (outward, inward, direction) = match network.direction {
        Direction::Egress => (&record.source, &record.destination, 1),
        Direction::Ingress => (&record.destination, &record.source, 0),
    };
    extension.put("deviceDirection", direction);
    extension.put_some("out", outward.as_ref().and_then(|endpoint| endpoint.bytes));
    extension.put_some("in", inward.as_ref().and_then(|endpoint| endpoint.bytes));
    extension.custom("cs6", "communityId", network.community_id.as_deref());
}

/// Keys of one side's facts.
struct EndpointKeys {
    ipv4: &'static str,
    ipv6: &'static str,
    ipv6_label: &'static str,
    port: &'static str,
    host: &'static str,
    translated: &'static str,
}

const SOURCE_KEYS: EndpointKeys = EndpointKeys {
    ipv4: "src",
    ipv6: "c6a2",
    ipv6_label: "Source IPv6 Address",
    port: "spt",
    host: "shost",
    translated: "sourceTranslatedAddress",
};

const DESTINATION_KEYS: EndpointKeys = EndpointKeys {
    ipv4: "dst",
    ipv6: "c6a3",
    ipv6_label: "Destination IPv6 Address",
    port: "dpt",
    host: "dhost",
    translated: "destinationTranslatedAddress",
};

fn fill_endpoint(endpoint: Option<&Endpoint>, keys: &EndpointKeys, extension: &mut Extension) {
    let Some(endpoint) = endpoint else { return };
    match endpoint.ip {
        Some(IpAddr::V4(ip)) => extension.put(keys.ipv4, ip),
        Some(IpAddr::V6(ip)) => extension.custom(keys.ipv6, keys.ipv6_label, Some(&ip.to_string())),
        None => {}
    }
    extension.put_some(keys.port, endpoint.port);
    extension.put_some(keys.host, endpoint.domain.as_ref());
    extension.put_some(keys.translated, endpoint.nat.as_ref().map(|nat| nat.ip));
}

fn fill_process(record: &Record, extension: &mut Extension) {
    if let Some(process) = &record.process {
        extension.put("sproc", process.executable.as_ref().unwrap_or(&process.name));
        extension.put("spid", process.pid);
        extension.put_some("filePath", process.executable.as_ref());
        extension.put_some("fileHash", process.hash.as_ref().map(|hash| &hash.sha256));
    }
    if let Some(user) = &record.user {
        extension.put("suid", &user.real.id);
        extension.put_some("suser", user.real.name.as_ref());
    }
    // Whose service the process belongs to: the pod with its namespace, else the container's name.
    let pod =
        record.orchestrator.as_ref().and_then(|pod| Some((pod.namespace.as_deref(), pod.resource.name.as_ref()?)));
    let container = record.container.as_ref().and_then(|container| container.name.as_ref());
    let service = match (pod, container) {
        (Some((namespace, pod)), container) => {
            let parts = [namespace, Some(pod), container.map(String::as_str)];
            Some(parts.into_iter().flatten().collect::<Vec<_>>().join("/"))
        }
        (None, container) => container.cloned(),
    };
    extension.put_some("sourceServiceName", service);
    extension.custom("cs5", "container", record.container.as_ref().map(|container| container.id.as_str()));
}

fn fill_own(record: &Record, extension: &mut Extension) {
    let own = &record.egresswatch;
    if let Some(owner) = &own.owner {
        extension.custom("cn1", "asn", owner.asn.map(|asn| asn.to_string()).as_deref());
        extension.custom("cs2", "owner", owner.organisation.as_deref());
    }
    let lists = own.lists.join(",");
    extension.custom("cs1", "lists", (!lists.is_empty()).then_some(lists.as_str()));
    let mut grounds: Vec<&str> = own.matches.iter().filter_map(|entry| entry.legal_basis.as_deref()).collect();
    grounds.dedup();
    let grounds = grounds.join("; ");
    extension.custom("cs3", "legalBasis", (!grounds.is_empty()).then_some(grounds.as_str()));
    let names: Vec<String> = own.names.iter().map(|name| format!("{} ({})", name.name, name.source)).collect();
    let names = names.join(", ");
    extension.custom("cs4", "names", (!names.is_empty()).then_some(names.as_str()));
    if let Some(totals) = &own.totals {
        extension.custom("cn2", "totalBytesOut", Some(&totals.payload_out_bytes.to_string()));
        extension.custom("cn3", "totalConnections", Some(&totals.connections.to_string()));
    }
    if let Some(loss) = &own.loss {
        extension.put("cnt", loss.count);
        extension.custom("cs1", "lossReason", Some(&loss.reason));
    }
    if let Some(degradation) = &own.degradation {
        extension.custom("cs1", "degradation", Some(&degradation.token));
    }
    extension.custom("flexString1", "alertId", own.alert_id.as_deref());
    extension.custom("flexString2", "rule", own.rules.first().map(|rule| rule.id.as_str()));
    if let Some(folded) = own.rules.first().map(|rule| rule.folded).filter(|folded| *folded > 0) {
        extension.put("cnt", folded);
    }
}

/// The `key=value` part.
struct Extension(String);

impl Extension {
    fn put(&mut self, key: &str, value: impl Display) {
        // Writing to a string cannot fail.
        let _ = write!(self.0, "{key}={} ", escape_value(&format!("{value}")));
    }

    fn put_some(&mut self, key: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.put(key, value);
        }
    }

    /// A custom field with its label.
    fn custom(&mut self, key: &str, label: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.put(key, cut(value, CUSTOM_CHARACTERS));
            self.put(&format!("{key}Label"), label);
        }
    }
}

/// A header field: `\` and `|` are escaped; a line break cannot be said there and becomes a space.
fn header(text: &str) -> String {
    text.replace('\\', "\\\\").replace('|', "\\|").replace(['\r', '\n'], " ")
}

/// A value: `\`, `=` and line breaks are escaped, so that no text from outside can end its field or the line.
fn escape_value(text: &str) -> String {
    text.replace('\\', "\\\\").replace('=', "\\=").replace('\n', "\\n").replace('\r', "\\r")
}

fn cut(text: &str, characters: usize) -> &str {
    text.char_indices().nth(characters).map_or(text, |(end, _)| text.get(..end).unwrap_or(text))
}

fn milliseconds(time: Timestamp) -> i128 {
    time.unix_ns() / 1_000_000
}

/// A token as the ECS form writes it.
fn token(value: &impl serde::Serialize) -> String {
    // A token is a string by construction.
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
