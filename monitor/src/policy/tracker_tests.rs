//! Timelines: each line of a script is `TIME PROGRAM OWNER FLOW WHAT [OUT/IN] [+ENTITY…]`. Between the lines the clock runs
//! and what falls due is told at its time, as the daemon does it.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::NonZeroUsize,
    sync::Arc,
};

use proptest::prelude::*;

use super::*;
use crate::{
    event::{Flow, FlowCounters, FlowFacts, Protocol, ReportReason},
    ownership::Owner,
    policy::{
        Actor, Cause, ListHeader, MAX_DESTINATIONS, Match, MatchKey, OwnerKey, Relation, Severity, Totals,
        history::MAX_MATCHES,
    },
    units::Duration,
};

const MS: u64 = 1_000_000;

fn header(id: &str, enabled: bool) -> Arc<ListHeader> {
    Arc::new(ListHeader {
        id: id.into(),
        title: "T".into(),
        legal_basis: None,
        about: "A".into(),
        source: "S".into(),
        as_of: Some(jiff::civil::date(2026, 1, 1)),
        severity: Severity::Low,
        enabled,
        action: crate::policy::Action::Alert,
    })
}

fn hit(entity: &str, asn: u32, severity: Severity) -> Match {
    Match {
        list: header("list", !entity.ends_with('-')),
        entity: entity.into(),
        relation: Relation::Topical,
        authority: None,
        key: MatchKey::Asn(asn),
        severity,
        verified: true,
    }
}

/// A flow that a script speaks of, as the kernel side would report it.
fn flow(name: &str, first_at: BootTime) -> Flow {
    let (protocol, number) = name.split_once('#').unwrap();
    let (number, remote) = number.split_once('@').unwrap_or((number, number));
    Flow {
        key: FlowKey {
            socket_cookie: number.parse().unwrap(),
            protocol: match protocol {
                "tcp" => Protocol::Tcp,
                "udp" => Protocol::Udp,
                other => panic!("{other}"),
            },
            remote: SocketAddr::from((Ipv4Addr::from(0x0a00_0000 + remote.parse::<u32>().unwrap()), 443)),
        },
        reason: ReportReason::Attempt,
        at: first_at,
        connector: None,
        sender: None,
        local: None,
        translated: None,
        link: None,
        facts: FlowFacts { attempted: true, ..FlowFacts::default() },
        counters: FlowCounters::default(),
        first_at,
        established_at: None,
        first_sent_at: None,
        last_at: first_at,
    }
}

fn apply(flow: &mut Flow, what: &str, bytes: &str, at: BootTime) {
    flow.at = at;
    flow.last_at = at;
    flow.reason = ReportReason::Progress;
    match what {
        "attempt" => flow.reason = ReportReason::Attempt,
        "inbound" => (flow.facts.attempted, flow.facts.inbound) = (false, true),
        "untracked" => flow.facts.untracked = true,
        "established" => flow.facts.established = true,
        "failed" => flow.facts.failed = true,
        "sent" => (flow.facts.established, flow.facts.sent) = (true, true),
        "close" => (flow.reason, flow.facts.closed) = (ReportReason::Closed, true),
        "progress" => {}
        other => panic!("{other}"),
    }
    if let Some((out_bytes, in_bytes)) = bytes.split_once('/') {
        flow.counters.payload_out_bytes = out_bytes.parse().unwrap();
        flow.counters.payload_in_bytes = in_bytes.parse().unwrap();
    }
}

fn contact(program: &str, asn: u32) -> ContactKey {
    ContactKey { actor: Actor::Named(program.into()), owner: OwnerKey::Asn(asn) }
}

