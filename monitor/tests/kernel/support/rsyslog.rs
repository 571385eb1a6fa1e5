//! A receiver of syslog over TLS that can be killed and started again, and what it has in its file.

use std::{
    collections::HashSet,
    fs,
    io::{Read as _, Seek as _, SeekFrom},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

use super::{Record, installed, patience};

/// rsyslog. What it read is in its file before it closes a connection (`queue.type="Direct"`).
pub(crate) struct Rsyslog {
    folder: TempDir,
    port: u16,
    process: Option<Child>,
    read_bytes: u64,
    rest: Vec<u8>,
    ids: HashSet<String>,
    /// Each record once, in the order in which it came for the first time.
    pub(crate) records: Vec<Record>,
    /// Records that came again.
    pub(crate) repeats: usize,
    /// Lines that a kill cut.
    pub(crate) cut_lines: usize,
}

impl Rsyslog {
    /// Starts it on a port of the loopback.
    pub(crate) fn start() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("egresswatch-receiver-").tempdir()?;
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.distinguished_name.push(DnType::CommonName, "Authority of the test");
        let authority_key = KeyPair::generate()?;
        fs::write(folder.path().join("ca.pem"), authority.self_signed(&authority_key)?.pem())?;
        let key = KeyPair::generate()?;
        let receiver = CertificateParams::new(["127.0.0.1".to_owned()])?;
        let certificate = receiver.signed_by(&key, &Issuer::new(authority, authority_key))?;
        fs::write(folder.path().join("receiver.pem"), certificate.pem())?;
        fs::write(folder.path().join("receiver.key"), key.serialize_pem())?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let place = folder.path().display();
        let configuration = format!(
            r#"global(
    workDirectory="{place}" maxMessageSize="64k" defaultNetstreamDriver="ossl"
    defaultNetstreamDriverCAFile="{place}/ca.pem"
    defaultNetstreamDriverCertFile="{place}/receiver.pem"
    defaultNetstreamDriverKeyFile="{place}/receiver.key"
)
main_queue(queue.type="Direct")
module(load="imtcp" streamDriver.mode="1" streamDriver.authMode="anon")
input(type="imtcp" address="127.0.0.1" port="{port}" ruleset="egresswatch")
template(name="record" type="string" string="%msg%\n")
ruleset(name="egresswatch") {{ action(type="omfile" file="{place}/records.jsonl" template="record") }}
"#
        );
        fs::write(folder.path().join("rsyslog.conf"), configuration)?;
        let mut rsyslog = Self {
            folder,
            port,
            process: None,
            read_bytes: 0,
            rest: Vec::new(),
            ids: HashSet::new(),
            records: Vec::new(),
            repeats: 0,
            cut_lines: 0,
        };
        rsyslog.start_again()?;
        Ok(rsyslog)
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The authority of its certificate.
    pub(crate) fn authority(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Whether it runs.
    pub(crate) const fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// Starts it after a kill.
    pub(crate) fn start_again(&mut self) -> Result<()> {
        let file = |name: &str| self.folder.path().join(name);
        let _ = fs::remove_file(file("rsyslog.pid"));
        let errors = fs::File::create(file("errors"))?;
        let mut command = Command::new(installed("rsyslogd").context("no rsyslogd")?);
        command.arg("-n").arg("-f").arg(file("rsyslog.conf")).arg("-i").arg(file("rsyslog.pid"));
        self.process = Some(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors).spawn()?);
        let deadline = Instant::now() + patience();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let errors = || fs::read_to_string(self.folder.path().join("errors")).unwrap_or_default();
            ensure!(Instant::now() < deadline, "rsyslog does not listen: {}", errors());
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.process.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Waits until `count` different records are in its file.
    pub(crate) fn wait_for(&mut self, count: usize) -> Result<()> {
        let deadline = Instant::now() + patience() * 2;
        loop {
            self.read()?;
            if self.records.len() >= count {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "{} of {count} records came", self.records.len());
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Reads what has come to the file since the last time.
    pub(crate) fn read(&mut self) -> Result<()> {
        let Ok(mut file) = fs::File::open(self.folder.path().join("records.jsonl")) else { return Ok(()) };
        file.seek(SeekFrom::Start(self.read_bytes))?;
        let length = file.read_to_end(&mut self.rest)?;
        self.read_bytes += length as u64;
        let text = std::mem::take(&mut self.rest);
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            match line.strip_suffix(b"\n") {
                Some(line) => self.take(line),
                None => self.rest = line.to_vec(),
            }
        }
        Ok(())
    }

    fn take(&mut self, line: &[u8]) {
        let record = Record::parse(line).or_else(|error| {
            // Killed in the middle of a write it leaves half a line, which the next run goes on.
            self.cut_lines += 1;
            let begin = line.windows(BEGIN.len()).rposition(|part| part == BEGIN).unwrap_or(0);
            if begin == 0 { Err(error) } else { Record::parse(line.get(begin..).unwrap_or_default()) }
        });
        let Ok(record) = record else { return };
        if self.ids.insert(record.text("/event/id").unwrap_or_default().to_owned()) {
            self.records.push(record);
        } else {
            self.repeats += 1;
        }
    }
}

/// How every record begins.
const BEGIN: &[u8] = b"{\"@timestamp\"";

impl Drop for Rsyslog {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}
