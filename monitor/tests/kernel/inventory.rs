//! What is older than the monitor: found when it starts, with its process, and counted from then on.

use std::{
    fs,
    io::{self, Read as _},
    net::SocketAddr,
    path::Path,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    Case, skip,
    support::{
        Launch, Monitor, Network, Program, Record, Rung, Settings, TcpServer, Traffic, UdpServer, View, connected_tcp,
        has_socket_iterator,
    },
};

/// The tests of this file.
pub(crate) const CASES: &[Case] = &[
    Case::new("connections_are_found_at_the_start", |rung| connections(rung, AS_IT_COMES)),
    Case::new("datagram_sockets_are_found_at_the_start", |rung| datagram_sockets(rung, AS_IT_COMES)),
    Case::new("a_listener_is_found_at_the_start", |rung| listener(rung, AS_IT_COMES)),
    Case::new("an_accepted_connection_is_found_at_the_start", |rung| accepted(rung, AS_IT_COMES)),
    Case::new("connections_are_found_by_descriptors", |rung| by_descriptors(rung, connections)),
    Case::new("datagram_sockets_are_found_by_descriptors", |rung| by_descriptors(rung, datagram_sockets)),
    Case::new("a_listener_is_found_by_descriptors", |rung| by_descriptors(rung, listener)),
    Case::new("an_accepted_connection_is_found_by_descriptors", |rung| by_descriptors(rung, accepted)),
    Case::new("without_inventory_the_monitor_says_so", without),
];

/// The best that the kernel has.
const AS_IT_COMES: Settings<'_> = Settings { kernel: "", rest: "" };
/// What kernels before 5.12 and those without type information do.
const BY_DESCRIPTORS: Settings<'_> = Settings { kernel: "inventory = \"descriptors\"", rest: "" };

/// Sent before the monitor starts.
const BEFORE: u64 = 500;
/// Sent while it watches.
const AFTER: u64 = 321;

/// Addresses on a list, one an owner, and not on any.
const FLAGGED: [&str; 2] = ["120.232.0.1", "240e::1"];
const ORDINARY: [&str; 2] = ["8.8.8.8", "2001:4860:4860::8888"];

