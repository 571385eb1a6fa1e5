//! The task that feeds one output's transport from its queue.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{Backoff, ConfirmedLosses, QueueCounters, SpoolSender, backoff::PAUSE_MAX, dead_letter::DeadLetter};
use crate::{
    alert::record::Dataset,
    sink::delivery::{AnyDelivery, Delivered, Failure, Item, Refused},
};

/// A delivery that takes longer than its own deadline should have let it is given up after this time and what its settings
/// let one request take.
const GUARD: Duration = Duration::from_mins(5);

/// Feeds one output's transport until it is told to end, or its queue is closed and empty.
pub struct Delivering {
    output: String,
    delivery: Box<dyn AnyDelivery>,
    spool: SpoolSender,
    backoff: Backoff,
    counters: Arc<QueueCounters>,
    dead_letter: DeadLetter,
    reopening: Arc<Reopening>,
    give_up: watch::Receiver<Option<Instant>>,
    failures: u32,
}

/// Tells the task of an output what to do.
#[derive(Clone, Debug)]
pub struct Steering {
    reopening: Arc<Reopening>,
    give_up: watch::Sender<Option<Instant>>,
}

#[derive(Debug, Default)]
struct Reopening {
    is_asked: AtomicBool,
    asked: Notify,
}

impl Steering {
    /// Lets the transport open its place anew before the next batch, and cuts a pause short.
    pub fn reopen(&self) {
        self.reopening.is_asked.store(true, Ordering::Release);
        self.reopening.asked.notify_one();
    }

    /// Ends the task at `deadline`, whatever is left: it stays in the spool.
    pub fn give_up_at(&self, deadline: Instant) {
        self.give_up.send_replace(Some(deadline));
    }
}

/// The deadline has come.
struct GivenUp;

/// What the receiver refused of what it has dealt with, with its reasons, and what it took.
fn split(items: &[Item], refused: Vec<Refused>) -> (Vec<(Item, String)>, Vec<&Item>) {
    let mut reasons: BTreeMap<usize, String> =
        refused.into_iter().map(|Refused { index, reason }| (index, reason)).collect();
    let (mut kept_apart, mut taken) = (Vec::new(), Vec::new());
    for (index, item) in items.iter().enumerate() {
        match reasons.remove(&index) {
            Some(reason) => kept_apart.push((item.clone(), reason)),
            None => taken.push(item),
        }
    }
    (kept_apart, taken)
}

impl Delivering {
    /// The task for `output`, and what steers it.
    #[must_use]
    pub fn new(
        output: &str,
        delivery: Box<dyn AnyDelivery>,
        spool: SpoolSender,
        config: &super::Config,
        counters: Arc<QueueCounters>,
    ) -> (Self, Steering) {
        let reopening = Arc::new(Reopening::default());
        let (give_up_sender, give_up) = watch::channel(None);
        let steering = Steering { reopening: Arc::clone(&reopening), give_up: give_up_sender };
        let task = Self {
            output: output.to_owned(),
            delivery,
            spool,
            backoff: config.retry,
            counters,
            dead_letter: DeadLetter::new(Path::new(&config.directory), output),
            reopening,
            give_up,
            failures: 0,
        };
        (task, steering)
    }

    /// Delivers in order. Nothing that is not confirmed is lost when this ends or is dropped.
    pub async fn run(mut self) {
        let mut give_up = self.give_up.clone();
        tokio::select! {
            biased;
            GivenUp = given_up(&mut give_up) => {}
            () = self.deliver_all() => {}
        }
    }

    async fn deliver_all(&mut self) {
        let mut from = 0;
        loop {
            let limits = self.delivery.limits();
            let batch = self.spool.read(&self.output, from, limits).await;
            let Some((last, _)) = batch.last() else { return };
            from = last + 1;
            let (numbers, items): (Vec<u64>, Vec<Item>) = batch.into_iter().unzip();
            self.deliver_batch(&numbers, &items).await;
        }
    }

