//! Alerts on their way to a receiver, while everything on that way is killed.

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::{fd::AsFd as _, unix::net::UnixStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{Signal, kill},
        stat::Mode,
    },
    unistd::{Pid, mkfifo},
};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    Case,
    support::{
        Launch, Monitor, Network, Program, Record, Rsyslog, Rung, Settings, TcpServer, Traffic, UdpServer, binary,
        patience,
    },
};

/// The tests of this file.
pub(crate) const CASES: &[Case] = &[
    Case::new("ten_thousand_alerts_survive_kills_of_receiver_and_monitor", kills).needs("rsyslogd").in_user_space(),
    Case::new("a_full_disk_holds_alerts_up_and_nothing_else", full_disk).needs("rsyslogd").in_user_space(),
    Case::new("standard_output_without_a_reader_loses_nothing", reader_gone).in_user_space(),
];

/// Alerts in all.
const ALERTS: u32 = 10_000;
/// How often the monitor is killed; the receiver is twice as often.
const KILLS: u32 = 5;
/// Alerts before a kill of the receiver, of which each monitor sees two.
const PART: u32 = 900;
/// The first of the destinations, of a network for tests (RFC 2544). Each is one alert.
const FIRST: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);

const RULE: &str = r#"
[[rule]]
id = "each-destination"
title = "A destination of the test"
condition = 'in_cidr(destination.ip, "198.18.0.0/15")'
per = "executable_destination"
repeat = "1d"
max_alerts_per_hour = 1000000
"#;

/// The receiver is killed in the middle of the stream, and again before the monitor is. An alert is safe once it is in
/// the spool, so the monitor is killed when all are: at some rounds while the receiver is down, at others while the
/// spool is being emptied.
fn kills(rung: Rung) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let rules = folder.path().join("rules.toml");
    fs::write(&rules, RULE)?;
    let mut receiver = Rsyslog::start()?;
    let settings = settings(&receiver, folder.path(), &rules)?;
    let network = Network::new()?;
    let server = UdpServer::start(&network, IpAddr::V4(Ipv4Addr::UNSPECIFIED), None)?;
    let program = Program::new("delivery")?;
    let reach = |first: u32, count: u32| -> Result<()> {
        let first = Ipv4Addr::from_bits(FIRST.to_bits() + first);
        let traffic = Traffic::UdpFanOut { first, count, port: server.address.port(), send: 33, hold: false };
        Launch::inside(&network).run(&program, &traffic).map(drop)
    };
    let mut said = Vec::new();
    let (mut sent, mut receiver_kills, mut unconfirmed) = (0, 0, Vec::new());
    for round in 0..KILLS {
        let monitor = Monitor::start(rung, Settings { rest: &settings, ..Settings::default() })?;
        if !receiver.is_running() {
            receiver.start_again()?;
        }
        // In the middle of the stream.
        let begun = usize::try_from(sent + PART / 10)?;
        thread::scope(|scope| {
            let sending = scope.spawn(|| reach(sent, PART));
            receiver.wait_for(begun)?;
            receiver.kill()?;
            receiver.start_again()?;
            sending.join().map_err(|_| anyhow::anyhow!("the sender panicked"))?
        })?;
        sent += PART;
        receiver.wait_for(usize::try_from(sent)?)?;
        wait_for_depth(&monitor, 0)?;
        // All in the spool, none of them confirmed.
        receiver.kill()?;
        receiver_kills += 2;
        reach(sent, PART)?;
        wait_for_depth(&monitor, u64::from(PART))?;
        sent += PART;
        if round % 2 == 1 {
            receiver.start_again()?;
            receiver.wait_for(usize::try_from(sent - PART)? + 1)?;
        }
        said.push(monitor.kill()?);
        receiver.read()?;
        unconfirmed.push(usize::try_from(sent)?.saturating_sub(receiver.records.len()));
    }
    let monitor = Monitor::start(rung, Settings { rest: &settings, ..Settings::default() })?;
    if !receiver.is_running() {
        receiver.start_again()?;
    }
    reach(sent, ALERTS - sent)?;
    receiver.wait_for(usize::try_from(ALERTS)?)?;
    wait_for_depth(&monitor, 0)?;
    said.push(monitor.stop()?);
    receiver.read()?;
    eprintln!(
        "    {} alerts came, {} of them again, {} lines cut, in {receiver_kills} kills of the receiver and {KILLS} of \
         the monitor, at which {unconfirmed:?} had not come",
        receiver.records.len(),
        receiver.repeats,
        receiver.cut_lines
    );
    ensure!(receiver_kills == 10 && unconfirmed.iter().any(|count| *count > 0), "{unconfirmed:?}");
    complete(&receiver.records, ALERTS, said.iter().flatten().map(AsRef::as_ref))?;
    in_order(&receiver.records, said.len())
}

