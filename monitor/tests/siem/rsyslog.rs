//! rsyslog, with the configuration of `deploy/siem/rsyslog`.

use std::{
    collections::HashSet,
    fs,
    io::Read as _,
    net::TcpStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use egresswatch::sink::{
    delivery::{Delivery as _, Item},
    syslog::{Syslog, SyslogConfig, Transport},
};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    Case,
    support::{Authority, example, free_port, installed, item, runtime, wait},
};

pub(crate) const CASES: &[Case] = &[
    Case { name: "rsyslog::unix", missing, test: || arrives(Transport::Unix) },
    Case { name: "rsyslog::udp", missing, test: || arrives(Transport::Udp) },
    Case { name: "rsyslog::tcp", missing, test: || arrives(Transport::Tcp) },
    Case { name: "rsyslog::tls_with_client_certificate", missing, test: || arrives(Transport::Tls) },
    Case { name: "rsyslog::asked_without_a_record", missing, test: asked },
    Case { name: "rsyslog::killed_over_tls", missing, test: || survives_kills(Transport::Tls) },
    Case { name: "rsyslog::killed_over_tcp", missing, test: || survives_kills(Transport::Tcp) },
    Case { name: "rsyslog::expired_certificate", missing, test: expired_certificate },
];

fn missing() -> Option<String> {
    let openssl = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu"]
        .into_iter()
        .any(|folder| PathBuf::from(folder).join("rsyslog/lmnsd_ossl.so").exists());
    (installed("rsyslogd").is_none() || !openssl).then(|| "install the packages rsyslog and rsyslog-openssl".to_owned())
}

struct Rsyslog {
    folder: TempDir,
    authority: Authority,
    ports: [u16; 3],
    process: Option<Child>,
}

impl Rsyslog {
    fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let authority = Authority::new(folder.path())?;
        authority.issue(folder.path(), "receiver", "127.0.0.1", false)?;
        authority.issue(folder.path(), "host", "web-1.example.com", false)?;
        Ok(Self { folder, authority, ports: [free_port()?, free_port()?, free_port()?], process: None })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn start(&mut self) -> Result<()> {
        let folder = self.folder.path().display().to_string();
        let [udp, tcp, tls] = self.ports.map(|port| format!("port=\"{port}\""));
        let text = example(
            "rsyslog/rsyslog.conf",
            &[
                ("/var/spool/rsyslog", &folder),
                ("/etc/rsyslog.d/tls", &folder),
                ("/var/log", &folder),
                ("/run/rsyslog/egresswatch.sock", &format!("{folder}/syslog.sock")),
                ("0.0.0.0", "127.0.0.1"),
                ("port=\"514\"", &udp),
                ("port=\"601\"", &tcp),
                ("port=\"6514\"", &tls),
            ],
        )?;
        fs::write(self.path("rsyslog.conf"), text)?;
        let _ = fs::remove_file(self.path("rsyslog.pid"));
        let errors = fs::File::create(self.path("errors"))?;
        let mut command = Command::new(installed("rsyslogd").context("no rsyslogd")?);
        command.arg("-n").arg("-f").arg(self.path("rsyslog.conf")).arg("-i").arg(self.path("rsyslog.pid"));
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors).spawn()?;
        self.process = Some(child);
        let [_, tcp, tls] = self.ports;
        let socket = self.path("syslog.sock");
        let listening =
            || socket.exists() && [tcp, tls].iter().all(|port| TcpStream::connect(("127.0.0.1", *port)).is_ok());
        let started = wait("rsyslog listens", || listening().then_some(()));
        started.with_context(|| fs::read_to_string(self.path("errors")).unwrap_or_default())
    }

    fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.process.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    fn config(&self, transport: Transport) -> Result<SyslogConfig> {
        let folder = self.folder.path().display().to_string();
        let [udp, tcp, tls] = self.ports;
        let address = format!("127.0.0.1:{tls}");
        let changes = [("/etc/egresswatch/tls", folder.as_str()), ("siem.example.com:6514", address.as_str())];
        let file: toml::Table = toml::from_str(&example("rsyslog/egresswatch.toml", &changes)?)?;
        let output = file.get("outputs").and_then(|outputs| outputs.get("siem")).context("no [outputs.siem]")?;
        let mut table = output.as_table().context("no table")?.clone();
        ensure!(table.remove("type").is_some_and(|kind| kind.as_str() == Some("syslog")), "not a syslog output");
        let mut config: SyslogConfig = table.try_into()?;
        config.transport = transport;
        match transport {
            Transport::Udp => config.address = Some(format!("127.0.0.1:{udp}")),
            Transport::Tcp => config.address = Some(format!("127.0.0.1:{tcp}")),
            _ => {}
        }
        config.socket = self.path("syslog.sock");
        Ok(config)
    }

    /// The ids in the file that rsyslog writes, in order. Each whole line must be a record.
    fn ids(&self) -> Result<Vec<String>> {
        let mut text = String::new();
        match fs::File::open(self.path("egresswatch.jsonl")) {
            Ok(mut file) => file.read_to_string(&mut text)?,
            Err(_) => return Ok(Vec::new()),
        };
        let whole = text.rfind('\n').and_then(|end| text.get(..end)).unwrap_or_default();
        let mut ids = Vec::new();
        for line in whole.lines() {
            // rsyslog killed in the middle of a write leaves half a line, which the next run goes on.
            let Ok(record) = serde_json::from_str::<Value>(line) else { continue };
            if let Some(id) = record.pointer("/event/id").and_then(Value::as_str) {
                ids.push(id.to_owned());
            }
        }
        Ok(ids)
    }
}

