//! What rules and thresholds catch, and what they do not, over recorded flows.

use jiff::{Timestamp, tz::TimeZone};
use serde_json::{Value, json};

use super::{super::*, *};
use crate::policy::Lists;

/// 2026-11-26 12:00:00 UTC, a Thursday.
const NOON: i64 = 1_795_694_400;

/// A flow of `/usr/bin/tool` that sent `bytes`: its number, when it began, and when it was reported, in seconds.
fn flow(number: u64, began_s: i64, at_s: i64, bytes: u64) -> Value {
    let time = |second: i64| Timestamp::from_second(NOON + second).unwrap().to_string();
    json!({
        "@timestamp": time(at_s),
        "event": { "id": format!("r{number}-{at_s}"), "dataset": "egresswatch.flow", "start": time(began_s) },
        "process": { "name": "tool", "executable": "/usr/bin/tool" },
        "network": { "transport": "tcp", "direction": "egress" },
        "destination": { "ip": "93.184.216.34", "port": 443 },
        "egresswatch": {
            "flow": {
                "id": format!("{number:x}.1.tcp.93.184.216.34:443"),
                "facts": if bytes > 0 { json!(["attempted", "sent"]) } else { json!(["attempted"]) },
                "out": { "payload_bytes": bytes }, "in": { "payload_bytes": 1 },
            },
            "owner": { "asn": 64500 },
        },
    })
}

fn with(mut record: Value, path: &str, value: Value) -> Value {
    *record.pointer_mut(path).unwrap() = value;
    record
}

fn to(record: Value, ip: &str, asn: u32) -> Value {
    with(with(record, "/destination/ip", json!(ip)), "/egresswatch/owner/asn", json!(asn))
}

fn replay(rule: &str) -> Replay {
    let text = format!("[[rule]]\nid = \"r\"\ntitle = \"R\"\ncondition = \"true\"\n{rule}\n");
    let rules = Rules::compile([("r.toml", text.as_str())], &[], &[], None).unwrap_or_else(|errors| panic!("{errors}"));
    played(rules)
}

/// A replay without lists.
fn played(rules: Rules) -> Replay {
    let lists = Lists::new([], &[], &[]).unwrap();
    Replay::new(&crate::policy::Config::default(), lists, rules, TimeZone::UTC)
}

fn told(replay: &mut Replay, record: &Value) -> Vec<RuleDecision<Arc<Recorded>>> {
    match replay.take_in(1, record.clone()) {
        Replayed::Flow { told, .. } => by_rules(told),
        Replayed::Skipped => panic!("no flow: {record}"),
    }
}

fn by_rules(told: Vec<Alert>) -> Vec<RuleDecision<Arc<Recorded>>> {
    let rule = |told| match told {
        Alert::Rule(decision) => decision,
        Alert::Lists(decision) => panic!("by lists: {decision:?}"),
    };
    told.into_iter().map(rule).collect()
}

/// How many alerts each record gives.
fn counts(rule: &str, records: &[Value]) -> Vec<usize> {
    let mut replay = replay(rule);
    records.iter().map(|record| told(&mut replay, record).len()).collect()
}

#[test]
fn bytes_add_up_over_flows_within_the_window_and_leave_it() {
    let rule = "threshold = { kind = \"bytes_out\", window = \"1h\", bytes = \"1000B\" }\nrepeat = \"1s\"";
    let hour = 3_600;
    // 600 and 600 within an hour; a flow that is reported again counts what it added.
    assert_eq!(counts(rule, &[flow(1, 0, 0, 600), flow(2, 60, 60, 600)]), [0, 1]);
    assert_eq!(counts(rule, &[flow(1, 0, 0, 600), flow(1, 0, 60, 900), flow(1, 0, 90, 1_000)]), [0, 0, 0]);
    assert_eq!(counts(rule, &[flow(1, 0, 0, 600), flow(1, 0, 60, 1_001)]), [0, 1]);
    // Further apart than the window.
    assert_eq!(counts(rule, &[flow(1, 0, 0, 600), flow(2, hour, hour, 600)]), [0, 0]);
    // To another owner, and by another executable.
    assert_eq!(counts(rule, &[flow(1, 0, 0, 600), to(flow(2, 1, 1, 600), "93.184.216.34", 64501)]), [0, 0]);
    let other = with(flow(2, 1, 1, 600), "/process/executable", json!("/usr/bin/other"));
    assert_eq!(counts(rule, &[flow(1, 0, 0, 600), other.clone()]), [0, 0]);
    let by_owner = rule.replace("1000B\"", "1000B\", per = \"owner\"");
    assert_eq!(counts(&by_owner, &[flow(1, 0, 0, 600), other]), [0, 1]);
}

