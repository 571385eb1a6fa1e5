//! `egresswatch alerts`: the last alerts of a running daemon, and each further one.

use serde_json::Value;

use super::{Error, Output, Status, args::AlertsArguments};
use crate::{
    alert::text::printable,
    control::{self, Request},
};

/// Prints the alerts that meet every condition.
pub(super) fn execute(arguments: &AlertsArguments, output: &mut Output<'_>) -> Result<Status, Error> {
    let request = if arguments.follow { Request::FollowAlerts } else { Request::Alerts };
    let earliest = arguments.since.map(|span| jiff::Timestamp::now() - span.get());
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
