//! `egresswatch coverage`: what is seen on this host, and what is not.

use std::path::Path;

use super::{Error, Output, Status, args::CoverageArguments};
use crate::{
    config::Config,
    coverage::{Features, Group, Report, RowReport, Sight},
    doctor::Facts,
};

/// Prints the table for this host.
pub(super) fn execute(arguments: &CoverageArguments, output: &mut Output<'_>) -> Result<Status, Error> {
    // A wrong configuration is the business of `check`; what is seen does not depend on it.
    let config = Config::load(None).map(|(config, _)| config).unwrap_or_default();
    let facts = Facts::read(&config);
    // Who asks may lack the privilege to run the monitor: the table is about the host.
    let report = Report::new(
        &facts.system.kernel_release,
        facts.can_run().then(|| facts.rung()),
        &Features::read(Path::new("/proc")),
    );
    if arguments.json {
        output.json(&report)?;
    } else {
        print(&report, output)?;
    }
    Ok(Status::Success)
}

/// Prints the table for people.
pub(super) fn print(report: &Report, output: &mut Output<'_>) -> std::io::Result<()> {
    let Report { version, kernel, .. } = report;
    let rung = report.rung.map_or_else(|| "the monitor cannot run here".to_owned(), |rung| format!("{rung} rung"));
    output.line(output.strong(format_args!("EgressWatch {version} on Linux {kernel}: {rung}")))?;
    for group in Group::ALL {
        output.line("")?;
        output.line(output.strong(group.title()))?;
        for row in report.rows.iter().filter(|row| row.group == group) {
            print_row(row, output)?;
        }
    }
    output.line("")?;
    output.line(output.strong("Never seen"))?;
    for limit in &report.limits {
        output.line(format_args!("  {:<9} {:<22} {}", "", limit.token, limit.what))?;
    }
    Ok(())
}

fn print_row(row: &RowReport, output: &mut Output<'_>) -> std::io::Result<()> {
    let state = match (row.absent, row.here) {
        (Some(_), _) => output.faint("absent"),
        (None, None) => output.faint("-"),
        (None, Some(Sight::Seen)) => output.good("seen"),
        (None, Some(Sight::Partly(_))) => output.fair("in part"),
        (None, Some(Sight::NotSeen(_))) => output.bad("not seen"),
    };
    output.line(format_args!("  {state:<9} {:<22} {}", row.token, row.what))?;
    if let Some(note) = row.absent.or_else(|| row.here.and_then(Sight::note)) {
        output.line(output.faint(format_args!("  {:<9} {:<22} → {note}", "", "")))?;
    }
    Ok(())
}
