//! `cargo xtask bench`: builds the monitor and the measuring program, and measures what the monitor costs.
//!
//! What is measured and how is in the package `egresswatch-bench`; this task gives it what only the user's side has: the
//! builds and the commit. It is no test and has no threshold.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Result, ensure};

use crate::process::{self, Root};
use crate::ui;
use crate::workspace::Workspace;

/// Arguments of `cargo xtask bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Short rounds: for changes of the code, not for the page
    #[arg(long)]
    quick: bool,
    /// Measure only these: start, idle, overhead, programs, rates, flows, prefixes, lookups, neighbours
    #[arg(value_name = "SECTION")]
    sections: Vec<String>,
    /// Of the loads, make only those whose name contains this
    #[arg(long, value_name = "TEXT")]
    load: Option<String>,
    /// Folder for results.json and the page [default: docs/bench for a full run, else bench in the target folder]
    #[arg(long, value_name = "FOLDER")]
    output: Option<PathBuf>,
    /// Measure this monitor instead of building one
    #[arg(long, value_name = "FILE")]
    daemon: Option<PathBuf>,
}

/// Runs the command.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let is_whole = !arguments.quick && arguments.sections.is_empty() && arguments.load.is_none();
    let output = arguments
        .output
        .clone()
        .unwrap_or_else(|| if is_whole { workspace.path("docs/bench") } else { workspace.target("bench") });
    let (bench, daemon) = ui::step("build the monitor and the measuring program", || build(workspace))?;
    let mut command = Root::obtain()?.command(bench, &[]);
    command.arg("run").arg("--daemon").arg(arguments.daemon.as_ref().unwrap_or(&daemon)).arg("--output").arg(&output);
    if arguments.quick {
        command.arg("--quick");
    }
    if let Some(load) = &arguments.load {
        command.arg("--load").arg(load);
    }
    command.args(["--date", &date()?, "--commit", &commit(workspace)?]);
    command.arg("--").args(&arguments.sections);
    process::run(&mut command)
}

fn build(workspace: &Workspace) -> Result<(PathBuf, PathBuf)> {
    let mut cargo = process::cargo();
    cargo.current_dir(workspace.root()).args(["build", "--release", "--locked"]);
    process::run(cargo.args(["--package", "egresswatch-bench", "--package", "egresswatch", "--bins"]))?;
    let programs = ["egresswatch-bench", "egresswatch"].map(|name| workspace.target("release").join(name));
    for program in &programs {
        ensure!(program.is_file(), "cargo left no {}", program.display());
    }
    let [bench, daemon] = programs;
    Ok((bench, daemon))
}

/// The day, UTC.
fn date() -> Result<String> {
    let text = process::output(process::command("date").args(["-u", "+%Y-%m-%d"]))?;
    Ok(text.trim().to_owned())
}

/// The commit of the checkout, with a plus sign if it has changes.
fn commit(workspace: &Workspace) -> Result<String> {
    let git = |arguments: &[&str]| {
        let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        process::output(process::command("git").current_dir(workspace.root()).args(arguments))
    };
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?.trim().to_owned();
    let changes = git(&["status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs/bench"])?;
    Ok(if changes.trim().is_empty() { commit } else { format!("{commit}+") })
}
