//! When an alert is due, and when it is not.

use std::{fs, net::SocketAddr, path::Path, time::Instant};

use anyhow::{Context as _, Result, ensure};

use crate::{
    Case,
    support::{Launch, Monitor, Network, Program, Record, Rung, Settings, TcpServer, Traffic, is_emulated, watch},
};

/// The tests of this file.
pub(crate) const CASES: &[Case] = &[
    Case::new("fifty_connections_are_one_first_contact", roll_up).in_user_space(),
    Case::new("an_address_that_is_on_no_list_gives_no_alert", unlisted).in_user_space(),
    Case::new("an_alert_takes_milliseconds", latency).in_user_space(),
    Case::new("a_damaged_baseline_stops_no_monitor_and_an_impossible_one_says_so", unusable_baseline).in_user_space(),
];

/// Connections to several addresses of one owner: one alert, then the rest as a sum.
fn roll_up(rung: Rung) -> Result<()> {
    const CONNECTIONS: u64 = 25;
    const BYTES: u64 = 40;
    let network = Network::new()?;
    let server = TcpServer::start(&network, BYTES, 0)?;
    let program = Program::new("roll-up")?;
    let monitor = Monitor::start(rung, Settings::default())?;
    let view = monitor.view();
    for address in ["111.13.100.1", "111.13.100.2"] {
        let to = SocketAddr::new(address.parse()?, server.port);
        let traffic = Traffic::Tcp { to, connections: CONNECTIONS, send: BYTES, receive: 0, hold: false };
        Launch::inside(&network).run(&program, &traffic)?;
    }
    view.many(2 * usize::try_from(CONNECTIONS)?, "the end of each flow", |record| {
        record.is_flow_end() && record.executable() == Some(program.name())
    })?;
    // At the stop the monitor tells what it held back.
    let records = monitor.stop()?;
    let alerts: Vec<_> =
        records.iter().filter(|record| record.is_alert() && record.executable() == Some(program.name())).collect();
    let show = || alerts.iter().map(|alert| alert.summary()).collect::<Vec<_>>().join("\n");
    let first = alerts.iter().filter(|alert| alert.text("/event/action") == Some("first_contact")).count();
    ensure!(first == 1, "{first} first contacts:\n{}", show());
    ensure!(alerts.len() <= 6, "{} alerts for one contact:\n{}", alerts.len(), show());
    let last = alerts.last().context("no alert")?;
    let total = |field: &str| last.number(&format!("/egresswatch/totals/{field}"));
    ensure!(total("connections") == Some(2 * CONNECTIONS), "{}", last.pretty());
    ensure!(total("payload_out_bytes") == Some(2 * CONNECTIONS * BYTES), "{}", last.pretty());
    Ok(())
}

fn unlisted(rung: Rung) -> Result<()> {
    let network = Network::new()?;
    let server = TcpServer::start(&network, 5, 5)?;
    let program = Program::new("unlisted")?;
    let monitor = Monitor::start(rung, Settings::default())?;
    let view = monitor.view();
    // Public resolvers in the United States, and an address that belongs to nobody (RFC 5737, RFC 3849).
    let addresses = ["8.8.8.8", "192.0.2.1", "2001:4860:4860::8888", "2001:db8::1"];
    for address in addresses {
        let to = SocketAddr::new(address.parse()?, server.port);
        let traffic = Traffic::Tcp { to, connections: 1, send: 5, receive: 5, hold: false };
        Launch::inside(&network).run(&program, &traffic)?;
    }
    let of_program = |record: &Record| record.executable() == Some(program.name());
    let ends =
        view.many(addresses.len(), "the end of each flow", |record| record.is_flow_end() && of_program(record))?;
    for end in &ends {
        ensure!(!end.facts().contains(&"flagged"), "{}", end.pretty());
        ensure!(end.bytes() == (Some(5), Some(5)), "{}", end.pretty());
    }
    let records = monitor.stop()?;
    let alert = records.iter().find(|record| record.is_alert() && of_program(record));
    ensure!(alert.is_none(), "{}", alert.map_or_else(String::new, |alert| alert.pretty()));
    Ok(())
}

/// What was damaged is told and begun anew; where nothing can be kept, the monitor ends instead of hanging.
fn unusable_baseline(rung: Rung) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let rules = folder.path().join("mine.toml");
    let rule =
        "[[rule]]\nid = \"new\"\ntitle = \"New\"\ncondition = \"true\"\nthreshold = { kind = \"first_contact\" }\n";
    fs::write(&rules, rule)?;
    let policy = |baseline: &Path| {
        format!("[policy]\nrules = [\"{}\"]\nbaseline = \"{}\"\n", rules.display(), baseline.display())
    };
    let damaged = folder.path().join("baseline.redb");
    fs::write(&damaged, "no baseline")?;
    let monitor = Monitor::start(rung, Settings { rest: &policy(&damaged), ..Settings::default() })?;
    monitor.whole().one("that the damaged file was put aside", |record| {
        record.text("/egresswatch/degradation/token") == Some("baseline_put_aside")
    })?;
    monitor.stop()?;
    // Nothing can be made below a file.
    let impossible = rules.join("baseline.redb");
    let error = Monitor::start(rung, Settings { rest: &policy(&impossible), ..Settings::default() });
    let error = error.err().context("it started")?.to_string();
    ensure!(error.contains("policy.baseline"), "{error}");
    Ok(())
}

/// From the end of the send to the alert in the reader's hands. The bound is wide, because machines are busy.
fn latency(rung: Rung) -> Result<()> {
    let network = Network::new()?;
    let server = TcpServer::start(&network, 5, 0)?;
    let to = SocketAddr::new("120.232.0.1".parse()?, server.port);
    let program = Program::new("latency")?;
    watch(rung, |view| {
        let traffic = Traffic::Tcp { to, connections: 1, send: 5, receive: 0, hold: true };
        let client = Launch::inside(&network).start(&program, &traffic)?;
        let sent = Instant::now();
        view.one("an alert", |record| record.is_alert() && record.executable() == Some(program.name()))?;
        let delay = sent.elapsed();
        client.finish()?;
        eprintln!("    {rung}: the alert came at most {delay:?} after the send");
        ensure!(is_emulated() || delay.as_millis() < 500, "the alert took {delay:?}");
        Ok(())
    })
}
