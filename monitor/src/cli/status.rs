//! `egresswatch status`: how a running daemon is.

use std::io;

use serde_json::Value;

use super::{Error, Output, Status, args::StatusArguments};
use crate::{
    alert::text::{humane_bytes, humane_duration, printable},
    control::{self, ClientError, Request},
};

/// Prints the daemon's state.
pub(super) fn execute(arguments: &StatusArguments, output: &mut Output<'_>) -> Result<Status, Error> {
    let mut lines = control::ask(&arguments.socket, Request::Status)?;
    let broken = |source| ClientError::Broken { socket: arguments.socket.clone(), source };
    let line = lines.next().ok_or_else(|| broken(io::ErrorKind::UnexpectedEof.into()))??;
    if arguments.json {
        output.line(line)?;
    } else {
        let state = serde_json::from_str(&line).map_err(|error| broken(error.into()))?;
        print(&state, output)?;
    }
    Ok(Status::Success)
}

/// For people: what to look at first comes first.
pub(super) fn print(state: &Value, output: &mut Output<'_>) -> io::Result<()> {
    let text = |pointer: &str| state.pointer(pointer).and_then(Value::as_str).map(printable);
    let number = |pointer: &str| state.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
    let list = |pointer: &str| state.pointer(pointer).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let degradations = list("/degradations");
    let health = if degradations.is_empty() {
        output.good("watches".to_owned())
    } else {
        output.fair("watches, degraded".to_owned())
    };
    output.line(format_args!(
        "{health}: EgressWatch {}, for {}, rung {}, {} probes attached",
        text("/version").unwrap_or_default(),
        humane_duration(number("/uptime_ns")),
        text("/rung").unwrap_or_default(),
        list("/probes").len()
    ))?;
    for one in degradations {
        let part = |key: &str| one.get(key).and_then(Value::as_str).map(printable);
        let label = output.fair(format!("  {}:", part("token").unwrap_or_default()));
        output.line(format_args!("{label} {}", part("missing").unwrap_or_default()))?;
        if let Some(remedy) = part("remedy") {
            output.line(format_args!("    {} {remedy}", output.faint("to mend it:")))?;
        }
    }
    row(
        output,
        "flows",
        format_args!(
            "{} seen, {} open, {} without a process",
            number("/flows/seen"),
            number("/flows/open"),
            number("/flows/unattributed")
        ),
    )?;
    row(output, "alerts", number("/alerts"))?;
    for one in list("/alerts_by_list") {
        let part = |key: &str| one.get(key).and_then(Value::as_str).map(printable).unwrap_or_default();
        let count = one.get("count").and_then(Value::as_u64).unwrap_or(0);
        output.line(format_args!("    {:<24} {:<6} {count}", part("list"), part("severity")))?;
    }
    let untold: Vec<_> = list("/untold")
        .iter()
        .filter_map(|one| {
            let count = one.get("count")?.as_u64().filter(|count| *count > 0)?;
            Some(format!("{count} {}", printable(one.get("reason")?.as_str()?).replace('_', " ")))
        })
        .collect();
    if !untold.is_empty() {
        row(output, "not told", untold.join(", "))?;
    }
    let losses: Vec<_> = list("/losses")
        .iter()
        .filter_map(|loss| {
            let count = loss.get("count")?.as_u64().filter(|count| *count > 0)?;
            let of = loss.get("output").and_then(Value::as_str).map(|output| format!(" ({})", printable(output)));
            Some(format!("{count} {}{}", printable(loss.get("reason")?.as_str()?), of.unwrap_or_default()))
        })
        .collect();
    let losses = if losses.is_empty() { output.good("none".to_owned()) } else { output.fair(losses.join(", ")) };
    row(output, "losses", losses)?;
    print_policy(state, output)?;
    for ring in list("/rings") {
        let name = ring.get("ring").and_then(Value::as_str).map(printable).unwrap_or_default();
        let bytes = |key: &str| humane_bytes(ring.get(key).and_then(Value::as_u64).unwrap_or(0));
        let value = format_args!("{} unread of {}", bytes("unread_bytes"), bytes("size_bytes"));
        row(output, &format!("{name} ring"), value)?;
    }
    for table in list("/tables") {
        let name = table.get("table").and_then(Value::as_str).map(printable).unwrap_or_default().replace('_', " ");
        let count = |key: &str| table.get(key).and_then(Value::as_u64).unwrap_or(0);
        row(output, &name, format_args!("{} of {}", count("entries"), count("capacity")))?;
    }
    print_outputs(list("/outputs"), output)
}

