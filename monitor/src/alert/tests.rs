//! Snapshots of the records, and their agreement with ECS and with the published schema.

mod human;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{
    Record,
    example::{self, CLOCK, builder, decision},
    input::{FlowMoment, Phase},
    record::{Direction, FlowCaveat, Outcome},
    schema,
};
use crate::{
    event::{BootTime, FlowFacts, Protocol},
    policy::{Cause, Level, rules::RuleCause},
};

fn alert(scene: &example::Scene, cause: Cause, level: Level) -> Record {
    builder().alert(CLOCK, &scene.subject(), &decision(scene, cause, level))
}

/// One record of every kind, cause, moment and phase, and the scenes with the most and the least known.
pub(crate) fn all_records() -> Vec<Record> {
    let builder = builder();
    let (chromium, everything, unknown) = (example::chromium(), example::everything(), example::unknown());
    let mut inbound = example::everything();
    inbound.flow.facts.inbound = true;
    let mut records = Vec::new();
    for scene in [&chromium, &everything, &unknown, &inbound] {
        for (cause, level) in [
            (Cause::FirstContact, Level::Attempted),
            (Cause::LevelRaised, Level::Established),
            (Cause::NewMatch, Level::Sent),
            (Cause::Rollup, Level::Sent),
        ] {
            records.push(builder.alert(CLOCK, &scene.subject(), &decision(scene, cause, level)));
        }
        for cause in [RuleCause::Matched, RuleCause::Folded] {
            records.push(builder.rule_alert(CLOCK, &scene.subject(), &example::rule_decision(scene, cause)));
        }
        records.push(builder.flow(CLOCK, &scene.subject(), FlowMoment::Ended));
        records.push(builder.flow(CLOCK, &scene.subject(), FlowMoment::Progress));
    }
    for scene in [example::in_docker(), example::in_undescribed_container()] {
        records.push(builder.flow(CLOCK, &scene.subject(), FlowMoment::Ended));
    }
    records.push(builder.executable(CLOCK, &chromium.subject(), "first".to_owned()));
    records.push(builder.loss(example::now(0), example::loss()));
    records.push(builder.degradation(example::now(0), example::degradation()));
    for phase in [Phase::Started, Phase::Running, Phase::Reloaded, Phase::Stopped] {
        records.push(builder.status(example::now(0), example::status(phase)));
    }
    records
}

fn json(record: &Record) -> Value {
    let mut line = Vec::new();
    record.write_json_line(&mut line).expect("a record is JSON");
    assert_eq!(line.iter().position(|byte| *byte == b'\n'), Some(line.len() - 1), "one record is one line");
    serde_json::from_slice(&line).expect("what is written can be read")
}

/// Records of every kind as a file, which the tests with real receivers read too.
#[test]
fn the_records_of_every_kind_as_json_lines() {
    let version = format!("\"version\":\"{}\"", env!("CARGO_PKG_VERSION"));
    let mut lines = Vec::new();
    for record in all_records() {
        record.write_json_line(&mut lines).expect("a record is JSON");
    }
    let lines = String::from_utf8(lines).expect("JSON is UTF-8").replace(&version, "\"version\":\"0.0.0\"");
    insta::assert_binary_snapshot!("records.jsonl", lines.into_bytes());
}

/// With its fields in the order of the struct, and without the version, which changes with every release.
fn pretty(record: &Record) -> String {
    let text = serde_json::to_string_pretty(record).expect("a record is JSON");
    text.replace(&format!("\"version\": \"{}\"", env!("CARGO_PKG_VERSION")), "\"version\": \"[version]\"")
}

#[test]
fn the_alert_of_the_scenario() {
    insta::assert_snapshot!(pretty(&alert(&example::chromium(), Cause::FirstContact, Level::Sent)));
}

#[test]
fn the_flow_with_everything_known() {
    insta::assert_snapshot!(pretty(&builder().flow(CLOCK, &example::everything().subject(), FlowMoment::Ended)));
}

#[test]
fn the_flow_with_nothing_known() {
    insta::assert_snapshot!(pretty(&builder().flow(CLOCK, &example::unknown().subject(), FlowMoment::Progress)));
}

#[test]
fn loss_degradation_and_status() {
    let builder = builder();
    let records = [
        pretty(&builder.loss(example::now(0), example::loss())),
        pretty(&builder.degradation(example::now(0), example::degradation())),
        pretty(&builder.status(example::now(0), example::status(Phase::Stopped))),
    ];
    insta::assert_snapshot!(records.join("\n"));
}

