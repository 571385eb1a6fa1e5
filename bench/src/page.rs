//! The page: goals, tables and plots of one run.

mod loads;
mod rates;
mod sizes;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::Path,
};

use anyhow::{Context as _, Result};

use crate::{goals, results::Results, statistics::Spread};

/// A machine that is busier than this before the run is not quiet, in percent of one core.
const QUIET_PERCENT: f64 = 5.0;

/// Writes the page and its plots into `folder`.
pub(crate) fn write(folder: &Path, results: &Results) -> Result<()> {
    for (name, text) in render(results) {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// The page as README.md, and its plots, by the name of the file.
fn render(results: &Results) -> BTreeMap<&'static str, String> {
    let mut page = Page { text: String::new(), plots: BTreeMap::new() };
    page.head(results);
    page.goals(results);
    page.failures(results);
    page.overhead(results);
    page.programs(results);
    page.rates(results);
    page.neighbours(results);
    page.memory(results);
    page.prefixes(results);
    page.rest(results);
    let mut files = page.plots;
    files.insert("README.md", page.text.trim_end().to_owned() + "\n");
    files
}

struct Page {
    text: String,
    plots: BTreeMap<&'static str, String>,
}

impl Page {
    fn head(&mut self, results: &Results) {
        let machine = &results.machine;
        self.say("<!-- Made by `cargo xtask bench`; do not edit. -->\n\n# What EgressWatch costs\n");
        self.say(&format!(
            "Measured on {} at commit {} by `cargo xtask bench` in one run: {}, {} CPUs, {:.0} GB of memory, Linux {}, {:.0} % \
             of a core busy before the run{}. The figures are in [results.json](results.json).\n",
            machine.date,
            machine.commit,
            machine.processor,
            machine.cpus,
            machine.memory_bytes as f64 / 1e9,
            machine.kernel,
            machine.busy_percent,
            if results.quick { " (a short run)" } else { "" },
        ));
        if machine.busy_percent > QUIET_PERCENT || results.quick {
            self.say(
                "**These figures are provisional**: the machine was not quiet, or the rounds were short. Run `cargo xtask \
                 bench` on a quiet machine for figures to rely on.\n",
            );
        }
        if machine.other_monitors > 0 {
            self.say("Another monitor ran on the host: it is part of what is called \"without\" here.\n");
        }
        self.say(
            "A load generator and a server of ours run in two network namespaces that one veth pair joins; no packet \
             leaves the machine. The load stays on one CPU, its server on another, and the monitor goes where the \
             scheduler puts it, so that it competes with both. *One end* means that the monitor watches the load's end \
             only, as on a host whose servers are elsewhere; *both ends* that it watches the server's end too, as it does \
             when both are on one host.\n",
        );
        self.say(
            "To run it again: `cargo xtask bench` on a quiet machine; it needs root and about ten minutes. For a change at \
             hand, `cargo xtask bench --quick overhead programs` measures only these sections, in short rounds, and writes \
             to `target/bench` instead. Medians of few rounds on two processors are rough: a difference smaller than the \
             range beside it says nothing.\n",
        );
    }

    fn goals(&mut self, results: &Results) {
        let goals = goals::of(results);
        if goals.is_empty() {
            return;
        }
        self.say("## Goals\n\n| goal | measured | |\n| --- | --- | --- |");
        for goal in &goals {
            self.say(&format!(
                "| {} | {} | {} |",
                goal.wording,
                goal.measured,
                if goal.reached { "reached" } else { "**not reached**" }
            ));
        }
        let accounts: BTreeSet<&str> = goals.iter().filter(|goal| !goal.reached).map(|goal| goal.account).collect();
        if !accounts.is_empty() {
            self.say("\nWhat stands in the way of those that are not reached:\n");
        }
        for account in accounts {
            self.say(&format!("- {account}"));
        }
        self.say("");
    }

    fn failures(&mut self, results: &Results) {
        if results.failures.is_empty() {
            return;
        }
        self.say("## Not measured\n\n| section | why |\n| --- | --- |");
        for failure in &results.failures {
            let reason = failure.reason.replace('|', "\\|").replace(['\n', '\r'], " ");
            self.say(&format!("| {} | not measured: {reason} |", failure.section));
        }
        self.say("");
    }

    fn plot(&mut self, name: &'static str, title: &str, draw: impl FnOnce(&str) -> String) {
        self.plots.insert(name, draw(title));
        self.say(&format!("\n![{title}]({name})\n"));
    }

    fn say(&mut self, line: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "{line}");
    }
}

fn percent(spread: Spread) -> String {
    format!("{:+.1} % ({:+.1} to {:+.1})", spread.median, spread.lowest, spread.highest)
}
