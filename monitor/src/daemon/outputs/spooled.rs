//! The outputs with a spool: `[outputs.NAME]`.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{task::JoinHandle, time::Instant};

use super::{
    Error, loss_figure,
    notices::{self, OUTPUT_IMPAIRED, Trouble},
};
use crate::{
    alert::{
        Record, RecordBuilder,
        input::{self, Host},
    },
    config::Config,
    host,
    metrics::{LossFigure, OutputState},
    sink::{
        self, OpenError, OutputConfig, OutputName, OutputsConfig,
        delivery::AnyDelivery,
        spool::{self, Delivering, QueueCounters, QueueSettings, Spool, SpoolSender, Steering},
    },
};

/// How long outputs deliver on at a stop; what is left stays in the spool.
const DRAIN: Duration = Duration::from_secs(3);

/// What lets the outputs that run open their places anew.
pub(super) type Steerings = Arc<Mutex<Vec<Steering>>>;

/// Lets every output open its place anew.
pub(super) fn reopen(steerings: &Steerings) {
    steerings.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(Steering::reopen);
}

/// Every output with a spool. Without one there is no spool either: no thread, no file; unless there is one from before.
#[derive(Default)]
pub(super) struct Spooled {
    spool: Option<(Spool, SpoolSender)>,
    settings: spool::Config,
    running: BTreeMap<OutputName, Running>,
    steerings: Steerings,
}

/// Outputs that were found good, for a monitor that runs.
pub(in crate::daemon) struct NewOutputs {
    config: Config,
    /// The transports of those that are new or changed.
    opened: Opened,
}

impl NewOutputs {
    /// Opens the outputs of `config` that differ from those that run.
    pub(in crate::daemon) fn open(running: &OutputsConfig, config: Config, host: &Host) -> Result<Self, Error> {
        let is_changed = |(name, output): &(&OutputName, &OutputConfig)| running.get(*name) != Some(*output);
        check_files(&config.outputs, config.output.file.iter())?;
        let opened = open_all(config.outputs.iter().filter(is_changed), host)?;
        Ok(Self { config, opened })
    }
}

struct Running {
    receiver: String,
    counters: Arc<QueueCounters>,
    steering: Steering,
    task: JoinHandle<()>,
}

impl Spooled {
    /// Opens what `config` names and starts delivering.
    pub(super) fn open(config: &Config, records: &Arc<RecordBuilder>) -> Result<Self, Error> {
        let mut spooled = Self { settings: config.spool.clone(), ..Self::default() };
        if config.outputs.is_empty() {
            spooled.look_for_unclaimed(config, records);
            return Ok(spooled);
        }
        let opened = open_all(config.outputs.iter(), &host::read())?;
        let mut counters = BTreeMap::new();
        spooled.start(config, records, &mut counters)?;
        for (name, delivery) in opened {
            spooled.run(&name, delivery, counters.remove(&name).unwrap_or_default());
        }
        spooled.publish();
        Ok(spooled)
    }

    /// Has the spool tell what it holds for outputs that are not there. Without outputs it is needed for nothing else.
    fn look_for_unclaimed(&mut self, config: &Config, records: &Arc<RecordBuilder>) {
        if !spool::has_database(&config.spool) {
            return;
        }
        if let Err(error) = self.start(config, records, &mut BTreeMap::new()) {
            tracing::warn!(%error, "whether the spool holds records of outputs that are gone is not known");
        }
    }

    /// Whether there are outputs with a spool.
    pub(super) fn is_running(&self) -> bool {
        !self.running.is_empty()
    }

    /// What feeds them.
    fn sender(&self) -> Option<&SpoolSender> {
        self.spool.as_ref().filter(|_| self.is_running()).map(|(_, sender)| sender)
    }

