//! The outputs that the configuration and the command line name, and their tasks.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use jiff::tz::TimeZone;
use tokio::{
    task::{JoinError, JoinHandle},
    time::Instant,
};

use super::{Error, RunOptions};
use crate::{
    alert::{Record, RecordBuilder, input},
    config::Config,
    host,
    metrics::OutputState,
    sink::{self, Encoding, Ending, OutputError, OutputSender, Reopener, Settings, Stream, Transport},
};

/// Every output, as the watch loop sees it.
#[derive(Default)]
pub(super) struct Outputs {
    senders: Vec<OutputSender>,
    /// What they are called.
    names: Vec<String>,
    tasks: Vec<JoinHandle<Result<Ending, OutputError>>>,
    is_gone: bool,
}

impl Outputs {
    /// Opens the outputs and spawns their tasks.
    pub(super) fn open(config: &Config, options: &RunOptions, records: &Arc<RecordBuilder>) -> Result<Self, Error> {
        let settings = Settings::new(&config.output);
        let mut outputs = Self::default();
        let encoding = sink::stdout_format(options.stdout.unwrap_or(config.output.format), TimeZone::system());
        outputs.add(Stream::stdout().map_err(Error::Runtime)?, encoding, settings, records);
        for path in options.file.iter().chain(&config.output.file) {
            outputs.add(sink::File::open(path)?, Encoding::JsonLines, settings, records);
        }
        Ok(outputs)
    }

    fn add<T: Transport>(
        &mut self,
        transport: T,
        encoding: Encoding,
        settings: Settings,
        records: &Arc<RecordBuilder>,
    ) {
        self.names.push(transport.name().to_owned());
        let (sender, task) = sink::output(transport, encoding, settings);
        let records = Arc::clone(records);
        self.senders.push(sender);
        self.tasks.push(tokio::spawn(task.run(move |dropped| dropped_record(&records, dropped))));
    }

    /// Hands a record to every output. Waits for a slow one: with a record that must arrive as long as it takes, with
    /// another until `deadline`.
    pub(super) async fn send(&mut self, record: Arc<Record>, deadline: Instant) {
        for sender in &self.senders {
            self.is_gone |= sender.send_until(Arc::clone(&record), deadline).await.is_err();
        }
    }

    /// What each output has done.
    pub(super) fn states(&self) -> Vec<OutputState> {
        let state = |(name, sender): (&String, &OutputSender)| {
            let counters = sender.counters();
            let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            OutputState {
                output: name.clone(),
                written_records: count(&counters.written_records),
                written_bytes: count(&counters.written_bytes),
                dropped_flows: count(&counters.dropped_flows),
                errors: count(&counters.errors),
                failing: counters.failing.load(Ordering::Relaxed),
            }
        };
        self.names.iter().zip(&self.senders).map(state).collect()
    }

    /// Leaves the record that every output writes last, when it finishes.
    pub(super) fn leave_goodbye(&self, record: &Arc<Record>) {
        for sender in &self.senders {
            sender.leave_goodbye(Arc::clone(record));
        }
    }

    /// Whether every output takes a flow record now.
    pub(super) fn have_flow_room(&self) -> bool {
        self.senders.iter().all(OutputSender::has_flow_room)
    }

    /// Waits until every output takes a flow record. Nothing is lost if the wait is given up.
    pub(super) async fn flow_room(&self) {
        for sender in &self.senders {
            sender.flow_room().await;
        }
    }

    /// What opens files anew, after a log rotation. It does not keep the outputs open.
    pub(super) fn reopener(&self) -> impl Fn() + Send + 'static {
        let reopeners: Vec<_> = self.senders.iter().map(OutputSender::reopener).collect();
        move || reopeners.iter().for_each(Reopener::reopen)
    }

    /// Whether an output has ended: nobody reads it any more, or it failed.
    pub(super) const fn is_gone(&self) -> bool {
        self.is_gone
    }

    /// Lets every output write what it has, and says how they ended.
    pub(super) async fn finish(self) -> Result<(), Error> {
        drop(self.senders);
        let mut failure = None;
        for task in self.tasks {
            match task.await {
                Ok(Ok(Ending::Drained | Ending::ReaderGone)) => {}
                Ok(Err(error)) => failure = Some(Error::Output(error)),
                Err(error) => failure = Some(Error::Runtime(task_failed(error))),
            }
        }
        failure.map_or(Ok(()), Err)
    }
}

fn task_failed(error: JoinError) -> io::Error {
    io::Error::other(error)
}

fn dropped_record(records: &RecordBuilder, dropped: sink::Dropped) -> Record {
    let now = host::wall_clock().at(host::boot_time());
    let within_ns = i128::try_from(dropped.within.as_nanos()).unwrap_or(i128::MAX);
    let loss = input::Loss {
        stage: input::LossStage::Output,
        reason: input::OUTPUT_QUEUE_FULL.into(),
        count: dropped.count,
        total: dropped.total,
        since: crate::alert::Timestamp::from_unix_ns(now.unix_ns().saturating_sub(within_ns)),
        recoverable: false,
        output: Some(dropped.output),
    };
    records.loss(now, loss)
}
