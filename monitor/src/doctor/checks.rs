//! The checks: facts in, findings and advice out.

use super::{Check, Facts, Obstacle, State, age_days};
use crate::{
    kernel::{btf, probes::Rung},
    units::ByteSize,
};

/// Oldest kernel that has every hook of the base rung and lets them use socket storage.
const KERNEL_MIN: (u32, u32) = (5, 10);
/// First kernel that charges maps to the memory cgroup and not to `RLIMIT_MEMLOCK`.
const KERNEL_WITHOUT_MEMLOCK: (u32, u32) = (5, 11);
/// Roughly what maps and programs take with default settings.
const LOCKED_MEMORY_NEEDED_BYTES: u64 = 128 << 20;
/// Age in days from which ownership data is worth a note.
const DATA_NOTE_DAYS: i64 = 90;
/// Age in days from which enough networks have changed hands to call the data degraded.
const DATA_DEGRADED_DAYS: i64 = 180;

/// What keeps the monitor from running; the system comes before the privilege, which alone would not help.
pub(super) fn obstacle(facts: &Facts) -> Option<Obstacle> {
    let blocks = |check: Check| check.state == State::Blocking;
    if blocks(kernel(facts)) || blocks(cgroup(facts)) {
        return Some(Obstacle::System);
    }
    blocks(capabilities(facts)).then_some(Obstacle::Privilege)
}

/// Every check that has something to say about this host, the decisive ones first.
pub(super) fn all(facts: &Facts) -> Vec<Check> {
    let always =
        [kernel(facts), capabilities(facts), cgroup(facts), types(facts), rung(facts), data(facts), daemon(facts)];
    let sometimes = [
        fields(facts),
        lockdown(facts),
        pid_namespace(facts),
        other_users(facts),
        locked_memory(facts),
        statistics(facts),
    ];
    always.into_iter().chain(sometimes.into_iter().flatten()).collect()
}

impl Check {
    fn new(id: &'static str, title: &'static str, state: State, finding: impl Into<String>) -> Self {
        Self { id, title, state, finding: finding.into(), advice: None }
    }

    fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }
}

fn kernel(facts: &Facts) -> Check {
    let check = |state, finding| Check::new("kernel", "kernel", state, finding);
    let release = &facts.system.kernel_release;
    let (major, minor) = KERNEL_MIN;
    match facts.kernel_version() {
        Some(version) if version >= KERNEL_MIN => check(State::Good, format!("Linux {release}")),
        Some(_) => check(State::Blocking, format!("Linux {release} is too old"))
            .advise(format!("use Linux {major}.{minor} or later")),
        None => check(State::Note, format!("the release {release:?} has no number"))
            .advise(format!("make sure that the kernel has the features of Linux {major}.{minor}")),
    }
}

fn capabilities(facts: &Facts) -> Check {
    let check = |state, finding| Check::new("capabilities", "capabilities", state, finding);
    let missing = facts.system.missing_vital_capabilities();
    if missing.is_empty() {
        return check(State::Good, "CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN".to_owned());
    }
    check(State::Blocking, format!("missing: {}", missing.join(", ")))
        .advise("run with sudo, or grant these capabilities as deploy/systemd does")
}

fn cgroup(facts: &Facts) -> Check {
    let check = |state, finding| Check::new("cgroup", "cgroup v2", state, finding);
    let Some(path) = &facts.system.cgroup_root else {
        return check(State::Blocking, "no cgroup v2 hierarchy is mounted".to_owned()).advise(
            "mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 none /sys/fs/cgroup/unified, or boot with \
             systemd.unified_cgroup_hierarchy=1",
        );
    };
    let path = path.display();
    if facts.cgroup_is_root == Some(true) {
        return check(State::Good, path.to_string());
    }
    check(State::Degraded, format!("{path} is not the root: only processes below it are seen"))
        .advise("mount the host's /sys/fs/cgroup into this container, or set kernel.cgroup")
}

fn types(facts: &Facts) -> Check {
    let check = |state, finding| Check::new("btf", "type information", state, finding);
    match &facts.types {
        Ok(_) => check(State::Good, btf::VMLINUX.to_owned()),
        Err(error) => check(State::Degraded, error.clone()).advise(
            "use a kernel built with CONFIG_DEBUG_INFO_BTF=y: without it the executable of a process that lives a \
             millisecond stays unknown",
        ),
    }
}

