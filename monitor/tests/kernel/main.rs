//! Kernel tests: the real monitor, real kernel programs, real processes and sockets.
//!
//! Each test makes known traffic in a network namespace of its own, where real-world addresses are served locally and no
//! packet can leave, and compares what the monitor reports with what was made. What the kernel's programs do is shown
//! on each rung that the kernel has, and in guests; what user space alone does, on the highest rung of a real machine.
//! Run as root: `cargo test -p egresswatch --test kernel`, or in guests by `cargo xtask vm`.
//!
//! The same binary is the traffic generator: `kernel generate JSON`.

mod attribution;
mod claim;
mod delivery;
mod executables;
mod inventory;
mod lifecycle;
mod load;
mod names;
mod policy;
mod prometheus;
mod reload;
mod sockets;
mod support;
mod tcp;
mod tools;
mod udp;
mod ways;

use std::{
    fs::{self, File},
    path::Path,
    process::ExitCode,
};

use anyhow::{Context as _, Result, ensure};
use egresswatch::coverage;
use libtest_mimic::{Arguments, Completion, Failed, Trial};

use support::Rung;

/// A test, which runs on every rung.
#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    test: fn(Rung) -> Result<()>,
    /// The program of this machine that it runs.
    tool: Option<&'static str>,
    /// What it shows is done by the kernel's programs, so that each rung and each kernel must show it.
    by_the_kernel: bool,
}

impl Case {
    const fn new(name: &'static str, test: fn(Rung) -> Result<()>) -> Self {
        Self { name, test, tool: None, by_the_kernel: true }
    }

    const fn needs(self, tool: &'static str) -> Self {
        Self { tool: Some(tool), ..self }
    }

    /// What it shows is done in user space alone: parsers, policy, outputs, limits. The same code runs on every rung and
    /// kernel, so the highest rung of a real machine shows it.
    const fn in_user_space(self) -> Self {
        Self { by_the_kernel: false, ..self }
    }
}

/// Held by a run of these tests: two at once would fill each other's tables and rings.
const LOCK: &str = "/run/lock/egresswatch-kernel-tests";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some("generate") {
        return support::generate(arguments.next().as_deref());
    }
    let mut arguments = Arguments::from_args();
    // One kernel, one monitor at a time.
    arguments.test_threads = Some(1);
    let missing = (!support::is_root()).then_some("needs root: run it with sudo, or through `cargo xtask test`");
    let lock = if missing.is_none() && !arguments.list { lock().map(Some) } else { Ok(None) };
    let conclusion = match &lock {
        Ok(_) => libtest_mimic::run(&arguments, trials(missing)),
        Err(error) => {
            eprintln!("{error:#}");
            return ExitCode::FAILURE;
        }
    };
    if let Err(error) = support::stop_shared() {
        eprintln!("the monitor did not stop well: {error:#}");
        return ExitCode::FAILURE;
    }
    conclusion.exit_code()
}

/// Waits until no other run of these tests is under way on this machine.
fn lock() -> Result<File> {
    if let Some(folder) = Path::new(LOCK).parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    let file = File::create(LOCK).with_context(|| format!("cannot create {LOCK}"))?;
    if file.try_lock().is_err() {
        eprintln!("waiting for another run of these tests on this machine");
        file.lock().with_context(|| format!("cannot lock {LOCK}"))?;
    }
    Ok(file)
}

fn cases() -> impl Iterator<Item = Case> {
    let families = [
        tcp::CASES,
        udp::CASES,
        ways::CASES,
        sockets::CASES,
        attribution::CASES,
        executables::CASES,
        policy::CASES,
        reload::CASES,
        delivery::CASES,
        prometheus::CASES,
        tools::CASES,
        load::CASES,
        names::CASES,
        inventory::CASES,
        lifecycle::CASES,
    ];
    families.into_iter().flatten().copied()
}

/// What the table claims of a rung, a test on that rung must show: every case runs on every rung that there is.
fn rows_are_proven() -> Result<()> {
    for rung in egresswatch::kernel::probes::Rung::ALL {
        ensure!(
            Rung::ALL.iter().any(|tested| tested.name() == rung.as_token()),
            "the table has a rung {rung} on which no test runs"
        );
    }
    for row in coverage::ROWS {
        for test in row.tests {
            ensure!(
                cases().any(|case| case.name == *test && case.by_the_kernel),
                "the row {} names a test {test} that is not here, or not on every rung",
                row.token
            );
        }
    }
    Ok(())
}

/// Every test on every rung. Those that cannot run here are ignored, and say why.
fn trials(missing: Option<&'static str>) -> Vec<Trial> {
    let mut trials = vec![Trial::test("every_row_of_the_coverage_table_has_its_tests", || {
        rows_are_proven().map_err(|error| failed(&error))
    })];
    for rung in Rung::ALL {
        for case in cases() {
            trials.push(Trial::ignorable_test(format!("{rung}::{}", case.name), move || run(case, rung, missing)));
        }
    }
    trials
}

fn run(case: Case, rung: Rung, missing: Option<&str>) -> Result<Completion, Failed> {
    match (missing, case.tool) {
        // A person sees what was skipped; a CI run that tests less than it claims must not be green.
        (Some(reason), _) if std::env::var_os("CI").is_some() => {
            return Err(format!("cannot run here: {reason}").into());
        }
        (Some(reason), _) => return Ok(Completion::ignored_with(reason)),
        _ if !rung.is_available() => {
            return Ok(Completion::ignored_with(format!("this kernel has no rung {rung}")));
        }
        _ if !case.by_the_kernel && support::is_emulated() => {
            return Ok(Completion::ignored_with("user space alone decides it: it runs on real processors"));
        }
        _ if !case.by_the_kernel && rung != Rung::highest() => {
            return Ok(Completion::ignored_with("user space alone decides it: it runs on the highest rung"));
        }
        (_, Some(tool)) if support::installed(tool).is_none() => {
            return Ok(Completion::ignored_with(format!("{tool} is not installed")));
        }
        _ => {}
    }
    match (case.test)(rung) {
        Ok(()) => Ok(Completion::Completed),
        Err(error) => error
            .downcast_ref()
            .map_or_else(|| Err(failed(&error)), |Skipped(reason)| Ok(Completion::ignored_with(*reason))),
    }
}

/// The way to send that a test is about does not exist here.
#[derive(Debug, thiserror::Error)]
#[error("skipped: {0}")]
struct Skipped(&'static str);

/// Ends a test about something that this kernel does not have.
fn skip(reason: &'static str) -> Result<()> {
    Err(Skipped(reason).into())
}

/// What went wrong first, then what it was part of: the context may be a whole record.
fn failed(error: &anyhow::Error) -> Failed {
    let mut messages: Vec<_> = error.chain().map(ToString::to_string).collect();
    messages.reverse();
    messages.join("\n").into()
}