fn describe(decision: &Decision<&'static str>) -> String {
    let ContactKey { actor: Actor::Named(program), owner: OwnerKey::Asn(asn) } = &decision.contact else {
        panic!("{decision:?}");
    };
    let entities: Vec<&str> = decision.new_matches().iter().map(|hit| &*hit.entity).collect();
    let Totals { payload_out_bytes, payload_in_bytes, connections, destinations, .. } = decision.totals;
    format!(
        "{}ms {program} {asn} {:?} {:?} {payload_out_bytes}/{payload_in_bytes} in {connections} to {destinations} folded {} by {} new [{}]",
        decision.at.0 / MS,
        decision.cause,
        decision.level,
        decision.folded_reports,
        decision.context,
        entities.join(" "),
    )
}

fn run(config: &Config, script: &str) -> (Tracker<&'static str>, Vec<String>) {
    let mut tracker = Tracker::new(config);
    let mut flows: HashMap<String, Flow> = HashMap::new();
    let mut told = Vec::new();
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let at = BootTime(words[0].parse::<Duration>().unwrap().as_ns());
        while let Some(due_at) = tracker.next_due().filter(|due_at| *due_at <= at) {
            told.extend(tracker.tick(due_at).iter().map(describe));
        }
        if words[1] == "end" {
            told.extend(tracker.drain(at).iter().map(describe));
            continue;
        }
        let asn: u32 = words[2].parse().unwrap();
        let bytes = words.iter().copied().find(|word| word.contains('/')).unwrap_or_default();
        let mut matches = vec![hit("net", asn, Severity::Low)];
        matches.extend(
            words.iter().filter_map(|word| word.strip_prefix('+')).map(|entity| hit(entity, asn, Severity::High)),
        );
        if words.contains(&"-net") {
            matches.remove(0);
        }
        let flow = flows.entry(words[3].to_owned()).or_insert_with(|| flow(words[3], at));
        apply(flow, words[4], bytes, at);
        let context: &'static str = Box::leak(words[3].to_owned().into_boxed_str());
        told.extend(
            tracker.observe(Observation::new(flow, contact(words[1], asn), matches, context)).iter().map(describe),
        );
    }
    (tracker, told)
}

#[track_caller]
fn check(script: &str, expected: &[&str]) {
    check_with(&Config::default(), script, expected);
}

#[track_caller]
fn check_with(config: &Config, script: &str, expected: &[&str]) {
    assert_eq!(run(config, script).1, expected);
}

#[test]
fn the_first_payload_alerts_at_once_with_its_bytes() {
    check(
        "0s curl 9808 tcp#1 attempt
         30ms curl 9808 tcp#1 established
         31ms curl 9808 tcp#1 sent 517/0
         1m end",
        &["31ms curl 9808 FirstContact Sent 517/0 in 1 to 1 folded 2 by tcp#1 new [net]"],
    );
}

#[test]
fn a_datagram_connect_alone_says_nothing() {
    check("0s curl 9808 udp#1 attempt\n1s curl 9808 udp#1 close\n1h end", &[]);
    check(
        "0s curl 9808 udp#1 attempt\n1s curl 9808 udp#1 sent 40/0\n1h end",
        &["1000ms curl 9808 FirstContact Sent 40/0 in 1 to 1 folded 0 by udp#1 new [net]"],
    );
}

#[test]
fn an_attempt_alerts_when_it_failed_or_had_its_time() {
    check(
        "0s nc 9808 tcp#1 attempt\n400ms nc 9808 tcp#1 failed\n1h end",
        &["400ms nc 9808 FirstContact Attempted 0/0 in 1 to 1 folded 1 by tcp#1 new [net]"],
    );
    check(
        "0s nc 9808 tcp#1 attempt\n1h end",
        &["3000ms nc 9808 FirstContact Attempted 0/0 in 1 to 1 folded 0 by tcp#1 new [net]"],
    );
}

#[test]
fn an_established_connection_has_its_own_time() {
    check(
        "0s nc 9808 tcp#1 attempt\n2500ms nc 9808 tcp#1 established\n1h end",
        &["5500ms nc 9808 FirstContact Established 0/0 in 1 to 1 folded 1 by tcp#1 new [net]"],
    );
    check(
        "0s nc 9808 tcp#1 attempt\n20ms nc 9808 tcp#1 established\n50ms nc 9808 tcp#1 close\n1h end",
        &["50ms nc 9808 FirstContact Established 0/0 in 1 to 1 folded 2 by tcp#1 new [net]"],
    );
}

