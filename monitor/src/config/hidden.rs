//! Values that may be secrets are in no message: a token that was written into the configuration by mistake must not go on into
//! a terminal, a journal or an output. The place and the key are enough to find it.

use toml::de::{DeTable, DeValue};

/// Tables whose values may be secrets: tokens, passwords, headers, and addresses with a key in them.
const TABLES: [&str; 3] = ["data", "lists", "outputs"];
/// What stands in messages for a value.
const HIDDEN: &str = "…";
/// A shorter value is only looked for in quotes: elsewhere it would be a part of words.
const BARE_MIN_BYTES: usize = 4;

/// Whether the value at `path` may be a secret. Where nobody knows where it is, it may.
pub(super) fn may_be_secret(path: Option<&[String]>) -> bool {
    path.and_then(<[String]>::first).is_none_or(|table| TABLES.contains(&table.as_str()))
}

/// `message` about the entry at `path`, without what is written there.
pub(super) fn without_values(message: &str, document: &DeTable<'_>, path: Option<&[String]>) -> String {
    let mut values = Vec::new();
    match path {
        Some(path) => texts_at(document, path, &mut values),
        None => TABLES.iter().for_each(|table| texts_at(document, &[(*table).to_owned()], &mut values)),
    }
    // The longest first, so that no part of one is left over.
    values.sort_unstable_by_key(|value| std::cmp::Reverse(value.len()));
    values.dedup();
    let mut message = without_serde_value(message);
    for value in values.iter().filter(|value| !value.is_empty()) {
        for form in [value.clone(), value.escape_debug().to_string()] {
            if form.len() >= BARE_MIN_BYTES {
                message = message.replace(&form, HIDDEN);
            } else {
                for quote in ['"', '`', '\''] {
                    message = message.replace(&format!("{quote}{form}{quote}"), &format!("{quote}{HIDDEN}{quote}"));
                }
            }
        }
    }
    message
}

/// `invalid type: string "token", expected …` without the token. Numbers are told in another form than they are written.
fn without_serde_value(message: &str) -> String {
    let is_serdes = message.starts_with("invalid type: ") || message.starts_with("invalid value: ");
    let Some((what, expected)) = message.rsplit_once(", expected ").filter(|_| is_serdes) else {
        return message.to_owned();
    };
    let kind = what.split(['"', '`']).next().unwrap_or_default().trim_end();
    format!("{kind}, expected {expected}")
}

/// Everything that is written at `path`; of the table before it, where there is no such entry.
fn texts_at(table: &DeTable<'_>, path: &[String], texts: &mut Vec<String>) {
    let Some((first, rest)) = path.split_first() else { return texts_of_table(table, texts) };
    match table.get(first.as_str()).map(toml::Spanned::get_ref) {
        Some(DeValue::Table(inner)) => texts_at(inner, rest, texts),
        Some(DeValue::Array(items)) => items.iter().for_each(|item| match item.get_ref() {
            DeValue::Table(inner) => texts_at(inner, rest, texts),
            value => texts_of(value, texts),
        }),
        Some(value) => texts_of(value, texts),
        None => texts_of_table(table, texts),
    }
}

fn texts_of_table(table: &DeTable<'_>, texts: &mut Vec<String>) {
    for (key, value) in table {
        let key = key.get_ref();
        // A key that is no word may be a header that was written in one piece.
        if !key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-') {
            texts.push(key.to_string());
        }
        texts_of(value.get_ref(), texts);
    }
}

fn texts_of(value: &DeValue<'_>, texts: &mut Vec<String>) {
    match value {
        DeValue::String(text) => texts.push(text.to_string()),
        DeValue::Integer(number) => texts.push(number.to_string()),
        DeValue::Float(number) => texts.push(number.to_string()),
        DeValue::Datetime(moment) => texts.push(moment.to_string()),
        DeValue::Boolean(_) => {}
        DeValue::Array(items) => items.iter().for_each(|item| texts_of(item.get_ref(), texts)),
        DeValue::Table(table) => texts_of_table(table, texts),
    }
}
