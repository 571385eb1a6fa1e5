//! Spamhaus DROP and ASN-DROP (JSON lines), STIX 2.1 bundles, MISP events and warninglists.

use std::collections::HashSet;

use jiff::{Timestamp, tz::TimeZone};
use serde_json::Value;

use super::{
    collect::{Collected, shown},
    text::indicator,
};

/// Reads a document, or lines of documents.
pub(super) fn read(file: &str, text: &str, into: &mut Collected) {
    let text = text.trim_start_matches('\u{feff}');
    match serde_json::from_str::<Value>(text) {
        Ok(document) => self::document(file, "", &document, into),
        Err(error) if text.lines().nth(1).is_none() || text.trim_start().starts_with('[') => {
            into.refuse(file, error.line(), &format!("no JSON: {error}"));
        }
        Err(_) => {
            for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
                let outcome = match serde_json::from_str::<Value>(line) {
                    Ok(value) => drop_line(&value, into),
                    Err(error) => Err(format!("no JSON: {error}")),
                };
                if let Err(problem) = outcome {
                    into.refuse(file, index + 1, &problem);
                }
            }
        }
    }
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn items<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A line of Spamhaus DROP or ASN-DROP.
fn drop_line(value: &Value, into: &mut Collected) -> Result<(), String> {
    if text(value, "type") == "metadata" {
        let seconds = value.get("timestamp").and_then(Value::as_i64);
        let at = seconds.and_then(|seconds| Timestamp::from_second(seconds).ok());
        into.as_of = into.as_of.max(at.map(|at| at.to_zoned_datetime(TimeZone::UTC).date()));
        return Ok(());
    }
    if let Some(cidr) = value.get("cidr").and_then(Value::as_str) {
        return into.cidr(text(value, "sblid"), cidr);
    }
    if let Some(asn) = value.get("asn").and_then(Value::as_u64) {
        let name = text(value, "asname");
        return into.asn(name, &asn.to_string());
    }
    Err(format!("{} has neither cidr nor asn", shown(&value.to_string())))
}

/// Reads a document, or a part of one that stands below `before`.
fn document(file: &str, before: &str, value: &Value, into: &mut Collected) {
    if let Some(list) = value.as_array() {
        for (index, item) in list.iter().enumerate() {
            match item.as_str() {
                Some(entry) => {
                    let outcome = into.any("", entry);
                    refuse(file, &placed(before, index, ""), outcome, into);
                }
                None => document(file, &format!("{before}[{index}]."), item, into),
            }
        }
    } else if text(value, "type") == "bundle" {
        let objects = items(value, "objects");
        let withdrawn = Withdrawn::of(objects, into.now);
        for (index, object) in objects.iter().enumerate() {
            let outcome = stix(object, &withdrawn, into);
            refuse(file, &placed("objects", index, text(object, "id")), outcome, into);
        }
    } else if let Some(answer) = value.get("response") {
        // What `restSearch` of MISP answers: events, or attributes alone.
        document(file, "response", answer, into);
    } else if let Some(event) = value.get("Event") {
        let label = text(event, "info");
        into.as_of = into.as_of.max(text(event, "date").parse().ok());
        attributes(file, before, label, event, into);
        for (index, object) in items(event, "Object").iter().enumerate() {
            attributes(file, &format!("{before}Object[{index}]."), label, object, into);
        }
    } else if value.get("Attribute").is_some() {
        attributes(file, before, "", value, into);
    } else if value.get("list").is_some() {
        warninglist(file, value, into);
    } else if value.get("cidr").is_some() || value.get("asn").is_some() {
        if let Err(problem) = drop_line(value, into) {
            into.refuse(file, 1, &problem);
        }
    } else if is_manifest(value) {
        into.refuse(file, 1, "this is the manifest of a MISP feed: name a directory that holds it and its events, or an address that ends with /manifest.json");
    } else {
        into.refuse(file, 1, "this JSON is none of the forms that are read: Spamhaus DROP, STIX 2.1, MISP");
    }
}

