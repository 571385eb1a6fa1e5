//! `cargo xtask test`: every test, and a table that shows what did not run and why.

use std::env;
use std::time::Duration;

use anyhow::Result;

use crate::process::{self, Root};
use crate::python::Package;
use crate::root_test::{DAEMON_VARIABLE, RootTest};
use crate::setup::{self, Part};
use crate::ui::{Outcome, Summary};
use crate::workspace::Workspace;

/// Tests that need root.
struct RootTests {
    /// The target's name in `monitor`.
    name: &'static str,
    /// What the table calls them.
    title: &'static str,
    /// A package that they need, and the variable by which they find its program.
    package: Option<(Package, &'static str)>,
}

const ROOT_TESTS: [RootTests; 2] = [
    RootTests {
        name: "kernel",
        title: "kernel tests, as root on this kernel",
        package: Some((AIOQUIC, "EGRESSWATCH_AIOQUIC")),
    },
    RootTests { name: "mission", title: "browser scenario, as root", package: None },
];

/// A QUIC that speaks version 2.
const AIOQUIC: Package = Package { name: "aioquic", version: "1.3.0", program: "python3" };

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
    for tests in ROOT_TESTS {
        match &root {
            Ok(root) => summary.step(tests.title, || as_root(workspace, *root, &tests, &arguments.forwarded)),
            Err(reason) => summary.note(tests.title, Duration::ZERO, without_root(&reason.to_string())),
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
fn as_root(workspace: &Workspace, root: Root, tests: &RootTests, forwarded: &[String]) -> Result<()> {
    setup::ensure(workspace, &[Part::Test])?;
    let test = RootTest::build(workspace, tests.name)?;
    let mut environment = vec![(DAEMON_VARIABLE, test.daemon.as_os_str())];
    let program = tests.package.map(|(package, _)| package.ensure(workspace)).transpose()?;
    if let (Some(program), Some((_, variable))) = (&program, tests.package) {
        environment.push((variable, program.as_os_str()));
    }
    let mut command = root.command(&test.program, &environment);
    // The folder cargo itself starts tests in. One at a time: they share the one kernel.
    process::run(command.current_dir(workspace.path("monitor")).arg("--test-threads=1").args(forwarded))
}
