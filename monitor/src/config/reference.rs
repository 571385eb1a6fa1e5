//! The default configuration with comments, and the reference made from it.
//!
//! There is one source: the settings' types. Their doc comments are the comments, their `Default` the values.

use std::fmt::Write as _;

use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::Config;

/// One table of the configuration file.
pub(super) struct Section {
    /// Its name, as in its header.
    pub(super) name: String,
    /// What it is about.
    description: String,
    /// Its keys: those with a default in the order of the type, then the optional ones.
    pub(super) entries: Vec<Entry>,
}

/// One key.
pub(super) struct Entry {
    /// The key.
    pub(super) key: String,
    /// What it is for.
    description: String,
    /// The default as TOML; `None` if it is unset by default.
    default: Option<String>,
    /// A value to show where there is no default.
    example: Option<String>,
}

/// A table of named tables, of which there are none by default: `[outputs.NAME]`.
struct Named {
    name: String,
    description: String,
    /// Keys that every one has.
    entries: Vec<Entry>,
    /// Every value of `type`, what it is, and its own keys.
    kinds: Vec<(String, String, Vec<Entry>)>,
}

/// The JSON schema of the configuration, for editors.
#[must_use]
pub fn json_schema() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<Config>().to_value()
}

/// The default configuration as a file to start from: every key, what it does, and its default.
#[must_use]
pub fn default_toml() -> String {
    let mut text = String::from(
        "# Configuration of EgressWatch.\n\
         #\n\
         # Everything here is the default; a key that is left out keeps it.\n\
         # `egresswatch check FILE` says what is wrong with a file, and where.\n",
    );
    for section in sections() {
        text.push('\n');
        comment(&mut text, &section.description);
        let _ = writeln!(text, "[{}]", section.name);
        for entry in &section.entries {
            text.push('\n');
            comment(&mut text, &entry.description);
            match (&entry.default, &entry.example) {
                (Some(value), _) => _ = writeln!(text, "{} = {value}", entry.key),
                (None, Some(value)) => _ = writeln!(text, "# {} = {value}", entry.key),
                (None, None) => _ = writeln!(text, "# {} = …", entry.key),
            }
        }
    }
    for named in named_tables() {
        text.push('\n');
        comment(&mut text, &named.description);
        if named.kinds.is_empty() {
            comment(&mut text, "All keys are in docs/config.md. One looks like this:");
            let _ = writeln!(text, "#\n#[{}.example]", named.name);
            for entry in &named.entries {
                if let Some(value) = &entry.example {
                    let _ = writeln!(text, "#{} = {value}", entry.key);
                }
            }
            continue;
        }
        comment(&mut text, "All types and their keys are in docs/config.md. One begins like this:");
        for (kind, _, entries) in named.kinds.iter().take(1) {
            let _ = writeln!(text, "#\n#[{}.example]\n#type = \"{kind}\"", named.name);
            for entry in entries {
                if let Some(value) = entry.default.as_ref().or(entry.example.as_ref()) {
                    let _ = writeln!(text, "#{} = {value}", entry.key);
                }
            }
        }
    }
    text
}

/// The reference of the configuration, in Markdown.
#[must_use]
pub fn reference_markdown() -> String {
    let mut text = String::from(
        "<!-- Made by `cargo run --example generate-docs`; do not edit. -->\n\n# Configuration\n\n\
         The file is TOML, `/etc/egresswatch/config.toml` unless `--config` names another. A key that is left out keeps\n\
         its default; an unknown key or a value that cannot be is an error that names the line. `egresswatch config`\n\
         prints the [default file](../deploy/config.toml), `egresswatch check FILE` checks one, and\n\
         [config.schema.json](config.schema.json) tells editors what can be written.\n",
    );
    for section in sections() {
        let _ = writeln!(text, "\n## `[{}]`\n\n{}\n", section.name, flat(&section.description));
        key_table(&mut text, &section.entries);
    }
    for named in named_tables() {
        let _ = writeln!(text, "\n## `[{0}.NAME]`\n\n{1}\n", named.name, flat(&named.description));
        if !named.kinds.is_empty() {
            text.push_str("Every one has a `type`, and these keys beside those of its type:\n\n");
        }
        key_table(&mut text, &named.entries);
        for (kind, description, entries) in &named.kinds {
            let _ = writeln!(text, "\n### `type = \"{kind}\"`\n\n{}\n", flat(description));
            if entries.is_empty() {
                text.push_str("It has no keys of its own.\n");
            } else {
                key_table(&mut text, entries);
            }
        }
    }
    text
}

fn key_table(text: &mut String, entries: &[Entry]) {
    text.push_str("| key | default | meaning |\n| --- | --- | --- |\n");
    for entry in entries {
        let default = entry.default.as_ref().map_or("unset".to_owned(), |value| format!("`{value}`"));
        let _ = writeln!(text, "| `{}` | {default} | {} |", entry.key, flat(&entry.description).replace('|', "\\|"));
    }
}

