//! A snapshot in the text format of Prometheus, and the reference made from it.

#![expect(clippy::cast_precision_loss, reason = "Prometheus has no other numbers, and 2^53 of anything is enough")]

use std::{
    collections::BTreeSet,
    fmt::{self, Write as _},
    sync::atomic::AtomicU64,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _, text::encode},
    metrics::{MetricType, counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use super::{Snapshot, snapshot};
use crate::{alert::Timestamp, policy::feeds, sink::spool::QueueFigures};

type Labels = Vec<(&'static str, String)>;
type Numbers = Gauge<f64, AtomicU64>;

/// The metrics of `snapshot`, of the moment from a flow's report to the alert in the outputs' hands, and of memory.
#[must_use]
pub fn text(snapshot: &Snapshot, alert_latency: &Histogram, resident_bytes: Option<u64>) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = encode(&mut text, &registry(snapshot, alert_latency, resident_bytes));
    classic(&text)
}

/// The registry is made for each answer: its figures are those of one moment.
fn registry(snapshot: &Snapshot, alert_latency: &Histogram, resident_bytes: Option<u64>) -> Registry {
    let mut metrics = Metrics(Registry::with_prefix("egresswatch"));
    metrics.gauges(
        "build_info",
        "Version of the program, always 1",
        [(vec![("version", snapshot.version.to_owned())], 1.0)],
    );
    metrics.gauge("uptime_seconds", "Time since the start", snapshot.uptime_ns as f64 / 1e9);
    if let Some(bytes) = resident_bytes {
        metrics.gauge("resident_memory_bytes", "Memory of the process, mapped rings counted twice", bytes as f64);
    }
    metrics.gauges(
        "rung_info",
        "Rung of the kernel side in use, always 1",
        [(vec![("rung", snapshot.rung.to_owned())], 1.0)],
    );
    let probes = snapshot.probes.iter().map(|probe| (vec![("probe", (*probe).to_owned())], 1.0));
    metrics.gauges("probe_attached", "Kernel programs that are attached, each 1", probes);
    let degraded = snapshot.degradations.iter().map(|one| (vec![("token", one.token.clone())], 1.0));
    metrics.gauges("degraded", "What does not work, each 1; `egresswatch status` says what to do", degraded);
    metrics.policy(snapshot);
    metrics.flows(snapshot);
    let losses = snapshot.losses.iter().map(|loss| {
        let stage = match loss.stage {
            crate::alert::input::LossStage::Kernel => "kernel",
            crate::alert::input::LossStage::Pipeline => "pipeline",
            crate::alert::input::LossStage::Output => "output",
        };
        let mut labels = vec![("stage", stage.to_owned()), ("reason", loss.reason.to_owned())];
        labels.extend(loss.output.iter().map(|output| ("output", output.clone())));
        (labels, loss.count)
    });
    let help = "What was lost or late, by stage, reason and output; 0 is part of the answer; see events.md";
    metrics.counters("losses", help, losses);
    metrics.counter("refused_kernel_records", "Kernel records that could not be understood", snapshot.refused_records);
    let rings = |value: fn(&snapshot::RingState) -> u64| {
        snapshot.rings.iter().map(move |ring| (vec![("ring", ring.ring.to_owned())], value(ring) as f64))
    };
    metrics.gauges("ring_unread_bytes", "Bytes in each kernel ring not read yet", rings(|ring| ring.unread_bytes));
    metrics.gauges("ring_size_bytes", "Bytes that there is room for, by ring", rings(|ring| ring.size_bytes));
    let tables = |value: fn(&snapshot::TableState) -> u64| {
        snapshot.tables.iter().map(move |table| (vec![("table", table.table.to_owned())], value(table) as f64))
    };
    metrics.gauges("table_entries", "Entries held, by table", tables(|table| table.entries));
    metrics.gauges("table_capacity", "Entries that there is room for, by table", tables(|table| table.capacity));
    metrics.outputs(snapshot);
    metrics.0.register(
        "alert_latency_seconds",
        "From the kernel's report of a flow to the alert in the hands of every output",
        alert_latency.clone(),
    );
    let latencies = snapshot
        .outputs
        .iter()
        .filter_map(|output| Some((vec![("output", output.output.clone())], output.delivery_latency.clone()?)));
    metrics.0.register_collector(Box::new(DeliveryLatencies(latencies.collect())));
    metrics.0
}

/// How long records took until the receiver confirmed them. The histograms are the outputs' own.
#[derive(Debug)]
struct DeliveryLatencies(Vec<(Labels, Histogram)>);

impl Collector for DeliveryLatencies {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "From what a record tells of to the receiver's confirmation, by output.";
        let name = "delivery_latency_seconds";
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (labels, histogram) in &self.0 {
            histogram.encode(metric.encode_family(labels)?)?;
        }
        Ok(())
    }
}

