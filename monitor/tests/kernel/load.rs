//! Bursts and floods: nothing is lost without being told.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};

use crate::{
    Case,
    support::{
        Connection, Launch, Monitor, Network, Program, Record, Rung, Settings, TcpServer, Traffic, View, is_emulated,
        patience, stop_shared, watch,
    },
};

/// The tests of this file.
pub(crate) const CASES: &[Case] = &[
    Case::new("a_burst_of_a_thousand_connections_is_complete", burst),
    Case::new("twenty_thousand_connections_of_short_lived_processes_are_complete", swarm),
    Case::new("more_open_flows_than_memory_stay_below_its_limit", memory).in_user_space(),
    Case::new("a_flood_costs_no_alert_and_no_total", flood),
];

const REQUEST: u64 = 7;
const REPLY: u64 = 3;

/// Differences shown of those found.
const SHOWN: usize = 5;

fn burst(rung: Rung) -> Result<()> {
    let count: usize = if is_emulated() { 300 } else { 1_000 };
    let network = Network::new()?;
    let server = TcpServer::start(&network, REQUEST, REPLY)?;
    let remote = SocketAddr::new("8.8.4.4".parse()?, server.port);
    let program = Program::new("burst")?;
    watch(rung, |view| {
        let traffic =
            Traffic::Tcp { to: remote, connections: count as u64, send: REQUEST, receive: REPLY, hold: false };
        let pid = Launch::inside(&network).run(&program, &traffic)?.pid;
        let ends = ends_to(&view, remote, count)?;
        compare(&ends, &server.finish())?;
        let wrong = ends
            .iter()
            .find(|end| end.executable() != Some(program.name()) || end.number("/process/pid") != Some(u64::from(pid)));
        ensure!(
            wrong.is_none(),
            "not {} as {pid}: {}",
            program.name(),
            wrong.map_or_else(String::new, |end| end.pretty())
        );
        no_final_loss(&view)
    })
}

/// 200 processes of ten executables make 100 connections each, to a flagged and to an ordinary address.
fn swarm(rung: Rung) -> Result<()> {
    let (processes, connections) = if is_emulated() { (20, 100) } else { (200, 100) };
    let network = Network::new()?;
    let programs = (0..if is_emulated() { 3 } else { 10 })
        .map(|number| Program::new(&format!("swarm-{number}")))
        .collect::<Result<Vec<_>>>()?;
    let starter = Program::new("starter")?;
    for address in ["8.8.4.4", "120.232.0.9"] {
        let server = TcpServer::start(&network, REQUEST, REPLY)?;
        let remote = SocketAddr::new(address.parse()?, server.port);
        let made = processes * connections;
        watch(rung, |view| {
            let traffic = Traffic::Swarm {
                programs: programs.iter().map(|program| program.path.clone()).collect(),
                times: processes,
                parallel: 8,
                traffic: Box::new(Traffic::Tcp {
                    to: remote,
                    connections: connections as u64,
                    send: REQUEST,
                    receive: REPLY,
                    hold: false,
                }),
            };
            let pids = Launch::inside(&network).run(&starter, &traffic)?.facts.processes;
            let ends = ends_to(&view.within(patience() * 4), remote, made)?;
            let losses = view.losses();
            show(&format!("{rung}: {address}: made {made}, reported {}, losses told {losses:?}", ends.len()));
            compare(&ends, &server.finish())?;
            // The starter cycles through the programs in order.
            let of_process: BTreeMap<u64, &Program> =
                pids.iter().map(|pid| u64::from(*pid)).zip(programs.iter().cycle()).collect();
            ensure!(of_process.len() == processes, "process ids were used again: {} of {processes}", of_process.len());
            for end in &ends {
                let pid = end.number("/process/pid").with_context(|| format!("no process: {}", end.pretty()))?;
                let program = of_process.get(&pid).with_context(|| format!("a stranger: {}", end.pretty()))?;
                ensure!(end.executable() == Some(program.name()), "not {}: {}", program.name(), end.pretty());
            }
            no_final_loss(&view)
        })?;
    }
    Ok(())
}

