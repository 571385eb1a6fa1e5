//! A spool with scripted receivers.

use std::{
    collections::{BTreeMap, VecDeque},
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout};

use crate::{
    alert::{
        Record, RecordBuilder, Timestamp, example,
        input::{self, FlowMoment, Host, Phase, Status},
    },
    policy::{Cause, Level},
    sink::{
        Filter, RecordFormat, RecordKind,
        delivery::{BatchLimits, Delivered, Delivery, Failure, Item, Refused},
        spool::{
            Backoff, Config, Delivering, Notice, OwnBounds, QueueCounters, QueueFigures, QueueSettings, Spool,
            SpoolSender, Steering, WhenFull,
        },
    },
    units::{self, ByteSize},
};

/// Far longer than anything here takes: only a hang reaches it.
pub(super) const DEADLINE: Duration = Duration::from_mins(1);

pub(super) fn run(test: impl Future<Output = ()>) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    runtime.block_on(async { timeout(DEADLINE, test).await.expect("the test ends in time") });
    runtime.shutdown_timeout(Duration::from_secs(1));
}

thread_local! {
    static BUILDER: RecordBuilder =
        RecordBuilder::new("run".to_owned(), Host { hostname: "host".to_owned(), ..Host::default() });
}

/// A record that must arrive.
pub(super) fn notice() -> Record {
    BUILDER
        .with(|builder| builder.status(Timestamp::from_unix_ns(1_700_000_000_000_000_000), Status::new(Phase::Running)))
}

/// A record of the kind that matters most.
pub(super) fn alert() -> Record {
    let scene = example::chromium();
    let decision = example::decision(&scene, Cause::FirstContact, Level::Sent);
    BUILDER.with(|builder| builder.alert(example::CLOCK, &scene.subject(), &decision))
}

/// A record that need not.
pub(super) fn flow() -> Record {
    let scene = example::chromium();
    BUILDER.with(|builder| builder.flow(example::CLOCK, &scene.subject(), FlowMoment::Ended))
}

/// What a receiver does with a batch.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// Confirms so many and fails.
    Fail(usize),
    /// Asks for a short pause.
    AskToWait,
    /// Refuses these for good.
    Refuse(Vec<usize>),
    /// Never answers.
    Hang,
}

/// A receiver that answers as it is told, then takes everything.
#[derive(Clone, Debug, Default)]
pub(super) struct Script {
    answers: Arc<Mutex<VecDeque<Answer>>>,
    refuses: Arc<AtomicBool>,
    taken: Arc<Mutex<Vec<Item>>>,
}

impl Script {
    pub(super) fn new(answers: impl IntoIterator<Item = Answer>) -> Self {
        Self { answers: Arc::new(Mutex::new(answers.into_iter().collect())), ..Self::default() }
    }

    /// Whether everything is refused from now on, once there are no answers left.
    pub(super) fn refuse_everything(&self, refuses: bool) {
        self.refuses.store(refuses, Ordering::Relaxed);
    }

    pub(super) fn taken(&self) -> Vec<Item> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn records(&self) -> Vec<serde_json::Value> {
        self.taken().iter().map(|item| serde_json::from_slice(&item.bytes).expect("a record is JSON")).collect()
    }

    pub(super) async fn wait_for(&self, count: usize) {
        let deadline = Instant::now() + DEADLINE / 2;
        while self.taken.lock().unwrap_or_else(PoisonError::into_inner).len() < count {
            assert!(Instant::now() < deadline, "{} of {count} records came", self.taken().len());
            sleep(Duration::from_millis(1)).await;
        }
    }

    fn take(&self, items: &[Item]) {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(items);
    }
}

pub(super) fn ids(script: &Script) -> Vec<String> {
    script.taken().into_iter().map(|item| item.id).collect()
}

impl Delivery for Script {
    fn describe(&self) -> &'static str {
        "scripted"
    }

    fn limits(&self) -> BatchLimits {
        BatchLimits { items: 50, bytes: 1 << 20 }
    }

    async fn deliver(&mut self, batch: &[Item]) -> Result<Delivered, Failure> {
        let answer = self.answers.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        match answer {
            None if self.refuses.load(Ordering::Relaxed) => {
                let refused = (0..batch.len()).map(|index| Refused { index, reason: "wants none of it".to_owned() });
                Ok(Delivered::but(refused.collect()))
            }
            None => {
                self.take(batch);
                Ok(Delivered::default())
            }
            Some(Answer::Fail(confirmed)) => {
                let confirmed = confirmed.min(batch.len());
                self.take(&batch[..confirmed]);
                Err(Failure { confirmed, ..Failure::new("told to fail") })
            }
            Some(Answer::AskToWait) => {
                Err(Failure { retry_after: Some(Duration::from_millis(2)), ..Failure::new("told to wait") })
            }
            Some(Answer::Refuse(indices)) => {
                let kept: Vec<_> = batch
                    .iter()
                    .enumerate()
                    .filter(|(index, _)| !indices.contains(index))
                    .map(|(_, item)| item.clone())
                    .collect();
                self.take(&kept);
                let refused = indices.into_iter().map(|index| Refused { index, reason: "too odd".to_owned() });
                Ok(Delivered::but(refused.collect()))
            }
            Some(Answer::Hang) => std::future::pending().await,
        }
    }
}

/// A spool under test.
pub(super) struct Rig {
    spool: Spool,
    pub(super) sender: SpoolSender,
    config: Config,
    counters: Mutex<BTreeMap<String, Arc<QueueCounters>>>,
    pub(super) told: Arc<Mutex<Vec<Notice>>>,
    tasks: Mutex<Vec<(Steering, tokio::task::JoinHandle<()>)>>,
}

