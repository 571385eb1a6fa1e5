//! What an output with a spool has done and what waits in it, for metrics and `egresswatch status`.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use prometheus_client::metrics::histogram::Histogram;
use serde::Serialize;

use crate::{alert::Timestamp, sink::delivery::Item};

/// What an output with a spool has done since the start. Reading it costs a few loads.
#[derive(Debug, Default)]
pub struct QueueCounters {
    pub(super) delivered_records: AtomicU64,
    pub(super) delivered_bytes: AtomicU64,
    refused_records: AtomicU64,
    refused_in_a_row: AtomicU64,
    pub(super) dead_letter_dropped: AtomicU64,
    pub(super) dropped_records: AtomicU64,
    pub(super) is_dropping: AtomicBool,
    pub(super) damaged_records: AtomicU64,
    pub(super) retries: AtomicU64,
    pub(super) failures: AtomicU64,
    pub(super) asked_to_wait: AtomicU64,
    pub(super) no_answers: AtomicU64,
    pub(super) last_success_ms: AtomicI64,
    pub(super) is_failing: AtomicBool,
    pub(super) depth_records: AtomicU64,
    pub(super) depth_bytes: AtomicU64,
    max_bytes: AtomicU64,
    /// Time of the oldest item in ms since the epoch; 0 for none.
    pub(super) oldest_ms: AtomicI64,
    last_error: Mutex<Option<String>>,
    trouble: Mutex<Option<String>>,
    delivery_latency: Latency,
}

/// From what records tell of to the receiver's confirmation, in seconds: from 1 ms to the hours that a receiver may be down.
#[derive(Debug)]
struct Latency(Histogram);

impl Default for Latency {
    fn default() -> Self {
        Self(Histogram::new([0.001, 0.01, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0, 3_600.0, 21_600.0]))
    }
}

/// [`QueueCounters`] at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct QueueFigures {
    /// Records that the receiver confirmed.
    pub delivered_records: u64,
    /// Their bytes.
    pub delivered_bytes: u64,
    /// Records that the receiver refused for good; the latest are in the dead-letter files.
    pub refused_records: u64,
    /// Those of them since which nothing was confirmed: more than 0 while the receiver refuses everything.
    pub refused_in_a_row: u64,
    /// Refused records that the dead-letter files had no more room for.
    pub dead_letter_dropped: u64,
    /// Records dropped because the queue was full.
    pub dropped_records: u64,
    /// Whether the queue is full, so that the latest records were dropped or dropped others.
    pub is_dropping: bool,
    /// Records that could not be read from the disk again.
    pub damaged_records: u64,
    /// Tries after a failed one.
    pub retries: u64,
    /// Deliveries that failed without the receiver asking for a pause.
    pub failures: u64,
    /// Deliveries after which the receiver asked for a pause.
    pub asked_to_wait: u64,
    /// Deliveries that did not end in time.
    pub no_answers: u64,
    /// When the receiver last confirmed something.
    pub last_success: Option<Timestamp>,
    /// Whether the last delivery failed.
    pub is_failing: bool,
    /// What the last failure was; it stays after the receiver has recovered.
    pub last_error: Option<String>,
    /// What does not work beside the delivery, such as the rotation of a file.
    pub trouble: Option<String>,
    /// Records that wait.
    pub depth_records: u64,
    /// Their bytes.
    pub depth_bytes: u64,
    /// Most bytes that may wait.
    pub max_bytes: u64,
    /// Time of the oldest record that waits.
    pub oldest: Option<Timestamp>,
}

impl QueueFigures {
    /// Whether nothing comes through now: deliveries fail, or all that is sent is refused.
    #[must_use]
    pub const fn is_stuck(&self) -> bool {
        self.is_failing || self.refused_in_a_row > 0
    }

    /// Whether every record is kept until it is delivered, however long that takes.
    #[must_use]
    pub const fn takes_records(&self) -> bool {
        !self.is_dropping && self.refused_in_a_row == 0
    }
}

impl QueueCounters {
    /// The figures now.
    #[must_use]
    pub fn figures(&self) -> QueueFigures {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let time = |counter: &AtomicI64| match counter.load(Ordering::Relaxed) {
            0 => None,
            milliseconds => Some(Timestamp::from_unix_ns(i128::from(milliseconds) * 1_000_000)),
        };
        QueueFigures {
            delivered_records: count(&self.delivered_records),
            delivered_bytes: count(&self.delivered_bytes),
            refused_records: count(&self.refused_records),
            refused_in_a_row: count(&self.refused_in_a_row),
            dead_letter_dropped: count(&self.dead_letter_dropped),
            dropped_records: count(&self.dropped_records),
            is_dropping: self.is_dropping.load(Ordering::Relaxed),
            damaged_records: count(&self.damaged_records),
            retries: count(&self.retries),
            failures: count(&self.failures),
            asked_to_wait: count(&self.asked_to_wait),
            no_answers: count(&self.no_answers),
            last_success: time(&self.last_success_ms),
            is_failing: self.is_failing.load(Ordering::Relaxed),
            last_error: self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            trouble: self.trouble(),
            depth_records: count(&self.depth_records),
            depth_bytes: count(&self.depth_bytes),
            max_bytes: count(&self.max_bytes),
            oldest: time(&self.oldest_ms),
        }
    }

    /// Whether the receiver refuses all that it is sent.
    pub(super) fn is_refusing(&self) -> bool {
        self.refused_in_a_row.load(Ordering::Relaxed) > 0
    }

    pub(super) fn refused(&self, records: u64) {
        self.refused_records.fetch_add(records, Ordering::Relaxed);
        self.refused_in_a_row.fetch_add(records, Ordering::Relaxed);
    }

    /// How long records took until the receiver confirmed them, in seconds. It goes on counting.
    #[must_use]
    pub fn delivery_latency(&self) -> Histogram {
        self.delivery_latency.0.clone()
    }

    /// The receiver has confirmed `items`, at least one.
    pub(super) fn succeeded<'a>(&self, items: impl Iterator<Item = &'a Item>) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let (mut records, mut bytes) = (0, 0);
        for item in items {
            records += 1;
            bytes += item.bytes.len() as u64;
            let at = Duration::from_nanos(u64::try_from(item.time.unix_ns()).unwrap_or(0));
            self.delivery_latency.0.observe(now.saturating_sub(at).as_secs_f64());
        }
        self.refused_in_a_row.store(0, Ordering::Relaxed);
        self.delivered_records.fetch_add(records, Ordering::Relaxed);
        self.delivered_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.last_success_ms.store(i64::try_from(now.as_millis()).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    pub(super) fn set_last_error(&self, reason: &str) {
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.to_owned());
    }

    /// What does not work beside the delivery.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes what does not work beside the delivery, and returns whether it is something else than before.
    pub(super) fn set_trouble(&self, trouble: Option<&str>) -> bool {
        let mut known = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let is_other = known.as_deref() != trouble;
        if is_other {
            *known = trouble.map(str::to_owned);
        }
        is_other
    }

    pub(super) fn set_max(&self, bytes: u64) {
        self.max_bytes.store(bytes, Ordering::Relaxed);
    }

    pub(super) fn set_depth(&self, records: u64, bytes: u64, oldest: Option<Timestamp>) {
        self.depth_records.store(records, Ordering::Relaxed);
        self.depth_bytes.store(bytes, Ordering::Relaxed);
        let oldest_ms = oldest.map_or(0, |oldest| i64::try_from(oldest.unix_ns() / 1_000_000).unwrap_or(0));
        self.oldest_ms.store(oldest_ms, Ordering::Relaxed);
    }
}
