//! `cargo xtask test`: every test, and a table that shows what did not run and why.

use std::env;
use std::ffi::OsStr;
use std::time::Duration;

use anyhow::Result;

use crate::process::{self, Root};
use crate::python::Package;
use crate::root_test::{DAEMON_VARIABLE, RootTest};
use crate::setup::{self, Part};
use crate::ui::{Outcome, Summary};
use crate::workspace::Workspace;

/// The tests that need root: the target's name in `monitor`, and what the table calls it.
const ROOT_TESTS: [(&str, &str); 2] =
    [("kernel", "kernel tests, as root on this kernel"), ("mission", "browser scenario, as root")];

/// A QUIC that speaks version 2, for the kernel tests; they find its Python by the variable.
const AIOQUIC: Package = Package { name: "aioquic", version: "1.3.0", program: "python3" };
const AIOQUIC_VARIABLE: &str = "EGRESSWATCH_AIOQUIC";

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
    summary.step("outputs to real receivers", || receivers(workspace, &arguments.forwarded));
    let root = Root::obtain();
    for (name, title) in ROOT_TESTS {
        match &root {
            Ok(root) => summary.step(title, || as_root(workspace, *root, name, &arguments.forwarded)),
            Err(reason) => summary.note(title, Duration::ZERO, without_root(&reason.to_string())),
        }
    }
    summary.finish("cargo xtask test")
}

/// The servers that the tests start need no root.
fn receivers(workspace: &Workspace, forwarded: &[String]) -> Result<()> {
    setup::ensure(workspace, &[Part::Test])?;
    let mut cargo = process::cargo();
    cargo.current_dir(workspace.root()).args(["test", "--locked", "--package", "egresswatch", "--test", "siem"]);
    process::run(cargo.arg("--").args(forwarded))
}

/// A person sees what was skipped and can decide; a CI run that tests less than it claims must not be green.
fn without_root(reason: &str) -> Outcome {
    if env::var_os("CI").is_some() { Outcome::Failed(reason.to_owned()) } else { Outcome::Skipped(reason.to_owned()) }
}

/// Builds as the user and runs as root, so that no file of root's ends up in the target directory.
fn as_root(workspace: &Workspace, root: Root, name: &str, forwarded: &[String]) -> Result<()> {
    setup::ensure(workspace, &[Part::Test])?;
    let test = RootTest::build(workspace, name)?;
    let aioquic = AIOQUIC.ensure(workspace)?;
    let environment: &[(&str, &OsStr)] =
        &[(DAEMON_VARIABLE, test.daemon.as_os_str()), (AIOQUIC_VARIABLE, aioquic.as_os_str())];
    let mut command = root.command(&test.program, environment);
    // The folder cargo itself starts tests in. One at a time: they share the one kernel.
    process::run(command.current_dir(workspace.path("monitor")).arg("--test-threads=1").args(forwarded))
}
