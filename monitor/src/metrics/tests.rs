use std::{
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    sync::mpsc,
};

use super::*;
use crate::{control::Question, sink::spool::QueueFigures};

fn example() -> String {
    let histogram = latency_histogram();
    histogram.observe(0.02);
    text(&Snapshot::example(), &histogram, Some(150_000_000))
}

#[test]
fn the_metrics_of_a_monitor() {
    insta::assert_snapshot!(example().replace(env!("CARGO_PKG_VERSION"), "[version]"));
}

/// Prometheus' own tool; where it is not installed the test says so, and in a CI run that is a failure.
fn promtool(arguments: &[&str], input: &str) {
    let tool = Command::new("promtool")
        .args(arguments)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/prometheus"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut tool) = tool else {
        assert!(std::env::var_os("CI").is_none(), "promtool is not installed");
        eprintln!("promtool is not installed: nothing was checked");
        return;
    };
    tool.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = tool.wait_with_output().unwrap();
    let (said, complaints) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}{complaints}");
    assert_eq!(complaints, "");
}

#[test]
fn promtool_finds_nothing_to_say_of_the_metrics() {
    promtool(&["check", "metrics"], &example());
}

#[test]
fn the_alert_rules_fire_when_they_should() {
    promtool(&["test", "rules", "alerts_test.yml"], "");
}

/// A rule or a panel on a metric that does not exist would never show anything.
#[test]
fn rules_and_panels_ask_for_metrics_that_there_are() {
    let known = example();
    for text in [
        include_str!("../../../deploy/prometheus/alerts.yml"),
        include_str!("../../../deploy/grafana/egresswatch.json"),
    ] {
        let is_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        let names = text.split(|letter| !is_name(letter)).filter(|word| word.starts_with("egresswatch_"));
        for name in names {
            assert!(known.contains(&format!("\n{name}")) || known.contains(&format!("TYPE {name} ")), "{name}");
        }
    }
}

#[test]
fn places_to_listen_are_read_and_written() {
    for text in ["127.0.0.1:9477", "[::1]:9477", "unix:/run/egresswatch/metrics.sock", "off"] {
        assert_eq!(text.parse::<Listen>().unwrap().to_string(), text);
    }
    for text in ["9477", "localhost:9477", "unix:metrics.sock", "on", ""] {
        assert!(text.parse::<Listen>().is_err(), "{text}");
    }
}

#[test]
fn a_place_that_other_hosts_reach_is_refused() {
    for (listen, allow_remote, is_refused) in [
        ("0.0.0.0:9477", false, true),
        ("[::]:9477", false, true),
        ("0.0.0.0:9477", true, false),
        ("127.0.0.1:9477", false, false),
        ("[::ffff:127.0.0.1]:9477", false, false),
        ("unix:/run/x", false, false),
        ("off", false, false),
    ] {
        let mistake = Config { listen: Some(listen.parse().unwrap()), allow_remote }.mistake();
        assert_eq!(mistake.is_some(), is_refused, "{listen}: {mistake:?}");
        assert!(mistake.is_none_or(|mistake| mistake.contains("metrics.allow_remote = true")), "{listen}");
    }
    assert_eq!(Config::default().mistake(), None);
}

