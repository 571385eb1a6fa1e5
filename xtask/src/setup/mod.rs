//! Installs what is missing, says what it does, and does nothing the second time.

mod packages;
mod rust_src;
mod tools;

pub(crate) use tools::{BPF_LINKER, CARGO_DENY};

use anyhow::{Result, bail};
use clap::ValueEnum;

use crate::ui;
use crate::workspace::{Compiler, Workspace};

/// What a group of commands needs beyond stable Rust.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// To build the kernel object: the standard library's source and bpf-linker.
    Ebpf,
    /// To run every test: network tools, Python, a browser.
    Test,
    /// To boot other kernels: QEMU and busybox.
    Vm,
    /// To run the checks of CI: cargo-deny and npm.
    Ci,
}

impl Part {
    const ALL: [Self; 4] = [Self::Ebpf, Self::Test, Self::Vm, Self::Ci];
}

/// Arguments of `cargo xtask setup`.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Arguments {
    /// Install only what this needs (may be given several times)
    #[arg(long, value_enum)]
    only: Vec<Part>,
    /// Say what is missing and install nothing; fails if something is
    #[arg(long)]
    check: bool,
}

/// Runs the command.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let parts = if arguments.only.is_empty() { &Part::ALL } else { arguments.only.as_slice() };
    if !arguments.check {
        return ensure(workspace, parts);
    }
    let missing = missing(workspace, parts)?;
    if missing.is_empty() {
        ui::say("setup: nothing is missing");
        return Ok(());
    }
    for item in &missing {
        ui::say(&format!("setup: missing: {item}"));
    }
    bail!("{} things are missing: run `cargo xtask setup`", missing.len());
}

/// Installs what these parts lack.
pub(crate) fn ensure(workspace: &Workspace, parts: &[Part]) -> Result<()> {
    packages::install(parts)?;
    if parts.contains(&Part::Ebpf) {
        rust_src::install(workspace, &Compiler::pinned(workspace)?)?;
    }
    tools::install(workspace, parts)
}

/// What these parts lack, one line each.
fn missing(workspace: &Workspace, parts: &[Part]) -> Result<Vec<String>> {
    let mut missing = Vec::new();
    if parts.contains(&Part::Ebpf) {
        let compiler = Compiler::pinned(workspace)?;
        if let Err(error) = rust_src::verify(&compiler.library_source(), &compiler.version) {
            missing.push(format!("{error:#}"));
        }
    }
    missing.extend(tools::missing(workspace, parts).iter().map(|tool| format!("{} {}", tool.name, tool.version)));
    missing.extend(packages::missing(parts).iter().map(|package| format!("{} ({})", package.program, package.name)));
    Ok(missing)
}
