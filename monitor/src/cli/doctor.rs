//! `egresswatch doctor`: the report on this host, printed.

use super::{Error, Output, Status, args::DoctorArguments};
use crate::{
    config::Config,
    doctor::{Facts, Obstacle, Report, State},
};

/// Reads the host and prints the report.
pub(super) fn execute(arguments: &DoctorArguments, output: &mut Output<'_>) -> Result<Status, Error> {
    // A wrong configuration is the business of `check`; here it must not hide what is wrong with the host.
    let config = Config::load(None).map(|(config, _)| config).unwrap_or_default();
    let report = Report::new(&Facts::read(&config));
    if arguments.json {
        output.json(&report)?;
    } else {
        print(&report, output)?;
    }
    Ok(match report.obstacle {
        None => Status::Success,
        Some(Obstacle::Privilege) => Status::Privilege,
        Some(Obstacle::System) => Status::Unsupported,
    })
}

/// Prints the report for people.
pub(super) fn print(report: &Report, output: &mut Output<'_>) -> std::io::Result<()> {
    let Report { version, kernel, machine, .. } = report;
    output.line(output.strong(format_args!("EgressWatch {version} on Linux {kernel} ({machine})")))?;
    output.line("")?;
    for check in &report.checks {
        let state = match check.state {
            State::Good => output.good("good"),
            State::Note => output.faint("note"),
            State::Degraded => output.fair("degraded"),
            State::Blocking => output.bad("blocking"),
        };
        output.line(format_args!("  {state:<9} {:<24} {}", check.title, check.finding))?;
        if let Some(advice) = &check.advice {
            output.line(output.faint(format_args!("  {:<9} {:<24} → {advice}", "", "")))?;
        }
    }
    output.line("")?;
    output.line(output.strong("Kernel programs"))?;
    for probe in &report.probes {
        let usable = if probe.usable { output.good("yes") } else { output.fair("no") };
        output.line(format_args!("  {usable:<4} {:<7} {:<17} {}", probe.rung, probe.name, probe.purpose))?;
    }
    output.line("")?;
    match (report.rung, report.obstacle) {
        (Some(rung), _) => {
            let limits = if report.is_degraded() { ", degraded as said above" } else { "" };
            output.line(format_args!("The monitor can run on the {} rung{limits}.", output.strong(rung)))
        }
        (None, Some(Obstacle::Privilege)) => output.line(output.bad("The monitor cannot run: privileges are missing.")),
        (None, _) => output.line(output.bad("The monitor cannot run on this system.")),
    }
}
