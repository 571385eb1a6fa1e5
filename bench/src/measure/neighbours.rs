//! Other tools under the same load: what they tell of it, and what they take. Each runs where it sees the load, with the
//! output that it has for programs; what is not installed is skipped and said so.

mod tools;

use std::{thread, time::Duration};

use anyhow::Result;

use super::{Bench, ORDINARY};
use crate::{
    clock::monotonic_ns,
    daemon::{Daemon, Options},
    load::{Done, Load},
    records::{number, text},
    results::{Neighbour, Observation, Outcome},
    say,
    serve::CONNECTION_PORT,
};
use tools::Tool;

/// Bytes that each connection sends.
const PAYLOAD_BYTES: usize = 32;
/// Connections a second: a rate that every tool may be expected to keep up with.
const PER_SECOND: f64 = 1_000.0;
/// How long a tool may take to start, and then to tell the last of what it saw: those that show a picture of each second
/// need two of them.
const SETTLE: Duration = Duration::from_secs(3);

/// Measures this monitor and each neighbour, one after the other.
pub(crate) fn measure(bench: &Bench<'_>) -> Result<Vec<Neighbour>> {
    let load = Load::Rate {
        per_second: PER_SECOND,
        seconds: bench.choose(10.0, 3.0),
        threads: 1,
        ordinary: ORDINARY,
        flagged: Vec::new(),
        bytes: PAYLOAD_BYTES,
    };
    let mut neighbours =
        vec![Neighbour { name: "EgressWatch".to_owned(), outcome: Outcome::Measured(ours(bench, &load)?) }];
    for tool in tools::ALL {
        // That somebody else's tool fails is no reason to lose the other figures.
        let outcome = match tool.missing() {
            Some(reason) => Outcome::Skipped(reason),
            None => other(bench, tool, &load)
                .map_or_else(|error| Outcome::Skipped(format!("it failed: {error:#}")), Outcome::Measured),
        };
        neighbours.push(Neighbour { name: tool.name.to_owned(), outcome });
    }
    for neighbour in &neighbours {
        say(&match &neighbour.outcome {
            Outcome::Skipped(reason) => format!("{}: skipped: {reason}", neighbour.name),
            Outcome::Measured(seen) => format!(
                "{}: missed {} of {} connections, told {} of {} bytes; CPU {:.2} %, {:.1} MB resident",
                neighbour.name,
                seen.missed.map_or_else(|| "?".to_owned(), |missed| missed.to_string()),
                seen.made,
                seen.told_bytes,
                seen.sent_bytes,
                seen.cpu_percent,
                seen.resident_bytes as f64 / 1e6
            ),
        });
    }
    Ok(neighbours)
}

fn ours(bench: &Bench<'_>, load: &Load) -> Result<Observation> {
    let options = Options { cgroup: Some(bench.ground.cgroup().to_owned()), flows: true, ..Options::default() };
    let daemon = Daemon::start(bench.daemon, &options)?;
    thread::sleep(SETTLE);
    let (before_ns, start_ns) = (daemon.cpu_ns()?, monotonic_ns());
    let done = bench.ground.run(load)?;
    let cpu_percent = (daemon.cpu_ns()? - before_ns) as f64 / (monotonic_ns() - start_ns) as f64 * 100.0;
    thread::sleep(SETTLE);
    let resident_bytes = daemon.memory()?.resident_bytes;
    let (mut connections, mut told_bytes) = (0, 0);
    for line in daemon.stop()? {
        let record = line.parse()?;
        let ended = text(&record, "/event/action") == Some("flow_ended");
        if ended && number(&record, "/destination/port") == u64::from(CONNECTION_PORT) {
            connections += 1;
            told_bytes += number(&record, "/source/bytes");
        }
    }
    Ok(observation(&done, Some(connections), told_bytes, cpu_percent, resident_bytes))
}

fn other(bench: &Bench<'_>, tool: &Tool, load: &Load) -> Result<Observation> {
    let running = tool.start(&bench.ground)?;
    thread::sleep(SETTLE);
    let (before_ns, start_ns) = (running.cpu_ns()?, monotonic_ns());
    let done = bench.ground.run(load)?;
    let cpu_percent = running.cpu_ns()?.saturating_sub(before_ns) as f64 / (monotonic_ns() - start_ns) as f64 * 100.0;
    thread::sleep(SETTLE);
    let resident_bytes = running.resident_bytes()?;
    let output = running.stop()?;
    let told = (tool.read)(&output);
    Ok(observation(&done, told.connections, told.bytes, cpu_percent, resident_bytes))
}

fn observation(done: &Done, told: Option<u64>, told_bytes: u64, cpu_percent: f64, resident_bytes: u64) -> Observation {
    Observation {
        made: done.operations,
        missed: told.map(|told| done.operations.saturating_sub(told)),
        sent_bytes: done.bytes,
        told_bytes,
        cpu_percent,
        resident_bytes,
    }
}
