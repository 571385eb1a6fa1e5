//! How long each kernel program runs, by load.

use anyhow::Result;

use super::Bench;
use crate::{
    daemon::{Daemon, Options},
    programs::{Timing, runs_of},
    results::Programs,
    say,
};

/// Measures every program under every load.
pub(crate) fn measure(bench: &Bench<'_>) -> Result<Programs> {
    let (_timing, clock_ns) = Timing::start_measured()?;
    let mut programs = Programs { clock_ns, ..Programs::default() };
    say(&format!("taking the time costs {:.0} ns of each run", programs.clock_ns));
    // Only the load's end is watched, so that every run belongs to it.
    let cgroup = Some(bench.ground.cgroup().to_owned());
    let daemon = Daemon::start(bench.daemon, &Options { cgroup, ..Options::default() })?;
    let seconds = bench.choose(2.0, 0.4);
    for (name, _, load) in bench.loads(seconds).chain(bench.further_loads(seconds)) {
        let before = runs_of(&daemon)?;
        let done = bench.ground.run(&load)?;
        let mut runs = runs_of(&daemon)?;
        for (program, runs) in &mut runs {
            *runs = runs.since(before.get(program).copied().unwrap_or_default());
        }
        // What the rest of the host did meanwhile is no figure.
        runs.retain(|_, runs| runs.count >= done.operations / 100);
        let line: Vec<_> =
            runs.iter().map(|(program, runs)| format!("{program} {:.0} ns × {}", runs.each_ns(), runs.count)).collect();
        say(&format!("{name} ({} operations): {}", done.operations, line.join(", ")));
        programs.runs.insert(name.to_owned(), runs);
        programs.operations.insert(name.to_owned(), done.operations);
    }
    daemon.stop()?;
    Ok(programs)
}
