//! The monitor of the demonstration: on a terminal of its own, so that it writes lines for people, and into a file.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, IsTerminal as _};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::mpsc::Sender;
use std::thread;

use anyhow::{Context as _, Result};
use nix::pty::openpty;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::{Event, Owned};
use crate::process;
use crate::ui;

/// A running monitor, killed when this is dropped.
#[derive(Debug)]
pub(super) struct Monitor {
    child: Owned,
    records: PathBuf,
}

impl Monitor {
    /// Starts it; readiness, lines and its end come as events.
    pub(super) fn start(daemon: &Path, folder: &Path, events: &Sender<Event>) -> Result<Self> {
        let records = folder.join("records.jsonl");
        let configuration = folder.join("config.toml");
        // Another monitor of this host may own the control socket.
        fs::write(&configuration, "[control]\nenabled = false\n").context("cannot write the configuration")?;
        let ready = folder.join("ready");
        announce_readiness(&ready, events.clone())?;

        let terminal = openpty(None, None).context("cannot open a terminal")?;
        let mut command = process::command(daemon);
        // The monitor sees a terminal and would colour its lines even where this program writes to a pipe.
        command.args(["--color", if std::io::stdout().is_terminal() { "auto" } else { "never" }]);
        command.args(["run", "--config"]).arg(&configuration).arg("--output").arg(&records);
        ui::say(&format!("$ {}", process::describe(&command)));
        command.env("NOTIFY_SOCKET", &ready).stdout(Stdio::from(terminal.slave));
        let child = Owned(command.spawn().context("cannot start the monitor")?);
        // The command holds this side's copy of the terminal; without it the reader sees the monitor's end.
        drop(command);
        forward_lines(File::from(terminal.master), events.clone());
        Ok(Self { child, records })
    }

    /// What it has written so far; a line that is still being written is left for the next time.
    pub(super) fn records(&self) -> Result<Vec<Value>> {
        let text = match fs::read_to_string(&self.records) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", self.records.display())),
        };
        let complete = text.rfind('\n').and_then(|end| text.get(..end)).unwrap_or_default();
        complete
            .lines()
            .map(|line| serde_json::from_str(line).with_context(|| format!("the monitor wrote no JSON: {line}")))
            .collect()
    }

    /// Asks it to write what is left and to end.
    pub(super) fn stop(&mut self) -> Result<()> {
        let pid = i32::try_from(self.child.0.id()).context("the monitor's process id is too large")?;
        kill(Pid::from_raw(pid), Signal::SIGTERM).context("cannot stop the monitor")
    }
}

/// Listens as a service manager does: the monitor says READY=1 when its kernel programs are attached.
fn announce_readiness(path: &Path, events: Sender<Event>) -> Result<()> {
    let socket = UnixDatagram::bind(path).with_context(|| format!("cannot make {}", path.display()))?;
    thread::spawn(move || {
        let mut message = [0_u8; 4096];
        while let Ok(size) = socket.recv(&mut message) {
            let message = message.get(..size).unwrap_or_default();
            if message.split(|byte| *byte == b'\n').any(|line| line == b"READY=1") && events.send(Event::Ready).is_err()
            {
                return;
            }
        }
    });
    Ok(())
}

fn forward_lines(terminal: File, events: Sender<Event>) {
    thread::spawn(move || {
        for line in BufReader::new(terminal).split(b'\n') {
            // Reading fails when the other side of a terminal is closed; that is its end.
            let Ok(line) = line else { break };
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            if events.send(Event::Line(line)).is_err() {
                return;
            }
        }
        // Nobody may be waiting any more.
        let _ = events.send(Event::MonitorEnded);
    });
}
