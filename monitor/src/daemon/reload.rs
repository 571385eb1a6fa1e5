//! Taking configuration, lists and data in anew while the monitor runs.
//!
//! Everything is read and found good off the loop. Then the kernel's tries get what is new, the loop swaps the policy
//! between two events, and the tries lose what is stale: at no moment is a flow judged by half a policy, and none that
//! both policies flag leaves the ring of flagged flows. What is wrong with a file leaves everything as it was.

use std::{path::PathBuf, sync::Arc};

use sd_notify::NotifyState;
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    Error,
    baseline::{self, Opened},
    changes::{Changes, Fingerprint},
    lists::Watched,
    outputs::{NewOutputs, keep_stdout},
    policy::{Policy, Source, list_states},
    tell_systemd,
};
use crate::{
    config::Config,
    control::{ReloadAnswer, ReloadRequest, Trigger},
    host,
    kernel::{Occupancy, Prefixes, Tries},
    metrics::ListState,
    ownership::OwnerLookup,
    pipeline,
    policy::{self, Lists, feeds, rules::Rules},
    sink::OutputsConfig,
};

/// Settings that a reload takes in; all others are read at the start only.
const RELOADED: [&str; 5] = ["policy.", "lists.", "flows.", "outputs.", "data."];
/// Those of them that size or open what is there already.
const AT_START: [&str; 4] = ["policy.max_contacts", "policy.max_flows", "policy.baseline", "policy.learning"];

/// What the reloader tells the loop.
pub(super) enum News {
    /// Another policy to judge by.
    Policy(Box<NewPolicy>),
    /// A reload failed: the policy in force stays.
    Refused { trigger: Trigger, error: String },
    /// The kernel's tries were brought to the policy in force. So many prefixes found no room.
    Tries { left_out: usize, occupancy: Occupancy },
    /// Changes of files are not noticed.
    Blind { cause: String },
}

/// A policy that was found good.
pub(super) struct NewPolicy {
    pub(super) trigger: Trigger,
    /// The number of this policy: 1 at the start, one more with each reload.
    pub(super) generation: u64,
    pub(super) lists: Lists,
    pub(super) rules: Rules,
    pub(super) ownership: Box<dyn OwnerLookup>,
    pub(super) enabled_lists: u64,
    pub(super) list_states: Vec<ListState>,
    /// How the lists of `[lists]` are.
    pub(super) feeds: Vec<feeds::State>,
    pub(super) policy: policy::Config,
    pub(super) flows: pipeline::Config,
    /// The outputs with a spool.
    pub(super) outputs: NewOutputs,
    /// Contacts that rules know, where these are the first that need them.
    pub(super) baseline: Option<Opened>,
    /// Settings that differ from those in force and wait for a restart.
    pub(super) needs_restart: Vec<String>,
    /// Told once the policy is in force, with the one before, which takes long to forget.
    pub(super) done: oneshot::Sender<(Lists, Box<dyn OwnerLookup>)>,
}

/// The task that reloads.
pub(super) struct Reloader {
    source: Source,
    /// The configuration that the stages were started with.
    started_with: Arc<Config>,
    tries: Option<Tries>,
    requests: mpsc::Receiver<ReloadRequest>,
    news: mpsc::Sender<News>,
    generation: u64,
    /// The contacts that rules know are open.
    has_baseline: bool,
    /// The outputs that run.
    outputs: OutputsConfig,
    files: Vec<PathBuf>,
    /// Of the files when they were last read.
    fingerprint: Fingerprint,
    /// Where the lists in force are told to who fetches them.
    watched: watch::Sender<Arc<Watched>>,
}

impl Reloader {
    #[expect(clippy::too_many_arguments, reason = "what was started, and the ways to and from the task")]
    pub(super) fn new(
        source: Source,
        started_with: Config,
        has_baseline: bool,
        fingerprint: Fingerprint,
        tries: Option<Tries>,
        requests: mpsc::Receiver<ReloadRequest>,
        news: mpsc::Sender<News>,
        watched: watch::Sender<Arc<Watched>>,
    ) -> Self {
        let files = source.files(&started_with);
        let outputs = started_with.outputs.clone();
        let started_with = Arc::new(started_with);
        let generation = 1;
        Self {
            source,
            started_with,
            tries,
            requests,
            news,
            generation,
            has_baseline,
            outputs,
            files,
            fingerprint,
            watched,
        }
    }

