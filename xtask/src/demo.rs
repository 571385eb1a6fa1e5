//! `cargo xtask demo`: shows an alert without a packet leaving the machine.
//!
//! The monitor watches this host. A second process moves into a network namespace of its own, where an address of a
//! listed operator exists on the loopback interface only, serves HTTP there and sends a form to itself. The namespace has
//! no name and no link to the outside: it is gone when that process ends, however it ends.

mod inside;
mod monitor;

use std::env;
use std::ffi::OsStr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use serde_json::Value;

use crate::process::{self, Root};
use crate::root_test;
use crate::run;
use crate::ui;
use crate::workspace::Workspace;
use monitor::Monitor;

/// An address of China Mobile (AS56040), which embedded lists name.
const ADDRESS: &str = "120.232.0.1";

/// How long the monitor may take to start, the exchange to end and the alert to come.
const START_DEADLINE: Duration = Duration::from_mins(1);
const EXCHANGE_DEADLINE: Duration = Duration::from_secs(30);
const ALERT_DEADLINE: Duration = Duration::from_secs(15);

/// Arguments of `cargo xtask demo`.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Arguments {
    /// Use this monitor instead of building it
    #[arg(long, value_name = "FILE")]
    daemon: Option<PathBuf>,
    /// The part that runs inside the namespace
    #[arg(long, hide = true)]
    inside: bool,
}

impl Arguments {
    /// With the monitor that the tests have built.
    pub(crate) fn after_tests(workspace: &Workspace) -> Self {
        Self { daemon: Some(root_test::built_daemon(workspace)), inside: false }
    }
}

/// Something that happens while the demonstration waits.
#[derive(Debug)]
enum Event {
    /// The monitor said that it is ready.
    Ready,
    /// The monitor wrote a line for people.
    Line(String),
    /// The monitor ended; its lines are over.
    MonitorEnded,
    /// The process in the namespace ended; whether it succeeded.
    ExchangeEnded(bool),
}

/// Runs the command.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    if arguments.inside {
        return inside::run(ADDRESS);
    }
    let daemon = match &arguments.daemon {
        Some(daemon) => daemon.clone(),
        // Seconds matter more than speed here, and the tests share this build.
        None => ui::step("build the monitor", || run::build(workspace, &[], "debug"))?,
    };
    let root = Root::obtain().context("the demonstration loads kernel programs and makes a network namespace")?;
    if root != Root::Already {
        return Err(again_as_root(root, &daemon)?.exec()).context("cannot start sudo");
    }
    show(&daemon)
}

/// This same command through sudo, with the monitor that was built as the user.
fn again_as_root(root: Root, daemon: &Path) -> Result<Command> {
    let manifest_folder = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let environment: &[(&str, &OsStr)] = &[("CARGO_MANIFEST_DIR", &manifest_folder)];
    let mut command = root.command(env::current_exe().context("cannot tell where this program is")?, environment);
    command.arg("demo").arg("--daemon").arg(daemon);
    Ok(command)
}

fn show(daemon: &Path) -> Result<()> {
    // Asked to stop, this program must still stop what it started, so it notes signals instead of dying of them.
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        note_signal(signal)?;
    }
    let (sender, events) = mpsc::channel();
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    ui::say("\n==> start the monitor on this host");
    let mut monitor = Monitor::start(daemon, folder.path(), &sender)?;
    wait(&events, START_DEADLINE, "the monitor's start", |event| match event {
        Event::Ready => Some(Ok(())),
        Event::MonitorEnded => Some(Err(anyhow::anyhow!("the monitor did not start; it says why above"))),
        _ => None,
    })?;

    ui::say(&format!("\n==> send a form to http://{ADDRESS}/ inside a network namespace of its own"));
    let exchange = inside::start(sender)?;
    let succeeded = wait(&events, EXCHANGE_DEADLINE, "the exchange", |event| match event {
        Event::ExchangeEnded(succeeded) => Some(Ok(*succeeded)),
        _ => None,
    })?;
    drop(exchange);
    ensure!(succeeded, "the exchange inside the namespace failed; it says why above");

    let alert = wait_for_alert(&events, &monitor)?;
    monitor.stop()?;
    // What the monitor still had to say when it was asked to stop.
    let _ = wait(&events, ALERT_DEADLINE, "the monitor's end", |event| {
        matches!(event, Event::MonitorEnded).then_some(Ok(()))
    });
    ui::say("\n==> the same alert as a record\n");
    ui::say(&serde_json::to_string_pretty(&alert).context("cannot print the alert")?);
    Ok(())
}

/// Polls the monitor's file until it holds an alert that says that bytes were sent to the address.
fn wait_for_alert(events: &Receiver<Event>, monitor: &Monitor) -> Result<Value> {
    let deadline = Instant::now() + ALERT_DEADLINE;
    while Instant::now() < deadline {
        if let Some(alert) = monitor.records()?.into_iter().find(is_expected_alert) {
            return Ok(alert);
        }
        let event = next_event(events, Instant::now() + Duration::from_millis(100))?;
        ensure!(!matches!(event, Some(Event::MonitorEnded)), "the monitor ended by itself; it says why above");
    }
    bail!("no alert about {ADDRESS} came within {}", ui::duration(ALERT_DEADLINE))
}

