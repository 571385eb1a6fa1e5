//! The published schema of [`Record`], made from its doc comments: `docs/event-schema.json` and `docs/events.md`.

use std::fmt::Write as _;

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use super::record::{ECS_VERSION, Record};

/// Version of the record's schema. The first number changes when a field goes away or changes its meaning or type, the
/// second when fields or values are added: a reader that ignores what it does not know stays right within a first number.
pub const SCHEMA_VERSION: &str = "1.1";

/// `$id` of the schema, without its version.
const SCHEMA_ID: &str = "https://egresswatch.github.io/event-schema";

/// The JSON schema (draft 2020-12) of every record, pretty-printed, with a final newline.
#[must_use]
pub fn schema_json() -> String {
    // A JSON value always prints.
    serde_json::to_string_pretty(&schema()).unwrap_or_default() + "\n"
}

/// The JSON schema as a value.
#[must_use]
pub fn schema() -> Value {
    let generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    let mut schema = generator.into_root_schema_for::<Record>().to_value();
    drop_null(&mut schema);
    if let Some(object) = schema.as_object_mut() {
        object.insert("$id".to_owned(), format!("{SCHEMA_ID}-{SCHEMA_VERSION}.json").into());
        object.insert("title".to_owned(), "EgressWatch event".into());
    }
    schema
}

/// Every field as a table row: dotted name, type, meaning.
#[must_use]
pub fn events_markdown() -> String {
    let schema = schema();
    let mut rows = Vec::new();
    collect_rows(&schema, &schema, "", &mut rows);
    let mut page = format!(
        "<!-- Generated from the doc comments in monitor/src/alert/record*. Do not edit. -->\n\n\
         # Events\n\n{}\n\n\
         Types are those of JSON; ECS fields are ECS {ECS_VERSION}. The same as a JSON schema: \
         [event-schema.json](event-schema.json), version {SCHEMA_VERSION}: the first number changes when a field goes away \
         or changes its meaning or type, the second when fields or values are added, so ignore what you do not know.\n\n\
         | field | type | meaning |\n| --- | --- | --- |\n",
        schema.get("description").and_then(Value::as_str).unwrap_or_default(),
    );
    for row in rows {
        // Writing to a string cannot fail.
        let _ = writeln!(page, "| `{}` | {} | {} |", row.path, row.kind, row.meaning);
    }
    let _ = write!(
        page,
        "\n## Losses\n\nValues of `egresswatch.loss.reason`, and of the label `reason` of the metric \
         `egresswatch_losses_total`. What is made up for was only late.\n\n{}",
        super::loss_reasons::markdown()
    );
    page
}

/// What is at a field of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// A value, or several.
    Values,
    /// Fields of its own, which are listed.
    Fields,
    /// Fields whose names others chose, such as labels.
    AnyFields,
}

/// Every field of records: its name with dots, and what is there.
#[must_use]
pub fn fields() -> Vec<(String, Holds)> {
    let schema = schema();
    let mut rows = Vec::new();
    collect_rows(&schema, &schema, "", &mut rows);
    rows.into_iter().map(|row| (row.path, row.holds)).collect()
}

struct Row {
    path: String,
    kind: String,
    meaning: String,
    holds: Holds,
}

fn collect_rows(root: &Value, schema: &Value, prefix: &str, rows: &mut Vec<Row>) {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return };
    for (name, property) in properties {
        let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        let (target, is_array) = match property.get("items") {
            Some(items) => (resolve(root, items), true),
            None => (resolve(root, property), false),
        };
        let meaning = property.get("description").or_else(|| target.get("description"));
        let mut meaning = meaning.and_then(Value::as_str).unwrap_or_default().replace('\n', " ").replace('|', "\\|");
        let is_object = target.get("properties").is_some();
        if !is_object {
            meaning.push_str(&values(target));
        }
        let holds = match target.get("additionalProperties") {
            _ if is_object => Holds::Fields,
            Some(Value::Object(_)) => Holds::AnyFields,
            _ => Holds::Values,
        };
        let kind = kind(target);
        let kind = if is_array { format!("array of {kind}") } else { kind };
        rows.push(Row { path: path.clone(), kind, meaning, holds });
        collect_rows(root, target, &path, rows);
    }
}

fn resolve<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    let reference = schema.get("$ref").and_then(Value::as_str).and_then(|reference| reference.strip_prefix('#'));
    reference.and_then(|pointer| root.pointer(pointer)).unwrap_or(schema)
}

fn kind(schema: &Value) -> String {
    let format = schema.get("format").and_then(Value::as_str);
    match (schema.get("type").and_then(Value::as_str), format) {
        (Some("string"), Some(format)) => format!("string ({format})"),
        (Some(kind), _) => kind.to_owned(),
        (None, _) => "string".to_owned(),
    }
}

/// The values of an enumeration, with their meaning where they have one.
fn values(schema: &Value) -> String {
    let mut values = Vec::new();
    if let Some(list) = schema.get("enum").and_then(Value::as_array) {
        values.extend(list.iter().filter_map(Value::as_str).map(|value| format!("`{value}`")));
    }
    for variant in schema.get("oneOf").and_then(Value::as_array).into_iter().flatten() {
        let meaning = variant.get("description").and_then(Value::as_str).unwrap_or_default().replace('\n', " ");
        let meaning = meaning.trim_end_matches('.').to_owned();
        if let Some(value) = variant.get("const").and_then(Value::as_str) {
            values.push(if meaning.is_empty() { format!("`{value}`") } else { format!("`{value}` ({meaning})") });
        }
        let plain = variant.get("enum").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        values.extend(plain.map(|value| format!("`{value}`")));
    }
    if values.is_empty() { String::new() } else { format!(" Values: {}.", values.join(", ")) }
}

/// Unknown facts are left out and never `null`; the derived schema would allow both.
fn drop_null(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            if let Some(Value::Array(types)) = object.get_mut("type") {
                types.retain(|kind| kind != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    object.insert("type".to_owned(), only);
                }
            }
            if let Some(Value::Array(choices)) = object.get_mut("anyOf") {
                choices.retain(|choice| choice.get("type").is_none_or(|kind| kind != "null"));
                if let [Value::Object(only)] = choices.as_slice() {
                    let only: Map<String, Value> = only.clone();
                    object.remove("anyOf");
                    object.extend(only);
                }
            }
            object.values_mut().for_each(drop_null);
        }
        Value::Array(values) => values.iter_mut().for_each(drop_null),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{events_markdown, schema_json};

    /// Compares with what is checked in; with `UPDATE_DOCS=1` writes it.
    fn check_document(name: &str, expected: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name);
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(&path, expected).expect("docs/ can be written");
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            found == expected,
            "docs/{name} is stale: run `UPDATE_DOCS=1 cargo test -p egresswatch alert::schema` and commit it"
        );
    }

    #[test]
    fn the_schema_document_is_fresh() {
        check_document("event-schema.json", &schema_json());
    }

    #[test]
    fn the_events_page_is_fresh() {
        check_document("events.md", &events_markdown());
    }
}