    /// Reloads when it is asked to and when files change, until nobody can ask any more or the loop has gone.
    pub(super) async fn run(mut self) {
        let mut changes = match Changes::new() {
            Ok(changes) => Some(changes),
            Err(error) => {
                self.tell_blind(&error).await;
                None
            }
        };
        if let Some(tries) = &self.tries {
            let _ = self.news.send(News::Tries { left_out: 0, occupancy: tries.occupancy() }).await;
        }
        loop {
            if let Some(watcher) = &mut changes
                && let Err(error) = watcher.watch(&self.files)
            {
                changes = None;
                self.tell_blind(&error).await;
            }
            let missed = changes.is_some() && self.has_changed();
            let request = tokio::select! {
                biased;
                // What changed after it was read and before it was watched.
                () = std::future::ready(()), if missed => ReloadRequest { trigger: Trigger::FileChanged, answer: None },
                request = self.requests.recv() => match request {
                    Some(request) => request,
                    None => return,
                },
                waited = wait(&mut changes) => match waited {
                    Ok(()) if self.has_changed() => ReloadRequest { trigger: Trigger::FileChanged, answer: None },
                    Ok(()) => continue,
                    Err(error) => {
                        changes = None;
                        self.tell_blind(&error).await;
                        continue;
                    }
                },
                () = self.news.closed() => return,
            };
            let answer = self.reload(request.trigger).await;
            if let Some(asker) = request.answer {
                // Whoever asked may have gone.
                let _ = asker.send(answer);
            }
        }
    }

    /// A few files, seldom: not worth a thread.
    fn has_changed(&self) -> bool {
        Fingerprint::of(&self.files) != self.fingerprint
    }

    async fn tell_blind(&self, error: &std::io::Error) {
        // A loop that has gone needs no telling.
        let _ = self.news.send(News::Blind { cause: error.to_string() }).await;
    }

    async fn reload(&mut self, trigger: Trigger) -> ReloadAnswer {
        let now = NotifyState::monotonic_usec_now().ok();
        tell_systemd(&std::iter::once(NotifyState::Reloading).chain(now).collect::<Vec<_>>());
        let answer = match self.try_reload(trigger).await {
            Ok(answer) => answer,
            Err(error) => {
                let is_configuration = matches!(error, Error::Config(_));
                let refused = News::Refused { trigger, error: brief(&error) };
                let error = error.to_string();
                // A loop that has gone needs no telling.
                let _ = self.news.send(refused).await;
                ReloadAnswer::Refused { error, is_configuration }
            }
        };
        tell_systemd(&[NotifyState::Ready]);
        answer
    }

    async fn try_reload(&mut self, trigger: Trigger) -> Result<ReloadAnswer, Error> {
        // Before reading: what changes meanwhile is another change.
        self.fingerprint = Fingerprint::of(&self.files);
        let source = self.source.clone();
        let config = off_the_loop(move || source.config().map_err(Error::from)).await?;
        self.files = self.source.files(&config);
        self.fingerprint = Fingerprint::of(&self.files);
        let (mut config, policy) = off_the_loop(move || Policy::read(&config).map(|policy| (config, policy))).await?;
        let Policy { ownership, lists, rules, feeds, prefixes, enabled_lists } = policy;
        let watched = Arc::new(Watched::new(&config, &feeds));
        let list_troubles = feeds.iter().flat_map(feeds::State::notices).collect();
        let waiting_outputs = keep_stdout(&self.started_with.outputs, &mut config.outputs);
        let (running, new) = (self.outputs.clone(), config.clone());
        let outputs = off_the_loop(move || NewOutputs::open(&running, new, &host::read())).await?;
        let opens_baseline = rules.needs_baseline() && !self.has_baseline;
        let settings = config.policy.clone();
        let baseline = off_the_loop(move || Ok(opens_baseline.then(|| baseline::open(&settings)).transpose()?)).await?;
        let prefixes = self.add_prefixes(prefixes).await?;
        let mut needs_restart = needs_restart(&self.started_with, &config);
        needs_restart.extend(waiting_outputs);
        let (done, swapped) = oneshot::channel();
        let generation = self.generation + 1;
        let news = News::Policy(Box::new(NewPolicy {
            trigger,
            generation,
            list_states: list_states(&lists),
            feeds,
            lists,
            rules,
            ownership: Box::new(ownership),
            enabled_lists,
            policy: config.policy,
            flows: config.flows,
            outputs,
            baseline,
            needs_restart: needs_restart.clone(),
            done,
        }));
        self.news.send(news).await.map_err(|_| Error::Stopping)?;
        // What was in force is large: it is not for the loop to take apart.
        drop(swapped.await.map_err(|_| Error::Stopping)?);
        self.generation = generation;
        self.has_baseline |= opens_baseline;
        self.watched.send_replace(watched);
        self.outputs = config.outputs;
        let left_out = self.remove_stale(prefixes).await?;
        Ok(ReloadAnswer::Done { generation, enabled_lists, left_out, needs_restart, list_troubles })
    }

    /// Adds what the tries lack. They then hold what either policy flags, as far as there is room.
    async fn add_prefixes(&mut self, prefixes: Prefixes) -> Result<Prefixes, Error> {
        let Some(mut tries) = self.tries.take() else { return Ok(prefixes) };
        let (tries, prefixes, outcome) = off_the_loop(move || {
            let outcome = tries.add(&prefixes);
            Ok((tries, prefixes, outcome))
        })
        .await?;
        self.tries = Some(tries);
        outcome.map_err(|error| Error::Kernel(error.into()))?;
        Ok(prefixes)
    }

