//! What the table says when the kernel's events are incomplete, come late, or carry no start times.

use super::*;

#[test]
fn a_process_without_events_is_read_while_it_runs() {
    let host = Host::new();
    let mut table = host.seeded();
    let parent = key(150, 5_500);
    host.runs(parent, SHELL.pid, "make", &["make"]);
    host.runs(CHILD, parent.pid, "curl", &["curl"]);
    let process = table.resolve(&identity(CHILD, Some(host.file("curl"))));
    assert_eq!(path_of(&process), Some((host.path("bin/curl").as_path(), PathQuality::Proc)));
    assert_eq!(ancestor_names(&process), ["make", "sh", "init"]);
    // The events of its start come after all, with the program it had first; its exit ends it.
    table.fork(&fork(parent, CHILD));
    assert_eq!(table.resolve(&identity(CHILD, Some(host.file("curl")))).name, "curl");
    table.exit(CHILD, at(9_000));
    assert_eq!((table.counters().running, table.counters().ended), (3, 1));
}

#[test]
fn a_pid_that_another_process_has_now_says_nothing() {
    let host = Host::new();
    let mut table = host.seeded();
    host.runs(key(CHILD.pid, CHILD.start_ticks + 1), SHELL.pid, "wget", &["wget"]);
    let process = table.resolve(&identity(CHILD, Some(file(7))));
    assert_eq!((process.executable.as_ref(), process.name.as_str()), (None, "task"));
    assert_eq!((process.matching, process.key), (Matching::Unknown, CHILD));
    assert!(process.arguments.is_empty() && process.ancestors.is_empty());
    let counters = table.counters();
    assert_eq!((counters.proc_reused, counters.unknown_executables, counters.running), (1, 1, 2));
}

#[test]
fn a_lost_exec_never_gives_the_stale_path() {
    let host = Host::new();
    let mut table = host.seeded();
    table.fork(&fork(SHELL, CHILD));
    // It runs: `/proc` tells.
    host.runs(CHILD, SHELL.pid, "curl", &["curl", "x"]);
    let process = table.resolve(&identity(CHILD, Some(host.file("curl"))));
    assert_eq!(path_of(&process), Some((host.path("bin/curl").as_path(), PathQuality::Proc)));
    assert_eq!(process.arguments, ["curl", "x"]);
    // It has gone: nothing tells, unless another process ran the same file.
    let gone = key(201, 6_001);
    table.fork(&fork(SHELL, gone));
    let process = table.resolve(&identity(gone, Some(file(7))));
    assert_eq!((path_of(&process), process.name.as_str()), (None, "task"));
    assert_eq!(process.matching, Matching::Start);
    assert_eq!(ancestor_names(&process), ["sh", "init"]);
    table.exec(&exec(key(202, 6_002), file(7), "/usr/bin/nc"));
    table.exit(gone, at(6_500));
    let late = Identity { thread_id: 1, ..identity(gone, Some(file(7))) };
    let process = table.resolve(&late);
    assert_eq!(path_of(&process), Some((Path::new("/usr/bin/nc"), PathQuality::SameFile)));
    assert!(process.arguments.is_empty());
    let counters = table.counters();
    assert_eq!((counters.stale_programs, counters.same_file, counters.unknown_executables), (3, 1, 1));
}

#[test]
fn a_report_that_overtakes_the_exec_is_answered_by_proc() {
    let host = Host::new();
    let mut table = host.seeded();
    table.fork(&fork(SHELL, CHILD));
    host.runs(CHILD, SHELL.pid, "curl", &["curl", "a long command line"]);
    let curl = host.file("curl");
    assert_eq!(
        table.resolve(&identity(CHILD, Some(curl))).executable.as_ref().map(|e| e.quality),
        Some(PathQuality::Proc)
    );
    table.exec(&exec(CHILD, curl, "/usr/bin/curl"));
    let process = table.resolve(&identity(CHILD, Some(curl)));
    assert_eq!(path_of(&process), Some((Path::new("/usr/bin/curl"), PathQuality::Exec)));
}

#[test]
fn events_of_an_earlier_process_with_the_pid_do_not_displace_the_one_that_runs() {
    let host = Host::new();
    let mut table = host.seeded();
    let (old, new) = (key(200, 6_000), key(200, 7_000));
    host.runs(new, SHELL.pid, "wget", &["wget"]);
    table.resolve(&identity(new, Some(host.file("wget"))));
    table.fork(&fork(SHELL, old));
    table.exec(&exec(old, file(7), "/usr/bin/curl"));
    table.exit(old, at(6_500));
    table.fork(&fork(SHELL, new));
    assert_eq!(table.running_with_pid(200), Some(new));
    assert_eq!((table.counters().running, table.counters().ended), (3, 1));
    assert_eq!(table.resolve(&identity(old, Some(file(7)))).name, "curl");
}

#[test]
fn a_lost_exit_is_made_up_for_by_the_next_process_or_the_next_seeding() {
    let host = Host::new();
    let mut table = host.seeded();
    table.exec(&exec(key(200, 6_000), file(7), "/usr/bin/curl"));
    table.exec(&exec(key(200, 7_000), file(7), "/usr/bin/curl"));
    assert_eq!((table.counters().running, table.counters().ended), (3, 1));
    host.runs(key(300, 8_000), 1, "cron", &["cron"]);
    assert_eq!(table.seed().expect("seed"), 3);
    assert_eq!(table.running_with_pid(300), Some(key(300, 8_000)));
    assert_eq!((table.running_with_pid(200), table.counters().ended), (None, 2));
}

