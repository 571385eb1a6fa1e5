//! Recorded flows through rules: what `egresswatch test-rules` asks.

use std::borrow::Cow;

use jiff::{Timestamp, tz::TimeZone};
use serde_json::Value;

use super::{
    Baseline, Engine, RuleDecision, Rules,
    expression::{NameFact, Place, Relative},
    facts::{Facts, Moment},
};
use crate::{
    event::{BootTime, FlowKey, Protocol},
    policy::Level,
};

/// Records in, decisions out, in the order of the file.
#[derive(Debug)]
pub struct Replay {
    engine: Engine<String>,
    last_at: BootTime,
}

/// What a record did.
#[derive(Clone, Debug, PartialEq)]
pub enum Replayed {
    /// It is no record of a flow.
    Skipped,
    /// It is one, and these rules fire. The context is the record's `event.id`.
    Flow {
        /// A rule says to ignore it.
        is_ignored: bool,
        /// What would be told.
        decisions: Vec<RuleDecision<String>>,
    },
}

impl Replay {
    /// Nothing is known before the first record, so that every contact is a first one.
    #[must_use]
    pub fn new(rules: Rules, zone: TimeZone) -> Self {
        Self { engine: Engine::new(rules, Baseline::default(), zone), last_at: BootTime(0) }
    }

    /// Takes one record in.
    pub fn take_in(&mut self, record: &Value) -> Replayed {
        let dataset = record.pointer("/event/dataset").and_then(Value::as_str);
        let (Some("egresswatch.flow"), Some((facts, moment))) = (dataset, facts(record)) else {
            return Replayed::Skipped;
        };
        let context = record.pointer("/event/id").and_then(Value::as_str).unwrap_or_default().to_owned();
        let mut decisions = self.engine.tick(moment.at, facts.wall);
        self.last_at = moment.at;
        let verdict = self.engine.judge(&facts, &moment, &context);
        decisions.extend(verdict.decisions);
        Replayed::Flow { is_ignored: verdict.is_ignored, decisions }
    }

    /// Puts other rules in force.
    #[cfg(test)]
    pub(super) fn set_rules(&mut self, rules: Rules) {
        self.engine.set_rules(rules);
    }

    /// The sums that are left at the end.
    pub fn finish(&mut self) -> Vec<RuleDecision<String>> {
        self.engine.drain(self.last_at)
    }
}