/// A file system of a few megabytes.
struct SmallDisk(TempDir);

impl SmallDisk {
    const TYPE: Option<&str> = Some("tmpfs");

    fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        mount(Self::TYPE, folder.path(), Self::TYPE, MsFlags::empty(), Some("size=5m"))
            .context("cannot mount a tmpfs")?;
        Ok(Self(folder))
    }

    fn grow(&self) -> Result<()> {
        mount(Self::TYPE, self.0.path(), Self::TYPE, MsFlags::MS_REMOUNT, Some("size=256m"))
            .context("cannot make the tmpfs larger")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // It is in use only if the test failed.
        let _ = umount2(self.0.path(), MntFlags::MNT_DETACH);
    }
}

/// The spool's disk is full and its receiver away. The monitor holds the alerts, says so to who asks, and hands all of them
/// on once there is space; and with a full disk it stops when it is asked to, and says what it could not keep.
fn full_disk(rung: Rung) -> Result<()> {
    const ALERTS: u32 = 3_000;
    let mut receiver = Rsyslog::start()?;
    receiver.kill()?;
    let network = Network::new()?;
    let server = UdpServer::start(&network, IpAddr::V4(Ipv4Addr::UNSPECIFIED), None)?;
    let program = Program::new("full-disk")?;
    let traffic =
        Traffic::UdpFanOut { first: FIRST, count: ALERTS, port: server.address.port(), send: 33, hold: false };
    let start = |receiver: &Rsyslog, disk: &SmallDisk| -> Result<Monitor> {
        let rules = disk.0.path().join("rules.toml");
        fs::write(&rules, RULE)?;
        let settings = settings(receiver, disk.0.path(), &rules)?;
        let monitor = Monitor::start(rung, Settings { rest: &settings, ..Settings::default() })?;
        Launch::inside(&network).run(&program, &traffic)?;
        wait_for_degradation(&monitor, "alerts_held_up")?;
        Ok(monitor)
    };

    let disk = SmallDisk::new()?;
    let monitor = start(&receiver, &disk)?;
    disk.grow()?;
    receiver.start_again()?;
    receiver.wait_for(usize::try_from(ALERTS)?)?;
    wait_for_depth(&monitor, 0)?;
    let said = monitor.stop()?;
    receiver.read()?;
    complete(&receiver.records, ALERTS, said.iter().map(AsRef::as_ref))?;
    in_order(&receiver.records, 1)?;

    receiver.kill()?;
    let disk = SmallDisk::new()?;
    let ended = start(&receiver, &disk)?.stop();
    let complaint = ended.map(drop).expect_err("it cannot have kept all").to_string();
    ensure!(complaint.contains("records that the spool could not keep"), "{complaint}");
    Ok(())
}

