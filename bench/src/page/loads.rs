//! Loads with and without the monitor, and the time of the kernel programs.

use super::{Page, percent};
use crate::{
    plot::{self, Bar, short},
    results::{Change, Overhead, Results},
    statistics::Spread,
};

impl Page {
    pub(super) fn overhead(&mut self, results: &Results) {
        if results.overhead.is_empty() {
            return;
        }
        self.say(
            "## Loads with and without the monitor\n\nRounds without, with empty programs, with one end and with both ends \
             watched, in turning order; each figure is the median of the changes within a round, with the lowest and the \
             highest. *Empty programs* are programs on the monitor's hooks at the load's end that return at once: what the \
             kernel's calls cost, whatever the programs do. *CPU* is the change of the load's own CPU time for one operation, \
             which the scheduler disturbs less than the rate.\n",
        );
        self.say(
            "| load | without | rate, empty programs | rate, one end | rate, both ends | CPU, empty programs | CPU, one end | CPU, \
             both ends | daemon, one end |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        );
        for overhead in &results.overhead {
            self.say(&format!(
                "| {} | {} /s, {} µs CPU | {} | {} | {} | {} | {} | {} | {} ns per {} |",
                overhead.name,
                short(overhead.without_rate.median),
                short(overhead.without_cpu_ns.median / 1e3),
                percent(overhead.empty_programs.rate_percent),
                percent(overhead.one_end.rate_percent),
                percent(overhead.both_ends.rate_percent),
                percent(overhead.empty_programs.cpu_percent),
                percent(overhead.one_end.cpu_percent),
                percent(overhead.both_ends.cpu_percent),
                short(overhead.one_end.daemon_ns.median),
                overhead.unit,
            ));
        }
        let bar = |spread: Spread| Bar { value: spread.median, range: Some((spread.lowest, spread.highest)) };
        let rows = |of: fn(&Change) -> Spread| -> Vec<_> {
            let row = |overhead: &Overhead| {
                let changes = [&overhead.empty_programs, &overhead.one_end, &overhead.both_ends];
                (overhead.name.clone(), changes.map(|change| bar(of(change))).to_vec())
            };
            results.overhead.iter().map(row).collect()
        };
        let series = ["empty programs, one end", "one end watched", "both ends watched"];
        self.plot("rate.svg", "Change of the rate", |title| {
            plot::bars(title, "%", &series, &rows(|change| change.rate_percent))
        });
        self.plot("cpu.svg", "Change of CPU time per operation", |title| {
            plot::bars(title, "%", &series, &rows(|change| change.cpu_percent))
        });
    }

    pub(super) fn programs(&mut self, results: &Results) {
        let Some(programs) = &results.programs else { return };
        self.say(&format!(
            "## Time of the kernel programs\n\nMean time of a run as the kernel takes it (`BPF_ENABLE_STATS`), one end watched. \
             Taking the time costs {:.0} ns by itself, measured with an empty program, and is subtracted. What the kernel \
             does before and after each program is not in these figures; it is in those above.\n",
            programs.clock_ns
        ));
        self.say(
            "| load | program | runs per operation | ns per run | ns per operation |\n| --- | --- | --- | --- | --- |",
        );
        let mut rows = Vec::new();
        for (load, runs) in &programs.runs {
            let operations = programs.operations.get(load).copied().unwrap_or(1).max(1) as f64;
            let mut sum_ns = 0.0;
            for (program, runs) in runs {
                let each_ns = (runs.each_ns() - programs.clock_ns).max(0.0);
                let per_operation = runs.count as f64 / operations;
                sum_ns += each_ns * per_operation;
                self.say(&format!(
                    "| {load} | `{program}` | {} | {each_ns:.0} | {:.0} |",
                    short(per_operation),
                    each_ns * per_operation
                ));
            }
            self.say(&format!("| {load} | all | | | **{sum_ns:.0}** |"));
            rows.push((load.clone(), vec![Bar { value: sum_ns, range: None }]));
        }
        self.plot("programs.svg", "Time in kernel programs per operation", |title| {
            plot::bars(title, "ns", &["time"], &rows)
        });
    }
}
