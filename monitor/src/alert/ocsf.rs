//! The record as an event of the Open Cybersecurity Schema Framework (OCSF).
//!
//! | record | OCSF class |
//! | --- | --- |
//! | alert, executable | Detection Finding (2004) |
//! | flow | Network Activity (4001) |
//! | status | Application Lifecycle (6002) |
//! | loss, degradation | Application Error (6008) |
//!
//! What OCSF has no attribute for stays under `unmapped.egresswatch`, as it is in the ECS form. Numbers of classes,
//! activities and types are those of <https://schema.ocsf.io/1.5.0/>.

mod network;
mod process;

use serde_json::{Map, Value, json};

use super::{
    Timestamp,
    record::{Dataset, Direction, EventAction, Outcome, Record, ThreatIds},
};
use crate::policy::Severity;

/// Version of OCSF that the events follow: the newest for which a validator is published as a package.
pub const OCSF_VERSION: &str = "1.5.0";

/// `record` as one OCSF event.
#[must_use]
pub fn event(record: &Record) -> Value {
    let mut event = Object::default();
    let class = Class::of(record);
    let (activity_id, activity_name) = activity(record);
    event.set("class_uid", class.uid);
    event.set("class_name", class.name);
    event.set("category_uid", class.category_uid);
    event.set("category_name", class.category_name);
    event.set("activity_id", activity_id);
    event.set("activity_name", activity_name);
    event.set("type_uid", class.uid * 100 + activity_id);
    event.set("type_name", format!("{}: {activity_name}", class.name));
    event.set("time", milliseconds(record.timestamp));
    event.set("message", record.message.as_str());
    let (severity_id, severity) = severity(record);
    event.set("severity_id", severity_id);
    event.set("severity", severity);
    event.set("metadata", metadata(record));
    match record.event.dataset {
        Dataset::Alert | Dataset::Executable => finding(record, &mut event),
        Dataset::Flow => network::activity(record, &mut event),
        Dataset::Status => event.set("app", product(record)),
        Dataset::Loss | Dataset::Degradation => {
            event.set_some("status_detail", record.egresswatch.loss.as_ref().map(|loss| loss.reason.clone()));
            event.set_some("count", record.egresswatch.loss.as_ref().map(|loss| loss.count));
        }
    }
    event.set_some("start_time", record.event.start.map(milliseconds));
    event.set_some("end_time", record.event.end.map(milliseconds));
    event.set_some("duration", record.event.duration.map(|duration_ns| duration_ns / 1_000_000));
    event.set_filled("observables", network::observables(record));
    event.set("unmapped", unmapped(record));
    event.into()
}

/// Appends the event to `buffer` as one line without its newline.
pub fn write(record: &Record, buffer: &mut Vec<u8>) -> Result<(), serde_json::Error> {
    serde_json::to_writer(buffer, &event(record))
}

/// A class of OCSF with its category.
struct Class {
    uid: u32,
    name: &'static str,
    category_uid: u32,
    category_name: &'static str,
}

impl Class {
    const fn of(record: &Record) -> Self {
        match record.event.dataset {
            Dataset::Alert | Dataset::Executable => {
                Self { uid: 2004, name: "Detection Finding", category_uid: 2, category_name: "Findings" }
            }
            Dataset::Flow => {
                Self { uid: 4001, name: "Network Activity", category_uid: 4, category_name: "Network Activity" }
            }
            Dataset::Status => Self {
                uid: 6002,
                name: "Application Lifecycle",
                category_uid: 6,
                category_name: "Application Activity",
            },
            Dataset::Loss | Dataset::Degradation => {
                Self { uid: 6008, name: "Application Error", category_uid: 6, category_name: "Application Activity" }
            }
        }
    }
}

/// `activity_id` and its caption within the record's class.
fn activity(record: &Record) -> (u32, &'static str) {
    match record.event.action {
        EventAction::FlowEnded if record.event.outcome == Some(Outcome::Failure) => (4, "Fail"),
        EventAction::FlowEnded => (2, "Close"),
        EventAction::FlowProgress => (6, "Traffic"),
        EventAction::MonitorStarted => (3, "Start"),
        EventAction::MonitorStopped => (4, "Stop"),
        EventAction::MonitorRunning => (99, "Running"),
        EventAction::PolicyReloaded => (8, "Update"),
        EventAction::DataLost | EventAction::Degraded => (1, "General Error"),
        EventAction::FirstContact | EventAction::RuleMatched => (1, "Create"),
        _ => (2, "Update"),
    }
}

/// `severity_id` and its caption. What is no alert informs, except that a loss which nothing makes up for matters.
fn severity(record: &Record) -> (u32, &'static str) {
    match record.egresswatch.severity {
        Some(Severity::High) => (4, "High"),
        Some(Severity::Medium) => (3, "Medium"),
        Some(Severity::Low) => (2, "Low"),
        None if record.egresswatch.loss.as_ref().is_some_and(|loss| !loss.recoverable) => (3, "Medium"),
        None => (1, "Informational"),
    }
}

