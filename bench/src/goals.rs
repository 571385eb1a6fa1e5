//! The goals, each with the figure that was measured.

use std::fmt::Write as _;

use crate::results::Results;

/// A goal and how it stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Goal {
    /// In words.
    pub(crate) wording: &'static str,
    /// The most allowed.
    pub(crate) limit: f64,
    /// What was measured, for people.
    pub(crate) measured: String,
    /// Whether it is reached.
    pub(crate) reached: bool,
    /// What stands between the figure and the goal, as far as it is known.
    pub(crate) account: &'static str,
}

/// Every goal for which there is a figure.
pub(crate) fn of(results: &Results) -> Vec<Goal> {
    let mut goals = of_loads(results);
    let mut add = |wording, limit: f64, value: Option<f64>, unit: &str, account| {
        if let Some(value) = value {
            goals.push(Goal {
                wording,
                limit,
                measured: format!("{} {unit}", rounded(value)),
                reached: value <= limit,
                account,
            });
        }
    };
    let highest = results.rates.last();
    add(
        "no flow lost at the highest rate",
        0.0,
        highest.map(|rate| rate.with_flows.missed as f64),
        "flows lost",
        "The losses that the monitor told stand in the table of rates, with their reasons.",
    );
    let slowest = results.rates.iter().filter_map(|rate| rate.latency).map(|latency| latency.p99_ms).reduce(f64::max);
    add("p99 from connect to alert at every rate: at most 10 ms", 10.0, slowest, "ms", ALERT);
    let thousand = results.rates.iter().find(|rate| (rate.asked - 1_000.0).abs() < 0.5);
    add(
        "daemon at 1,000 connections a second: at most 1 % of a core",
        1.0,
        thousand.map(|rate| rate.cpu_percent),
        "%",
        BUSY,
    );
    add("daemon, idle: at most 0.1 % of a core", 0.1, results.idle.map(|idle| idle.cpu_percent), "%", IDLE);
    let resident = results.idle.map(|idle| idle.memory.resident_bytes as f64 / 1e6);
    add("resident memory with everything embedded: at most 40 MB", 40.0, resident, "MB", MEMORY);
    let lookup =
        |name: &str| results.lookups.iter().find(|lookup| lookup.name == name).map(|lookup| lookup.each_ns.median);
    add("owner's facts, IPv4: at most 25 ns", 25.0, lookup("v4/facts/independent"), "ns", LOOKUP);
    add("owner's facts, IPv6: at most 50 ns", 50.0, lookup("v6/facts/independent"), "ns", LOOKUP);
    // From none to each number of them: the worst step need not be the last.
    let growth = results.prefixes.split_first().and_then(|(none, steps)| {
        steps.iter().map(|step| (step.connect_ns / none.connect_ns - 1.0) * 100.0).reduce(f64::max)
    });
    add(
        "time of connect4 from no to any number of flagged prefixes: at most 10 % more",
        10.0,
        growth,
        "% more",
        "The lookup of an address walks the trie of flagged prefixes.",
    );
    goals
}

/// The goals of loads with and without the monitor.
fn of_loads(results: &Results) -> Vec<Goal> {
    let rows = [
        ("connect rate, server elsewhere: at most 3 % less", 3.0, "connect and close, veth", Ends::One, CONNECT),
        (
            "connect rate, loopback (both ends here): at most 3 % less",
            3.0,
            "connect and close, loopback",
            Ends::Both,
            CONNECT,
        ),
        ("bulk throughput: at most 1 % less", 1.0, "TCP bulk", Ends::One, BULK),
        ("small UDP sends, unconnected: at most 5 % less", 5.0, "UDP 64 B, unconnected", Ends::One, DATAGRAM),
        ("small UDP sends, connected: at most 5 % less", 5.0, "UDP 64 B, connected", Ends::One, DATAGRAM),
    ];
    let goal = |(wording, limit, load, ends, account): (_, f64, &str, _, _)| {
        let overhead = results.overhead.iter().find(|overhead| overhead.name.starts_with(load))?;
        // What is lost is the negative of the change, and a gain is noise and no loss.
        let value = -match ends {
            Ends::One => overhead.one_end.rate_percent.median,
            Ends::Both => overhead.both_ends.rate_percent.median,
        };
        // The monitor makes nothing faster: a gain beyond the limit tells how rough the figure is, and no goal is reached.
        let is_rough = value < -limit;
        let mut measured = format!("{} % less", rounded(value));
        if is_rough {
            measured.push_str(" (too rough to tell)");
        } else if value > limit {
            let floor = -overhead.empty_programs.rate_percent.median;
            let _ = write!(measured, "; programs that do nothing, at one end: {} %", rounded(floor));
        }
        Some(Goal { wording, limit, measured, reached: value <= limit && !is_rough, account })
    };
    rows.into_iter().filter_map(goal).collect()
}

/// Which ends of a load are watched.
#[derive(Clone, Copy)]
enum Ends {
    One,
    Both,
}

fn rounded(value: f64) -> String {
    let decimals = if value.abs() < 1.0 { 2 } else { 1 };
    format!("{value:.decimals$}")
}

const CONNECT: &str = "Each connection runs a program when its socket is made, when it connects, at each packet and at each change of \
                       its state, and has an entry in the flow table, which is made and freed. At the end that accepts it \
                       the kernel also copies what is known of the listening socket, which is how the process is known. \
                       The times below say which of them weigh most; what the kernel does around each run comes on top.";
const BULK: &str = "Each segment passes a program on its way out, and each acknowledgement one on its way in. Two processors \
                    share load, server and monitor, so that the range is wider than the goal.";
const DATAGRAM: &str = "Each datagram passes a program at the socket and one at the packet, and an unconnected one a third that \
                        finds its flow by the destination.";
const ALERT: &str = "The first alert of an executable waits up to 20 ms for its SHA-256 and package (`[executables] wait`), \
                     which decides the percentile where alerts are few. At the highest rate load, server and \
                     monitor share two processors, and the monitor waits for its turn.";
const BUSY: &str = "The ring of ordinary flows is read ten times a second.";
const IDLE: &str =
    "The monitor wakes ten times a second to read the ring of ordinary flows, and twice to count losses.";
const MEMORY: &str = "The kernel maps each ring buffer twice in a row, so that a record may wrap, and resident memory counts both: \
                      the table below has the process's own memory apart.";
const LOOKUP: &str = "Independent addresses over the whole table leave the caches; the time is that of memory.";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{daemon::Memory, results::Idle};

    #[test]
    fn a_goal_without_a_figure_is_not_there_and_one_with_it_is_judged() {
        assert_eq!(of(&Results::default()), []);
        for (cpu_percent, resident_bytes, reached) in
            [(0.1, 40_000_000, [true, true]), (0.11, 40_000_001, [false, false]), (0.11, 1, [false, true])]
        {
            let memory = Memory { resident_bytes, anonymous_bytes: 1, maps_bytes: 1 };
            let idle = Idle { cpu_percent, seconds: 1.0, memory };
            let goals = of(&Results { idle: Some(idle), ..Results::default() });
            assert_eq!(goals.iter().map(|goal| goal.reached).collect::<Vec<_>>(), reached, "{goals:?}");
        }
    }
}
