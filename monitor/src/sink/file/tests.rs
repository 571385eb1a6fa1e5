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
