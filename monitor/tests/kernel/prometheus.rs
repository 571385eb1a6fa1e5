//! Prometheus itself, which scrapes a monitor with the shipped alert rules.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{
    Case,
    support::{Launch, Monitor, Network, Program, Rung, Settings, TcpServer, Traffic, installed, patience},
};

/// The tests of this file.
pub(crate) const CASES: &[Case] =
    &[Case::new("prometheus_reads_the_metrics_and_its_alerts_fire", scrape).needs("prometheus").in_user_space()];

const RULES: &str = include_str!("../../../deploy/prometheus/alerts.yml");

/// Prometheus with a store of its own; it ends with the test.
struct Prometheus {
    child: Child,
    address: SocketAddr,
}

impl Prometheus {
    /// Reads what is served at `target` each second.
    fn start(folder: &Path, target: SocketAddr) -> Result<Self> {
        // A second instead of minutes until a rule holds for long enough.
        let rules: Vec<_> = RULES.lines().filter(|line| !line.trim_start().starts_with("for:")).collect();
        ensure!(rules.len() < RULES.lines().count(), "no rule waits");
        fs::write(folder.join("alerts.yml"), rules.join("\n"))?;
        let configuration = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [alerts.yml]\nscrape_configs:\n  - \
             {{job_name: egresswatch, static_configs: [{{targets: [\"{target}\"]}}]}}\n"
        );
        fs::write(folder.join("prometheus.yml"), configuration)?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut command = Command::new(installed("prometheus").context("no prometheus")?);
        command.arg(format!("--config.file={}", folder.join("prometheus.yml").display()));
        command.arg(format!("--storage.tsdb.path={}", folder.join("data").display()));
        command.arg(format!("--web.listen-address={address}"));
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        Ok(Self { child, address })
    }

    /// Waits until the answer to a query of the interface has what `wanted` looks for.
    fn wait<T>(&self, path: &str, wanted: impl Fn(&Value) -> Option<T>) -> Result<T> {
        let deadline = Instant::now() + patience();
        loop {
            let answer = get(self.address, path).and_then(|body| Ok(serde_json::from_str(&body)?));
            let found = answer.as_ref().ok().and_then(&wanted);
            if let Some(found) = found {
                return Ok(found);
            }
            ensure!(Instant::now() < deadline, "Prometheus answers {path}: {answer:?}");
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits until the one value of `expression` is `wanted`.
    fn wait_for_value(&self, expression: &str, wanted: f64) -> Result<()> {
        self.wait(&format!("/api/v1/query?query={expression}"), |answer| {
            let value: f64 = answer.pointer("/data/result/0/value/1")?.as_str()?.parse().ok()?;
            (value.total_cmp(&wanted).is_eq()).then_some(())
        })
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // It runs until it is told to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn get(address: SocketAddr, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(patience()))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("half an answer")?;
    ensure!(head.lines().next().is_some_and(|line| line.contains(" 200 ")), "{head}");
    Ok(body.to_owned())
}

fn scrape(rung: Rung) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let target = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    // An output whose receiver is not there, so that an alert is due.
    let nobody = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let rest = format!(
        "[metrics]\nlisten = \"{target}\"\n[spool]\ndirectory = \"{}\"\n[outputs.siem]\ntype = \"syslog\"\n\
         transport = \"tcp\"\naddress = \"{nobody}\"\n",
        folder.path().join("spool").display()
    );
    let monitor = Monitor::start(rung, Settings { rest: &rest, ..Settings::default() })?;
    let prometheus = Prometheus::start(folder.path(), target)?;
    prometheus.wait_for_value("up{job=\"egresswatch\"}", 1.0)?;
    let network = Network::new()?;
    let server = TcpServer::start(&network, 5, 0)?;
    let program = Program::new("scraped")?;
    let to = SocketAddr::new("120.232.0.1".parse()?, server.port);
    let view = monitor.view();
    Launch::inside(&network).run(&program, &Traffic::Tcp { to, connections: 1, send: 5, receive: 0, hold: false })?;
    view.one("an alert", |record| record.is_alert() && record.executable() == Some(program.name()))?;
    prometheus.wait_for_value("egresswatch_alerts_total>bool(0)", 1.0)?;
    prometheus.wait_for_value("egresswatch_output_failing{output=\"siem\"}", 1.0)?;
    let states = prometheus.wait("/api/v1/rules", |answer| {
        let rules = answer.pointer("/data/groups/0/rules")?.as_array()?;
        let text = |rule: &Value, key: &str| rule.get(key).and_then(Value::as_str).map(ToOwned::to_owned);
        let states: Vec<_> =
            rules.iter().map(|rule| Some((text(rule, "name")?, text(rule, "health")?, text(rule, "state")?))).collect();
        let states: Vec<(String, String, String)> = states.into_iter().collect::<Option<_>>()?;
        let fires = |name: &str| states.iter().any(|(rule, _, state)| rule == name && state == "firing");
        (fires("EgressWatchOutputFails") && states.iter().all(|(_, health, _)| health == "ok")).then_some(states)
    })?;
    let down = states.iter().find(|(name, _, _)| name == "EgressWatchDown").context("no such rule")?;
    ensure!(down.2 == "inactive", "{down:?}");
    let metrics = get(target, "/metrics")?;
    if let Some(promtool) = installed("promtool") {
        let mut check = Command::new(promtool);
        check.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut check = check.spawn()?;
        check.stdin.take().context("no input")?.write_all(metrics.as_bytes())?;
        let output = check.wait_with_output()?;
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success() && said.is_empty(), "promtool: {said}");
    }
    // What waits for a receiver that never comes stays in the spool.
    monitor.kill()?;
    prometheus.wait("/api/v1/alerts", |answer| {
        let alerts = answer.pointer("/data/alerts")?.as_array()?;
        alerts.iter().find(|alert| alert.pointer("/labels/alertname") == Some(&"EgressWatchDown".into())).map(drop)
    })
}
