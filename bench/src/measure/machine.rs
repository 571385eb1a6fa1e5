//! Where the figures come from.

use std::{fs, thread, time::Duration};

use crate::{clock::monotonic_ns, programs, results::Machine};

/// Describes this machine; `date` and `commit` are the caller's.
pub(crate) fn describe(date: String, commit: String) -> Machine {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        text.lines().find_map(|line| {
            line.strip_prefix(name)?.trim_start().strip_prefix(':').map(|value| value.trim().to_owned())
        })
    };
    let kilobytes = field(&read("/proc/meminfo"), "MemTotal")
        .and_then(|value| value.split_whitespace().next()?.parse::<u64>().ok())
        .unwrap_or(0);
    Machine {
        processor: field(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| "unknown".to_owned()),
        cpus: thread::available_parallelism().map_or(1, usize::from),
        memory_bytes: kilobytes * 1024,
        kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        date,
        commit,
        busy_percent: busy_percent(),
        other_monitors: programs::others("connect4"),
    }
}

/// CPU that all processes used over three seconds, in percent of one core.
fn busy_percent() -> f64 {
    let (before, start_ns) = (busy_ns(), monotonic_ns());
    thread::sleep(Duration::from_secs(3));
    busy_ns().saturating_sub(before) as f64 / (monotonic_ns() - start_ns) as f64 * 100.0
}

/// CPU time of all processors that was neither idle nor waiting, in ns.
fn busy_ns() -> u64 {
    /// `/proc/stat` counts in `USER_HZ`, which is 100 on every architecture that Rust's standard library knows.
    const TICK_NS: u64 = 10_000_000;
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let ticks = |line: &str| -> u64 {
        // user, nice, system, idle, iowait, irq, softirq, steal; guest time is part of user time.
        let fields: Vec<u64> = line.split_whitespace().skip(1).take(8).filter_map(|word| word.parse().ok()).collect();
        fields.iter().enumerate().filter(|(place, _)| !matches!(place, 3 | 4)).map(|(_, ticks)| ticks).sum()
    };
    text.lines().next().map_or(0, ticks) * TICK_NS
}
