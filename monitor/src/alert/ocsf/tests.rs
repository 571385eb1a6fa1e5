//! The events as a file that a published validator of OCSF reads too (`tests/siem`), and what must hold of each.

use serde_json::Value;

use super::{OCSF_VERSION, event};
use crate::alert::{record::Dataset, tests::all_records};

#[test]
fn the_events_of_every_kind_of_record() {
    let version = format!("\"version\":\"{}\"", env!("CARGO_PKG_VERSION"));
    let lines: String = all_records()
        .iter()
        .map(|record| event(record).to_string().replace(&version, "\"version\":\"0.0.0\"") + "\n")
        .collect();
    insta::assert_binary_snapshot!("events.jsonl", lines.into_bytes());
}

#[test]
fn each_event_names_its_class_and_says_nothing_empty() {
    for record in all_records() {
        let event = event(&record);
        let number = |name: &str| event[name].as_u64().unwrap_or_else(|| panic!("{name} in {event}"));
        assert_eq!(number("type_uid"), number("class_uid") * 100 + number("activity_id"), "{event}");
        assert_eq!(number("class_uid") / 1_000, number("category_uid"), "{event}");
        assert_eq!(event["metadata"]["version"], OCSF_VERSION);
        assert_eq!(event["metadata"]["uid"], record.event.id.as_str());
        assert_eq!(number("class_uid") == 2_004, matches!(record.event.dataset, Dataset::Alert | Dataset::Executable));
        assert_nothing_empty(&event, "event");
    }
}

#[test]
fn traffic_is_seen_from_this_host_whichever_side_opened_the_flow() {
    for record in all_records().iter().filter(|record| record.event.dataset == Dataset::Flow) {
        let event = event(record);
        let Some(out) = record.egresswatch.flow.as_ref().and_then(|flow| flow.out.as_ref()) else { continue };
        assert_eq!(event["traffic"]["bytes_out"], out.payload_bytes, "{event}");
    }
}

fn assert_nothing_empty(value: &Value, path: &str) {
    match value {
        // Our own part follows the rules of the ECS form.
        _ if path.ends_with(".unmapped") => {}
        Value::Null => panic!("{path} is null"),
        Value::String(text) => assert!(!text.is_empty(), "{path} is empty"),
        Value::Array(values) => {
            assert!(!values.is_empty(), "{path} is empty");
            for value in values {
                assert_nothing_empty(value, path);
            }
        }
        Value::Object(fields) => {
            assert!(!fields.is_empty(), "{path} is empty");
            for (name, value) in fields {
                assert_nothing_empty(value, &format!("{path}.{name}"));
            }
        }
        Value::Bool(_) | Value::Number(_) => {}
    }
}
