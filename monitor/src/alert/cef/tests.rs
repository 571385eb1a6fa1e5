//! Lines of every kind of record, and that no text from outside gets out of its field.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::line;
use crate::alert::{
    example::{self, CLOCK, builder},
    input::FlowMoment,
    tests::all_records,
};

#[test]
fn the_lines_of_every_kind_of_record() {
    let version = format!("|{}|", env!("CARGO_PKG_VERSION"));
    let lines: String =
        all_records().iter().map(|record| line(record).replace(&version, "|[version]|") + "\n").collect();
    insta::assert_snapshot!(lines);
}

/// Reads a line as a receiver does: seven header fields, then keys and values.
fn read(line: &str) -> (Vec<String>, BTreeMap<String, String>) {
    let mut fields = Vec::new();
    let mut field = String::new();
    let mut characters = line.chars();
    while fields.len() < 7 {
        match characters.next() {
            Some('\\') => field.extend(characters.next()),
            Some('|') | None => fields.push(std::mem::take(&mut field)),
            Some(character) => field.push(character),
        }
    }
    let extension: String = characters.collect();
    let mut values = BTreeMap::new();
    let mut key = String::new();
    let mut value = String::new();
    let mut characters = extension.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some('n') => value.push('\n'),
                Some('r') => value.push('\r'),
                Some(other) => value.push(other),
                None => {}
            },
            // The word before an unescaped `=` is the next key.
            '=' => {
                let (before, next) =
                    value.rsplit_once(' ').map_or(("", value.as_str()), |(before, next)| (before, next));
                let (before, next) = (before.to_owned(), next.to_owned());
                if !key.is_empty() {
                    values.insert(std::mem::take(&mut key), before);
                }
                key = next;
                value.clear();
            }
            character => value.push(character),
        }
    }
    values.insert(key, value);
    (fields, values)
}

#[test]
fn the_facts_are_under_the_keys_of_the_dictionary() {
    let scene = example::chromium();
    let record = builder().flow(CLOCK, &scene.subject(), FlowMoment::Ended);
    let (header, values) = read(&line(&record));
    assert_eq!(header[..3], ["CEF:0", "EgressWatch", "EgressWatch"]);
    assert_eq!(header[4], "flow/flow_ended");
    let destination = record.destination.as_ref().expect("a destination");
    assert_eq!(values["dst"], destination.ip.expect("an address").to_string());
    assert_eq!(values["dpt"], destination.port.expect("a port").to_string());
    assert_eq!(values["externalId"], record.event.id);
    assert_eq!(values["sproc"], "/usr/lib/chromium/chromium");
    assert_eq!(values["deviceDirection"], "1");
}

proptest! {
    #[test]
    fn hostile_text_stays_in_its_field(text in "(?s).{0,40}", name in "[|=\\\\\n\r a-z]{0,20}") {
        let mut scene = example::chromium();
        if let Some(actor) = &mut scene.actor {
            actor.name = format!("{text}{name}");
            actor.executable = None;
        }
        let record = builder().flow(CLOCK, &scene.subject(), FlowMoment::Ended);
        let expected = record.process.as_ref().expect("a process").name.clone();
        let line = line(&record);
        prop_assert!(!line.contains(['\n', '\r']));
        let (_, values) = read(&line);
        // A receiver cannot tell spaces at the end of a value from those between two fields.
        prop_assert_eq!(values["sproc"].trim_end(), expected.trim_end());
        prop_assert_eq!(&values["dpt"], "443");
    }
}