/// The smallest ring overflows, and the monitor says so; the alert has a ring of its own, and the totals are read from
/// the flow table.
fn flood(rung: Rung) -> Result<()> {
    let (processes, connections) = if is_emulated() { (4, 250) } else { (8, 1_000) };
    let network = Network::new()?;
    let server = TcpServer::start(&network, REQUEST, REPLY)?;
    let remote = SocketAddr::new("8.8.4.4".parse()?, server.port);
    let flagged_server = TcpServer::start(&network, REQUEST, REPLY)?;
    let flagged = SocketAddr::new("120.232.0.1".parse()?, flagged_server.port);
    let starter = Program::new("starter")?;
    let ordinary = Program::new("ordinary")?;
    let culprit = Program::new("culprit")?;
    let monitor = Monitor::start(rung, Settings { kernel: "flow_ring_size = \"64KiB\"", ..Settings::default() })?;
    let view = monitor.view();
    let flood = Traffic::Swarm {
        programs: vec![ordinary.path.clone()],
        times: processes,
        parallel: processes,
        traffic: Box::new(Traffic::Tcp { to: remote, connections, send: REQUEST, receive: REPLY, hold: false }),
    };
    let quiet = Traffic::Tcp { to: flagged, connections: 1, send: REQUEST, receive: REPLY, hold: false };
    let launch = Launch::inside(&network);
    std::thread::scope(|scope| {
        let flooding = scope.spawn(|| launch.run(&starter, &flood));
        std::thread::sleep(Duration::from_millis(100));
        launch.run(&culprit, &quiet)?;
        view.one("the alert", |record| record.is_alert() && record.executable() == Some(culprit.name()))?;
        flooding.join().map_err(|_| anyhow::anyhow!("the flood panicked"))?
    })?;
    let made = processes * usize::try_from(connections)?;
    let ends = ends_to(&view.within(patience() * 2), remote, made)?;
    let losses = view.losses();
    show(&format!("{rung}: flood: made {made}, reported {}, losses told {losses:?}", ends.len()));
    compare(&ends, &server.finish())?;
    let wrong = ends.iter().find(|end| end.executable() != Some(ordinary.name()));
    ensure!(wrong.is_none(), "not {}: {}", ordinary.name(), wrong.map_or_else(String::new, |end| end.pretty()));
    ensure!(losses.iter().any(|(reason, _)| reason == "flow_ring_full"), "the ring never was full: {losses:?}");
    no_final_loss(&view)?;
    monitor.stop().map(drop)
}

/// Two hundred thousand flows are open at once, where the limit has room for a part of them: the monitor stays below it,
/// says that it keeps fewer, alerts on the flagged one among them, and at their end has the totals of each.
fn memory(rung: Rung) -> Result<()> {
    const BYTES: u64 = 21;
    const LIMIT_BYTES: u64 = 96 << 20;
    let count: u32 = 200_000;
    // It would report all of them as well, and what it said so far takes memory, of which guests have little.
    stop_shared()?;
    let network = Network::new()?;
    // Nobody reads what arrives: what counts is what was sent.
    let port = network.port();
    let server = TcpServer::start(&network, REQUEST, REPLY)?;
    let flagged = SocketAddr::new("120.232.0.1".parse()?, server.port);
    let (many, culprit) = (Program::new("many")?, Program::new("culprit")?);
    let settings = "flow_table_entries = 262144\n[limits]\nmemory = \"96MiB\"";
    let monitor = Monitor::start(rung, Settings { kernel: settings, ..Settings::default() })?;
    let view = monitor.view();
    let started = monitor.peak_memory_bytes()?;
    let traffic = Traffic::UdpFanOut { first: "8.0.0.1".parse()?, count, port, send: BYTES, hold: true };
    let open = Launch::inside(&network).start(&many, &traffic)?;
    let quiet = Traffic::Tcp { to: flagged, connections: 1, send: REQUEST, receive: REPLY, hold: false };
    Launch::inside(&network).run(&culprit, &quiet)?;
    view.one("the alert", |record| record.is_alert() && record.executable() == Some(culprit.name()))?;
    view.one("that it keeps fewer flows", |record| record.text("/egresswatch/loss/reason") == Some("live_flows_full"))?;
    let live = monitor.live_flows()?.len();
    ensure!(live > 0 && live < count as usize, "{live} live flows told");
    let while_open = monitor.peak_memory_bytes()?;
    open.finish()?;
    let ends = view.within(patience() * 6).many(count as usize, "the end of each flow", |record| {
        record.is_flow_end() && record.executable() == Some(many.name())
    })?;
    let at_end = monitor.peak_memory_bytes()?;
    show(&format!(
        "{rung}: {count} open flows, {live} kept; peak memory {} MiB at the start, {} while open, {} at the end",
        started >> 20,
        while_open >> 20,
        at_end >> 20
    ));
    let remotes: std::collections::BTreeSet<_> = ends.iter().filter_map(|end| end.remote()).collect();
    ensure!(
        ends.len() == count as usize && remotes.len() == ends.len(),
        "{} ends of {} flows",
        ends.len(),
        remotes.len()
    );
    let wrong = ends.iter().find(|end| end.bytes() != (Some(BYTES), Some(0)));
    ensure!(wrong.is_none(), "{}", wrong.map_or_else(String::new, |end| end.pretty()));
    ensure!(at_end < LIMIT_BYTES, "{at_end} bytes were resident, {started} of them at the start");
    monitor.stop().map(drop)
}

