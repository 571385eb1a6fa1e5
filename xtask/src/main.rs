//! What cargo cannot say: `cargo xtask setup`, `ebpf`, `run`, `demo`, `test`, `vm`, `docs` and `ci`.

mod apt;
mod ebpf;
mod process;
mod reproducible_rustc;
mod setup;
mod ui;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use workspace::Workspace;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "Tasks of this repository that cargo cannot say")]
struct CommandLine {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Install what is missing on this machine; safe to run twice
    Setup(setup::Arguments),
    /// Build the kernel programs into the object that the daemon embeds
    Ebpf(ebpf::Arguments),
}

fn main() -> ExitCode {
    if reproducible_rustc::is_asked_for() {
        return reproducible_rustc::run();
    }
    match dispatch(CommandLine::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            ui::say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command_line: CommandLine) -> Result<()> {
    let workspace = Workspace::find()?;
    match command_line.task {
        Task::Setup(arguments) => setup::run(&workspace, &arguments),
        Task::Ebpf(arguments) => ebpf::run(&workspace, &arguments),
    }
}