#[test]
fn a_new_match_is_told_apart_and_the_weightiest_list_is_the_rule() {
    let record = alert(&example::chromium(), Cause::NewMatch, Level::Sent);
    let new: Vec<_> = record.egresswatch.matches.iter().map(|entry| entry.is_new).collect();
    assert_eq!(new, [Some(false), Some(false), Some(true)]);
    assert_eq!(record.egresswatch.lists, ["us-fcc-covered", "app-deepseek"]);
    assert_eq!(record.rule.map(|rule| rule.id).as_deref(), Some("app-deepseek"));
}

#[test]
fn messages_are_sentences() {
    let messages: Vec<_> = all_records().into_iter().map(|record| record.message).collect();
    insta::assert_snapshot!(messages.join("\n"));
}

#[test]
fn ids_differ_within_a_run() {
    let records = all_records();
    let ids: BTreeSet<_> = records.iter().map(|record| &record.event.id).collect();
    assert_eq!(ids.len(), records.len());
}

#[test]
fn only_flows_may_be_dropped() {
    for record in all_records() {
        assert_eq!(record.must_arrive(), json(&record)["event"]["dataset"] != "egresswatch.flow");
    }
}

#[test]
fn an_inbound_flow_swaps_its_ends_but_not_what_went_out() {
    let mut scene = example::everything();
    scene.flow.facts.inbound = true;
    let record = builder().flow(CLOCK, &scene.subject(), FlowMoment::Ended);
    let (source, destination) = (record.source.as_ref().expect("a source"), record.destination.as_ref().expect("one"));
    assert_eq!(record.network.as_ref().map(|network| network.direction), Some(Direction::Ingress));
    assert_eq!(source.ip, Some(scene.flow.remote_address()));
    assert_eq!(source.autonomous_system.as_ref().and_then(|system| system.number), Some(9808));
    assert_eq!(destination.bytes, Some(1_437));
    assert!(destination.autonomous_system.is_none());
    assert_eq!(record.remote(), record.source.as_ref());
    let out = record.egresswatch.flow.and_then(|flow| flow.out).expect("counted");
    assert_eq!(out.payload_bytes, 1_437);
}

#[test]
fn outcomes_follow_the_facts() {
    let attempted = FlowFacts { attempted: true, ..FlowFacts::default() };
    for (facts, expected) in [
        (attempted, Outcome::Unknown),
        (FlowFacts { established: true, ..attempted }, Outcome::Success),
        (FlowFacts { sent: true, ..attempted }, Outcome::Success),
        (FlowFacts { failed: true, closed: true, ..attempted }, Outcome::Failure),
    ] {
        let mut scene = example::chromium();
        scene.flow.facts = facts;
        let record = builder().flow(CLOCK, &scene.subject(), FlowMoment::Progress);
        assert_eq!(record.event.outcome, Some(expected), "{facts:?}");
    }
}

#[test]
fn what_is_not_known_is_left_out_and_never_zero() {
    let scene = example::unknown();
    let record = alert(&scene, Cause::FirstContact, Level::Sent);
    let flow = record.egresswatch.flow.as_ref().expect("a flow");
    assert!(flow.out.is_none() && flow.inward.is_none());
    assert!(flow.caveats.contains(&FlowCaveat::Untracked) && flow.caveats.contains(&FlowCaveat::ProcessUnknown));
    assert!(record.process.is_none() && record.user.is_none());
    let destination = record.destination.as_ref().expect("a destination");
    assert_eq!((destination.bytes, destination.packets), (None, None));
    assert!(record.network.as_ref().is_some_and(|network| network.community_id.is_none() && network.bytes.is_none()));
}

#[test]
fn an_unbound_socket_has_no_community_id_and_icmp_no_ports() {
    let mut scene = example::chromium();
    scene.flow.local = Some("0.0.0.0:0".parse().expect("an address"));
    let record = builder().flow(CLOCK, &scene.subject(), FlowMoment::Progress);
    assert_eq!(record.source.as_ref().and_then(|source| source.ip), None);
    assert_eq!(record.network.as_ref().and_then(|network| network.community_id.clone()), None);

    let mut scene = example::chromium();
    scene.flow.key.protocol = Protocol::Icmp;
    scene.flow.key.remote.set_port(0);
    scene.flow.local = Some("192.168.1.20:0".parse().expect("an address"));
    let record = builder().flow(CLOCK, &scene.subject(), FlowMoment::Progress);
    assert_eq!(record.destination.as_ref().and_then(|destination| destination.port), None);
    assert_eq!(record.network.as_ref().and_then(|network| network.community_id.clone()), None);
}