#[test]
fn a_level_that_rises_later_is_told_again() {
    check(
        "0s nc 9808 tcp#1 attempt
         4s nc 9808 tcp#1 established
         8s nc 9808 tcp#1 sent 5/0
         1h end",
        &[
            "3000ms nc 9808 FirstContact Attempted 0/0 in 1 to 1 folded 0 by tcp#1 new [net]",
            "7000ms nc 9808 LevelRaised Established 0/0 in 1 to 1 folded 0 by tcp#1 new []",
            "8000ms nc 9808 LevelRaised Sent 5/0 in 1 to 1 folded 0 by tcp#1 new []",
        ],
    );
}

#[test]
fn one_of_several_attempts_that_fails_waits_for_the_others() {
    check(
        "0s curl 9808 tcp#1 attempt
         10ms curl 9808 tcp#2 attempt
         20ms curl 9808 tcp#1 failed
         40ms curl 9808 tcp#2 sent 100/0
         5s end",
        &["40ms curl 9808 FirstContact Sent 100/0 in 2 to 2 folded 3 by tcp#2 new [net]"],
    );
    check(
        "0s curl 9808 tcp#1 attempt
         10ms curl 9808 tcp#2 attempt
         20ms curl 9808 tcp#1 failed
         30ms curl 9808 tcp#2 failed",
        &["30ms curl 9808 FirstContact Attempted 0/0 in 2 to 2 folded 3 by tcp#2 new [net]"],
    );
}

#[test]
fn an_inbound_connection_is_no_egress_until_it_is_answered() {
    check(
        "0s sshd 9808 tcp#1 inbound\n1s sshd 9808 tcp#1 established 0/90\n2s sshd 9808 tcp#1 close 0/90\n1h end",
        &[],
    );
    check(
        "0s sshd 9808 tcp#1 inbound\n1s sshd 9808 tcp#1 sent 21/90\n1h end",
        &["1000ms sshd 9808 FirstContact Sent 21/90 in 1 to 1 folded 0 by tcp#1 new [net]"],
    );
}

#[test]
fn without_counters_the_attempt_is_what_can_be_told() {
    check(
        "0s dig 9808 udp#1 untracked\n1h end",
        &["3000ms dig 9808 FirstContact Attempted 0/0 in 1 to 1 folded 0 by udp#1 new [net]"],
    );
}

#[test]
fn further_traffic_is_summed_up_at_growing_pauses() {
    check(
        "0s app 9808 tcp#1 sent 1000/0
         1s app 9808 tcp#1 progress 2000/50
         2s app 9808 tcp#2 sent 500/0
         3s app 9808 tcp#2 close 600/10
         15s app 9808 tcp#3 sent 10/0
         40s app 9808 tcp#1 progress 3000/50
         2m app 9808 tcp#1 progress 3500/50
         3m app 9808 tcp#1 close 4000/60
         1h end",
        &[
            "0ms app 9808 FirstContact Sent 1000/0 in 1 to 1 folded 0 by tcp#1 new [net]",
            "10000ms app 9808 Rollup Sent 2600/60 in 2 to 2 folded 2 by tcp#2 new []",
            "70000ms app 9808 Rollup Sent 3610/60 in 3 to 3 folded 1 by tcp#1 new []",
            "670000ms app 9808 Rollup Sent 4610/70 in 3 to 3 folded 1 by tcp#1 new []",
        ],
    );
}

#[test]
fn after_a_long_silence_a_rollup_waits_only_the_first_pause() {
    check(
        "0s app 9808 tcp#1 sent 1000/0\n2h app 9808 tcp#2 sent 1/0\n5h end",
        &[
            "0ms app 9808 FirstContact Sent 1000/0 in 1 to 1 folded 0 by tcp#1 new [net]",
            "7210000ms app 9808 Rollup Sent 1001/0 in 2 to 2 folded 0 by tcp#2 new []",
        ],
    );
}