#[test]
fn distinct_owners_and_addresses_are_counted_once_within_the_window() {
    let owners = "threshold = { kind = \"distinct_owners\", window = \"10m\", count = 3 }\nrepeat = \"1s\"";
    let ip = |last: u8| format!("93.184.216.{last}");
    let visit = |number: u64, at: i64, last: u8, asn: u32| to(flow(number, at, at, 1), &ip(last), asn);
    assert_eq!(counts(owners, &[visit(1, 0, 1, 1), visit(2, 1, 2, 2), visit(3, 2, 3, 3)]), [0, 0, 1]);
    assert_eq!(counts(owners, &[visit(1, 0, 1, 1), visit(2, 1, 2, 1), visit(3, 2, 3, 2), visit(4, 3, 4, 2)]), [0; 4]);
    assert_eq!(counts(owners, &[visit(1, 0, 1, 1), visit(2, 1, 2, 2), visit(3, 601, 3, 3)]), [0, 0, 0]);
    let addresses = owners.replace("distinct_owners", "distinct_destinations");
    assert_eq!(counts(&addresses, &[visit(1, 0, 1, 1), visit(2, 1, 2, 1), visit(3, 2, 3, 1)]), [0, 0, 1]);
    assert_eq!(counts(&addresses, &[visit(1, 0, 1, 1), visit(2, 1, 1, 1), visit(3, 2, 1, 1)]), [0, 0, 0]);
}

#[test]
fn a_first_contact_is_told_once_and_not_while_learning() {
    let rule = "threshold = { kind = \"first_contact\" }\nrepeat = \"1s\"";
    let day = 86_400;
    let visits = [flow(1, 0, 0, 1), flow(2, day, day, 1), to(flow(3, day, day, 1), "93.184.216.34", 64501)];
    assert_eq!(counts(rule, &visits), [1, 0, 1]);

    // What an earlier run knew, and when it began.
    let noon = Timestamp::from_second(NOON).unwrap();
    let began = vec![("r".into(), noon - jiff::SignedDuration::from_hours(24))];
    let kept = Learnt { contacts: vec!["r\t/usr/bin/tool\tAS64500".into()], began };
    let learning = jiff::SignedDuration::from_hours(24);
    let mut replay = replay(rule);
    replay.set_baseline(Baseline::new(kept, learning));
    let alerts = [flow(1, 0, 0, 1), to(flow(2, 1, 1, 1), "93.184.216.34", 64501)];
    assert_eq!(alerts.map(|record| told(&mut replay, &record).len()), [0, 1]);
}

