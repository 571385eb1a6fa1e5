use std::os::unix::fs::symlink;

use proptest::prelude::*;

use super::*;

fn stat_line(comm: &str, state: char, parent: u32, start: u64) -> String {
    format!("7 ({comm}) {state} {parent} 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 {start} 3133440 412 184467\n")
}

/// Process 7 in a directory; its executable is a file beside it.
fn fixture() -> (tempfile::TempDir, ProcFs) {
    let directory = tempfile::tempdir().expect("temporary directory");
    let process = directory.path().join("7");
    fs::create_dir(&process).expect("directory");
    fs::write(directory.path().join("program"), "x").expect("write");
    symlink(directory.path().join("program"), process.join("exe")).expect("link");
    fs::write(process.join("stat"), stat_line("a) b (c\n", 'S', 1, 4242)).expect("write");
    fs::write(process.join("cmdline"), b"program\0--flag\0\0last\0").expect("write");
    let proc = ProcFs::new(directory.path().to_owned());
    (directory, proc)
}

#[test]
fn a_process_is_read_only_if_it_is_the_one_asked_for() {
    let (directory, proc) = fixture();
    for start in [None, Some(4242)] {
        let snapshot = proc.read(7, start).expect("snapshot");
        assert_eq!(
            snapshot.stat,
            Stat { comm: "a) b (c\n".into(), is_zombie: false, parent_pid: 1, start_ticks: 4242 }
        );
        assert_eq!(snapshot.arguments, ["program", "--flag", "", "last"]);
        let executable = snapshot.executable.expect("executable");
        assert_eq!(executable.path, directory.path().join("program"));
        assert_eq!((executable.quality, executable.unlinked), (PathQuality::Proc, false));
    }
    assert_eq!(proc.read(7, Some(4243)), Err(Miss::Reused));
    assert_eq!(proc.read(8, None), Err(Miss::Gone));
    fs::write(directory.path().join("7/stat"), stat_line("x", 'Z', 1, 4242)).expect("write");
    assert_eq!(proc.read(7, None), Err(Miss::Gone));
}

#[test]
fn a_file_is_compared_by_inode_alone() {
    let (directory, proc) = fixture();
    let snapshot = proc.read(7, None).expect("snapshot");
    let inode = fs::metadata(directory.path().join("program")).expect("metadata").ino();
    assert!(snapshot.runs(None));
    assert!(snapshot.runs(Some(FileId { device: 1, inode })));
    assert!(!Snapshot { on_overlay: false, ..snapshot.clone() }.runs(Some(FileId { device: 1, inode: inode + 1 })));
    assert!(Snapshot { on_overlay: true, ..snapshot.clone() }.runs(Some(FileId { device: 1, inode: inode + 1 })));
    assert!(!Snapshot { executable: None, ..snapshot }.runs(Some(FileId { device: 1, inode })));
}

#[test]
fn a_process_without_an_executable_is_read_without() {
    let (directory, proc) = fixture();
    fs::remove_file(directory.path().join("7/exe")).expect("remove");
    fs::write(directory.path().join("7/cmdline"), b"").expect("write");
    let snapshot = proc.read(7, None).expect("snapshot");
    assert_eq!((snapshot.executable, snapshot.arguments), (None, Vec::<String>::new()));
}

#[test]
fn a_deleted_file_is_told_from_a_name_that_says_so() {
    let (directory, proc) = fixture();
    let link = directory.path().join("7/exe");
    for (target, exists, path, unlinked) in [
        ("gone (deleted)", false, "gone", true),
        ("odd (deleted)", true, "odd (deleted)", false),
        ("odd (deleted) (deleted)", false, "odd (deleted)", true),
    ] {
        fs::remove_file(&link).expect("remove");
        let target = directory.path().join(target);
        if exists {
            fs::write(&target, "x").expect("write");
            // The process's root directory shows the file under its name.
            symlink("/", directory.path().join("7/root")).expect("link");
        }
        symlink(&target, &link).expect("link");
        let executable = proc.read(7, None).expect("snapshot").executable.expect("executable");
        assert_eq!((executable.path, executable.unlinked), (directory.path().join(path), unlinked));
    }
}

#[test]
fn a_path_that_is_not_text_is_kept() {
    let (directory, proc) = fixture();
    let name = OsString::from_vec(b"pro\xffgram".to_vec());
    fs::write(directory.path().join(&name), "x").expect("write");
    fs::remove_file(directory.path().join("7/exe")).expect("remove");
    symlink(directory.path().join(&name), directory.path().join("7/exe")).expect("link");
    let executable = proc.read(7, None).expect("snapshot").executable.expect("executable");
    assert_eq!(executable.path.file_name(), Some(name.as_os_str()));
}

#[test]
fn command_lines_are_split_and_bounded() {
    let long = vec![b'x'; ARGUMENT_BYTES + 1];
    let full = "x".repeat(ARGUMENT_BYTES);
    for (bytes, expected, truncated) in [
        (b"".as_slice(), vec![], false),
        (b"\0\0", vec![], false),
        (b"one", vec!["one"], false),
        (b"one\0two\0", vec!["one", "two"], false),
        (b"\0two\0", vec!["", "two"], false),
        (b"nginx: master\0\0\0\0", vec!["nginx: master"], false),
        (b"a\xff\0", vec!["a\u{fffd}"], false),
        (&long, vec![full.as_str()], true),
    ] {
        assert_eq!(parse_arguments(bytes), (expected.into_iter().map(str::to_owned).collect(), truncated));
    }
}

#[test]
fn pids_are_the_numbered_directories() {
    let (directory, proc) = fixture();
    fs::create_dir(directory.path().join("acpi")).expect("directory");
    fs::create_dir(directory.path().join("99999999999")).expect("directory");
    assert_eq!(proc.pids().expect("listing"), [7]);
}

#[test]
fn the_reader_finds_itself() {
    let proc = ProcFs::new("/proc".into());
    assert_eq!(proc.own_pid(), Some(std::process::id()));
    let snapshot = proc.read(std::process::id(), None).expect("snapshot");
    assert_eq!(snapshot.executable.map(|executable| executable.path), std::env::current_exe().ok());
}

proptest! {
    #[test]
    fn any_task_name_is_read_back(comm in any::<String>(), parent: u32, start: u64) {
        let stat = parse_stat(stat_line(&comm, 'R', parent, start).as_bytes());
        prop_assert_eq!(stat, Some(Stat { comm, is_zombie: false, parent_pid: parent, start_ticks: start }));
    }

    #[test]
    fn arbitrary_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..300), head in 0usize..80) {
        let _ = parse_stat(&bytes);
        let mut line = stat_line("x", 'S', 1, 2).into_bytes();
        line.truncate(head);
        line.extend(&bytes);
        let _ = parse_stat(&line);
        let (arguments, truncated) = parse_arguments(&bytes);
        prop_assert!(!truncated && arguments.len() <= bytes.len());
        prop_assert!(arguments.last().is_none_or(|last| !last.is_empty()));
    }
}
