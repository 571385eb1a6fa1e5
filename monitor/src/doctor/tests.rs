use jiff::civil::date;

use super::{Facts, Obstacle, Report, State, TypeInformation, age_days};
use crate::kernel::system::System;

/// A host that gives everything.
fn whole_host() -> Facts {
    Facts {
        system: System {
            kernel_release: "6.12.48+deb13-amd64".to_owned(),
            machine: "x86_64".to_owned(),
            is_root: true,
            missing_capabilities: Vec::new(),
            cgroup_root: Some("/sys/fs/cgroup".into()),
            lockdown: Some("none".to_owned()),
        },
        cgroup_is_root: Some(true),
        types: Ok(TypeInformation::default()),
        in_host_pid_namespace: Some(true),
        bpf_statistics: Some(false),
        locked_memory_bytes: None,
        data_date: Ok(date(2026, 6, 17)),
        today: date(2026, 7, 1),
        daemon_answers: false,
    }
}

#[test]
fn a_whole_host_is_not_degraded() {
    let report = Report::new(&whole_host());
    assert_eq!((report.obstacle, report.rung, report.is_degraded()), (None, Some("sender"), false));
    assert!(report.probes.iter().all(|probe| probe.usable == (probe.rung != "fexit")));
    assert!(report.checks.iter().all(|check| check.advice.is_none()), "{:#?}", report.checks);
}

/// A name, what differs from a whole host, the check that must say so, and what follows.
type Case = (&'static str, fn(&mut Facts), State, Option<Obstacle>, Option<&'static str>);

#[test]
fn each_lack_is_said_with_what_to_do() {
    let cases: [Case; 13] = [
        (
            "kernel",
            |facts| facts.system.kernel_release = "5.4.0-1".into(),
            State::Blocking,
            Some(Obstacle::System),
            None,
        ),
        ("kernel", |facts| facts.system.kernel_release = "custom".into(), State::Note, None, Some("sender")),
        (
            "capabilities",
            |facts| facts.system.missing_capabilities = vec!["CAP_BPF", "CAP_SYS_PTRACE"],
            State::Blocking,
            Some(Obstacle::Privilege),
            None,
        ),
        (
            "other_users",
            |facts| facts.system.missing_capabilities = vec!["CAP_SYS_PTRACE"],
            State::Degraded,
            None,
            Some("sender"),
        ),
        ("cgroup", |facts| facts.system.cgroup_root = None, State::Blocking, Some(Obstacle::System), None),
        ("cgroup", |facts| facts.cgroup_is_root = Some(false), State::Degraded, None, Some("sender")),
        ("btf", |facts| facts.types = Err("no BTF".into()), State::Degraded, None, Some("base")),
        (
            "rung",
            |facts| {
                facts.types = Ok(TypeInformation {
                    missing_tracepoints: vec!["sock_send_length"],
                    missing_functions: vec!["inet_sendmsg"],
                    unknown_fields: vec![],
                });
            },
            State::Degraded,
            None,
            Some("base"),
        ),
        (
            "fields",
            |facts| {
                facts.types = Ok(TypeInformation { unknown_fields: vec!["a.b".into()], ..TypeInformation::default() });
            },
            State::Degraded,
            None,
            Some("sender"),
        ),
        (
            "lockdown",
            |facts| facts.system.lockdown = Some("confidentiality".into()),
            State::Degraded,
            None,
            Some("sender"),
        ),
        ("pid_namespace", |facts| facts.in_host_pid_namespace = Some(false), State::Degraded, None, Some("sender")),
        ("data", |facts| facts.today = date(2026, 9, 20), State::Note, None, Some("sender")),
        ("data", |facts| facts.today = date(2027, 1, 1), State::Degraded, None, Some("sender")),
    ];
    for (id, spoil, state, obstacle, rung) in cases {
        let mut facts = whole_host();
        spoil(&mut facts);
        let report = Report::new(&facts);
        let check = report.checks.iter().find(|check| check.id == id).unwrap_or_else(|| panic!("no check {id}"));
        assert_eq!((check.state, report.obstacle, report.rung), (state, obstacle, rung), "{check:#?}");
        assert!(check.advice.is_some(), "{check:#?} says nothing to do");
    }
}

#[test]
fn a_kernel_between_has_the_fexit_rung() {
    let mut facts = whole_host();
    facts.types = Ok(TypeInformation { missing_tracepoints: vec!["sock_send_length"], ..TypeInformation::default() });
    let report = Report::new(&facts);
    assert_eq!((report.rung, report.is_degraded()), (Some("fexit"), false));
    assert!(report.probes.iter().all(|probe| probe.usable == (probe.rung != "sender")));
}

#[test]
fn locked_memory_matters_only_where_maps_count_against_it() {
    let mut facts = whole_host();
    facts.locked_memory_bytes = Some(8 << 20);
    assert!(Report::new(&facts).checks.iter().all(|check| check.id != "locked_memory"));
    facts.system.kernel_release = "5.10.0-36-amd64".to_owned();
    assert!(Report::new(&facts).checks.iter().any(|check| check.id == "locked_memory"));
}

#[test]
fn ages_are_whole_days_and_never_negative() {
    assert_eq!(age_days(date(2026, 6, 17), date(2026, 11, 23)), 159);
    assert_eq!(age_days(date(2026, 6, 17), date(2026, 6, 16)), 0);
}