/// Waits until the status names a degradation.
fn wait_for_degradation(monitor: &Monitor, token: &str) -> Result<()> {
    let deadline = Instant::now() + patience();
    loop {
        let answer = monitor.ask(&["status", "--json"])?;
        let state: Value = serde_json::from_slice(&answer.stdout)
            .with_context(|| format!("no state: {}", String::from_utf8_lossy(&answer.stderr)))?;
        let tokens = state.get("degradations").and_then(Value::as_array).context("no degradations")?;
        if tokens.iter().any(|known| known.get("token").is_some_and(|known| known == token)) {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{token} is not told: {state}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// One output to the receiver, the rule, and nothing else that could alert.
fn settings(receiver: &Rsyslog, folder: &Path, rules: &Path) -> Result<String> {
    let lists = Command::new(binary()).args(["lists", "--json"]).output()?;
    let lists: Vec<Value> =
        String::from_utf8_lossy(&lists.stdout).lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let lists: Vec<_> = lists.iter().filter_map(|list| list.get("id")?.as_str()).collect();
    ensure!(!lists.is_empty(), "no list is known");
    Ok(format!(
        r#"
[policy]
rules = ["{rules}"]
disable = {lists:?}
disable_rules = ["memory-only-program", "program-in-shared-memory"]
[spool]
directory = "{spool}"
[spool.retry]
first = "20ms"
longest = "200ms"
[outputs.siem]
type = "syslog"
transport = "tls"
address = {address:?}
tls = {{ ca = "{authority}" }}
filter = {{ records = ["alert"] }}
"#,
        rules = rules.display(),
        spool = folder.join("spool").display(),
        address = receiver.address(),
        authority = receiver.authority().display(),
    ))
}

/// Waits until so many records are in the spool, on the disk.
fn wait_for_depth(monitor: &Monitor, records: u64) -> Result<()> {
    let deadline = Instant::now() + patience();
    loop {
        let answer = monitor.ask(&["status", "--json"])?;
        let state: Value = serde_json::from_slice(&answer.stdout).context("no state")?;
        let outputs = state.get("outputs").and_then(Value::as_array).context("no outputs")?;
        let siem = outputs.iter().find(|output| output.get("output").and_then(Value::as_str) == Some("siem"));
        let depth = siem.and_then(|siem| siem.pointer("/queue/depth_records")?.as_u64()).context("no queue")?;
        if depth == records {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{depth} records are in the spool, not {records}: {state}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Every destination has its one alert, and what the monitors said at once came by the output as well.
fn complete<'a>(came: &[Record], expected: u32, said: impl Iterator<Item = &'a Record>) -> Result<()> {
    let mut alerts: BTreeMap<u32, usize> = BTreeMap::new();
    for record in came {
        let Some(IpAddr::V4(address)) = record.remote().map(|remote| remote.ip()) else {
            anyhow::bail!("no destination: {}", record.pretty())
        };
        *alerts.entry(address.to_bits().wrapping_sub(FIRST.to_bits())).or_default() += 1;
    }
    let missing: Vec<_> = (0..expected).filter(|number| !alerts.contains_key(number)).collect();
    ensure!(missing.is_empty(), "{} of {expected} are lost: {missing:?}", missing.len());
    let more: Vec<_> = alerts.iter().filter(|(number, count)| **number >= expected || **count > 1).collect();
    ensure!(more.is_empty(), "not one alert for each destination: {more:?}");
    let ids: HashSet<_> = came.iter().filter_map(|record| record.text("/event/id")).collect();
    let lost: Vec<_> = said.filter(|record| record.is_alert()).filter_map(|record| record.text("/event/id")).collect();
    ensure!(!lost.is_empty(), "no alert on standard output");
    let lost: Vec<_> = lost.iter().filter(|id| !ids.contains(*id)).collect();
    ensure!(lost.is_empty(), "on standard output, but not at the receiver: {lost:?}");
    Ok(())
}

/// But for repeats, the monitors' records came one monitor after the other, each in the order of its numbers.
fn in_order(came: &[Record], monitors: usize) -> Result<()> {
    let mut runs: Vec<&str> = Vec::new();
    let mut last = None;
    for record in came {
        let run = record.text("/agent/ephemeral_id").context("no run")?;
        let number = record.number("/event/sequence").context("no number")?;
        if runs.last() != Some(&run) {
            ensure!(!runs.contains(&run), "{run} came again after another: {}", record.pretty());
            runs.push(run);
            last = None;
        }
        ensure!(last < Some(number), "{number} came after {last:?}: {}", record.pretty());
        last = Some(number);
    }
    ensure!(runs.len() == monitors, "{} runs came of {monitors}", runs.len());
    Ok(())
}

/// A monitor whose standard output is a FIFO, and an output with a spool writes there.
struct Piped {
    child: Child,
    reader: Option<BufReader<fs::File>>,
}

impl Piped {
    fn start(rung: Rung, folder: &Path) -> Result<Self> {
        let fifo = folder.join("fifo");
        // A writer would wait for a reader, and a reader for a writer.
        let both = fs::File::options().read(true).write(true).open(&fifo)?;
        let (reader, writer) = (fs::File::open(&fifo)?, fs::File::options().write(true).open(&fifo)?);
        drop(both);
        let config = folder.join("config.toml");
        let child = Command::new(binary())
            .args(["run", "--rung", rung.name(), "--config"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(writer)
            .spawn()?;
        Ok(Self { child, reader: Some(BufReader::new(reader)) })
    }

    /// Reads until the record comes.
    fn wait_for(&mut self, what: &str, wanted: impl Fn(&Record) -> bool) -> Result<Record> {
        let reader = self.reader.as_mut().context("nobody reads")?;
        let mut line = Vec::new();
        let patience = PollTimeout::try_from(patience())?;
        loop {
            if reader.buffer().is_empty() {
                let ready = poll(&mut [PollFd::new(reader.get_ref().as_fd(), PollFlags::POLLIN)], patience)?;
                ensure!(ready > 0, "the monitor did not write {what}");
            }
            ensure!(reader.read_until(b'\n', &mut line)? > 0, "the monitor ended without {what}");
            let record = Record::parse(&line)?;
            if wanted(&record) {
                return Ok(record);
            }
            line.clear();
        }
    }

    fn stop(mut self) -> Result<()> {
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM)?;
        let status = self.child.wait()?;
        ensure!(status.success(), "{status}");
        Ok(())
    }
}

impl Drop for Piped {
    fn drop(&mut self) {
        // It has ended already unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The reader goes, an alert comes, the monitor is stopped and started with another reader, which gets the alert.
fn reader_gone(rung: Rung) -> Result<()> {
    let folder = tempfile::tempdir()?;
    mkfifo(&folder.path().join("fifo"), Mode::from_bits_truncate(0o600))?;
    let socket = folder.path().join("control.sock");
    fs::write(
        folder.path().join("config.toml"),
        format!(
            "[control]\nsocket = \"{}\"\n[spool]\ndirectory = \"{}\"\n[outputs.pipe]\ntype = \"stdout\"\n",
            socket.display(),
            folder.path().join("spool").display()
        ),
    )?;
    let network = Network::new()?;
    let server = TcpServer::start(&network, 5, 0)?;
    let (early, late) = (Program::new("piped")?, Program::new("piped-late")?);
    let to = SocketAddr::new("120.232.0.1".parse()?, server.port);
    let reach = |program: &Program| {
        let traffic = Traffic::Tcp { to, connections: 1, send: 5, receive: 0, hold: false };
        Launch::inside(&network).run(program, &traffic).map(drop)
    };
    let alert_of = |program: &Program| {
        let name = program.name().to_owned();
        move |record: &Record| record.is_alert() && record.executable() == Some(name.as_str())
    };
    let mut monitor = Piped::start(rung, folder.path())?;
    monitor.wait_for("a start", |record| record.text("/event/action") == Some("monitor_started"))?;
    // Metrics are served beside the control socket, whatever the state of the output.
    let mut metrics = UnixStream::connect(folder.path().join("metrics.sock"))?;
    metrics.write_all(b"GET /ready HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    metrics.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.0 200"), "{answer}");
    reach(&early)?;
    monitor.wait_for("an alert", alert_of(&early))?;
    monitor.reader = None;
    reach(&late)?;
    let deadline = Instant::now() + patience();
    loop {
        let answer = Command::new(binary()).args(["status", "--json", "--socket"]).arg(&socket).output()?;
        let state: Value = serde_json::from_slice(&answer.stdout).context("no state")?;
        let outputs = state.get("outputs").and_then(Value::as_array).context("no outputs")?;
        let names: Vec<_> = outputs.iter().filter_map(|output| output.get("output")?.as_str()).collect();
        ensure!(names == ["pipe"], "outputs {names:?}");
        let error = state.pointer("/outputs/0/queue/last_error").and_then(Value::as_str);
        if error.is_some_and(|error| error.contains("nobody reads standard output"))
            && state.pointer("/outputs/0/queue/depth_records").and_then(Value::as_u64) > Some(0)
        {
            break;
        }
        ensure!(Instant::now() < deadline, "{state}");
        thread::sleep(Duration::from_millis(10));
    }
    monitor.stop()?;
    let mut monitor = Piped::start(rung, folder.path())?;
    monitor.wait_for("the alert that waited", alert_of(&late))?;
    monitor.stop()
}
