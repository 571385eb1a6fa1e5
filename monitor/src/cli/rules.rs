//! `egresswatch test-rules`: recorded flows through lists and rules.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufRead, BufReader},
    path::Path,
    sync::Arc,
};

use jiff::tz::TimeZone;
use serde_json::json;

use super::{Error, Output, Status, args::TestRulesArguments};
use crate::{
    alert::text::{humane_bytes, printable},
    config::{self, Config},
    policy::{
        Cause, Decision,
        rules::{Alert, Recorded, Replay, Replayed, RuleCause, RuleDecision, Rules},
    },
};

/// Runs the records of a file through the lists and the rules.
pub(super) fn test(arguments: &TestRulesArguments, output: &mut Output<'_>) -> Result<Status, Error> {
    let (config, _) = Config::load(arguments.config.as_deref())?;
    let lists = config.lists()?;
    let rules = if arguments.rules.is_empty() {
        config.rules(&lists)?
    } else {
        let files = config::rule_files(&arguments.rules)?;
        let files = files.iter().map(|(file, text)| (&**file, &**text));
        Rules::compile(files, &arguments.enable, &[], Some(&lists.ids())).map_err(config::Error::from)?
    };
    let unreadable = |source| Error::Replay { path: arguments.replay.clone(), source };
    let input: Box<dyn BufRead> = if arguments.replay == Path::new("-") {
        Box::new(BufReader::new(io::stdin()))
    } else {
        Box::new(BufReader::new(File::open(&arguments.replay).map_err(unreadable)?))
    };
    let mut replay = Replay::new(&config.policy, lists, rules, TimeZone::system());
    let mut counts = Counts::default();
    for (index, line) in input.split(b'\n').enumerate() {
        let line = line.map_err(unreadable)?;
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let Ok(record) = serde_json::from_slice(&line) else {
            counts.unreadable += 1;
            continue;
        };
        match replay.take_in(index + 1, record) {
            Replayed::Skipped => counts.others += 1,
            Replayed::Flow { is_ignored, told } => {
                counts.flows += 1;
                counts.ignored += u64::from(is_ignored);
                for alert in &told {
                    tell(alert, arguments.json, &mut counts, output)?;
                }
            }
        }
    }
    for alert in replay.finish() {
        tell(&alert, arguments.json, &mut counts, output)?;
    }
    counts.sum_up(arguments.json, output)?;
    Ok(if counts.flows == 0 || counts.unreadable > 0 { Status::Failure } else { Status::Success })
}

/// What happened.
#[derive(Default)]
struct Counts {
    flows: u64,
    ignored: u64,
    /// Records that are not of flows.
    others: u64,
    /// Lines that are no JSON.
    unreadable: u64,
    by_rule: BTreeMap<String, u64>,
    /// Alerts by each list; one of several lists counts for each.
    by_list: BTreeMap<String, u64>,
}

fn tell(alert: &Alert, json: bool, counts: &mut Counts, output: &mut Output<'_>) -> io::Result<()> {
    match alert {
        Alert::Rule(decision) => tell_rule(decision, json, counts, output),
        Alert::Lists(decision) => tell_lists(decision, json, counts, output),
    }
}

fn tell_rule(
    decision: &RuleDecision<Arc<Recorded>>,
    json: bool,
    counts: &mut Counts,
    output: &mut Output<'_>,
) -> io::Result<()> {
    let is_sum = decision.cause == RuleCause::Folded;
    if !is_sum {
        *counts.by_rule.entry(decision.rule.id.to_string()).or_default() += 1;
    }
    let found = decision.evidence.as_ref().map(|evidence| evidence.text.as_str());
    let recorded = &decision.context;
    if json {
        return output.json(&json!({
            "line": recorded.line, "record": recorded.id(), "rule": &*decision.rule.id,
            "title": &*decision.rule.title, "severity": decision.rule.severity, "sum": is_sum,
            "folded": decision.folded, "found": found, "program": recorded.program(),
            "destination": recorded.destination(),
        }));
    }
    let found = found.map_or_else(String::new, |found| format!(": {found}"));
    let folded = match (is_sum, decision.folded) {
        (true, folded) => format!(" (sum of {folded} matches that were not told)"),
        (false, 0) => String::new(),
        (false, folded) => format!(" ({folded} before it folded)"),
    };
    output.line(format_args!(
        "line {}: {}: {}: {}{found}{folded}",
        recorded.line,
        output.strong(&*decision.rule.id),
        shown(recorded),
        printable(&decision.rule.title)
    ))
}

fn tell_lists(
    decision: &Decision<Arc<Recorded>>,
    json: bool,
    counts: &mut Counts,
    output: &mut Output<'_>,
) -> io::Result<()> {
    let mut lists: Vec<&str> = decision.matches.iter().map(|hit| &*hit.list.id).collect();
    lists.sort_unstable();
    lists.dedup();
    for list in &lists {
        *counts.by_list.entry((*list).to_owned()).or_default() += 1;
    }
    let recorded = &decision.context;
    let totals = &decision.totals;
    if json {
        let mut entities: Vec<&str> = decision.matches.iter().map(|hit| &*hit.entity).collect();
        entities.dedup();
        return output.json(&json!({
            "line": recorded.line, "record": recorded.id(), "lists": lists, "entities": entities,
            "cause": decision.cause, "level": decision.level, "severity": decision.severity,
            "connections": totals.connections, "payload_out_bytes": totals.payload_out_bytes,
            "program": recorded.program(), "destination": recorded.destination(),
        }));
    }
    let cause = match decision.cause {
        Cause::FirstContact => "first contact",
        Cause::LevelRaised => "got further",
        Cause::NewMatch => "new match",
        Cause::Rollup => "sum",
    };
    output.line(format_args!(
        "line {}: {}: {}: {cause}, {}, connections {}, {} sent",
        recorded.line,
        output.strong(lists.join(", ")),
        shown(recorded),
        decision.level.as_token(),
        totals.connections,
        humane_bytes(totals.payload_out_bytes)
    ))
}

/// Who reached what.
fn shown(recorded: &Recorded) -> String {
    let program = recorded.program().unwrap_or("a process that is not known");
    let destination = recorded.destination();
    printable(&format!("{program} → {}", destination.as_deref().unwrap_or("a destination that is not known")))
}

impl Counts {
    fn sum_up(&self, json: bool, output: &mut Output<'_>) -> io::Result<()> {
        let Self { flows, ignored, others, unreadable, by_rule, by_list } = self;
        if json {
            return output.json(&json!({
                "flows": flows, "ignored": ignored, "other_records": others, "unreadable_lines": unreadable,
                "alerts": by_rule, "list_alerts": by_list,
            }));
        }
        let rules = by_rule.iter().map(|(rule, count)| format!("{rule} {count}"));
        let alerts: Vec<String> =
            rules.chain(by_list.iter().map(|(list, count)| format!("list {list} {count}"))).collect();
        let alerts = if alerts.is_empty() { "nothing would be told".to_owned() } else { alerts.join(", ") };
        output.line(format_args!("{flows} flows ({ignored} ignored), {others} other records: {alerts}"))?;
        if *unreadable > 0 {
            output
                .line(output.bad(format!(
                    "{unreadable} lines are no JSON: record flows with `egresswatch run --flows --json`"
                )))?;
        }
        if *flows == 0 {
            output.line(output.bad("no record of a flow: record them with `egresswatch run --flows --json`"))?;
        }
        Ok(())
    }
}
