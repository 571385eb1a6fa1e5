//! Kernel tests: the real monitor, real kernel programs, real processes and sockets.
//!
//! Each test makes known traffic in a network namespace of its own, where real-world addresses are served locally and no
//! packet can leave, and compares what the monitor reports with what was made. All tests run on each rung that the
//! kernel has. Run as root: `cargo test -p egresswatch --test kernel`, or in guests by `cargo xtask vm`.
//!
//! The same binary is the traffic generator: `kernel generate JSON`.

mod attribution;
mod lifecycle;
mod load;
mod policy;
mod support;
mod tcp;
mod tools;
mod udp;

use std::process::ExitCode;

use anyhow::Result;
use libtest_mimic::{Arguments, Failed, Trial};

use support::Rung;

/// A test, which runs on every rung.
#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    test: fn(Rung) -> Result<()>,
    /// The program of this machine that it runs.
    tool: Option<&'static str>,
}

impl Case {
    const fn new(name: &'static str, test: fn(Rung) -> Result<()>) -> Self {
        Self { name, test, tool: None }
    }

    const fn needs(self, tool: &'static str) -> Self {
        Self { tool: Some(tool), ..self }
    }
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some("generate") {
        return support::generate(arguments.next().as_deref());
    }
    let mut arguments = Arguments::from_args();
    // One kernel, one monitor at a time.
    arguments.test_threads = Some(1);
    let refusal = (!support::is_root()).then_some("they need root");
    if let Some(reason) = refusal {
        eprintln!("the kernel tests are skipped: {reason}; run them with sudo, or through `cargo xtask test`");
    }
    let conclusion = libtest_mimic::run(&arguments, trials(refusal.is_some()));
    if let Err(error) = support::stop_shared() {
        eprintln!("the monitor did not stop well: {error:#}");
        return ExitCode::FAILURE;
    }
    conclusion.exit_code()
}

/// Every test on every rung. Those that cannot run here are listed as ignored.
fn trials(all_skipped: bool) -> Vec<Trial> {
    let families =
        [tcp::CASES, udp::CASES, attribution::CASES, policy::CASES, tools::CASES, load::CASES, lifecycle::CASES];
    let mut trials = Vec::new();
    for rung in Rung::ALL {
        let available = rung.is_available();
        if !available {
            eprintln!("the tests on the rung `{rung}` are skipped: this kernel does not have it");
        }
        for Case { name, test, tool } in families.into_iter().flatten().copied() {
            let missing = tool.filter(|tool| support::installed(tool).is_none());
            if let Some(tool) = missing {
                eprintln!("{rung}::{name} is skipped: {tool} is not installed");
            }
            let trial = Trial::test(format!("{rung}::{name}"), move || test(rung).map_err(|error| failed(&error)));
            trials.push(trial.with_ignored_flag(all_skipped || !available || missing.is_some()));
        }
    }
    trials
}

/// What went wrong first, then what it was part of: the context may be a whole record.
fn failed(error: &anyhow::Error) -> Failed {
    let mut messages: Vec<_> = error.chain().map(ToString::to_string).collect();
    messages.reverse();
    messages.join("\n").into()
}
