//! `egresswatch alerts`: the last alerts of a running daemon, and each further one.

use serde_json::Value;

use super::{Error, Output, Status, args::AlertsArguments};
use crate::{
    alert::text::printable,
    control::{self, Request},
    units::Duration,
};

/// Prints the alerts that meet every condition.
pub(super) fn execute(arguments: &AlertsArguments, output: &mut Output<'_>) -> Result<Status, Error> {
    let request = if arguments.follow { Request::FollowAlerts } else { Request::Alerts };
    let earliest = arguments.since.map(|span| earliest(jiff::Timestamp::now(), span));
    for line in control::ask(&arguments.socket, request)? {
        let line = line?;
        let Ok(record) = serde_json::from_str::<Value>(&line) else { continue };
        if let Some(note) = record.get("note").and_then(Value::as_str) {
            output.line(output.fair(printable(note)))?;
            continue;
        }
        let time =
            record.get("@timestamp").and_then(Value::as_str).and_then(|text| text.parse::<jiff::Timestamp>().ok());
        let is_recent = earliest.is_none_or(|earliest| time.is_some_and(|time| time >= earliest));
        if !is_recent || !arguments.filter.iter().all(|filter| filter.accepts(&record)) {
            continue;
        }
        if arguments.json {
            output.line(line)?;
        } else {
            print(&record, time, output)?;
        }
        if arguments.follow {
            output.flush()?;
        }
    }
    Ok(Status::Success)
}

/// The moment `span` before `now`. Longer ago than can be told is the beginning of time.
fn earliest(now: jiff::Timestamp, span: Duration) -> jiff::Timestamp {
    now.checked_sub(span.get()).unwrap_or(jiff::Timestamp::MIN)
}

/// When, how grave, and the sentence that the record holds.
fn print(record: &Value, time: Option<jiff::Timestamp>, output: &mut Output<'_>) -> std::io::Result<()> {
    let zone = jiff::tz::TimeZone::system();
    let time = time
        .map_or_else(|| "?".to_owned(), |time| time.to_zoned_datetime(zone).strftime("%Y-%m-%d %H:%M:%S").to_string());
    let severity = record.pointer("/egresswatch/severity").and_then(Value::as_str).unwrap_or("?");
    let message = printable(record.get("message").and_then(Value::as_str).unwrap_or_default());
    let severity = match severity {
        "high" => output.bad(format!("{severity:<6}")),
        "medium" => output.fair(format!("{severity:<6}")),
        _ => output.faint(format!("{:<6}", printable(severity))),
    };
    output.line(format_args!("{}  {severity}  {message}", output.faint(time)))
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead as _, BufReader, Write as _},
        os::unix::net::UnixListener,
    };

    use clap::Parser as _;
    use serde_json::json;

    use super::{earliest, execute};
    use crate::cli::{
        Output,
        args::{AlertsArguments, Arguments, Command},
    };

    fn arguments(words: &[&str]) -> AlertsArguments {
        let all = ["egresswatch", "alerts"].iter().chain(words);
        match Arguments::try_parse_from(all).expect("good arguments").command {
            Command::Alerts(arguments) => arguments,
            other => panic!("not alerts: {other:?}"),
        }
    }

    #[test]
    fn a_span_is_taken_off_and_one_beyond_the_calendar_is_everything() {
        let now: jiff::Timestamp = "2026-01-02T00:00:00Z".parse().expect("a time");
        let day = arguments(&["--since", "1d"]).since.expect("a span");
        assert_eq!(earliest(now, day).to_string(), "2026-01-01T00:00:00Z");
        let long = arguments(&["--since", "99999999d"]).since.expect("a span");
        assert_eq!(earliest(now, long), jiff::Timestamp::MIN);
    }

    /// A daemon that knows three alerts, and one whose time nobody can read.
    #[test]
    fn alerts_before_the_span_are_left_out() {
        let directory = tempfile::tempdir().expect("a directory");
        let socket = directory.path().join("control.sock");
        let ask = |words: &[&str]| {
            let _ = std::fs::remove_file(&socket);
            let listener = UnixListener::bind(&socket).expect("a socket");
            let daemon = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().expect("a client");
                let mut question = String::new();
                BufReader::new(&stream).read_line(&mut question).expect("a question");
                let now = jiff::Timestamp::now();
                for (hours, message) in [(30, "old"), (2, "recent"), (0, "fresh")] {
                    let time = now - jiff::SignedDuration::from_hours(hours);
                    let line = json!({ "@timestamp": time.to_string(), "message": message });
                    writeln!(stream, "{line}").expect("the client reads");
                }
                writeln!(stream, "{}", json!({ "@timestamp": "?", "message": "timeless" })).expect("the client reads");
            });
            let socket = socket.to_str().expect("text");
            let all: Vec<_> = words.iter().copied().chain(["--json", "--socket", socket]).collect();
            let mut bytes = Vec::new();
            execute(&arguments(&all), &mut Output::new(&mut bytes, false)).expect("answered");
            daemon.join().expect("no panic");
            let text = String::from_utf8(bytes).expect("text");
            ["old", "recent", "fresh", "timeless"].into_iter().filter(|word| text.contains(word)).collect::<Vec<_>>()
        };
        assert_eq!(ask(&[]), ["old", "recent", "fresh", "timeless"]);
        assert_eq!(ask(&["--since", "1d"]), ["recent", "fresh"]);
        assert_eq!(ask(&["--since", "1h"]), ["fresh"]);
        assert_eq!(ask(&["--since", "99999999d"]), ["old", "recent", "fresh"]);
    }
}