#[test]
fn the_duration_ends_with_the_flow() {
    let mut scene = example::everything();
    scene.flow.at = BootTime(scene.flow.last_at.0 + 5);
    let ended = builder().flow(CLOCK, &scene.subject(), FlowMoment::Ended);
    assert_eq!(ended.event.duration, Some(31_000_005));
    scene.flow.facts.closed = false;
    let open = builder().flow(CLOCK, &scene.subject(), FlowMoment::Progress);
    assert_eq!((open.event.duration, open.event.end), (Some(31_000_000), None));
}

#[test]
fn untrusted_text_stays_text() {
    let mut scene = example::chromium();
    if let Some(actor) = &mut scene.actor {
        actor.name = "\u{1b}[31m<script>\"\n".to_owned();
        actor.comm = "\u{0}\u{7f}".to_owned();
    }
    let record = alert(&scene, Cause::FirstContact, Level::Sent);
    let value = json(&record);
    assert_eq!(value["process"]["name"], "\u{1b}[31m<script>\"\n");
    assert!(!record.message.chars().any(char::is_control), "{}", record.message);
}

#[test]
fn every_field_is_in_ecs_with_a_compatible_type_or_our_own() {
    let ecs = ecs_fields();
    let mut seen = BTreeSet::new();
    for record in all_records() {
        check_fields(&json(&record), "", false, &ecs, &mut seen);
    }
    assert!(seen.len() > 80, "the records exercise the fields: {}", seen.len());
    // Everything that the schema documents occurs in some record, so that nothing escapes the check.
    let mut documented = BTreeSet::new();
    let schema = schema::schema();
    collect_leaves(&schema, &schema, "", &mut documented);
    let untested: Vec<_> = documented.iter().filter(|path| !path.starts_with("egresswatch.")).collect();
    let untested: Vec<_> = untested.into_iter().filter(|path| !seen.contains(*path)).collect();
    assert_eq!(untested, Vec::<&String>::new());
}

/// `testdata/ecs-fields-9.5.csv`: field to type and whether it is an array.
fn ecs_fields() -> BTreeMap<&'static str, (&'static str, bool)> {
    let csv = include_str!("testdata/ecs-fields-9.5.csv");
    csv.lines()
        .skip(1)
        .filter_map(|line| {
            let mut columns = line.split(',');
            let (field, kind) = (columns.next()?, columns.next()?);
            Some((field, (kind, columns.nth(1) == Some("array"))))
        })
        .collect()
}

fn check_fields(
    value: &Value,
    path: &str,
    in_array: bool,
    ecs: &BTreeMap<&str, (&str, bool)>,
    seen: &mut BTreeSet<String>,
) {
    if path == "egresswatch" {
        return;
    }
    match value {
        // A map: its keys are no fields, and a dot in one would make an object of it.
        Value::Object(pairs) if ecs.get(path).is_some_and(|(kind, _)| *kind == "object") => {
            assert!(pairs.iter().all(|(name, value)| !name.contains('.') && value.is_string()), "{path}: {value}");
            seen.insert(path.to_owned());
        }
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                check_fields(value, &path, false, ecs, seen);
            }
        }
        Value::Array(values) => {
            assert!(!values.is_empty(), "{path} is empty and should be left out");
            for value in values {
                check_fields(value, path, true, ecs, seen);
            }
        }
        leaf => {
            let (kind, ecs_array) = ecs.get(path).unwrap_or_else(|| panic!("{path} is not an ECS field"));
            // ECS marks `event.category` and `event.type` as arrays, and so on: ours must agree.
            assert_eq!(in_array, *ecs_array, "{path} is an array on one side only");
            let fits = match *kind {
                "keyword" | "wildcard" | "match_only_text" | "constant_keyword" => {
                    leaf.as_str().is_some_and(|text| !text.is_empty())
                }
                "date" => leaf.as_str().is_some_and(|text| text.parse::<jiff::Timestamp>().is_ok()),
                "ip" => leaf.as_str().is_some_and(|text| text.parse::<std::net::IpAddr>().is_ok()),
                "long" | "integer" => leaf.as_i64().is_some(),
                "boolean" => leaf.is_boolean(),
                _ => false,
            };
            assert!(fits, "{path}: {leaf} is no {kind}");
            seen.insert(path.to_owned());
        }
    }
}