fn print_outputs(outputs: &[Value], output: &mut Output<'_>) -> io::Result<()> {
    for one in outputs {
        let count = |key: &str| one.get(key).and_then(Value::as_u64).unwrap_or(0);
        let name = one.get("output").and_then(Value::as_str).map(printable).unwrap_or_default();
        let is_failing = one.get("failing").and_then(Value::as_bool).unwrap_or(false);
        let refused_in_a_row = one.pointer("/queue/refused_in_a_row").and_then(Value::as_u64).unwrap_or(0);
        let is_dropping = one.pointer("/queue/is_dropping").and_then(Value::as_bool).unwrap_or(false);
        let state = match (refused_in_a_row, is_failing, is_dropping) {
            (1, ..) => output.bad("refused the last record".to_owned()),
            (2.., ..) => output.bad(format!("refuses everything, {refused_in_a_row} records in a row")),
            (0, _, true) => output.bad("its spool is full, records are dropped".to_owned()),
            (0, true, false) => output.bad("failing".to_owned()),
            (0, false, false) => output.good("good".to_owned()),
        };
        let dropped_alerts = match count("dropped_alerts") {
            0 => String::new(),
            dropped => format!(", {dropped} others dropped"),
        };
        row(
            output,
            "output",
            format_args!(
                "{name}: {state}, {} records ({}), {} flow records dropped{}, {} errors",
                count("written_records"),
                humane_bytes(count("written_bytes")),
                count("dropped_flows"),
                dropped_alerts,
                count("errors")
            ),
        )?;
        if let Some(queue) = one.get("queue") {
            let count = |key: &str| queue.get(key).and_then(Value::as_u64).unwrap_or(0);
            let oldest = queue.get("oldest").and_then(Value::as_str).map(printable);
            output.line(format_args!(
                "    {} waiting ({} of {}){}, {} refused, {} dropped",
                count("depth_records"),
                humane_bytes(count("depth_bytes")),
                humane_bytes(count("max_bytes")),
                oldest.map_or_else(String::new, |oldest| format!(", the oldest of {oldest}")),
                count("refused_records"),
                count("dropped_records")
            ))?;
            let error = queue.get("last_error").and_then(Value::as_str).filter(|_| is_failing);
            if let Some(error) = error {
                output.line(format_args!("    {}", output.faint(printable(error))))?;
            }
        }
    }
    Ok(())
}

fn print_policy(state: &Value, output: &mut Output<'_>) -> io::Result<()> {
    let text = |pointer: &str| state.pointer(pointer).and_then(Value::as_str).map(printable);
    let number = |pointer: &str| state.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
    let lists = state.get("lists").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    row(output, "policy", format_args!("number {}, {} lists alert", number("/generation"), lists.len()))?;
    for list in lists {
        let part = |key: &str| list.get(key).and_then(Value::as_str).map(printable).unwrap_or_default();
        let entities = list.get("entities").and_then(Value::as_u64).unwrap_or(0);
        let as_of =
            if list.get("as_of").is_some_and(Value::is_string) { part("as_of") } else { "an unknown date".into() };
        output.line(format_args!("    {:<24} as of {as_of}, {entities} entities", part("id")))?;
    }
    let rules = state.get("rules").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    row(output, "rules", format_args!("{} in force", rules.len()))?;
    for rule in rules {
        let part = |key: &str| rule.get(key).and_then(Value::as_str).map(printable).unwrap_or_default();
        if part("action") == "ignore" {
            output.line(format_args!("    {:<24} says what to ignore", part("id")))?;
            continue;
        }
        let alerts = rule.get("alerts").and_then(Value::as_u64).unwrap_or(0);
        output.line(format_args!("    {:<24} {:<6} {alerts} alerts", part("id"), part("severity")))?;
    }
    row(output, "ownership data", text("/ownership_date").unwrap_or_default())?;
    if let Some(at) = text("/reloads/last_at") {
        let trigger = text("/reloads/last_trigger").unwrap_or_default();
        match text("/reloads/last_error") {
            None => {
                let good = output.good("good");
                row(output, "last reload", format_args!("{at} by {trigger}: {good}"))?;
            }
            Some(error) => {
                let refused = output.bad("refused:");
                row(output, "last reload", format_args!("{at} by {trigger}: {refused} {error}"))?;
            }
        }
    }
    let waiting = state.get("needs_restart").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    if !waiting.is_empty() {
        let keys: Vec<_> = waiting.iter().filter_map(Value::as_str).map(printable).collect();
        row(output, "needs a restart", output.fair(keys.join(", ")))?;
    }
    Ok(())
}

fn row(output: &mut Output<'_>, label: &str, value: impl std::fmt::Display) -> io::Result<()> {
    let label = format!("{label}:");
    output.line(format_args!("  {label:<24} {value}"))
}

#[cfg(test)]
mod tests {
    use super::{Output, print};
    use crate::{
        alert::input::LossStage,
        metrics::{LossFigure, OutputState, Snapshot},
        sink::spool::QueueFigures,
    };

    #[test]
    fn the_status_for_people() {
        let mut state = Snapshot::example();
        let refused = QueueFigures {
            refused_records: 47,
            refused_in_a_row: 47,
            last_error: Some("the receiver refuses records for good: 400 Bad Request".to_owned()),
            ..QueueFigures::default()
        };
        let full = QueueFigures { dropped_records: 9, is_dropping: true, ..refused.clone() };
        let spooled = state.outputs.last().expect("an output").clone();
        let output = |name: &str, failing, queue| OutputState {
            output: name.to_owned(),
            failing,
            queue: Some(queue),
            written_records: 0,
            written_bytes: 0,
            ..spooled.clone()
        };
        state.outputs.push(output("hook", true, refused));
        state.outputs.push(output("full", true, QueueFigures { refused_in_a_row: 0, ..full }));
        let loss = LossFigure {
            stage: LossStage::Output,
            reason: "receiver_refused",
            count: 47,
            output: Some("hook".to_owned()),
        };
        state.losses.push(loss);
        let mut bytes = Vec::new();
        let state = serde_json::to_value(state).expect("JSON");
        print(&state, &mut Output::new(&mut bytes, false)).expect("written");
        let text = String::from_utf8(bytes).expect("text");
        insta::assert_snapshot!(text.replace(env!("CARGO_PKG_VERSION"), "[version]"));
    }
}
