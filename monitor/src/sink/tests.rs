//! Outputs that are slow, full, broken, rotated and closed.

use std::{
    collections::VecDeque,
    fs, io,
    num::NonZeroU32,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering, mpsc},
    time::Duration,
};

use super::{
    Config, Dropped, Encoding, Ending, File, OutputError, OutputGone, OutputSender, OutputTask, Settings, Stream,
    Transport, output,
};
use crate::alert::{
    Record, RecordBuilder, Timestamp,
    human::HumanFormat,
    input::{FlowMoment, Host, Loss, LossStage, OUTPUT_QUEUE_FULL, Phase, Status},
};

/// Far longer than anything here takes: only a hang reaches it.
const DEADLINE: Duration = Duration::from_secs(30);

fn builder() -> RecordBuilder {
    RecordBuilder::new("run".to_owned(), Host { hostname: "host".to_owned(), ..Host::default() })
}

fn notice(builder: &RecordBuilder) -> Arc<Record> {
    Arc::new(builder.status(Timestamp::from_unix_ns(0), Status::new(Phase::Running)))
}

fn flow(builder: &RecordBuilder) -> Arc<Record> {
    let scene = crate::alert::example::chromium();
    Arc::new(builder.flow(crate::alert::example::CLOCK, &scene.subject(), FlowMoment::Ended))
}

fn describe(builder: &RecordBuilder) -> impl FnMut(Dropped) -> Record + '_ {
    |dropped| {
        let loss = Loss {
            stage: LossStage::Output,
            reason: OUTPUT_QUEUE_FULL.into(),
            count: dropped.count,
            total: dropped.total,
            since: Timestamp::from_unix_ns(0),
            recoverable: false,
            output: Some(dropped.output),
        };
        builder.loss(Timestamp::from_unix_ns(0), loss)
    }
}

fn settings() -> Settings {
    let mut settings = Settings::new(&Config::default());
    settings.first_retry = Duration::from_millis(1);
    settings.longest_retry = Duration::from_millis(2);
    settings.drain = Duration::from_millis(50);
    settings
}

/// Runs the output beside `feed`, which gets the sender.
fn run<T: Transport, Feeding: Future<Output = ()>>(
    (sender, task): (OutputSender, OutputTask<T>),
    builder: &RecordBuilder,
    feed: impl FnOnce(OutputSender) -> Feeding,
) -> Result<Ending, OutputError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let both = async { tokio::join!(task.run(describe(builder)), feed(sender)).0 };
        tokio::time::timeout(DEADLINE, both).await.expect("the output ends in time")
    })
}

/// A transport that does what it is told, then takes everything.
#[derive(Clone, Debug, Default)]
struct Scripted {
    written: Arc<Mutex<Vec<u8>>>,
    steps: Arc<Mutex<VecDeque<Step>>>,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Take(usize),
    Fail(io::ErrorKind),
}

impl Scripted {
    fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        Self { written: Arc::default(), steps: Arc::new(Mutex::new(steps.into_iter().collect())) }
    }

    fn lines(&self) -> Vec<serde_json::Value> {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let text = std::str::from_utf8(&written).expect("records are UTF-8");
        assert!(text.is_empty() || text.ends_with('\n'));
        text.lines().map(|line| serde_json::from_str(line).expect("every line is JSON")).collect()
    }
}

impl Transport for Scripted {
    fn name(&self) -> &'static str {
        "scripted"
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let step = self.steps.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let count = match step {
            Some(Step::Fail(kind)) => return Err(kind.into()),
            Some(Step::Take(count)) => count.min(bytes.len()),
            None => bytes.len(),
        };
        self.written.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&bytes[..count]);
        Ok(count)
    }
}

fn sequences(lines: &[serde_json::Value]) -> Vec<u64> {
    lines.iter().filter_map(|line| line["event"]["sequence"].as_u64()).collect()
}

#[test]
fn failures_and_short_writes_neither_lose_nor_repeat_a_byte() {
    use io::ErrorKind::{Interrupted, StorageFull, WouldBlock};
    let builder = builder();
    let transport = Scripted::new([
        Step::Take(1),
        Step::Fail(StorageFull),
        Step::Take(37),
        Step::Fail(Interrupted),
        Step::Fail(WouldBlock),
        Step::Take(0),
        Step::Take(500),
        Step::Fail(StorageFull),
        Step::Fail(StorageFull),
    ]);
    let ending = run(output(transport.clone(), Encoding::JsonLines, settings()), &builder, |sender| {
        let builder = &builder;
        async move {
            for _ in 0..10 {
                sender.send(notice(builder)).await.expect("the output runs");
            }
            let counters = sender.counters();
            while counters.written_records.load(Ordering::Relaxed) < 10 || counters.failing.load(Ordering::Relaxed) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            // Three of the failures are errors, an empty write is a fourth; the others are everyday.
            assert_eq!(counters.errors.load(Ordering::Relaxed), 4);
        }
    });
    assert!(matches!(ending, Ok(Ending::Drained)), "{ending:?}");
    assert_eq!(sequences(&transport.lines()), (0..10).collect::<Vec<_>>());
}