fn collect_leaves(root: &Value, node: &Value, path: &str, leaves: &mut BTreeSet<String>) {
    let node = resolved(root, node.get("items").unwrap_or(node));
    match node.get("properties").and_then(Value::as_object) {
        Some(properties) => {
            for (name, property) in properties {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                collect_leaves(root, property, &path, leaves);
            }
        }
        None => {
            leaves.insert(path.to_owned());
        }
    }
}

#[test]
fn every_record_follows_the_published_schema() {
    let schema = schema::schema();
    for record in all_records() {
        let value = json(&record);
        if let Err(problem) = follow(&schema, &schema, &value, "") {
            panic!("{problem} in {value:#}");
        }
    }
}

#[test]
fn the_schema_check_finds_what_is_wrong() {
    let schema = schema::schema();
    let good = json(&alert(&example::chromium(), Cause::FirstContact, Level::Sent));
    for (pointer, wrong) in [
        ("/event/kind", Value::from("alarm")),
        ("/event/severity", Value::from(-1)),
        ("/message", Value::Null),
        ("/egresswatch/level", Value::from("stolen")),
        ("/host", serde_json::json!({ "name": "no hostname" })),
        ("/network", serde_json::json!({ "unheard_of": 1 })),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).expect("the field is there") = wrong;
        assert!(follow(&schema, &schema, &bad, "").is_err(), "{pointer}");
    }
}

/// Checks `value` against the part of JSON schema that ours uses, and more strictly: unknown fields are errors. A
/// keyword that this check does not know fails, so that it cannot silently check nothing.
fn follow(root: &Value, schema: &Value, value: &Value, path: &str) -> Result<(), String> {
    const KNOWN: [&str; 17] = [
        "$schema",
        "$id",
        "$defs",
        "$ref",
        "title",
        "description",
        "type",
        "format",
        "properties",
        "required",
        "items",
        "enum",
        "const",
        "oneOf",
        "minimum",
        "maximum",
        "additionalProperties",
    ];
    let unknown = schema.as_object().and_then(|object| object.keys().find(|key| !KNOWN.contains(&key.as_str())));
    if let Some(keyword) = unknown {
        return Err(format!("{path}: the check does not know the keyword {keyword}"));
    }
    let schema = resolved(root, schema);
    let fails = |what: &str| Err(format!("{path}: {what}"));
    let type_fits = match schema.get("type").and_then(Value::as_str) {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_u64() || value.is_i64(),
        Some("boolean") => value.is_boolean(),
        Some(other) => return fails(&format!("unknown type {other}")),
        None => true,
    };
    if !type_fits {
        return fails("wrong type");
    }
    if schema.get("enum").and_then(Value::as_array).is_some_and(|values| !values.contains(value)) {
        return fails("not among the values");
    }
    if schema.get("const").is_some_and(|constant| constant != value) {
        return fails("not the value");
    }
    if let Some(choices) = schema.get("oneOf").and_then(Value::as_array) {
        let fitting = choices.iter().filter(|choice| follow(root, choice, value, path).is_ok()).count();
        if fitting != 1 {
            return fails("not exactly one of the choices");
        }
    }
    let too_small = schema.get("minimum").and_then(Value::as_f64).zip(value.as_f64()).is_some_and(|(at, is)| is < at);
    let too_large = schema.get("maximum").and_then(Value::as_f64).zip(value.as_f64()).is_some_and(|(at, is)| is > at);
    if too_small || too_large {
        return fails("out of range");
    }
    for name in schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
        if value.get(name).is_none() {
            return fails(&format!("{name} is missing"));
        }
    }
    if let Some(fields) = value.as_object() {
        for (name, value) in fields {
            let property = schema.get("properties").and_then(|properties| properties.get(name));
            // A map has a schema for every value.
            match property.or(schema.get("additionalProperties").filter(|values| values.is_object())) {
                Some(property) => follow(root, property, value, &format!("{path}/{name}"))?,
                None => return fails(&format!("{name} is not in the schema")),
            }
        }
    }
    if let (Some(items), Some(values)) = (schema.get("items"), value.as_array()) {
        for (index, value) in values.iter().enumerate() {
            follow(root, items, value, &format!("{path}/{index}"))?;
        }
    }
    Ok(())
}

fn resolved<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    let pointer = schema.get("$ref").and_then(Value::as_str).and_then(|reference| reference.strip_prefix('#'));
    pointer.and_then(|pointer| root.pointer(pointer)).unwrap_or(schema)
}
