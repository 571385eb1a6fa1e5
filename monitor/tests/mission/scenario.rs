//! What happens, and what the monitor has to say about it.

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;

use crate::{
    browser::Browser,
    certificate::Certificate,
    internet::{Internet, SITE},
    servers::{COLLECTOR_NAME, Connection, Fact, SITE_NAME, Servers},
    support::{Monitor, Record, Rung, Settings, View, is_emulated},
};

/// Port of HTTPS.
const HTTPS: u16 = 443;

/// Most time from the collecting server's first byte to the alert in the reader's hands. It takes milliseconds; the
/// rest is for a busy machine.
const PROMPT_S: f64 = 1.0;

/// Lists that China Mobile's AS9808 is on.
const LISTS: [&str; 2] = ["us-fcc-covered", "us-dod-1260h"];

/// A page's script posts a fingerprint of the device to China Mobile: the monitor says who, to whom, which lists and,
/// to the byte, how much.
pub(crate) fn hidden_post_alerts(rung: Rung, collector: &[IpAddr]) -> Result<()> {
    let mut scenario = Scenario::start(rung, collector)?;
    let view = scenario.monitor.view();
    let browser = scenario.open("login.html")?;
    let cookie = scenario.cookie;
    let alert = view.one("that something was sent to the collector", |record| {
        is_of(record, cookie) && record.is_alert() && record.text("/egresswatch/level") == Some("sent")
    })?;
    let alerted_at = SystemTime::now();
    scenario.servers.wait_for(1, "get word that the page is done", |fact| match fact {
        Fact::Page { path } if path == "/done/collected" => Some(()),
        _ => None,
    })?;
    let executable = browser.executable()?;
    let remote = SocketAddr::new(*collector.first().context("no collector")?, HTTPS);
    check_alert(&alert, &executable, remote)?;

    browser.close()?;
    let contacts = scenario.servers.seen(|fact| match fact {
        Fact::Contact { at_ns, .. } => Some(*at_ns),
        _ => None,
    })?;
    let connections = scenario.servers.wait_for(contacts.len(), "see every connection end", |fact| match fact {
        Fact::Connection(connection) => Some(connection.clone()),
        _ => None,
    })?;
    let posts = scenario.servers.seen(|fact| match fact {
        Fact::Post { body_bytes, body } => Some((*body_bytes, body.clone())),
        _ => None,
    })?;
    let [(body_bytes, body)] = posts.as_slice() else {
        bail!("the page posted {} times", posts.len());
    };
    ensure!(body.contains("Chrome/") && body.contains("\"timezone\""), "no fingerprint was posted: {body}");
    for connection in &connections {
        check_flow(view, connection, &executable, remote)?;
    }
    let received: u64 = connections.iter().map(|connection| connection.received_bytes).sum();
    let sent: u64 = connections.iter().map(|connection| connection.sent_bytes).sum();
    // A handshake and the request's head come on top of the body, not another body.
    ensure!((body_bytes + 500..body_bytes + 10_000).contains(&received), "{received} bytes for a body of {body_bytes}");

    let first_byte = SystemTime::UNIX_EPOCH + Duration::from_nanos(*contacts.iter().min().context("no contact")?);
    // The monitor may well be faster than the collector.
    let latency = match alerted_at.duration_since(first_byte) {
        Ok(after) => after.as_secs_f64(),
        Err(before) => -before.duration().as_secs_f64(),
    };
    ensure!(latency < PROMPT_S || is_emulated(), "the alert came {latency:.3} s after the collector's first byte");

    let records = scenario.monitor.stop()?;
    let last = records.iter().rfind(|record| is_of(record, cookie) && record.is_alert()).context("no alert at all")?;
    let told =
        ["/egresswatch/totals/payload_out_bytes", "/egresswatch/totals/payload_in_bytes"].map(|it| last.number(it));
    ensure!(
        told == [Some(received), Some(sent)],
        "the last alert sums up {told:?} bytes, and {received} and {sent} were exchanged\n{}",
        last.pretty()
    );
    eprintln!(
        "\n  {body_bytes} bytes posted to {remote}; {received} bytes received there and reported, {sent} bytes sent and \
         reported; alert {:+.1} ms from the first byte there",
        latency * 1e3
    );
    Ok(())
}

/// A page that has something to do with China Mobile but sends nothing there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Page {
    /// It links there.
    Link,
    /// It links there and asks the browser to look the name up. With two addresses to choose from, the browser then asks
    /// the kernel which it can reach, by connecting a UDP socket to each: an attempt, in the kernel's eyes.
    LookedUpLink,
}

impl Page {
    const fn file(self) -> &'static str {
        match self {
            Self::Link => "link.html",
            Self::LookedUpLink => "looked-up-link.html",
        }
    }
}