impl Rig {
    pub(super) fn start(directory: &Path, config: &Config, outputs: &[&str]) -> Self {
        Self::start_with_rooms(directory, config, outputs, 1_024, 4_096)
    }

    pub(super) fn start_with_rooms(
        directory: &Path,
        config: &Config,
        outputs: &[&str],
        alerts: u32,
        flows: u32,
    ) -> Self {
        let retry =
            Backoff::new(units::Duration::from_millis(1), units::Duration::from_millis(4)).expect("good pauses");
        let config = Config { directory: directory.to_owned(), retry, ..config.clone() };
        let told: Arc<Mutex<Vec<Notice>>> = Arc::default();
        let counters = Mutex::default();
        let notices = Arc::clone(&told);
        let builder = RecordBuilder::new("spool".to_owned(), Host::default());
        let describe = move |notice: Notice| {
            notices.lock().unwrap_or_else(PoisonError::into_inner).push(notice.clone());
            describe(&builder, notice)
        };
        let queues = queues(&counters, &config, outputs);
        let spool = Spool::start(&config, alerts, flows, queues, Arc::new(describe)).expect("a spool");
        let sender = spool.sender();
        Self { spool, sender, config, counters, told, tasks: Mutex::default() }
    }

    pub(super) fn set_outputs(&self, outputs: &[&str]) {
        self.sender.set_queues(queues(&self.counters, &self.config, outputs));
    }

    pub(super) fn deliver(&self, output: &str, script: &Script) {
        let counters = Arc::clone(&self.counters.lock().expect("no panic")[output]);
        let (task, steering) =
            Delivering::new(output, Box::new(script.clone()), self.sender.clone(), &self.config, counters);
        self.tasks.lock().expect("no panic").push((steering, tokio::spawn(task.run())));
    }

    /// Sends a record and returns its id.
    pub(super) async fn send(&self, record: Record) -> String {
        let id = record.event.id.clone();
        self.sender.append(Arc::new(record)).await;
        id
    }

    pub(super) fn figures(&self, output: &str) -> QueueFigures {
        self.counters.lock().expect("no panic")[output].figures()
    }

    pub(super) fn notices(&self) -> Vec<String> {
        self.told.lock().expect("no panic").iter().map(|notice| format!("{notice:?}")).collect()
    }

    pub(super) fn losses_told(&self, about: &str) -> u64 {
        losses_told(&self.told, about)
    }

    pub(super) async fn wait_for_depth(&self, output: &str, records: u64) {
        self.wait_until(|| self.figures(output).depth_records == records).await;
    }

    pub(super) async fn wait_until(&self, is_true: impl Fn() -> bool) {
        let deadline = Instant::now() + DEADLINE / 2;
        while !is_true() {
            let figures: Vec<_> = self.counters.lock().expect("no panic").values().map(|one| one.figures()).collect();
            assert!(Instant::now() < deadline, "{figures:?}\n{:?}", self.notices());
            sleep(Duration::from_millis(1)).await;
        }
    }

    /// Stops like the daemon: outputs get a moment, the rest stays.
    pub(super) async fn stop(self) -> u64 {
        self.sender.close();
        let tasks = self.tasks.into_inner().expect("no panic");
        for (steering, task) in tasks {
            steering.give_up_at(Instant::now() + Duration::from_millis(200));
            task.await.expect("no panic");
        }
        let spool = self.spool;
        tokio::task::spawn_blocking(move || spool.stop()).await.expect("no panic")
    }
}

/// What was told of the losses of one output.
pub(super) fn losses_told(told: &Mutex<Vec<Notice>>, about: &str) -> u64 {
    let notices = told.lock().expect("no panic");
    notices
        .iter()
        .filter_map(|notice| match notice {
            Notice::Lost { output, count, .. } if output == about => Some(count),
            _ => None,
        })
        .sum()
}

/// Loss records as the daemon makes them, with the reason's name.
fn describe(builder: &RecordBuilder, notice: Notice) -> Record {
    let now = Timestamp::from_unix_ns(0);
    match notice {
        Notice::Lost { output, reason, count, total, .. } => {
            let stage = input::LossStage::Output;
            let reason = format!("{reason:?}").into();
            builder.loss(
                now,
                input::Loss { stage, reason, count, total, since: now, recoverable: false, output: Some(output) },
            )
        }
        Notice::Began(condition) => {
            let missing = format!("{condition:?}");
            builder.degradation(now, input::Degradation { token: "spool".into(), missing, remedy: None })
        }
    }
}

/// The output with these own bounds, which keep some seventy records; all others have those of the spool.
pub(super) const TIGHT: &str = "tight";
const TIGHT_BOUNDS: OwnBounds =
    OwnBounds { max_bytes: Some(ByteSize::from_bytes(64 << 10)), when_full: Some(WhenFull::DropNewest) };

fn queues(
    counters: &Mutex<BTreeMap<String, Arc<QueueCounters>>>,
    config: &Config,
    outputs: &[&str],
) -> Vec<QueueSettings> {
    let mut counters = counters.lock().expect("no panic");
    let mut filter = Filter::default();
    filter.records.push(RecordKind::Flow);
    outputs
        .iter()
        .map(|output| QueueSettings {
            output: (*output).to_owned(),
            format: RecordFormat::Ecs,
            filter: filter.clone(),
            bounds: config.bounds(if *output == TIGHT { TIGHT_BOUNDS } else { OwnBounds::default() }),
            counters: Arc::clone(counters.entry((*output).to_owned()).or_default()),
        })
        .collect()
}