    /// Removes what only the policy before flagged, and adds what had no room until then.
    async fn remove_stale(&mut self, prefixes: Prefixes) -> Result<usize, Error> {
        let Some(mut tries) = self.tries.take() else { return Ok(0) };
        let (tries, outcome) = off_the_loop(move || {
            let outcome = tries.remove_others(&prefixes).and_then(|()| tries.add(&prefixes));
            Ok((tries, outcome))
        })
        .await?;
        let occupancy = tries.occupancy();
        self.tries = Some(tries);
        let left_out = outcome.map_err(|error| Error::Kernel(error.into()))?;
        let _ = self.news.send(News::Tries { left_out, occupancy }).await;
        Ok(left_out)
    }
}

/// What records and figures say of it: what is wrong and where, in one line, and nothing of what the files hold.
fn brief(error: &Error) -> String {
    match error {
        Error::Config(error) => error.brief(),
        other => other.to_string().lines().map(str::trim).collect::<Vec<_>>().join("; "),
    }
}

/// Waits for changes; for ever where none can be noticed.
async fn wait(changes: &mut Option<Changes>) -> std::io::Result<()> {
    match changes {
        Some(changes) => changes.wait().await,
        None => std::future::pending().await,
    }
}

async fn off_the_loop<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(Error::Runtime(std::io::Error::other(error))))
}

/// Settings that differ and that only a restart takes in.
fn needs_restart(started_with: &Config, now: &Config) -> Vec<String> {
    let mut changed = started_with.differences(now);
    changed.retain(|key| AT_START.contains(&key.as_str()) || !RELOADED.iter().any(|start| key.starts_with(start)));
    changed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::RunOptions;

    #[test]
    fn standard_output_changes_hands_at_a_restart_only() {
        let outputs = |text: &str| Config::parse(text, "test").unwrap().outputs;
        let (pipe, disk) = ("[outputs.pipe]\ntype = \"stdout\"\n", "[outputs.disk]\ntype = \"file\"\npath = \"/x\"\n");
        let both = format!("{pipe}{disk}");
        for (started_with, now, waiting, left) in [
            (disk, both.as_str(), &["outputs.pipe"][..], disk),
            (&both, disk, &["outputs.pipe"], disk),
            (&both, pipe, &[], pipe),
            (disk, "", &[], ""),
        ] {
            let mut now = outputs(now);
            assert_eq!(keep_stdout(&outputs(started_with), &mut now), waiting, "{started_with}");
            assert_eq!(now, outputs(left), "{started_with}");
        }
    }

    #[tokio::test]
    async fn a_refused_reload_tells_the_place_and_no_secret() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.toml");
        std::fs::write(
            &file,
            "[outputs.siem]\ntype = \"splunk_hec\"\nurl = \"https://h:1\"\ntoken = \"hunter2-TOKEN\"\nx = 1\n",
        )
        .unwrap();
        let source = Source::new(&RunOptions { config: Some(file.clone()), ..RunOptions::default() });
        let (_asker, requests) = mpsc::channel(1);
        let (news, mut heard) = mpsc::channel(1);
        let watched = watch::Sender::new(Arc::new(Watched::default()));
        let fingerprint = Fingerprint::of(&[]);
        let mut reloader = Reloader::new(source, Config::default(), false, fingerprint, None, requests, news, watched);
        let answer = reloader.reload(Trigger::FileChanged).await;
        let Some(News::Refused { error, .. }) = heard.recv().await else { panic!("not refused") };
        let file = file.display();
        assert_eq!(
            error,
            format!(
                "{file}:4:1: `outputs.siem.token`: a secret is not written into the configuration; {file}:5:1: unknown \
                 key `outputs.siem.x`"
            )
        );
        let answer = serde_json::to_string(&answer).unwrap();
        assert!(answer.contains("LoadCredential=") && !answer.contains("hunter2"), "{answer}");
    }

    #[test]
    fn settings_that_need_a_restart_are_named() {
        let config = |text: &str| Config::parse(text, "test").unwrap();
        let started = config("[kernel]\nflow_ring_size = \"1MiB\"\n[policy]\ndisable = [\"ru-platforms\"]");
        let now = config(
            "[policy]\ndisable = []\nsettle = \"1s\"\nmax_flows = 100\n[output]\nfile = \"/tmp/x\"\n[flows]\nidle = \"9s\"",
        );
        assert_eq!(needs_restart(&started, &now), ["kernel.flow_ring_size", "output.file", "policy.max_flows"]);
        assert_eq!(needs_restart(&now, &now), Vec::<String>::new());
    }
}