/// The last records of `count` flows to `remote`, whoever made them.
pub(crate) fn ends_to(view: &View<'_>, remote: SocketAddr, count: usize) -> Result<Vec<Arc<Record>>> {
    let to_remote = |record: &Record| record.is_egress() && record.remote() == Some(remote);
    view.many(count, &format!("the end of each flow to {remote}"), |record| record.is_flow_end() && to_remote(record))
        .with_context(|| match view.monitor.live_flows() {
            Ok(flows) => {
                let open: Vec<_> = flows.iter().filter(|flow| to_remote(flow)).map(Record::pretty).collect();
                format!("flows still open in the monitor's eyes: {}\n{}", open.len(), open.join("\n"))
            }
            Err(error) => format!("the open flows cannot be had: {error:#}"),
        })
}

/// Compares what was reported with what the server saw, connection by connection.
pub(crate) fn compare(ends: &[Arc<Record>], made: &[Connection]) -> Result<()> {
    let mut ids = BTreeMap::new();
    for end in ends {
        *ids.entry(end.text("/egresswatch/flow/id").unwrap_or_default()).or_insert(0_usize) += 1;
    }
    let repeated: Vec<_> = ids.iter().filter(|(_, count)| **count > 1).take(SHOWN).collect();
    // A client's port may be used again: how often a combination is there matters.
    let mut balance: BTreeMap<_, i64> = BTreeMap::new();
    for one in made {
        *balance.entry((one.client.port(), Some(one.received), Some(one.sent))).or_default() += 1;
    }
    for end in ends {
        let local = end.local().with_context(|| format!("no local end: {}", end.pretty()))?;
        let (out, back) = end.bytes();
        *balance.entry((local.port(), out, back)).or_default() -= 1;
    }
    let differing = |sign: i64| balance.iter().filter(move |(_, count)| count.signum() == sign).take(SHOWN);
    let missing: Vec<_> = differing(1).collect();
    let invented: Vec<_> = differing(-1).collect();
    ensure!(
        ends.len() == made.len() && repeated.is_empty() && missing.is_empty() && invented.is_empty(),
        "{} connections were made, {} flows reported\nreported more than once: {repeated:?}\nmade and not reported \
         (client port, bytes out, bytes in): {missing:?}\nreported and not made: {invented:?}",
        made.len(),
        ends.len()
    );
    Ok(())
}

/// Losses that nothing makes up for.
pub(crate) fn no_final_loss(view: &View<'_>) -> Result<()> {
    let final_losses = view.now(Record::is_final_loss);
    let told: Vec<_> = final_losses.iter().map(|loss| loss.summary()).collect();
    ensure!(told.is_empty(), "{told:?}");
    Ok(())
}

/// The figures that a reader of the log wants to see even if all is well.
fn show(line: &str) {
    eprintln!("    {line}");
}
