//! The outputs that the configuration and the command line name, and their tasks.

mod notices;
mod spooled;

use std::{
    collections::{BTreeMap, btree_map::Entry},
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::tz::TimeZone;
use tokio::{
    task::{JoinError, JoinHandle},
    time::Instant,
};

use self::spooled::Spooled;
pub(super) use self::{
    notices::{OUTPUT_IMPAIRED, SPOOL_TROUBLES, Trouble},
    spooled::NewOutputs,
};
use super::{Error, RunOptions};
use crate::{
    alert::{
        Record, RecordBuilder,
        input::{self, LossStage},
    },
    config::Config,
    metrics::{LossFigure, OutputState},
    sink::{
        self, Encoding, Ending, OutputConfig, OutputError, OutputKind, OutputName, OutputSender, OutputsConfig,
        Settings, Stream, Transport,
    },
};

/// An output without a spool that takes no alert for this long is stuck: while others run on, they do not wait for it.
const STUCK: Duration = Duration::from_secs(2);

/// Every output, as the watch loop sees it.
///
/// Those without a spool set the pace: what must arrive waits for them, and ordinary flows for a while. The spool takes
/// everything at the disk's speed, and what its outputs do with it later holds up nobody.
pub(super) struct Outputs {
    direct: Vec<Direct>,
    spooled: Spooled,
    records: Arc<RecordBuilder>,
    goodbye: Option<Arc<Record>>,
    /// Records that must arrive and found no room until the end.
    left_records: u64,
    is_gone: bool,
}

/// An output without a spool.
struct Direct {
    sender: OutputSender,
    task: JoinHandle<Result<Ending, OutputError>>,
    /// It took no alert when it should have.
    is_stuck: bool,
    /// It took no flows when it should have: the others do not wait for it until it has room again.
    is_out_of_pace: bool,
    /// Alerts that it dropped and that the other outputs were told of.
    dropped_told: u64,
}

impl Outputs {
    /// Opens the outputs and spawns their tasks.
    pub(super) fn open(config: &Config, options: &RunOptions, records: &Arc<RecordBuilder>) -> Result<Self, Error> {
        let settings = Settings::new(&config.output);
        spooled::check_files(&config.outputs, options.file.iter().chain(&config.output.file))?;
        let mut outputs = Self {
            direct: Vec::new(),
            spooled: Spooled::open(config, records)?,
            records: Arc::clone(records),
            goodbye: None,
            left_records: 0,
            is_gone: false,
        };
        // Both at once would mix their lines.
        if !has_stdout(&config.outputs) {
            let encoding = sink::stdout_format(options.stdout.unwrap_or(config.output.format), TimeZone::system());
            outputs.add(Stream::stdout().map_err(Error::Runtime)?, encoding, settings);
        }
        for path in options.file.iter().chain(&config.output.file) {
            outputs.add(sink::File::open(path)?, Encoding::JsonLines, settings);
        }
        Ok(outputs)
    }

    fn add<T: Transport>(&mut self, transport: T, encoding: Encoding, settings: Settings) {
        let (sender, task) = sink::output(transport, encoding, settings);
        let records = Arc::clone(&self.records);
        let task = tokio::spawn(task.run(move |dropped| notices::dropped_record(&records, dropped)));
        self.direct.push(Direct { sender, task, is_stuck: false, is_out_of_pace: false, dropped_told: 0 });
    }

    /// Has the outputs with a spool that `new` names from now on: those that changed are replaced, those that are gone end
    /// and keep what they have in the spool.
    pub(super) fn reconfigure(&mut self, new: NewOutputs) -> Result<(), Error> {
        self.spooled.reconfigure(new, &self.records)
    }

    /// What each output has done.
    pub(super) fn states(&self) -> Vec<OutputState> {
        let direct = self.direct.iter().map(|output| {
            let counters = output.sender.counters();
            let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            OutputState {
                output: output.sender.name().to_owned(),
                written_records: count(&counters.written_records),
                written_bytes: count(&counters.written_bytes),
                dropped_flows: count(&counters.dropped_flows),
                dropped_alerts: count(&counters.dropped_alerts),
                errors: count(&counters.errors),
                failing: counters.failing.load(Ordering::Relaxed),
                receiver: None,
                queue: None,
                delivery_latency: None,
            }
        });
        direct.chain(self.spooled.states()).collect()
    }

    /// What each output has lost, by reason.
    pub(super) fn losses(&self) -> impl Iterator<Item = LossFigure> {
        let direct = self.direct.iter().map(|output| {
            let counters = output.sender.counters();
            let dropped = [&counters.dropped_flows, &counters.dropped_alerts];
            let count = dropped.map(|counter| counter.load(Ordering::Relaxed)).iter().sum();
            loss_figure(output.sender.name(), input::OUTPUT_QUEUE_FULL, count)
        });
        direct.chain(self.spooled.losses())
    }

    /// Hands a record to every output. Waits for a slow one without a spool: with a record that must arrive as long as it
    /// takes, unless other outputs run on, with another until `deadline`. The spool is waited for while it has no room; see
    /// [`Self::have_alert_room`].
    pub(super) async fn send(&mut self, record: Arc<Record>, deadline: Instant) {
        let may_wait = self.direct_may_wait();
        let direct = async {
            for output in &mut self.direct {
                self.is_gone |= output.send(&record, deadline, may_wait).await.is_err();
            }
        };
        tokio::join!(direct, self.spooled.append(&record));
    }

    /// Whether an output without a spool is waited for as long as it takes, because no other runs on.
    fn direct_may_wait(&self) -> bool {
        self.direct.len() == 1 && !self.spooled.is_running()
    }

    /// Whether a record that must arrive would be taken without a long wait.
    pub(super) fn have_alert_room(&self) -> bool {
        let direct = !self.direct_may_wait() || self.direct.iter().all(|output| output.sender.has_alert_room());
        direct && self.spooled.has_alert_room()
    }

    /// Waits until [`Self::have_alert_room`]. Nothing is lost if the wait is given up.
    pub(super) async fn alert_room(&self) {
        self.spooled.alert_room().await;
        for output in self.direct.iter().filter(|_| self.direct_may_wait()) {
            output.sender.alert_room().await;
        }
    }

    /// Notes that so many records that must arrive found no room until the end.
    pub(super) const fn leave(&mut self, records: u64) {
        self.left_records = records;
    }

    /// Leaves the record that every output writes last, when it finishes.
    pub(super) fn leave_goodbye(&mut self, record: &Arc<Record>) {
        for output in &self.direct {
            output.sender.leave_goodbye(Arc::clone(record));
        }
        self.goodbye = Some(Arc::clone(record));
    }

    /// Whether every output that sets the pace takes a flow record now.
    pub(super) fn have_flow_room(&mut self) -> bool {
        for output in &mut self.direct {
            output.is_out_of_pace &= !output.sender.has_flow_room();
        }
        self.direct.iter().all(|output| output.is_out_of_pace || output.sender.has_flow_room())
    }

    /// Waits until every output that sets the pace takes a flow record. Nothing is lost if the wait is given up.
    pub(super) async fn flow_room(&self) {
        for output in self.direct.iter().filter(|output| !output.is_out_of_pace) {
            output.sender.flow_room().await;
        }
    }

    /// Takes the outputs that have no room for flows out of the pace, until they have.
    pub(super) fn give_up_pace(&mut self) {
        let others = self.direct.len() > 1 || self.spooled.is_running();
        for output in self.direct.iter_mut().filter(|_| others) {
            output.is_out_of_pace |= !output.sender.has_flow_room();
        }
    }

    /// Tells each kind of output what the other kind lost or found.
    pub(super) async fn tell_notices(&mut self) {
        for record in self.spooled.take_notices() {
            for output in &mut self.direct {
                self.is_gone |= output.send(&record, Instant::now(), false).await.is_err();
            }
        }
        for output in &mut self.direct {
            if self.spooled.has_alert_room()
                && let Some(record) = output.dropped_record(&self.records)
            {
                self.spooled.append(&Arc::new(record)).await;
            }
        }
    }

    /// What does not work now, by token.
    pub(super) fn troubles(&self) -> BTreeMap<&'static str, Trouble> {
        let mut found: BTreeMap<_, Trouble> = BTreeMap::new();
        for trouble in self.spooled.troubles() {
            match found.entry(trouble.token) {
                Entry::Vacant(entry) => _ = entry.insert(trouble),
                Entry::Occupied(mut entry) => {
                    let known = entry.get_mut();
                    known.missing = format!("{}; {}", known.missing, trouble.missing);
                }
            }
        }
        found
    }

    /// What opens files anew, after a log rotation. It does not keep the outputs open.
    pub(super) fn reopener(&self) -> impl Fn() + Send + 'static {
        let reopeners: Vec<_> = self.direct.iter().map(|output| output.sender.reopener()).collect();
        let steerings = self.spooled.steerings();
        move || {
            reopeners.iter().for_each(sink::Reopener::reopen);
            spooled::reopen(&steerings);
        }
    }

    /// Whether an output has ended: nobody reads it any more, or it failed.
    pub(super) const fn is_gone(&self) -> bool {
        self.is_gone
    }

    /// Lets every output write what it has, and says how they ended. What outputs with a spool do not get rid of in time
    /// stays in the spool.
    pub(super) async fn finish(self) -> Result<(), Error> {
        let (senders, tasks): (Vec<_>, Vec<_>) =
            self.direct.into_iter().map(|output| (output.sender, output.task)).unzip();
        drop(senders);
        let direct = async {
            let mut failure = None;
            for task in tasks {
                match task.await {
                    Ok(Ok(Ending::Drained | Ending::ReaderGone)) => {}
                    Ok(Err(error)) => failure = Some(Error::Output(error)),
                    Err(error) => failure = Some(Error::Runtime(task_failed(error))),
                }
            }
            failure.map_or(Ok(()), Err)
        };
        let (direct, spooled) = tokio::join!(direct, self.spooled.finish(self.goodbye));
        direct?;
        let unkept = self.left_records + spooled?;
        if unkept > 0 { Err(Error::Unkept(unkept)) } else { Ok(()) }
    }
}

