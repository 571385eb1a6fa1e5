//! The other side: names, web site and collecting server, and what they saw.

use std::{
    io::{BufRead as _, BufReader},
    net::{IpAddr, SocketAddr},
    path::Path,
    process::{Child, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::Instant,
};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::{
    certificate::Certificate,
    internet::{COLLECTOR_IPV4, COLLECTOR_IPV6, Internet, SITE},
    support::patience,
};

/// Name of the web site.
pub(crate) const SITE_NAME: &str = "app.test";
/// Name of the collecting server: a real one, of China Mobile's one-tap login.
pub(crate) const COLLECTOR_NAME: &str = "cmpassport.com";

/// One thing that a server saw: a line of `server.py`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Fact {
    /// Every socket listens.
    Ready,
    /// Somebody asked the name server.
    Question {
        /// The name asked for.
        name: String,
    },
    /// The web site was asked for a file.
    Page {
        /// The file.
        path: String,
    },
    /// The first byte of a connection reached the collecting server.
    Contact {
        /// When, in nanoseconds since 1970 on the wall clock.
        at_ns: u64,
        /// The client's address.
        peer_ip: IpAddr,
        /// Its port.
        peer_port: u16,
    },
    /// The collecting server was posted something.
    Post {
        /// Length of the body.
        body_bytes: u64,
        /// The body.
        body: String,
    },
    /// The collecting server was asked for something.
    Get {
        /// The path.
        path: String,
    },
    /// A connection to the collecting server ended.
    Connection(Connection),
}

/// A TCP connection to the collecting server, below TLS.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Connection {
    peer_ip: IpAddr,
    peer_port: u16,
    /// Bytes that the client sent.
    pub(crate) received_bytes: u64,
    /// Bytes that it was sent.
    pub(crate) sent_bytes: u64,
    /// How it ended.
    pub(crate) ended: String,
}

impl Connection {
    /// The client's end.
    pub(crate) fn peer(&self) -> SocketAddr {
        SocketAddr::new(self.peer_ip, self.peer_port)
    }
}

/// The running servers.
pub(crate) struct Servers {
    child: Child,
    lines: Receiver<String>,
    facts: Vec<Fact>,
}

impl Servers {
    /// Starts them and waits until they listen. The name server places the collector at `collector`.
    pub(crate) fn start(internet: &Internet, certificate: &Certificate, collector: &[IpAddr]) -> Result<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mission");
        let addresses: Vec<String> = collector.iter().map(ToString::to_string).collect();
        let mut child = internet
            .server
            .command("python3")
            .arg(folder.join("server.py"))
            .args(["--dns", &SITE.to_string(), "--site"])
            .arg(folder.join("pages"))
            .arg("--certificate")
            .arg(&certificate.file)
            .arg("--key")
            .arg(&certificate.key)
            .args(["--name", &format!("{SITE_NAME}={SITE}")])
            .args(["--name", &format!("{COLLECTOR_NAME}={}", addresses.join(","))])
            .args(["--collect", &COLLECTOR_IPV4.to_string(), "--collect", &COLLECTOR_IPV6.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the servers")?;
        let output = BufReader::new(child.stdout.take().context("the servers have no standard output")?);
        let (sender, lines) = channel();
        thread::spawn(move || {
            // Ends with the servers, or when nobody listens any more.
            output.lines().map_while(Result::ok).all(|line| sender.send(line).is_ok())
        });
        let mut servers = Self { child, lines, facts: Vec::new() };
        servers.wait_for(1, "listen", |fact| (*fact == Fact::Ready).then_some(()))?;
        Ok(servers)
    }

    /// Waits until the servers saw `count` things that `wanted` picks, and returns all that are there by then. `what`
    /// finishes the sentence "the servers did not …".
    pub(crate) fn wait_for<T>(
        &mut self,
        count: usize,
        what: &str,
        wanted: impl Fn(&Fact) -> Option<T>,
    ) -> Result<Vec<T>> {
        let deadline = Instant::now() + patience();
        loop {
            let found: Vec<T> = self.facts.iter().filter_map(&wanted).collect();
            if found.len() >= count {
                return Ok(found);
            }
            let Ok(line) = self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) else {
                bail!("the servers did not {what}; they saw {:#?}", self.facts);
            };
            self.take_in(&line)?;
        }
    }

    /// Everything of a kind that the servers saw so far.
    pub(crate) fn seen<T>(&mut self, wanted: impl Fn(&Fact) -> Option<T>) -> Result<Vec<T>> {
        while let Ok(line) = self.lines.try_recv() {
            self.take_in(&line)?;
        }
        Ok(self.facts.iter().filter_map(wanted).collect())
    }

    fn take_in(&mut self, line: &str) -> Result<()> {
        self.facts.push(serde_json::from_str(line).with_context(|| format!("the servers said {line}"))?);
        Ok(())
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        // They end with their standard input as well; whoever is first.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