/// Nothing is sent to China Mobile: no alert, though the browser may look its name and addresses up.
pub(crate) fn nothing_sent_does_not_alert(rung: Rung, page: Page, collector: &[IpAddr]) -> Result<()> {
    let mut scenario = Scenario::start(rung, collector)?;
    let view = scenario.monitor.view();
    let browser = scenario.open(page.file())?;
    scenario.servers.wait_for(1, "get word that the page has settled", |fact| match fact {
        Fact::Page { path } if path == "/done/settled" => Some(()),
        _ => None,
    })?;
    let executable = browser.executable()?;
    browser.close()?;

    // The same monitor saw the same browser's other traffic: it was not blind.
    let cookie = scenario.cookie;
    let site = SocketAddr::new(SITE.into(), 80);
    view.one("that the browser spoke to the web site", |record| {
        is_of(record, cookie)
            && record.is_flow_end()
            && is_executable(record, &executable)
            && record.remote() == Some(site)
            && record.bytes().0 > Some(0)
    })?;
    let looked_up = scenario.servers.seen(|fact| match fact {
        Fact::Question { name } if name == COLLECTOR_NAME => Some(()),
        _ => None,
    })?;
    ensure!(
        looked_up.is_empty() == (page == Page::Link),
        "the browser asked {} times for the collector's address",
        looked_up.len()
    );
    let reached = scenario.servers.seen(|fact| match fact {
        Fact::Contact { .. } | Fact::Post { .. } | Fact::Get { .. } => Some(fact.clone()),
        _ => None,
    })?;
    ensure!(reached.is_empty(), "the collector was reached: {reached:?}");

    // After the end nothing can be said any more.
    let records = scenario.monitor.stop()?;
    let account =
        |records: &[&Arc<Record>]| records.iter().map(|record| record.pretty()).collect::<Vec<_>>().join("\n");
    let own: Vec<_> = records.iter().filter(|record| is_of(record, cookie)).collect();
    let (alerts, flows): (Vec<_>, Vec<_>) = own.into_iter().partition(|record| record.is_alert());
    ensure!(alerts.is_empty(), "nothing was sent, and the monitor alerts:\n{}", account(&alerts));
    let (to_collector, _): (Vec<_>, Vec<_>) =
        flows.into_iter().partition(|record| record.remote().is_some_and(|remote| collector.contains(&remote.ip())));
    ensure!(
        to_collector.iter().all(|record| record.bytes().0 == Some(0)),
        "nothing was sent, and the monitor counts bytes:\n{}",
        account(&to_collector)
    );
    ensure!(
        to_collector.is_empty() == (page == Page::Link),
        "the monitor saw {} attempts to reach the collector:\n{}",
        to_collector.len(),
        account(&to_collector)
    );
    let losses: Vec<_> = records.iter().filter(|record| record.is_final_loss()).collect();
    ensure!(losses.is_empty(), "no alert, but the monitor may have missed some:\n{}", account(&losses));
    Ok(())
}

/// Everything that is started, in the order in which it has to end.
struct Scenario {
    monitor: Monitor,
    servers: Servers,
    internet: Internet,
    /// Cookie of the client's network namespace: what happens there and nowhere else is the test's.
    cookie: u64,
    certificate: Certificate,
    folder: TempDir,
}

impl Scenario {
    fn start(rung: Rung, collector: &[IpAddr]) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("egresswatch-mission-").tempdir()?;
        let internet = Internet::new()?;
        let certificate = Certificate::new(folder.path(), COLLECTOR_NAME)?;
        let servers = Servers::start(&internet, &certificate, collector)?;
        let cookie = internet.client.cookie()?;
        let monitor = Monitor::start(rung, Settings::default())?;
        Ok(Self { monitor, servers, internet, cookie, certificate, folder })
    }

    fn open(&self, page: &str) -> Result<Browser> {
        let address = format!("http://{SITE_NAME}/{page}");
        Browser::open(&self.internet, &self.certificate, self.folder.path(), &address)
    }
}

/// Whether a record is about the client's network.
fn is_of(record: &Record, cookie: u64) -> bool {
    record.number("/egresswatch/flow/network_namespace_cookie") == Some(cookie)
}

fn is_executable(record: &Record, executable: &Path) -> bool {
    record.executable().map(Path::new) == Some(executable)
}

fn check_alert(alert: &Record, executable: &Path, remote: SocketAddr) -> Result<()> {
    let organisation = alert.text("/destination/as/organization/name").unwrap_or_default();
    let lists = alert.texts("/egresswatch/lists");
    let checks = [
        ("the executable", is_executable(alert, executable)),
        ("the destination", alert.remote() == Some(remote)),
        ("the autonomous system", alert.number("/destination/as/number") == Some(9808)),
        ("the organisation", organisation.starts_with("China Mobile")),
        ("the country", alert.text("/destination/geo/country_iso_code") == Some("CN")),
        ("the lists", LISTS.iter().all(|list| lists.contains(list))),
        ("the deciding list", alert.text("/rule/id").is_some_and(|rule| lists.contains(&rule))),
        ("the user", alert.text("/user/id") == Some("0")),
        ("the bytes", alert.number("/source/bytes") > Some(0)),
    ];
    for (what, is_right) in checks {
        ensure!(
            is_right,
            "{what} is wrong in the alert on what {} sent to {remote}:\n{}",
            executable.display(),
            alert.pretty()
        );
    }
    Ok(())
}

/// The last record of a connection's flow has the bytes that the other side counted.
fn check_flow(view: View<'_>, connection: &Connection, executable: &Path, remote: SocketAddr) -> Result<()> {
    let flow = view.one(&format!("the end of the flow from {}", connection.peer()), |record| {
        record.is_flow_end()
            && record.is_egress()
            && record.local() == Some(connection.peer())
            && record.remote() == Some(remote)
    })?;
    let told = flow.bytes();
    let counted = (Some(connection.received_bytes), Some(connection.sent_bytes));
    ensure!(told == counted, "the flow has {told:?} bytes, the collector counted {connection:?}\n{}", flow.pretty());
    ensure!(is_executable(&flow, executable), "the flow is not {}'s:\n{}", executable.display(), flow.pretty());
    Ok(())
}