/// Another id, as by a reload, is another rule: what it has not seen yet is learnt and not told.
#[test]
fn each_rule_learns_from_the_first_flow_that_it_judges() {
    let rule = |id: &str| {
        let text = format!(
            "[[rule]]\nid = \"{id}\"\ntitle = \"R\"\ncondition = \"true\"\nrepeat = \"1s\"\n\
             threshold = {{ kind = \"first_contact\" }}\n"
        );
        Rules::compile([("r.toml", text.as_str())], &[], &[], None).unwrap()
    };
    assert!(rule("r").needs_baseline());
    let (hour, learning) = (3_600, jiff::SignedDuration::from_hours(2));
    let mut replay = played(rule("r"));
    replay.set_baseline(Baseline::new(Learnt::default(), learning));
    let visit = |replay: &mut Replay, at: i64, asn: u32| {
        told(replay, &to(flow(u64::from(asn), at, at, 1), "93.184.216.34", asn)).len()
    };
    assert_eq!([(0, 1), (hour, 2), (2 * hour, 3)].map(|(at, asn)| visit(&mut replay, at, asn)), [0, 0, 1]);
    replay.set_rules(rule("s"));
    let later = [(3 * hour, 1), (4 * hour, 4), (5 * hour - 1, 5), (5 * hour, 4), (5 * hour, 6)];
    assert_eq!(later.map(|(at, asn)| visit(&mut replay, at, asn)), [0, 0, 0, 0, 1]);
    // The one before had learnt already.
    replay.set_rules(rule("r"));
    assert_eq!(visit(&mut replay, 6 * hour, 7), 1);
}

/// Sums of another rule that are due all the time change nothing about when these are told.
#[test]
fn what_is_held_back_is_told_in_time_whatever_else_is_due() {
    let busy = "[[rule]]\nid = \"busy\"\ntitle = \"B\"\ncondition = \"destination.port == 443\"\nrepeat = \"30s\"\n\
                max_alerts_per_hour = 1000\n[[rule]]\nid = \"q\"\ntitle = \"Q\"\ncondition = \"destination.port == 80\"\n";
    for (quiet, due_at) in [
        ("max_alerts_per_hour = 1\nrepeat = \"1s\"", 3_600),
        ("[[maintenance]]\nfrom = 12:00:00\nto = 12:10:00\nrules = [\"q\"]", 600),
    ] {
        let text = format!("{busy}{quiet}\n");
        let mut replay = played(Rules::compile([("r.toml", text.as_str())], &[], &[], None).unwrap());
        let mut summed_at = None;
        for at in (0..7_200).step_by(10) {
            let number = u64::try_from(at).unwrap();
            let record = flow(number, at, at, 1);
            let record = if at < 30 { with(record, "/destination/port", json!(80)) } else { record };
            let sums = told(&mut replay, &record);
            if sums.iter().any(|sum| &*sum.rule.id == "q" && sum.cause == RuleCause::Folded) {
                summed_at.get_or_insert(at);
            }
        }
        let summed_at = summed_at.unwrap_or_else(|| panic!("{quiet}: never"));
        assert!((due_at..=due_at + 60).contains(&summed_at), "{quiet}: at {summed_at} s");
    }
}

#[test]
fn what_a_rule_held_back_is_told_when_it_is_taken_out() {
    let rule = |id: &str, rest: &str| {
        let text = format!("[[rule]]\nid = \"{id}\"\ntitle = \"R\"\ncondition = \"true\"\n{rest}\n");
        Rules::compile([("r.toml", text.as_str())], &[], &[], None).unwrap()
    };
    // Folded on two keys, and beyond the limit of the hour.
    let records = [(1, 1), (2, 1), (3, 2), (4, 2), (5, 2), (6, 3)];
    let mut replay = played(rule("r", "max_alerts_per_hour = 2"));
    let alerts = records.map(|(number, asn)| {
        let at = i64::try_from(number).unwrap();
        told(&mut replay, &to(flow(number, at, at, 1), "93.184.216.34", asn)).len()
    });
    assert_eq!(alerts, [1, 0, 1, 0, 0, 0]);
    replay.set_rules(rule("other", ""));
    let rest = told(&mut replay, &flow(7, 10, 10, 1));
    let rest: Vec<_> = rest.iter().map(|one| (&*one.rule.id, one.cause, one.folded)).collect();
    assert_eq!(rest, [("r", RuleCause::Folded, 4), ("other", RuleCause::Matched, 0)]);
}

