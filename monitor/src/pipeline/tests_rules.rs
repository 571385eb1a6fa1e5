//! Rules in the pipeline: their alerts, what they take from lists, and a policy that is replaced.

use super::{tests::*, *};
use crate::{
    alert::record::{Dataset, EventAction},
    event::ReportReason,
};

const SENT: &str = "[[rule]]\nid = \"sent\"\ntitle = \"Something was sent\"\nseverity = \"high\"\n\
                    tags = [\"T1041\", \"TA0010\"]\ncondition = 'flow.state == \"sent\" && process.name == \"agent\"'\n";

fn rules(text: &str) -> Rules {
    Rules::compile([("mine.toml", text)], &[], &[], None).unwrap_or_else(|errors| panic!("{errors}"))
}

fn bench(text: &str) -> Bench {
    let mut bench = Bench::new();
    bench.pipeline = bench.pipeline.with_rules(rules(text), Baseline::default(), TimeZone::UTC);
    bench
}

fn actions(bench: &Bench) -> Vec<EventAction> {
    bench.written(Dataset::Alert).into_iter().map(|(action, _)| action).collect()
}

#[test]
fn a_rule_alerts_on_a_flow_that_no_list_knows() {
    let mut bench = bench(SENT);
    bench.report(report(UNFLAGGED, ReportReason::Attempt, 1, 0));
    assert_eq!(actions(&bench), []);
    bench.report(report(UNFLAGGED, ReportReason::FirstPayload, 2, 517));
    bench.report(report(UNFLAGGED, ReportReason::Closed, 3, 600));
    assert_eq!(actions(&bench), [EventAction::RuleMatched]);
    let record = bench.records.iter().find(|record| record.event.dataset == Dataset::Alert).unwrap();
    let mut line = Vec::new();
    crate::alert::human::HumanFormat::plain().write(record, &mut line);
    let json = serde_json::to_value(&**record).unwrap();
    insta::assert_snapshot!(format!(
        "{}{}\n{}\n{}\n{}\n{}",
        String::from_utf8(line).unwrap(),
        record.message,
        json["rule"],
        json["threat"],
        json["event"]["reason"],
        json["egresswatch"]["rules"],
    ));
    assert_eq!(bench.pipeline.totals().alerts, 1);
}

#[test]
fn a_flow_on_a_list_alerts_by_both() {
    let mut bench = bench(SENT);
    bench.report(report(FLAGGED, ReportReason::FirstPayload, 2, 517));
    assert_eq!(actions(&bench), [EventAction::RuleMatched, EventAction::FirstContact]);
}

#[test]
fn lists_are_suppressed_and_ignored_as_rules_are() {
    for (text, expected) in [
        ("[[suppress]]\nasn = 9808\n", 0),
        ("[[suppress]]\nasn = 9808\nlist = \"another\"\n", 1),
        ("[[suppress]]\nasn = 64500\n", 1),
        ("[[rule]]\nid = \"i\"\ntitle = \"I\"\naction = \"ignore\"\ncondition = 'destination.asn == 9808'\n", 0),
        ("[[maintenance]]\nfrom = 00:00:00\nto = 23:59:00\n", 0),
    ] {
        let mut bench = bench(text);
        bench.report(report(FLAGGED, ReportReason::FirstPayload, 2, 517));
        assert_eq!(actions(&bench).len(), expected, "{text}");
        let stats = bench.pipeline.rule_stats();
        assert_eq!(stats.suppressed + stats.ignored + stats.maintained, u64::from(expected == 0), "{text}");
        assert_eq!(bench.pipeline.totals().alerts, expected as u64, "{text}");
    }
}

#[test]
fn what_maintenance_held_back_is_told_at_the_end() {
    let mut bench = bench("[[maintenance]]\nfrom = 00:00:00\nto = 23:59:00\n");
    bench.report(report(FLAGGED, ReportReason::FirstPayload, 2, 517));
    bench.pipeline.finish(BootTime(5 * SECOND_NS), &mut bench.table, &mut bench.records);
    assert_eq!(actions(&bench), [EventAction::RuleSummary]);
}

/// A flow that sent and fell silent is told of when its time has come, and once.
#[test]
fn payload_to_an_address_without_a_name_is_told_without_another_report() {
    let public = [93, 184, 216, 34];
    let text = "[[rule]]\nid = \"n\"\ntitle = \"N\"\ncondition = \"true\"\nthreshold = { kind = \"nameless\", after = \"5s\" }\n";
    let mut bench = bench(text);
    bench.report(report(public, ReportReason::FirstPayload, 2, 517));
    for (second, alerts) in [(5, 0), (6, 1), (60, 1)] {
        bench.pipeline.tick(BootTime(second * SECOND_NS), &mut bench.table, &mut bench.records);
        assert_eq!(actions(&bench).len(), alerts, "at {second} s");
    }
    assert_eq!(bench.pipeline.next_due(), None);
}

