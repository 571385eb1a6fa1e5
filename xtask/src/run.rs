//! `cargo xtask run`: builds the monitor and becomes it, as root on this host.

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};

use crate::process::{self, Root};
use crate::ui;
use crate::workspace::Workspace;

/// Arguments of `cargo xtask run`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// More arguments of `egresswatch run`, which gets --flows in any case
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
    forwarded: Vec<String>,
}

/// Runs the command. Stable Rust is all it needs: the kernel object is checked in.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let daemon = ui::step("build the monitor", || build(workspace, &["--release"], "release"))?;
    let mut command = Root::obtain()?.command(&daemon, &[]);
    command.args(["run", "--flows"]).args(&arguments.forwarded).stdin(Stdio::inherit());
    ui::say(&format!("\n$ {}\nwatching this host; stop with Ctrl-C", process::describe(&command)));
    // The monitor takes this process's place, so that Ctrl-C reaches it alone and it can write what is left.
    Err(command.exec()).with_context(|| format!("cannot start {}", process::describe(&command)))
}

/// Builds the `egresswatch` program and returns its path.
pub(crate) fn build(workspace: &Workspace, options: &[&str], profile_folder: &str) -> Result<PathBuf> {
    let mut cargo = process::cargo();
    cargo.current_dir(workspace.root()).args(["build", "--locked", "--package", "egresswatch", "--bin", "egresswatch"]);
    process::run(cargo.args(options))?;
    let daemon = workspace.target(profile_folder).join("egresswatch");
    ensure!(daemon.is_file(), "cargo left no {}", daemon.display());
    Ok(daemon)
}
