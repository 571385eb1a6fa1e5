//! Loads with and without the monitor, in alternating rounds.

use anyhow::{Context as _, Result};

use super::Bench;
use crate::{
    daemon::{Daemon, Options},
    empty::EmptyPrograms,
    load::{Done, Load},
    results::{Change, Overhead},
    say,
    statistics::{Spread, change_percent},
};

/// One load's outcome in one round.
struct Round {
    without: Sample,
    empty_programs: Sample,
    one_end: Sample,
    both_ends: Sample,
}

#[derive(Clone, Copy, Default)]
struct Sample {
    rate: f64,
    cpu_ns: f64,
    daemon_ns: f64,
}

/// What is watched, and by whom.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    Nothing,
    /// One end, by programs that do nothing.
    EmptyPrograms,
    OneEnd,
    BothEnds,
}

/// Measures every load.
pub(crate) fn measure(bench: &Bench<'_>) -> Result<Vec<Overhead>> {
    let rounds = bench.choose(7, 2);
    let mut overheads = Vec::new();
    for (name, unit, load) in bench.loads(bench.choose(1.0, 0.4)) {
        // The first run pays for caches that the others find warm.
        bench.ground.run(&load)?;
        let rounds = (0..rounds).map(|round| measure_round(bench, &load, round)).collect::<Result<Vec<_>>>()?;
        let overhead = summarise(name, unit, &rounds).context("no rounds")?;
        say(&format!(
            "{name}: {:.0}/s without; empty programs {:+.1} %, one end {:+.1} %, both ends {:+.1} %; CPU {:+.1} %, {:+.1} %, \
             {:+.1} %",
            overhead.without_rate.median,
            overhead.empty_programs.rate_percent.median,
            overhead.one_end.rate_percent.median,
            overhead.both_ends.rate_percent.median,
            overhead.empty_programs.cpu_percent.median,
            overhead.one_end.cpu_percent.median,
            overhead.both_ends.cpu_percent.median,
        ));
        overheads.push(overhead);
    }
    Ok(overheads)
}

/// The order turns from round to round, so that a machine that gets slower favours nobody.
fn measure_round(bench: &Bench<'_>, load: &Load, round: usize) -> Result<Round> {
    let mut order = [Scope::Nothing, Scope::EmptyPrograms, Scope::OneEnd, Scope::BothEnds];
    order.rotate_left(round % 4);
    if round % 2 == 1 {
        order.reverse();
    }
    let nothing = Sample::default();
    let mut result = Round { without: nothing, empty_programs: nothing, one_end: nothing, both_ends: nothing };
    for scope in order {
        let sample = run_in(bench, load, scope)?;
        match scope {
            Scope::Nothing => result.without = sample,
            Scope::EmptyPrograms => result.empty_programs = sample,
            Scope::OneEnd => result.one_end = sample,
            Scope::BothEnds => result.both_ends = sample,
        }
    }
    Ok(result)
}

fn run_in(bench: &Bench<'_>, load: &Load, scope: Scope) -> Result<Sample> {
    if scope == Scope::Nothing {
        return Ok(sample(&bench.ground.run(load)?, 0));
    }
    if scope == Scope::EmptyPrograms {
        let _programs = EmptyPrograms::attach(bench.ground.cgroup())?;
        return Ok(sample(&bench.ground.run(load)?, 0));
    }
    let cgroup = (scope == Scope::OneEnd).then(|| bench.ground.cgroup().to_owned());
    let daemon = Daemon::start(bench.daemon, &Options { cgroup, ..Options::default() })?;
    let before_ns = daemon.cpu_ns()?;
    let done = bench.ground.run(load)?;
    let sample = sample(&done, daemon.cpu_ns()? - before_ns);
    daemon.stop()?;
    Ok(sample)
}

fn sample(done: &Done, daemon_ns: u64) -> Sample {
    Sample {
        rate: done.rate(),
        cpu_ns: done.cpu_ns_each(),
        daemon_ns: daemon_ns as f64 / done.operations.max(1) as f64,
    }
}

fn summarise(name: &str, unit: &str, rounds: &[Round]) -> Option<Overhead> {
    let change = |with: fn(&Round) -> Sample| {
        Some(Change {
            rate_percent: change_percent(rounds.iter().map(|round| (round.without.rate, with(round).rate)))?,
            cpu_percent: change_percent(rounds.iter().map(|round| (round.without.cpu_ns, with(round).cpu_ns)))?,
            daemon_ns: Spread::of(&rounds.iter().map(|round| with(round).daemon_ns).collect::<Vec<_>>())?,
        })
    };
    Some(Overhead {
        name: name.to_owned(),
        unit: unit.to_owned(),
        without_rate: Spread::of(&rounds.iter().map(|round| round.without.rate).collect::<Vec<_>>())?,
        without_cpu_ns: Spread::of(&rounds.iter().map(|round| round.without.cpu_ns).collect::<Vec<_>>())?,
        empty_programs: change(|round| round.empty_programs)?,
        one_end: change(|round| round.one_end)?,
        both_ends: change(|round| round.both_ends)?,
    })
}