#[test]
fn tenfold_growth_does_not_wait_for_a_long_pause() {
    check(
        "0s app 9808 tcp#1 sent 100/0
         1s app 9808 tcp#1 progress 200/0
         30s app 9808 tcp#1 progress 1999/0
         31s app 9808 tcp#1 progress 2000/0
         33s app 9808 tcp#1 progress 20000/0
         1h end",
        &[
            "0ms app 9808 FirstContact Sent 100/0 in 1 to 1 folded 0 by tcp#1 new [net]",
            "10000ms app 9808 Rollup Sent 200/0 in 1 to 1 folded 0 by tcp#1 new []",
            "31000ms app 9808 Rollup Sent 2000/0 in 1 to 1 folded 1 by tcp#1 new []",
            "41000ms app 9808 Rollup Sent 20000/0 in 1 to 1 folded 0 by tcp#1 new []",
        ],
    );
}

#[test]
fn a_new_entity_is_told_at_once_and_a_known_one_is_not() {
    check(
        "0s web 9808 tcp#1 sent 10/0
         1s web 9808 tcp#2 sent 20/0 +passport
         2s web 9808 tcp#3 sent 30/0 +passport
         1h end",
        &[
            "0ms web 9808 FirstContact Sent 10/0 in 1 to 1 folded 0 by tcp#1 new [net]",
            "1000ms web 9808 NewMatch Sent 30/0 in 2 to 2 folded 0 by tcp#2 new [passport]",
            "11000ms web 9808 Rollup Sent 60/0 in 3 to 3 folded 0 by tcp#3 new []",
        ],
    );
    let (_, told) = run(&Config::default(), "0s a 1 tcp#1 sent 1/0\n1s a 1 tcp#2 attempt +x\n9s end");
    assert_eq!(told.last().unwrap(), "4000ms a 1 NewMatch Sent 1/0 in 2 to 2 folded 0 by tcp#2 new [x]");
}

#[test]
fn severity_is_the_highest_of_enabled_lists() {
    let mut tracker = Tracker::new(&Config::default());
    let mut flow = flow("tcp#1", BootTime(0));
    apply(&mut flow, "sent", "1/0", BootTime(0));
    let mut severity = |matches| {
        flow.key.socket_cookie += 1;
        let key = contact("a", u32::try_from(flow.key.socket_cookie).unwrap());
        tracker.observe(Observation::new(&flow, key, matches, ())).first().map(|decision| decision.severity)
    };
    assert_eq!(severity(vec![hit("a", 1, Severity::Low), hit("b", 1, Severity::Medium)]), Some(Severity::Medium));
    assert_eq!(severity(vec![hit("a", 1, Severity::Low), hit("off-", 1, Severity::High)]), Some(Severity::Low));
    assert_eq!(severity(vec![hit("off-", 1, Severity::High)]), None);
    assert_eq!(severity(Vec::new()), None);
}

#[test]
fn contacts_differ_by_program_and_by_owner() {
    let (_, told) = run(
        &Config::default(),
        "0s a 1 tcp#1 sent 1/0\n1s a 2 tcp#2 sent 1/0\n2s b 1 tcp#3 sent 1/0\n3s a 1 tcp#4 sent 1/0\n4s end",
    );
    let firsts = told.iter().filter(|line| line.contains("FirstContact")).count();
    assert_eq!((firsts, told.len()), (3, 4), "{told:#?}");
}

#[test]
fn the_least_level_is_kept() {
    let config = Config { min_level: Level::Sent, ..Config::default() };
    let script = "0s a 1 tcp#1 attempt\n1s a 1 tcp#1 established\n9s a 1 tcp#2 attempt\n10s a 1 tcp#1 sent 7/3\n1h end";
    check_with(&config, script, &["10000ms a 1 FirstContact Sent 7/3 in 1 to 1 folded 0 by tcp#1 new [net]"]);
    let config = Config { min_level: Level::Established, ..Config::default() };
    check_with(&config, "0s a 1 tcp#1 attempt\n1s a 1 tcp#1 failed\n1h end", &[]);
}

