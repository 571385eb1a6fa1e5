use super::render;
use crate::{
    daemon::Memory,
    programs::Runs,
    results::{
        Change, Failure, Idle, LiveFlows, Lookup, Machine, Neighbour, Observation, Outcome, Overhead, Prefixes,
        Programs, Rate, Results, WithFlows,
    },
    statistics::{Latencies, Spread},
};

#[test]
fn a_run_of_everything_makes_this_page() {
    let files = render(&everything());
    assert_eq!(
        files.keys().copied().collect::<Vec<_>>(),
        [
            "README.md",
            "cpu.svg",
            "daemon-cpu.svg",
            "latency.svg",
            "memory.svg",
            "prefixes.svg",
            "programs.svg",
            "rate.svg"
        ]
    );
    for (name, text) in files {
        insta::assert_snapshot!(name, text);
    }
}

#[test]
fn what_was_not_measured_is_not_on_the_page() {
    let files = render(&Results { machine: machine(), ..Results::default() });
    assert_eq!(files.keys().copied().collect::<Vec<_>>(), ["README.md"]);
    insta::assert_snapshot!("nothing", files.values().next().expect("the page"));
}

#[test]
fn a_plot_names_each_file_that_the_page_shows() {
    let files = render(&everything());
    let page = &files["README.md"];
    for name in files.keys().filter(|name| **name != "README.md") {
        assert_eq!(page.matches(&format!("]({name})")).count(), 1, "{name}");
    }
}

#[test]
fn a_section_that_failed_is_a_row_with_its_reason_beside_the_others() {
    let reason = "the monitor ended with exit status: 1: a | b\nc".to_owned();
    let failures = vec![Failure { section: "many flows at a time".to_owned(), reason }];
    let page = render(&Results { flows: Vec::new(), failures, ..everything() }).remove("README.md").expect("the page");
    assert!(
        page.contains("| many flows at a time | not measured: the monitor ended with exit status: 1: a \\| b c |\n"),
        "{page}"
    );
    assert!(
        page.contains("## Loads with and without the monitor") && !page.contains("## Many flows at a time"),
        "{page}"
    );
}

#[test]
fn results_survive_their_file() {
    let results = everything();
    let text = serde_json::to_string(&results).expect("results");
    let read = serde_json::from_str(&text).expect("what was just written");
    assert_eq!(render(&results), render(&read));
}

#[test]
fn figures_of_a_busy_machine_are_marked() {
    for (busy_percent, quick, marked) in [(0.0, false, false), (40.0, false, true), (0.0, true, true)] {
        let results = Results { machine: Machine { busy_percent, ..machine() }, quick, ..Results::default() };
        assert_eq!(render(&results)["README.md"].contains("provisional"), marked, "{busy_percent} {quick}");
    }
}

fn machine() -> Machine {
    Machine {
        processor: "Example CPU".to_owned(),
        cpus: 2,
        memory_bytes: 8_000_000_000,
        kernel: "6.18.0".to_owned(),
        date: "2026-01-02".to_owned(),
        commit: "0123456789ab".to_owned(),
        busy_percent: 1.0,
        other_monitors: 0,
    }
}

fn spread(median: f64) -> Spread {
    Spread { median, lowest: median - 1.0, highest: median + 1.5, count: 7 }
}

const fn memory(megabytes: u64) -> Memory {
    Memory {
        resident_bytes: megabytes * 1_000_000,
        anonymous_bytes: megabytes * 600_000,
        maps_bytes: megabytes * 500_000,
    }
}

