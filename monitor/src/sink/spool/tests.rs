//! The spool with receivers that fail, refuse and hang, a daemon that is killed, power that fails, and disks that are full or
//! damaged.

mod faults;
mod power;
mod rig;

use std::{sync::atomic::Ordering, time::Duration};

use self::rig::{Answer, Rig, Script, TIGHT, alert, ids, losses_told, notice, run};
use super::{Config, WhenFull};
use crate::units::ByteSize;

#[test]
fn records_arrive_in_order_through_failures_and_partial_confirmations() {
    let directory = tempfile::tempdir().expect("a directory");
    run(async {
        let rig = Rig::start(directory.path(), &Config::default(), &["a"]);
        let script = Script::new([Answer::Fail(0), Answer::Fail(3), Answer::AskToWait, Answer::Fail(1)]);
        rig.deliver("a", &script);
        let mut sent = Vec::new();
        for _ in 0..20 {
            sent.push(rig.send(notice()).await);
        }
        script.wait_for(20).await;
        assert_eq!(ids(&script), sent, "in order, and nothing that was confirmed comes again");
        rig.wait_for_depth("a", 0).await;
        let figures = rig.figures("a");
        assert_eq!((figures.delivered_records, figures.failures, figures.asked_to_wait), (20, 3, 1));
        assert_eq!((figures.retries, figures.depth_records, figures.oldest), (4, 0, None));
        assert!(!figures.is_failing && figures.last_success.is_some());
        assert_eq!(rig.stop().await, 0);
    });
}

#[test]
fn what_is_refused_is_kept_apart_counted_and_told() {
    let directory = tempfile::tempdir().expect("a directory");
    run(async {
        let rig = Rig::start(directory.path(), &Config::default(), &["a"]);
        let mut sent = Vec::new();
        for _ in 0..4 {
            sent.push(rig.send(notice()).await);
        }
        rig.wait_for_depth("a", 4).await;
        let script = Script::new([Answer::Refuse(vec![1, 3])]);
        rig.deliver("a", &script);
        // The fifth is the loss record.
        script.wait_for(3).await;
        assert_eq!(&ids(&script)[..2], [sent[0].clone(), sent[2].clone()]);
        assert_eq!(rig.figures("a").refused_records, 2);
        let dead = dead_letters(directory.path(), "a.other.jsonl");
        assert_eq!(dead.iter().map(|line| line["id"].clone()).collect::<Vec<_>>(), [sent[1].clone(), sent[3].clone()]);
        assert_eq!(dead[0]["reason"], "too odd");
        assert!(dead[0]["record"].as_str().is_some_and(|record| record.contains(&sent[1])), "{dead:?}");
        let told = script.records();
        let loss = &told.last().expect("a loss record")["egresswatch"]["loss"];
        assert_eq!((&loss["reason"], &loss["count"]), (&"Refused".into(), &2.into()));
        let figures = rig.figures("a");
        assert!(!figures.is_stuck() && figures.takes_records(), "{figures:?}");
        assert_eq!(rig.stop().await, 0);
    });
}

fn dead_letters(directory: &std::path::Path, file: &str) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(directory.join("dead-letter").join(file)).expect("a dead-letter file");
    text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

