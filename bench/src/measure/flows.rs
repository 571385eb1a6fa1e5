//! Many flows at a time: what they take, and whether the programs get slower.

use std::{collections::BTreeMap, net::Ipv4Addr, thread, time::Duration};

use anyhow::{Context as _, Result, bail};

use super::{Bench, ORDINARY};
use crate::{
    clock::monotonic_ns,
    daemon::{Daemon, Memory, Options},
    load::{Addresses, Load},
    programs::{Runs, Timing, runs_of},
    records::{in_words, losses},
    results::LiveFlows,
    say,
};

/// New flows a second: what the monitor keeps up with, so that nothing has to be read from the table again.
const PER_SECOND: f64 = 40_000.0;
/// Most samples of the memory until it rests.
const SAMPLES_MAX: usize = 60;

/// Entries of the table for the steps: room for the most flows.
const TABLE_ENTRIES: u64 = 1 << 21;
/// Entries of the table by default.
const DEFAULT_TABLE_ENTRIES: u64 = 1 << 15;

/// Measures 0, 10,000, 100,000 and 1,000,000 flows: one unconnected UDP socket each time, to as many destinations. Then
/// 100,000 with the table of the default size, which cannot hold them.
pub(crate) fn measure(bench: &Bench<'_>) -> Result<Vec<LiveFlows>> {
    let _timing = Timing::start()?;
    let counts: &[u64] = if bench.quick { &[0, 10_000, 100_000] } else { &[0, 10_000, 100_000, 1_000_000] };
    let mut steps = fill(bench, TABLE_ENTRIES, counts)?;
    steps.extend(fill(bench, DEFAULT_TABLE_ENTRIES, &[100_000])?);
    Ok(steps)
}

/// Opens flows up to each of these counts under one monitor.
fn fill(bench: &Bench<'_>, table_entries: u64, counts: &[u64]) -> Result<Vec<LiveFlows>> {
    let options = Options {
        cgroup: Some(bench.ground.cgroup().to_owned()),
        kernel: format!("flow_table_entries = {table_entries}"),
        // The flows have to stay for as long as the measurement takes.
        sections: "[flows]\nidle = \"1h\"".to_owned(),
        ..Options::default()
    };
    let daemon = Daemon::start(bench.daemon, &options)?;
    let (mut steps, mut ends_ns, mut holders) = (Vec::new(), Vec::new(), Vec::new());
    let mut flows = 0_u64;
    for &wanted in counts {
        let count = u32::try_from(wanted - flows)?;
        if count > 0 {
            let first = Ipv4Addr::from_bits(Ipv4Addr::new(9, 0, 0, 0).to_bits() + u32::try_from(flows)?);
            let (done, holder) = bench.ground.hold(&Load::Destinations { first, count, per_second: PER_SECOND })?;
            if done.operations != u64::from(count) {
                bail!("only {} of {count} datagrams went out", done.operations);
            }
            holders.push(holder);
        }
        flows = wanted;
        let memory = memory_at_rest(&daemon)?;
        let (connect, packet) = connect_runs(bench, &daemon, ORDINARY)?;
        let (connect_ns, packet_ns) = (connect.each_ns(), packet.each_ns());
        steps.push(LiveFlows { flows, table_entries, losses_told: BTreeMap::new(), memory, connect_ns, packet_ns });
        ends_ns.push(monotonic_ns());
    }
    drop(holders);
    let lines = daemon.stop()?;
    let mut start_ns = 0;
    for (step, end_ns) in steps.iter_mut().zip(ends_ns) {
        step.losses_told = losses(lines.iter().filter(|line| (start_ns..end_ns).contains(&line.at_ns)))?;
        start_ns = end_ns;
        say(&format!(
            "{} flows, table of {table_entries}: {:.1} MB resident, {:.1} MB in maps; connect4 {:.0} ns, packet_out {:.0} \
             ns; losses told: {}",
            step.flows,
            step.memory.resident_bytes as f64 / 1e6,
            step.memory.maps_bytes as f64 / 1e6,
            step.connect_ns,
            step.packet_ns,
            in_words(&step.losses_told),
        ));
    }
    Ok(steps)
}

/// Waits until the monitor has taken in what there is: three samples in a row that hardly differ.
pub(crate) fn memory_at_rest(daemon: &Daemon) -> Result<Memory> {
    let mut last = daemon.memory()?;
    let mut resting = 0;
    for _ in 0..SAMPLES_MAX {
        thread::sleep(Duration::from_millis(700));
        let now = daemon.memory()?;
        let rests = now.resident_bytes.abs_diff(last.resident_bytes) <= last.resident_bytes / 200;
        resting = if rests { resting + 1 } else { 0 };
        last = now;
        if resting == 3 {
            break;
        }
    }
    Ok(last)
}

/// Time of `connect4` and `packet_out` while connections to `to` are made.
pub(crate) fn connect_runs(bench: &Bench<'_>, daemon: &Daemon, to: Addresses) -> Result<(Runs, Runs)> {
    let before = runs_of(daemon)?;
    bench.ground.run(&Load::Connect { to, seconds: bench.choose(1.0, 0.4) })?;
    let after = runs_of(daemon)?;
    let of = |name: &str| -> Result<Runs> {
        let after = after.get(name).with_context(|| format!("no program {name}"))?;
        Ok(after.since(before.get(name).copied().unwrap_or_default()))
    };
    Ok((of("connect4")?, of("packet_out")?))
}
