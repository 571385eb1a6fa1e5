//! Connections at a given rate: how soon an alert comes, what the monitor uses, and whether anything is missed.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use egresswatch::ownership::Table;

use super::{Bench, ORDINARY};
use crate::{
    clock::monotonic_ns,
    daemon::{Daemon, Line, Options},
    load::{Done, Load},
    records::{in_words, is_of, losses, number, text},
    results::{Rate, WithFlows},
    say,
    serve::CONNECTION_PORT,
    statistics::Latencies,
};

/// Bytes that each connection sends.
const PAYLOAD_BYTES: usize = 32;
/// Most alerts of a run: each is about an owner of its own, and the monitor remembers 4,096 contacts.
const PROBES_MAX: usize = 2_000;

/// Measures 10, 1,000 and 20,000 connections a second.
pub(crate) fn measure(bench: &Bench<'_>) -> Result<Vec<Rate>> {
    let owners = flagged_owners()?;
    let mut rates = Vec::new();
    for (asked, seconds, threads) in [(10.0, 20.0, 1), (1_000.0, 10.0, 1), (20_000.0, 10.0, 2)] {
        let seconds = bench.choose(seconds, 3.0);
        let connections = (asked * seconds) as usize;
        // Up to every second connection is to somebody new; the rest is the traffic that hides it.
        let probes = if asked < 100.0 { connections } else { connections / 5 }.min(PROBES_MAX);
        let flagged: Vec<Ipv4Addr> = owners.iter().copied().cycle().take(probes.min(owners.len())).collect();
        let load = |flagged| Load::Rate {
            per_second: asked,
            seconds,
            threads,
            ordinary: ORDINARY,
            flagged,
            bytes: PAYLOAD_BYTES,
        };
        let quiet = observe(bench, &load(Vec::new()), false)?;
        let alerts = observe(bench, &load(flagged), false)?;
        let flows = observe(bench, &load(Vec::new()), true)?;
        let (latency, alerts_missed) = latencies(&alerts.done, &alerts.lines)?;
        let rate = Rate {
            asked,
            made: quiet.done.rate(),
            cpu_percent: quiet.cpu_percent,
            threads_cpu_percent: quiet.threads_cpu_percent,
            latency,
            alerts_missed,
            alerts_cpu_percent: alerts.cpu_percent,
            with_flows: account(&flows)?,
            alerts: alerts.done.attempts.len() as u64,
        };
        say(&format!(
            "{asked:.0}/s: made {:.0}/s; alert after {}; {} of {} missed; CPU {:.2} %, with alerts {:.2} %, with flows {:.2} %; flows missed {}, \
             bytes wrong {}; losses told: {}; threads {:?}",
            rate.made,
            rate.latency.map_or_else(
                || "-".to_owned(),
                |latency| format!("{:.2}/{:.2}/{:.2} ms", latency.p50_ms, latency.p99_ms, latency.max_ms)
            ),
            rate.alerts_missed,
            rate.alerts,
            rate.cpu_percent,
            rate.alerts_cpu_percent,
            rate.with_flows.cpu_percent,
            rate.with_flows.missed,
            rate.with_flows.bytes_wrong,
            in_words(&rate.with_flows.losses_told),
            rate.threads_cpu_percent,
        ));
        rates.push(rate);
    }
    Ok(rates)
}

/// A run under load.
pub(crate) struct Observed {
    /// What the load did.
    pub(crate) done: Done,
    /// What the monitor wrote.
    pub(crate) lines: Vec<Line>,
    /// What it used while the load ran, in percent of one core.
    pub(crate) cpu_percent: f64,
    threads_cpu_percent: BTreeMap<String, f64>,
}

/// Runs a load under a monitor that watches the load's end.
pub(crate) fn observe(bench: &Bench<'_>, load: &Load, flows: bool) -> Result<Observed> {
    let cgroup = Some(bench.ground.cgroup().to_owned());
    let daemon = Daemon::start(bench.daemon, &Options { cgroup, flows, ..Options::default() })?;
    let (cpu_before_ns, threads_before, start_ns) = (daemon.cpu_ns()?, daemon.cpu_by_thread_ns()?, monotonic_ns());
    let done = bench.ground.run(load)?;
    let elapsed_ns = (monotonic_ns() - start_ns) as f64;
    let cpu_percent = (daemon.cpu_ns()? - cpu_before_ns) as f64 / elapsed_ns * 100.0;
    let threads_cpu_percent = daemon
        .cpu_by_thread_ns()?
        .into_iter()
        .map(|(name, cpu_ns)| {
            let used_ns = cpu_ns.saturating_sub(threads_before.get(&name).copied().unwrap_or(0));
            (name, used_ns as f64 / elapsed_ns * 100.0)
        })
        .collect();
    // The server may not have closed its side of the last connections yet, and then they have not ended.
    thread::sleep(Duration::from_millis(500));
    Ok(Observed { done, lines: daemon.stop()?, cpu_percent, threads_cpu_percent })
}

/// How long after its attempt each flagged connection's alert came, and how many never came.
fn latencies(done: &Done, lines: &[Line]) -> Result<(Option<Latencies>, u64)> {
    let mut attempts: BTreeMap<Ipv4Addr, u64> = done.attempts.iter().copied().collect();
    let mut latencies_ns = Vec::new();
    for line in lines {
        let record = line.parse()?;
        if !is_of(&record, "egresswatch.alert") {
            continue;
        }
        let address = text(&record, "/destination/ip").and_then(|address| address.parse().ok());
        // Only the first alert of a contact is about its attempt.
        if let Some(attempted_ns) = address.and_then(|address: Ipv4Addr| attempts.remove(&address)) {
            latencies_ns.push(line.at_ns.saturating_sub(attempted_ns));
        }
    }
    Ok((Latencies::of_ns(&latencies_ns), attempts.len() as u64))
}

/// Compares what was written with what was done.
pub(crate) fn account(observed: &Observed) -> Result<WithFlows> {
    let (mut ended, mut bytes_wrong) = (BTreeSet::new(), 0);
    for line in &observed.lines {
        let record = line.parse()?;
        let ours = text(&record, "/event/action") == Some("flow_ended")
            && number(&record, "/destination/port") == u64::from(CONNECTION_PORT);
        if ours {
            ended.insert(text(&record, "/egresswatch/flow/id").context("a flow without an id")?.to_owned());
            bytes_wrong += number(&record, "/source/bytes").abs_diff(PAYLOAD_BYTES as u64);
        }
    }
    Ok(WithFlows {
        made: observed.done.rate(),
        cpu_percent: observed.cpu_percent,
        missed: observed.done.operations.saturating_sub(ended.len() as u64),
        bytes_wrong,
        losses_told: losses(&observed.lines)?,
    })
}

/// One address of each network registered in a country that an embedded list names: each is a contact of its own.
fn flagged_owners() -> Result<Vec<Ipv4Addr>> {
    let table = Table::embedded().context("cannot read the ownership table")?;
    let mut seen = BTreeSet::new();
    let mut addresses = Vec::new();
    for prefix in table.prefixes_of(|facts| facts.as_country.is_some_and(|country| country.as_str() == "CN")).v4 {
        let address = Ipv4Addr::from_bits(prefix.network().to_bits() | 1);
        if table.facts(address.into()).asn.is_some_and(|asn| seen.insert(asn)) {
            addresses.push(address);
        }
    }
    Ok(addresses)
}
