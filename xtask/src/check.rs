//! Everything CI checks beside the tests, and `cargo xtask ci`, which is what CI runs.

use anyhow::{Context as _, Result};

use crate::data;
use crate::ebpf;
use crate::process;
use crate::python::Package;
use crate::setup::{self, Part};
use crate::test;
use crate::ui::Summary;
use crate::vm;
use crate::workspace::Workspace;

/// The spelling of everything; its makers publish it as a package of Python too, which spares building it.
const TYPOS: Package = Package { name: "typos", version: "1.52.0", program: "typos" };

/// The manifests that cargo looks at one by one: the workspace, and the kernel programs outside of it.
const MANIFESTS: [&str; 2] = ["Cargo.toml", "monitor-ebpf/Cargo.toml"];

/// `cargo xtask check`: format, lints, documentation, spelling, dependencies, generated files, the kernel object.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    setup::ensure(workspace, &[Part::Ebpf, Part::Ci])?;
    let mut summary = Summary::default();
    checks(workspace, &mut summary);
    summary.finish("cargo xtask check")
}

/// `cargo xtask ci`: the checks, the tests, the demonstration and the kernel matrix, as `.ci/run` has them.
pub(crate) fn ci(workspace: &Workspace) -> Result<()> {
    setup::run(workspace, &setup::Arguments::default())?;
    let mut summary = Summary::default();
    checks(workspace, &mut summary);
    summary.step("cargo xtask test", || test::run(workspace, &test::Arguments::default()));
    summary.step("cargo xtask demo", || crate::demo::run(workspace, &crate::demo::Arguments::after_tests(workspace)));
    summary.step("cargo xtask systemd-test", || vm::systemd::run(workspace));
    summary.step("cargo xtask vm --all", || vm::run(workspace, &vm::Arguments::default()));
    summary.finish("cargo xtask ci")
}

/// The quick ones come first; all of them run, whatever fails.
fn checks(workspace: &Workspace, summary: &mut Summary) {
    summary.step("format", || format(workspace));
    summary.step("spelling", || spelling(workspace));
    summary.step("dependencies: licences, bans, sources", || dependencies(workspace));
    summary.step("clippy", || {
        let mut cargo = process::cargo();
        cargo.current_dir(workspace.root()).args(["clippy", "--workspace", "--all-targets", "--locked"]);
        process::run(cargo.args(["--", "--deny", "warnings"]))
    });
    // `--all-targets` leaves out the tests that `cargo test` does not run by itself: those that need root
    // or receivers.
    summary.step("clippy on the tests that need root", || {
        let mut cargo = process::cargo();
        cargo.current_dir(workspace.root()).args(["clippy", "--package", "egresswatch", "--locked"]);
        process::run(
            cargo.args(["--test", "kernel", "--test", "mission", "--test", "siem", "--", "--deny", "warnings"]),
        )
    });
    summary.step("documentation", || {
        let mut cargo = process::cargo();
        cargo.current_dir(workspace.root()).env("RUSTDOCFLAGS", "--deny warnings");
        process::run(cargo.args(["doc", "--workspace", "--no-deps", "--locked"]))
    });
    summary.step("clippy on the kernel programs", || ebpf::clippy(workspace));
    summary.step("the kernel object equals its source", || ebpf::check(workspace));
    summary.step("the ownership table equals its sources", || data::run(workspace, &data::Arguments { check: true }));
    summary.step("the unit and the manifests are valid", || crate::deploy::check(workspace));
    summary.step("generated pages are fresh", || docs(workspace, &DocsArguments { check: true }));
}

fn format(workspace: &Workspace) -> Result<()> {
    for manifest in MANIFESTS {
        let mut cargo = process::cargo();
        cargo.current_dir(workspace.root()).args(["fmt", "--all", "--check", "--manifest-path", manifest]);
        process::run(&mut cargo)?;
    }
    Ok(())
}

fn spelling(workspace: &Workspace) -> Result<()> {
    process::run(process::command(TYPOS.ensure(workspace)?).current_dir(workspace.root()))
}

/// The advisories are not among these: they need a database that changes without us, so a commit that was green could
/// turn red. `cargo deny check advisories` asks it.
fn dependencies(workspace: &Workspace) -> Result<()> {
    let deny =
        setup::CARGO_DENY.find(workspace).context("cargo-deny is not installed: run `cargo xtask setup --only ci`")?;
    for manifest in MANIFESTS {
        let mut command = process::command(&deny);
        command.current_dir(workspace.root()).args(["--config", "deny.toml", "--locked", "--manifest-path", manifest]);
        process::run(command.args(["check", "licenses", "bans", "sources"]))?;
    }
    Ok(())
}

/// Arguments of `cargo xtask docs`.
#[derive(Debug, clap::Args)]
pub(crate) struct DocsArguments {
    /// Change nothing; fail if a page is not what the code says
    #[arg(long)]
    check: bool,
}

/// `cargo xtask docs`: the pages and files that are made from the code.
pub(crate) fn docs(workspace: &Workspace, arguments: &DocsArguments) -> Result<()> {
    let mut cargo = process::cargo();
    cargo.current_dir(workspace.root()).args(["run", "--locked", "--quiet", "--package", "egresswatch"]);
    cargo.args(["--example", "generate-docs", "--"]);
    if arguments.check {
        cargo.arg("--check");
    }
    process::run(&mut cargo)
}