fn everything() -> Results {
    let change =
        |rate: f64| Change { rate_percent: spread(rate), cpu_percent: spread(-rate * 1.2), daemon_ns: spread(150.0) };
    let overhead = |name: &str, unit: &str, rate: f64, loss: f64| Overhead {
        name: name.to_owned(),
        unit: unit.to_owned(),
        without_rate: spread(rate),
        without_cpu_ns: spread(1e9 / rate),
        empty_programs: change(-loss / 4.0),
        one_end: change(-loss),
        both_ends: change(-loss * 1.5),
    };
    let rate = |asked: f64, p99_ms: f64, missed: u64| Rate {
        asked,
        made: asked * 0.99,
        cpu_percent: asked / 2_000.0,
        threads_cpu_percent: [("egresswatch".to_owned(), asked / 2_000.0)].into(),
        latency: Some(Latencies { p50_ms: 2.5, p99_ms, max_ms: p99_ms * 1.5, count: 200 }),
        alerts: 200,
        alerts_missed: 0,
        alerts_cpu_percent: asked / 1_500.0,
        with_flows: WithFlows {
            made: asked * 0.98,
            cpu_percent: asked / 800.0,
            missed,
            bytes_wrong: missed * 32,
            losses_told: (missed > 0).then(|| ("flow_records".to_owned(), missed)).into_iter().collect(),
        },
    };
    let flows = |flows, table_entries, lost: u64, megabytes| LiveFlows {
        flows,
        table_entries,
        losses_told: (lost > 0).then(|| ("flow_table_full".to_owned(), lost)).into_iter().collect(),
        memory: memory(megabytes),
        connect_ns: 2_000.0,
        packet_ns: 300.0,
    };
    let prefixes =
        |count, connect_ns| Prefixes { count, connect_ns, packet_ns: 310.0, start_ms: 300.0, memory: memory(50) };
    let runs = |count, each_ns| Runs { count, time_ns: count * each_ns };
    let lookup = |name: &str, median| Lookup { name: name.to_owned(), each_ns: spread(median) };
    let veth = "connect and close, veth";
    Results {
        machine: machine(),
        quick: false,
        overhead: vec![
            overhead(veth, "connection", 33_000.0, 2.0),
            overhead("UDP 64 B, connected", "datagram", 250_000.0, 7.5),
        ],
        programs: Some(Programs {
            clock_ns: 50.0,
            runs: [(
                veth.to_owned(),
                [("connect4".to_owned(), runs(1_000, 650)), ("packet_out".to_owned(), runs(4_000, 150))].into(),
            )]
            .into(),
            operations: [(veth.to_owned(), 1_000)].into(),
        }),
        rates: vec![rate(10.0, 4.0, 0), rate(1_000.0, 5.0, 0), rate(20_000.0, 12.0, 3)],
        idle: Some(Idle { cpu_percent: 0.05, seconds: 20.0, memory: memory(39) }),
        flows: vec![
            flows(0, 1 << 21, 0, 40),
            flows(100_000, 1 << 21, 0, 90),
            flows(1_000_000, 1 << 21, 0, 700),
            flows(100_000, 1 << 16, 34_464, 70),
        ],
        prefixes: vec![prefixes(0, 2_000.0), prefixes(1_000_000, 2_100.0)],
        start_ms: Some(spread(300.0)),
        lookups: vec![lookup("v4/facts/independent", 24.0), lookup("v6/facts/independent", 55.0)],
        failures: Vec::new(),
        neighbours: vec![
            Neighbour {
                name: "EgressWatch".to_owned(),
                outcome: Outcome::Measured(Observation {
                    made: 10_000,
                    missed: Some(0),
                    sent_bytes: 320_000,
                    told_bytes: 320_000,
                    cpu_percent: 2.5,
                    resident_bytes: 39_000_000,
                }),
            },
            Neighbour {
                name: "nethogs".to_owned(),
                outcome: Outcome::Measured(Observation {
                    made: 10_000,
                    missed: None,
                    sent_bytes: 320_000,
                    told_bytes: 100_000,
                    cpu_percent: 8.0,
                    resident_bytes: 9_000_000,
                }),
            },
            Neighbour {
                name: "bandwhich".to_owned(),
                outcome: Outcome::Skipped("`bandwhich` is not installed (`cargo install bandwhich`)".to_owned()),
            },
        ],
    }
}
