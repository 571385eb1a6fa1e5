//! Start and stop.

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    pty::{OpenptyResult, openpty},
    sys::signal::Signal,
};

use crate::{
    Case,
    support::{
        Launch, Monitor, Network, Program, Rung, Settings, TcpServer, Traffic, loaded_programs, patience, stop_shared,
        watch,
    },
};

/// The tests of this file. The last one ends the monitor that the others shared.
pub(crate) const CASES: &[Case] = &[
    Case::new("nothing_stays_attached_after_a_stop", nothing_stays),
    Case::new("a_connection_older_than_the_monitor_is_counted_from_its_next_send", older_connection),
    Case::new("a_monitor_whose_terminal_is_closed_stops", closed_terminal).in_user_space(),
    Case::new("the_shared_monitor_stops_well", stops_well),
];

/// The kernel frees programs a moment after their last user went.
fn nothing_stays(rung: Rung) -> Result<()> {
    for _ in 0..2 {
        let monitor = Monitor::start(rung, Settings::default())?;
        let own = monitor.loaded_programs()?;
        ensure!(own.len() >= 13, "only {} programs are loaded", own.len());
        monitor.stop()?;
        let deadline = Instant::now() + patience();
        loop {
            let left: Vec<_> = loaded_programs()?.intersection(&own).copied().collect();
            if left.is_empty() {
                break;
            }
            ensure!(Instant::now() < deadline, "programs stay loaded: {left:?}");
            thread::sleep(Duration::from_millis(20));
        }
    }
    Ok(())
}

/// A hang-up asks for a reload while the terminal is there, as it does without one.
fn closed_terminal(rung: Rung) -> Result<()> {
    let OpenptyResult { master, slave } = openpty(None, None)?;
    // The monitor must not hold its terminal open itself.
    fcntl(&master, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    let monitor = Monitor::start_with_input(rung, Settings::default(), slave.into())?;
    let view = monitor.view();
    monitor.signal(Signal::SIGHUP)?;
    view.one("that it reloaded", |record| record.text("/event/action") == Some("policy_reloaded"))?;
    drop(master);
    monitor.stop_by(Signal::SIGHUP).map(drop)
}

/// Connect and send before the monitor starts, send more while it watches. Its bytes are those that it sent from then
/// on.
fn older_connection(rung: Rung) -> Result<()> {
    const BEFORE: u64 = 500;
    const AFTER: u64 = 321;
    let network = Network::new()?;
    let server = TcpServer::start(&network, BEFORE + AFTER, 0)?;
    let remote = SocketAddr::new("120.232.0.1".parse()?, server.port);
    let program = Program::new("older")?;
    let traffic = Traffic::TcpOnCue { to: remote, before: BEFORE, after: AFTER };
    let mut client = Launch::inside(&network).start(&program, &traffic)?;
    let monitor = Monitor::start(rung, Settings::default())?;
    let view = monitor.view();
    client.cue()?;
    client.finish()?;
    let end = view.one(&format!("the end of the flow to {remote}"), |record| {
        record.is_flow_end() && record.is_egress() && record.remote() == Some(remote)
    })?;
    let caveats = end.texts("/egresswatch/flow/caveats");
    ensure!(caveats.contains(&"midstream"), "{}", end.pretty());
    ensure!(end.bytes() == (Some(AFTER), Some(0)), "{}", end.pretty());
    let expected = Some(program.name());
    ensure!(end.executable() == expected, "not {expected:?}: {}", end.pretty());
    let alert = view.one("an alert", |record| record.is_alert() && record.remote() == Some(remote))?;
    ensure!(alert.executable() == expected, "not {expected:?}: {}", alert.pretty());
    monitor.stop().map(drop)
}

fn stops_well(rung: Rung) -> Result<()> {
    // Start it if the filter left only this test.
    watch(rung, |_| Ok(()))?;
    stop_shared().map(drop)
}
