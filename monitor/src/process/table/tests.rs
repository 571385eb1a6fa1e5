//! Timelines over a `/proc` in a temporary directory, and one test on the real one.

use std::{
    fs,
    os::unix::fs::{MetadataExt, symlink},
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use super::*;
use crate::{
    event::Identity,
    process::{Account, Matching, PathQuality, Process},
};

mod live;
mod lost;
mod measure;
mod timeline;

const INIT: ProcessKey = key(1, 1);
const SHELL: ProcessKey = key(100, 5_000);
const CHILD: ProcessKey = key(200, 6_000);

const fn key(pid: u32, start_ticks: u64) -> ProcessKey {
    ProcessKey { pid, start_ticks }
}

/// A file that only the kernel side saw.
const fn file(inode: u64) -> FileId {
    FileId { device: 8 << 20 | 1, inode }
}

/// A time in the middle of a tick.
const fn at(tick: u64) -> BootTime {
    BootTime(tick * 10_000_000 + 5_000_000)
}

/// A host in a directory: `proc`, `cgroup`, `bin`, `passwd` and `group`.
struct Host {
    directory: TempDir,
}

impl Host {
    /// With init and a shell below it.
    fn new() -> Self {
        let host = Self { directory: tempfile::tempdir().expect("temporary directory") };
        for name in ["proc", "cgroup", "bin"] {
            fs::create_dir(host.path(name)).expect("directory");
        }
        fs::write(host.path("passwd"), "root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n")
            .expect("write");
        fs::write(host.path("group"), "root:x:0:\nstaff:x:50:alice\n").expect("write");
        host.runs(INIT, 0, "init", &["/sbin/init"]);
        host.runs(SHELL, 1, "sh", &["-sh"]);
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Makes `/proc` show a process; its executable is `bin/<name>`.
    fn runs(&self, key: ProcessKey, parent: u32, name: &str, arguments: &[&str]) {
        let process = self.path("proc").join(key.pid.to_string());
        fs::create_dir_all(&process).expect("directory");
        let executable = self.path("bin").join(name);
        if !executable.exists() {
            fs::write(&executable, name).expect("write");
        }
        let _ = fs::remove_file(process.join("exe"));
        symlink(executable, process.join("exe")).expect("link");
        let rest = "7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0";
        let stat = format!("{} ({name}) S {parent} {rest} {} 3133440 412\n", key.pid, key.start_ticks);
        fs::write(process.join("stat"), stat).expect("write");
        fs::write(process.join("cmdline"), arguments.join("\0") + "\0").expect("write");
    }

    fn ends(&self, key: ProcessKey) {
        fs::remove_dir_all(self.path("proc").join(key.pid.to_string())).expect("remove");
    }

    /// The file `bin/<name>` as the kernel numbers it on a file system where `stat` says another device.
    fn file(&self, name: &str) -> FileId {
        file(fs::metadata(self.path("bin").join(name)).expect("metadata").ino())
    }

    fn table_with(&self, config: &Config) -> Table {
        let roots = Roots {
            proc: self.path("proc"),
            cgroup: Some(self.path("cgroup")),
            passwd: self.path("passwd"),
            group: self.path("group"),
            machine_id: self.path("machine-id"),
        };
        let host = HostFacts {
            machine_id: Some("7f3c9b1e5a684d1f9e0b2c4d6f8a1b3c".into()),
            boot_id: None,
            own: SHELL,
            boot_wall_ns: 1_700_000_000_000_000_000,
        };
        Table::new(roots, host, config)
    }

    fn seeded(&self) -> Table {
        let mut table = self.table_with(&Config::default());
        table.seed().expect("seed");
        table
    }
}

fn identity(process: ProcessKey, executable: Option<FileId>) -> Identity {
    Identity {
        process,
        thread_id: process.pid,
        user_id: 1000,
        group_id: 50,
        effective_user_id: None,
        cgroup_id: 0,
        network_namespace_cookie: None,
        executable,
        comm: "task".into(),
    }
}

fn exec(process: ProcessKey, executable: FileId, path: &str) -> Exec {
    Exec {
        identity: identity(process, Some(executable)),
        parent_pid: Some(SHELL.pid),
        path: Some(path.into()),
        path_truncated: false,
        unlinked: false,
        arguments: vec![path.into(), "--flag".into()],
        arguments_truncated: false,
        at: at(process.start_ticks),
    }
}

fn fork(parent: ProcessKey, child: ProcessKey) -> Fork {
    Fork { parent, child, at: at(child.start_ticks) }
}

fn path_of(process: &Process) -> Option<(&Path, PathQuality)> {
    process.executable.as_ref().map(|executable| (executable.path.as_path(), executable.quality))
}

fn ancestor_names(process: &Process) -> Vec<&str> {
    process.ancestors.iter().map(|ancestor| ancestor.name.as_str()).collect()
}

#[test]
fn what_runs_already_is_seeded_with_its_lineage() {
    let host = Host::new();
    host.runs(CHILD, SHELL.pid, "curl", &["curl", "https://example.net"]);
    let mut table = host.table_with(&Config::default());
    assert_eq!(table.seed().expect("seed"), 3);
    let process = table.resolve(&identity(CHILD, Some(host.file("curl"))));
    assert_eq!(path_of(&process), Some((host.path("bin/curl").as_path(), PathQuality::Proc)));
    assert_eq!((process.name.as_str(), process.comm.as_str()), ("curl", "task"));
    assert_eq!(process.arguments, ["curl", "https://example.net"]);
    assert_eq!(process.matching, Matching::Start);
    assert_eq!(process.user, Account { id: 1000, name: Some("alice".into()) });
    assert_eq!(process.group, Account { id: 50, name: Some("staff".into()) });
    assert_eq!(process.start_wall_ns, Some(1_700_000_060_000_000_000));
    assert_eq!(ancestor_names(&process), ["sh", "init"]);
    let shell = table.resolve(&identity(SHELL, None));
    assert_eq!(process.ancestors[0].entity_id, shell.entity_id);
    assert_eq!(process.ancestors[0].executable, Some(host.path("bin/sh")));
    assert_eq!((process.is_own, shell.is_own), (false, true));
    // What the kernel says of the file is reported, not what `stat` says.
    assert_eq!(process.executable.as_ref().and_then(|executable| executable.file), Some(host.file("curl")));
}

#[test]
fn a_child_runs_its_parents_program_until_it_execs() {
    let host = Host::new();
    let mut table = host.seeded();
    table.fork(&fork(SHELL, CHILD));
    let process = table.resolve(&identity(CHILD, Some(host.file("sh"))));
    assert_eq!(path_of(&process), Some((host.path("bin/sh").as_path(), PathQuality::Inherited)));
    assert_eq!(process.arguments, ["-sh"]);
    assert_eq!(ancestor_names(&process), ["sh", "init"]);

    table.exec(&exec(CHILD, file(7), "/usr/bin/curl"));
    let process = table.resolve(&identity(CHILD, Some(file(7))));
    assert_eq!(path_of(&process), Some((Path::new("/usr/bin/curl"), PathQuality::Exec)));
    assert_eq!(process.arguments, ["/usr/bin/curl", "--flag"]);
    assert_eq!(ancestor_names(&process), ["sh", "init"]);
    let grandchild = key(300, 6_100);
    table.fork(&fork(CHILD, grandchild));
    let process = table.resolve(&identity(grandchild, Some(file(7))));
    assert_eq!(path_of(&process), Some((Path::new("/usr/bin/curl"), PathQuality::Inherited)));
    assert_eq!(ancestor_names(&process), ["curl", "sh", "init"]);
    assert_eq!(table.counters().stale_programs, 0);
}

#[test]
fn an_ancestor_is_what_it_was_when_it_forked() {
    let host = Host::new();
    let mut table = host.seeded();
    table.fork(&fork(SHELL, CHILD));
    table.exec(&Exec { parent_pid: Some(1), ..exec(SHELL, file(9), "/usr/bin/daemon") });
    let later = key(201, 6_001);
    table.fork(&fork(SHELL, later));
    assert_eq!(ancestor_names(&table.resolve(&identity(CHILD, None))), ["sh", "init"]);
    assert_eq!(ancestor_names(&table.resolve(&identity(later, None))), ["daemon", "init"]);
}

#[test]
fn a_reused_pid_is_another_process() {
    let host = Host::new();
    let mut table = host.seeded();
    let (first, second) = (key(200, 6_000), key(200, 7_000));
    table.exec(&exec(first, file(7), "/usr/bin/curl"));
    table.exit(first, at(6_500));
    table.exec(&exec(second, file(8), "/usr/bin/wget"));
    let (old, new) = (table.resolve(&identity(first, Some(file(7)))), table.resolve(&identity(second, Some(file(8)))));
    assert_eq!(path_of(&old), Some((Path::new("/usr/bin/curl"), PathQuality::Exec)));
    assert_eq!(path_of(&new), Some((Path::new("/usr/bin/wget"), PathQuality::Exec)));
    assert_ne!(old.entity_id, new.entity_id);
    // An exit that comes twice, or for the earlier process, does not end the one that runs.
    table.exit(first, at(7_500));
    assert_eq!(table.counters().ended, 1);
}

#[test]
fn a_report_from_before_an_exec_gets_the_earlier_program() {
    let host = Host::new();
    let mut table = host.seeded();
    table.fork(&fork(SHELL, CHILD));
    table.exec(&exec(CHILD, file(7), "/usr/bin/curl"));
    let process = table.resolve(&identity(CHILD, Some(host.file("sh"))));
    assert_eq!(path_of(&process), Some((host.path("bin/sh").as_path(), PathQuality::Inherited)));
    assert_eq!(process.arguments, ["-sh"]);
    let process = table.resolve(&identity(CHILD, Some(file(7))));
    assert_eq!(path_of(&process), Some((Path::new("/usr/bin/curl"), PathQuality::Exec)));
}

#[test]
fn ended_processes_are_kept_up_to_a_count() {
    let host = Host::new();
    let mut table = host.table_with(&Config { ended_processes: 3, executed_files: 0, ..Config::default() });
    table.seed().expect("seed");
    let keys: Vec<ProcessKey> = (0..5).map(|index| key(200 + index, 6_000 + u64::from(index))).collect();
    for key in &keys {
        table.exec(&exec(*key, file(7), "/usr/bin/curl"));
        table.exit(*key, at(8_000));
    }
    let known: Vec<bool> =
        keys.iter().map(|key| table.resolve(&identity(*key, Some(file(7)))).executable.is_some()).collect();
    assert_eq!(known, [false, false, true, true, true]);
    let counters = table.counters();
    assert_eq!((counters.running, counters.ended, counters.evicted), (2, 3, 2));
    assert_eq!((counters.unknown_executables, counters.proc_gone), (2, 2));
}

#[test]
fn beyond_the_ceiling_a_process_is_read_each_time_it_is_asked_for() {
    let host = Host::new();
    host.runs(CHILD, SHELL.pid, "curl", &["curl"]);
    let mut table = host.table_with(&Config { running_processes: 2, ..Config::default() });
    table.seed().expect("seed");
    let process = table.resolve(&identity(CHILD, Some(host.file("curl"))));
    assert_eq!(path_of(&process), Some((host.path("bin/curl").as_path(), PathQuality::Proc)));
    assert_eq!(ancestor_names(&process), ["sh", "init"]);
    assert_eq!((table.counters().running, table.counters().not_recorded), (2, 2));
    // A process whose end was missed makes room for one that runs.
    host.ends(SHELL);
    table.swept = None;
    table.resolve(&identity(CHILD, Some(host.file("curl"))));
    assert_eq!((table.counters().running, table.counters().ended), (2, 1));
}

#[test]
fn cgroup_unit_and_container_come_with_the_process() {
    let host = Host::new();
    let mut table = host.seeded();
    let path = format!("/system.slice/docker-{}.scope", "ab".repeat(32));
    table.cgroup_created(&CgroupCreated { cgroup_id: 77, hierarchy_id: 0, path: path.clone().into(), at: at(1) });
    let process = table.resolve(&Identity { cgroup_id: 77, ..identity(SHELL, None) });
    assert_eq!(process.cgroup.as_deref(), Some(path.as_str()));
    assert_eq!(process.unit, Some(format!("docker-{}.scope", "ab".repeat(32))));
    assert_eq!(process.container.as_ref().map(|container| container.id.as_str()), Some("ab".repeat(32).as_str()));
    // The process moved: the same thread, another cgroup.
    let process = table.resolve(&Identity { cgroup_id: 78, ..identity(SHELL, None) });
    assert_eq!((process.cgroup.as_deref(), process.unit.as_deref(), process.container.as_ref()), (None, None, None));
}

#[test]
fn the_same_answer_is_shared_until_something_changes() {
    let host = Host::new();
    let mut table = host.seeded();
    let base = identity(SHELL, None);
    let first = table.resolve(&base);
    assert!(Arc::ptr_eq(&first, &table.resolve(&Identity { network_namespace_cookie: Some(1), ..base.clone() })));
    for changed in [
        Identity { thread_id: 101, ..base.clone() },
        Identity { user_id: 0, ..base.clone() },
        Identity { group_id: 0, ..base.clone() },
        Identity { comm: "other".into(), ..base.clone() },
    ] {
        let process = table.resolve(&changed);
        assert_eq!(
            (process.thread_id, process.user.id, process.group.id, &process.comm),
            (changed.thread_id, changed.user_id, changed.group_id, &changed.comm)
        );
    }
    table.exec(&exec(SHELL, file(9), "/usr/bin/daemon"));
    assert_eq!(table.resolve(&base).name, "daemon");
}

#[test]
fn a_cycle_of_parents_ends() {
    let host = Host::new();
    host.runs(key(300, 6_000), 301, "a", &[]);
    host.runs(key(301, 6_000), 300, "b", &[]);
    host.runs(key(302, 6_000), 302, "c", &[]);
    let mut table = host.seeded();
    // Which of the two is the other's parent is undecidable; each is told once at most.
    for pid in [300, 301, 302] {
        assert!(table.resolve(&identity(key(pid, 6_000), None)).ancestors.len() <= 1, "{pid}");
    }
    assert_eq!(table.counters().running, 5);
}

#[test]
fn a_directory_that_is_missing_is_an_error_that_names_it() {
    let host = Host::new();
    fs::remove_dir_all(host.path("proc")).expect("remove");
    let error = host.table_with(&Config::default()).seed().expect_err("no processes");
    assert!(error.to_string().contains(&host.path("proc").display().to_string()), "{error}");
}

#[test]
fn unknown_keys_of_the_configuration_are_refused() {
    let config: Config = toml::from_str("ended_processes = 7").expect("known key");
    assert_eq!(config, Config { ended_processes: 7, ..Config::default() });
    let error = toml::from_str::<Config>("retain = 7").expect_err("unknown key");
    assert!(error.message().contains("`retain`"), "{error}");
}