/// The attributes of an event or of an object in it. One that comes alone says itself of which event it is.
fn attributes(file: &str, before: &str, label: &str, list: &Value, into: &mut Collected) {
    for (index, attribute) in items(list, "Attribute").iter().enumerate() {
        let label = attribute.get("Event").map_or(label, |event| text(event, "info"));
        let outcome = misp(label, attribute, into);
        refuse(file, &placed(&format!("{before}Attribute"), index, text(attribute, "uuid")), outcome, into);
    }
}

/// Where an entry stands: documents often are one line, so that a line would say nothing. `id` may be empty.
fn placed(list: &str, index: usize, id: &str) -> String {
    if id.is_empty() { format!("{list}[{index}]") } else { format!("{list}[{index}], {id:.60}") }
}

fn refuse(file: &str, place: &str, outcome: Result<(), String>, into: &mut Collected) {
    if let Err(problem) = outcome {
        into.refuse(file, 0, &format!("{place}: {problem}"));
    }
}

/// The manifest of a MISP feed names the events that lie beside it.
fn is_manifest(value: &Value) -> bool {
    value
        .as_object()
        .is_some_and(|events| !events.is_empty() && events.values().all(|event| event.get("info").is_some()))
}

fn misp(label: &str, attribute: &Value, into: &mut Collected) -> Result<(), String> {
    let value = text(attribute, "value");
    // What is not meant for detection is there for who reads the event.
    let is = |key: &str| attribute.get(key).and_then(Value::as_bool);
    if is("deleted") == Some(true) || is("to_ids") == Some(false) {
        return Ok(());
    }
    match text(attribute, "type") {
        "ip-dst" | "ip-src" | "domain" | "hostname" | "url" => indicator(label, value, into),
        "ip-dst|port" | "ip-src|port" | "hostname|port" => {
            indicator(label, value.split('|').next().unwrap_or_default(), into)
        }
        "domain|ip" => value.split('|').try_for_each(|part| indicator(label, part, into)),
        "AS" => into.asn(label, value),
        // Hashes, file names and the rest are nothing that a flow has.
        _ => Ok(()),
    }
}

fn warninglist(file: &str, value: &Value, into: &mut Collected) {
    let own = |key: &str| Some(text(value, key).to_owned()).filter(|text| !text.is_empty());
    (into.title, into.about) = (own("name"), own("description"));
    // Versions are dates such as 20260114.
    let version = value.get("version").and_then(Value::as_i64).map(|version| version.to_string());
    into.as_of = version.and_then(|version| jiff::civil::Date::strptime("%Y%m%d", version).ok());
    for (index, item) in items(value, "list").iter().enumerate() {
        let item = item.as_str().unwrap_or_default();
        let outcome = match text(value, "type") {
            "regex" | "substring" => {
                Err(format!("{} is a pattern: only whole names, addresses and prefixes are read", shown(item)))
            }
            _ => into.any("", item),
        };
        refuse(file, &placed("list", index, ""), outcome, into);
    }
}

/// Observables of a bundle that count for nothing, because every indicator that is about them does not count.
#[derive(Debug, Default)]
struct Withdrawn<'v> {
    ids: HashSet<&'v str>,
    values: HashSet<&'v str>,
}

impl<'v> Withdrawn<'v> {
    fn of(objects: &'v [Value], now: Timestamp) -> Self {
        let (mut ended, mut counting) = (Self::default(), Self::default());
        let indicators = || objects.iter().filter(|object| text(object, "type") == "indicator");
        let ended_ids: HashSet<&str> =
            indicators().filter(|object| !counts(object, now)).map(|object| text(object, "id")).collect();
        if indicators().all(|object| counts(object, now)) {
            return ended;
        }
        for object in indicators() {
            let keys = words(text(object, "pattern")).and_then(|words| keys(&words)).unwrap_or_default();
            let of = if counts(object, now) { &mut counting } else { &mut ended };
            of.values.extend(keys.into_iter().map(|(_, literal)| literal));
        }
        let based_on = |object: &&Value| text(object, "relationship_type") == "based-on";
        for relation in objects.iter().filter(based_on) {
            let of = if ended_ids.contains(text(relation, "source_ref")) { &mut ended } else { &mut counting };
            let target = text(relation, "target_ref");
            let observed = objects.iter().find(|object| text(object, "id") == target);
            let parts = observed.map_or(&[][..], |observed| items(observed, "object_refs"));
            of.ids.extend(parts.iter().filter_map(Value::as_str).chain([target]));
        }
        ended.ids.retain(|id| !counting.ids.contains(id));
        ended.values.retain(|value| !counting.values.contains(value));
        ended
    }

