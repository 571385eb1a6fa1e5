//! The monitor under test, and what it says.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    io::BufReader,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

use super::{Record, Rung, is_emulated, patience};

/// Records shown of those that a failed test saw.
const SHOWN_RECORDS: usize = 40;

/// A running `egresswatch run`.
pub(crate) struct Monitor {
    /// The rung that it was told to use.
    pub(crate) rung: Rung,
    child: Child,
    said: Arc<Said>,
    readers: Vec<JoinHandle<()>>,
    socket: PathBuf,
    _folder: TempDir,
}

/// What the monitor said so far.
#[derive(Default)]
struct Said {
    records: Mutex<Records>,
    news: Condvar,
    complaints: Mutex<String>,
}

#[derive(Default)]
struct Records {
    all: Vec<Arc<Record>>,
    broken: Option<String>,
    ended: bool,
}

/// Settings that differ from the defaults, as lines of TOML by section.
#[derive(Clone, Copy, Default)]
pub(crate) struct Settings<'a> {
    /// Lines of `[kernel]`.
    pub(crate) kernel: &'a str,
    /// Other sections.
    pub(crate) rest: &'a str,
}

/// The binary under test.
pub(crate) fn binary() -> PathBuf {
    std::env::var_os("EGRESSWATCH_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_egresswatch").into()).into()
}

impl Monitor {
    /// Starts a monitor and waits until it says that it watches.
    pub(crate) fn start(rung: Rung, settings: Settings<'_>) -> Result<Self> {
        Self::start_with_input(rung, settings, Stdio::null())
    }

    /// The same with a standard input.
    pub(crate) fn start_with_input(rung: Rung, settings: Settings<'_>, input: Stdio) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("egresswatch-monitor-").tempdir()?;
        let socket = folder.path().join("control.sock");
        let configuration = folder.path().join("config.toml");
        let Settings { kernel, rest } = settings;
        let text = format!("[control]\nsocket = {:?}\n[kernel]\n{kernel}\n{rest}\n", socket.display().to_string());
        fs::write(&configuration, text)?;
        let mut child = Command::new(binary())
            .args(["run", "--json", "--flows", "--rung", rung.name(), "--config"])
            .arg(&configuration)
            .stdin(input)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", binary().display()))?;
        let said = Arc::new(Said::default());
        let output = child.stdout.take().context("no standard output")?;
        let complaints = child.stderr.take().context("no standard error")?;
        let readers = vec![
            thread::spawn({
                let said = Arc::clone(&said);
                move || said.listen(BufReader::new(output))
            }),
            thread::spawn({
                let said = Arc::clone(&said);
                move || said.note_complaints(BufReader::new(complaints))
            }),
        ];
        let monitor = Self { rung, child, said, readers, socket, _folder: folder };
        let started = monitor
            .whole()
            .within(start_patience())
            .one("that the monitor has started", |record| record.text("/event/action") == Some("monitor_started"))?;
        let loaded = started.text("/egresswatch/status/rung");
        ensure!(loaded == Some(rung.name()), "the monitor runs on rung {loaded:?} and not on {rung}");
        Ok(monitor)
    }

