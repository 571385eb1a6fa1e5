//! Many flows, many flagged prefixes, start and lookups.

use super::Page;
use crate::{
    plot,
    records::in_words,
    results::{Prefixes, Results},
};

impl Page {
    pub(super) fn memory(&mut self, results: &Results) {
        if results.flows.is_empty() {
            return;
        }
        self.say(
            "## Many flows at a time\n\nOne unconnected UDP socket for each step, with a datagram to each of as many \
             addresses: so many flows of so many sockets would need more ports and memory of the kernel's own than the \
             question is about. *Table* is `flow_table_entries`, how many the kernel's table holds; the default is 32,768, and \
             a flow beyond it is reported once, without counters, and told as a loss. The monitor itself keeps as many \
             as `limits.memory` lets it; what it tells as `live_flows_full` it does not keep, and reads from the table \
             when it ends, so that the resident memory of the largest steps is that of the limit. The steps of the larger table are \
             one after the other under one monitor. *In maps* is kernel memory, as `fdinfo` accounts it. The programs' \
             times are with the clock's cost.\n",
        );
        self.say("| flows | table | resident | of it the process's own | in maps | losses told | `connect4` | `packet_out` |\n| --- | --- \
             | --- | --- | --- | --- | --- | --- |");
        let mut series = [("resident", Vec::new()), ("in maps", Vec::new())];
        let largest = results.flows.iter().map(|step| step.table_entries).max().unwrap_or(0);
        for step in &results.flows {
            let (resident, maps) = (step.memory.resident_bytes as f64 / 1e6, step.memory.maps_bytes as f64 / 1e6);
            self.say(&format!(
                "| {} | {} | {resident:.1} MB | {:.1} MB | {maps:.1} MB | {} | {:.0} ns | {:.0} ns |",
                step.flows,
                step.table_entries,
                step.memory.anonymous_bytes as f64 / 1e6,
                in_words(&step.losses_told),
                step.connect_ns,
                step.packet_ns
            ));
            // The plot shows what holds all flows; the other table is a row of its own.
            if step.table_entries < largest {
                continue;
            }
            for ((_, points), value) in series.iter_mut().zip([resident, maps]) {
                points.push((step.flows as f64, value));
            }
        }
        self.plot("memory.svg", "Memory by flows at a time", |title| {
            plot::lines(title, ("flows", "MB"), true, &series)
        });
    }

    pub(super) fn prefixes(&mut self, results: &Results) {
        if results.prefixes.is_empty() {
            return;
        }
        self.say(
            "## Many flagged prefixes\n\nA list of one's own with so many /28 networks, the embedded lists switched off; the \
             load's addresses are in none of them. The programs' times are with the clock's cost.\n",
        );
        self.say("| prefixes | `connect4` | `packet_out` | start | resident | in maps |\n| --- | --- | --- | --- | --- | --- |");
        for step in &results.prefixes {
            self.say(&format!(
                "| {} | {:.0} ns | {:.0} ns | {:.0} ms | {:.1} MB | {:.1} MB |",
                step.count,
                step.connect_ns,
                step.packet_ns,
                step.start_ms,
                step.memory.resident_bytes as f64 / 1e6,
                step.memory.maps_bytes as f64 / 1e6
            ));
        }
        let of = |value: fn(&Prefixes) -> f64| -> Vec<(f64, f64)> {
            results.prefixes.iter().map(|step| (step.count as f64, value(step))).collect()
        };
        let series = [("connect4", of(|step| step.connect_ns)), ("packet_out", of(|step| step.packet_ns))];
        self.plot("prefixes.svg", "Kernel programs by flagged prefixes", |title| {
            plot::lines(title, ("prefixes", "ns per run"), false, &series)
        });
    }

    pub(super) fn rest(&mut self, results: &Results) {
        if results.start_ms.is_none() && results.idle.is_none() && results.lookups.is_empty() {
            return;
        }
        self.say("## Start, idle and lookups\n\n| what | measured |\n| --- | --- |");
        if let Some(start) = results.start_ms {
            self.say(&format!(
                "| from start to readiness (`READY=1`), everything embedded | {:.0} ms ({:.0} to {:.0}) |",
                start.median, start.lowest, start.highest
            ));
        }
        if let Some(idle) = results.idle {
            self.say(&format!(
                "| idle for {:.0} s, the whole host watched (its own processes are part of it) | {:.3} % of a core |\n| \
                 memory then, configured by default | {:.1} MB resident, {:.1} MB of it the process's own; {:.1} MB in maps |",
                idle.seconds,
                idle.cpu_percent,
                idle.memory.resident_bytes as f64 / 1e6,
                idle.memory.anonymous_bytes as f64 / 1e6,
                idle.memory.maps_bytes as f64 / 1e6
            ));
        }
        for lookup in &results.lookups {
            self.say(&format!(
                "| lookup: {} | {:.1} ns ({:.1} to {:.1}) |",
                lookup.name, lookup.each_ns.median, lookup.each_ns.lowest, lookup.each_ns.highest
            ));
        }
        self.say(
            "\n*Facts* are number and countries of the network, which decide whether a flow is flagged; *owner* adds the \
             organisation's name. *Independent* lookups overlap in the processor, *dependent* ones wait for each other.\n",
        );
    }
}
