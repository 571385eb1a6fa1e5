//! `egresswatch flows`: what a running daemon sees right now.

use serde_json::Value;

use super::{Error, Output, Status, args::FlowsArguments};
use crate::{
    alert::text::{humane_bytes, printable},
    control::{self, Request},
};

/// Prints the daemon's live flows.
pub(super) fn execute(arguments: &FlowsArguments, output: &mut Output<'_>) -> Result<Status, Error> {
    let mut flows = Vec::new();
    for line in control::ask(&arguments.socket, Request::Flows)? {
        let line = line?;
        let record = serde_json::from_str::<Value>(&line).unwrap_or(Value::Null);
        if arguments.filter.iter().all(|filter| filter.accepts(&record)) {
            let bytes = |pointer| record.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
            flows.push((bytes("/source/bytes").saturating_add(bytes("/destination/bytes")), line, record));
        }
    }
    flows.sort_by_key(|(bytes, ..)| std::cmp::Reverse(*bytes));
    let count = flows.len();
    for (_, line, record) in flows {
        output.line(if arguments.json || record.is_null() { line } else { describe(&record) })?;
    }
    if !arguments.json {
        let noun = if count == 1 { "flow" } else { "flows" };
        output.line(output.faint(format_args!("{count} live {noun}")))?;
    }
    output.flush()?;
    Ok(Status::Success)
}

/// One flow on one line: who, to whom, whose network, how much.
fn describe(record: &Value) -> String {
    let text = |pointer: &str| record.pointer(pointer).and_then(Value::as_str);
    let number = |pointer: &str| record.pointer(pointer).and_then(Value::as_u64);
    let name = text("/process/name").map_or_else(|| "unknown process".to_owned(), printable);
    let process = number("/process/pid").map_or(name.clone(), |pid| format!("{name}[{pid}]"));
    let address = printable(text("/destination/ip").unwrap_or("?"));
    let remote = match number("/destination/port") {
        Some(port) if address.contains(':') => format!("[{address}]:{port}"),
        Some(port) => format!("{address}:{port}"),
        None => address,
    };
    let bytes = |pointer| number(pointer).map_or("?".to_owned(), humane_bytes);
    let (sent, received) = (bytes("/source/bytes"), bytes("/destination/bytes"));
    let transport = text("/network/transport").unwrap_or("?");
    let lists = record.pointer("/egresswatch/lists").and_then(Value::as_array);
    let whose = [text("/destination/as/organization/name"), text("/destination/geo/country_iso_code")];
    let lists = lists.into_iter().flatten().map(Value::as_str);
    let notes: Vec<_> = whose.into_iter().chain(lists).flatten().map(printable).collect();
    let line =
        format!("{process:<28} {transport:<5} {remote:<46} {sent:>8} out {received:>8} in  {}", notes.join("  "));
    line.trim_end().to_owned()
}