/// A registry that takes figures.
struct Metrics(Registry);

impl Metrics {
    fn gauge(&mut self, name: &str, help: &str, value: f64) {
        let gauge = Numbers::default();
        gauge.set(value);
        self.0.register(name, help, gauge);
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        let counter: Counter = Counter::default();
        counter.inc_by(value);
        self.0.register(name, help, counter);
    }

    fn gauges(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = (Labels, f64)>) {
        let family = Family::<Labels, Numbers>::default();
        for (labels, value) in values {
            family.get_or_create(&labels).set(value);
        }
        self.0.register(name, help, family);
    }

    fn counters(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = (Labels, u64)>) {
        let family = Family::<Labels, Counter>::default();
        for (labels, value) in values {
            family.get_or_create(&labels).inc_by(value);
        }
        self.0.register(name, help, family);
    }

    fn policy(&mut self, snapshot: &Snapshot) {
        self.gauge("policy_generation", "Number of the policy in force, 1 at the start", snapshot.generation as f64);
        let waiting = snapshot.needs_restart.len() as f64;
        self.gauge("settings_waiting_for_restart", "Settings that were changed and wait for a restart", waiting);
        let outcome = |outcome: &str| vec![("outcome", outcome.to_owned())];
        let reloads = [(outcome("done"), snapshot.reloads.done), (outcome("failed"), snapshot.reloads.failed)];
        self.counters("reloads", "Times that configuration, lists and data were taken in anew", reloads);
        if let Some(at) = snapshot.reloads.last_at {
            let seconds = (at.unix_ns() / 1_000_000_000) as f64;
            self.gauge("last_reload_timestamp_seconds", "When the last reload was, done or failed", seconds);
        }
        if let Some(seconds) = midnight(&snapshot.ownership_date) {
            self.gauge("ownership_data_timestamp_seconds", "Date of the ownership data", seconds);
        }
        let label = |list: &snapshot::ListState| vec![("list", list.id.clone())];
        let dates = snapshot.lists.iter().filter_map(|list| Some((label(list), midnight(list.as_of.as_deref()?)?)));
        self.gauges("list_timestamp_seconds", "Date up to which each list that alerts was read", dates);
        let entities = snapshot.lists.iter().map(|list| (label(list), list.entities as f64));
        self.gauges("list_entities", "Entities of each list that alerts", entities);
        self.own_lists(&snapshot.own_lists);
    }

    fn own_lists(&mut self, lists: &[feeds::State]) {
        let label = |list: &feeds::State| vec![("list", list.name.clone())];
        let seconds = |at: Option<jiff::Timestamp>| Some(at?.as_second() as f64);
        let keys = lists.iter().map(|list| (label(list), list.keys as f64));
        self.gauges("own_list_keys", "Keys of each list of [lists] in force", keys);
        let bad = lists.iter().map(|list| (label(list), list.bad_lines as f64));
        self.gauges("own_list_bad_lines", "Lines of each list of [lists] that are no entries", bad);
        let good = lists.iter().filter_map(|list| Some((label(list), seconds(list.good_at)?)));
        self.gauges(
            "own_list_good_timestamp_seconds",
            "When each list of [lists] was last good: fetched, confirmed, or changed",
            good,
        );
        let expiry = lists.iter().filter_map(|list| Some((label(list), seconds(list.expires_at)?)));
        self.gauges("own_list_expires_timestamp_seconds", "When each list of [lists] stops to count", expiry);
        let failing = lists.iter().map(|list| (label(list), f64::from(u8::from(list.troubles().next().is_some()))));
        self.gauges(
            "own_list_failing",
            "1 where a list of [lists] is not in force as its source is: not read, not fetched, shrunk, expired",
            failing,
        );
    }