#[test]
fn a_child_takes_a_flow_over_by_sending_and_not_by_holding_it() {
    check(
        "0s parent 1 tcp#1 sent 100/0
         1s child 1 tcp#1 progress 100/5
         2s child 1 tcp#1 progress 177/5
         1h end",
        &[
            "0ms parent 1 FirstContact Sent 100/0 in 1 to 1 folded 0 by tcp#1 new [net]",
            "2000ms child 1 FirstContact Sent 77/0 in 1 to 1 folded 0 by tcp#1 new [net]",
            "10000ms parent 1 Rollup Sent 100/5 in 1 to 1 folded 0 by tcp#1 new []",
        ],
    );
}

#[test]
fn late_and_repeated_reports_change_nothing() {
    let mut tracker = Tracker::new(&Config::default());
    let mut report = flow("tcp#1", BootTime(5 * MS));
    apply(&mut report, "sent", "100/10", BootTime(10 * MS));
    let earlier = report.clone();
    let see = |tracker: &mut Tracker<()>, flow: &Flow| {
        tracker.observe(Observation::new(flow, contact("a", 1), vec![hit("n", 1, Severity::Low)], ())).len()
    };
    assert_eq!(see(&mut tracker, &report), 1);
    apply(&mut report, "close", "150/20", BootTime(20 * MS));
    assert_eq!(see(&mut tracker, &report), 0);
    // A snapshot of the table that was read before the flow closed and is handled after.
    assert_eq!(see(&mut tracker, &earlier), 0);
    assert_eq!(see(&mut tracker, &report), 0);
    let decision = tracker.drain(BootTime(30 * MS)).pop().unwrap();
    assert_eq!((decision.totals.payload_out_bytes, decision.totals.connections), (150, 1));
    assert_eq!(tracker.stats().stale_reports, 1);
    // The same socket turns to the same destination again: a flow of its own, with counters that start anew.
    let mut again = flow("tcp#1", BootTime(40 * MS));
    apply(&mut again, "sent", "7/0", BootTime(41 * MS));
    see(&mut tracker, &again);
    let decision = tracker.drain(BootTime(50 * MS)).pop().unwrap();
    assert_eq!((decision.totals.payload_out_bytes, decision.totals.connections), (157, 2));
}

#[test]
fn closed_flows_are_forgotten() {
    let mut script = String::new();
    for number in 0..100 {
        use std::fmt::Write as _;
        writeln!(script, "{number}s a 1 tcp#{number} sent 1/0\n{number}s a 1 tcp#{number} close 1/0").unwrap();
    }
    let (tracker, _) = run(&Config::default(), &script);
    assert!(tracker.stats().flows <= 11, "{:?}", tracker.stats());
    assert!(tracker.closed.len() <= 11);
}

#[test]
fn an_evicted_contact_tells_its_sums() {
    let config = Config { max_contacts: NonZeroUsize::new(2).unwrap(), ..Config::default() };
    let (tracker, told) = run(
        &config,
        "0s a 1 tcp#1 sent 10/0
         1s a 1 tcp#1 progress 25/0
         2s b 1 tcp#2 attempt
         3s c 1 tcp#3 sent 1/0
         4s d 1 tcp#4 sent 1/0
         5s a 1 tcp#1 close 25/0
         6s end",
    );
    assert_eq!(
        told,
        [
            "0ms a 1 FirstContact Sent 10/0 in 1 to 1 folded 0 by tcp#1 new [net]",
            "3000ms a 1 Rollup Sent 25/0 in 1 to 1 folded 0 by tcp#1 new []",
            "3000ms c 1 FirstContact Sent 1/0 in 1 to 1 folded 0 by tcp#3 new [net]",
            "4000ms b 1 FirstContact Attempted 0/0 in 1 to 1 folded 0 by tcp#2 new [net]",
            "4000ms d 1 FirstContact Sent 1/0 in 1 to 1 folded 0 by tcp#4 new [net]",
        ]
    );
    assert_eq!((tracker.stats().contacts, tracker.stats().evicted_contacts), (2, 2));
}

