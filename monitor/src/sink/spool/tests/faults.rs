//! Daemons that are killed, disks that are full, databases that are damaged.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use super::rig::{Rig, Script, ids, notice, run};
use crate::sink::{
    delivery::BatchLimits,
    spool::{Condition, Config, ConfirmedLosses, DirectoryError, Spool},
};

/// Set for the child of the test below: the directory of its spool.
const CHILD: &str = "EGRESSWATCH_TEST_SPOOL";

/// Not a test of its own: the child that is killed. It says each id once that is on the disk.
#[test]
fn child_that_is_killed() {
    let Ok(directory) = std::env::var(CHILD) else { return };
    run(async {
        // Room for one: the next record finds room when the one before is on the disk.
        let rig = Rig::start_with_rooms(Path::new(&directory), &Config::default(), &["a"], 1, 1);
        let mut out = std::io::stderr();
        let mut before: Option<String> = None;
        for number in 0_u64.. {
            let mut record = notice();
            record.event.id = format!("{}-{number}", std::process::id());
            let id = rig.send(record).await;
            if let Some(before) = before.replace(id) {
                writeln!(out, "kept {before}").expect("the parent reads");
            }
        }
    });
}

#[test]
fn a_killed_daemon_loses_nothing_that_was_acknowledged() {
    if std::env::var_os(CHILD).is_some() {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let mut acknowledged = Vec::new();
    for round in 1..=8 {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["sink::spool::tests::faults::child_that_is_killed", "--exact", "--nocapture"])
            .env(CHILD, directory.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("a child");
        let lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        let mut count = 0;
        for line in lines {
            let line = line.expect("text");
            let Some(id) = line.strip_prefix("kept ") else { continue };
            acknowledged.push(id.to_owned());
            count += 1;
            // Killed in the midst of appending, each time elsewhere.
            if count == 20 + 7 * round {
                child.kill().expect("SIGKILL");
            }
        }
        child.wait().expect("it has ended");
        assert!(count >= 20, "{count}");
    }
    run(async {
        let rig = Rig::start(directory.path(), &Config::default(), &["a"]);
        let script = Script::default();
        rig.deliver("a", &script);
        script.wait_for(acknowledged.len()).await;
        rig.wait_for_depth("a", 0).await;
        let delivered = ids(&script);
        let mut rest = delivered.iter();
        for id in &acknowledged {
            assert!(rest.any(|other| other == id), "{id} is missing or out of order in {} records", delivered.len());
        }
        assert!(rig.notices().is_empty(), "{:?}", rig.notices());
        assert_eq!(rig.stop().await, 0);
    });
}

#[test]
fn a_damaged_database_is_put_aside_and_told() {
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 3] = [
        ("another file", |path| fs::write(path, "no database").expect("written")),
        ("cut short", |path| {
            let length = fs::metadata(path).expect("a file").len();
            fs::File::options().write(true).open(path).expect("a file").set_len(length / 2).expect("cut");
        }),
        ("overwritten pages", |path| {
            let mut bytes = fs::read(path).expect("a file");
            bytes[4_096..].fill(0xa5);
            fs::write(path, bytes).expect("written");
        }),
    ];
    for (name, damage) in damages {
        let directory = tempfile::tempdir().expect("a directory");
        run(async {
            let rig = Rig::start(directory.path(), &Config::default(), &["a"]);
            for _ in 0..50 {
                rig.send(notice()).await;
            }
            assert_eq!(rig.stop().await, 0);
        });
        damage(&directory.path().join("spool.redb"));
        run(async {
            let rig = Rig::start(directory.path(), &Config::default(), &["a"]);
            let script = Script::default();
            rig.deliver("a", &script);
            let id = rig.send(notice()).await;
            rig.wait_until(|| ids(&script).contains(&id)).await;
            let notices = rig.notices();
            assert!(notices.iter().any(|notice| notice.contains("PutAside")), "{name}: {notices:?}");
            assert_eq!(rig.stop().await, 0);
        });
        let names: Vec<_> = fs::read_dir(directory.path())
            .expect("a directory")
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        assert!(names.iter().any(|file| file.contains("damaged")), "{name}: {names:?}");
    }
}