#[test]
fn an_upload_far_above_the_habit_is_found_and_a_usual_one_is_not() {
    let rule =
        "threshold = { kind = \"above_habit\", period = \"1h\", min_bytes = \"2000B\", periods = 8 }\nrepeat = \"1s\"";
    let hour = 3_600;
    // Between 1,000 and 1,070 bytes in each of eight hours: m = 1,040, MAD = 20; the limit is 1,040 + 6 × 104 = 1,664, but
    // at least 2,000.
    let mut usual: Vec<Value> =
        (0..8_i64).map(|n| flow(n.cast_unsigned(), n * hour, n * hour, 1_000 + 10 * n.cast_unsigned())).collect();
    let ninth = |bytes| flow(9, 8 * hour, 8 * hour, bytes);
    let of_ninth = |bytes| {
        let mut records = usual.clone();
        records.push(ninth(bytes));
        counts(rule, &records)
    };
    assert_eq!(of_ninth(1_900).last(), Some(&0));
    assert_eq!(of_ninth(2_000).last(), Some(&0));
    assert_eq!(of_ninth(2_001).last(), Some(&1));
    // Seven periods are no habit.
    usual.pop();
    let mut short = usual.clone();
    short.push(ninth(1_000_000));
    assert_eq!(counts(rule, &short).iter().sum::<usize>(), 0);
    // A program that sends 1,000 and 100,000 in turn has the habit to send much.
    let mut uneven: Vec<Value> = (0..8_i64)
        .map(|n| flow(n.cast_unsigned(), n * hour, n * hour, if n % 2 == 0 { 1_000 } else { 100_000 }))
        .collect();
    uneven.push(ninth(150_000));
    assert_eq!(counts(rule, &uneven).iter().sum::<usize>(), 0);
}

#[test]
fn regular_contacts_are_found_and_irregular_ones_are_not() {
    let rule = "threshold = { kind = \"beacon\", contacts = 8, max_spread_percent = 10, min_interval = \"10s\" }\nrepeat = \"1s\"";
    let at = |times: &[i64]| times.iter().enumerate().map(|(n, at)| flow(n as u64, *at, *at, 1)).collect::<Vec<_>>();
    // Each minute, a second or two early or late.
    assert_eq!(counts(rule, &at(&[0, 61, 119, 180, 242, 300, 359, 420])), [0, 0, 0, 0, 0, 0, 0, 1]);
    // A person at a browser.
    assert_eq!(counts(rule, &at(&[0, 12, 90, 95, 300, 340, 700, 720])), [0; 8]);
    // Regular, but a burst.
    assert_eq!(counts(rule, &at(&[0, 2, 4, 6, 8, 10, 12, 14])), [0; 8]);
    // One flow that is reported again and again.
    let long: Vec<Value> = (0..8).map(|n| flow(1, 0, n * 60, 1)).collect();
    assert_eq!(counts(rule, &long), [0; 8]);
    // The same minute, but to eight addresses.
    let spread: Vec<Value> = (0..8_u64)
        .map(|n| to(flow(n, n.cast_signed() * 60, n.cast_signed() * 60, 1), &format!("93.184.216.{n}"), 1))
        .collect();
    assert_eq!(counts(rule, &spread), [0; 8]);
}

#[test]
fn a_flow_without_a_name_is_told_once_names_had_their_chance() {
    let rule = "threshold = { kind = \"nameless\", after = \"5s\" }";
    assert_eq!(counts(rule, &[flow(1, 0, 0, 100), flow(1, 0, 4, 200), flow(1, 0, 5, 300)]), [0, 0, 1]);
    let named = |record: Value| {
        let mut record = record;
        record["egresswatch"]["names"] = json!([{ "name": "example.com", "source": "dns", "decisive": true }]);
        record
    };
    assert_eq!(counts(rule, &[flow(1, 0, 0, 100), named(flow(1, 0, 9, 300))]), [0, 0]);
    assert_eq!(counts(rule, &[to(flow(1, 0, 9, 100), "10.0.0.1", 1)]), [0]);
    assert_eq!(counts(rule, &[flow(1, 0, 9, 0)]), [0]);
    let closed = with(flow(1, 0, 1, 100), "/egresswatch/flow/facts", json!(["sent", "closed"]));
    assert_eq!(counts(rule, &[closed]), [1]);
}

