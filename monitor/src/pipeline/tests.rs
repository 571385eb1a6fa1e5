use std::{
    collections::HashMap,
    fs,
    net::IpAddr,
    process::{Command, Stdio},
    sync::mpsc,
    thread,
};

use bytes::Bytes;

use super::*;
use crate::{
    alert::{
        input::Host,
        record::{Dataset, EventAction},
    },
    event::{Capture, Direction, FlowCounters, FlowFacts, Identity, ProcessKey, Protocol, ReportReason},
    executables::{self, Executables, Gap},
    ownership::{CountryCode, Owner},
    process::{HostFacts, Roots},
};

/// China Mobile, which the embedded lists flag by its AS.
pub(super) const FLAGGED: [u8; 4] = [120, 232, 0, 1];
/// Another owner's.
const ALSO_FLAGGED: [u8; 4] = [202, 96, 128, 86];
pub(super) const UNFLAGGED: [u8; 4] = [192, 0, 2, 1];
pub(super) const SECOND_NS: u64 = 1_000_000_000;

/// A report on a flow that has just been asked for.
pub(super) fn flow(key: FlowKey) -> Flow {
    Flow {
        key,
        reason: ReportReason::Attempt,
        at: BootTime(SECOND_NS),
        connector: None,
        sender: None,
        local: None,
        translated: None,
        link: None,
        facts: FlowFacts { attempted: true, ..FlowFacts::default() },
        counters: FlowCounters::default(),
        first_at: BootTime(SECOND_NS),
        established_at: None,
        first_sent_at: None,
        last_at: BootTime(SECOND_NS),
    }
}

pub(super) fn report(remote: [u8; 4], reason: ReportReason, at_seconds: u64, sent_bytes: u64) -> Flow {
    let key = FlowKey { socket_cookie: 7, protocol: Protocol::Tcp, remote: (remote, 443).into() };
    let mut report = flow(key);
    report.reason = reason;
    report.at = BootTime(at_seconds * SECOND_NS);
    report.last_at = report.at;
    report.connector = Some(Arc::new(Identity {
        process: ProcessKey { pid: 4_000_000, start_ticks: 5 },
        thread_id: 4_000_000,
        user_id: 0,
        group_id: 0,
        effective_user_id: None,
        cgroup_id: 1,
        network_namespace_cookie: None,
        executable: None,
        comm: String::from("agent"),
    }));
    report.facts.sent = sent_bytes > 0;
    report.facts.closed = reason == ReportReason::Closed;
    report.counters.payload_out_bytes = sent_bytes;
    report
}

/// A flow table as the kernel would hold it.
#[derive(Default)]
pub(super) struct Entries(HashMap<FlowKey, Flow>);

impl FlowTable for Entries {
    fn read(&self, key: &FlowKey, at: BootTime) -> Option<Flow> {
        let mut flow = self.0.get(key)?.clone();
        flow.at = at;
        flow.reason = ReportReason::Read;
        Some(flow)
    }

    fn forget(&mut self, key: &FlowKey) {
        self.0.remove(key);
    }
}

pub(super) struct TwoOwners;

impl OwnerLookup for TwoOwners {
    fn lookup(&self, address: IpAddr) -> Owner {
        let known = [(FLAGGED, 9_808), (ALSO_FLAGGED, 4_134)];
        let Some((_, asn)) = known.into_iter().find(|(known, _)| address == IpAddr::from(*known)) else {
            return Owner::default();
        };
        Owner { asn: Some(asn), organisation: None, as_country: CountryCode::new("CN"), registered_country: None }
    }

    fn data_date(&self) -> jiff::civil::Date {
        jiff::civil::date(2026, 6, 17)
    }
}

pub(super) struct Bench {
    pub(super) pipeline: Pipeline,
    pub(super) table: Entries,
    pub(super) records: Vec<Arc<Record>>,
}

