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
    // Who was contacted stands behind `destination`: in a flow that the other side began that is this host.
    let is_inward = text("/network/direction") == Some("ingress");
    let (own, remote) = if is_inward { ("/destination", "/source") } else { ("/source", "/destination") };
    let remote_text = |key: &str| text(&format!("{remote}{key}"));
    let address = printable(remote_text("/ip").unwrap_or("?"));
    let peer = match number(&format!("{remote}/port")) {
        Some(port) if address.contains(':') => format!("[{address}]:{port}"),
        Some(port) => format!("{address}:{port}"),
        None => address,
    };
    let bytes = |side: &str| number(&format!("{side}/bytes")).map_or("?".to_owned(), humane_bytes);
    let (sent, received) = (bytes(own), bytes(remote));
    let transport = text("/network/transport").unwrap_or("?");
    let lists = record.pointer("/egresswatch/lists").and_then(Value::as_array);
    let whose = [remote_text("/as/organization/name"), remote_text("/geo/country_iso_code")];
    let lists = lists.into_iter().flatten().map(Value::as_str);
    let notes: Vec<_> = whose.into_iter().chain(lists).flatten().map(printable).collect();
    let line = format!("{process:<28} {transport:<5} {peer:<46} {sent:>8} out {received:>8} in  {}", notes.join("  "));
    line.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::describe;

    #[test]
    fn the_remote_side_is_named_whoever_began() {
        let here = json!({ "ip": "192.0.2.7", "port": 40_000, "bytes": 1_500 });
        let there = json!({
            "ip": "2001:db8::9", "port": 443, "bytes": 90_000,
            "as": { "organization": { "name": "Example Ltd" } }, "geo": { "country_iso_code": "NL" },
        });
        let flow = |direction: &str, source: &serde_json::Value, destination: &serde_json::Value| {
            describe(&json!({
                "process": { "name": "sshd", "pid": 7 },
                "network": { "transport": "tcp", "direction": direction },
                "source": source, "destination": destination,
                "egresswatch": { "lists": ["own"] },
            }))
        };
        let outward = flow("egress", &here, &there);
        let words: Vec<_> = outward.split_whitespace().collect();
        let expected = "sshd[7] tcp [2001:db8::9]:443 1.5 kB out 90.0 kB in Example Ltd NL own";
        assert_eq!(words.join(" "), expected);
        assert_eq!(flow("ingress", &there, &here), outward, "the same facts, whoever began");
    }
}
