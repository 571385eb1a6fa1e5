//! A file with a spool in front: rotated, moved, full, cut off.

use std::{fs, io::Read as _, path::Path};

use bytes::Bytes;

use super::{FileConfig, FileDelivery};
use crate::{
    alert::{Timestamp, record::Dataset},
    sink::delivery::{Delivered, Delivery as _, Failure, Item},
};

fn config(path: &Path, more: &str) -> FileConfig {
    toml::from_str(&format!("path = {path:?}\n{more}")).expect("good settings")
}

fn items(texts: &[&str]) -> Vec<Item> {
    let item = |text: &&str| Item {
        id: (*text).to_owned(),
        time: Timestamp::from_unix_ns(0),
        dataset: Dataset::Alert,
        severity: None,
        bytes: Bytes::copy_from_slice(text.as_bytes()),
    };
    texts.iter().map(item).collect()
}

fn deliver(file: &mut FileDelivery, texts: &[&str]) -> Result<Delivered, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(file.deliver(&items(texts)))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).expect("a file")
}

#[test]
fn a_file_that_is_large_enough_is_moved_aside_and_compressed() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("a.jsonl");
    let mut file = FileDelivery::open(&config(&path, "rotate_size = \"8B\"\nkeep = 2")).expect("a new file");
    for text in ["first-1", "second-2", "third-3", "fourth-4"] {
        deliver(&mut file, &[text]).expect("written");
    }
    assert_eq!(read(&path), "fourth-4\n");
    let unzip = |name: &str| {
        let mut text = String::new();
        let packed = fs::File::open(directory.path().join(name)).expect(name);
        flate2::read::GzDecoder::new(packed).read_to_string(&mut text).expect("gzip");
        text
    };
    assert_eq!((unzip("a.jsonl.1.gz"), unzip("a.jsonl.2.gz")), ("third-3\n".to_owned(), "second-2\n".to_owned()));
    let mut names: Vec<_> =
        fs::read_dir(directory.path()).expect("files").map(|file| file.expect("a file").file_name()).collect();
    names.sort();
    assert_eq!(names, ["a.jsonl", "a.jsonl.1.gz", "a.jsonl.2.gz"], "only so many are kept");
}

#[test]
fn a_file_that_is_old_enough_is_moved_aside_whole() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("a.jsonl");
    let settings = config(&path, "rotate_every = \"1ms\"\ncompress = false\nkeep = 1");
    let mut file = FileDelivery::open(&settings).expect("a new file");
    deliver(&mut file, &["one", "two"]).expect("written");
    let since = std::time::Instant::now();
    while since.elapsed().as_millis() < 2 {
        std::hint::spin_loop();
    }
    deliver(&mut file, &["three"]).expect("written");
    assert_eq!(
        (read(&path), read(&directory.path().join("a.jsonl.1"))),
        ("three\n".to_owned(), "one\ntwo\n".to_owned())
    );
}

#[test]
fn a_file_that_was_moved_is_opened_anew_with_and_without_a_word() {
    let directory = tempfile::tempdir().expect("a directory");
    let (path, moved) = (directory.path().join("a.jsonl"), directory.path().join("moved"));
    let mut file = FileDelivery::open(&config(&path, "")).expect("a new file");
    deliver(&mut file, &["one"]).expect("written");
    fs::rename(&path, &moved).expect("renamed");
    deliver(&mut file, &["two"]).expect("written");
    assert_eq!((read(&path), read(&moved)), ("two\n".to_owned(), "one\n".to_owned()));
    // A line that somebody cut off is ended.
    fs::write(&path, "{\"half").expect("written");
    crate::sink::delivery::Delivery::reopen(&mut file);
    deliver(&mut file, &["three"]).expect("written");
    assert_eq!(read(&path), "{\"half\nthree\n");
}

#[test]
fn a_batch_that_does_not_fit_is_not_in_the_file_and_fits_later() {
    let directory = tempfile::tempdir().expect("a directory");
    let flags = nix::mount::MsFlags::empty();
    match nix::mount::mount(Some("tmpfs"), directory.path(), Some("tmpfs"), flags, Some("size=64k")) {
        Ok(()) => {}
        Err(nix::errno::Errno::EPERM) if std::env::var_os("CI").is_none() => return,
        Err(error) => panic!("a small file system: {error}"),
    }
    let path = directory.path().join("a.jsonl");
    let mut file = FileDelivery::open(&config(&path, "")).expect("a new file");
    deliver(&mut file, &["one"]).expect("written");
    let filler = directory.path().join("filler");
    fs::write(&filler, vec![0; 32 << 10]).expect("written");
    let large = "x".repeat(40 << 10);
    let failure = deliver(&mut file, &["two", &large]).expect_err("no space");
    assert!(failure.reason.contains("No space left"), "{}", failure.reason);
    assert_eq!((failure.confirmed, read(&path)), (0, "one\n".to_owned()));
    fs::remove_file(&filler).expect("removed");
    deliver(&mut file, &["two", &large]).expect("written");
    let outcome = read(&path);
    nix::mount::umount2(directory.path(), nix::mount::MntFlags::MNT_DETACH).expect("unmounted");
    assert_eq!(outcome, format!("one\ntwo\n{large}\n"));
}

