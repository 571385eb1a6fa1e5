//! The last alerts, for whoever asks later.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::broadcast;

use crate::alert::Record;

/// Alerts kept at most, at some 4 kB each; of more, the oldest is forgotten. The outputs have them all.
const KEPT: usize = 1_000;
/// Alerts that may wait for a client that follows; one that is slower misses some, and is told how many.
const WAITING: usize = 256;

/// The last alerts of this run.
#[derive(Debug)]
pub struct AlertLog {
    last: Mutex<VecDeque<Arc<Record>>>,
    news: broadcast::Sender<Arc<Record>>,
}

impl Default for AlertLog {
    fn default() -> Self {
        Self { last: Mutex::default(), news: broadcast::Sender::new(WAITING) }
    }
}

impl AlertLog {
    /// Adds an alert.
    pub fn push(&self, alert: &Arc<Record>) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.len() == KEPT {
            last.pop_front();
        }
        last.push_back(Arc::clone(alert));
        // Under the lock, so that no follower gets one twice or misses one. Nobody may follow.
        let _ = self.news.send(Arc::clone(alert));
    }

    /// Those kept, oldest first, and what brings each further one.
    #[must_use]
    pub fn follow(&self) -> (Vec<Arc<Record>>, broadcast::Receiver<Arc<Record>>) {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        (last.iter().cloned().collect(), self.news.subscribe())
    }
}