/// The facts that a record holds.
fn facts(record: &Value) -> Option<(Facts<'_>, Moment)> {
    let text = |path: &str| record.pointer(path).and_then(Value::as_str).map(Cow::Borrowed);
    let number = |path: &str| record.pointer(path).and_then(Value::as_u64);
    let time =
        |path: &str| record.pointer(path).and_then(Value::as_str).and_then(|text| text.parse::<Timestamp>().ok());
    let boot = |time: Timestamp| BootTime(u64::try_from(time.as_nanosecond()).unwrap_or_default());
    let items = |path: &str| record.pointer(path).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let wall = time("/@timestamp")?;
    let first_at = time("/event/start").unwrap_or(wall);
    let is_inbound = text("/network/direction").is_some_and(|direction| direction == "ingress");
    let remote = if is_inbound { "/source" } else { "/destination" };
    let known = items("/egresswatch/flow/facts");
    let has = |fact: &str| known.iter().any(|known| known.as_str() == Some(fact));
    let bytes_out = number("/egresswatch/flow/out/payload_bytes");
    let proxied = record.pointer("/egresswatch/proxied");
    let remote_ip = match proxied {
        Some(proxied) => proxied.get("ip"),
        None => record.pointer(&format!("{remote}/ip")),
    };
    let ip = remote_ip.and_then(Value::as_str).and_then(|ip| ip.parse().ok());
    let port = number("/egresswatch/proxied/port").or_else(|| number(&format!("{remote}/port")));
    let port = port.and_then(|port| u16::try_from(port).ok());
    let owner = if proxied.is_some_and(|proxied| proxied.get("owner").is_some()) {
        "/egresswatch/proxied/owner"
    } else {
        "/egresswatch/owner"
    };
    let relative = |item: &'_ Value| -> Option<Relative<'static>> {
        let said = |key: &str| item.get(key).and_then(Value::as_str).map(|text| Cow::Owned(text.to_owned()));
        Some(Relative { name: said("name")?, executable: said("executable") })
    };
    let parents = record.pointer("/process/parent").into_iter().chain(items("/egresswatch/process/ancestors"));
    let account = |path: &str| text(&format!("{path}/name")).or_else(|| text(&format!("{path}/id")));
    let user = account("/user");
    let facts = Facts {
        executable: text("/process/executable"),
        process_name: text("/process/name"),
        sha256: text("/process/hash/sha256").map(Cow::into_owned),
        package: text("/package/name"),
        unlinked: record.pointer("/egresswatch/process/executable_unlinked").and_then(Value::as_bool),
        arguments: record.pointer("/process/args").map(|_| {
            items("/process/args").iter().filter_map(|argument| Some(Cow::Borrowed(argument.as_str()?))).collect()
        }),
        effective_user: account("/user/effective").or_else(|| user.clone()),
        user,
        parents: record.get("process").map(|_| parents.filter_map(relative).collect()),
        unit: text("/egresswatch/process/unit"),
        container_id: text("/container/id"),
        container_runtime: text("/container/runtime"),
        container_name: text("/container/name"),
        container_image: text("/egresswatch/container/image"),
        pod: text("/orchestrator/resource/name"),
        pod_uid: text("/orchestrator/resource/id"),
        namespace: text("/orchestrator/namespace"),
        labels: items("/egresswatch/container/labels").iter().filter_map(label).collect(),
        place: ip.map(|ip: std::net::IpAddr| Place::At(ip.to_canonical())),
        port,
        asn: number(&format!("{owner}/asn")).and_then(|asn| u32::try_from(asn).ok()),
        organisation: text(&format!("{owner}/organisation")),
        as_country: text(&format!("{owner}/as_country")),
        registered_country: text(&format!("{owner}/registered_country")),
        names: items("/egresswatch/names")
            .iter()
            .filter(|name| name.get("decisive").and_then(Value::as_bool) == Some(true))
            .filter_map(name_fact)
            .collect(),
        lists: items("/egresswatch/lists").iter().filter_map(|list| Some(Cow::Borrowed(list.as_str()?))).collect(),
        protocol: text("/network/transport").unwrap_or_default(),
        level: if has("sent") || bytes_out.is_some_and(|bytes| bytes > 0) {
            Level::Sent
        } else if has("established") {
            Level::Established
        } else {
            Level::Attempted
        },
        bytes_out,
        bytes_in: number("/egresswatch/flow/in/payload_bytes"),
        age_s: boot(wall).since_ns(boot(first_at)) / 1_000_000_000,
        is_inbound,
        wall,
        zone: Some(TimeZone::UTC),
        is_open: false,
    };
    // A flow is told apart by its id, which begins with the socket's cookie.
    let id = text("/egresswatch/flow/id").unwrap_or_default();
    let cookie = id.split('.').next().and_then(|cookie| u64::from_str_radix(cookie, 16).ok()).unwrap_or_default();
    let remote =
        std::net::SocketAddr::new(ip.unwrap_or(std::net::Ipv4Addr::UNSPECIFIED.into()), port.unwrap_or_default());
    let moment = Moment {
        flow: FlowKey { socket_cookie: cookie, protocol: Protocol::Other(255), remote },
        first_at: boot(first_at),
        at: boot(wall),
        is_closed: has("closed"),
    };
    Some((facts, moment))
}

fn label(label: &Value) -> Option<(Cow<'_, str>, Cow<'_, str>)> {
    let (name, value) = label.as_str()?.split_once('=')?;
    Some((Cow::Borrowed(name), Cow::Borrowed(value)))
}

fn name_fact(name: &Value) -> Option<NameFact<'_>> {
    let part = |key: &str| name.get(key).and_then(Value::as_str).map(Cow::Borrowed);
    Some(NameFact { name: part("name")?, source: part("source")? })
}