#[test]
fn what_is_folded_is_told_in_the_next_alert_or_in_a_sum() {
    let mut replay = replay("repeat = \"10m\"");
    assert_eq!(told(&mut replay, &flow(1, 0, 0, 1)).len(), 1);
    // The same flow counts once, however often it is reported.
    assert_eq!(told(&mut replay, &flow(1, 0, 1, 2)).len(), 0);
    assert_eq!(told(&mut replay, &flow(2, 2, 2, 1)).len(), 0);
    assert_eq!(told(&mut replay, &flow(3, 3, 3, 1)).len(), 0);
    // At ten minutes the time to fold is over: the sum, then the new alert.
    let after = told(&mut replay, &flow(4, 601, 601, 1));
    assert_eq!(
        after.iter().map(|one| (one.cause, one.folded)).collect::<Vec<_>>(),
        [(RuleCause::Folded, 2), (RuleCause::Matched, 0)]
    );
    assert_eq!(told(&mut replay, &flow(5, 602, 602, 1)).len(), 0);
    let rest = by_rules(replay.finish());
    assert_eq!(rest.iter().map(|one| (one.cause, one.folded)).collect::<Vec<_>>(), [(RuleCause::Folded, 1)]);
}

#[test]
fn a_limit_of_the_hour_holds_back_and_says_how_many() {
    let mut replay = replay("max_alerts_per_hour = 2");
    let owner = |n: u32| to(flow(u64::from(n), i64::from(n), i64::from(n), 1), "93.184.216.34", 64500 + n);
    let alerts: usize = (0..7).map(|n| told(&mut replay, &owner(n)).len()).sum();
    assert_eq!(alerts, 2);
    let later = told(&mut replay, &with(owner(9), "/@timestamp", json!("2026-11-26T13:00:01Z")));
    let folded: Vec<_> = later.iter().map(|one| (one.cause, one.folded)).collect();
    assert_eq!(folded, [(RuleCause::Folded, 5), (RuleCause::Matched, 0)]);
}

#[test]
fn what_is_known_to_be_good_is_not_told_until_it_expires() {
    for (suppress, expected) in [
        ("executable = \"/usr/bin/tool\"", 0),
        ("executable = \"/usr/bin/other\"", 1),
        ("executable = \"/usr/bin/tool\"\nasn = 64500", 0),
        ("executable = \"/usr/bin/tool\"\nasn = 64501", 1),
        ("rule = \"r\"", 0),
        ("list = \"some-list\"", 1),
        ("image = \"shop/web:1.25\"", 0),
        ("image = \"shop/web\"", 1),
        ("namespace = \"shop\"", 0),
        ("namespace = \"bank\"", 1),
        ("organisation = \"Example Networks\"", 0),
        ("organisation = \"Example\"", 1),
        ("package = \"tool\"", 0),
        ("package = \"other\"", 1),
        // Unknown fits nothing.
        ("unit = \"tool.service\"", 1),
        ("asn = 64500\nexpires = 2026-11-26", 0),
        ("asn = 64500\nexpires = 2026-11-25", 1),
    ] {
        let mut record = flow(1, 0, 0, 1);
        record["package"] = json!({ "name": "tool" });
        record["egresswatch"]["container"] = json!({ "image": "shop/web:1.25" });
        record["orchestrator"] = json!({ "namespace": "shop" });
        record["egresswatch"]["owner"]["organisation"] = json!("Example Networks");
        assert_eq!(counts(&format!("[[suppress]]\n{suppress}"), &[record]), [expected], "{suppress}");
    }
}

