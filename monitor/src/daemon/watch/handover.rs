//! Handing records to the outputs: what must arrive at once, ordinary ones at the pace of the outputs.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use prometheus_client::metrics::histogram::Histogram;
use tokio::time::{Instant, timeout_at};

use super::figures::Figures;
use crate::{
    alert::{Record, record::Dataset},
    control::AlertLog,
    daemon::outputs::Outputs,
    host,
};

/// An output that takes no ordinary record for this long is stuck: what waits for it is dropped and counted.
const STUCK: Duration = Duration::from_secs(2);
/// How long the outputs may take for what is left at the end.
const FAREWELL: Duration = Duration::from_secs(5);

/// The outputs, and what waits for them.
pub(super) struct Handover {
    pub(super) outputs: Outputs,
    /// Records that must arrive and found no room, because the disk of the spool is full or the only output is stuck. While
    /// there are any, nothing is read that could make more; who asks is answered all the same.
    held_up: VecDeque<Arc<Record>>,
    /// When there was room for them last.
    room_at: Instant,
    /// Ordinary records that wait for the outputs. While there are any, the ring of ordinary flows is not read: the
    /// kernel side holds what comes meanwhile, and alerts pass by.
    backlog: VecDeque<Arc<Record>>,
    /// When the outputs last took one of them.
    progress_at: Instant,
    /// How long an output is waited for at the end: no more once one took nothing for that long.
    patience: Duration,
    /// The last alerts, for who asks.
    alerts: Arc<AlertLog>,
    /// From the kernel's report of a flow to the alert in the outputs' hands.
    alert_latency: Histogram,
}

impl Handover {
    pub(super) fn new(outputs: Outputs, alerts: Arc<AlertLog>, alert_latency: Histogram) -> Self {
        Self {
            outputs,
            held_up: VecDeque::new(),
            room_at: Instant::now(),
            backlog: VecDeque::new(),
            progress_at: Instant::now(),
            patience: FAREWELL,
            alerts,
            alert_latency,
        }
    }

    /// Whether nothing that must arrive waits for room.
    pub(super) fn takes_alerts(&self) -> bool {
        self.held_up.is_empty()
    }

    /// For how long nothing that must arrive has found room.
    pub(super) fn held_up_for(&self) -> Duration {
        if self.takes_alerts() { Duration::ZERO } else { self.room_at.elapsed() }
    }

    /// Whether ordinary records wait.
    pub(super) fn has_backlog(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// When an output that took nothing until then is stuck.
    pub(super) fn stuck_at(&self) -> Instant {
        self.progress_at + STUCK
    }

    /// Hands on as much as the outputs take at once. Only an output without a spool is waited for, and that for a moment.
    pub(super) async fn deliver(&mut self, ready: &mut Vec<Arc<Record>>, figures: &mut Figures) {
        for record in std::mem::take(ready) {
            if record.must_arrive() {
                if self.held_up.is_empty() {
                    self.room_at = Instant::now();
                }
                self.held_up.push_back(record);
                continue;
            }
            if self.backlog.is_empty() {
                self.progress_at = Instant::now();
            }
            self.backlog.push_back(record);
        }
        while self.outputs.have_alert_room()
            && let Some(record) = self.held_up.pop_front()
        {
            self.send_alert(record, figures).await;
        }
        while self.outputs.have_flow_room()
            && let Some(record) = self.backlog.pop_front()
        {
            self.outputs.send(record, Instant::now()).await;
            self.progress_at = Instant::now();
        }
    }

    async fn send_alert(&mut self, record: Arc<Record>, figures: &mut Figures) {
        self.outputs.send(Arc::clone(&record), Instant::now()).await;
        self.room_at = Instant::now();
        if record.event.dataset == Dataset::Alert {
            self.note_alert(&record, figures);
        }
    }

    /// Counts an alert that every output has, and keeps it for who asks.
    fn note_alert(&self, alert: &Arc<Record>, figures: &mut Figures) {
        figures.count_alert(alert);
        let now = host::wall_clock().at(host::boot_time());
        let delay_ns = now.unix_ns().saturating_sub(alert.timestamp.unix_ns());
        self.alert_latency.observe(Duration::from_nanos(u64::try_from(delay_ns).unwrap_or(0)).as_secs_f64());
        self.alerts.push(alert);
    }

    /// Drops what an output does not take; the others get it, and the output counts what it missed.
    pub(super) async fn give_up(&mut self) {
        self.outputs.give_up_pace();
        for record in std::mem::take(&mut self.backlog) {
            self.outputs.send(record, Instant::now()).await;
        }
    }

    /// Hands on what waits, at the end. An output that takes none for a while is not waited for again.
    pub(super) async fn hand_over(&mut self, figures: &mut Figures) {
        let deadline = Instant::now() + self.patience;
        self.send_waiting(deadline, figures).await;
        if Instant::now() >= deadline {
            self.patience = Duration::ZERO;
        }
    }

    /// Hands on what waits, for the last time, whatever was waited for before.
    pub(super) async fn hand_over_last(&mut self, figures: &mut Figures) {
        self.send_waiting(Instant::now() + FAREWELL, figures).await;
        self.outputs.leave(self.held_up.len() as u64);
    }

    async fn send_waiting(&mut self, deadline: Instant, figures: &mut Figures) {
        while !self.held_up.is_empty()
            && timeout_at(deadline, self.outputs.alert_room()).await.is_ok()
            && let Some(record) = self.held_up.pop_front()
        {
            self.send_alert(record, figures).await;
        }
        for record in std::mem::take(&mut self.backlog) {
            self.outputs.send(record, deadline).await;
        }
    }
}