#[test]
fn a_directory_belongs_to_one_daemon() {
    let directory = tempfile::tempdir().expect("a directory");
    run(async {
        let rig = Rig::start(directory.path(), &Config::default(), &["a"]);
        let config = Config { directory: directory.path().to_owned(), ..Config::default() };
        let second = Spool::start(&config, 1, 1, Vec::new(), std::sync::Arc::new(|_| notice()));
        assert!(matches!(second, Err(DirectoryError::InUse(_))), "{second:?}");
        assert_eq!(rig.stop().await, 0);
        let file = directory.path().join("file");
        fs::write(&file, "").expect("written");
        let config = Config { directory: file.join("spool"), ..Config::default() };
        let error =
            Spool::start(&config, 1, 1, Vec::new(), std::sync::Arc::new(|_| notice())).expect_err("no directory");
        assert!(error.to_string().contains("name one that the daemon may write in spool.directory"), "{error}");
    });
}

/// A file system of its own that is soon full. It needs root.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let directory = tempfile::tempdir().expect("a directory");
        let flags = nix::mount::MsFlags::empty();
        match nix::mount::mount(Some("tmpfs"), directory.path(), Some("tmpfs"), flags, Some("size=512k")) {
            Ok(()) => Some(Self(directory)),
            Err(nix::errno::Errno::EPERM) if std::env::var_os("CI").is_none() => None,
            Err(error) => panic!("a small file system: {error}"),
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(self.0.path(), nix::mount::MntFlags::MNT_DETACH);
    }
}

#[test]
fn a_full_disk_loses_nothing_and_recovers() {
    let Some(disk) = SmallDisk::mount() else { return };
    let filler = disk.0.path().join("filler");
    run(async {
        let rig = Rig::start(disk.0.path(), &Config::default(), &["fast", "slow"]);
        let fast = Script::default();
        rig.deliver("fast", &fast);
        let mut sent = vec![rig.send(notice()).await];
        fast.wait_for(1).await;
        // Somebody else fills the disk.
        let mut file = fs::File::create(&filler).expect("a file");
        while file.write_all(&[0; 4_096]).is_ok() {}
        for _ in 0..600 {
            sent.push(rig.send(notice()).await);
        }
        rig.wait_until(|| rig.notices().iter().any(|notice| notice.contains("Unwritable"))).await;
        // The output that keeps up goes on from memory.
        rig.wait_until(|| sent.iter().all(|id| ids(&fast).contains(id))).await;
        assert_eq!(rig.notices().len(), 1, "told once: {:?}", rig.notices());
        drop(file);
        fs::remove_file(&filler).expect("removed");
        let slow = Script::default();
        rig.deliver("slow", &slow);
        rig.wait_until(|| sent.iter().all(|id| ids(&slow).contains(id))).await;
        let in_order: Vec<_> = ids(&slow).into_iter().filter(|id| sent.contains(id)).collect();
        assert_eq!(in_order, sent);
        sent.push(rig.send(notice()).await);
        rig.wait_until(|| ids(&slow).last() == sent.last()).await;
        tokio::time::timeout(Duration::from_secs(30), rig.wait_for_depth("slow", 0)).await.expect("it recovers");
        assert_eq!(rig.stop().await, 0);
    });
}

/// Leaves three records of the output "a" in a spool.
fn backlog(directory: &Path) -> Vec<String> {
    let mut sent = Vec::new();
    run(async {
        let rig = Rig::start(directory, &Config::default(), &["a"]);
        for _ in 0..3 {
            sent.push(rig.send(notice()).await);
        }
        rig.wait_for_depth("a", 3).await;
        assert_eq!(rig.stop().await, 0);
    });
    sent
}

