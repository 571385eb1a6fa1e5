//! A record as a log record of OpenTelemetry: names of the semantic conventions, where they have one for what ECS says.

use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::{
    collector::logs::v1::ExportLogsServiceRequest,
    common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList, any_value::Value as Any},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs, SeverityNumber},
    resource::v1::Resource,
};
use serde_json::Value;

use super::Body;
use crate::{
    alert::{input::Host, record::Dataset},
    sink::{
        delivery::Item,
        http::{dataset, severity},
    },
};

/// Where an attribute comes from in the record (a JSON pointer), and its name in the semantic conventions.
const ATTRIBUTES: &[(&str, &str)] = &[
    ("/event/action", "event.action"),
    ("/source/ip", "source.address"),
    ("/source/port", "source.port"),
    ("/destination/ip", "destination.address"),
    ("/destination/port", "destination.port"),
    ("/network/transport", "network.transport"),
    ("/network/type", "network.type"),
    ("/process/pid", "process.pid"),
    ("/process/name", "process.executable.name"),
    ("/process/executable", "process.executable.path"),
    ("/user/id", "user.id"),
    ("/user/name", "user.name"),
    ("/container/id", "container.id"),
    ("/container/name", "container.name"),
    ("/container/runtime", "container.runtime"),
    ("/container/image/name", "container.image.name"),
    ("/container/image/tag", "container.image.tags"),
    ("/orchestrator/namespace", "k8s.namespace.name"),
    ("/orchestrator/resource/name", "k8s.pod.name"),
    ("/orchestrator/resource/id", "k8s.pod.uid"),
    ("/rule/id", "security_rule.uuid"),
    ("/rule/name", "security_rule.name"),
    ("/egresswatch/owner/asn", "egresswatch.owner.asn"),
    ("/egresswatch/lists", "egresswatch.lists"),
];

/// Makes requests for one host.
#[derive(Debug)]
pub(super) struct Converter {
    resource: Resource,
    body: Body,
}

impl Converter {
    pub(super) fn new(host: &Host, body: Body) -> Self {
        let mut attributes = vec![
            text("service.name", "egresswatch"),
            text("service.version", env!("CARGO_PKG_VERSION")),
            text("host.name", &host.hostname),
            text("os.type", "linux"),
        ];
        attributes.extend(host.machine_id.as_deref().map(|id| text("host.id", id)));
        Self { resource: Resource { attributes, ..Resource::default() }, body }
    }

    /// `items` as one request, in order.
    pub(super) fn request(&self, items: &[Item]) -> ExportLogsServiceRequest {
        let scope = InstrumentationScope {
            name: "egresswatch".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..InstrumentationScope::default()
        };
        let logs = ScopeLogs {
            scope: Some(scope),
            log_records: items.iter().map(|item| self.record(item)).collect(),
            ..ScopeLogs::default()
        };
        let resource_logs =
            ResourceLogs { resource: Some(self.resource.clone()), scope_logs: vec![logs], ..ResourceLogs::default() };
        ExportLogsServiceRequest { resource_logs: vec![resource_logs] }
    }

    fn record(&self, item: &Item) -> LogRecord {
        let plain = || String::from_utf8_lossy(&item.bytes).into_owned();
        let json = serde_json::from_slice::<Value>(&item.bytes).ok().filter(Value::is_object);
        let mut attributes = vec![text("log.record.uid", &item.id)];
        if let Some(json) = &json {
            attributes.extend(ATTRIBUTES.iter().filter_map(|(pointer, name)| {
                let value = json.pointer(pointer)?.clone();
                Some(KeyValue { key: (*name).to_owned(), value: Some(any(value)), ..KeyValue::default() })
            }));
        }
        let body = match json {
            Some(json) if self.body == Body::Structured => any(json),
            _ => AnyValue { value: Some(Any::StringValue(plain())) },
        };
        let (number, level) = level(item);
        let observed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        LogRecord {
            time_unix_nano: u64::try_from(item.time.unix_ns()).unwrap_or(0),
            observed_time_unix_nano: u64::try_from(observed).unwrap_or(0),
            severity_number: number.into(),
            severity_text: level.to_owned(),
            body: Some(body),
            attributes,
            event_name: dataset(item.dataset).to_owned(),
            ..LogRecord::default()
        }
    }
}

/// An alert's severity in the scale of log levels: low and medium are warnings, high and critical errors. What the monitor
/// says of itself is a warning where something is lost or missing.
fn level(item: &Item) -> (SeverityNumber, &'static str) {
    match item.severity.map(severity) {
        Some("low") => (SeverityNumber::Warn, "low"),
        Some("medium") => (SeverityNumber::Warn3, "medium"),
        Some("high") => (SeverityNumber::Error, "high"),
        Some(_) => (SeverityNumber::Error3, "critical"),
        None => match item.dataset {
            Dataset::Loss | Dataset::Degradation => (SeverityNumber::Warn, "warn"),
            Dataset::Alert | Dataset::Flow | Dataset::Executable | Dataset::Status => (SeverityNumber::Info, "info"),
        },
    }
}

fn text(key: &str, value: &str) -> KeyValue {
    let value = AnyValue { value: Some(Any::StringValue(value.to_owned())) };
    KeyValue { key: key.to_owned(), value: Some(value), ..KeyValue::default() }
}

/// JSON in OTLP's types. A whole number beyond 63 bits is written as text: as a floating one it would be another.
fn any(value: Value) -> AnyValue {
    let value = match value {
        Value::Null => None,
        Value::Bool(value) => Some(Any::BoolValue(value)),
        Value::Number(number) => Some(match number.as_i64() {
            Some(number) => Any::IntValue(number),
            None if number.is_u64() => Any::StringValue(number.to_string()),
            None => Any::DoubleValue(number.as_f64().unwrap_or_default()),
        }),
        Value::String(text) => Some(Any::StringValue(text)),
        Value::Array(values) => Some(Any::ArrayValue(ArrayValue { values: values.into_iter().map(any).collect() })),
        Value::Object(map) => Some(Any::KvlistValue(KeyValueList {
            values: map
                .into_iter()
                .map(|(key, value)| KeyValue { key, value: Some(any(value)), ..KeyValue::default() })
                .collect(),
        })),
    };
    AnyValue { value }
}