impl Drop for Rsyslog {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

fn arrives(transport: Transport) -> Result<()> {
    let mut rsyslog = Rsyslog::new()?;
    rsyslog.start()?;
    let mut syslog = Syslog::open(&rsyslog.config(transport)?)?;
    // What does not fit into the receiver's socket buffer is dropped by UDP: so many fit into the smallest default.
    let count = if transport == Transport::Udp { 20 } else { 100 };
    let batch: Vec<Item> = (0..count).map(item).collect();
    let delivered = runtime()?.block_on(syslog.deliver(&batch))?;
    ensure!(delivered.refused.is_empty(), "{delivered:?}");
    let expected: Vec<_> = batch.iter().map(|item| item.id.clone()).collect();
    if matches!(transport, Transport::Tcp | Transport::Tls) {
        let ids = rsyslog.ids()?;
        ensure!(ids == expected, "confirmed, but the file has {} of {count}: {ids:?}", ids.len());
    }
    let arrived = wait("all arrive", || rsyslog.ids().ok().filter(|ids| ids.len() >= count))?;
    ensure!(arrived == expected, "not in order: {arrived:?}");
    Ok(())
}

/// Batches go on while rsyslog is killed and started again; what was confirmed is in its file.
fn survives_kills(transport: Transport) -> Result<()> {
    const BATCHES: usize = 60;
    const SIZE: usize = 50;
    let mut rsyslog = Rsyslog::new()?;
    rsyslog.start()?;
    let config = rsyslog.config(transport)?;
    let sender = thread::spawn(move || -> Result<usize> {
        let mut syslog = Syslog::open(&config)?;
        let runtime = runtime()?;
        let mut failures = 0;
        for number in 0..BATCHES {
            let batch: Vec<Item> = (number * SIZE..(number + 1) * SIZE).map(item).collect();
            while let Err(failure) = runtime.block_on(syslog.deliver(&batch)) {
                ensure!(failure.confirmed == 0, "a stream confirms a batch or nothing");
                failures += 1;
                ensure!(failures < 10_000, "{failure}");
                thread::sleep(Duration::from_millis(2));
            }
        }
        Ok(failures)
    });
    for kill in 1..=6 {
        // In the middle of the stream, wherever the sender is then.
        let goal = kill * BATCHES * SIZE / 8;
        wait("records arrive", || rsyslog.ids().ok().filter(|ids| ids.len() >= goal))?;
        rsyslog.kill()?;
        rsyslog.start()?;
    }
    let failures = match sender.join() {
        Ok(result) => result?,
        Err(_) => bail!("the sender panicked"),
    };
    let ids: HashSet<String> = rsyslog.ids()?.into_iter().collect();
    let lost: Vec<_> =
        (0..BATCHES * SIZE).map(|number| format!("run-{number}")).filter(|id| !ids.contains(id)).collect();
    ensure!(lost.is_empty(), "{} of {} are lost after 6 kills: {lost:?}", lost.len(), BATCHES * SIZE);
    ensure!(failures > 0, "no kill was noticed");
    Ok(())
}

/// What `egresswatch check --connect` does, over every transport; and with a certificate too few.
fn asked() -> Result<()> {
    let mut rsyslog = Rsyslog::new()?;
    rsyslog.start()?;
    let runtime = runtime()?;
    for transport in [Transport::Unix, Transport::Udp, Transport::Tcp, Transport::Tls] {
        let mut syslog = Syslog::open(&rsyslog.config(transport)?)?;
        let answer = runtime.block_on(syslog.probe()).with_context(|| format!("{transport:?}"))?;
        ensure!(answer.is_some(), "{transport:?} has nothing to connect to");
    }
    let mut config = rsyslog.config(Transport::Tls)?;
    (config.tls.certificate, config.tls.key) = (None, None);
    let failure = runtime.block_on(Syslog::open(&config)?.probe()).err().context("no certificate, and let in")?;
    ensure!(failure.reason.contains("set tls.certificate and tls.key"), "{failure}");
    runtime.block_on(Syslog::open(&rsyslog.config(Transport::Tls)?)?.deliver(&[item(0)]))?;
    ensure!(rsyslog.ids()? == ["run-0"], "more than the record arrived: {:?}", rsyslog.ids()?);
    rsyslog.kill()?;
    for transport in [Transport::Tcp, Transport::Tls] {
        let failure = runtime.block_on(Syslog::open(&rsyslog.config(transport)?)?.probe()).err();
        let failure = failure.with_context(|| format!("{transport:?}: nobody is there"))?;
        ensure!(failure.reason.contains("cannot connect"), "{failure}");
    }
    Ok(())
}

fn expired_certificate() -> Result<()> {
    let mut rsyslog = Rsyslog::new()?;
    rsyslog.authority.issue(rsyslog.folder.path(), "receiver", "127.0.0.1", true)?;
    rsyslog.start()?;
    let runtime = runtime()?;
    let mut syslog = Syslog::open(&rsyslog.config(Transport::Tls)?)?;
    let failure = runtime.block_on(syslog.deliver(&[item(0)])).err().context("the certificate has expired")?;
    ensure!(failure.reason.contains("renew the receiver's certificate"), "{failure}");
    rsyslog.kill()?;
    rsyslog.authority.issue(rsyslog.folder.path(), "receiver", "127.0.0.1", false)?;
    rsyslog.start()?;
    runtime.block_on(syslog.deliver(&[item(0)]))?;
    ensure!(rsyslog.ids()? == ["run-0"], "it did not arrive");
    Ok(())
}