/// A directory in the place of the database stands for a disk that takes nothing at the start.
#[test]
fn outputs_are_fed_from_memory_until_the_database_can_be_opened() {
    for has_backlog in [false, true] {
        let directory = tempfile::tempdir().expect("a directory");
        let old = if has_backlog { backlog(directory.path()) } else { Vec::new() };
        let (database, hidden) = (directory.path().join("spool.redb"), directory.path().join("hidden"));
        if has_backlog {
            fs::rename(&database, &hidden).expect("renamed");
        }
        fs::create_dir(&database).expect("something else in its place");
        run(async {
            let rig = Rig::start(directory.path(), &Config::default(), &["a", "down"]);
            rig.wait_until(|| matches!(&rig.sender.conditions()[..], [Condition::Unwritable { .. }])).await;
            let script = Script::default();
            rig.deliver("a", &script);
            let mut sent = Vec::new();
            for _ in 0..5 {
                sent.push(rig.send(notice()).await);
            }
            rig.wait_until(|| sent.iter().all(|id| ids(&script).contains(id))).await;
            rig.wait_until(|| rig.figures("down").depth_records >= 5).await;
            rig.wait_for_depth("a", 0).await;
            // What is on its way when the database appears is confirmed, or delivered once more.
            fs::remove_dir(&database).expect("removed");
            if has_backlog {
                fs::rename(&hidden, &database).expect("renamed");
            }
            rig.wait_until(|| rig.sender.conditions().is_empty()).await;
            rig.wait_until(|| old.iter().all(|id| ids(&script).contains(id))).await;
            let down = Script::default();
            rig.deliver("down", &down);
            sent.push(rig.send(notice()).await);
            for script in [&script, &down] {
                rig.wait_until(|| ids(script).contains(&sent[5])).await;
                let all = ids(script);
                let kept: Vec<_> = all.iter().filter(|id| sent.contains(id)).cloned().collect();
                assert_eq!(kept, sent, "in order, and once");
            }
            for output in ["a", "down"] {
                rig.wait_for_depth(output, 0).await;
            }
            assert_eq!(rig.stop().await, 0);
        });
    }
}

/// What is on its way from memory when older records turn up comes again behind them, and sweeps none away.
#[test]
fn a_confirmation_from_memory_sweeps_no_older_record_away() {
    let directory = tempfile::tempdir().expect("a directory");
    let (database, hidden) = (directory.path().join("spool.redb"), directory.path().join("hidden"));
    let old = backlog(directory.path());
    fs::rename(&database, &hidden).expect("renamed");
    fs::create_dir(&database).expect("something else in its place");
    run(async {
        let rig = Rig::start(directory.path(), &Config::default(), &["a"]);
        rig.wait_until(|| !rig.sender.conditions().is_empty()).await;
        let limits = BatchLimits::default();
        let first = rig.send(notice()).await;
        let from_memory = rig.sender.read("a", 0, limits).await;
        let (number, _) = from_memory.iter().find(|(_, item)| item.id == first).expect("read from memory");
        fs::remove_dir(&database).expect("removed");
        fs::rename(&hidden, &database).expect("renamed");
        rig.wait_until(|| rig.sender.conditions().is_empty()).await;
        rig.sender.confirm("a", number + 1, ConfirmedLosses::default());
        let rest = rig.sender.read("a", number + 1, limits).await;
        let rest: Vec<_> = rest.into_iter().map(|(_, item)| item.id).collect();
        assert_eq!(rest[..3], old);
        assert!(rest[3..].contains(&first), "it comes again: {rest:?}");
        assert_eq!(rig.stop().await, 0);
    });
}

#[test]
fn what_does_not_work_is_present_as_long_as_it_lasts() {
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join("spool.redb"), "no database").expect("written");
    run(async {
        let rig = Rig::start(directory.path(), &Config::default(), &["gone", "kept"]);
        rig.wait_until(|| matches!(&rig.sender.conditions()[..], [Condition::PutAside { .. }])).await;
        let [Condition::PutAside { path, .. }] = &rig.sender.conditions()[..] else { panic!("a condition") };
        rig.send(notice()).await;
        rig.wait_until(|| rig.figures("gone").depth_records == 2).await;
        rig.set_outputs(&["kept"]);
        let unclaimed = Condition::Unclaimed { output: "gone".to_owned(), records: 2 };
        rig.wait_until(|| rig.sender.conditions().contains(&unclaimed)).await;
        fs::remove_file(path).expect("removed");
        rig.wait_until(|| rig.sender.conditions() == [unclaimed.clone()]).await;
        rig.set_outputs(&["gone", "kept"]);
        rig.wait_until(|| rig.sender.conditions().is_empty()).await;
        assert_eq!(rig.stop().await, 0);
    });
    // The last output goes as well.
    run(async {
        let rig = Rig::start(directory.path(), &Config::default(), &[]);
        rig.wait_until(|| rig.notices().iter().filter(|notice| notice.contains("Unclaimed")).count() == 2).await;
        assert_eq!(rig.stop().await, 0);
    });
}