/// Every table of named tables.
fn named_tables() -> Vec<Named> {
    let schema = json_schema();
    let properties = schema.get("properties").and_then(Value::as_object);
    properties
        .into_iter()
        .flatten()
        .filter_map(|(name, node)| {
            // Names are either free or follow a pattern.
            let patterns = node.get("patternProperties").and_then(Value::as_object);
            let item = node
                .get("additionalProperties")
                .filter(|item| item.is_object())
                .or_else(|| patterns.and_then(|patterns| patterns.values().next()))?;
            let kinds = item.get("oneOf").and_then(Value::as_array).into_iter().flatten().map(|kind| {
                let tag = kind.pointer("/properties/type/const").and_then(Value::as_str).unwrap_or_default();
                (tag.to_owned(), description(Some(kind)), entries_of(kind))
            });
            Some(Named {
                name: name.clone(),
                description: description(Some(node)),
                entries: entries_of(item),
                kinds: kinds.collect(),
            })
        })
        .collect()
}

/// The keys of an object's schema, but for its `type`: those that must be written first.
fn entries_of(node: &Value) -> Vec<Entry> {
    let required: Vec<&str> =
        node.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    let properties = node.get("properties").and_then(Value::as_object);
    let mut entries: Vec<Entry> = properties
        .into_iter()
        .flatten()
        .filter(|(key, _)| *key != "type")
        .map(|(key, node)| Entry {
            key: key.clone(),
            description: description(Some(node)),
            default: node.get("default").filter(|value| !value.is_null()).map(example_as_toml),
            example: node.get("examples").and_then(|examples| examples.get(0)).map(example_as_toml),
        })
        .collect();
    entries.sort_by_key(|entry| !required.contains(&entry.key.as_str()));
    for entry in entries.iter_mut().filter(|entry| required.contains(&entry.key.as_str())) {
        entry.description = format!("Required. {}", entry.description);
    }
    entries
}

/// Every table of the configuration file.
pub(super) fn sections() -> Vec<Section> {
    let schema = json_schema();
    // A configuration that cannot be written as TOML is a bug that the tests of this module find.
    let defaults = toml::to_string(&Config::default()).unwrap_or_default();
    let mut sections = Vec::new();
    let mut current: Option<Section> = None;
    for line in defaults.lines().filter(|line| !line.is_empty()) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            sections.extend(current.take().map(|section| with_optional_entries(section, &schema)));
            let description = description(property(&schema, name));
            current = Some(Section { name: name.to_owned(), description, entries: Vec::new() });
        } else if let (Some(section), Some((key, value))) = (&mut current, line.split_once(" = ")) {
            let description = description(property(&schema, &format!("{}.{key}", section.name)));
            section.entries.push(Entry {
                key: key.to_owned(),
                description,
                default: Some(value.to_owned()),
                example: None,
            });
        }
    }
    sections.extend(current.map(|section| with_optional_entries(section, &schema)));
    // Tables of named tables have no keys of their own, and are described apart.
    sections.retain(|section: &Section| !section.entries.is_empty());
    sections
}

/// The default of the key at `path`, as TOML.
pub(super) fn default_of(path: &[String]) -> Option<String> {
    let (key, section) = path.split_last()?;
    let section = section.join(".");
    let section = sections().into_iter().find(|candidate| candidate.name == section)?;
    section.entries.into_iter().find(|entry| entry.key == *key)?.default
}

/// Adds the keys that have no default.
fn with_optional_entries(mut section: Section, schema: &Value) -> Section {
    let properties = property(schema, &section.name).and_then(|node| node.get("properties")).and_then(Value::as_object);
    for (key, node) in properties.into_iter().flatten() {
        let is_table = node.get("properties").is_some();
        if is_table || section.entries.iter().any(|entry| entry.key == *key) {
            continue;
        }
        let example = node.get("examples").and_then(|examples| examples.get(0)).map(example_as_toml);
        section.entries.push(Entry { key: key.clone(), description: description(Some(node)), default: None, example });
    }
    section
}

fn example_as_toml(value: &Value) -> String {
    toml::Value::try_from(value).map(|value| value.to_string()).unwrap_or_default()
}

/// The schema of the value at a dotted path.
fn property<'a>(schema: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(schema, |node, key| node.get("properties")?.get(key))
}

fn description(node: Option<&Value>) -> String {
    node.and_then(|node| node.get("description")).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// One line, without the code marks that read badly in a comment.
fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Writes `text` as TOML comments of at most 100 columns.
fn comment(into: &mut String, text: &str) {
    let mut line = String::from("#");
    for word in text.split_whitespace() {
        if line.len() + 1 + word.len() > 100 {
            into.push_str(&line);
            into.push('\n');
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    into.push_str(&line);
    into.push('\n');
}
