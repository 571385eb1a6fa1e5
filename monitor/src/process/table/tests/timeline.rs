//! Any order of events, complete or not, leaves the table consistent.

use proptest::prelude::*;

use super::*;

/// What may happen to one of a few pids, each of which is used for several processes.
#[derive(Clone, Debug)]
enum Step {
    Fork { parent: ProcessKey, child: ProcessKey },
    Exec { process: ProcessKey, inode: u64, parent: u32, with_path: bool },
    Exit { process: ProcessKey, tick: u64 },
    Resolve { process: ProcessKey, inode: Option<u64> },
    Seed,
}

fn process() -> impl Strategy<Value = ProcessKey> {
    // A start of 0 means that it is not known.
    (98u32..104, 0u64..4).prop_map(|(pid, start)| key(pid, start * 3_000))
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (process(), process()).prop_map(|(parent, child)| Step::Fork { parent, child }),
        4 => (process(), 1u64..4, 98u32..104, any::<bool>())
            .prop_map(|(process, inode, parent, with_path)| Step::Exec { process, inode, parent, with_path }),
        3 => (process(), 0u64..12_000).prop_map(|(process, tick)| Step::Exit { process, tick }),
        4 => (process(), proptest::option::of(1u64..4)).prop_map(|(process, inode)| Step::Resolve { process, inode }),
        1 => Just(Step::Seed),
    ]
}

fn check(table: &Table, config: &Config) -> Result<(), TestCaseError> {
    let running = table.processes.values().filter(|entry| entry.ended.is_none()).count();
    prop_assert_eq!(table.running, running);
    prop_assert!(running <= config.running_processes);
    prop_assert!(table.processes.len() - running <= config.ended_processes);
    for (pid, holder) in &table.by_pid {
        prop_assert_eq!(*pid, holder.pid);
        prop_assert!(table.processes.contains_key(holder));
    }
    for (key, entry) in &table.processes {
        // At most one process runs with a pid, and the pid leads to it.
        prop_assert!(entry.ended.is_some() || table.by_pid.get(&key.pid) == Some(key));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_table_stays_consistent(
        steps in proptest::collection::vec(step(), 0..80),
        running_processes in 0usize..8,
        ended_processes in 0usize..5,
    ) {
        let host = Host::new();
        let config = Config { running_processes, ended_processes, ..Config::default() };
        let mut table = host.table_with(&config);
        for (index, step) in steps.into_iter().enumerate() {
            let now = at(1_000 + 100 * index as u64);
            match step {
                Step::Fork { parent, child } => table.fork(&Fork { parent, child, at: now }),
                Step::Exec { process, inode, parent, with_path } => {
                    let path = with_path.then(|| PathBuf::from(format!("/bin/program-{inode}")));
                    let parent_pid = Some(parent);
                    table.exec(&Exec { path, parent_pid, at: now, ..exec(process, file(inode), "") });
                }
                Step::Exit { process, tick } => table.exit(process, at(tick)),
                Step::Seed => prop_assert!(table.seed().is_ok()),
                Step::Resolve { process, inode } => {
                    let described = table.resolve(&identity(process, inode.map(file)));
                    prop_assert_eq!(described.key.pid, process.pid);
                    prop_assert!(described.ancestors.len() <= 16);
                    prop_assert!(process.start_ticks == 0 || described.key == process);
                    // A path that an exec named is only ever given to a process that runs that file.
                    if let (Some(executable), Some(inode)) = (&described.executable, inode)
                        && executable.path.starts_with("/bin")
                    {
                        prop_assert_eq!(&executable.path, &PathBuf::from(format!("/bin/program-{inode}")));
                    }
                }
            }
            check(&table, &config)?;
        }
    }
}