    /// What does not work now.
    pub(super) fn troubles(&self) -> impl Iterator<Item = Trouble> {
        let spool = self.spool.iter().flat_map(|(_, sender)| sender.conditions()).map(notices::trouble);
        let impaired = self.running.iter().filter_map(|(name, running)| {
            let trouble = running.counters.trouble()?;
            Some(Trouble {
                token: OUTPUT_IMPAIRED,
                missing: format!("outputs.{name}: {trouble}"),
                remedy: "mend what is named; it is tried again until it works".to_owned(),
            })
        });
        spool.chain(impaired)
    }

    /// What each output has done.
    pub(super) fn states(&self) -> impl Iterator<Item = OutputState> {
        self.running.iter().map(|(name, running)| {
            let figures = running.counters.figures();
            OutputState {
                output: name.to_string(),
                written_records: figures.delivered_records,
                written_bytes: figures.delivered_bytes,
                dropped_flows: 0,
                dropped_alerts: 0,
                errors: figures.failures + figures.asked_to_wait + figures.no_answers,
                failing: figures.is_stuck(),
                receiver: Some(running.receiver.clone()),
                queue: Some(figures),
                delivery_latency: Some(running.counters.delivery_latency()),
            }
        })
    }

    /// What each output has lost, by reason, and what found no room on the way to the disk.
    pub(super) fn losses(&self) -> impl Iterator<Item = LossFigure> {
        let late = self.spool.iter().map(|(_, sender)| {
            let late_flows = sender.late_flows();
            loss_figure("spool", input::OUTPUT_QUEUE_FULL, late_flows)
        });
        let by_output = self.running.iter().flat_map(|(name, running)| {
            let figures = running.counters.figures();
            [
                (input::SPOOL_FULL, figures.dropped_records),
                (input::RECEIVER_REFUSED, figures.refused_records),
                (input::DEAD_LETTER_FULL, figures.dead_letter_dropped),
                (input::SPOOL_DAMAGED, figures.damaged_records),
            ]
            .map(|(reason, count)| loss_figure(name.as_str(), reason, count))
        });
        late.chain(by_output)
    }

    pub(super) fn steerings(&self) -> Steerings {
        Arc::clone(&self.steerings)
    }

    pub(super) async fn append(&self, record: &Arc<Record>) {
        if let Some(sender) = self.sender() {
            sender.append(Arc::clone(record)).await;
        }
    }

    /// Whether a record that must arrive is taken at once.
    pub(super) fn has_alert_room(&self) -> bool {
        self.sender().is_none_or(SpoolSender::has_alert_room)
    }

    /// Waits until [`Self::has_alert_room`]. Nothing is lost if the wait is given up.
    pub(super) async fn alert_room(&self) {
        if let Some(sender) = self.sender() {
            sender.alert_room().await;
        }
    }

    pub(super) fn take_notices(&self) -> Vec<Arc<Record>> {
        self.spool.as_ref().map(|(_, sender)| sender.take_notices()).unwrap_or_default()
    }

    /// Replaces what changed. `[spool]` itself is read at start only.
    pub(super) fn reconfigure(&mut self, new: NewOutputs, records: &Arc<RecordBuilder>) -> Result<(), Error> {
        let NewOutputs { config, opened } = new;
        let mut counters: BTreeMap<OutputName, Arc<QueueCounters>> =
            self.running.iter().map(|(name, old)| (name.clone(), Arc::clone(&old.counters))).collect();
        match &self.spool {
            None if config.outputs.is_empty() => return Ok(()),
            None => self.start(&config, records, &mut counters)?,
            Some((_, sender)) => sender.set_queues(queues(&config, &self.settings, &mut counters)),
        }
        let is_ended =
            |name: &OutputName| !config.outputs.contains_key(name) || opened.iter().any(|(other, _)| other == name);
        for (_, running) in self.running.extract_if(.., |name, _| is_ended(name)) {
            // What it has not delivered stays in the spool; nobody waits for it.
            running.steering.give_up_at(Instant::now());
        }
        for (name, delivery) in opened {
            self.run(&name, delivery, counters.remove(&name).unwrap_or_default());
        }
        self.publish();
        Ok(())
    }

