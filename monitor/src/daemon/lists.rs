//! Fetches lists when they are due, and has the policy taken in anew when one has changed or does not count any more.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{
    config::Config,
    control::{ReloadRequest, Trigger},
    policy::feeds::{self, Outcome, State},
};

/// A list is not asked for more often than this, whatever the disk says about the last time.
const PAUSE_MIN: Duration = Duration::from_mins(1);
/// Lists that are fetched at the same time. One may take minutes, and holds up no other.
const FETCHES_MAX: usize = 8;
/// The wall clock is looked at as often as this, because it may jump.
const PAUSE_MAX: Duration = Duration::from_mins(10);

/// The lists of the policy in force.
#[derive(Debug, Default)]
pub(super) struct Watched {
    lists: feeds::Config,
    directory: PathBuf,
    expires_at: BTreeMap<String, Timestamp>,
    expired: BTreeSet<String>,
}

impl Watched {
    pub(super) fn new(config: &Config, states: &[State]) -> Self {
        let counting = states.iter().filter(|state| state.enabled && state.expired.is_none());
        let expired = states.iter().filter(|state| state.expired.is_some());
        Self {
            lists: config.lists.clone(),
            directory: config.policy.lists_directory.clone(),
            expires_at: counting.filter_map(|state| Some((state.name.clone(), state.expires_at?))).collect(),
            expired: expired.map(|state| state.name.clone()).collect(),
        }
    }
}

/// The task that fetches.
pub(super) struct Refresher {
    watched: watch::Receiver<Arc<Watched>>,
    reloads: mpsc::Sender<ReloadRequest>,
    /// When each list was last asked for.
    attempts: BTreeMap<String, Instant>,
    /// Lists that are being fetched, each in a task of its own.
    fetching: BTreeSet<String>,
    tasks: JoinSet<(String, Outcome)>,
    /// When each list stops to count, as far as nothing has been heard of it since.
    expires_at: BTreeMap<String, Timestamp>,
}

impl Refresher {
    pub(super) fn new(watched: watch::Receiver<Arc<Watched>>, reloads: mpsc::Sender<ReloadRequest>) -> Self {
        Self {
            watched,
            reloads,
            attempts: BTreeMap::new(),
            fetching: BTreeSet::new(),
            tasks: JoinSet::new(),
            expires_at: BTreeMap::new(),
        }
    }