    /// What it says from now on.
    pub(crate) fn view(&self) -> View<'_> {
        let from = self.said.records().all.len();
        View { monitor: self, from, patience: patience() }
    }

    /// What it said since its start.
    pub(crate) fn whole(&self) -> View<'_> {
        View { monitor: self, from: 0, patience: patience() }
    }

    /// Asks the running monitor for its live flows, as a user would.
    pub(crate) fn live_flows(&self) -> Result<Vec<Record>> {
        let output = self.ask(&["flows", "--json"])?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "`egresswatch flows` ended with {}: {complaint}", output.status);
        String::from_utf8_lossy(&output.stdout).lines().map(|line| Record::parse(line.as_bytes())).collect()
    }

    /// Runs a command that asks the running monitor, as a user would.
    pub(crate) fn ask(&self, command: &[&str]) -> Result<Output> {
        Ok(Command::new(binary()).args(command).arg("--socket").arg(&self.socket).output()?)
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill(Pid::from_raw(self.child.id().cast_signed()), signal)?)
    }

    /// The most memory that was ever resident in it, in bytes (`VmHWM`, `proc_pid_status(5)`).
    pub(crate) fn peak_memory_bytes(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
        Ok(kilobytes.context("no VmHWM")?.trim().parse::<u64>()? * 1_024)
    }

    /// Ids of the kernel programs that it holds, by the descriptors' `fdinfo`.
    pub(crate) fn loaded_programs(&self) -> Result<BTreeSet<u32>> {
        let mut own = BTreeSet::new();
        for descriptor in fs::read_dir(format!("/proc/{}/fdinfo", self.child.id()))? {
            // A descriptor may be closed meanwhile.
            let text = fs::read_to_string(descriptor?.path()).unwrap_or_default();
            let id = text.lines().find_map(|line| line.strip_prefix("prog_id:")?.trim().parse::<u32>().ok());
            own.extend(id);
        }
        Ok(own)
    }

    /// Ends it as a service manager does, and returns everything that it ever said. An exit code other than 0, a line
    /// that is no record, or a missing goodbye are errors.
    pub(crate) fn stop(self) -> Result<Vec<Arc<Record>>> {
        self.stop_by(Signal::SIGTERM)
    }

    /// The same by another signal.
    pub(crate) fn stop_by(mut self, signal: Signal) -> Result<Vec<Arc<Record>>> {
        self.signal(signal)?;
        let status = self.wait()?;
        for reader in self.readers.drain(..) {
            reader.join().map_err(|_| anyhow!("a reader of the monitor's output panicked"))?;
        }
        let complaints = self.said.complaints();
        ensure!(status.success(), "the monitor ended with {status}: {complaints}");
        let mut records = self.said.records();
        if let Some(line) = &records.broken {
            bail!("the monitor wrote a line that is no record: {line}");
        }
        // Alerts and notices may overtake flows on their way out; the numbers tell the order.
        let mut all = std::mem::take(&mut records.all);
        let sequence = |record: &Arc<Record>| record.number("/event/sequence");
        all.sort_by_key(sequence);
        let last = all.last().context("the monitor said nothing")?;
        let action = last.text("/event/action");
        ensure!(action == Some("monitor_stopped"), "the monitor's last word is {}", last.summary());
        let dropped: u64 = all
            .iter()
            .filter(|record| record.text("/egresswatch/loss/stage") == Some("output"))
            .filter_map(|record| record.number("/egresswatch/loss/count"))
            .sum();
        let numbered = sequence(last).context("a record without a number")? + 1;
        ensure!(
            all.len() as u64 + dropped == numbered,
            "{} records came, {dropped} were told as dropped, {numbered} were numbered",
            all.len()
        );
        Ok(all)
    }

    /// `kill -9`. Returns what it said until then, but for a line that it had not finished.
    pub(crate) fn kill(mut self) -> Result<Vec<Arc<Record>>> {
        self.signal(Signal::SIGKILL)?;
        self.wait()?;
        for reader in self.readers.drain(..) {
            reader.join().map_err(|_| anyhow!("a reader of the monitor's output panicked"))?;
        }
        Ok(std::mem::take(&mut self.said.records().all))
    }

    fn wait(&mut self) -> Result<ExitStatus> {
        let deadline = Instant::now() + patience();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            ensure!(Instant::now() < deadline, "the monitor does not stop");
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        // It has ended already unless a test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Said {
    /// Takes lines at the pace they come and reads them in a thread of their own: a slow reader would make the monitor
    /// drop flow records, as it should.
    fn listen(&self, mut output: impl std::io::BufRead) {
        let (sender, lines) = mpsc::channel::<Vec<u8>>();
        thread::scope(|scope| {
            scope.spawn(move || self.note_records(lines));
            let mut line = Vec::new();
            while output.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
                // The receiver lives as long as the sender.
                let _ = sender.send(std::mem::take(&mut line));
            }
            drop(sender);
        });
        self.records().ended = true;
        self.news.notify_all();
    }

    fn note_records(&self, lines: mpsc::Receiver<Vec<u8>>) {
        for line in lines {
            let record = Record::parse(&line);
            let mut records = self.records();
            match record {
                Ok(record) => records.all.push(Arc::new(record)),
                Err(error) => records.broken = Some(format!("{error:#}")),
            }
            drop(records);
            self.news.notify_all();
        }
    }

    fn note_complaints(&self, mut output: impl std::io::BufRead) {
        let mut line = Vec::new();
        while output.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
            self.complaints().push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    }

    fn records(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn complaints(&self) -> MutexGuard<'_, String> {
        self.complaints.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The monitor's records from one moment on.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    /// The monitor.
    pub(crate) monitor: &'a Monitor,
    from: usize,
    patience: Duration,
}