fn by_descriptors(rung: Rung, test: fn(Rung, Settings<'_>) -> Result<()>) -> Result<()> {
    if !has_socket_iterator() {
        return skip("this kernel has no other way, which the tests without a choice show");
    }
    test(rung, BY_DESCRIPTORS)
}

/// Each in a network namespace of its own, none of them the monitor's.
fn connections(rung: Rung, settings: Settings<'_>) -> Result<()> {
    let mut clients = Vec::new();
    for address in FLAGGED.into_iter().chain(ORDINARY) {
        let network = Network::new()?;
        let server = TcpServer::start(&network, BEFORE + AFTER, 0)?;
        let remote = SocketAddr::new(address.parse()?, server.port);
        let program = Program::new("older-tcp")?;
        let traffic = Traffic::TcpOnCue { to: remote, before: BEFORE, after: AFTER };
        let running = Launch::inside(&network).start(&program, &traffic)?;
        clients.push((remote, program, running, server));
    }
    let monitor = Monitor::start(rung, settings)?;
    ensure_complete(&monitor)?;
    let view = monitor.whole();
    for (remote, program, ..) in &clients {
        let flow = live_flow(&monitor, *remote)?;
        let check = || -> Result<()> {
            ensure!(flow.executable() == Some(program.name()), "another executable than {}", program.name());
            ensure!(flow.number("/egresswatch/flow/out/before_bytes") == Some(BEFORE), "other bytes before");
            ensure!(flow.bytes() == (Some(0), Some(0)), "bytes that were not seen");
            ensure!(flow.texts("/egresswatch/flow/caveats") == ["midstream", "snapshot"], "other caveats");
            ensure!(flow.facts().contains(&"established"), "not established");
            Ok(())
        };
        check().with_context(|| flow.pretty())?;
    }
    for (remote, program, running, _) in &mut clients {
        let is_flagged = FLAGGED.contains(&remote.ip().to_string().as_str());
        if is_flagged {
            let alert = alert(&view, *remote, "established")?;
            ensure!(alert.executable() == Some(program.name()), "{}", alert.pretty());
            let said = alert.text("/message").unwrap_or_default();
            ensure!(said.contains("before the start of the monitor"), "{}", alert.pretty());
        }
        running.cue()?;
        if is_flagged {
            alert(&view, *remote, "sent")?;
        }
    }
    for (remote, program, running, server) in clients {
        running.finish()?;
        let end = flow_end(&view, remote)?;
        let check = || -> Result<()> {
            ensure!(end.executable() == Some(program.name()), "another executable than {}", program.name());
            ensure!(end.bytes() == (Some(AFTER), Some(0)), "other bytes than those since the start");
            ensure!(end.number("/egresswatch/flow/out/before_bytes") == Some(BEFORE), "other bytes before");
            Ok(())
        };
        check().with_context(|| end.pretty())?;
        let made: u64 = server.finish().iter().map(|connection| connection.received).sum();
        ensure!(made == BEFORE + AFTER, "the server got {made} bytes");
    }
    monitor.stop().map(drop)
}

/// Connected ones have a flow; that of the datagram before is not counted, and nothing tells how much it was.
fn datagram_sockets(rung: Rung, settings: Settings<'_>) -> Result<()> {
    let mut clients = Vec::new();
    for address in FLAGGED.into_iter().chain(ORDINARY) {
        let network = Network::new()?;
        let server = UdpServer::start(&network, address.parse()?, None)?;
        let program = Program::new("older-udp")?;
        let traffic = Traffic::UdpOnCue { to: server.address, before: BEFORE, after: AFTER };
        let running = Launch::inside(&network).start(&program, &traffic)?;
        clients.push((program, running, server));
    }
    let monitor = Monitor::start(rung, settings)?;
    ensure_complete(&monitor)?;
    let view = monitor.whole();
    for (program, running, server) in clients {
        let remote = server.address;
        let mut running = running;
        let flow = live_flow(&monitor, remote)?;
        ensure!(flow.executable() == Some(program.name()), "{}", flow.pretty());
        ensure!(flow.text("/egresswatch/flow/out/before_bytes").is_none(), "{}", flow.pretty());
        running.cue()?;
        running.finish()?;
        let end = flow_end(&view, remote)?;
        let check = || -> Result<()> {
            ensure!(end.executable() == Some(program.name()), "another executable than {}", program.name());
            ensure!(end.bytes() == (Some(AFTER), Some(0)), "other bytes than those since the start");
            ensure!(end.texts("/egresswatch/flow/caveats") == ["midstream", "snapshot"], "other caveats");
            Ok(())
        };
        check().with_context(|| end.pretty())?;
        if FLAGGED.contains(&remote.ip().to_string().as_str()) {
            let alert = alert(&view, remote, "sent")?;
            ensure!(alert.executable() == Some(program.name()), "{}", alert.pretty());
        }
    }
    monitor.stop().map(drop)
}

/// What it accepts while the monitor watches belongs to its process.
fn listener(rung: Rung, settings: Settings<'_>) -> Result<()> {
    const REPLY: u64 = 97;
    let network = Network::new()?;
    let at = SocketAddr::new("8.8.4.4".parse()?, network.port());
    let (server, client) = (Program::new("older-listener")?, Program::new("younger-client")?);
    let listen = Traffic::TcpListen { at, receive: AFTER, send: REPLY };
    let mut listening = Launch::inside(&network).start(&server, &listen)?;
    let monitor = Monitor::start(rung, settings)?;
    ensure_complete(&monitor)?;
    let view = monitor.whole();
    listening.cue()?;
    let traffic = Traffic::Tcp { to: at, connections: 1, send: AFTER, receive: REPLY, hold: false };
    Launch::inside(&network).run(&client, &traffic)?;
    let pid = listening.finish()?.pid;
    let end = accepted_end(&view, at)?;
    let check = || -> Result<()> {
        ensure!(end.executable() == Some(server.name()), "another executable than {}", server.name());
        ensure!(end.number("/process/pid") == Some(u64::from(pid)), "another process than {pid}");
        // The opener is the source: this side got what it sent.
        ensure!(end.bytes() == (Some(AFTER), Some(REPLY)), "other bytes");
        Ok(())
    };
    check().with_context(|| end.pretty())?;
    monitor.stop().map(drop)
}

/// What was accepted before is the other side's: it opened it.
fn accepted(rung: Rung, settings: Settings<'_>) -> Result<()> {
    let network = Network::new()?;
    let at = SocketAddr::new("8.8.4.4".parse()?, network.port());
    let client = SocketAddr::new(FLAGGED[0].parse()?, network.port());
    let server = Program::new("older-server")?;
    let listen = Traffic::TcpAccept { at, before: BEFORE, after: AFTER };
    let mut serving = Launch::inside(&network).start(&server, &listen)?;
    let mut stream = network.inside(|| connected_tcp(client, at))?;
    stream.read_exact(&mut vec![0; usize::try_from(BEFORE)?]).context("the greeting is too short")?;
    let monitor = Monitor::start(rung, settings)?;
    ensure_complete(&monitor)?;
    let view = monitor.whole();
    serving.cue()?;
    stream.read_exact(&mut vec![0; usize::try_from(AFTER)?]).context("the rest is too short")?;
    drop(stream);
    let pid = serving.finish()?.pid;
    let end = accepted_end(&view, at)?;
    let check = || -> Result<()> {
        ensure!(end.executable() == Some(server.name()), "another executable than {}", server.name());
        ensure!(end.number("/process/pid") == Some(u64::from(pid)), "another process than {pid}");
        ensure!(end.local() == Some(client), "not from {client}");
        // The opener is the source: this side sent.
        ensure!(end.bytes() == (Some(0), Some(AFTER)), "other bytes");
        ensure!(end.number("/egresswatch/flow/out/before_bytes") == Some(BEFORE), "other bytes before");
        Ok(())
    };
    check().with_context(|| end.pretty())?;
    monitor.stop().map(drop)
}

/// The flow to `remote` among those that the monitor says are open.
fn live_flow(monitor: &Monitor, remote: SocketAddr) -> Result<Record> {
    let flows: Vec<_> = monitor.live_flows()?.into_iter().filter(|flow| flow.remote() == Some(remote)).collect();
    ensure!(flows.iter().filter(|flow| flow.is_egress()).count() == 1, "not one flow to {remote}: {flows:#?}");
    flows.into_iter().find(Record::is_egress).context("no flow")
}

fn alert(view: &View<'_>, remote: SocketAddr, level: &str) -> Result<std::sync::Arc<Record>> {
    view.one(&format!("an alert on {remote} at level {level}"), |record| {
        record.is_alert() && record.remote() == Some(remote) && record.text("/egresswatch/level") == Some(level)
    })
}

fn accepted_end(view: &View<'_>, at: SocketAddr) -> Result<std::sync::Arc<Record>> {
    view.one("the end of the accepted connection", |record| {
        record.is_flow_end() && !record.is_egress() && record.remote() == Some(at)
    })
}

fn flow_end(view: &View<'_>, remote: SocketAddr) -> Result<std::sync::Arc<Record>> {
    let is_end = |record: &Record| record.is_flow_end() && record.is_egress() && record.remote() == Some(remote);
    let end = view.one(&format!("the end of the flow to {remote}"), is_end)?;
    let ends = view.now(is_end).len();
    ensure!(ends == 1, "{ends} flows to {remote}");
    Ok(end)
}

/// It does not say that it left anything out, but for processes that this machine shows to nobody.
fn ensure_complete(monitor: &Monitor) -> Result<()> {
    let tokens = ["no_inventory", "inventory_in_part"];
    let gaps = monitor
        .whole()
        .now(|record| record.text("/egresswatch/degradation/token").is_some_and(|token| tokens.contains(&token)));
    let hidden = hidden_processes()?;
    let allowed = format!(": {hidden} processes do not lend their sockets (Permission denied)");
    for gap in gaps {
        let missing = gap.text("/egresswatch/degradation/missing").unwrap_or_default();
        ensure!(hidden > 0 && missing.ends_with(&allowed), "{hidden} processes are hidden: {}", gap.pretty());
    }
    Ok(())
}

/// Processes whose descriptors even root may not look at. One that ends forbids it too, for a moment.
fn hidden_processes() -> Result<usize> {
    let is_forbidden = |folder: &Path| {
        let Ok(entries) = fs::read_dir(folder.join("fd")) else { return false };
        entries.flatten().any(|entry| {
            fs::read_link(entry.path()).is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
        })
    };
    let mut forbidden: Vec<_> = fs::read_dir("/proc")?.flatten().map(|entry| entry.path()).collect();
    forbidden.retain(|folder| is_forbidden(folder));
    thread::sleep(Duration::from_millis(100));
    forbidden.retain(|folder| is_forbidden(folder));
    Ok(forbidden.len())
}

fn without(rung: Rung) -> Result<()> {
    let network = Network::new()?;
    let server = TcpServer::start(&network, BEFORE + AFTER, 0)?;
    let remote = SocketAddr::new(FLAGGED[0].parse()?, server.port);
    let program = Program::new("older-unfound")?;
    let traffic = Traffic::TcpOnCue { to: remote, before: BEFORE, after: AFTER };
    let mut running = Launch::inside(&network).start(&program, &traffic)?;
    let monitor = Monitor::start(rung, Settings { kernel: "inventory = \"off\"", rest: "" })?;
    let view = monitor.whole();
    view.one("that it finds nothing that is older", |record| {
        record.text("/egresswatch/degradation/token") == Some("no_inventory")
    })?;
    running.cue()?;
    running.finish()?;
    let end = flow_end(&view, remote)?;
    ensure!(end.bytes() == (Some(AFTER), Some(0)), "{}", end.pretty());
    let caveats: &[_] = if rung.tells_senders() { &["midstream"] } else { &["midstream", "process_unknown"] };
    ensure!(end.texts("/egresswatch/flow/caveats") == caveats, "{}", end.pretty());
    let expected = rung.tells_senders().then_some(program.name());
    ensure!(end.executable() == expected, "not {expected:?}: {}", end.pretty());
    monitor.stop().map(drop)
}
