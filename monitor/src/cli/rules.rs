//! `egresswatch test-rules`: recorded flows through rules.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufRead, BufReader},
    path::Path,
};

use jiff::tz::TimeZone;
use serde_json::json;

use super::{Error, Output, Status, args::TestRulesArguments};
use crate::{
    alert::text::printable,
    config::{self, Config},
    policy::rules::{Replay, Replayed, RuleCause, RuleDecision, Rules},
};

/// Runs the records of a file through the rules.
pub(super) fn test(arguments: &TestRulesArguments, output: &mut Output<'_>) -> Result<Status, Error> {
    let (config, _) = Config::load(arguments.config.as_deref())?;
    let rules = if arguments.rules.is_empty() {
        config.rules()?
    } else {
        let files = config::rule_files(&arguments.rules)?;
        let files = files.iter().map(|(file, text)| (&**file, &**text));
        Rules::compile(files, &arguments.enable, &[], config.list_ids().as_deref())
            .map_err(config::Error::from)?
    };
    let unreadable = |source| Error::Replay { path: arguments.replay.clone(), source };
    let input: Box<dyn BufRead> = if arguments.replay == Path::new("-") {
        Box::new(BufReader::new(io::stdin()))
    } else {
        Box::new(BufReader::new(File::open(&arguments.replay).map_err(unreadable)?))
    };
    let mut replay = Replay::new(rules, TimeZone::system());
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
        match replay.take_in(&record) {
            Replayed::Skipped => counts.others += 1,
            Replayed::Flow { is_ignored, decisions } => {
                counts.flows += 1;
                counts.ignored += u64::from(is_ignored);
                for decision in &decisions {
                    tell(decision, Some(index + 1), arguments.json, &mut counts, output)?;
                }
            }
        }
    }
    for decision in replay.finish() {
        tell(&decision, None, arguments.json, &mut counts, output)?;
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
}

fn tell(
    decision: &RuleDecision<String>,
    line: Option<usize>,
    json: bool,
    counts: &mut Counts,
    output: &mut Output<'_>,
) -> io::Result<()> {
    let is_sum = decision.cause == RuleCause::Folded;
    if !is_sum {
        *counts.by_rule.entry(decision.rule.id.to_string()).or_default() += 1;
    }
    let found = decision.evidence.as_ref().map(|evidence| evidence.text.as_str());
    if json {
        return output.json(&json!({
            "line": line, "record": decision.context, "rule": &*decision.rule.id, "title": &*decision.rule.title,
            "severity": decision.rule.severity, "sum": is_sum, "folded": decision.folded, "found": found,
        }));
    }
    let place = line.map_or_else(|| "end".to_owned(), |line| format!("line {line}"));
    let found = found.map_or_else(String::new, |found| format!(": {found}"));
    let folded = match (is_sum, decision.folded) {
        (true, folded) => format!(" (sum of {folded} matches that were not told)"),
        (false, 0) => String::new(),
        (false, folded) => format!(" ({folded} before it folded)"),
    };
    output.line(format_args!(
        "{place}: {} {}{found}{folded}",
        output.strong(&*decision.rule.id),
        printable(&decision.rule.title)
    ))
}

impl Counts {
    fn sum_up(&self, json: bool, output: &mut Output<'_>) -> io::Result<()> {
        let Self { flows, ignored, others, unreadable, by_rule } = self;
        if json {
            return output.json(&json!({
                "flows": flows, "ignored": ignored, "other_records": others, "unreadable_lines": unreadable,
                "alerts": by_rule,
            }));
        }
        let alerts: Vec<String> = by_rule.iter().map(|(rule, count)| format!("{rule} {count}")).collect();
        let alerts = if alerts.is_empty() { "no rule fired".to_owned() } else { alerts.join(", ") };
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