fn metadata(record: &Record) -> Value {
    json!({
        "version": OCSF_VERSION,
        "product": product(record),
        // `actor` and `device` come from this profile where a class lacks them.
        "profiles": ["host"],
        "uid": record.event.id,
        "sequence": record.event.sequence,
        "event_code": text(&record.event.action),
        "log_name": text(&record.event.dataset),
        "log_version": record.ecs.version,
    })
}

fn product(record: &Record) -> Value {
    json!({
        "name": record.observer.product,
        "vendor_name": record.observer.vendor,
        "version": record.observer.version,
    })
}

/// The attributes of a Detection Finding.
fn finding(record: &Record, event: &mut Object) {
    let own = &record.egresswatch;
    let is_alert = record.event.dataset == Dataset::Alert;
    let mut info = Object::default();
    // A record that tells more of an alert belongs to that alert's finding.
    info.set("uid", own.alert_id.as_deref().unwrap_or(&record.event.id));
    let title = match own.rules.first() {
        Some(rule) => rule.title.as_str(),
        None if is_alert => "Contact with flagged infrastructure",
        None => "Executable of an alert",
    };
    info.set("title", title);
    info.set("desc", record.message.as_str());
    info.set("data_sources", json!(["eBPF socket hooks"]));
    info.set("created_time", milliseconds(record.timestamp));
    info.set_some("first_seen_time", own.totals.as_ref().map(|totals| milliseconds(totals.first_contact)));
    if let Some(rule) = &record.rule {
        let mut analytic = Object::default();
        analytic.set("type_id", 1);
        analytic.set("type", "Rule");
        analytic.set("uid", rule.id.as_str());
        analytic.set("name", rule.name.as_str());
        analytic.set_some("desc", rule.description.as_deref());
        analytic.set_some("version", rule.version.as_deref());
        info.set("analytic", analytic);
        info.set_some("src_url", rule.reference.as_deref());
    }
    if let Some(threat) = &record.threat {
        let ids = |ids: &Option<ThreatIds>| ids.iter().flat_map(|ids| ids.id.clone()).collect::<Vec<_>>();
        let attack = |kind: &str, id: String| json!({ kind: { "uid": id } });
        let tactics = ids(&threat.tactic).into_iter().map(|id| attack("tactic", id));
        let techniques = ids(&threat.technique).into_iter().map(|id| attack("technique", id));
        info.set_filled("attacks", tactics.chain(techniques).collect());
    }
    info.set_filled("types", own.lists.iter().cloned().map(Value::from).collect());
    event.set("finding_info", info);
    event.set("is_alert", is_alert);
    event.set("status_id", 1);
    event.set("status", "New");
    event.set("device", process::device(record));
    event.set_some("status_detail", record.event.reason.clone());
    let mut evidence = Object::default();
    evidence.set_some("actor", process::actor(record));
    evidence.set_some("container", process::container(record));
    evidence.set_some("src_endpoint", network::endpoint(record.source.as_ref()));
    evidence.set_some("dst_endpoint", network::endpoint(record.destination.as_ref()));
    evidence.set_some("connection_info", network::connection(record));
    evidence.set_some("url", network::url(record));
    evidence.set_some("data", network::traffic(record).map(|traffic| json!({ "traffic": traffic })));
    event.set("evidences", vec![Value::from(evidence)]);
}

/// Everything of `egresswatch.*`: OCSF has no attributes for lists, owners and names with their sources.
fn unmapped(record: &Record) -> Value {
    json!({ "egresswatch": record.egresswatch })
}

/// Milliseconds since the Unix epoch: OCSF's `timestamp_t`.
fn milliseconds(time: Timestamp) -> i64 {
    i64::try_from(time.unix_ns() / 1_000_000).unwrap_or(i64::MAX)
}

/// A token as the ECS form writes it.
fn text(token: &impl serde::Serialize) -> Value {
    // A token is a string by construction.
    serde_json::to_value(token).unwrap_or_default()
}

/// `1` for a flow that the remote side opened and `2` for one of ours, with the caption.
const fn direction(direction: Direction) -> (u32, &'static str) {
    match direction {
        Direction::Ingress => (1, "Inbound"),
        Direction::Egress => (2, "Outbound"),
    }
}

/// A JSON object in which nothing is empty.
#[derive(Debug, Default)]
struct Object(Map<String, Value>);

impl Object {
    fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(name.to_owned(), value.into());
    }

    fn set_some(&mut self, name: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.set(name, value);
        }
    }

    fn set_filled(&mut self, name: &str, values: Vec<Value>) {
        if !values.is_empty() {
            self.set(name, values);
        }
    }
}

impl From<Object> for Value {
    fn from(object: Object) -> Self {
        Self::Object(object.0)
    }
}

#[cfg(test)]
mod tests;