#[test]
fn maintenance_counts_and_tells_when_it_is_over() {
    let window = "[[maintenance]]\ndays = [\"thursday\"]\nfrom = 11:30:00\nto = 12:30:00";
    let mut held = replay(window);
    assert_eq!(told(&mut held, &flow(1, 0, 0, 1)).len(), 0);
    assert_eq!(told(&mut held, &flow(2, 900, 900, 1)).len(), 0);
    let after = told(&mut held, &flow(3, 1_900, 1_900, 1));
    let folded: Vec<_> = after.iter().map(|one| (one.cause, one.folded)).collect();
    assert_eq!(folded, [(RuleCause::Folded, 2), (RuleCause::Matched, 0)]);
    // Another day, another rule, over midnight.
    assert_eq!(counts(&window.replace("thursday", "friday"), &[flow(1, 0, 0, 1)]), [1]);
    assert_eq!(counts(&format!("{window}\nrules = [\"x\"]"), &[flow(1, 0, 0, 1)]), [1]);
    let night = "[[maintenance]]\ndays = [\"wednesday\"]\nfrom = 22:00:00\nto = 12:30:00";
    assert_eq!(counts(night, &[flow(1, 0, 0, 1)]), [0]);
}

#[test]
fn a_rule_that_ignores_takes_the_flow_from_the_others() {
    let text = "[[rule]]\nid = \"i\"\ntitle = \"I\"\naction = \"ignore\"\ncondition = \"destination.port == 443\"\n\
                [[rule]]\nid = \"r\"\ntitle = \"R\"\ncondition = \"true\"\n";
    let rules = Rules::compile([("r.toml", text)], &[], &[], None).unwrap();
    let mut replay = played(rules);
    assert_eq!(replay.take_in(1, flow(1, 0, 0, 1)), Replayed::Flow { is_ignored: true, told: Vec::new() });
    assert_eq!(told(&mut replay, &with(flow(2, 0, 0, 1), "/destination/port", json!(80))).len(), 1);
}

#[test]
fn what_was_counted_survives_another_policy() {
    let rule = |bytes: u64| {
        let text = format!(
            "[[rule]]\nid = \"r\"\ntitle = \"R\"\ncondition = \"true\"\n\
             threshold = {{ kind = \"bytes_out\", window = \"1h\", bytes = \"{bytes}B\" }}\n"
        );
        Rules::compile([("r.toml", text.as_str())], &[], &[], None).unwrap()
    };
    for (bytes, expected) in [(1_000, 1), (1_001, 0)] {
        let mut replay = played(rule(1_000));
        assert_eq!(told(&mut replay, &flow(1, 0, 0, 600)).len(), 0);
        replay.set_rules(rule(bytes));
        assert_eq!(told(&mut replay, &flow(2, 1, 1, 600)).len(), expected, "{bytes}");
    }
}

/// A record tells rules as much of a container as the live flow did.
#[test]
fn a_recorded_container_is_asked_as_a_live_one() {
    let mut record = flow(1, 0, 0, 1);
    record["container"] = json!({ "id": "9f86", "name": "web", "runtime": "cri-o", "image": { "name": "shop/web" } });
    record["orchestrator"] = json!({
        "type": "kubernetes",
        "namespace": "shop",
        "resource": { "type": "pod", "id": "2f5c", "name": "web-0", "label": ["app:web"] },
    });
    record["egresswatch"]["container"] = json!({ "image": "shop/web:1.25", "labels": ["app=web", "note=a=b"] });
    for (condition, expected) in [
        ("process.container.image == 'shop/web:1.25' && process.container.name == 'web'", 1),
        ("process.pod == 'web-0' && process.pod_uid == '2f5c' && process.namespace == 'shop'", 1),
        ("process.labels['app'] == 'web' && process.labels['note'] == 'a=b'", 1),
        ("has(process.labels)", 1),
        ("!has(process.labels)", 0),
        ("process.labels['app'] != 'web' || process.namespace != 'shop'", 0),
    ] {
        let text = format!("[[rule]]\nid = \"r\"\ntitle = \"R\"\ncondition = \"{condition}\"\n");
        let rules =
            Rules::compile([("r.toml", text.as_str())], &[], &[], None).unwrap_or_else(|errors| panic!("{errors}"));
        let mut replay = played(rules);
        assert_eq!(told(&mut replay, &record).len(), expected, "{condition}");
    }
}

