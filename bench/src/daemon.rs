//! The monitor under measurement: started as a service manager would, its output read as a collector would.

use std::{
    collections::BTreeMap,
    fs,
    io::Read,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::clock::{monotonic_ns, process_cpu_ns};

/// How long a start and a stop may take.
const PATIENCE: Duration = Duration::from_mins(2);

/// Its log, in its folder.
const LOG: &str = "log";

/// How it is started.
#[derive(Debug, Clone, Default)]
pub(crate) struct Options {
    /// Attach to this cgroup and what is below it, instead of the whole host.
    pub(crate) cgroup: Option<PathBuf>,
    /// Write a record of each flow.
    pub(crate) flows: bool,
    /// More lines of the configuration's `[kernel]`.
    pub(crate) kernel: String,
    /// More sections of the configuration.
    pub(crate) sections: String,
}

/// A running monitor.
#[derive(Debug)]
pub(crate) struct Daemon {
    child: Child,
    reader: Option<JoinHandle<Vec<Line>>>,
    /// From its start to its word that it watches.
    pub(crate) start: Duration,
    folder: TempDir,
}

/// A line of its output, and when the read that completed it returned.
#[derive(Debug)]
pub(crate) struct Line {
    /// By the monotonic clock.
    pub(crate) at_ns: u64,
    text: Vec<u8>,
}

impl Line {
    /// The record.
    pub(crate) fn parse(&self) -> Result<Value> {
        serde_json::from_slice(&self.text)
            .with_context(|| format!("the monitor wrote no JSON: {}", String::from_utf8_lossy(&self.text)))
    }
}

/// What it takes at a moment.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[expect(clippy::struct_field_names, reason = "units belong into names")]
pub(crate) struct Memory {
    /// Resident memory of the process, in bytes.
    pub(crate) resident_bytes: u64,
    /// Of it, memory of its own; the rest is the program file, which the page cache shares.
    pub(crate) anonymous_bytes: u64,
    /// Memory of its maps in the kernel, in bytes, as the kernel accounts them.
    pub(crate) maps_bytes: u64,
}

impl Daemon {
    /// Starts it and waits until it watches.
    pub(crate) fn start(program: &Path, options: &Options) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("egresswatch-bench-").tempdir()?;
        let configuration = folder.path().join("config.toml");
        let cgroup = options
            .cgroup
            .as_ref()
            .map_or_else(String::new, |path| format!("cgroup = {:?}\n", path.display().to_string()));
        fs::write(
            &configuration,
            format!("[control]\nenabled = false\n[kernel]\n{cgroup}{}\n{}\n", options.kernel, options.sections),
        )?;
        let socket_path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&socket_path).context("cannot make the notification socket")?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let mut command = Command::new(program);
        command.args(["run", "--json", "--config"]).arg(&configuration);
        if options.flows {
            command.arg("--flows");
        }
        // Its log is of interest only if it ends.
        let log = folder.path().join(LOG);
        command.env("NOTIFY_SOCKET", &socket_path).stderr(fs::File::create(&log)?);
        let started = Instant::now();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let output = child.stdout.take().context("no standard output")?;
        let mut daemon = Self { child, reader: None, start: Duration::ZERO, folder };
        daemon.reader = Some(thread::spawn(move || read(output)));
        daemon.wait_until_ready(&socket).with_context(|| fs::read_to_string(&log).unwrap_or_default())?;
        daemon.start = started.elapsed();
        Ok(daemon)
    }

    fn wait_until_ready(&mut self, socket: &UnixDatagram) -> Result<()> {
        socket.set_read_timeout(Some(Duration::from_millis(200)))?;
        let deadline = Instant::now() + PATIENCE;
        let mut message = [0_u8; 4096];
        while Instant::now() < deadline {
            if let Ok(size) = socket.recv(&mut message)
                && message.get(..size).unwrap_or_default().split(|byte| *byte == b'\n').any(|line| line == b"READY=1")
            {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("the monitor ended with {status}; it says why");
            }
        }
        bail!("the monitor did not get ready within {} s", PATIENCE.as_secs())
    }

    /// CPU time that it has used, in ns.
    pub(crate) fn cpu_ns(&self) -> Result<u64> {
        process_cpu_ns(self.child.id())
    }

    /// CPU time by the name of its threads, in ns.
    pub(crate) fn cpu_by_thread_ns(&self) -> Result<BTreeMap<String, u64>> {
        let mut threads = BTreeMap::new();
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let task = task?.path();
            // A thread may end meanwhile.
            let name = fs::read_to_string(task.join("comm")).unwrap_or_default();
            let statistics = fs::read_to_string(task.join("schedstat")).unwrap_or_default();
            let cpu_ns: u64 = statistics.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0);
            *threads.entry(name.trim().to_owned()).or_default() += cpu_ns;
        }
        Ok(threads)
    }

    /// What it takes now.
    pub(crate) fn memory(&self) -> Result<Memory> {
        let field = |name| status_bytes(self.child.id(), name);
        let maps = self.descriptors(|text| Some((number(text, "map_id:")?, number(text, "memlock:")?)))?;
        Ok(Memory {
            resident_bytes: field("VmRSS:").context("no VmRSS")?,
            anonymous_bytes: field("RssAnon:").context("no RssAnon")?,
            maps_bytes: maps.values().sum(),
        })
    }

    /// Ids of the kernel programs that it holds.
    pub(crate) fn program_ids(&self) -> Result<Vec<u32>> {
        let programs = self.descriptors(|text| Some((number(text, "prog_id:")?, 0)))?;
        Ok(programs.into_keys().map(|id| id as u32).collect())
    }

    /// What `read` finds in the descriptors' `fdinfo`, by id: several descriptors may be of one object.
    fn descriptors(&self, read: impl Fn(&str) -> Option<(u64, u64)>) -> Result<BTreeMap<u64, u64>> {
        let mut found = BTreeMap::new();
        for descriptor in fs::read_dir(format!("/proc/{}/fdinfo", self.child.id()))? {
            // A descriptor may be closed meanwhile.
            found.extend(read(&fs::read_to_string(descriptor?.path()).unwrap_or_default()));
        }
        Ok(found)
    }

    /// Ends it as a service manager does; everything that it said.
    pub(crate) fn stop(mut self) -> Result<Vec<Line>> {
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM)?;
        let status = self.child.wait()?;
        let reader = self.reader.take().context("no reader")?;
        let lines = reader.join().map_err(|_| anyhow!("the reader panicked"))?;
        ensure!(status.success(), "the monitor ended with {status}: {}", self.last_words());
        Ok(lines)
    }

    /// The last lines of its log: why it ended.
    fn last_words(&self) -> String {
        const LINES: usize = 3;
        let log = fs::read_to_string(self.folder.path().join(LOG)).unwrap_or_default();
        let lines: Vec<_> = log.lines().filter(|line| !line.trim().is_empty()).collect();
        let last = lines.get(lines.len().saturating_sub(LINES)..).unwrap_or_default();
        if last.is_empty() { "it did not say why".to_owned() } else { last.join("; ") }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Both fail only when it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A field of `/proc/PID/status` that is in kB, in bytes; `None` if the process or the field is not there.
pub(crate) fn status_bytes(pid: u32, name: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kilobytes: u64 = field.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes * 1024)
}

fn number(text: &str, field: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(field))?.trim().parse().ok()
}

/// Reads to the end and parses nothing: what a collector does with the records is not the question.
fn read(mut output: ChildStdout) -> Vec<Line> {
    /// The largest pipe that needs no privilege (`/proc/sys/fs/pipe-max-size`).
    const PIPE_BYTES: i32 = 1 << 20;
    // A small pipe works as well, with more switches between the two processes.
    let _ = nix::fcntl::fcntl(&output, nix::fcntl::FcntlArg::F_SETPIPE_SZ(PIPE_BYTES));
    let mut lines = Vec::new();
    let mut rest: Vec<u8> = Vec::new();
    let mut piece = vec![0_u8; 1 << 18];
    while let Ok(size) = output.read(&mut piece)
        && size > 0
    {
        let at_ns = monotonic_ns();
        for part in piece.get(..size).unwrap_or_default().split_inclusive(|byte| *byte == b'\n') {
            rest.extend_from_slice(part);
            if part.ends_with(b"\n") {
                lines.push(Line { at_ns, text: std::mem::take(&mut rest) });
            }
        }
    }
    lines
}