#[test]
fn a_file_that_cannot_be_opened_says_what_to_do() {
    let error = FileDelivery::open(&config(Path::new("/nowhere/a.jsonl"), "")).expect_err("no directory");
    assert!(error.to_string().ends_with("create its directory first: install -d -m 0750 /nowhere"), "{error}");
}

/// The names in `directory`, in order.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("files");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("a file").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// A directory in the place of a kept file stands for all that cannot be moved.
#[test]
fn a_rotation_that_fails_costs_no_file_and_no_record() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("a.jsonl");
    for number in 1..=3 {
        fs::write(directory.path().join(format!("a.jsonl.{number}")), format!("old {number}\n")).expect("written");
    }
    let settings = config(&path, "rotate_size = \"1B\"\ncompress = false\nkeep = 3");
    let mut file = FileDelivery::open(&settings).expect("a new file");
    deliver(&mut file, &["one"]).expect("written");
    assert_eq!(crate::sink::delivery::Delivery::trouble(&file), None);
    // Bind-mounted over itself it is written, but not moved.
    let flags = nix::mount::MsFlags::MS_BIND;
    match nix::mount::mount(Some(&path), &path, None::<&str>, flags, None::<&str>) {
        Ok(()) => {}
        Err(nix::errno::Errno::EPERM) if std::env::var_os("CI").is_none() => return,
        Err(error) => panic!("a bind mount: {error}"),
    }
    let outcomes: Vec<_> = ["two", "three", "four"].map(|text| deliver(&mut file, &[text])).into();
    let trouble = crate::sink::delivery::Delivery::trouble(&file).map(str::to_owned);
    let text = read(&path);
    nix::mount::umount2(&path, nix::mount::MntFlags::MNT_DETACH).expect("unmounted");
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert_eq!(text, "one\ntwo\nthree\nfour\n");
    assert!(trouble.is_some_and(|trouble| trouble.contains("cannot be rotated and grows")));
    assert_eq!(names(directory.path()), ["a.jsonl", "a.jsonl.1", "a.jsonl.2", "a.jsonl.3"]);
    assert_eq!(read(&directory.path().join("a.jsonl.3")), "old 3\n", "nothing was pushed out");
    let again = super::rotation::rotate(&path, 3, false);
    again.expect("nothing is in the way any more");
    assert_eq!(read(&directory.path().join("a.jsonl.3")), "old 2\n");
}

#[test]
fn a_rotation_that_a_crash_cut_off_is_finished_and_fewer_kept_files_are_fewer() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("a.jsonl");
    for (name, text) in [("", "new"), (".rotating", "cut off"), (".1.gz", "1"), (".2", "2"), (".3", "3"), (".5", "5")] {
        fs::write(directory.path().join(format!("a.jsonl{name}")), text).expect("written");
    }
    super::rotation::rotate(&path, 2, false).expect("rotated");
    let kept = ["a.jsonl.1", "a.jsonl.2"].map(|name| read(&directory.path().join(name)));
    assert_eq!(kept, ["new", "cut off"]);
    assert_eq!(names(directory.path()), ["a.jsonl.1", "a.jsonl.2"]);
}

#[test]
fn a_link_stays_and_what_it_leads_to_is_rotated() {
    let directory = tempfile::tempdir().expect("a directory");
    let (link, data) = (directory.path().join("a.jsonl"), directory.path().join("data"));
    fs::create_dir(&data).expect("a directory");
    std::os::unix::fs::symlink(data.join("real"), &link).expect("a link");
    let settings = config(&link, "rotate_size = \"1B\"\ncompress = false");
    let mut file = FileDelivery::open(&settings).expect("a new file");
    for text in ["one", "two"] {
        deliver(&mut file, &[text]).expect("written");
    }
    assert!(fs::symlink_metadata(&link).expect("a link").is_symlink());
    assert_eq!((read(&link), read(&data.join("real.1"))), ("two\n".to_owned(), "one\n".to_owned()));
    assert_eq!(
        (names(directory.path()), names(&data)),
        (vec!["a.jsonl".into(), "data".into()], vec!["real".into(), "real.1".into()])
    );
}

#[test]
fn what_keeps_nothing_is_no_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let pipe = directory.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    for (path, advice) in [(pipe.as_path(), "it is a pipe"), (Path::new("/dev/null"), "it is a device")] {
        let error = FileDelivery::open(&config(path, "")).expect_err("no file").to_string();
        assert!(error.contains(advice) && error.contains("type = \"stdout\""), "{error}");
    }
}