#[test]
fn memory_stays_below_what_is_stated() {
    let limits = NonZeroUsize::new(50).unwrap();
    let config = Config { max_contacts: limits, max_flows: limits, ..Config::default() };
    let mut tracker = Tracker::new(&config);
    for number in 0..2_000_u32 {
        let at = BootTime(u64::from(number) * MS);
        let mut report = flow(&format!("tcp#{number}"), at);
        apply(&mut report, "sent", "1/0", at);
        let matches = (0..100).map(|entity| hit(&format!("e{entity}"), number % 7, Severity::Low)).collect();
        let key = contact(&format!("p{}", number % 300), number % 7);
        tracker.observe(Observation::new(&report, key, matches, ()));
    }
    let stats = tracker.stats();
    assert_eq!((stats.contacts, stats.flows), (50, 50));
    assert!(tracker.due.len() <= 50 && tracker.closed.len() <= 50);
    assert!(stats.dropped_matches > 0 && stats.evicted_flows > 0);
    let contact_bytes = size_of::<History<()>>()
        + MAX_MATCHES * size_of::<Match>()
        + 2 * MAX_DESTINATIONS * size_of::<IpAddr>()
        + 4 * size_of::<ContactKey>();
    assert!(contact_bytes < 6_000, "{contact_bytes}");
    let flow_bytes = size_of::<FlowState>() + 2 * size_of::<FlowKey>() + 2 * size_of::<u64>();
    assert!(flow_bytes < 350, "{flow_bytes}");
}

#[test]
fn owners_are_keyed_by_the_best_that_is_known() {
    let named = hit("cmpassport", 9808, Severity::High);
    let known = Owner { asn: Some(4134), ..Owner::default() };
    assert_eq!(OwnerKey::new(&known, std::slice::from_ref(&named)), Some(OwnerKey::Asn(4134)));
    assert_eq!(OwnerKey::new(&Owner::default(), &[]), None);
    let domain = Match { key: MatchKey::Domain("cmpassport.com".into()), ..named };
    let entity = OwnerKey::Entity { list: "list".into(), entity: "cmpassport".into() };
    assert_eq!(OwnerKey::new(&Owner::default(), &[domain]), Some(entity));
}

#[derive(Clone, Debug)]
struct Step {
    wait_ms: u64,
    flow: usize,
    /// Which report: 0–1 attempt, 2 established, 3–6 payload, 7 failed, 8 close, 9 the report before the last once more.
    kind: u8,
    out_bytes: u64,
    in_bytes: u64,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let wait = prop_oneof![Just(0), 1..2_000_u64, 2_000..100_000_u64, Just(4_000_000)];
    let step = (wait, 0..12_usize, 0..10_u8, 0..5_000_u64, 0..5_000_u64)
        .prop_map(|(wait_ms, flow, kind, out_bytes, in_bytes)| Step { wait_ms, flow, kind, out_bytes, in_bytes });
    prop::collection::vec(step, 0..120)
}

/// What a contact must have been told of when all is quiet.
#[derive(Debug, Default, PartialEq)]
struct Sums {
    out_bytes: u64,
    in_bytes: u64,
    connections: u64,
}

