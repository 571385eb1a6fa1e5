//! OCSF objects of the network: end points, connection, traffic, observables.

use serde_json::{Value, json};

use super::{Object, direction, process};
use crate::alert::record::{Direction, Endpoint, NetworkType, Outcome, Record};

/// The attributes of a Network Activity.
pub(super) fn activity(record: &Record, event: &mut Object) {
    event.set_some("actor", process::actor(record));
    event.set("device", process::device(record));
    event.set_some("src_endpoint", endpoint(record.source.as_ref()));
    event.set_some("dst_endpoint", endpoint(record.destination.as_ref()));
    event.set_some("connection_info", connection(record));
    event.set_some("traffic", traffic(record));
    event.set_some("url", url(record));
    event.set_some("app_name", record.process.as_ref().map(|process| process.name.clone()));
    let (status_id, status) = match record.event.outcome {
        Some(Outcome::Success) => (1, "Success"),
        Some(Outcome::Failure) => (2, "Failure"),
        _ => (0, "Unknown"),
    };
    event.set("status_id", status_id);
    event.set("status", status);
}

/// `network_endpoint`; `None` where nothing is known of it.
pub(super) fn endpoint(endpoint: Option<&Endpoint>) -> Option<Value> {
    let endpoint = endpoint?;
    let mut object = Object::default();
    object.set_some("ip", endpoint.ip.map(|ip| ip.to_string()));
    object.set_some("port", endpoint.port);
    object.set_some("hostname", endpoint.domain.clone());
    if let Some(system) = &endpoint.autonomous_system {
        let mut autonomous_system = Object::default();
        autonomous_system.set_some("number", system.number);
        autonomous_system.set_some("name", system.organization.as_ref().map(|organization| organization.name.clone()));
        object.set("autonomous_system", autonomous_system);
    }
    object.set_some("location", endpoint.geo.as_ref().map(|geo| json!({ "country": geo.country_iso_code })));
    (!object.0.is_empty()).then(|| object.into())
}

/// `network_connection_info`.
pub(super) fn connection(record: &Record) -> Option<Value> {
    let network = record.network.as_ref()?;
    let mut object = Object::default();
    let (direction_id, caption) = direction(network.direction);
    object.set("direction_id", direction_id);
    object.set("direction", caption);
    object.set("protocol_name", network.transport.as_str());
    object.set_some("protocol_num", network.iana_number.as_ref().and_then(|number| number.parse::<u32>().ok()));
    let version = match network.kind {
        Some(NetworkType::Ipv4) => Some((4, "Internet Protocol version 4 (IPv4)")),
        Some(NetworkType::Ipv6) => Some((6, "Internet Protocol version 6 (IPv6)")),
        None => None,
    };
    object.set_some("protocol_ver_id", version.map(|(id, _)| id));
    object.set_some("protocol_ver", version.map(|(_, caption)| caption));
    object.set_some("community_uid", network.community_id.clone());
    object.set_some("uid", record.egresswatch.flow.as_ref().map(|flow| flow.id.clone()));
    Some(object.into())
}

/// `network_traffic`, seen from this host: payload bytes out and in, IP packets out and in.
pub(super) fn traffic(record: &Record) -> Option<Value> {
    let (outward, inward) = match record.network.as_ref()?.direction {
        Direction::Egress => (record.source.as_ref()?, record.destination.as_ref()?),
        Direction::Ingress => (record.destination.as_ref()?, record.source.as_ref()?),
    };
    let mut object = Object::default();
    object.set_some("bytes_out", outward.bytes);
    object.set_some("bytes_in", inward.bytes);
    object.set_some("packets_out", outward.packets);
    object.set_some("packets_in", inward.packets);
    object.set_some("bytes", record.network.as_ref().and_then(|network| network.bytes));
    object.set_some("packets", record.network.as_ref().and_then(|network| network.packets));
    (!object.0.is_empty()).then(|| object.into())
}

/// What an HTTP/1 request asked for.
pub(super) fn url(record: &Record) -> Option<Value> {
    record.url.as_ref().map(|url| json!({ "hostname": url.domain }))
}

/// What analysts search for, with the path of the attribute that holds it.
pub(super) fn observables(record: &Record) -> Vec<Value> {
    const HOSTNAME: (u32, &str) = (1, "Hostname");
    const ADDRESS: (u32, &str) = (2, "IP Address");
    const USER: (u32, &str) = (4, "User Name");
    const HASH: (u32, &str) = (8, "Hash");
    const PROCESS: (u32, &str) = (9, "Process Name");
    let base = if record.event.dataset == crate::alert::record::Dataset::Flow { "" } else { "evidences[]." };
    let mut observables = Vec::new();
    let mut push = |(type_id, kind): (u32, &str), path: &str, value: String| {
        observables.push(json!({ "name": format!("{base}{path}"), "type_id": type_id, "type": kind, "value": value }));
    };
    for (side, endpoint) in [("src_endpoint", &record.source), ("dst_endpoint", &record.destination)] {
        let Some(endpoint) = endpoint else { continue };
        if let Some(ip) = endpoint.ip {
            push(ADDRESS, &format!("{side}.ip"), ip.to_string());
        }
        if let Some(domain) = &endpoint.domain {
            push(HOSTNAME, &format!("{side}.hostname"), domain.clone());
        }
    }
    if let Some(process) = &record.process {
        push(PROCESS, "actor.process.name", process.name.clone());
        if let Some(hash) = &process.hash {
            push(HASH, "actor.process.file.hashes[].value", hash.sha256.clone());
        }
    }
    if let Some(name) = record.user.as_ref().and_then(|user| user.real.name.clone()) {
        push(USER, "actor.user.name", name);
    }
    observables
}
