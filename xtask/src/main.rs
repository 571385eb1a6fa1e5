//! What cargo cannot say. `cargo xtask --help` lists the tasks.

mod apt;
mod bench;
mod check;
mod data;
mod demo;
mod deploy;
mod ebpf;
mod process;
mod python;
mod reproducible_rustc;
mod root_test;
mod run;
mod setup;
mod test;
mod ui;
mod vm;
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
    /// Build the monitor and run it on this host as root, showing flows and alerts
    Run(run::Arguments),
    /// Show an alert without touching the Internet
    Demo(demo::Arguments),
    /// Measure what the monitor costs; writes docs/bench
    Bench(bench::Arguments),
    /// Run every test; what cannot run here is listed
    Test(test::Arguments),
    /// Install what is missing on this machine; safe to run twice
    Setup(setup::Arguments),
    /// Build the kernel programs into the object that the daemon embeds
    Ebpf(ebpf::Arguments),
    /// Build the ownership table that the daemon embeds from the pinned data packages
    Data(data::Arguments),
    /// Run the kernel tests on other kernels, under QEMU
    Vm(vm::Arguments),
    /// Run the shipped systemd unit under a real systemd, in a guest
    SystemdTest,
    /// Check the unit and the manifests in deploy/
    DeployCheck,
    /// Make the pages and files that come from the code
    Docs(check::DocsArguments),
    /// Check format, lints, spelling, dependencies, generated files and the kernel object
    Check,
    /// Everything that CI runs
    Ci,
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
        Task::Run(arguments) => run::run(&workspace, &arguments),
        Task::Demo(arguments) => demo::run(&workspace, &arguments),
        Task::Bench(arguments) => bench::run(&workspace, &arguments),
        Task::Test(arguments) => test::run(&workspace, &arguments),
        Task::Setup(arguments) => setup::run(&workspace, &arguments),
        Task::Ebpf(arguments) => ebpf::run(&workspace, &arguments),
        Task::Data(arguments) => data::run(&workspace, &arguments),
        Task::Vm(arguments) => vm::run(&workspace, &arguments),
        Task::SystemdTest => vm::systemd::run(&workspace),
        Task::DeployCheck => deploy::check(&workspace),
        Task::Docs(arguments) => check::docs(&workspace, &arguments),
        Task::Check => check::run(&workspace),
        Task::Ci => check::ci(&workspace),
    }
}