#[tokio::test]
async fn without_a_setting_it_is_a_socket_beside_the_control_socket() {
    let folder = tempfile::tempdir().unwrap();
    let control = folder.path().join("run/control.sock");
    let path = folder.path().join("run/metrics.sock");
    let first = Server::bind(&Config::default(), &control).await.unwrap().expect("a server");
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660, "{mode:o}");
    // Where another monitor serves, this one runs without, and leaves the other's socket alone.
    assert!(Server::bind(&Config::default(), &control).await.unwrap().is_none());
    let configured = Config { listen: Some(Listen::Unix(path.clone())), allow_remote: false };
    let error = Server::bind(&configured, &control).await.unwrap_err().to_string();
    assert!(error.contains("cannot serve metrics at unix:/") && error.contains("set metrics.listen"), "{error}");
    assert!(UnixStream::connect(&path).await.is_ok());
    drop(first);
    assert!(!path.exists());
    // What a killed monitor left is replaced, a file of somebody else's is not.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    drop(Server::bind(&Config::default(), &control).await.unwrap().expect("a server"));
    std::fs::write(&path, "mine").unwrap();
    assert!(Server::bind(&Config::default(), &control).await.unwrap().is_none());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
    let off = Config { listen: Some(Listen::Off), allow_remote: false };
    assert!(Server::bind(&off, &control).await.unwrap().is_none());
}

#[test]
fn promtool_reads_the_example_of_a_scrape() {
    promtool(&["check", "config", "prometheus.yml"], "");
}

async fn get(path: &Path, what: &str) -> String {
    let mut stream = UnixStream::connect(path).await.unwrap();
    let request = format!("GET {what} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// A receiver that is down is what a spool is for; one that refuses, and a queue that drops, are not.
#[test]
fn an_output_is_ready_while_what_it_is_handed_is_kept() {
    let [direct, spooled] = <[OutputState; 2]>::try_from(Snapshot::example().outputs).unwrap();
    assert!(direct.takes_records());
    assert!(!OutputState { failing: true, ..direct }.takes_records());
    let queue = spooled.queue.clone().unwrap();
    assert!(spooled.failing && queue.is_stuck() && spooled.takes_records());
    for queue in
        [QueueFigures { is_dropping: true, ..queue.clone() }, QueueFigures { refused_in_a_row: 1, ..queue.clone() }]
    {
        assert!(!OutputState { queue: Some(queue), ..spooled.clone() }.takes_records());
    }
}

#[tokio::test]
async fn the_endpoint_answers_from_the_loop() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics.sock");
    let config = Config { listen: Some(Listen::Unix(path.clone())), allow_remote: false };
    let server = Server::bind(&config, Path::new("/nowhere/control.sock")).await.unwrap().unwrap();
    let (sender, mut questions) = mpsc::channel(1);
    let serving = tokio::spawn(server.serve(sender, latency_histogram()));
    let is_refusing = Arc::new(AtomicBool::new(false));
    let is_refusing_there = Arc::clone(&is_refusing);
    let answering = tokio::spawn(async move {
        while let Some(question) = questions.recv().await {
            if let Question::Snapshot(answer) = question {
                let mut snapshot = Snapshot::example();
                if is_refusing_there.load(Ordering::Relaxed) {
                    let queue = snapshot.outputs.last_mut().and_then(|output| output.queue.as_mut());
                    queue.expect("an output with a spool").refused_in_a_row = 47;
                }
                let _ = answer.send(Box::new(snapshot));
            }
        }
    });
    let metrics = get(&path, "/metrics").await;
    assert!(metrics.starts_with("HTTP/1.1 200"), "{metrics}");
    assert!(metrics.contains("\negresswatch_alerts_total 3\n"), "{metrics}");
    assert!(get(&path, "/live").await.starts_with("HTTP/1.1 200"));
    assert!(get(&path, "/ready").await.starts_with("HTTP/1.1 200"));
    is_refusing.store(true, Ordering::Relaxed);
    let answer = get(&path, "/ready").await;
    assert!(
        answer.starts_with("HTTP/1.1 503") && answer.ends_with("these outputs take no records: siem\n"),
        "{answer}"
    );
    assert!(get(&path, "/live").await.starts_with("HTTP/1.1 200"));
    assert!(get(&path, "/").await.starts_with("HTTP/1.1 404"));
    // A loop that has gone is neither live nor ready.
    answering.abort();
    assert!(answering.await.is_err());
    assert!(get(&path, "/live").await.starts_with("HTTP/1.1 503"));
    serving.abort();
}