    fn has(&self, object: &Value) -> bool {
        self.ids.contains(text(object, "id")) || self.values.contains(text(object, "value"))
    }
}

/// Whether an indicator counts at `now`: it is neither revoked, nor of the past, nor of the future.
fn counts(indicator: &Value, now: Timestamp) -> bool {
    let time = |key: &str| text(indicator, key).parse::<Timestamp>().ok();
    indicator.get("revoked").and_then(Value::as_bool) != Some(true)
        && time("valid_until").is_none_or(|until| until > now)
        && time("valid_from").is_none_or(|from| from <= now)
}

fn stix(object: &Value, withdrawn: &Withdrawn<'_>, into: &mut Collected) -> Result<(), String> {
    let value = text(object, "value");
    match text(object, "type") {
        "ipv4-addr" | "ipv6-addr" | "domain-name" if withdrawn.has(object) => Ok(()),
        "ipv4-addr" | "ipv6-addr" => into.cidr("", value),
        "domain-name" => into.domain("", value),
        "indicator" if counts(object, into.now) => {
            let date = text(object, "modified").get(..10).and_then(|date| date.parse().ok());
            into.as_of = into.as_of.max(date);
            match text(object, "pattern_type") {
                "stix" | "" => pattern(text(object, "name"), text(object, "pattern"), into),
                other => Err(format!("patterns of type {other:?} are not read: only those of STIX are")),
            }
        }
        _ => Ok(()),
    }
}

/// Comparisons of one address, prefix or name, alone or joined by OR: `[ipv4-addr:value = '192.0.2.1']`,
/// `[ipv4-addr:value ISSUBSET '192.0.2.0/24']` (STIX 2.1, section 9). AND and NOT narrow what a single key would not.
fn pattern(label: &str, pattern: &str, into: &mut Collected) -> Result<(), String> {
    let unreadable = || {
        format!("the pattern {} is not read: only =, ISSUBSET and OR on addresses and domain names are", shown(pattern))
    };
    let words = words(pattern).ok_or_else(unreadable)?;
    let keys = keys(&words).ok_or_else(unreadable)?;
    keys.into_iter().try_for_each(|(field, literal)| match field {
        "domain-name:value" => into.domain(label, literal),
        _ => into.cidr(label, literal),
    })
}

/// Fields and literals of a pattern; `None` for any other pattern.
fn keys<'p>(words: &[Word<'p>]) -> Option<Vec<(&'p str, &'p str)>> {
    let comparisons = words.split(|word| *word == Word::Plain("OR"));
    comparisons
        .map(|comparison| match comparison {
            [
                Word::Plain(field @ ("ipv4-addr:value" | "ipv6-addr:value" | "domain-name:value")),
                Word::Plain("=" | "ISSUBSET"),
                Word::Literal(literal),
            ] => Some((*field, *literal)),
            _ => None,
        })
        .collect()
}

/// A word of a pattern; brackets are none.
#[derive(Debug, PartialEq, Eq)]
enum Word<'p> {
    Plain(&'p str),
    Literal(&'p str),
}

/// The words of a pattern; `None` if a quote or a bracket is not closed.
fn words(pattern: &str) -> Option<Vec<Word<'_>>> {
    let (mut words, mut open) = (Vec::new(), Vec::new());
    let mut rest = pattern.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '\'' => {
                let literal = rest.strip_prefix('\'')?.split_once('\'')?.0;
                words.push(Word::Literal(literal));
                literal.len() + 2
            }
            '[' | '(' => {
                open.push(if first == '[' { ']' } else { ')' });
                1
            }
            ']' | ')' => {
                open.pop().filter(|wanted| *wanted == first)?;
                1
            }
            '=' => {
                words.push(Word::Plain("="));
                1
            }
            _ => {
                let length = rest.find(|letter: char| letter.is_whitespace() || "'[]()=".contains(letter));
                let length = length.unwrap_or(rest.len());
                words.push(Word::Plain(rest.get(..length)?));
                length
            }
        };
        rest = rest.get(length..)?.trim_start();
    }
    open.is_empty().then_some(words)
}