    /// Fetches until nobody takes lists in any more.
    pub(super) async fn run(mut self) {
        self.expires_at.clone_from(&self.watched.borrow().expires_at);
        loop {
            let watched = Arc::clone(&self.watched.borrow_and_update());
            self.start(&watched);
            let pause = self.pause(&watched, Timestamp::now());
            let mut ended = None;
            tokio::select! {
                changed = self.watched.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.expires_at.clone_from(&self.watched.borrow().expires_at);
                    continue;
                }
                Some(task) = self.tasks.join_next() => ended = Some(task),
                () = sleep(pause) => {}
            }
            let mut has_news = false;
            // Those that ended at the same time are taken in together.
            while let Some(task) = ended.take().or_else(|| self.tasks.try_join_next()) {
                // A task neither panics nor is stopped; if it did, its list would only not be fetched again.
                if let Ok((name, outcome)) = task {
                    has_news |= self.finish(&watched, &name, outcome);
                }
            }
            let (before, now) = (self.expires_at.len(), Timestamp::now());
            self.expires_at.retain(|_, at| *at > now);
            if has_news || self.expires_at.len() < before {
                let request = ReloadRequest { trigger: Trigger::ListRefreshed, answer: None };
                if self.reloads.send(request).await.is_err() {
                    return;
                }
            }
        }
    }

    /// How long nothing is due.
    fn pause(&self, watched: &Watched, now: Timestamp) -> Duration {
        let until = |at: Timestamp| Duration::try_from(at.duration_since(now)).unwrap_or_default();
        let is_full = self.tasks.len() >= FETCHES_MAX;
        let waiting = watched.lists.0.iter().filter(|(name, _)| !is_full && !self.fetching.contains(*name));
        let fetches = waiting.filter_map(|(name, list)| {
            let due = until(feeds::due(name, list, &watched.directory)?);
            let asked = self.attempts.get(name).map_or(Duration::ZERO, |at| PAUSE_MIN.saturating_sub(at.elapsed()));
            Some(due.max(asked))
        });
        let expiries = self.expires_at.values().map(|at| until(*at));
        fetches.chain(expiries).min().unwrap_or(PAUSE_MAX).min(PAUSE_MAX)
    }

    /// Begins to fetch what is due.
    fn start(&mut self, watched: &Watched) {
        for (name, list) in &watched.lists.0 {
            let is_due = feeds::due(name, list, &watched.directory).is_some_and(|at| at <= Timestamp::now());
            let is_asked = self.attempts.get(name).is_some_and(|at| at.elapsed() < PAUSE_MIN);
            if !is_due || is_asked || self.fetching.contains(name) {
                continue;
            }
            if self.tasks.len() >= FETCHES_MAX {
                return;
            }
            self.attempts.insert(name.clone(), Instant::now());
            self.fetching.insert(name.clone());
            let (name, list, directory) = (name.clone(), list.clone(), watched.directory.clone());
            self.tasks.spawn(async move {
                let outcome = feeds::fetch(&name, &list, &directory, Timestamp::now()).await;
                (name, outcome)
            });
        }
    }

    /// Notes how a fetch went, and says whether there is something to take in.
    fn finish(&mut self, watched: &Watched, name: &str, outcome: Outcome) -> bool {
        self.fetching.remove(name);
        let mut has_news = outcome.has_changed;
        if let (Some(at), Some(list)) = (outcome.confirmed_at, watched.lists.0.get(name))
            && let Some(at) = list.expires.and_then(|limit| at.checked_add(limit.get()).ok())
        {
            // One that did not count counts again.
            has_news |= watched.expired.contains(name);
            if list.valid_until.is_none() {
                self.expires_at.insert(name.to_owned(), at);
            }
        }
        has_news
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::download::server::{answer, serve};

    async fn asked(reloads: &mut mpsc::Receiver<ReloadRequest>) -> Trigger {
        let request = tokio::time::timeout(Duration::from_secs(20), reloads.recv()).await;
        request.expect("in time").expect("the refresher runs").trigger
    }

    #[tokio::test]
    async fn a_reload_is_asked_for_when_a_list_came_and_when_it_expires() {
        let folder = tempfile::tempdir().unwrap();
        let address = serve(|_| answer(200, ("", ""), "192.0.2.1\n")).await;
        let text = format!(
            "[policy]\nlists_directory = \"{}\"\n[lists.x]\nsource = \"http://{address}/\"\nexpires = \"2s\"",
            folder.path().display()
        );
        let config = Config::parse(&text, "test").unwrap();
        let read = || {
            let (_, states) = config.lists_with(config.feeds(feeds::BAD_LINES_TOLD)).unwrap();
            states
        };
        let (sender, watched) = watch::channel(Arc::new(Watched::new(&config, &read())));
        let (requests, mut reloads) = mpsc::channel(1);
        let refresher = tokio::spawn(Refresher::new(watched, requests).run());

        assert_eq!(asked(&mut reloads).await, Trigger::ListRefreshed);
        let states = read();
        assert_eq!((states[0].keys, &states[0].expired), (1, &None));
        sender.send_replace(Arc::new(Watched::new(&config, &states)));

        assert_eq!(asked(&mut reloads).await, Trigger::ListRefreshed);
        assert!(read()[0].expired.is_some());
        drop(sender);
        assert!(tokio::time::timeout(Duration::from_secs(20), refresher).await.is_ok(), "it ends with the reloader");
    }

    /// A server that takes connections and never answers, and beside it one that does.
    #[tokio::test]
    async fn a_list_that_hangs_holds_up_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = serve(|_| answer(200, ("", ""), "192.0.2.1\n")).await;
        let text = format!(
            "[policy]\nlists_directory = \"{}\"\n[lists.a]\nsource = \"http://{}/manifest.json\"\n\
             [lists.b]\nsource = \"http://{address}/\"\n",
            folder.path().display(),
            silent.local_addr().unwrap(),
        );
        let config = Config::parse(&text, "test").unwrap();
        let read = || config.lists_with(config.feeds(feeds::BAD_LINES_TOLD)).unwrap().1;
        let (sender, watched) = watch::channel(Arc::new(Watched::new(&config, &read())));
        let (requests, mut reloads) = mpsc::channel(1);
        let refresher = tokio::spawn(Refresher::new(watched, requests).run());
        let connection = silent.accept().await.unwrap();

        assert_eq!(asked(&mut reloads).await, Trigger::ListRefreshed);
        let states: BTreeMap<_, _> = read().into_iter().map(|state| (state.name.clone(), state)).collect();
        assert_eq!((states["b"].keys, states["b"].is_awaited), (1, false));
        assert!(states["a"].is_awaited && states["a"].failed.is_none(), "it is still waited for");
        drop((sender, connection));
        assert!(tokio::time::timeout(Duration::from_secs(20), refresher).await.is_ok(), "it ends with the reloader");
    }
}