#[test]
fn a_process_that_runs_after_all_needs_room_like_a_new_one() {
    let host = Host::new();
    let mut table = host.table_with(&Config { running_processes: 1, ..Config::default() });
    table.exec(&Exec { parent_pid: None, ..exec(CHILD, file(7), "/usr/bin/curl") });
    table.exit(CHILD, at(6_500));
    table.resolve(&identity(INIT, None));
    table.exec(&exec(CHILD, file(8), "/usr/bin/wget"));
    assert_eq!((table.counters().running, table.counters().ended), (1, 1));
    assert_eq!(table.resolve(&identity(CHILD, Some(file(8)))).name, "wget");
    table.exit(INIT, at(7_000));
    table.exec(&exec(CHILD, file(9), "/usr/bin/nc"));
    assert_eq!(table.running_with_pid(CHILD.pid), Some(CHILD));
}

#[test]
fn a_fork_by_an_unknown_parent_reads_it_or_leaves_the_lineage_open() {
    let host = Host::new();
    let mut table = host.seeded();
    let parent = key(150, 5_500);
    host.runs(parent, SHELL.pid, "make", &["make"]);
    table.fork(&fork(parent, CHILD));
    let process = table.resolve(&identity(CHILD, Some(host.file("make"))));
    assert_eq!(path_of(&process), Some((host.path("bin/make").as_path(), PathQuality::Inherited)));
    assert_eq!(ancestor_names(&process), ["make", "sh", "init"]);
    let orphan = key(201, 6_001);
    table.fork(&fork(key(151, 5_501), orphan));
    let process = table.resolve(&identity(orphan, None));
    assert_eq!((path_of(&process), process.ancestors.len()), (None, 0));
}

/// Without the kernel's layout records have no start, no file and no path.
mod without_layout {
    use super::*;

    const fn bare(pid: u32) -> ProcessKey {
        key(pid, 0)
    }

    fn bare_exec(pid: u32, tick: u64) -> Exec {
        Exec {
            identity: identity(bare(pid), None),
            path: None,
            arguments: Vec::new(),
            at: at(tick),
            ..exec(bare(pid), file(1), "")
        }
    }

    #[test]
    fn a_process_is_matched_by_pid_and_that_is_said() {
        let host = Host::new();
        let mut table = host.seeded();
        let process = table.resolve(&identity(bare(SHELL.pid), None));
        assert_eq!((process.matching, process.key, process.is_own), (Matching::PidOnly, SHELL, true));
        assert_eq!(path_of(&process), Some((host.path("bin/sh").as_path(), PathQuality::Proc)));
        let process = table.resolve(&identity(bare(999), None));
        assert_eq!((process.matching, process.start_wall_ns), (Matching::Unknown, None));
    }

    #[test]
    fn forks_give_processes_of_one_pid_ids_of_their_own() {
        let host = Host::new();
        let mut table = host.seeded();
        let mut ids = Vec::new();
        for tick in [6_000, 7_000] {
            table.fork(&Fork { parent: bare(SHELL.pid), child: bare(200), at: at(tick) });
            host.runs(key(200, tick), SHELL.pid, "curl", &["curl"]);
            table.exec(&bare_exec(200, tick + 1));
            let process = table.resolve(&identity(bare(200), None));
            assert_eq!(path_of(&process), Some((host.path("bin/curl").as_path(), PathQuality::Proc)));
            assert_eq!(process.arguments, ["curl"]);
            assert_eq!((process.matching, process.key), (Matching::PidOnly, key(200, tick)));
            ids.push(process.entity_id.clone());
            host.ends(key(200, tick));
            table.exit(bare(200), at(tick + 10));
            // A report after the end still means the last process with the pid.
            assert_eq!(table.resolve(&identity(bare(200), None)).key, key(200, tick));
        }
        assert_ne!(ids[0], ids[1]);
        assert_eq!((table.counters().running, table.counters().ended), (2, 2));
    }

    #[test]
    fn an_ended_process_gives_way_to_the_one_that_has_its_pid_now() {
        let host = Host::new();
        let mut table = host.seeded();
        table.exit(bare(SHELL.pid), at(6_000));
        host.runs(key(SHELL.pid, 9_000), 1, "wget", &["wget"]);
        let process = table.resolve(&identity(bare(SHELL.pid), None));
        assert_eq!((process.name.as_str(), process.key.start_ticks), ("wget", 9_000));
    }

    #[test]
    fn an_exit_from_before_the_start_is_another_process_s() {
        let host = Host::new();
        let mut table = host.seeded();
        table.exit(bare(SHELL.pid), at(SHELL.start_ticks - 1));
        assert_eq!(table.counters().ended, 0);
    }

    #[test]
    fn an_exec_that_is_over_leaves_the_program_unknown() {
        let host = Host::new();
        let mut table = host.seeded();
        table.exec(&bare_exec(200, 6_000));
        let process = table.resolve(&identity(bare(200), None));
        assert_eq!((path_of(&process), process.name.as_str()), (None, "task"));
        assert_eq!(ancestor_names(&process), ["sh", "init"]);
    }
}