    /// Delivers the whole batch, however often it takes.
    async fn deliver_batch(&mut self, numbers: &[u64], items: &[Item]) {
        let mut done = 0;
        while let Some(rest) = items.get(done..).filter(|rest| !rest.is_empty()) {
            if self.reopening.is_asked.swap(false, Ordering::AcqRel) {
                self.delivery.reopen();
            }
            let guard = GUARD.saturating_add(self.delivery.patience());
            let outcome = timeout(guard, self.delivery.deliver(rest)).await;
            if self.counters.set_trouble(self.delivery.trouble())
                && let Some(trouble) = self.delivery.trouble()
            {
                tracing::warn!(output = self.output, trouble, "records are delivered, but something does not work");
            }
            let (confirmed, refused, failure) = match outcome {
                Ok(Ok(Delivered { refused, left })) => (rest.len().saturating_sub(left), refused, None),
                Ok(Err(failure)) => {
                    let confirmed = failure.confirmed.min(rest.len());
                    (confirmed, failure.refused.clone(), Some((failure, false)))
                }
                Err(_) => {
                    let reason = format!("no answer for {} s: the connection is tried anew", guard.as_secs());
                    self.delivery.reopen();
                    (0, Vec::new(), Some((Failure::new(reason), true)))
                }
            };
            let confirmed_items = rest.get(..confirmed).unwrap_or(rest);
            let (refused, taken) = split(confirmed_items, refused);
            let losses = self.keep_refused(refused).await;
            if let Some(last) = (done + confirmed).checked_sub(1).and_then(|last| numbers.get(last))
                && confirmed > 0
            {
                self.spool.confirm(&self.output, last + 1, losses);
                if !taken.is_empty() {
                    self.counters.succeeded(taken.into_iter());
                }
            }
            done += confirmed;
            match failure {
                None if confirmed > 0 => self.answered(),
                None => {}
                Some((failure, no_answer)) => self.failed(&failure, no_answer, confirmed > 0).await,
            }
        }
    }

    /// The receiver has dealt with a batch, or its front.
    fn answered(&mut self) {
        self.failures = 0;
        if self.counters.is_failing.swap(false, Ordering::Relaxed) && !self.counters.is_refusing() {
            tracing::info!(output = self.output, "records are delivered again");
        }
    }

    /// Counts a failure and waits until the next try.
    async fn failed(&mut self, failure: &Failure, no_answer: bool, progressed: bool) {
        self.failures = if progressed { 1 } else { self.failures.saturating_add(1) };
        let kind = match failure.retry_after {
            _ if no_answer => &self.counters.no_answers,
            Some(_) => &self.counters.asked_to_wait,
            None => &self.counters.failures,
        };
        kind.fetch_add(1, Ordering::Relaxed);
        self.counters.set_last_error(&failure.reason);
        if !self.counters.is_failing.swap(true, Ordering::Relaxed) {
            let receiver = self.delivery.describe();
            tracing::warn!(output = self.output, receiver, reason = failure.reason, "not delivered: it is tried again");
        }
        let jitter = self.backoff.pause(self.failures);
        let pause = failure.retry_after.map_or(jitter, |asked| asked.min(PAUSE_MAX.get()) + jitter.min(asked));
        tokio::select! {
            () = sleep(pause) => {}
            () = self.reopening.asked.notified() => {}
        }
        self.counters.retries.fetch_add(1, Ordering::Relaxed);
    }

    /// Writes what was refused to the dead-letter files, and returns of what loss records are to tell: of all that was refused
    /// but loss records, or each would make the next, and of what these files had no more room for. What cannot be written
    /// there is counted and told all the same.
    async fn keep_refused(&mut self, refused: Vec<(Item, String)>) -> ConfirmedLosses {
        let Some((first, reason)) = refused.first() else { return ConfirmedLosses::default() };
        let records = refused.len() as u64;
        let to_tell = refused.iter().filter(|(item, _)| item.dataset != Dataset::Loss).count() as u64;
        let dead_letter = self.dead_letter.clone();
        let file = dead_letter.path(first.dataset).display().to_string();
        self.counters.set_last_error(&format!("the receiver refuses records for good: {reason}"));
        // Of a receiver that refuses everything, the counters tell from then on.
        if !self.counters.is_refusing() {
            tracing::warn!(output = self.output, records, reason, file, "the receiver refuses records for good");
        }
        let mut pushed_out = 0;
        let kept = tokio::task::spawn_blocking(move || {
            let mut pushed_out = 0;
            (dead_letter.append(&refused, &mut pushed_out), pushed_out)
        });
        let kept = kept.await.map(|(kept, before)| {
            pushed_out = before;
            kept
        });
        match kept {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(output = self.output, %error, file, "refused records are not kept"),
            Err(error) => tracing::error!(output = self.output, %error, "refused records are not kept"),
        }
        self.counters.refused(records);
        self.counters.dead_letter_dropped.fetch_add(pushed_out, Ordering::Relaxed);
        ConfirmedLosses { refused: to_tell, pushed_out }
    }
}

/// Waits for the deadline, once there is one.
async fn given_up(give_up: &mut watch::Receiver<Option<Instant>>) -> GivenUp {
    loop {
        let deadline = *give_up.borrow_and_update();
        let Some(deadline) = deadline else {
            if give_up.changed().await.is_err() {
                // Nobody can tell any more: the queue's end is the end.
                std::future::pending::<()>().await;
            }
            continue;
        };
        tokio::select! {
            () = sleep_until(deadline) => return GivenUp,
            changed = give_up.changed() => if changed.is_err() { sleep_until(deadline).await; return GivenUp; },
        }
    }
}
