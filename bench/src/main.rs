//! Measures what EgressWatch costs. `cargo xtask bench` builds this and the monitor, and starts it as root.
//!
//! Everything happens in two network namespaces of its own that are joined by one veth pair: a load of ours runs in one
//! of them, with and without a monitor on the host, and its other end is served in the second one.

#![expect(
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "figures for people: durations and counts are far below 2^52 and not negative"
)]

mod clock;
mod daemon;
mod empty;
mod generator;
mod goals;
mod load;
mod measure;
mod network;
mod page;
mod plot;
mod programs;
mod records;
mod results;
mod serve;
mod statistics;

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, Subcommand, ValueEnum};

use generator::Ground;
use measure::Bench;
use results::{Failure, Results};

#[derive(Debug, Parser)]
#[command(about = "Measures what EgressWatch costs; started by `cargo xtask bench`")]
struct CommandLine {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Measure, and write results.json and the page
    Run(Arguments),
    /// Write the page of results that are there
    Page {
        /// Folder that holds results.json
        folder: PathBuf,
    },
    /// Make a load, described as JSON
    #[command(hide = true)]
    Load {
        /// The load
        load: String,
    },
    /// Serve what loads ask for
    #[command(hide = true)]
    Serve,
}

#[derive(Debug, clap::Args)]
struct Arguments {
    /// The monitor
    #[arg(long)]
    daemon: PathBuf,
    /// Folder for the results
    #[arg(long)]
    output: PathBuf,
    /// Short rounds
    #[arg(long)]
    quick: bool,
    /// Measure only these
    #[arg(value_enum, value_name = "SECTION")]
    sections: Vec<Question>,
    /// Of the loads, make only those whose name contains this
    #[arg(long, default_value = "")]
    load: String,
    /// Day of the run
    #[arg(long, default_value = "")]
    date: String,
    /// Commit that is measured
    #[arg(long, default_value = "")]
    commit: String,
}

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Question {
    /// From start to readiness
    Start,
    /// CPU of the monitor on a quiet host
    Idle,
    /// Loads with and without the monitor
    Overhead,
    /// Time of each kernel program
    Programs,
    /// Connections at a given rate: latency, CPU, losses
    Rates,
    /// Many flows at a time
    Flows,
    /// Many flagged prefixes
    Prefixes,
    /// Lookups of an owner
    Lookups,
    /// Other tools under the same load
    Neighbours,
}

fn main() -> ExitCode {
    let outcome = match CommandLine::parse().task {
        Task::Run(arguments) => run(&arguments),
        Task::Page { folder } => page(&folder),
        Task::Load { load } => {
            serde_json::from_str(&load).context("the load is not understood").and_then(|load| load::run(&load))
        }
        Task::Serve => serve::run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let asked = |question| arguments.sections.is_empty() || arguments.sections.contains(&question);
    fs::create_dir_all(&arguments.output).with_context(|| format!("cannot make {}", arguments.output.display()))?;
    let machine = measure::machine::describe(arguments.date.clone(), arguments.commit.clone());
    if machine.other_monitors > 0 {
        say(&format!(
            "another monitor runs on this host ({} in all): it is part of every figure \"without\"",
            machine.other_monitors
        ));
    }
    let mut results = Results { machine, quick: arguments.quick, ..Results::default() };
    let bench =
        Bench { daemon: &arguments.daemon, ground: Ground::new()?, quick: arguments.quick, load: &arguments.load };
    for section in SECTIONS.iter().filter(|section| asked(section.question)) {
        measure_section(section, &bench, &mut results);
        save(&arguments.output, &results)?;
    }
    drop(bench);
    page(&arguments.output)?;
    ensure!(results.failures.is_empty(), "{} of the sections could not be measured", results.failures.len());
    Ok(())
}

/// A section: what it answers, and how it puts its figures into the results.
struct Section {
    question: Question,
    title: &'static str,
    measure: fn(&Bench<'_>, &mut Results) -> Result<()>,
}

/// Every section in the order in which they run.
const SECTIONS: [Section; 9] = [
    Section {
        question: Question::Start,
        title: "start",
        measure: |bench, results| measure::idle::start(bench).map(|start| results.start_ms = Some(start)),
    },
    Section {
        question: Question::Idle,
        title: "idle",
        measure: |bench, results| measure::idle::measure(bench).map(|idle| results.idle = Some(idle)),
    },
    Section {
        question: Question::Overhead,
        title: "loads with and without the monitor",
        measure: |bench, results| measure::overhead::measure(bench).map(|overhead| results.overhead = overhead),
    },
    Section {
        question: Question::Programs,
        title: "time of each kernel program",
        measure: |bench, results| measure::programs::measure(bench).map(|programs| results.programs = Some(programs)),
    },
    Section {
        question: Question::Rates,
        title: "connections at a given rate",
        measure: |bench, results| measure::rates::measure(bench).map(|rates| results.rates = rates),
    },
    Section {
        question: Question::Flows,
        title: "many flows at a time",
        measure: |bench, results| measure::flows::measure(bench).map(|flows| results.flows = flows),
    },
    Section {
        question: Question::Prefixes,
        title: "many flagged prefixes",
        measure: |bench, results| measure::prefixes::measure(bench).map(|prefixes| results.prefixes = prefixes),
    },
    Section {
        question: Question::Lookups,
        title: "lookups",
        measure: |bench, results| measure::lookups::measure(bench).map(|lookups| results.lookups = lookups),
    },
    Section {
        question: Question::Neighbours,
        title: "other tools under the same load",
        measure: |bench, results| measure::neighbours::measure(bench).map(|tools| results.neighbours = tools),
    },
];

/// Measures a section. One that fails takes none of the others along: the page says that it is missing, and why.
fn measure_section(section: &Section, bench: &Bench<'_>, results: &mut Results) {
    say(&format!("\n==> {}", section.title));
    let start = Instant::now();
    let outcome = (section.measure)(bench, results);
    say(&format!("<== {}: {:.1} s", section.title, start.elapsed().as_secs_f64()));
    if let Err(error) = outcome {
        let reason = format!("{error:#}");
        say(&format!("error: cannot measure {}: {reason}", section.title));
        results.failures.push(Failure { section: section.title.to_owned(), reason });
    }
}

/// Keeps what is there: a section that fails later must not take it along.
fn save(folder: &Path, results: &Results) -> Result<()> {
    let path = folder.join("results.json");
    fs::write(&path, serde_json::to_string_pretty(results)? + "\n")
        .with_context(|| format!("cannot write {}", path.display()))
}

fn page(folder: &Path) -> Result<()> {
    let path = folder.join("results.json");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let results: Results =
        serde_json::from_str(&text).with_context(|| format!("{} is of another version", path.display()))?;
    page::write(folder, &results)?;
    say(&format!("\n{} is written", folder.join("README.md").display()));
    for goal in goals::of(&results) {
        say(&format!(
            "{}  {}: {}",
            if goal.reached { "reached    " } else { "NOT REACHED" },
            goal.wording,
            goal.measured
        ));
    }
    Ok(())
}

/// Prints a line for whoever waits. A closed pipe is no reason to stop.
pub(crate) fn say(line: &str) {
    let mut output = io::stdout().lock();
    let _ = writeln!(output, "{line}");
    let _ = output.flush();
}