impl Bench {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let roots = Roots { machine_id: folder.path().join("machine-id"), ..Roots::default() };
        fs::write(&roots.machine_id, "0123456789abcdef0123456789abcdef\n").unwrap();
        let host = HostFacts::read(&roots).unwrap();
        let processes = ProcessTable::new(roots, host, &crate::process::Config::default());
        let config = Config { write: true, ..Config::default() };
        let records = Arc::new(RecordBuilder::new(String::from("run"), Host::default()));
        let clock = WallClock { boot_wall_ns: 0 };
        let lists = Lists::embedded().unwrap();
        let policy = policy::Config::default();
        let pipeline = Pipeline::new(config, processes, Box::new(TwoOwners), lists, &policy, records, clock);
        Self { pipeline, table: Entries::default(), records: Vec::new() }
    }

    fn handle(&mut self, event: Event) {
        self.pipeline.handle(event, &mut self.table, &mut self.records);
    }

    pub(super) fn report(&mut self, flow: Flow) {
        if flow.reason == ReportReason::Closed {
            self.table.0.remove(&flow.key);
        } else {
            self.table.0.insert(flow.key, flow.clone());
        }
        self.handle(Event::Flow(Box::new(flow)));
    }

    fn tick(&mut self, seconds: u64) {
        self.pipeline.tick(BootTime(seconds * SECOND_NS), &mut self.table, &mut self.records);
    }

    /// What was written: the action and the payload bytes sent.
    pub(super) fn written(&self, dataset: Dataset) -> Vec<(EventAction, u64)> {
        let bytes = |record: &Record| {
            record.egresswatch.flow.as_ref().and_then(|flow| flow.out.as_ref()).map_or(0, |out| out.payload_bytes)
        };
        let wanted = self.records.iter().filter(|record| record.event.dataset == dataset);
        wanted.map(|record| (record.event.action, bytes(record))).collect()
    }
}

#[test]
fn a_flagged_flow_alerts_at_its_first_payload_and_is_written_at_its_end() {
    let mut bench = Bench::new();
    bench.report(report(FLAGGED, ReportReason::Attempt, 1, 0));
    assert_eq!(bench.written(Dataset::Alert), [], "an attempt waits for what becomes of it");
    bench.report(report(FLAGGED, ReportReason::FirstPayload, 2, 517));
    assert_eq!(bench.written(Dataset::Alert), [(EventAction::FirstContact, 517)]);
    bench.report(report(FLAGGED, ReportReason::Closed, 3, 900));
    assert_eq!(bench.written(Dataset::Flow), [(EventAction::FlowEnded, 900)]);
    assert_eq!(bench.pipeline.totals(), Totals { flows: 1, ended_flows: 1, alerts: 1, ..Totals::default() });
}

