//! Connections at a given rate, and other tools beside the monitor.

use super::Page;
use crate::{
    plot::{self, short},
    records::in_words,
    results::{Outcome, Rate, Results},
    statistics::Latencies,
};

impl Page {
    pub(super) fn rates(&mut self, results: &Results) {
        if results.rates.is_empty() {
            return;
        }
        self.say(
            "## Connections at a given rate\n\nEach connection sends 32 bytes and closes. For the latency some go to flagged \
             addresses, each of another owner, so that each is a first contact and brings an alert: the time from just \
             before `connect` to the moment at which the reader of the monitor's JSON has the alert's line. *Flows \
             missed* are connections without a record of their end, *bytes wrong* compares each record with what was \
             sent. Where the machine could not make the rate asked for, the rate made is the highest that it can with \
             generator, server and monitor on the same CPUs.\n",
        );
        self.say(
            "| asked | made | alerts | p50 | p99 | max | alerts missed | CPU, none flagged | CPU with these alerts | CPU with \
             a record of each flow | flows missed | bytes wrong | losses told |\n| --- | --- | --- | --- | --- | --- | --- | \
             --- | --- | --- | --- | --- | --- |",
        );
        for rate in &results.rates {
            let latency = |of: fn(&Latencies) -> f64| {
                rate.latency.as_ref().map_or_else(|| "–".to_owned(), |latency| format!("{:.2} ms", of(latency)))
            };
            self.say(&format!(
                "| {} /s | {} /s | {} | {} | {} | {} | {} | {:.2} % | {:.2} % | {:.2} % | {} of {} /s | {} | {} |",
                rate.asked,
                short(rate.made),
                rate.alerts,
                latency(|latency| latency.p50_ms),
                latency(|latency| latency.p99_ms),
                latency(|latency| latency.max_ms),
                rate.alerts_missed,
                rate.cpu_percent,
                rate.alerts_cpu_percent,
                rate.with_flows.cpu_percent,
                rate.with_flows.missed,
                short(rate.with_flows.made),
                rate.with_flows.bytes_wrong,
                in_words(&rate.with_flows.losses_told),
            ));
        }
        self.say(
            "\nThe first alert of an executable waits for its SHA-256 and package, at most 20 ms (`[executables] wait`): it \
             is one of the alerts of each row.\n",
        );
        let of = |value: &dyn Fn(&Rate) -> Option<f64>| -> Vec<(f64, f64)> {
            results.rates.iter().filter_map(|rate| Some((rate.asked, value(rate)?))).collect()
        };
        let latency = [
            ("p50", of(&|rate| Some(rate.latency?.p50_ms))),
            ("p99", of(&|rate| Some(rate.latency?.p99_ms))),
            ("maximum", of(&|rate| Some(rate.latency?.max_ms))),
        ];
        let axes = |unit| ("connections a second asked for", unit);
        self.plot("latency.svg", "From connect to alert", |title| plot::lines(title, axes("ms"), true, &latency));
        let cpu = [
            ("none flagged", of(&|rate| Some(rate.cpu_percent))),
            ("with alerts", of(&|rate| Some(rate.alerts_cpu_percent))),
            ("with a record of each flow", of(&|rate| Some(rate.with_flows.cpu_percent))),
        ];
        self.plot("daemon-cpu.svg", "CPU of the monitor", |title| plot::lines(title, axes("% of a core"), true, &cpu));
    }

    pub(super) fn neighbours(&mut self, results: &Results) {
        if results.neighbours.is_empty() {
            return;
        }
        self.say(
            "## Other tools under the same load\n\nEach ran alone under the same connections, of 32 bytes each, at 1,000 a \
             second. *Flows missed* are connections that it did not tell as the load's program's; *bytes wrong* is how far the bytes that it said the load's program sent are from the payload sent. \
             EgressWatch and the bpftrace program count payload; nethogs and bandwhich count whole packets, headers \
             included, and find the program of a connection by looking it up in `/proc`, so that short connections are \
             often nobody's. CPU is of the tool's own process; what runs in the kernel on the load's behalf is not in it.\n",
        );
        self.say("| tool | flows missed | bytes wrong | CPU | memory |\n| --- | --- | --- | --- | --- |");
        for neighbour in &results.neighbours {
            self.say(&match &neighbour.outcome {
                Outcome::Skipped(reason) => format!("| {} | skipped: {reason} | | | |", neighbour.name),
                Outcome::Measured(seen) => format!(
                    "| {} | {} | {} of {} | {:.2} % | {:.1} MB |",
                    neighbour.name,
                    seen.missed.map_or_else(
                        || "tells no connections".to_owned(),
                        |missed| format!("{missed} of {}", seen.made)
                    ),
                    seen.told_bytes.abs_diff(seen.sent_bytes),
                    seen.sent_bytes,
                    seen.cpu_percent,
                    seen.resident_bytes as f64 / 1e6
                ),
            });
        }
        self.say("");
    }
}