#[test]
fn a_full_queue_drops_flows_and_tells_but_never_alerts() {
    let builder = builder();
    let transport = Scripted::default();
    let mut settings = settings();
    settings.flow_queue_records = NonZeroU32::new(2).expect("not 0");
    settings.alert_queue_records = NonZeroU32::new(2).expect("not 0");
    let (gate, gated) = mpsc::channel();
    let stuck = Gated { inner: transport.clone(), gate: Some(gated) };
    let ending = run(output(stuck, Encoding::JsonLines, settings), &builder, |sender| {
        let builder = &builder;
        async move {
            // The first one is taken and stays in the blocked write, so that both queues fill behind it.
            sender.send(notice(builder)).await.expect("the output runs");
            let mut alerts = Box::pin(async {
                for _ in 0..5 {
                    sender.send(notice(builder)).await.expect("the output runs");
                }
            });
            let waits = tokio::time::timeout(Duration::from_millis(50), &mut alerts).await;
            assert!(waits.is_err(), "a full alert queue holds up its sender");
            for _ in 0..10 {
                sender.send(flow(builder)).await.expect("a full flow queue holds up nobody");
            }
            assert_eq!(sender.counters().dropped_flows.load(Ordering::Relaxed), 8);
            gate.send(()).expect("the transport waits");
            alerts.await;
        }
    });
    assert!(matches!(ending, Ok(Ending::Drained)), "{ending:?}");
    let lines = transport.lines();
    let count = |dataset: &str| lines.iter().filter(|line| line["event"]["dataset"] == dataset).count();
    assert_eq!(count("egresswatch.status"), 6, "no alert is lost");
    assert_eq!(count("egresswatch.flow"), 2);
    let losses: Vec<_> = lines.iter().filter(|line| line["event"]["dataset"] == "egresswatch.loss").collect();
    let told: u64 = losses.iter().filter_map(|line| line["egresswatch"]["loss"]["count"].as_u64()).sum();
    assert_eq!(told, 8, "every dropped flow is told of: {losses:?}");
    assert_eq!(losses[0]["egresswatch"]["loss"]["output"], "scripted");
}

#[test]
fn the_goodbye_comes_after_everything_that_waits() {
    let builder = builder();
    let transport = Scripted::default();
    let (gate, gated) = mpsc::channel();
    let stuck = Gated { inner: transport.clone(), gate: Some(gated) };
    let ending = run(output(stuck, Encoding::JsonLines, settings()), &builder, |sender| {
        let builder = &builder;
        async move {
            let goodbye = notice(builder);
            for record in [notice(builder), flow(builder), notice(builder), flow(builder)] {
                sender.send(record).await.expect("the output runs");
            }
            sender.leave_goodbye(goodbye);
            gate.send(()).expect("the transport waits");
        }
    });
    assert!(matches!(ending, Ok(Ending::Drained)), "{ending:?}");
    assert_eq!(sequences(&transport.lines()), [1, 3, 2, 4, 0], "alerts before flows, and the goodbye last");
}

/// Blocks in its first write until the gate opens.
struct Gated {
    inner: Scripted,
    gate: Option<mpsc::Receiver<()>>,
}

impl Transport for Gated {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(gate) = self.gate.take() {
            gate.recv_timeout(DEADLINE).map_err(io::Error::other)?;
        }
        self.inner.write(bytes)
    }
}

#[test]
fn a_burst_of_flows_takes_the_outputs_pace_where_there_is_time() {
    let builder = builder();
    let mut settings = settings();
    settings.flow_queue_records = NonZeroU32::MIN;
    let transport = Scripted::default();
    let ending = run(output(transport.clone(), Encoding::JsonLines, settings), &builder, async |sender| {
        let far = tokio::time::Instant::now() + DEADLINE;
        for _ in 0..500 {
            sender.send_until(flow(&builder), far).await.expect("the output runs");
        }
        assert_eq!(sender.counters().dropped_flows.load(Ordering::Relaxed), 0);
    });
    assert_eq!(ending.expect("nothing fails"), Ending::Drained);
    assert_eq!(transport.lines().len(), 500);
}

#[test]
fn a_closed_pipe_ends_the_output_without_an_error() {
    let builder = builder();
    let (reader, writer) = io::pipe().expect("a pipe");
    drop(reader);
    let stream = Stream::new("standard output", writer);
    let ending = run(output(stream, Encoding::JsonLines, settings()), &builder, |sender| {
        let builder = &builder;
        async move { while sender.send(notice(builder)).await != Err(OutputGone) {} }
    });
    assert!(matches!(ending, Ok(Ending::ReaderGone)), "{ending:?}");
}