proptest! {
    #[test]
    fn nothing_is_lost_and_first_contact_is_first_and_once(steps in steps(), tick_late in any::<bool>()) {
        let mut tracker = Tracker::new(&Config::default());
        let mut now = 0_u64;
        let mut flows: Vec<Option<(Flow, Option<Flow>)>> = vec![None; 12];
        let mut is_news = [false; 12];
        let mut over = [false; 12];
        let mut told: BTreeMap<usize, Vec<Decision<()>>> = BTreeMap::new();
        // Twelve flows over two programs and two owners; odd ones are datagrams.
        let group = |flow: usize| flow / 3;
        let key = |flow: usize| contact(["a", "b"][group(flow) % 2], [1, 2][group(flow) / 2]);
        let mut file = |decisions: Vec<Decision<()>>| {
            for decision in decisions {
                let group = (0..12).find(|flow| key(*flow) == decision.contact).map(group).unwrap();
                told.entry(group).or_default().push(decision);
            }
        };
        for step in steps {
            now += step.wait_ms * MS;
            let at = BootTime(now);
            if tick_late {
                file(tracker.tick(at));
            } else {
                while let Some(due_at) = tracker.next_due().filter(|due_at| *due_at <= at) {
                    file(tracker.tick(due_at));
                }
            }
            if over[step.flow] {
                continue;
            }
            let protocol = if step.flow % 2 == 1 { "udp" } else { "tcp" };
            let (report, before) = flows[step.flow]
                .get_or_insert_with(|| (flow(&format!("{protocol}#{}", step.flow), at), None));
            if step.kind == 9 {
                if let Some(old) = before.clone() {
                    file(tracker.observe(Observation::new(&old, key(step.flow), vec![hit("n", 1, Severity::Low)], ())));
                }
                continue;
            }
            *before = Some(report.clone());
            let what = match step.kind {
                2 if protocol == "tcp" => "established",
                3..=6 => "sent",
                7 if protocol == "tcp" && !report.facts.established => "failed",
                8 => "close",
                _ => "attempt",
            };
            if what == "sent" {
                report.counters.payload_out_bytes += 1 + step.out_bytes;
                report.counters.payload_in_bytes += step.in_bytes;
            }
            apply(report, what, "", at);
            over[step.flow] = matches!(what, "close" | "failed");
            is_news[step.flow] |= protocol == "tcp" || report.facts.sent;
            file(tracker.observe(Observation::new(report, key(step.flow), vec![hit("n", 1, Severity::Low)], ())));
        }
        while let Some(due_at) = tracker.next_due() {
            now = now.max(due_at.0);
            file(tracker.tick(BootTime(now)));
        }
        prop_assert!(tracker.drain(BootTime(now)).is_empty());

        let mut expected: BTreeMap<usize, Sums> = BTreeMap::new();
        for (index, (report, _)) in flows.iter().enumerate().filter_map(|(index, flow)| flow.as_ref().map(|flow| (index, flow))) {
            if is_news[index] {
                let sums = expected.entry(group(index)).or_default();
                sums.out_bytes += report.counters.payload_out_bytes;
                sums.in_bytes += report.counters.payload_in_bytes;
                sums.connections += 1;
            }
        }
        prop_assert_eq!(told.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
        for (group, decisions) in &told {
            let sums = &expected[group];
            let added = decisions.iter().fold(Sums::default(), |sums, decision| Sums {
                out_bytes: sums.out_bytes + decision.increase.payload_out_bytes,
                in_bytes: sums.in_bytes + decision.increase.payload_in_bytes,
                connections: sums.connections + decision.increase.connections,
            });
            prop_assert_eq!(&added, sums);
            let last = decisions.last().unwrap().totals;
            prop_assert_eq!((last.payload_out_bytes, last.payload_in_bytes, last.connections), (sums.out_bytes, sums.in_bytes, sums.connections));
            for (index, decision) in decisions.iter().enumerate() {
                prop_assert_eq!(decision.cause == Cause::FirstContact, index == 0);
            }
            for pair in decisions.windows(2) {
                prop_assert!(pair[0].at <= pair[1].at && pair[0].level <= pair[1].level);
                let is_raised = pair[1].cause == Cause::LevelRaised;
                prop_assert_eq!(is_raised, pair[0].level < pair[1].level);
                prop_assert!(is_raised || pair[1].at.since_ns(pair[0].at) >= 10_000 * MS, "{:#?}", pair);
            }
        }
    }
}