/// A replay of the embedded lists, by default settings.
fn with_lists(rules: &str, own: &str) -> Replay {
    let mut lists = Lists::embedded_files().unwrap();
    if !own.is_empty() {
        lists.push(crate::policy::List::parse("own.toml", own).unwrap());
    }
    let rules = Rules::compile([("r.toml", rules)], &[], &[], None).unwrap_or_else(|errors| panic!("{errors}"));
    let lists = Lists::new(lists, &[], &[]).unwrap();
    Replay::new(&crate::policy::Config::default(), lists, rules, TimeZone::UTC)
}

/// What each record told, as `list cause` or the rule's id, with the line that it stands for.
fn lines(replay: &mut Replay, records: &[Value]) -> Vec<String> {
    let mut lines = Vec::new();
    let shown = |told: Vec<Alert>, at: String| -> Vec<String> {
        let one = |told: &Alert| match told {
            Alert::Rule(decision) => format!("{at}: {} of {}", decision.rule.id, decision.context.line),
            Alert::Lists(decision) => {
                let mut ids: Vec<_> = decision.matches.iter().map(|hit| hit.list.id.to_string()).collect();
                ids.dedup();
                let Recorded { line, .. } = &*decision.context;
                format!("{at}: {} {:?} {:?} of {line}", ids.join("+"), decision.cause, decision.level)
            }
        };
        told.iter().map(one).collect()
    };
    for (index, record) in records.iter().enumerate() {
        match replay.take_in(index + 1, record.clone()) {
            Replayed::Flow { told, .. } => lines.extend(shown(told, (index + 1).to_string())),
            Replayed::Skipped => panic!("no flow: {record}"),
        }
    }
    lines.extend(shown(replay.finish(), "end".to_owned()));
    lines
}

const OWN_LIST: &str = "id = \"own\"\ntitle = \"Own\"\nabout = \"x\"\nsource = \"https://example.org\"\n\
    as_of = 2026-01-01\nseverity = \"low\"\nenabled = true\n[[entity]]\nname = \"E\"\nrelation = \"topical\"\n\
    domains = [\"listed.example\"]\ncidrs = [\"93.184.216.0/24\"]\n";

#[test]
fn a_replay_matches_lists_anew_by_address_owner_and_name() {
    // China Mobile, by its number; what was recorded of lists does not count.
    let mut by_owner = to(flow(1, 0, 0, 100), "120.232.0.1", 9_808);
    by_owner["egresswatch"]["lists"] = json!(["gone"]);
    let told = lines(&mut with_lists("", ""), &[by_owner.clone()]);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("us-fcc-covered") && told[0].contains("FirstContact Sent of 1"), "{told:?}");
    // By its address, and by a name that is near enough; a far one counts for nothing.
    assert_eq!(lines(&mut with_lists("", OWN_LIST), &[flow(1, 0, 0, 100)]), ["1: own FirstContact Sent of 1"]);
    let named = |decisive: bool| {
        let mut record = to(flow(1, 0, 0, 100), "198.51.100.7", 64_501);
        record["egresswatch"]["names"] =
            json!([{ "name": "cdn.listed.example", "source": "tls_sni", "decisive": decisive }]);
        record
    };
    assert_eq!(lines(&mut with_lists("", OWN_LIST), &[named(true)]), ["1: own FirstContact Sent of 1"]);
    assert!(lines(&mut with_lists("", OWN_LIST), &[named(false)]).is_empty());
    // Where the proxy was asked to go, and what a translation makes of the address.
    let mut proxied = to(flow(1, 0, 0, 100), "198.51.100.7", 64_501);
    proxied["egresswatch"]["proxied"] = json!({ "protocol": "socks5", "ip": "93.184.216.9", "port": 80 });
    assert_eq!(lines(&mut with_lists("", OWN_LIST), &[proxied]), ["1: own FirstContact Sent of 1"]);
    let mut translated = to(flow(1, 0, 0, 100), "198.51.100.7", 64_501);
    translated["destination"]["nat"] = json!({ "ip": "93.184.216.9" });
    assert_eq!(lines(&mut with_lists("", OWN_LIST), &[translated]), ["1: own FirstContact Sent of 1"]);
    // Rules see the lists of today.
    let rules = "[[rule]]\nid = \"r\"\ntitle = \"R\"\ncondition = \"'own' in lists && !('gone' in lists)\"\n";
    let mut seen = flow(1, 0, 0, 100);
    seen["egresswatch"]["lists"] = json!(["gone"]);
    assert_eq!(lines(&mut with_lists(rules, OWN_LIST), &[seen])[0], "1: r of 1");
    // The monitor's own flows are nobody's business.
    let mut own = flow(1, 0, 0, 100);
    own["egresswatch"]["process"] = json!({ "is_own": true });
    assert!(lines(&mut with_lists("", OWN_LIST), &[own]).is_empty());
}

