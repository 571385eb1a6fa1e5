//! `cargo xtask test`: every test, and a table that shows what did not run and why.

use std::env;
use std::ffi::OsStr;
use std::time::Duration;

use anyhow::Result;

use crate::kernel_tests::{DAEMON_VARIABLE, KernelTests, Linking};
use crate::process::{self, Root};
use crate::setup::{self, Part};
use crate::ui::{Outcome, Summary};
use crate::workspace::Workspace;

const KERNEL_TESTS: &str = "kernel tests, as root on this kernel";

/// Arguments of `cargo xtask test`.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Arguments {
    /// Arguments of the test programs: a filter, or options such as --nocapture
    #[arg(last = true)]
    forwarded: Vec<String>,
}

/// Runs the command.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let mut summary = Summary::default();
    summary.step("unit, property, snapshot and documentation tests", || {
        let mut cargo = process::cargo();
        cargo.current_dir(workspace.root()).args(["test", "--workspace", "--locked", "--no-fail-fast"]);
        process::run(cargo.arg("--").args(&arguments.forwarded))
    });
    match Root::obtain() {
        Ok(root) => {
            summary.step(KERNEL_TESTS, || kernel(workspace, root, &arguments.forwarded));
        }
        Err(reason) => summary.note(KERNEL_TESTS, Duration::ZERO, without_root(&reason.to_string())),
    }
    summary.finish("cargo xtask test")
}

/// A person sees what was skipped and can decide; a CI run that tests less than it claims must not be green.
fn without_root(reason: &str) -> Outcome {
    if env::var_os("CI").is_some() { Outcome::Failed(reason.to_owned()) } else { Outcome::Skipped(reason.to_owned()) }
}

/// Builds as the user and runs as root, so that no file of root's ends up in the target directory.
fn kernel(workspace: &Workspace, root: Root, forwarded: &[String]) -> Result<()> {
    setup::ensure(workspace, &[Part::Test])?;
    let programs = KernelTests::build(workspace, Linking::Dynamic)?;
    let environment: &[(&str, &OsStr)] = &[(DAEMON_VARIABLE, programs.daemon.as_os_str())];
    let mut tests = root.command(&programs.tests, environment);
    // The folder cargo itself starts tests in. One at a time: they share the one kernel.
    process::run(tests.current_dir(workspace.path("monitor")).arg("--test-threads=1").args(forwarded))
}
