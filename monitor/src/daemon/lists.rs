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
    time::{Instant, sleep},
};

use crate::{
    config::Config,
    control::{ReloadRequest, Trigger},
    policy::feeds::{self, State},
};

/// A list is not asked for more often than this, whatever the disk says about the last time.
const PAUSE_MIN: Duration = Duration::from_mins(1);
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
    /// When each list stops to count, as far as nothing has been heard of it since.
    expires_at: BTreeMap<String, Timestamp>,
}

impl Refresher {
    pub(super) const fn new(watched: watch::Receiver<Arc<Watched>>, reloads: mpsc::Sender<ReloadRequest>) -> Self {
        Self { watched, reloads, attempts: BTreeMap::new(), expires_at: BTreeMap::new() }
    }

    /// Fetches until nobody takes lists in any more.
    pub(super) async fn run(mut self) {
        self.expires_at.clone_from(&self.watched.borrow().expires_at);
        loop {
            let watched = Arc::clone(&self.watched.borrow_and_update());
            let pause = self.pause(&watched, Timestamp::now());
            tokio::select! {
                changed = self.watched.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.expires_at.clone_from(&self.watched.borrow().expires_at);
                    continue;
                }
                () = sleep(pause) => {}
            }
            if self.work(&watched).await {
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
        let fetches = watched.lists.0.iter().filter_map(|(name, list)| {
            let due = until(feeds::due(name, list, &watched.directory)?);
            let asked = self.attempts.get(name).map_or(Duration::ZERO, |at| PAUSE_MIN.saturating_sub(at.elapsed()));
            Some(due.max(asked))
        });
        let expiries = self.expires_at.values().map(|at| until(*at));
        fetches.chain(expiries).min().unwrap_or(PAUSE_MAX).min(PAUSE_MAX)
    }

    /// Fetches what is due, and says whether there is something to take in.
    async fn work(&mut self, watched: &Watched) -> bool {
        let mut has_news = false;
        for (name, list) in &watched.lists.0 {
            let is_due = feeds::due(name, list, &watched.directory).is_some_and(|at| at <= Timestamp::now());
            let is_asked = self.attempts.get(name).is_some_and(|at| at.elapsed() < PAUSE_MIN);
            if !is_due || is_asked {
                continue;
            }
            self.attempts.insert(name.clone(), Instant::now());
            let outcome = feeds::fetch(name, list, &watched.directory, Timestamp::now()).await;
            has_news |= outcome.has_changed;
            if let (Some(at), Some(limit)) = (outcome.confirmed_at, list.expires)
                && let Ok(at) = at.checked_add(limit.get())
            {
                // One that did not count counts again.
                has_news |= watched.expired.contains(name);
                if list.valid_until.is_none() {
                    self.expires_at.insert(name.clone(), at);
                }
            }
        }
        let now = Timestamp::now();
        let before = self.expires_at.len();
        self.expires_at.retain(|_, at| *at > now);
        has_news || self.expires_at.len() < before
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
}
