//! The tools: how each is started so that it tells programs' traffic as text, and how that text is read.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    io::Read as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    clock::process_cpu_ns,
    daemon::status_bytes,
    generator::{Ground, LOAD_PROGRAM},
    network::CLIENT_DEVICE,
};

/// A tool.
pub(super) struct Tool {
    /// What the page calls it.
    pub(super) name: &'static str,
    program: &'static str,
    /// Where to get it.
    package: &'static str,
    arguments: &'static [&'static str],
    /// Whether it has to be in the load's network namespace; otherwise it sees all of them.
    in_namespace: bool,
    /// Reads its output.
    pub(super) read: fn(&str) -> Told,
}

/// What a tool said of the load's program.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// Connections, if it tells them.
    pub(super) connections: Option<u64>,
    /// Bytes sent.
    pub(super) bytes: u64,
}

/// Process and payload of each TCP connection to the load's port, by the kernel's tracepoints.
const ONE_LINER: &str = "\
    tracepoint:sock:inet_sock_set_state /args->newstate == 2 && args->dport == 7001/ { @pid[args->skaddr] = pid; } \
    tracepoint:sock:sock_send_length /@pid[args->sk] && args->ret > 0/ { @bytes[args->sk] = sum(args->ret); } \
    tracepoint:sock:inet_sock_set_state /args->newstate == 7 && @pid[args->skaddr]/ { \
        printf(\"closed %d\\n\", @pid[args->skaddr]); delete(@pid[args->skaddr]); }";

/// Every tool.
pub(super) const ALL: &[Tool] = &[
    Tool {
        name: "bpftrace, one line",
        program: "bpftrace",
        package: "bpftrace of Debian",
        arguments: &["-B", "line", "-e", ONE_LINER],
        in_namespace: false,
        read: read_bpftrace,
    },
    Tool {
        name: "nethogs",
        program: "nethogs",
        package: "nethogs of Debian",
        // Traces instead of a screen, totals in bytes, once a second.
        arguments: &["-t", "-v", "2", "-d", "1", CLIENT_DEVICE],
        in_namespace: true,
        read: read_nethogs,
    },
    Tool {
        name: "bandwhich",
        program: "bandwhich",
        package: "`cargo install bandwhich`",
        arguments: &["--raw", "--no-resolve", "--interface", CLIENT_DEVICE],
        in_namespace: true,
        read: read_bandwhich,
    },
];

impl Tool {
    /// Why it cannot run here, if it cannot.
    pub(super) fn missing(&self) -> Option<String> {
        self.path().is_none().then(|| format!("`{}` is not installed ({})", self.program, self.package))
    }

    fn path(&self) -> Option<PathBuf> {
        let folders = env::var_os("PATH")?;
        env::split_paths(&folders).map(|folder| folder.join(self.program)).find(|path| path.is_file())
    }

    /// Starts it.
    pub(super) fn start(&self, ground: &Ground) -> Result<Running> {
        // Tracepoints are found in tracefs, which not every system mounts. The mount is of this process alone.
        let mut command = Command::new("unshare");
        command.args([
            "--mount",
            "sh",
            "-c",
            "mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null; exec \"$@\"",
            "sh",
        ]);
        command.arg(self.path().context("it is not installed")?).args(self.arguments);
        if self.in_namespace {
            ground.enter(&mut command);
        }
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let mut output = child.stdout.take().context("no standard output")?;
        let reader = thread::spawn(move || {
            let mut text = Vec::new();
            // What came before an error is worth reading all the same.
            let _ = output.read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        });
        Ok(Running { child, reader: Some(reader) })
    }
}

/// A tool at work. Killed when dropped.
pub(super) struct Running {
    child: Child,
    reader: Option<JoinHandle<String>>,
}

impl Running {
    /// CPU time that it has used, in ns.
    pub(super) fn cpu_ns(&self) -> Result<u64> {
        process_cpu_ns(self.child.id())
    }

    /// Its resident memory in bytes.
    pub(super) fn resident_bytes(&self) -> Result<u64> {
        status_bytes(self.child.id(), "VmRSS:").context("it ended too early")
    }

