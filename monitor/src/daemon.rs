//! The only place that spawns: what is started in which order, and how it stops.
//!
//! Start: everything that can fail for a reason of the user's (configuration, lists, outputs, the control socket) comes
//! before the kernel side; the process table is seeded after the process probes are attached, so that no process falls
//! between the two. Stop: the kernel side first, then each stage ends when its input ends, within one deadline.

mod baseline;
mod changes;
mod lists;
mod outputs;
mod policy;
mod reload;
mod start;
mod terminal;
mod watch;

use std::{path::PathBuf, sync::Arc, time::Duration};

use sd_notify::NotifyState;
use tokio::{
    runtime,
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch as watched},
    time::timeout,
};

use crate::{
    alert::{RecordBuilder, input::Host},
    config::{self, Config},
    control::{self, AlertLog, Desk, ReloadRequest, ServerError, Trigger},
    host,
    kernel::{RungChoice, StartError, check_privileges, system::System},
    limits, memory, metrics,
    ownership::OwnershipError,
    process::SetupError,
    sink::{FileError, Format, OpenError, OutputError, spool::DirectoryError},
};

use changes::Fingerprint;
use lists::{Refresher, Watched};
use outputs::Outputs;
use policy::Source;
use reload::Reloader;
use terminal::Terminal;
use watch::{Ended, Watch};

/// How long the outputs may take at a stop before what is left is given up and counted.
const STOP_DEADLINE: Duration = Duration::from_secs(10);

/// What the command line says beside the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunOptions {
    /// The configuration file that the command line names.
    pub config: Option<PathBuf>,
    /// The rung, whatever the configuration says.
    pub rung: Option<RungChoice>,
    /// Write every flow that ends, and long ones on a schedule.
    pub writes_flows: bool,
    /// The form of standard output, whatever the configuration says.
    pub stdout: Option<Format>,
    /// Append JSON Lines to this file.
    pub file: Option<PathBuf>,
    /// Let the kernel programs tell what they do.
    pub verbose_kernel: bool,
}

