//! Standard output with real pipes, FIFOs and files in its place.

use std::{
    fs,
    io::{self, PipeReader, Read as _, Write as _, pipe},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    thread,
    time::Duration,
};

use bytes::Bytes;
use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    sys::stat::Mode,
};

use super::{Delivered, Item, Stdout};
use crate::alert::{Timestamp, record::Dataset};

/// For a try that is to fail.
const SHORT: Duration = Duration::from_millis(150);
/// Far longer than anything here takes.
const LONG: Duration = Duration::from_mins(1);

fn item(number: usize, bytes: usize) -> Item {
    Item {
        id: format!("run-{number}"),
        time: Timestamp::from_unix_ns(0),
        dataset: Dataset::Status,
        severity: None,
        bytes: Bytes::from(format!("{number:04}").repeat(bytes / 4)),
    }
}

fn lines(items: &[Item]) -> String {
    items.iter().flat_map(|item| [String::from_utf8_lossy(&item.bytes), "\n".into()]).collect()
}

/// More than a pipe holds, whatever the size of a page is.
const BIG: usize = 4 << 20;

/// Reads what is there, as a reader that goes on living.
fn take(reader: &mut PipeReader) -> String {
    fcntl(&*reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    let mut text = Vec::new();
    let error = reader.read_to_end(&mut text).expect_err("the pipe has no end yet");
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    fcntl(&*reader, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
    String::from_utf8(text).unwrap()
}

#[tokio::test]
async fn a_batch_that_is_taken_is_confirmed() {
    let (mut reader, writer) = pipe().unwrap();
    let output = Stdout::over(writer.into());
    let batch: Vec<_> = (0..100).map(|number| item(number, 20_000)).collect();
    let expected = lines(&batch);
    let reading = thread::spawn(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        text
    });
    assert_eq!(output.write(&batch, LONG).await, Ok(Delivered::default()));
    drop(output);
    assert_eq!(reading.join().unwrap(), expected);
}

/// A pipe holds 16 pages. The rest of the line that did not fit follows when the reader goes on, and nothing comes twice.
#[tokio::test]
async fn a_slow_reader_gets_every_line_once_and_whole() {
    let (mut reader, writer) = pipe().unwrap();
    let output = Stdout::over(writer.into());
    let batch: Vec<_> = (0..12).map(|number| item(number, BIG / 10)).chain([item(99, 8)]).collect();
    let batch: Vec<_> = [item(98, 8)].into_iter().chain(batch).collect();
    let failure = output.write(&batch, SHORT).await.expect_err("a full pipe");
    let done = failure.confirmed;
    assert!(done > 0 && done < batch.len(), "{failure:?}");
    assert!(failure.reason.contains("took nothing"), "{failure}");
    // Still full: nothing more is confirmed, and nothing is torn.
    let again = output.write(&batch[done..], SHORT).await.expect_err("a full pipe");
    assert_eq!(again.confirmed, 0);
    let mut text = take(&mut reader);
    let reading = thread::spawn(move || {
        reader.read_to_string(&mut text).unwrap();
        text
    });
    assert_eq!(output.write(&batch[done..], LONG).await, Ok(Delivered::default()));
    drop(output);
    assert!(reading.join().unwrap() == lines(&batch), "a line is missing, torn or there twice");
}

/// Another output begins a line of its own, also where one was left in the middle of a line.
#[tokio::test]
async fn outputs_that_share_it_never_mix_their_lines() {
    let (mut reader, writer) = pipe().unwrap();
    let first = Stdout::over(writer.into());
    let second = Stdout::sharing(std::sync::Arc::clone(&first.lines));
    let big = [item(1, BIG)];
    assert_eq!(first.write(&big, SHORT).await.expect_err("a full pipe").confirmed, 0);
    let torn = take(&mut reader);
    let small = [item(1, 8)];
    assert_eq!(second.write(&small, LONG).await, Ok(Delivered::default()));
    assert_eq!(take(&mut reader), format!("\n{}", lines(&small)));
    let reading = thread::spawn(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        text
    });
    assert_eq!(first.write(&big, LONG).await, Ok(Delivered::default()));
    drop((first, second));
    assert!(reading.join().unwrap() == lines(&big), "not whole, after {} bytes of it", torn.len());
}

/// A FIFO whose reader goes and comes back, as with `mkfifo` and a restarted collector.
#[tokio::test]
async fn a_closed_pipe_is_a_failure_and_the_next_reader_gets_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fifo");
    nix::unistd::mkfifo(&path, Mode::from_bits_truncate(0o600)).unwrap();
    let open_reader = |path: &Path| {
        // Without a writer this would wait for one.
        fs::File::options().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path).unwrap()
    };
    let reader = open_reader(&path);
    let output = Stdout::over(fs::File::options().write(true).open(&path).unwrap().into());
    let batch: Vec<_> = (0..3).map(|number| item(number, 400)).collect();
    assert_eq!(output.write(&batch[..1], LONG).await, Ok(Delivered::default()));
    drop(reader);
    let failure = output.write(&batch[1..], LONG).await.expect_err("nobody reads");
    assert_eq!(failure.confirmed, 0);
    assert!(failure.reason.contains("nobody reads standard output"), "{failure}");
    let mut reader = open_reader(&path);
    assert_eq!(output.write(&batch[1..], LONG).await, Ok(Delivered::default()));
    drop(output);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert!(text.ends_with(&lines(&batch[1..])), "{text}");
}

#[tokio::test]
async fn in_a_file_lines_follow_what_is_there() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut writer = fs::File::options().append(true).open(file.path()).unwrap();
    writer.write_all(b"before\n").unwrap();
    let output = Stdout::over(writer.into());
    let batch = [item(1, 8), item(2, 8)];
    assert_eq!(output.write(&batch, LONG).await, Ok(Delivered::default()));
    assert_eq!(fs::read_to_string(file.path()).unwrap(), format!("before\n{}", lines(&batch)));
}

/// A device without room: the line is cut off, and goes on or is written again.
#[tokio::test]
async fn a_full_disk_is_a_failure() {
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let failure = Stdout::over(full.into()).write(&[item(1, 8)], LONG).await.expect_err("no room");
    assert!(failure.reason.contains("No space left on device"), "{failure}");
}

/// Whoever gives a delivery up must not be followed by a thread that writes on.
#[tokio::test]
async fn a_delivery_that_is_given_up_ends() {
    let (_reader, writer) = pipe().unwrap();
    let output = Stdout::over(writer.into());
    let batch = [item(1, BIG)];
    assert!(tokio::time::timeout(SHORT, output.write(&batch, LONG)).await.is_err());
    // The lock is free once the thread has ended.
    let lines = std::sync::Arc::clone(&output.lines);
    let ended = tokio::task::spawn_blocking(move || super::lock(&lines).cut.is_some());
    assert!(tokio::time::timeout(LONG / 6, ended).await.expect("it ends").unwrap());
}
