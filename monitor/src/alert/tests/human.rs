//! Lines for people.

use super::{alert, all_records, example};
use crate::{
    alert::human::HumanFormat,
    names::HostName,
    policy::{Cause, Level},
};

fn lines(format: &HumanFormat, record: &super::Record) -> String {
    let mut buffer = Vec::new();
    format.write(record, &mut buffer);
    String::from_utf8(buffer).expect("lines are UTF-8")
}

#[test]
fn every_record_as_plain_lines() {
    let text: String = all_records().iter().map(|record| lines(&HumanFormat::plain(), record)).collect();
    assert!(!text.contains('\u{1b}'));
    insta::assert_snapshot!(text);
}

#[test]
fn what_is_kept_has_dates() {
    let zone = jiff::tz::TimeZone::fixed(jiff::tz::offset(1));
    for record in all_records() {
        let text = lines(&HumanFormat::kept(zone.clone()), &record);
        let time = text.get(..25).unwrap_or_default();
        let time: jiff::Timestamp = time.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        let difference = time.as_nanosecond() - record.timestamp.unix_ns();
        assert!((-999_999_999..=0).contains(&difference) && text.contains("+01:00  "), "{text}");
    }
    let rollup = alert(&example::chromium(), Cause::Rollup, Level::Sent);
    let text = lines(&HumanFormat::kept(zone), &rollup);
    assert_eq!(text.matches("+01:00").count(), 2, "{text}");
}

#[test]
fn the_alert_in_colours() {
    let format = HumanFormat { colors: true, ..HumanFormat::plain() };
    let text = lines(&format, &alert(&example::chromium(), Cause::FirstContact, Level::Sent));
    insta::assert_snapshot!(text.replace('\u{1b}', "ESC"));
}

#[test]
fn quiet_lines_fit_the_terminal_and_claims_are_never_cut() {
    let format = HumanFormat { columns: Some(60), ..HumanFormat::plain() };
    let text = lines(&format, &alert(&example::chromium(), Cause::FirstContact, Level::Sent));
    let mut all = text.lines();
    assert!(all.next().is_some_and(|claim| claim.contains("us-fcc-covered, app-deepseek")));
    assert!(all.all(|line| line.chars().count() <= 60), "{text}");
}

#[test]
fn names_cannot_write_to_the_terminal() {
    let mut scene = example::chromium();
    if let Some(actor) = &mut scene.actor {
        actor.name = "\u{1b}]0;owned\u{7}\n12:00:00  ALERT none".to_owned();
        actor.user.name = Some("ada\u{9b}31m\r".to_owned());
    }
    if let Some(named) = scene.names.names.first_mut() {
        named.name = HostName::new("a\u{202e}moc.elpmaxe".as_bytes()).expect("a name");
    }
    scene.owner.organisation = Some("Org\u{8}\u{8}\u{8}Other".into());
    let text = lines(&HumanFormat::plain(), &alert(&scene, Cause::FirstContact, Level::Sent));
    assert!(!text.chars().any(|character| character != '\n' && character.is_control()), "{text:?}");
    insta::assert_snapshot!(text.lines().next().unwrap_or_default());
}
