//! Rotel, a collector of OpenTelemetry: what it prints of the records that it took.

use std::{
    fs,
    net::TcpStream,
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use egresswatch::sink::delivery::{AnyDelivery, Item};
use tempfile::TempDir;

use crate::{
    Case,
    support::{example, free_port, item, open, python_with, runtime, wait},
};

pub(crate) const CASES: &[Case] = &[
    Case { name: "rotel::records_arrive_over_grpc", missing, test: || arrives("grpc") },
    Case { name: "rotel::records_arrive_over_http", missing, test: || arrives("http") },
    Case { name: "rotel::asked_without_a_record", missing, test: asked },
    Case { name: "rotel::a_message_too_large_is_sent_in_parts", missing, test: too_large },
    Case { name: "rotel::a_collector_that_was_killed_is_found_again", missing, test: killed },
];

fn missing() -> Option<String> {
    (std::env::consts::ARCH != "x86_64").then(|| "Rotel's package is there for x86-64 only".to_owned())
}

struct Rotel {
    folder: TempDir,
    ports: [u16; 2],
    process: Option<Child>,
}

impl Rotel {
    fn start() -> Result<Self> {
        let mut rotel = Self { folder: tempfile::tempdir()?, ports: [free_port()?, free_port()?], process: None };
        rotel.start_again()?;
        Ok(rotel)
    }

    fn start_again(&mut self) -> Result<()> {
        let python = python_with("rotel==0.0.1a15")?;
        // The package has the program in it, and no entry for it in `bin`.
        let code = "import rotel, os.path; print(os.path.join(os.path.dirname(rotel.__file__), 'rotel-agent'), end='')";
        let agent = Command::new(&python).args(["-c", code]).output()?;
        let said = fs::File::options().create(true).append(true).open(self.folder.path().join("said"))?;
        let mut command = Command::new(String::from_utf8(agent.stdout)?);
        command.args(["start", "--exporter", "blackhole", "--debug-log", "logs", "--debug-log-verbosity", "detailed"]);
        command.args(["--otlp-grpc-max-recv-msg-size-mib", "1"]);
        let [grpc, http] = self.ports;
        for (option, port) in [("--otlp-grpc-endpoint", grpc), ("--otlp-http-endpoint", http)] {
            command.arg(option).arg(format!("127.0.0.1:{port}"));
        }
        command.arg("--pid-file").arg(self.folder.path().join("pid"));
        self.process = Some(command.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said).spawn()?);
        let ports = self.ports;
        let listening = || ports.iter().all(|port| TcpStream::connect(("127.0.0.1", *port)).is_ok());
        wait("Rotel listens", || listening().then_some(())).with_context(|| self.said())
    }

    fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.process.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    fn said(&self) -> String {
        fs::read_to_string(self.folder.path().join("said")).unwrap_or_default()
    }

    /// The ids of the records that it took, in order.
    fn ids(&self) -> Vec<String> {
        let said = self.said();
        let ids =
            said.lines().filter_map(|line| line.trim().strip_prefix("-> log.record.uid: Str(")?.strip_suffix(')'));
        ids.map(ToOwned::to_owned).collect()
    }

    /// The output of `deploy/siem/otlp`.
    fn output(&self, protocol: &str) -> Result<Box<dyn AnyDelivery>> {
        let [grpc, http] = self.ports;
        let port = if protocol == "grpc" { grpc } else { http };
        let (address, protocol) = (format!("127.0.0.1:{port}"), format!("protocol = \"{protocol}\""));
        open(&example(
            "otlp/egresswatch.toml",
            &[("protocol = \"grpc\"", protocol.as_str()), ("127.0.0.1:4317", address.as_str())],
        )?)
    }

    fn expect(&self, items: &[Item]) -> Result<()> {
        let ids = wait("all arrive", || Some(self.ids()).filter(|ids| ids.len() >= items.len()))?;
        let expected: Vec<_> = items.iter().map(|item| item.id.clone()).collect();
        ensure!(ids == expected, "{} came of {}: {ids:?}", ids.len(), expected.len());
        Ok(())
    }
}

impl Drop for Rotel {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

fn arrives(protocol: &str) -> Result<()> {
    let rotel = Rotel::start()?;
    let mut output = rotel.output(protocol)?;
    let items: Vec<_> = (0..200).map(item).collect();
    let runtime = runtime()?;
    for batch in items.chunks(100) {
        let delivered = runtime.block_on(output.deliver(batch))?;
        ensure!(delivered.refused.is_empty(), "{delivered:?}");
    }
    rotel.expect(&items)?;
    let said = rotel.said();
    for fact in [
        "-> service.name: Str(egresswatch)",
        "Timestamp: 1795431784000000000",
        "SEVERITY_NUMBER_",
        "-> process.executable.path: Str(/opt/\u{fc})",
        "Body: Map(",
    ] {
        ensure!(said.contains(fact), "no {fact} in {}", said.lines().take(40).collect::<Vec<_>>().join("\n"));
    }
    Ok(())
}

/// What `egresswatch check --connect` does: an export without records.
fn asked() -> Result<()> {
    let rotel = Rotel::start()?;
    let runtime = runtime()?;
    for protocol in ["grpc", "http"] {
        let mut output = rotel.output(protocol)?;
        let answer = runtime.block_on(output.probe()).context(protocol)?;
        ensure!(answer.is_some(), "{protocol} has nothing to connect to");
        // The same connection carries records afterwards.
        runtime.block_on(output.deliver(&[item(usize::from(protocol == "http"))]))?;
    }
    rotel.expect(&[item(0), item(1)])
}

/// The collector takes 1 MiB over gRPC; the batch is several times as large.
fn too_large() -> Result<()> {
    let rotel = Rotel::start()?;
    let mut output = rotel.output("grpc")?;
    let items: Vec<_> = (0..2_500).map(item).collect();
    let delivered = runtime()?.block_on(output.deliver(&items))?;
    ensure!(delivered.refused.is_empty(), "{delivered:?}");
    rotel.expect(&items)
}

fn killed() -> Result<()> {
    let mut rotel = Rotel::start()?;
    let items: Vec<_> = (0..40).map(item).collect();
    let runtime = runtime()?;
    let mut outputs = [rotel.output("grpc")?, rotel.output("http")?];
    for (batch, output) in items.chunks(10).zip(&mut outputs) {
        runtime.block_on(output.deliver(batch))?;
    }
    wait("the first arrive", || (rotel.ids().len() == 20).then_some(()))?;
    rotel.kill()?;
    let rest = items.get(20..).unwrap_or_default();
    for (batch, output) in rest.chunks(10).zip(&mut outputs) {
        let failure = runtime.block_on(output.deliver(batch)).err().context("nobody is there")?;
        ensure!(failure.confirmed == 0, "{failure:?}");
    }
    rotel.start_again()?;
    for (batch, output) in rest.chunks(10).zip(&mut outputs) {
        runtime.block_on(output.deliver(batch))?;
    }
    rotel.expect(&items)
}