fn rung(facts: &Facts) -> Check {
    let check = |state, finding: &str| Check::new("rung", "rung", state, finding);
    match facts.rung() {
        Rung::Sender => return check(State::Good, "sender: bytes count for the process that sends them"),
        Rung::Fexit => return check(State::Good, "fexit: bytes count for the process that sends them"),
        Rung::Base => {}
    }
    let base = check(State::Degraded, "base: bytes count for the process that connected");
    match &facts.types {
        Ok(types) => base.advise(format!(
            "Linux 6.3 and later have {}, which tell who sends on an inherited socket; before that it takes {}",
            types.missing_tracepoints.join(" and "),
            types.missing_functions.join(" and ")
        )),
        Err(_) => base.advise("the rungs above it need type information"),
    }
}

fn data(facts: &Facts) -> Check {
    let check = |state, finding| Check::new("data", "ownership data", state, finding);
    let date = match &facts.data_date {
        Ok(date) => *date,
        Err(error) => return check(State::Degraded, error.clone()).advise("see `egresswatch data info`"),
    };
    let days = age_days(date, facts.today);
    let finding = format!("of {date}, {days} days old");
    match days {
        ..DATA_NOTE_DAYS => check(State::Good, finding),
        DATA_NOTE_DAYS..DATA_DEGRADED_DAYS => check(State::Note, finding)
            .advise(
            "networks change hands: `egresswatch data import` takes in younger data, and a newer release brings some",
        ),
        _ => check(State::Degraded, finding)
            .advise(
            "some networks have changed hands since: take in younger data with `egresswatch data import`, or install a newer \
             release",
        ),
    }
}

fn daemon(facts: &Facts) -> Check {
    let finding = if facts.daemon_answers { "running" } else { "not running, or its socket is not ours to use" };
    Check::new("daemon", "daemon", State::Note, finding)
}

fn lockdown(facts: &Facts) -> Option<Check> {
    let mode = facts.system.lockdown.as_deref()?;
    if mode != "confidentiality" {
        return Some(Check::new("lockdown", "lockdown", State::Good, mode));
    }
    let finding = "confidentiality: the kernel forbids programs to read its memory";
    let check = Check::new("lockdown", "lockdown", State::Degraded, finding);
    Some(check.advise("boot with lockdown=integrity; until then tracepoint programs may be refused"))
}

fn fields(facts: &Facts) -> Option<Check> {
    let unknown = &facts.types.as_ref().ok()?.unknown_fields;
    (!unknown.is_empty()).then(|| {
        Check::new("fields", "kernel layout", State::Degraded, format!("not found: {}", unknown.join(", ")))
            .advise("report the kernel release: its layout is new to EgressWatch")
    })
}

fn pid_namespace(facts: &Facts) -> Option<Check> {
    let check = |state, finding: &str| Check::new("pid_namespace", "pid namespace", state, finding);
    if facts.in_host_pid_namespace? {
        return Some(check(State::Good, "the host's"));
    }
    let container = check(State::Degraded, "a container's: /proc shows other pids than the kernel reports");
    Some(container.advise("run in the host's pid namespace (hostPID: true, --pid=host)"))
}

fn other_users(facts: &Facts) -> Option<Check> {
    let vital = facts.system.missing_vital_capabilities();
    let missing = facts.system.missing_capabilities.iter().copied();
    let missing: Vec<_> = missing.filter(|name| !vital.contains(name)).collect();
    (!missing.is_empty()).then(|| {
        Check::new("other_users", "other users' processes", State::Degraded, format!("missing: {}", missing.join(", ")))
            .advise("grant them to see the executables of processes that are older than the monitor")
    })
}

fn locked_memory(facts: &Facts) -> Option<Check> {
    let limit = facts.locked_memory_bytes.filter(|limit| *limit < LOCKED_MEMORY_NEEDED_BYTES)?;
    facts.kernel_version().is_some_and(|version| version < KERNEL_WITHOUT_MEMLOCK).then(|| {
        let finding = format!("RLIMIT_MEMLOCK is {}, and before Linux 5.11 maps count", ByteSize::from_bytes(limit));
        Check::new("locked_memory", "locked memory", State::Degraded, finding)
            .advise("ulimit -l unlimited, or LimitMEMLOCK=infinity in the unit")
    })
}

fn statistics(facts: &Facts) -> Option<Check> {
    facts.bpf_statistics?.then(|| {
        Check::new("statistics", "BPF statistics", State::Note, "on: each program run costs two clock reads more")
            .advise("sysctl kernel.bpf_stats_enabled=0, unless you measure")
    })
}