    /// Lets every output deliver for a while, and ends the spool. Returns how many records it could not keep.
    pub(super) async fn finish(mut self, goodbye: Option<Arc<Record>>) -> Result<u64, Error> {
        let Some((spool, sender)) = self.spool.take() else { return Ok(0) };
        if let Some(goodbye) = goodbye.filter(|_| sender.has_alert_room()) {
            sender.append(goodbye).await;
        }
        sender.close();
        let deadline = Instant::now() + DRAIN;
        for running in self.running.values() {
            running.steering.give_up_at(deadline);
        }
        for (name, running) in self.running {
            if let Err(error) = running.task.await {
                tracing::error!(output = %name, %error, "the task of an output failed");
            }
            let left = running.counters.figures();
            if left.depth_records > 0 && left.is_failing {
                tracing::info!(output = %name, "what was not delivered stays in the spool");
            }
        }
        let stopped = tokio::task::spawn_blocking(move || spool.stop()).await;
        stopped.map_err(|error| Error::Runtime(super::task_failed(error)))
    }

    fn start(
        &mut self,
        config: &Config,
        records: &Arc<RecordBuilder>,
        counters: &mut BTreeMap<OutputName, Arc<QueueCounters>>,
    ) -> Result<(), Error> {
        self.settings = config.spool.clone();
        let records = Arc::clone(records);
        let spool = Spool::start(
            &config.spool,
            config.output.alert_queue_records.get(),
            config.output.flow_queue_records.get(),
            queues(config, &config.spool, counters),
            Arc::new(move |notice| notices::describe(&records, notice)),
        )?;
        let sender = spool.sender();
        self.spool = Some((spool, sender));
        Ok(())
    }

    fn run(&mut self, name: &OutputName, delivery: Box<dyn AnyDelivery>, counters: Arc<QueueCounters>) {
        let Some((_, sender)) = &self.spool else { return };
        let receiver = delivery.describe().to_owned();
        let (task, steering) =
            Delivering::new(name.as_str(), delivery, sender.clone(), &self.settings, Arc::clone(&counters));
        let task = tokio::spawn(task.run());
        self.running.insert(name.clone(), Running { receiver, counters, steering, task });
    }

    /// Shows what runs now.
    fn publish(&self) {
        *self.steerings.lock().unwrap_or_else(PoisonError::into_inner) =
            self.running.values().map(|running| running.steering.clone()).collect();
    }
}

/// Transports by the names of their outputs.
type Opened = Vec<(OutputName, Box<dyn AnyDelivery>)>;

/// Refuses outputs of which two, or one and one of `files`, are the same file.
pub(super) fn check_files<'a>(outputs: &OutputsConfig, files: impl Iterator<Item = &'a PathBuf>) -> Result<(), Error> {
    let shared = sink::check::shared_files(outputs, files.map(PathBuf::as_path)).into_iter().next();
    shared.map_or(Ok(()), |(output, problem)| Err(OpenError { output, source: problem.into() }.into()))
}

/// Opens outputs, or none.
fn open_all<'a>(
    outputs: impl Iterator<Item = (&'a OutputName, &'a OutputConfig)>,
    host: &Host,
) -> Result<Opened, Error> {
    outputs.map(|(name, output)| Ok((name.clone(), output.kind.open(name, host)?))).collect()
}

/// The queue of every output, with the bounds of the `spool` that runs unless it has its own, and with figures that go on from `counters`.
fn queues(
    config: &Config,
    spool: &spool::Config,
    counters: &mut BTreeMap<OutputName, Arc<QueueCounters>>,
) -> Vec<QueueSettings> {
    config
        .outputs
        .iter()
        .map(|(name, output)| QueueSettings {
            output: name.as_str().to_owned(),
            format: output.format,
            filter: output.filter.clone(),
            bounds: spool.bounds(output.spool),
            counters: Arc::clone(counters.entry(name.clone()).or_default()),
        })
        .collect()
}