/// The first bytes of the flow to `remote`, of a browser that asks for `host`.
fn request(remote: [u8; 4], host: &str) -> Event {
    capture(remote, &format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"))
}

fn capture(remote: [u8; 4], text: &str) -> Event {
    let data = Bytes::copy_from_slice(text.as_bytes());
    Event::Capture(Box::new(Capture {
        key: report(remote, ReportReason::Attempt, 0, 0).key,
        direction: Direction::Out,
        process: None,
        network_namespace_cookie: None,
        tcp_sequence: 1,
        payload_bytes: data.len() as u32,
        data,
        at: BootTime(2 * SECOND_NS),
    }))
}

impl Bench {
    /// The actions of the alerts with the keys that matched.
    fn alerts(&self) -> Vec<(EventAction, Vec<String>)> {
        let alerts = self.records.iter().filter(|record| record.event.dataset == Dataset::Alert);
        let keys = |record: &Record| record.egresswatch.matches.iter().map(|entry| entry.key.value.clone()).collect();
        alerts.map(|record| (record.event.action, keys(record))).collect()
    }
}

#[test]
fn a_flagged_name_at_an_unflagged_address_alerts_whenever_it_becomes_known() {
    for name_is_known_before in [true, false] {
        let mut bench = Bench::new();
        bench.report(report(UNFLAGGED, ReportReason::Attempt, 1, 0));
        if name_is_known_before {
            bench.handle(request(UNFLAGGED, "api.deepseek.com"));
        }
        bench.report(report(UNFLAGGED, ReportReason::FirstPayload, 2, 517));
        if !name_is_known_before {
            assert_eq!(bench.alerts(), []);
            bench.handle(request(UNFLAGGED, "api.deepseek.com"));
        }
        bench.report(report(UNFLAGGED, ReportReason::Closed, 3, 600));
        bench.tick(100);
        let alerts = bench.alerts();
        let first = (EventAction::FirstContact, vec!["deepseek.com".to_owned()]);
        assert_eq!(alerts.first(), Some(&first));
        assert!(alerts.iter().skip(1).all(|(action, _)| *action == EventAction::Rollup), "{alerts:?}");
        let record = bench.records.iter().find(|record| record.event.dataset == Dataset::Alert).unwrap();
        assert_eq!(record.destination.as_ref().and_then(|end| end.domain.as_deref()), Some("api.deepseek.com"));
        assert_eq!(record.url.as_ref().map(|url| url.domain.as_str()), Some("api.deepseek.com"));
    }
}

#[test]
fn a_flow_matched_by_address_and_by_name_is_one_contact() {
    let mut bench = Bench::new();
    bench.report(report(FLAGGED, ReportReason::Attempt, 1, 0));
    bench.handle(request(FLAGGED, "api.deepseek.com"));
    bench.report(report(FLAGGED, ReportReason::FirstPayload, 2, 517));
    let alerts = bench.alerts();
    assert_eq!(alerts.iter().map(|(action, _)| *action).collect::<Vec<_>>(), [EventAction::FirstContact]);
    for key in ["AS9808", "deepseek.com"] {
        assert!(alerts[0].1.iter().any(|found| found == key), "{key} in {alerts:?}");
    }
    // A name that comes later is told as what it adds, not as another first contact.
    let mut bench = Bench::new();
    bench.report(report(FLAGGED, ReportReason::FirstPayload, 2, 517));
    bench.handle(request(FLAGGED, "api.deepseek.com"));
    let actions: Vec<_> = bench.alerts().into_iter().map(|(action, _)| action).collect();
    assert_eq!(actions, [EventAction::FirstContact, EventAction::NewMatch]);
}

#[test]
fn the_destination_behind_a_proxy_is_what_counts() {
    let mut bench = Bench::new();
    bench.report(report(UNFLAGGED, ReportReason::Attempt, 1, 0));
    bench.handle(capture(UNFLAGGED, "CONNECT 120.232.0.1:443 HTTP/1.1\r\n\r\n"));
    bench.report(report(UNFLAGGED, ReportReason::FirstPayload, 2, 517));
    let record = bench.records.iter().find(|record| record.event.dataset == Dataset::Alert).unwrap();
    assert!(record.egresswatch.matches.iter().any(|entry| entry.key.value == "AS9808"));
    let proxied = record.egresswatch.proxied.as_ref().unwrap();
    assert_eq!(proxied.ip, Some(FLAGGED.into()));
    assert_eq!(proxied.owner.as_ref().and_then(|owner| owner.asn), Some(9808));
}

#[test]
fn names_end_with_their_flow() {
    let mut bench = Bench::new();
    bench.handle(request(UNFLAGGED, "a.example"));
    bench.report(report(UNFLAGGED, ReportReason::FirstPayload, 2, 517));
    bench.report(report(UNFLAGGED, ReportReason::Closed, 3, 517));
    let mut again = report(UNFLAGGED, ReportReason::FirstPayload, 12, 10);
    again.first_at = BootTime(11 * SECOND_NS);
    bench.report(again.clone());
    again.reason = ReportReason::Closed;
    again.at = BootTime(13 * SECOND_NS);
    bench.report(again);
    let names: Vec<_> = bench.records.iter().map(|record| record.egresswatch.names.len()).collect();
    assert_eq!(names, [1, 0]);
}

#[test]
fn an_unflagged_flow_is_written_and_never_alerts() {
    let mut bench = Bench::new();
    bench.report(report(UNFLAGGED, ReportReason::FirstPayload, 2, 517));
    bench.report(report(UNFLAGGED, ReportReason::Closed, 3, 517));
    bench.tick(100);
    assert_eq!(bench.written(Dataset::Alert), []);
    assert_eq!(bench.written(Dataset::Flow), [(EventAction::FlowEnded, 517)]);
}

#[test]
fn totals_of_a_flow_that_falls_silent_are_read_from_the_table() {
    let mut bench = Bench::new();
    bench.report(report(UNFLAGGED, ReportReason::FirstPayload, 2, 517));
    // The kernel side reported at the first byte; 100 more followed within its report interval, and then nothing.
    let key = report(UNFLAGGED, ReportReason::Attempt, 0, 0).key;
    bench.table.0.get_mut(&key).unwrap().counters.payload_out_bytes = 617;
    assert_eq!(bench.pipeline.next_due(), Some(BootTime(4 * SECOND_NS)));
    bench.tick(4);
    let live: Vec<_> = (bench.pipeline.live_keys().iter())
        .filter_map(|key| bench.pipeline.live_record(key, BootTime(4 * SECOND_NS), &Entries::default()))
        .collect();
    assert_eq!(live.len(), 1);
    let out = live[0].egresswatch.flow.as_ref().and_then(|flow| flow.out.as_ref()).map(|out| out.payload_bytes);
    assert_eq!(out, Some(617));
    bench.tick(6);
    assert_eq!(bench.pipeline.next_due(), None, "a silent flow is not read for ever");
}

#[test]
fn a_report_that_was_overtaken_changes_nothing() {
    let mut bench = Bench::new();
    bench.report(report(UNFLAGGED, ReportReason::Progress, 5, 500));
    bench.handle(Event::Flow(Box::new(report(UNFLAGGED, ReportReason::FirstPayload, 2, 10))));
    bench.report(report(UNFLAGGED, ReportReason::Closed, 6, 500));
    assert_eq!(bench.written(Dataset::Flow), [(EventAction::FlowEnded, 500)]);
}

#[test]
fn a_released_socket_ends_each_of_its_flows_with_the_tables_totals() {
    let mut bench = Bench::new();
    for last in 1..=3 {
        let mut datagrams = report([192, 0, 2, last], ReportReason::FirstPayload, 1, 10);
        datagrams.key.protocol = Protocol::Udp;
        bench.report(datagrams.clone());
        bench.table.0.get_mut(&datagrams.key).unwrap().counters.payload_out_bytes = u64::from(last) * 100;
    }
    bench.handle(Event::SocketReleased { socket_cookie: 7, at: BootTime(2 * SECOND_NS) });
    let mut ended = bench.written(Dataset::Flow);
    ended.sort_by_key(|(_, bytes)| *bytes);
    assert_eq!(ended, [100, 200, 300].map(|bytes| (EventAction::FlowEnded, bytes)));
    assert!(bench.table.0.is_empty(), "the kernel side was told to forget them");
}

#[test]
fn an_end_that_is_read_from_the_table_is_written_without_room_as_well() {
    let mut bench = Bench::new();
    bench.pipeline = bench.pipeline.with_flow_bounds(FlowBounds { live: 1, reserved: 0, beyond: 8 });
    bench.report(report(UNFLAGGED, ReportReason::FirstPayload, 1, 10));
    let mut left = report([192, 0, 2, 2], ReportReason::Read, 4, 2_000);
    left.facts.closed = true;
    bench.table.0.insert(left.key, left.clone());
    bench.pipeline.resync(vec![left], &mut bench.table, &mut bench.records);
    assert_eq!(bench.written(Dataset::Flow), [(EventAction::FlowEnded, 2_000)]);
    assert_eq!(bench.pipeline.totals(), Totals { flows: 2, ended_flows: 1, live_flows: 1, ..Totals::default() });
}

#[test]
fn a_walk_ends_the_flows_of_a_released_socket_that_are_not_kept_or_forgotten() {
    let mut bench = Bench::new();
    bench.pipeline = bench.pipeline.with_flow_bounds(FlowBounds { live: 2, reserved: 0, beyond: 3 });
    for last in 1..=9 {
        let mut datagrams = report([192, 0, 2, last], ReportReason::FirstPayload, 1, 10);
        datagrams.key.protocol = Protocol::Udp;
        bench.report(datagrams.clone());
        bench.table.0.get_mut(&datagrams.key).unwrap().counters.payload_out_bytes = u64::from(last) * 100;
    }
    assert_eq!((bench.pipeline.totals().live_flows, bench.pipeline.flows_beyond()), (2, 7));
    bench.handle(Event::SocketReleased { socket_cookie: 7, at: BootTime(2 * SECOND_NS) });
    assert_eq!(bench.written(Dataset::Flow).len(), 2, "those that were kept");
    let walk = bench.pipeline.begin_walk(BootTime(3 * SECOND_NS));
    let flows: Vec<Flow> = bench.table.0.values().cloned().collect();
    bench.pipeline.resync(flows, &mut bench.table, &mut bench.records);
    bench.pipeline.walked(&walk);
    let mut ended = bench.written(Dataset::Flow);
    ended.sort_by_key(|(_, bytes)| *bytes);
    assert_eq!(ended, [100, 200, 300, 400, 500, 600, 700, 800, 900].map(|bytes| (EventAction::FlowEnded, bytes)));
    assert!(bench.table.0.is_empty() && !bench.pipeline.has_flows_beyond());
}

#[test]
fn an_end_whose_report_found_no_room_is_read_from_the_table() {
    let mut bench = Bench::new();
    bench.report(report(FLAGGED, ReportReason::FirstPayload, 2, 517));
    let mut left = report(FLAGGED, ReportReason::Read, 4, 2_000);
    left.facts.closed = true;
    bench.table.0.insert(left.key, left.clone());
    bench.pipeline.resync(vec![left], &mut bench.table, &mut bench.records);
    assert_eq!(bench.written(Dataset::Flow), [(EventAction::FlowEnded, 2_000)]);
    assert!(bench.table.0.is_empty());
    assert_eq!(bench.pipeline.totals().live_flows, 0);
}

#[test]
fn reports_that_were_waiting_when_an_end_was_read_make_no_second_flow() {
    let mut bench = Bench::new();
    let mut left = report(FLAGGED, ReportReason::Read, 4, 2_000);
    left.facts.closed = true;
    bench.pipeline.resync(vec![left.clone(), left], &mut bench.table, &mut bench.records);
    bench.handle(Event::Flow(Box::new(report(FLAGGED, ReportReason::Attempt, 2, 0))));
    bench.handle(Event::Flow(Box::new(report(FLAGGED, ReportReason::Closed, 4, 2_000))));
    assert_eq!(bench.written(Dataset::Flow), [(EventAction::FlowEnded, 2_000)]);
    assert_eq!(bench.pipeline.totals(), Totals { flows: 1, ended_flows: 1, alerts: 1, ..Totals::default() });

    // The same socket may ask for the same destination again.
    let mut again = report(FLAGGED, ReportReason::Closed, 6, 10);
    again.first_at = BootTime(5 * SECOND_NS);
    bench.handle(Event::Flow(Box::new(again)));
    assert_eq!(bench.written(Dataset::Flow).len(), 2);
}

#[test]
fn an_entry_that_is_removed_after_its_last_report_makes_no_second_flow() {
    let mut bench = Bench::new();
    let last = report(FLAGGED, ReportReason::Closed, 4, 2_000);
    bench.report(last.clone());
    bench.pipeline.resync(vec![last], &mut bench.table, &mut bench.records);
    assert_eq!(bench.written(Dataset::Flow), [(EventAction::FlowEnded, 2_000)]);
}

#[test]
fn datagrams_end_by_silence_and_connections_do_not() {
    let mut bench = Bench::new();
    let mut datagrams = report(UNFLAGGED, ReportReason::FirstPayload, 1, 33);
    datagrams.key.protocol = Protocol::Udp;
    bench.report(datagrams);
    bench.report(report(UNFLAGGED, ReportReason::FirstPayload, 1, 44));
    bench.pipeline.sweep(BootTime(120 * SECOND_NS), &mut bench.table, &mut bench.records);
    assert_eq!(bench.written(Dataset::Flow), [], "not yet");
    bench.pipeline.sweep(BootTime(121 * SECOND_NS), &mut bench.table, &mut bench.records);
    assert_eq!(bench.written(Dataset::Flow), [(EventAction::FlowEnded, 33)]);
    assert_eq!(bench.pipeline.totals().live_flows, 1);
}

#[test]
fn a_full_table_is_told_once_and_not_kept() {
    let mut bench = Bench::new();
    let mut untracked = report(FLAGGED, ReportReason::Attempt, 1, 0);
    untracked.facts.untracked = true;
    bench.handle(Event::Flow(Box::new(untracked)));
    assert_eq!(bench.pipeline.totals().live_flows, 0);
    assert_eq!(bench.written(Dataset::Flow).len(), 1);
    bench.tick(10);
    assert_eq!(bench.written(Dataset::Alert).len(), 1, "all that can be told is that it was attempted");
}

#[test]
fn the_end_of_the_program_writes_what_is_open() {
    let mut bench = Bench::new();
    bench.report(report(FLAGGED, ReportReason::FirstPayload, 2, 517));
    bench.table.0.values_mut().for_each(|flow| flow.counters.payload_out_bytes = 800);
    bench.pipeline.finish(BootTime(3 * SECOND_NS), &mut bench.table, &mut bench.records);
    assert_eq!(bench.written(Dataset::Flow), [(EventAction::FlowProgress, 800)]);
    let alerts = bench.written(Dataset::Alert);
    assert_eq!(alerts.last().map(|(action, _)| *action), Some(EventAction::Rollup), "{alerts:?}");
}

/// The alert waits for the hash; when its time is up it goes without, and the hash follows it.
#[test]
fn an_alert_waits_a_moment_for_its_executable_and_is_followed_by_what_came_later() {
    let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
    let (executables, reader) = Executables::new(&executables::Config::default(), "/proc".into());
    let mut bench = Bench::new();
    bench.pipeline = bench.pipeline.with_executables(executables, Duration::from_millis(50));
    let mut flow = report(FLAGGED, ReportReason::FirstPayload, 2, 517);
    let start_ticks = crate::process::start_ticks("/proc".as_ref(), child.id()).unwrap();
    if let Some(connector) = &mut flow.connector {
        Arc::make_mut(connector).process = ProcessKey { pid: child.id(), start_ticks };
    }
    bench.report(flow.clone());
    assert_eq!(bench.written(Dataset::Alert), []);
    let due_at = BootTime(2 * SECOND_NS + 50_000_000);
    assert_eq!(bench.pipeline.held_due(), Some(due_at));
    bench.pipeline.tell_held(due_at, &mut bench.records);
    assert_eq!(bench.written(Dataset::Alert), [(EventAction::FirstContact, 517)]);
    let gap = |record: &Record| record.egresswatch.process.as_ref().and_then(|process| process.hash_gap);
    let alert = bench.records.first().cloned().unwrap();
    assert_eq!(gap(&alert), Some(Gap::Pending));
    // Another one would wait in vain as well.
    let mut next = flow;
    next.key.remote = (ALSO_FLAGGED, 443).into();
    bench.report(next);
    assert_eq!(bench.written(Dataset::Alert).len(), 2);

    let (sender, told) = mpsc::channel();
    let thread = thread::spawn(move || reader.run(|| sender.send(()).unwrap()));
    while bench.written(Dataset::Executable).is_empty() {
        told.recv_timeout(std::time::Duration::from_secs(20)).unwrap();
        bench.pipeline.tell_held(due_at, &mut bench.records);
    }
    let follower = bench.records.iter().find(|record| record.event.dataset == Dataset::Executable).cloned().unwrap();
    assert_eq!(follower.egresswatch.alert_id.as_ref(), Some(&alert.event.id));
    assert_eq!(gap(&follower), None);
    assert_eq!(follower.process.as_ref().map(|process| process.pid), Some(child.id()));

    assert_eq!(bench.pipeline.held_due(), None);
    drop(bench);
    child.kill().and_then(|()| child.wait()).unwrap();
    thread.join().unwrap();
}

#[test]
fn a_hint_is_read_from_the_table_and_an_end_alone_is_a_whole_flow() {
    let mut bench = Bench::new();
    let flow = report(UNFLAGGED, ReportReason::FirstPayload, 2, 10);
    let (key, reason, at) = (flow.key, ReportReason::FirstPayload, flow.at);
    bench.handle(Event::FlowHint { key, reason, at });
    assert_eq!(bench.pipeline.totals(), Totals::default(), "nothing is made up of a hint alone");
    bench.table.0.insert(key, flow.clone());
    bench.handle(Event::FlowHint { key, reason, at });
    assert_eq!(bench.pipeline.totals().live_flows, 1);
    bench.table.0.clear();
    bench.handle(Event::Flow(Box::new(report(UNFLAGGED, ReportReason::Closed, 3, 20))));
    let mut other = report(UNFLAGGED, ReportReason::Closed, 3, 20);
    other.key.socket_cookie += 1;
    bench.handle(Event::Flow(Box::new(other)));
    let totals = bench.pipeline.totals();
    assert_eq!((totals.flows, totals.ended_flows, totals.live_flows), (2, 2, 0));
    assert_eq!(bench.records.len(), 2);
}