/// What tells of a refusal is refused as well, and must not make the next loss.
#[test]
fn a_receiver_that_refuses_everything_makes_no_losses_of_losses() {
    let directory = tempfile::tempdir().expect("a directory");
    run(async {
        let rig = Rig::start(directory.path(), &Config::default(), &["refusing", "other"]);
        let (refusing, other) = (Script::default(), Script::default());
        refusing.refuse_everything(true);
        rig.deliver("refusing", &refusing);
        rig.deliver("other", &other);
        let mut sent = Vec::new();
        for _ in 0..20 {
            sent.push(rig.send(alert()).await);
        }
        // One loss record or more, each refused like the alerts that it tells of.
        rig.wait_until(|| {
            let figures = rig.figures("refusing");
            let told = rig.notices().len() as u64;
            rig.losses_told("refusing") == 20 && figures.refused_records == 20 + told && figures.depth_records == 0
        })
        .await;
        let told = rig.notices().len();
        let figures = rig.figures("refusing");
        assert!(figures.is_stuck() && !figures.takes_records(), "{figures:?}");
        assert_eq!((figures.delivered_records, figures.delivered_bytes, figures.last_success), (0, 0, None));
        assert_eq!(figures.refused_in_a_row, 20 + told as u64);
        assert_eq!(figures.last_error.as_deref(), Some("the receiver refuses records for good: wants none of it"));
        let kept = |file| {
            let lines = dead_letters(directory.path(), file);
            lines.into_iter().map(|line| line["id"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(kept("refusing.jsonl"), sent, "nothing pushes alerts out of their file");
        assert_eq!(kept("refusing.other.jsonl").len(), told);
        other.wait_for(20 + told).await;

        refusing.refuse_everything(false);
        let last = rig.send(alert()).await;
        rig.wait_until(|| rig.figures("refusing").delivered_records == 1).await;
        assert_eq!(ids(&refusing), [last]);
        let figures = rig.figures("refusing");
        assert!(!figures.is_stuck() && figures.takes_records() && figures.last_success.is_some(), "{figures:?}");
        let notices = std::sync::Arc::clone(&rig.told);
        // At a stop everything is told that would be told a second later.
        assert_eq!(rig.stop().await, 0);
        assert_eq!(losses_told(&notices, "refusing"), 20, "{notices:?}");
        assert_eq!(ids(&other).len(), 21 + told);
    });
}

#[test]
fn an_output_that_is_stuck_holds_up_nobody_and_its_records_wait() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut sent = Vec::new();
    run(async {
        let rig = Rig::start(directory.path(), &Config::default(), &["good", "stuck"]);
        let (good, stuck) = (Script::default(), Script::new([Answer::Hang]));
        rig.deliver("good", &good);
        rig.deliver("stuck", &stuck);
        for _ in 0..3_000 {
            sent.push(rig.send(notice()).await);
        }
        good.wait_for(3_000).await;
        assert_eq!(ids(&good), sent);
        rig.wait_for_depth("good", 0).await;
        assert_eq!(rig.figures("stuck").depth_records, 3_000);
        assert_eq!(rig.stop().await, 0, "what is left is no error");
    });
    run(async {
        let rig = Rig::start(directory.path(), &Config::default(), &["good", "stuck"]);
        rig.wait_until(|| rig.figures("stuck").oldest.is_some()).await;
        let (good, stuck) = (Script::default(), Script::default());
        rig.deliver("good", &good);
        rig.deliver("stuck", &stuck);
        let last = rig.send(notice()).await;
        stuck.wait_for(3_001).await;
        assert_eq!(ids(&stuck)[..3_000], sent);
        good.wait_for(1).await;
        assert_eq!(ids(&good), [last], "a clean stop remembers what was confirmed");
        assert_eq!(rig.stop().await, 0);
    });
}

#[test]
fn a_full_queue_drops_by_its_policy_and_tells() {
    for when_full in [WhenFull::DropOldest, WhenFull::DropNewest] {
        let directory = tempfile::tempdir().expect("a directory");
        run(async {
            // Some seventy records of this size.
            let config = Config { max_bytes: ByteSize::from_bytes(64 << 10), when_full, ..Config::default() };
            let rig = Rig::start(directory.path(), &config, &["full", "other"]);
            let other = Script::default();
            rig.deliver("other", &other);
            let mut sent = Vec::new();
            for index in 1..=300_u64 {
                sent.push(rig.send(notice()).await);
                // One by one, so that the other queue is never full.
                while rig.figures("other").delivered_records < index {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
            rig.wait_until(|| rig.figures("full").dropped_records > 0).await;
            assert_eq!(rig.figures("other").dropped_records, 0);
            assert!(rig.figures("other").takes_records());
            // Where the oldest are dropped there may be room for one.
            assert!(when_full == WhenFull::DropOldest || !rig.figures("full").takes_records());
            assert!(rig.figures("full").depth_bytes <= (64 << 10) + 8_192, "{:?}", rig.figures("full"));
            let full = Script::default();
            rig.deliver("full", &full);
            rig.wait_until(|| rig.figures("full").depth_records == 0 && rig.losses_told("full") > 0).await;
            assert!(rig.figures("full").takes_records(), "it has room again");
            let kept: Vec<_> = ids(&full).into_iter().filter(|id| sent.contains(id)).collect();
            let lost = rig.figures("full").dropped_records as usize;
            let missing = sent.len() - kept.len();
            assert!(missing > 100 && kept.len() > 30, "{missing} missing, {} kept", kept.len());
            // What tells of the losses goes through the queue as well, and may find it full.
            let told = ids(&other).into_iter().filter(|id| !sent.contains(id)).count();
            assert!((missing..=missing + told).contains(&lost), "{when_full:?}: {missing} missing, {lost} counted");
            let expected = if when_full == WhenFull::DropOldest { &sent[missing..] } else { &sent[..kept.len()] };
            assert_eq!(kept, expected, "{when_full:?}");
            rig.wait_until(|| rig.losses_told("full") == lost as u64).await;
            assert!(full.records().iter().any(|record| !record["egresswatch"]["loss"].is_null()), "it is told itself");
            assert_eq!(rig.stop().await, 0);
        });
    }
}

/// The same records for an output with bounds of its own and for one with those of the spool.
#[test]
fn an_output_has_bounds_of_its_own() {
    let directory = tempfile::tempdir().expect("a directory");
    run(async {
        let rig = Rig::start(directory.path(), &Config::default(), &[TIGHT, "other"]);
        let mut sent = Vec::new();
        for _ in 0..300 {
            sent.push(rig.send(notice()).await);
        }
        rig.wait_until(|| rig.losses_told(TIGHT) > 0 && rig.figures(TIGHT).dropped_records == rig.losses_told(TIGHT))
            .await;
        assert_eq!((rig.figures(TIGHT).max_bytes, rig.figures("other").max_bytes), (64 << 10, 256 << 20));
        assert_eq!(rig.figures("other").dropped_records, 0);
        let (tight, other) = (Script::default(), Script::default());
        rig.deliver(TIGHT, &tight);
        rig.deliver("other", &other);
        rig.wait_until(|| [TIGHT, "other"].iter().all(|output| rig.figures(output).depth_records == 0)).await;
        let kept = |script| ids(script).into_iter().filter(|id| sent.contains(id)).collect::<Vec<_>>();
        assert_eq!(kept(&other), sent);
        let kept = kept(&tight);
        assert_eq!(kept, sent[..kept.len()], "the newest are dropped");
        assert_eq!(kept.len() as u64 + rig.figures(TIGHT).dropped_records, 300);
        assert_eq!(rig.stop().await, 0);
    });
}

#[test]
fn outputs_come_go_and_come_back_with_their_records() {
    let directory = tempfile::tempdir().expect("a directory");
    run(async {
        let rig = Rig::start(directory.path(), &Config::default(), &["gone"]);
        let first = rig.send(notice()).await;
        rig.wait_for_depth("gone", 1).await;
        rig.set_outputs(&["new"]);
        rig.wait_until(|| rig.notices().iter().any(|notice| notice.contains("Unclaimed"))).await;
        let second = rig.send(notice()).await;
        // It and the notice about the other one.
        rig.wait_for_depth("new", 2).await;
        rig.set_outputs(&["gone", "new"]);
        let (gone, new) = (Script::default(), Script::default());
        rig.deliver("gone", &gone);
        rig.deliver("new", &new);
        let third = rig.send(notice()).await;
        gone.wait_for(2).await;
        new.wait_for(3).await;
        assert_eq!(ids(&gone), [first, third.clone()]);
        // The notice about the other one came first.
        assert_eq!(ids(&new)[1..], [second, third]);
        assert_eq!(rig.stop().await, 0);
    });
}

#[test]
fn flows_never_wait_and_alerts_are_never_dropped() {
    let directory = tempfile::tempdir().expect("a directory");
    run(async {
        let rig = Rig::start_with_rooms(directory.path(), &Config::default(), &["a"], 2, 2);
        let script = Script::default();
        rig.deliver("a", &script);
        let mut alerts = Vec::new();
        for _ in 0..200 {
            alerts.push(rig.send(notice()).await);
            rig.send(rig::flow()).await;
        }
        rig.wait_until(|| {
            let told = rig.losses_told("spool");
            let flows =
                script.records().iter().filter(|record| record["event"]["dataset"] == "egresswatch.flow").count();
            flows as u64 + told == 200
        })
        .await;
        script.wait_for(200).await;
        let delivered: Vec<_> = ids(&script).into_iter().filter(|id| alerts.contains(id)).collect();
        assert_eq!(delivered, alerts);
        assert_eq!(rig.sender.0.late_flows.load(Ordering::Relaxed), rig.losses_told("spool"));
        assert_eq!(rig.stop().await, 0);
    });
}