    fn flows(&mut self, snapshot: &Snapshot) {
        self.counter("flows", "Flows seen", snapshot.flows.seen);
        self.counter("flows_ended", "Flows that ended", snapshot.flows.ended);
        self.counter("flows_unattributed", "Flows whose process nothing could tell", snapshot.flows.unattributed);
        self.counter("alerts", "Alerts told", snapshot.alerts);
        let by_list = snapshot.alerts_by_list.iter().map(|alerts| {
            (vec![("list", alerts.list.clone()), ("severity", alerts.severity.to_owned())], alerts.count)
        });
        self.counters("list_alerts", "Alerts by list and severity; one on several lists counts for each", by_list);
        let by_rule = snapshot.alerts_by_rule.iter().map(|alerts| {
            (vec![("rule", alerts.rule.clone()), ("severity", alerts.severity.to_owned())], alerts.count)
        });
        self.counters("rule_alerts", "Alerts by rule and severity; those in force are there with 0", by_rule);
        let untold = snapshot.untold.iter().map(|one| (vec![("reason", one.reason.to_owned())], one.count));
        self.counters("untold_matches", "Matches of rules and lists that no alert told by itself, by reason", untold);
        let processes = &snapshot.processes;
        self.counter("processes_evicted", "Ended processes forgotten for newer ones", processes.evicted);
        self.counter("processes_not_recorded", "Running processes beyond the limit", processes.not_recorded);
        let unknown = processes.unknown_executables;
        self.counter("executables_unknown", "Descriptions of processes without an executable", unknown);
        let containers = snapshot.containers.by_outcome();
        let by_outcome = containers.into_iter().map(|(outcome, count)| (vec![("outcome", outcome.to_owned())], count));
        self.counters("containers_read", "Containers whose description was looked for, by what came of it", by_outcome);
    }

    /// What outputs with a spool keep on the disk.
    fn queues(&mut self, snapshot: &Snapshot) {
        let queues: Vec<_> = snapshot
            .outputs
            .iter()
            .filter_map(|output| Some((output.output.as_str(), output.queue.as_ref()?)))
            .collect();
        let label = |output: &str| vec![("output", output.to_owned())];
        let count =
            |value: fn(&QueueFigures) -> u64| queues.iter().map(move |(output, queue)| (label(output), value(queue)));
        let time = |value: fn(&QueueFigures) -> Option<Timestamp>| {
            queues.iter().filter_map(move |(output, queue)| Some((label(output), value(queue)?.unix_ns() as f64 / 1e9)))
        };
        let depth = count(|queue| queue.depth_records).map(|(label, records)| (label, records as f64));
        self.gauges("spool_records", "Records on the disk that are not delivered yet, by output", depth);
        let depth = count(|queue| queue.depth_bytes).map(|(label, bytes)| (label, bytes as f64));
        self.gauges("spool_bytes", "Bytes of these records, by output", depth);
        let most = count(|queue| queue.max_bytes).map(|(label, bytes)| (label, bytes as f64));
        self.gauges("spool_max_bytes", "Most bytes that may wait there, by output", most);
        let oldest = time(|queue| queue.oldest);
        self.gauges("spool_oldest_timestamp_seconds", "When the oldest of these records happened, by output", oldest);
        let success = time(|queue| queue.last_success);
        self.gauges("output_last_success_timestamp_seconds", "When the receiver last confirmed, by output", success);
        let dropped = count(|queue| queue.dropped_records);
        self.counters("spool_dropped_records", "Records dropped because the spool was full, by output", dropped);
        let refused = count(|queue| queue.refused_records);
        self.counters("output_refused_records", "Records that the receiver refused for good, by output", refused);
        let retries = count(|queue| queue.retries);
        self.counters("output_retries", "Tries after a failed delivery, by output", retries);
        let failures = queues.iter().flat_map(|(output, queue)| {
            let kinds =
                [("failed", queue.failures), ("asked_to_wait", queue.asked_to_wait), ("no_answer", queue.no_answers)];
            kinds.map(|(kind, count)| (vec![("output", (*output).to_owned()), ("kind", kind.to_owned())], count))
        });
        self.counters("delivery_failures", "Failed deliveries, by output and kind", failures);
    }

    fn outputs(&mut self, snapshot: &Snapshot) {
        let label = |output: &snapshot::OutputState| vec![("output", output.output.clone())];
        let all = |value: fn(&snapshot::OutputState) -> u64| {
            snapshot.outputs.iter().map(move |output| (label(output), value(output)))
        };
        self.counters("output_records", "Records written, by output", all(|output| output.written_records));
        self.counters("output_bytes", "Bytes written, by output", all(|output| output.written_bytes));
        self.counters("output_dropped_flows", "Flow records dropped, by output", all(|output| output.dropped_flows));
        let dropped = all(|output| output.dropped_alerts);
        self.counters("output_dropped_alerts", "Alerts and notices dropped by an output without a spool", dropped);
        self.counters("output_errors", "Failed writes and deliveries, by output", all(|output| output.errors));
        let failing = snapshot.outputs.iter().map(|output| (label(output), f64::from(u8::from(output.failing))));
        let help = "1 where nothing comes through now, or the receiver refuses everything, by output";
        self.gauges("output_failing", help, failing);
        self.queues(snapshot);
    }
}