impl View<'_> {
    /// The same with another deadline.
    pub(crate) fn within(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Waits for one record. `what` finishes the sentence "the monitor did not say …".
    pub(crate) fn one(&self, what: &str, wanted: impl Fn(&Record) -> bool) -> Result<Arc<Record>> {
        let mut found = self.many(1, what, wanted)?;
        found.pop().context("nothing found")
    }

    /// Waits for `count` records, and returns all that are there by then.
    pub(crate) fn many(&self, count: usize, what: &str, wanted: impl Fn(&Record) -> bool) -> Result<Vec<Arc<Record>>> {
        let deadline = Instant::now() + self.patience;
        let mut found = Vec::new();
        let mut next = self.from;
        let mut records = self.monitor.said.records();
        loop {
            let new = records.all.get(next..).unwrap_or_default();
            found.extend(new.iter().filter(|record| wanted(record)).cloned());
            next = records.all.len();
            if found.len() >= count {
                return Ok(found);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || records.ended {
                break;
            }
            let woken = self.monitor.said.news.wait_timeout(records, left);
            records = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(records);
        bail!("the monitor did not say {what}: {} of {count} records\n{}", found.len(), self.account())
    }

    /// The records that are there now.
    pub(crate) fn now(&self, wanted: impl Fn(&Record) -> bool) -> Vec<Arc<Record>> {
        let records = self.monitor.said.records();
        let new = records.all.get(self.from..).unwrap_or_default();
        new.iter().filter(|record| wanted(record)).cloned().collect()
    }

    /// Losses told, as the sum over all reasons.
    pub(crate) fn losses(&self) -> Vec<(String, u64)> {
        let told = |record: &Arc<Record>| {
            let reason = record.text("/egresswatch/loss/reason")?.to_owned();
            Some((reason, record.number("/egresswatch/loss/count")?))
        };
        self.now(Record::is_loss).iter().filter_map(told).collect()
    }

    /// What a reader of a failed test wants to see.
    fn account(&self) -> String {
        let records = self.now(|record| {
            let executable = record.executable().unwrap_or("");
            record.remote().is_none() || record.executable().is_none() || executable.contains("/egresswatch-test-")
        });
        let hidden = records.len().saturating_sub(SHOWN_RECORDS);
        let mut text = format!("losses told: {:?}\n", self.losses());
        // Writing to a string cannot fail.
        let _ = writeln!(text, "records since the test began ({hidden} earlier ones left out):");
        for record in records.iter().skip(hidden) {
            let _ = writeln!(text, "  {}", record.summary());
        }
        let complaints = self.monitor.said.complaints();
        let _ = write!(text, "standard error of the monitor:\n{complaints}");
        text
    }
}

/// Ids of all kernel programs there are.
pub(crate) fn loaded_programs() -> Result<BTreeSet<u32>> {
    aya::programs::loaded_programs().map(|program| Ok(program?.id())).collect()
}

/// The monitor that tests with the default settings share, because a start takes longer than most tests.
static SHARED: Mutex<Option<Monitor>> = Mutex::new(None);

/// Hands the shared monitor of `rung` to a test; starts it if it is not running.
pub(crate) fn watch<T>(rung: Rung, test: impl FnOnce(View<'_>) -> Result<T>) -> Result<T> {
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if !shared.as_mut().is_some_and(|monitor| monitor.rung == rung && monitor.is_running()) {
        // The old one first: it would see the new one's traffic, and its end must not be a test's business.
        *shared = None;
        *shared = Some(Monitor::start(rung, Settings::default())?);
    }
    let monitor = shared.as_ref().context("no monitor")?;
    test(monitor.view())
}

/// Stops the shared monitor, if there is one, and returns all that it said.
pub(crate) fn stop_shared() -> Result<Vec<Arc<Record>>> {
    let monitor = SHARED.lock().unwrap_or_else(PoisonError::into_inner).take();
    monitor.map_or_else(|| Ok(Vec::new()), Monitor::stop)
}

/// Loading the programs and the ownership data takes its time in a debug build, and more under emulation.
fn start_patience() -> Duration {
    Duration::from_secs(if is_emulated() { 240 } else { 60 })
}
