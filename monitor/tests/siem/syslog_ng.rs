//! syslog-ng, with the configuration of `deploy/siem/syslog-ng`.

use std::{
    fs,
    net::TcpStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use egresswatch::sink::{
    delivery::{Delivery as _, Item},
    syslog::{Syslog, SyslogConfig, Transport},
};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    Case,
    support::{Authority, debian_package, example, free_port, installed, item, runtime, wait},
};

pub(crate) const CASES: &[Case] = &[
    Case { name: "syslog_ng::tcp", missing, test: || arrives(Transport::Tcp) },
    Case { name: "syslog_ng::tls_with_client_certificate", missing, test: || arrives(Transport::Tls) },
    Case { name: "syslog_ng::an_unknown_client_is_turned_away", missing, test: unknown_client },
];

fn missing() -> Option<String> {
    let tools = ["apt-get", "dpkg-deb"].into_iter().all(|tool| installed(tool).is_some());
    (!tools).then(|| "syslog-ng is taken from a package of Debian or Ubuntu".to_owned())
}

struct SyslogNg {
    folder: TempDir,
    authority: Authority,
    ports: [u16; 2],
    process: Option<Child>,
}

impl SyslogNg {
    fn start() -> Result<Self> {
        // Debian installs it or rsyslog, not both.
        let root = debian_package("syslog-ng-core")?;
        let folder = tempfile::tempdir()?;
        let authority = Authority::new(folder.path())?;
        authority.issue(folder.path(), "receiver", "127.0.0.1", false)?;
        authority.issue(folder.path(), "host", "web-1.example.com", false)?;
        let mut receiver = Self { folder, authority, ports: [free_port()?, free_port()?], process: None };
        let place = receiver.folder.path().display().to_string();
        let [tcp, tls] = receiver.ports.map(|port| format!("port({port})"));
        let changes = [
            ("/etc/syslog-ng/tls", place.as_str()),
            ("/var/log", place.as_str()),
            ("0.0.0.0", "127.0.0.1"),
            ("port(601)", tcp.as_str()),
            ("port(6514)", tls.as_str()),
        ];
        fs::write(receiver.path("syslog-ng.conf"), example("syslog-ng/syslog-ng.conf", &changes)?)?;
        let modules = fs::read_dir(root.join("usr/lib/syslog-ng"))?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| path.join("libaffile.so").is_file())
            .context("no modules of syslog-ng")?;
        let mut libraries = vec![root.join("usr/lib"), root.join("usr/lib/syslog-ng")];
        for folder in ["usr/lib", "lib"] {
            let machine = root.join(folder).join(format!("{}-linux-gnu", std::env::consts::ARCH));
            libraries.push(machine);
        }
        let mut command = Command::new(root.join("usr/sbin/syslog-ng"));
        command.env("LD_LIBRARY_PATH", std::env::join_paths(libraries)?).arg("--module-path").arg(modules);
        command.args(["--foreground", "--no-caps"]).arg("--cfgfile").arg(receiver.path("syslog-ng.conf"));
        for (option, file) in [("--persist-file", "persist"), ("--pidfile", "pid"), ("--control", "control")] {
            command.arg(option).arg(receiver.path(file));
        }
        let errors = fs::File::create(receiver.path("errors"))?;
        receiver.process = Some(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors).spawn()?);
        let ports = receiver.ports;
        let listening = || ports.iter().all(|port| TcpStream::connect(("127.0.0.1", *port)).is_ok());
        let started = wait("syslog-ng listens", || listening().then_some(()));
        started.with_context(|| fs::read_to_string(receiver.path("errors")).unwrap_or_default())?;
        Ok(receiver)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn config(&self, transport: Transport) -> Result<SyslogConfig> {
        let folder = self.folder.path().display().to_string();
        let [tcp, tls] = self.ports;
        let address = format!("127.0.0.1:{tls}");
        let changes = [("/etc/egresswatch/tls", folder.as_str()), ("siem.example.com:6514", address.as_str())];
        let file: toml::Table = toml::from_str(&example("syslog-ng/egresswatch.toml", &changes)?)?;
        let output = file.get("outputs").and_then(|outputs| outputs.get("siem")).context("no [outputs.siem]")?;
        let mut table = output.as_table().context("no table")?.clone();
        ensure!(table.remove("type").is_some_and(|kind| kind.as_str() == Some("syslog")), "not a syslog output");
        let mut config: SyslogConfig = table.try_into()?;
        config.transport = transport;
        if transport == Transport::Tcp {
            config.address = Some(format!("127.0.0.1:{tcp}"));
        }
        Ok(config)
    }

    /// The records in the file that syslog-ng writes.
    fn records(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.path("egresswatch.jsonl")).unwrap_or_default();
        text.lines().map_while(|line| serde_json::from_str(line).ok()).collect()
    }
}

impl Drop for SyslogNg {
    fn drop(&mut self) {
        if let Some(mut child) = self.process.take() {
            // It has ended already if it failed.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Three batches, each confirmed by the end of its connection.
fn arrives(transport: Transport) -> Result<()> {
    const BATCH: usize = 200;
    let receiver = SyslogNg::start()?;
    let runtime = runtime()?;
    let mut syslog = Syslog::open(&receiver.config(transport)?)?;
    let all: Vec<Item> = (0..3 * BATCH).map(item).collect();
    for batch in all.chunks(BATCH) {
        let delivered = runtime.block_on(syslog.deliver(batch))?;
        ensure!(delivered.refused.is_empty(), "{delivered:?}");
    }
    let records = wait("all arrive", || Some(receiver.records()).filter(|records| records.len() >= all.len()))?;
    ensure!(records.len() == all.len(), "{} came of {}", records.len(), all.len());
    for (record, sent) in records.iter().zip(&all) {
        ensure!(*record == serde_json::from_slice::<Value>(&sent.bytes)?, "not {}: {record}", sent.id);
    }
    Ok(())
}

/// A certificate of another authority: the handshake fails, and the reason tells whose fault it is.
fn unknown_client() -> Result<()> {
    let receiver = SyslogNg::start()?;
    let other = tempfile::tempdir()?;
    Authority::new(other.path())?.issue(other.path(), "host", "web-1.example.com", false)?;
    let mut config = receiver.config(Transport::Tls)?;
    config.tls.certificate = Some(other.path().join("host.pem"));
    config.tls.key = Some(other.path().join("host.key"));
    let runtime = runtime()?;
    let mut syslog = Syslog::open(&config)?;
    let failure = runtime.block_on(syslog.deliver(&[item(0)])).err().context("syslog-ng took it")?;
    ensure!(
        failure.confirmed == 0 && failure.reason.contains("the receiver does not accept the certificate"),
        "{failure}"
    );
    ensure!(receiver.records().is_empty(), "it arrived all the same");
    // The same with the right one.
    receiver.authority.issue(other.path(), "host", "web-1.example.com", false)?;
    syslog.reopen();
    runtime.block_on(syslog.deliver(&[item(0)]))?;
    wait("it arrives", || (receiver.records().len() == 1).then_some(()))
}
