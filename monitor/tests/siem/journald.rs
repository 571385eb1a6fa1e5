//! The journal itself, with a `/run` of its own.

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use egresswatch::{
    alert::record::Dataset,
    sink::{
        delivery::{AnyDelivery, Item},
        journald::message_id,
    },
};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    Case,
    support::{example, installed, item, open, package_file, runtime, wait},
};

pub(crate) const CASES: &[Case] = &[
    Case { name: "journald::entries_have_the_fields", missing, test: fields },
    Case { name: "journald::entries_come_in_order", missing, test: order },
];

const JOURNALD: [&str; 2] = ["/lib/systemd/systemd-journald", "/usr/lib/systemd/systemd-journald"];

/// The records as the unit tests of `alert` hold them fast.
const RECORDS: &str = "src/alert/snapshots/egresswatch__alert__tests__records.snap.jsonl";

fn journald() -> Option<PathBuf> {
    JOURNALD.into_iter().map(PathBuf::from).find(|path| path.is_file())
}

fn missing() -> Option<String> {
    let tools = ["journalctl", "unshare"].into_iter().all(|tool| installed(tool).is_some());
    (!tools || journald().is_none()).then(|| "install the packages systemd and util-linux".to_owned())
}

struct Journal {
    folder: TempDir,
    child: Child,
}

impl Journal {
    fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        for name in ["run/systemd/journal", "run/log"] {
            fs::create_dir_all(folder.path().join(name))?;
        }
        // In namespaces of its own it is not the machine's journal, and needs no root.
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "--propagation", "private", "sh", "-c"]);
        command.arg("mount --bind \"$0\" /run && exec \"$1\"").arg(folder.path().join("run"));
        command.arg(journald().context("no journald")?);
        let errors = fs::File::create(folder.path().join("errors"))?;
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors).spawn()?;
        let journal = Self { folder, child };
        let socket = journal.socket();
        let started = wait("journald listens", || socket.exists().then_some(()));
        started.with_context(|| fs::read_to_string(journal.folder.path().join("errors")).unwrap_or_default())?;
        Ok(journal)
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("run/systemd/journal/socket")
    }

    fn output(&self) -> Result<Box<dyn AnyDelivery>> {
        let socket = format!("type = \"journald\"\nsocket = \"{}\"", self.socket().display());
        open(&example("journald/egresswatch.toml", &[("type = \"journald\"", &socket)])?)
    }

    /// The entries of our program as `journalctl` shows them, once `count` are there.
    fn entries(&self, count: usize) -> Result<Vec<Value>> {
        let entries = || -> Option<Vec<Value>> {
            let mut command = Command::new("journalctl");
            command.arg("--directory").arg(self.folder.path().join("run/log/journal"));
            let output = command.args(["--output=json", "--all", "--identifier=egresswatch"]).output().ok()?;
            let lines = String::from_utf8(output.stdout).ok()?;
            let entries: Vec<_> = lines.lines().map(serde_json::from_str).collect::<Result<_, _>>().ok()?;
            (entries.len() >= count).then_some(entries)
        };
        let entries = wait("all entries are there", entries)?;
        ensure!(entries.len() == count, "{} entries, not {count}", entries.len());
        Ok(entries)
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        // It runs until it is told to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One record of each kind, and one that is larger than a datagram.
fn fields() -> Result<()> {
    let journal = Journal::start()?;
    let mut output = journal.output()?;
    let text = fs::read_to_string(package_file(RECORDS))?;
    let mut items = Vec::new();
    for line in text.lines() {
        let record: Value = serde_json::from_str(line)?;
        let word = |pointer| record.pointer(pointer).and_then(Value::as_str);
        let datasets =
            [Dataset::Alert, Dataset::Flow, Dataset::Executable, Dataset::Loss, Dataset::Degradation, Dataset::Status];
        let dataset = datasets
            .into_iter()
            .find(|one| serde_json::to_value(one).ok().as_ref().and_then(Value::as_str) == word("/event/dataset"));
        let severity = record.pointer("/event/severity").and_then(Value::as_u64);
        items.push(Item {
            id: word("/event/id").context("no id")?.to_owned(),
            dataset: dataset.with_context(|| format!("no kind: {record}"))?,
            severity: severity.map(u8::try_from).transpose()?,
            bytes: Bytes::from(line.to_owned()),
            ..item(0)
        });
    }
    let small = items.len();
    ensure!(small > 5, "only {small} records");
    let large = format!("{{\"event\":{{\"id\":\"large\"}},\"message\":\"two\\nlines {}\"}}", "x".repeat(500_000));
    items.push(Item { id: "large".to_owned(), bytes: Bytes::from(large), ..item(0) });
    let delivered = runtime()?.block_on(output.deliver(&items))?;
    ensure!(delivered.refused.is_empty(), "{delivered:?}");
    let entries = journal.entries(items.len())?;
    for (entry, item) in entries.iter().zip(&items) {
        let field = |name: &str| entry.get(name).and_then(Value::as_str);
        let record: Value = serde_json::from_slice(&item.bytes)?;
        let show = || entry.to_string().chars().take(2_000).collect::<String>();
        ensure!(field("EGRESSWATCH_EVENT_ID") == Some(item.id.as_str()), "not {}: {}", item.id, show());
        ensure!(field("EGRESSWATCH_RECORD").map(str::as_bytes) == Some(item.bytes.as_ref()), "{}", show());
        ensure!(field("MESSAGE_ID") == Some(message_id(item.dataset)), "{}", show());
        ensure!(field("MESSAGE") == record.pointer("/message").and_then(Value::as_str), "{}", show());
        ensure!(field("PRIORITY").is_some() && field("_TRANSPORT") == Some("journal"), "{}", show());
        let destination = record.pointer("/destination/ip").and_then(Value::as_str);
        ensure!(field("EGRESSWATCH_DESTINATION_IP") == destination, "{}", show());
    }
    Ok(())
}

fn order() -> Result<()> {
    const COUNT: usize = 5_000;
    let journal = Journal::start()?;
    let mut output = journal.output()?;
    let runtime = runtime()?;
    let items: Vec<_> = (0..COUNT).map(item).collect();
    for batch in items.chunks(1_000) {
        runtime.block_on(output.deliver(batch))?;
    }
    let entries = journal.entries(COUNT)?;
    let wrong = entries
        .iter()
        .zip(&items)
        .find(|(entry, item)| entry.get("EGRESSWATCH_EVENT_ID").and_then(Value::as_str) != Some(item.id.as_str()));
    ensure!(wrong.is_none(), "not in order: {wrong:?}");
    Ok(())
}