#[test]
fn what_cannot_be_written_at_the_end_is_given_up_and_counted() {
    let builder = builder();
    let transport = Scripted::new(std::iter::repeat_n(Step::Fail(io::ErrorKind::StorageFull), 100_000));
    let ending = run(output(transport, Encoding::JsonLines, settings()), &builder, |sender| {
        let builder = &builder;
        async move {
            for _ in 0..3 {
                sender.send(notice(builder)).await.expect("the output runs");
            }
        }
    });
    let error = ending.expect_err("nothing could be written").to_string();
    assert_eq!(error, "gave up on scripted with 3 records unwritten: no storage space");
}

#[test]
fn people_get_lines() {
    let builder = builder();
    let transport = Scripted::default();
    let human = Encoding::Human(HumanFormat::plain());
    let ending = run(output(transport.clone(), human, settings()), &builder, |sender| {
        let builder = &builder;
        async move { sender.send(notice(builder)).await.expect("the output runs") }
    });
    assert!(matches!(ending, Ok(Ending::Drained)), "{ending:?}");
    let written = transport.written.lock().unwrap_or_else(PoisonError::into_inner).clone();
    assert_eq!(String::from_utf8_lossy(&written), "00:00:00  status  EgressWatch still watches\n");
}

#[test]
fn a_file_is_appended_to_with_narrow_permissions() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("events.jsonl");
    let mut file = File::open(&path).expect("a new file");
    assert_eq!(file.write(b"{\"half\":").expect("written"), 8);
    drop(file);
    assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777 & !0o640, 0);
    let mut file = File::open(&path).expect("the same file");
    assert_eq!(file.write(b"{}\n").expect("written"), 3);
    assert_eq!(fs::read_to_string(&path).expect("text"), "{\"half\":\n{}\n");
}

#[test]
fn a_rotated_file_is_opened_anew_and_loses_nothing() {
    let builder = builder();
    let directory = tempfile::tempdir().expect("a directory");
    let (path, rotated) = (directory.path().join("events.jsonl"), directory.path().join("events.jsonl.1"));
    let file = File::open(&path).expect("a new file");
    let ending = run(output(file, Encoding::JsonLines, settings()), &builder, |sender| {
        let (builder, path, rotated) = (&builder, &path, &rotated);
        async move {
            sender.send(notice(builder)).await.expect("the output runs");
            while sender.counters().written_records.load(Ordering::Relaxed) < 1 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            fs::rename(path, rotated).expect("renamed");
            sender.reopener().reopen();
            sender.send(notice(builder)).await.expect("the output runs");
        }
    });
    assert!(matches!(ending, Ok(Ending::Drained)), "{ending:?}");
    let lines = |path: &Path| fs::read_to_string(path).expect("a file").lines().count();
    assert_eq!((lines(&rotated), lines(&path)), (1, 1));
}

#[test]
fn a_record_cut_by_a_rotation_is_written_again_whole() {
    /// Takes a few bytes, fails, and goes on elsewhere once opened anew.
    struct Rotating {
        places: Arc<Mutex<Vec<Vec<u8>>>>,
    }
    impl Transport for Rotating {
        fn name(&self) -> &'static str {
            "rotating"
        }
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
            let is_first = places.len() == 1;
            let place = places.last_mut().expect("a place");
            if is_first && !place.is_empty() {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let count = if is_first { 10 } else { bytes.len() };
            place.extend_from_slice(&bytes[..count]);
            Ok(count)
        }
        fn reopen(&mut self) -> io::Result<bool> {
            self.places.lock().unwrap_or_else(PoisonError::into_inner).push(Vec::new());
            Ok(true)
        }
    }
    let builder = builder();
    let places = Arc::new(Mutex::new(vec![Vec::new()]));
    let transport = Rotating { places: Arc::clone(&places) };
    let ending = run(output(transport, Encoding::JsonLines, settings()), &builder, |sender| {
        let builder = &builder;
        async move {
            sender.send(notice(builder)).await.expect("the output runs");
            while !sender.counters().failing.load(Ordering::Relaxed) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            sender.reopener().reopen();
        }
    });
    assert!(matches!(ending, Ok(Ending::Drained)), "{ending:?}");
    let places = places.lock().unwrap_or_else(PoisonError::into_inner);
    assert_eq!(places[0].len(), 10);
    let record: serde_json::Value = serde_json::from_slice(&places[1]).expect("a whole record");
    assert_eq!(record["event"]["sequence"], 0);
}

#[test]
fn a_file_that_cannot_be_opened_says_what_to_do() {
    let directory = tempfile::tempdir().expect("a directory");
    let name = directory.path().display().to_string();
    fs::write(directory.path().join("plain"), "").expect("a file");
    let errors: Vec<_> = ["missing/events.jsonl", "plain/events.jsonl", ""]
        .into_iter()
        .map(|path| File::open(&directory.path().join(path)).expect_err(path).to_string().replace(&name, "DIR"))
        .collect();
    insta::assert_snapshot!(errors.join("\n"));
}