fn is_expected_alert(record: &Value) -> bool {
    let text = |path: &str| record.pointer(path).and_then(Value::as_str);
    let bytes = record.pointer("/source/bytes").and_then(Value::as_u64).unwrap_or_default();
    text("/event/kind") == Some("alert") && text("/destination/ip") == Some(ADDRESS) && bytes > 0
}

/// A signal ended the demonstration.
#[derive(Debug)]
struct Stopped(Signal);

impl std::fmt::Display for Stopped {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "stopped by {}; everything that was started is stopped too", self.0)
    }
}

impl std::error::Error for Stopped {}

/// Waits for the awaited event; a signal or the deadline is an error.
fn wait<T>(
    events: &Receiver<Event>,
    timeout: Duration,
    awaited: &str,
    mut accept: impl FnMut(&Event) -> Option<Result<T>>,
) -> Result<T> {
    let deadline = Instant::now() + timeout;
    while let Some(event) = next_event(events, deadline)? {
        if let Some(result) = accept(&event) {
            return result;
        }
    }
    bail!("waited {} for {awaited} in vain", ui::duration(timeout))
}

/// The next event, or none by the deadline. The monitor's lines are shown as they pass; a signal is an error.
fn next_event(events: &Receiver<Event>, deadline: Instant) -> Result<Option<Event>> {
    loop {
        if let Ok(signal) = Signal::try_from(NOTED_SIGNAL.load(Ordering::Relaxed)) {
            return Err(Stopped(signal).into());
        }
        let left = deadline.saturating_duration_since(Instant::now());
        match events.recv_timeout(left.min(SIGNAL_INTERVAL)) {
            Ok(event) => {
                if let Event::Line(line) = &event {
                    ui::say(line);
                }
                return Ok(Some(event));
            }
            Err(RecvTimeoutError::Timeout) if left <= SIGNAL_INTERVAL => return Ok(None),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => bail!("nobody is left who could tell what happens"),
        }
    }
}

/// The last signal that asked this program to stop; 0 if none did.
static NOTED_SIGNAL: AtomicI32 = AtomicI32::new(0);

/// How long a signal may go unnoticed.
const SIGNAL_INTERVAL: Duration = Duration::from_millis(100);

/// Has the signal noted. A handler, unlike a blocked signal, is not inherited by the programs that are started.
fn note_signal(signal: Signal) -> Result<()> {
    extern "C" fn note(signal: i32) {
        NOTED_SIGNAL.store(signal, Ordering::Relaxed);
    }
    let action = SigAction::new(SigHandler::Handler(note), SaFlags::SA_RESTART, SigSet::empty());
    // SAFETY: the handler stores into an atomic and does nothing else, which is allowed at any point of the program.
    unsafe { sigaction(signal, &action) }.with_context(|| format!("cannot handle {signal}"))?;
    Ok(())
}

/// A process that does not outlive this program's interest in it.
#[derive(Debug)]
struct Owned(std::process::Child);

impl Drop for Owned {
    fn drop(&mut self) {
        // Both only fail when it has already ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Where a program of the system is, with the package to install if it is not there.
fn program(name: &str, package: &str) -> Result<PathBuf> {
    process::find_program(name).with_context(|| format!("`{name}` is not installed: install the package {package}"))
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::raise;
    use serde_json::json;

    use super::*;

    #[test]
    fn only_an_alert_about_sent_bytes_to_the_address_counts() {
        let record = |kind: &str, address: &str, bytes: u64| json!({ "event": { "kind": kind }, "destination": { "ip": address }, "source": { "bytes": bytes } });
        for (record, expected) in [
            (record("alert", ADDRESS, 300), true),
            (record("alert", ADDRESS, 0), false),
            (record("event", ADDRESS, 300), false),
            (record("alert", "120.232.0.2", 300), false),
            (json!({}), false),
        ] {
            assert_eq!(is_expected_alert(&record), expected, "{record}");
        }
    }

    #[test]
    fn a_wait_ends_with_its_event_a_signal_or_the_deadline() {
        let (sender, events) = mpsc::channel();
        let ready = |event: &Event| matches!(event, Event::Ready).then_some(Ok(()));
        sender.send(Event::ExchangeEnded(true)).expect("a receiver");
        sender.send(Event::Ready).expect("a receiver");
        assert!(wait(&events, Duration::from_secs(5), "x", ready).is_ok());
        assert!(wait(&events, Duration::ZERO, "x", ready).is_err());
        note_signal(Signal::SIGUSR1).expect("a handler");
        raise(Signal::SIGUSR1).expect("a signal");
        let error = wait(&events, Duration::from_secs(5), "x", ready).expect_err("a signal");
        assert!(error.is::<Stopped>(), "{error}");
    }
}
