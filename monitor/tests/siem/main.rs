//! Transports against real receivers, which the tests start on loopback with the configuration files of `deploy/siem`.
//!
//! `cargo test -p egresswatch --test siem`; no root is needed.

mod clickhouse;
mod examples;
mod https;
mod https_server;
mod journald;
mod kafka;
mod ocsf;
mod rotel;
mod rsyslog;
mod support;
mod syslog_ng;

use std::process::ExitCode;

use anyhow::Result;
use libtest_mimic::{Arguments, Completion, Trial};

/// A test and what of this machine it needs.
struct Case {
    name: &'static str,
    /// What is missing here, with the package that brings it.
    missing: fn() -> Option<String>,
    test: fn() -> Result<()>,
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Each starts a server; this machine may be small.
    arguments.test_threads = Some(1);
    let families = [
        examples::CASES,
        rsyslog::CASES,
        syslog_ng::CASES,
        https::CASES,
        rotel::CASES,
        kafka::CASES,
        journald::CASES,
        ocsf::CASES,
        clickhouse::CASES,
    ];
    let trials = families.into_iter().flatten().map(|case| Trial::ignorable_test(case.name, || run(case))).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn run(case: &Case) -> Result<Completion, libtest_mimic::Failed> {
    match (case.missing)() {
        // A person sees what was skipped; a CI run that tests less than it claims must not be green.
        Some(reason) if std::env::var_os("CI").is_some() => Err(format!("cannot run here: {reason}").into()),
        Some(reason) => Ok(Completion::ignored_with(reason)),
        None => (case.test)().map(|()| Completion::Completed).map_err(|error| format!("{error:#}").into()),
    }
}
