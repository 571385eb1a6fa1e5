//! A host on which nothing of ours happens, and the time a start takes.

use std::{thread, time::Duration};

use anyhow::{Context as _, Result};

use super::Bench;
use crate::{
    clock::monotonic_ns,
    daemon::{Daemon, Options},
    results::Idle,
    say,
    statistics::Spread,
};

/// CPU and memory of a monitor of the whole host, as it is configured by default, that has nothing to do. What the host does by itself is part of it.
pub(crate) fn measure(bench: &Bench<'_>) -> Result<Idle> {
    let daemon = Daemon::start(bench.daemon, &Options::default())?;
    // What follows the start is no idleness yet.
    thread::sleep(Duration::from_secs(2));
    let (cpu_before_ns, start_ns) = (daemon.cpu_ns()?, monotonic_ns());
    thread::sleep(Duration::from_secs(bench.choose(20, 3)));
    let elapsed_ns = (monotonic_ns() - start_ns) as f64;
    let cpu_percent = (daemon.cpu_ns()? - cpu_before_ns) as f64 / elapsed_ns * 100.0;
    let memory = daemon.memory()?;
    daemon.stop()?;
    say(&format!(
        "idle: {cpu_percent:.3} % of a core; {:.1} MB resident, {:.1} MB in maps",
        memory.resident_bytes as f64 / 1e6,
        memory.maps_bytes as f64 / 1e6
    ));
    Ok(Idle { cpu_percent, seconds: elapsed_ns / 1e9, memory })
}

/// From the start of the process to its word that it watches, in ms.
pub(crate) fn start(bench: &Bench<'_>) -> Result<Spread> {
    let mut starts_ms = Vec::new();
    for _ in 0..bench.choose(9, 3) {
        let daemon = Daemon::start(bench.daemon, &Options::default())?;
        starts_ms.push(daemon.start.as_secs_f64() * 1e3);
        daemon.stop()?;
    }
    let spread = Spread::of(&starts_ms).context("no start")?;
    say(&format!("start: {:.0} ms ({:.0} to {:.0})", spread.median, spread.lowest, spread.highest));
    Ok(spread)
}