impl Direct {
    async fn send(&mut self, record: &Arc<Record>, deadline: Instant, may_wait: bool) -> Result<(), sink::OutputGone> {
        let record = Arc::clone(record);
        if !record.must_arrive() || may_wait {
            return self.sender.send_until(record, deadline).await;
        }
        let limit = if self.is_stuck { Duration::ZERO } else { STUCK };
        self.is_stuck = !self.sender.send_within(record, limit).await?;
        Ok(())
    }

    /// The record of alerts that it dropped since the last call.
    fn dropped_record(&mut self, records: &RecordBuilder) -> Option<Record> {
        let total = self.sender.counters().dropped_alerts.load(Ordering::Relaxed);
        let count = total - std::mem::replace(&mut self.dropped_told, total);
        (count > 0).then(|| {
            let output = self.sender.name().to_owned();
            notices::dropped_record(records, sink::Dropped { output, count, total, within: STUCK })
        })
    }
}

fn loss_figure(output: &str, reason: &'static str, count: u64) -> LossFigure {
    LossFigure { stage: LossStage::Output, reason, count, output: Some(output.to_owned()) }
}

/// Whether standard output is that of an output with a spool.
fn has_stdout(outputs: &OutputsConfig) -> bool {
    outputs.values().any(is_stdout)
}

const fn is_stdout(output: &OutputConfig) -> bool {
    matches!(output.kind, OutputKind::Stdout(_))
}

/// From a start to its end standard output belongs to the immediate output or to those with a spool. Takes out of `now`
/// those that would be beside the immediate one, and returns the settings that wait for a restart.
pub(super) fn keep_stdout(started_with: &OutputsConfig, now: &mut OutputsConfig) -> Vec<String> {
    let key = |name: &OutputName| format!("outputs.{name}");
    match (has_stdout(started_with), has_stdout(now)) {
        (false, true) => now.extract_if(.., |_, output| is_stdout(output)).map(|(name, _)| key(&name)).collect(),
        (true, false) => {
            let before = started_with.iter().filter(|(_, output)| is_stdout(output));
            before.map(|(name, _)| key(name)).collect()
        }
        _ => Vec::new(),
    }
}

fn task_failed(error: JoinError) -> io::Error {
    io::Error::other(error)
}