fn replace(bench: &mut Bench, text: &str, outputs: &mut Vec<Arc<Record>>) {
    let lists = Lists::embedded().unwrap();
    let policy = policy::Config::default();
    bench.pipeline.replace_policy(lists, rules(text), Box::new(TwoOwners), &policy, Config::default(), outputs);
}

#[test]
fn another_policy_judges_the_open_flows_anew() {
    let mut bench = bench("");
    bench.report(report(UNFLAGGED, ReportReason::FirstPayload, 2, 517));
    assert_eq!(actions(&bench), []);
    let mut outputs = Vec::new();
    replace(&mut bench, SENT, &mut outputs);
    bench.records.append(&mut outputs);
    assert_eq!(actions(&bench), [EventAction::RuleMatched]);
    // The same again tells nothing twice.
    replace(&mut bench, SENT, &mut outputs);
    assert_eq!(outputs.len(), 0);
}

/// A container of the test's user, and what is below the host's root.
struct OfContainer {
    bench: Bench,
    _root: tempfile::TempDir,
    reader: Option<std::thread::JoinHandle<()>>,
}

impl OfContainer {
    fn new(text: &str) -> Self {
        let id = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
        let root = tempfile::tempdir().unwrap();
        let user = nix::unistd::geteuid().as_raw();
        let (store, above) = match user {
            0 => ("var/lib/containers/storage".to_owned(), "machine.slice".to_owned()),
            _ => (format!("run/user/{user}/containers"), format!("user.slice/user@{user}.service")),
        };
        let folder = root.path().join(store).join("overlay-containers");
        std::fs::create_dir_all(&folder).unwrap();
        let metadata = serde_json::json!({ "image-name": "localhost/shop/web:1.25", "name": "web" }).to_string();
        let list = serde_json::json!([{ "id": id, "metadata": metadata }]);
        std::fs::write(folder.join("containers.json"), list.to_string()).unwrap();
        let config = containers::Config {
            root: Some(root.path().to_owned()),
            wait: Duration::from_secs(20),
            ..containers::Config::default()
        };
        let (containers, reader) = Containers::new(&config, "/proc".into());
        let reader = std::thread::spawn(move || reader.run(|| ()));
        let mut bench = bench(text);
        bench.pipeline = bench.pipeline.with_containers(containers);
        let path = format!("/{above}/libpod-{id}.scope").into();
        let created = crate::event::CgroupCreated { cgroup_id: 1, hierarchy_id: 0, path, at: BootTime(1) };
        bench.pipeline.handle(Event::CgroupCreated(created), &mut bench.table, &mut bench.records);
        Self { bench, _root: root, reader: Some(reader) }
    }
}

impl Drop for OfContainer {
    fn drop(&mut self) {
        // The reader ends with the pipeline.
        self.bench.pipeline.describer.containers = None;
        self.reader.take().unwrap().join().unwrap();
    }
}

#[test]
fn the_first_report_of_a_containers_first_flow_is_judged_and_told_with_what_it_is() {
    let rule = "[[rule]]\nid = \"r\"\ntitle = \"R\"\n\
                condition = 'process.container.image.startsWith(\"localhost/shop/\") && process.container.name == \"web\"'\n";
    let mut of = OfContainer::new(rule);
    of.bench.report(report(UNFLAGGED, ReportReason::Attempt, 2, 0));
    assert_eq!(actions(&of.bench), [EventAction::RuleMatched]);
    let record = of.bench.records.first().cloned().unwrap();
    let container = record.container.as_ref().unwrap();
    assert_eq!((container.name.as_deref(), container.runtime.as_deref()), (Some("web"), Some("podman")));
    let image = container.image.as_ref().unwrap();
    assert_eq!((image.name.as_deref(), image.tag.as_slice()), (Some("localhost/shop/web"), &["1.25".to_owned()][..]));
    assert!(record.message.contains(", container web)"), "{}", record.message);
    assert_eq!(of.bench.pipeline.container_figures().described, 1);
}

#[test]
fn an_image_that_is_known_to_be_good_is_suppressed() {
    for (image, expected) in [("localhost/shop/web:1.25", 0), ("localhost/shop/web", 1)] {
        let mut of = OfContainer::new(&format!("[[suppress]]\nimage = \"{image}\"\n"));
        of.bench.report(report(FLAGGED, ReportReason::FirstPayload, 2, 517));
        assert_eq!(actions(&of.bench).len(), expected, "{image}");
    }
    // A user's word on a namespace suppresses nothing, and neither does an unknown one.
    let mut of = OfContainer::new("[[suppress]]\nnamespace = \"kube-system\"\n");
    of.bench.report(report(FLAGGED, ReportReason::FirstPayload, 2, 517));
    assert_eq!(actions(&of.bench).len(), 1);
}
