//! From TOML text to settings, or to everything that is wrong with the text.

use std::{borrow::Cow, ops::Range};

use serde::Deserialize;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{Config, invalid::Problem};
use crate::mistakes::line_and_column;

/// A file with more mistakes than this is another file.
const PROBLEMS_MAX: usize = 20;

/// One step to a value: the key in its table.
type KeyPath = Vec<String>;

/// What was made of a text.
pub(super) struct Reading {
    /// The settings without those that were refused; `None` where the text is no table of settings at all.
    pub(super) config: Option<Config>,
    /// Everything that is wrong, in the order of the lines.
    pub(super) problems: Vec<Problem>,
}

/// Reads the settings.
///
/// A value that is refused is noted, taken out of the document and the rest is read again, so that one run tells about
/// every mistake.
pub(super) fn read(text: &str) -> Reading {
    let (mut document, syntax_errors) = DeTable::parse_recoverable(text);
    if !syntax_errors.is_empty() {
        let problem = |error: &toml::de::Error| Problem::syntax(text, error.span(), error.message());
        return Reading { config: None, problems: syntax_errors.iter().take(PROBLEMS_MAX).map(problem).collect() };
    }
    let written = document.get_ref().clone();
    let mut problems: Vec<Problem> = Vec::new();
    let mut reported: Vec<KeyPath> = Vec::new();
    let mut accepted = None;
    loop {
        let error = match Config::deserialize(toml::de::Deserializer::from(document.clone())) {
            Ok(config) => {
                accepted = Some(config);
                break;
            }
            Err(error) => error,
        };
        let span = error.span();
        let place = span.as_ref().and_then(|span| locate(document.get_ref(), span));
        let (place, span, message) = match place {
            Some(place) => within(document.get_ref(), place, span, error.message()),
            None => (None, span, error.message()),
        };
        // What is missing because it was taken out is no mistake of its own.
        let is_echo = |place: &KeyPath| reported.iter().any(|other: &KeyPath| other.starts_with(place));
        if !place.as_ref().is_some_and(is_echo) {
            problems.push(Problem::value(text, &written, place.as_deref(), span, message));
        }
        let Some(place) = place else { break };
        if problems.len() == PROBLEMS_MAX || !remove(document.get_mut(), &place) {
            break;
        }
        reported.push(place);
    }
    for (key, message) in accepted.iter().flat_map(between_settings) {
        let path: KeyPath = key.split('.').map(str::to_owned).collect();
        // With a part of them refused, nobody knows what was meant.
        if reported.iter().any(|other| other.first() == path.first()) {
            continue;
        }
        let span = entry(&written, &path).map(|(_, value)| value.span());
        problems.push(Problem::value(text, &written, Some(&path), span, &message));
    }
    problems.sort_by_key(|problem| (problem.line, problem.column));
    Reading { config: accepted, problems }
}

/// What is wrong with settings that are right one by one: the key, and the message.
fn between_settings(config: &Config) -> impl Iterator<Item = (&'static str, String)> + use<> {
    config.metrics.mistake().map(|message| ("metrics.listen", message)).into_iter()
}

/// Line and column of the entry `key`, such as `outputs.siem.address`, in `text`; of what holds it, where it is not written.
pub(super) fn place_of(text: &str, key: &str) -> Option<(usize, usize)> {
    let (document, _) = DeTable::parse_recoverable(text);
    let path: KeyPath = key.split('.').map(str::to_owned).collect();
    let (written, _) = (1..=path.len()).rev().find_map(|length| entry(document.get_ref(), path.get(..length)?))?;
    Some(line_and_column(text, written.span().start))
}

/// The key and the value at `path`.
fn entry<'document, 'text>(
    table: &'document DeTable<'text>,
    path: &[String],
) -> Option<(&'document Spanned<Cow<'text, str>>, &'document Spanned<DeValue<'text>>)> {
    let (first, rest) = path.split_first()?;
    let (key, value) = table.get_key_value(first.as_str())?;
    if rest.is_empty() {
        return Some((key, value));
    }
    entry(value.get_ref().as_table()?, rest)
}

/// The innermost entry whose key or value holds `span`.
///
/// A table's own span is only its header, so every table is searched, whatever its span.
fn locate(table: &DeTable<'_>, span: &Range<usize>) -> Option<KeyPath> {
    table.iter().find_map(|(key, value)| {
        let deeper = match value.get_ref() {
            DeValue::Table(inner) => locate(inner, span),
            DeValue::Array(items) => items.iter().find_map(|item| match item.get_ref() {
                DeValue::Table(inner) => locate(inner, span),
                _ => None,
            }),
            _ => None,
        };
        let here = || {
            (holds(&key.span(), span) || holds(&value.span(), span) || holds_an_item(value, span)).then(KeyPath::new)
        };
        let mut path = deeper.or_else(here)?;
        path.insert(0, key.get_ref().to_string());
        Some(path)
    })
}

/// Goes on to the key that a message names in front ("in `key`: …"), where a stage reads a whole table by itself.
fn within<'message>(
    document: &DeTable<'_>,
    mut place: KeyPath,
    mut span: Option<Range<usize>>,
    message: &'message str,
) -> (Option<KeyPath>, Option<Range<usize>>, &'message str) {
    let Some((keys, message)) = message.strip_prefix("in `").and_then(|rest| rest.split_once("`: ")) else {
        return (Some(place), span, message);
    };
    for key in keys.split('.') {
        let table = place.iter().try_fold(document, |table, step| match table.get(step.as_str())?.get_ref() {
            DeValue::Table(inner) => Some(inner),
            _ => None,
        });
        let Some((written, _)) = table.and_then(|table| table.get_key_value(key)) else { break };
        span = Some(written.span());
        place.push(key.to_owned());
    }
    (Some(place), span, message)
}

fn holds(outer: &Range<usize>, inner: &Range<usize>) -> bool {
    outer.start <= inner.start && inner.end <= outer.end
}

/// Arrays of tables have no span of their own.
fn holds_an_item(value: &Spanned<DeValue<'_>>, span: &Range<usize>) -> bool {
    value.get_ref().as_array().is_some_and(|items| items.iter().any(|item| holds(&item.span(), span)))
}

/// Takes the entry at `path` out; of an array of tables, out of every table. `false` if there was none.
fn remove(table: &mut DeTable<'_>, path: &[String]) -> bool {
    let Some((first, rest)) = path.split_first() else { return false };
    if rest.is_empty() {
        return table.remove(first.as_str()).is_some();
    }
    match table.get_mut(first.as_str()).map(Spanned::get_mut) {
        Some(DeValue::Table(inner)) => remove(inner, rest),
        Some(DeValue::Array(items)) => {
            let mut removed = false;
            for item in items.iter_mut() {
                if let DeValue::Table(inner) = item.get_mut() {
                    removed |= remove(inner, rest);
                }
            }
            removed
        }
        _ => false,
    }
}