/// A date's first second, in seconds since 1970.
fn midnight(date: &str) -> Option<f64> {
    let date: jiff::civil::Date = date.parse().ok()?;
    Some(date.to_zoned_datetime(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second() as f64)
}

/// From `OpenMetrics` to the older text format, which every scraper and `promtool` reads: counters are named as their samples
/// are, and there is no end mark.
fn classic(open_metrics: &str) -> String {
    let counters: BTreeSet<&str> =
        open_metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter")).collect();
    let mut text = String::with_capacity(open_metrics.len());
    let mut samples = Vec::new();
    for line in open_metrics.lines().filter(|line| *line != "# EOF") {
        if !line.starts_with('#') {
            samples.push(line);
            continue;
        }
        write_samples(&mut text, &mut samples);
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some(kind), Some(name), Some(rest)) if counters.contains(name) => {
                _ = writeln!(text, "# {kind} {name}_total {rest}");
            }
            _ => _ = writeln!(text, "{line}"),
        }
    }
    write_samples(&mut text, &mut samples);
    text
}

/// Writes a metric's samples in order of their labels, so that two answers can be compared. A histogram has an order of
/// its own.
fn write_samples(text: &mut String, samples: &mut Vec<&str>) {
    if !samples.iter().any(|sample| sample.contains("_bucket{")) {
        samples.sort_unstable();
    }
    for sample in samples.drain(..) {
        _ = writeln!(text, "{sample}");
    }
}

/// The reference of all metrics.
#[must_use]
pub fn reference_markdown() -> String {
    let histogram = super::latency_histogram();
    let text = text(&Snapshot::example(), &histogram, Some(1));
    let mut markdown = String::from(
        "<!-- Made by `cargo xtask docs` from the code. -->\n\n# Metrics\n\n\
         Served over HTTP: `/metrics` for these; `/live` answers 200 while the loop runs, `/ready` once it watches and \
         while every output takes records, and else 503 with the names of those that do not. An output without a spool takes \
         records while they are written. One with a spool takes them as long as its queue has room, also while its receiver \
         is down; it does not once the queue is full and records are dropped, and while the receiver refuses everything. No \
         metric names a process, an address or a user.\n\n\
         They are on by default, at a Unix socket that root and root's group can use:\n\n\
         ```sh\nsudo curl --unix-socket /run/egresswatch/metrics.sock http://localhost/metrics\n```\n\n\
         Prometheus reads no Unix sockets. For it, write this into the configuration and start the monitor anew (under systemd \
         with [network-outputs.conf](../deploy/systemd/network-outputs.conf), because the unit by itself may not use the network); \
         the other side is [prometheus.yml](../deploy/prometheus/prometheus.yml).\n\n\
         ```toml\n[metrics]\nlisten = \"127.0.0.1:9477\"\n```\n\n\
         `listen = \"off\"` serves nothing, \"unix:/path\" serves at another socket. A place that is configured and cannot be had is \
         an error at the start; without the socket that is only the default the monitor warns and runs.\n\n\
         | metric | type | labels | meaning |\n| --- | --- | --- | --- |\n",
    );
    let mut help = "";
    for line in text.lines() {
        if let Some((_, text)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            help = text;
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            let labels = labels_of(&text, name);
            _ = writeln!(markdown, "| `{name}` | {kind} | {labels} | {help} |");
        }
    }
    markdown
}

/// The names of a metric's labels, as they stand in `text`.
fn labels_of(text: &str, name: &str) -> String {
    let samples = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        Some(rest.strip_prefix("_bucket").unwrap_or(rest).strip_prefix('{')?.split_once('}')?.0)
    });
    let mut labels: Vec<&str> = Vec::new();
    for (label, _) in samples.flat_map(|labels| labels.split(',')).filter_map(|label| label.split_once('=')) {
        // The bounds of a histogram's buckets are part of its form.
        if label != "le" && !labels.contains(&label) {
            labels.push(label);
        }
    }
    labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ")
}
