//! Kafka's protocol, with the brokers and the consumer of librdkafka.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use egresswatch::sink::{
    delivery::{Delivered, Delivery as _, Item},
    kafka::{Kafka, KafkaConfig},
};
use serde_json::Value;

use crate::{
    Case,
    support::{Authority, example, item, package_file, python_with, runtime},
};

pub(crate) const CASES: &[Case] = &[
    Case { name: "kafka::records_arrive_in_order", missing: || None, test: || arrives("gzip") },
    Case { name: "kafka::uncompressed_records_arrive_in_order", missing: || None, test: || arrives("none") },
    Case { name: "kafka::refusals_of_brokers_cost_nothing", missing: || None, test: refusals },
    Case { name: "kafka::another_leader_is_found", missing: || None, test: another_leader },
    Case { name: "kafka::tls_and_every_login", missing: || None, test: logins },
];

/// Brokers in a process of their own; see `kafka_broker.py`.
struct Brokers {
    addresses: Vec<String>,
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Brokers {
    fn start() -> Result<Self> {
        let mut command = Command::new(python_with("confluent-kafka==2.16.1")?);
        command.arg(package_file("tests/siem/kafka_broker.py")).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let commands = child.stdin.take().context("no input")?;
        let answers = BufReader::new(child.stdout.take().context("no output")?);
        let mut brokers = Self { addresses: Vec::new(), child, commands, answers };
        let addresses = brokers.answer()?;
        brokers.addresses = addresses.split(',').map(ToOwned::to_owned).collect();
        ensure!(brokers.addresses.len() == 3, "{addresses}");
        Ok(brokers)
    }

    fn answer(&mut self) -> Result<String> {
        let mut line = String::new();
        ensure!(self.answers.read_line(&mut line)? > 0, "the brokers have ended");
        Ok(line.trim_end().to_owned())
    }

    fn ask(&mut self, command: &str) -> Result<String> {
        writeln!(self.commands, "{command}")?;
        self.answer().context(command.to_owned())
    }

    /// The first `count` records, all of one partition.
    fn records(&mut self, count: usize) -> Result<Vec<Value>> {
        let records: Vec<Value> = serde_json::from_str(&self.ask(&format!("read {count}"))?)?;
        let partition = records.first().and_then(|record| record.get("partition")).context("no record")?;
        let other = records.iter().find(|record| record.get("partition") != Some(partition));
        ensure!(other.is_none(), "not in partition {partition}: {other:?}");
        Ok(records)
    }

    /// The output of `deploy/siem/kafka`, with these brokers and neither TLS nor a login.
    fn output(&self, compression: &str) -> Result<Kafka> {
        self.output_with(compression, toml::Table::new())
    }

    /// The same with other settings as well.
    fn output_with(&self, compression: &str, more: toml::Table) -> Result<Kafka> {
        let mut file: toml::Table = toml::from_str(&example("kafka/egresswatch.toml", &[])?)?;
        let outputs = file.get_mut("outputs").and_then(toml::Value::as_table_mut).context("no outputs")?;
        let (_, output) = outputs.iter_mut().next().context("no output")?;
        let table = output.as_table_mut().context("no table")?;
        ensure!(table.remove("type").is_some_and(|kind| kind.as_str() == Some("kafka")), "not a Kafka output");
        table.remove("tls");
        table.insert("brokers".to_owned(), self.addresses.clone().into());
        table.insert("compression".to_owned(), compression.into());
        // A broker that is down is given up after half of it.
        table.insert("timeout".to_owned(), "4s".into());
        table.extend(more);
        let config: KafkaConfig = table.clone().try_into()?;
        ensure!(config.topic == "egresswatch", "another topic: {}", config.topic);
        Ok(Kafka::open(&config)?)
    }
}

impl Drop for Brokers {
    fn drop(&mut self) {
        // It has ended already if it failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn batch(first: usize, count: usize) -> Vec<Item> {
    (first..first + count).map(item).collect()
}

fn id(record: &Value) -> Option<&str> {
    record.pointer("/headers/event.id")?.as_str()
}

fn arrives(compression: &str) -> Result<()> {
    const COUNT: usize = 500;
    let mut brokers = Brokers::start()?;
    let mut kafka = brokers.output(compression)?;
    let runtime = runtime()?;
    for first in [0, COUNT] {
        let delivered = runtime.block_on(kafka.deliver(&batch(first, COUNT)))?;
        ensure!(delivered == Delivered::default(), "{delivered:?}");
    }
    let records = brokers.records(2 * COUNT)?;
    for (number, record) in records.iter().enumerate() {
        let sent = item(number);
        let text = |pointer| record.pointer(pointer).and_then(Value::as_str);
        ensure!(id(record) == Some(sent.id.as_str()), "{} is not at its place: {record}", sent.id);
        ensure!(text("/headers/event.dataset") == Some("alert"), "{record}");
        ensure!(text("/value").map(str::as_bytes) == Some(sent.bytes.as_ref()), "{record}");
        let milliseconds = i64::try_from(sent.time.unix_ns() / 1_000_000)?;
        ensure!(record.get("time").and_then(Value::as_i64) == Some(milliseconds), "{record}");
    }
    // Who else writes with this key finds the same partition.
    let record = records.first().context("no record")?;
    let key = record.get("key").and_then(Value::as_str).context("no key")?;
    let chosen: i64 = brokers.ask(&format!("partition {key}"))?.parse()?;
    ensure!(record.get("partition").and_then(Value::as_i64) == Some(chosen), "librdkafka chooses {chosen}: {record}");
    Ok(())
}

/// Delivers as the spool's task does: again what is not confirmed. Returns how often that failed.
fn insist(kafka: &mut Kafka, runtime: &tokio::runtime::Runtime, batch: &[Item]) -> Result<usize> {
    let (mut done, mut failures) = (0, 0);
    while let Some(rest) = batch.get(done..).filter(|rest| !rest.is_empty()) {
        match runtime.block_on(kafka.deliver(rest)) {
            Ok(delivered) => {
                ensure!(delivered.refused.is_empty(), "{delivered:?}");
                return Ok(failures);
            }
            Err(failure) => {
                ensure!(failure.refused.is_empty(), "{failure:?}");
                (done, failures) = (done + failure.confirmed, failures + 1);
                ensure!(failures < 50, "{failure}");
                thread::sleep(Duration::from_millis(20));
            }
        }
    }
    bail!("confirmed, and failed all the same")
}

/// By Kafka's numbers: brokers answer produce requests with each of these once.
const REFUSALS: [(u32, &str); 7] = [
    (6, "this broker leads no longer"),
    (7, "the request took too long"),
    (19, "too few replicas are in sync"),
    (20, "too few replicas are in sync, and it was written"),
    (56, "the disk failed"),
    (2, "the message came damaged"),
    (10, "the batch is too large: it is halved"),
];

fn refusals() -> Result<()> {
    const COUNT: usize = 100;
    let mut brokers = Brokers::start()?;
    let mut kafka = brokers.output("gzip")?;
    let runtime = runtime()?;
    let mut failed = 0;
    for (number, (code, meaning)) in REFUSALS.into_iter().enumerate() {
        brokers.ask(&format!("fail {code}"))?;
        failed += insist(&mut kafka, &runtime, &batch(number * COUNT, COUNT)).context(meaning)?;
    }
    // The mock cluster writes nothing of what it refuses, so nothing comes twice.
    let all = REFUSALS.len() * COUNT;
    let records = brokers.records(all)?;
    let wrong = records.iter().enumerate().find(|(number, record)| id(record) != Some(item(*number).id.as_str()));
    ensure!(wrong.is_none(), "not in order: {wrong:?}");
    ensure!(failed > 0, "no refusal was noticed");
    // One record that no broker takes is refused, and the others go on.
    brokers.ask("fail 10 10 10 10")?;
    let delivered = runtime.block_on(kafka.deliver(&batch(all, 8)))?;
    let refused: Vec<_> = delivered.refused.iter().map(|refused| refused.index).collect();
    ensure!(refused == [0], "{delivered:?}");
    let last = brokers.records(all + 7)?;
    let ids: Vec<_> = last.iter().skip(all).filter_map(id).collect();
    let expected: Vec<_> = batch(all + 1, 7).into_iter().map(|item| item.id).collect();
    ensure!(ids == expected, "{ids:?}");
    Ok(())
}

/// The leader moves, then the broker that leads goes away and comes back.
fn another_leader() -> Result<()> {
    const COUNT: usize = 50;
    let mut brokers = Brokers::start()?;
    let mut kafka = brokers.output("gzip")?;
    let runtime = runtime()?;
    insist(&mut kafka, &runtime, &batch(0, COUNT))?;
    brokers.ask("lead 2")?;
    insist(&mut kafka, &runtime, &batch(COUNT, COUNT)).context("the leader moved")?;
    brokers.ask("down 2")?;
    let failure = runtime.block_on(kafka.deliver(&batch(2 * COUNT, COUNT))).err().context("the leader is down")?;
    ensure!(failure.confirmed == 0, "{failure:?}");
    brokers.ask("lead 3")?;
    insist(&mut kafka, &runtime, &batch(2 * COUNT, COUNT)).context("a broker is down")?;
    brokers.ask("up 2")?;
    brokers.ask("lead 2")?;
    insist(&mut kafka, &runtime, &batch(3 * COUNT, COUNT)).context("the broker came back")?;
    let records = brokers.records(4 * COUNT)?;
    let wrong = records.iter().enumerate().find(|(number, record)| id(record) != Some(item(*number).id.as_str()));
    ensure!(wrong.is_none(), "not in order: {wrong:?}");
    Ok(())
}

/// TLS and a login before [`Brokers`]; see `kafka_front.py`.
struct Front(Child);

impl Front {
    fn start(brokers: &Brokers, folder: &Path, mechanism: &str) -> Result<(Self, Vec<String>)> {
        let mut command = Command::new(python_with("scramp==1.5.0")?);
        command.arg(package_file("tests/siem/kafka_front.py")).arg(folder.join("kafka.pem"));
        command.arg(folder.join("kafka.key")).args([mechanism, "egresswatch", PASSWORD]).args(&brokers.addresses);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let answers = child.stdout.take().context("no output")?;
        let front = Self(child);
        let mut line = String::new();
        ensure!(BufReader::new(answers).read_line(&mut line)? > 0, "it has ended");
        Ok((front, line.trim_end().split(',').map(ToOwned::to_owned).collect()))
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        // It runs until it is told to end.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const PASSWORD: &str = "correct horse battery staple";

/// Over TLS with each mechanism: records arrive, a wrong password and a wrong authority confirm nothing and are told
/// without the password.
fn logins() -> Result<()> {
    const COUNT: usize = 100;
    let mut brokers = Brokers::start()?;
    let folder = tempfile::tempdir()?;
    let authority = Authority::new(folder.path())?;
    authority.issue(folder.path(), "kafka", "127.0.0.1", false)?;
    let secret = folder.path().join("password");
    let runtime = runtime()?;
    let settings = |addresses: &[String], mechanism: &str| -> Result<toml::Table> {
        let login = match mechanism {
            "-" => String::new(),
            _ => format!(
                "sasl = {{ mechanism = \"{mechanism}\", username = \"egresswatch\", password = {{ file = \"{}\" }} }}\n",
                secret.display()
            ),
        };
        let ca = folder.path().join("ca.pem");
        Ok(toml::from_str(&format!("brokers = {addresses:?}\ntls = {{ ca = \"{}\" }}\n{login}", ca.display()))?)
    };
    for (round, mechanism) in ["-", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"].into_iter().enumerate() {
        let (_front, addresses) = Front::start(&brokers, folder.path(), mechanism)?;
        ensure!(addresses.len() == brokers.addresses.len(), "{addresses:?}");
        if mechanism != "-" {
            fs::write(&secret, "wrong")?;
            let mut kafka = brokers.output_with("gzip", settings(&addresses, mechanism)?)?;
            let failure = runtime.block_on(kafka.deliver(&batch(0, 1))).err().context("the password is wrong")?;
            ensure!(failure.confirmed == 0 && !failure.reason.contains("wrong"), "{failure:?}");
            let failure = runtime.block_on(kafka.probe()).err().context("the password is wrong")?;
            ensure!(!failure.reason.contains("wrong"), "{failure:?}");
            eprintln!("    {mechanism} with a wrong password: {failure}");
        }
        fs::write(&secret, format!("{PASSWORD}\n"))?;
        let mut kafka = brokers.output_with("gzip", settings(&addresses, mechanism)?)?;
        // Asked without a record, which the records' order below would show.
        let answer = runtime.block_on(kafka.probe()).context(mechanism)?;
        ensure!(answer.is_some_and(|answer| answer.contains("egresswatch")), "another topic");
        insist(&mut kafka, &runtime, &batch(round * COUNT, COUNT)).context(mechanism)?;
    }
    let records = brokers.records(4 * COUNT)?;
    let wrong = records.iter().enumerate().find(|(number, record)| id(record) != Some(item(*number).id.as_str()));
    ensure!(wrong.is_none(), "not in order: {wrong:?}");
    // Somebody else's authority.
    let (_front, addresses) = Front::start(&brokers, folder.path(), "-")?;
    Authority::new(folder.path())?;
    let mut kafka = brokers.output_with("gzip", settings(&addresses, "-")?)?;
    let failure = runtime.block_on(kafka.deliver(&batch(0, 1))).err().context("nobody vouches for it")?;
    ensure!(failure.confirmed == 0, "{failure:?}");
    eprintln!("    with another authority: {failure}");
    Ok(())
}