/// Why the daemon did not start, or did not stop well.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel side.
    #[error(transparent)]
    Kernel(#[from] StartError),
    /// The ownership data.
    #[error(transparent)]
    Ownership(#[from] OwnershipError),
    /// The lists that the configuration names.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// The contacts that rules know.
    #[error(transparent)]
    Baseline(#[from] baseline::BaselineError),
    /// The control socket.
    #[error(transparent)]
    Control(#[from] ServerError),
    /// The metrics endpoint.
    #[error(transparent)]
    Metrics(#[from] metrics::ServerError),
    /// The runtime or a signal handler.
    #[error("cannot start: {0}")]
    Runtime(#[source] std::io::Error),
    /// The process table.
    #[error(transparent)]
    Process(#[from] SetupError),
    /// An output file.
    #[error(transparent)]
    File(#[from] FileError),
    /// An output with a spool.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The spool's directory.
    #[error(transparent)]
    Spool(#[from] DirectoryError),
    /// The disk took nothing until the end.
    #[error(
        "stopped with {0} records that the spool could not keep: see the messages above, and free space in spool.directory"
    )]
    Unkept(u64),
    /// An output gave up.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// A reload came too late.
    #[error("the monitor is stopping")]
    Stopping,
    /// The outputs did not take what was left in time.
    #[error("stopped with records unwritten: the outputs took none for {} s", STOP_DEADLINE.as_secs())]
    Deadline,
}

/// Runs until a signal asks it to stop, or until nobody reads standard output any more.
pub fn run(config: &Config, options: &RunOptions) -> Result<(), Error> {
    memory::share_one_arena();
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("egresswatch")
        .enable_all()
        .build()
        .map_err(Error::Runtime)?;
    let outcome = runtime.block_on(run_in_runtime(config, options));
    // Whatever is left is blocked in a system call; it must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

async fn run_in_runtime(config: &Config, options: &RunOptions) -> Result<(), Error> {
    let system = System::read();
    // First of all: without it everything below fails too, for reasons that mislead.
    check_privileges(&system).map_err(StartError::from)?;
    let host = host::read();
    let records = Arc::new(RecordBuilder::new(run_id(&host), host));
    let (question_sender, questions) = mpsc::channel(1);
    let server = if config.control.enabled { Some(control::Server::bind(&config.control.socket)?) } else { None };
    let metrics_server = metrics::Server::bind(&config.metrics, &config.control.socket).await?;
    let source = Source::new(options);
    let fingerprint = Fingerprint::of(&source.files(config));
    let mut bounded = config.clone();
    let flow_bounds = bound(&mut bounded, options);
    let mut stages = start::stages(&bounded, options, &system, Arc::clone(&records), flow_bounds)?;
    let outputs = Outputs::open(&bounded, options, &records)?;
    let (stop_sender, stop) = mpsc::channel(1);
    // Several that wait at once would all do the same.
    let (reload_sender, reloads) = mpsc::channel(1);
    let (news_sender, news) = mpsc::channel(1);
    let tries = stages.kernel.take_tries();
    let (lists_sender, lists) = watched::channel(Arc::new(Watched::new(config, &stages.feeds)));
    let refresher = tokio::spawn(Refresher::new(lists, reload_sender.clone()).run());
    let has_baseline = stages.baseline.is_some();
    let reloader =
        Reloader::new(source, config.clone(), has_baseline, fingerprint, tries, reloads, news_sender, lists_sender);
    let reloader = tokio::spawn(reloader.run());
    let signals = tokio::spawn(signals(stop_sender, outputs.reopener(), reload_sender.clone())?);
    let alerts = Arc::new(AlertLog::default());
    let alert_latency = metrics::latency_histogram();
    let metrics_server =
        metrics_server.map(|server| tokio::spawn(server.serve(question_sender.clone(), alert_latency.clone())));
    let desk = Desk { questions: question_sender, reloads: reload_sender, alerts: Arc::clone(&alerts) };
    let server = server.map(|server| tokio::spawn(server.serve(desk)));
    tell_systemd(&[NotifyState::Ready]);

    let mut watch = Watch::new(stages, outputs, alerts, alert_latency, config.limits.pressure());
    let ended = watch.run(questions, news, stop).await.map_err(Error::Runtime)?;

    tell_systemd(&[NotifyState::Stopping]);
    signals.abort();
    refresher.abort();
    reloader.abort();
    for server in server.into_iter().chain(metrics_server) {
        server.abort();
    }
    watch.collect();
    // With many flows this takes its time; what counts is that the outputs go on taking them.
    while timeout(STOP_DEADLINE, watch.hand_over()).await.map_err(|_| Error::Deadline)? {}
    let stop = stop_within(STOP_DEADLINE, move || async move { watch.finish(ended).await.finish().await });
    Box::pin(stop).await
}

/// Lowers the bounds of the stages to what the memory limit allows.
fn bound(config: &mut Config, options: &RunOptions) -> limits::FlowBounds {
    // Standard output, and the files.
    let outputs = 1 + options.file.iter().chain(&config.output.file).count();
    let Config { limits, kernel, process, names, policy, output, .. } = config;
    limits.apply(outputs, &mut limits::Bounded { kernel, process, names, policy, output })
}

/// Collects what is left, and then gives the outputs `limit` to take it. Collecting a million flows takes longer than
/// that, and the outputs must not lose their time to it.
async fn stop_within<F: Future<Output = Result<(), Error>>>(
    limit: Duration,
    collect: impl FnOnce() -> F,
) -> Result<(), Error> {
    let outputs = collect();
    timeout(limit, outputs).await.unwrap_or(Err(Error::Deadline))
}

/// Waits for signals: the first of TERM, INT and QUIT stops, HUP opens files anew and reloads. A HUP that comes because
/// the terminal was closed stops: nobody would know that a program of root's goes on.
fn signals(
    stop: mpsc::Sender<Ended>,
    reopen: impl Fn() + Send + 'static,
    reload: mpsc::Sender<ReloadRequest>,
) -> Result<impl Future<Output = ()> + Send + 'static, Error> {
    let catch = |kind| signal(kind).map_err(Error::Runtime);
    let mut terminate = catch(SignalKind::terminate())?;
    let mut interrupt = catch(SignalKind::interrupt())?;
    let mut quit = catch(SignalKind::quit())?;
    let mut hang_up = catch(SignalKind::hangup())?;
    let terminal = Terminal::of_standard_streams();
    Ok(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = quit.recv() => break,
                _ = hang_up.recv() => {
                    if terminal.is_gone() {
                        break;
                    }
                    reopen();
                    // Where one waits already, it will read what this one means.
                    let _ = reload.try_send(ReloadRequest { trigger: Trigger::Signal, answer: None });
                }
            }
        }
        // The loop may have ended by itself.
        let _ = stop.send(Ended::Signal).await;
    })
}

/// A name for this run that no other run of any host has.
fn run_id(host: &Host) -> String {
    let boot_id = host.boot_id.as_deref().unwrap_or("unknown-boot").replace('-', "");
    format!("{boot_id}-{:x}", host::boot_time().0)
}

fn tell_systemd(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the service manager cannot be told");
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        runtime::Builder::new_current_thread().enable_time().build().expect("a runtime").block_on(future)
    }

    #[test]
    fn a_long_collection_takes_nothing_of_the_outputs_time() {
        let limit = Duration::from_millis(200);
        let outcome = block_on(stop_within(limit, || {
            thread::sleep(2 * limit);
            async {
                // An output that has to be waited for, but not for long.
                tokio::time::sleep(Duration::from_millis(1)).await;
                Ok(())
            }
        }));
        assert!(outcome.is_ok(), "{outcome:?}");
    }

    #[test]
    fn outputs_that_never_end_are_given_up() {
        let outcome = block_on(stop_within(Duration::from_millis(1), std::future::pending));
        assert!(matches!(outcome, Err(Error::Deadline)), "{outcome:?}");
    }
}