#[test]
fn a_replay_tells_of_lists_as_the_tracker_does_live() {
    // An attempt waits for more, and is told as what it is when nothing comes; then the level rises, then sums follow.
    let records =
        [flow(1, 0, 0, 0), flow(2, 60, 60, 0), flow(3, 61, 61, 500), flow(4, 62, 62, 500), flow(5, 90, 90, 1)];
    let told = lines(&mut with_lists("", OWN_LIST), &records);
    assert_eq!(
        told,
        [
            "2: own FirstContact Attempted of 1",
            "3: own LevelRaised Sent of 3",
            "5: own Rollup Sent of 4",
            "end: own Rollup Sent of 5"
        ]
    );
    // What is known to be good, ignored, or comes during maintenance is not told.
    for (rules, expected) in [
        ("[[suppress]]\nlist = \"own\"\nasn = 64500\n", &[][..]),
        ("[[suppress]]\nlist = \"own\"\nasn = 64501\n", &["1: own FirstContact Sent of 1"]),
        ("[[rule]]\nid = \"i\"\ntitle = \"I\"\naction = \"ignore\"\ncondition = \"destination.port == 443\"\n", &[]),
        ("[[maintenance]]\nfrom = 11:00:00\nto = 13:00:00\nrules = [\"own\"]\n", &["end: maintenance of 1"]),
    ] {
        assert_eq!(lines(&mut with_lists(rules, OWN_LIST), &[flow(1, 0, 0, 100)]), expected, "{rules}");
    }
}

#[test]
fn alerts_of_lists_wait_for_the_end_of_a_window_that_names_their_list() {
    let window = "[[maintenance]]\nfrom = 11:00:00\nto = 13:00:00\nrules = [\"own\"]\n";
    let records = [flow(1, 0, 0, 100), flow(2, 120, 120, 100), flow(3, 3_700, 3_700, 100)];
    let told = lines(&mut with_lists(window, OWN_LIST), &records);
    assert_eq!(told, ["3: maintenance of 2", "end: own Rollup Sent of 3"]);
}

#[test]
fn a_replay_tells_the_time_of_the_zone_and_who_reached_what() {
    let text = "[[rule]]\nid = \"r\"\ntitle = \"R\"\ncondition = \"time.local_hour == 14 && time.hour == 12\"\n";
    let rules = Rules::compile([("r.toml", text)], &[], &[], None).unwrap();
    let zone = TimeZone::fixed(jiff::tz::offset(2));
    let mut replay = Replay::new(&crate::policy::Config::default(), Lists::new([], &[], &[]).unwrap(), rules, zone);
    let mut record = flow(1, 0, 0, 1);
    record["destination"]["domain"] = json!("www.example.com");
    let decisions = told(&mut replay, &record);
    let recorded = &decisions[0].context;
    assert_eq!((recorded.id(), recorded.program()), ("r1-0", Some("/usr/bin/tool")));
    assert_eq!(recorded.destination().as_deref(), Some("93.184.216.34:443 (www.example.com)"));
}