    /// Interrupts it; everything that it said.
    pub(super) fn stop(mut self) -> Result<String> {
        ensure!(self.child.try_wait()?.is_none(), "it ended too early");
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGINT)?;
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.child.try_wait()?.is_none() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(50));
        }
        // One that does not listen.
        let _ = self.child.kill();
        self.child.wait()?;
        let reader = self.reader.take().context("no reader")?;
        reader.join().map_err(|_| anyhow!("the reader panicked"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `closed PID` for each connection, and at the end `@bytes[SOCKET]: BYTES`. Sockets are used again, so that the sum over
/// all of them is what was sent.
fn read_bpftrace(output: &str) -> Told {
    let connections = output.lines().filter(|line| line.starts_with("closed ")).count() as u64;
    let bytes = output
        .lines()
        .filter(|line| line.starts_with("@bytes["))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum();
    Told { connections: Some(connections), bytes }
}

/// `PROGRAM/PID/UID<TAB>SENT<TAB>RECEIVED` in each refresh, as totals since the start.
fn read_nethogs(output: &str) -> Told {
    let mut by_process = BTreeMap::new();
    for line in output.lines().filter(|line| line.contains(LOAD_PROGRAM)) {
        let mut fields = line.split('\t');
        let (Some(process), Some(sent)) = (fields.next(), fields.next()) else { continue };
        by_process.insert(process, sent.parse::<f64>().unwrap_or(0.0));
    }
    Told { connections: None, bytes: by_process.values().sum::<f64>() as u64 }
}

/// In each refresh `connection: <TIME> <DEVICE>:PORT => ADDRESS:PORT (tcp) up/down Bps: UP/DOWN process: "NAME"`.
fn read_bandwhich(output: &str) -> Told {
    let mut connections = BTreeSet::new();
    let mut bytes = 0;
    let ours = |line: &&str| line.starts_with("connection: ") && line.contains(":7001 (tcp)");
    for line in output.lines().filter(ours) {
        let Some((ends, rest)) = line.split_once(" (tcp) up/down Bps: ") else { continue };
        // The kernel cuts a thread's name to 15 characters.
        if !rest.contains("\"egresswatch-ben") {
            continue;
        }
        bytes += rest.split('/').next().and_then(|up| up.parse::<u64>().ok()).unwrap_or(0);
        connections.extend(ends.split_once("> ").map(|(_, ends)| ends));
    }
    Told { connections: Some(connections.len() as u64), bytes }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_read() {
        let bpftrace = "Attaching 3 probes...\nclosed 7\nclosed 7\n\n@bytes[0xffff8880]: 64\n@bytes[0xffff8881]: 32\n\n@pid[0xffff8881]: 7\n";
        let nethogs = "Refreshing:\n/x/egresswatch-bench/7/0\t100\t20\nunknown TCP/0/0\t0\t0\n\n\
                       Refreshing:\n/x/egresswatch-bench/7/0\t250\t60\n";
        let bandwhich = "Refreshing:\nprocess: <1> \"egresswatch-ben\" up/down Bps: 64/0 connections: 2\n\
                         connection: <1> <bench0>:5000 => 8.8.4.4:7001 (tcp) up/down Bps: 32/0 process: \"egresswatch-ben\"\n\
                         connection: <1> <bench0>:5001 => 8.8.4.4:7001 (tcp) up/down Bps: 32/0 process: \"<UNKNOWN>\"\n\
                         connection: <2> <bench0>:5000 => 8.8.4.4:7001 (tcp) up/down Bps: 8/0 process: \"egresswatch-ben\"\n";
        for (read, output, connections, bytes) in [
            (read_bpftrace as fn(&str) -> Told, bpftrace, Some(2), 96),
            (read_nethogs, nethogs, None, 250),
            (read_bandwhich, bandwhich, Some(1), 40),
        ] {
            assert_eq!(read(output), Told { connections, bytes }, "{output}");
        }
    }
}
