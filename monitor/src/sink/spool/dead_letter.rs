//! Records that a receiver refuses for good, kept for people.

use std::{
    fs,
    io::{self, BufRead as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use serde::Serialize;

use crate::{
    alert::{Timestamp, record::Dataset},
    sink::delivery::Item,
};

/// Size from which on a dead-letter file is moved to the same name with `.1`, over the one before, whose records are then lost
/// and counted: each output has two of them, and keeps of each at most twice that and one batch.
pub const DEAD_LETTER_BYTES: u64 = 16 << 20;

/// The dead-letter files of one output: `NAME.jsonl` for alerts and what belongs to them, and `NAME.other.jsonl` for all else,
/// so that nothing pushes alerts out.
#[derive(Clone, Debug)]
pub(super) struct DeadLetter {
    alerts: PathBuf,
    others: PathBuf,
}

#[derive(Serialize)]
struct Line<'a> {
    #[serde(rename = "@timestamp")]
    time: Timestamp,
    id: &'a str,
    reason: &'a str,
    /// The record as it was sent.
    record: String,
}

impl DeadLetter {
    pub(super) fn new(directory: &Path, output: &str) -> Self {
        let directory = directory.join("dead-letter");
        Self {
            alerts: directory.join(format!("{output}.jsonl")),
            others: directory.join(format!("{output}.other.jsonl")),
        }
    }

    /// Where an item of this kind goes.
    pub(super) fn path(&self, dataset: Dataset) -> &Path {
        match dataset {
            Dataset::Alert | Dataset::Executable => &self.alerts,
            Dataset::Flow | Dataset::Loss | Dataset::Degradation | Dataset::Status => &self.others,
        }
    }

    /// Appends what was refused, with the reasons, and waits until it is on the disk. `pushed_out` grows by the records of
    /// which no file is left.
    pub(super) fn append(&self, refused: &[(Item, String)], pushed_out: &mut u64) -> io::Result<()> {
        for path in [&self.alerts, &self.others] {
            append(path, refused.iter().filter(|(item, _)| self.path(item.dataset) == path), pushed_out)?;
        }
        Ok(())
    }
}

fn append<'a>(path: &Path, refused: impl Iterator<Item = &'a (Item, String)>, pushed_out: &mut u64) -> io::Result<()> {
    let mut bytes = Vec::new();
    for (item, reason) in refused {
        let record = String::from_utf8_lossy(&item.bytes).into_owned();
        serde_json::to_writer(&mut bytes, &Line { time: item.time, id: &item.id, reason, record })?;
        bytes.push(b'\n');
    }
    if bytes.is_empty() {
        return Ok(());
    }
    if let Some(directory) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    if fs::metadata(path).is_ok_and(|metadata| metadata.len() >= DEAD_LETTER_BYTES) {
        let older = path.with_extension("jsonl.1");
        let lost = count_lines(&older)?;
        fs::rename(path, &older)?;
        *pushed_out += lost;
    }
    let mut file = fs::File::options().append(true).create(true).mode(0o600).open(path)?;
    file.write_all(&bytes)?;
    file.sync_data()
}

/// The lines of a file; none where there is none.
fn count_lines(path: &Path) -> io::Result<u64> {
    let mut file = match fs::File::open(path) {
        Ok(file) => io::BufReader::new(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    let (mut lines, mut line) = (0, Vec::new());
    while file.read_until(b'\n', &mut line)? > 0 {
        lines += 1;
        line.clear();
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn what_is_pushed_out_is_counted() {
        let directory = tempfile::tempdir().expect("a directory");
        let dead_letter = DeadLetter::new(directory.path(), "a");
        let item = |dataset| Item {
            id: "id".to_owned(),
            time: Timestamp::from_unix_ns(0),
            dataset,
            severity: None,
            bytes: Bytes::from(vec![b'x'; DEAD_LETTER_BYTES as usize / 2]),
        };
        let mut pushed_out = 0;
        let mut counts = Vec::new();
        for _ in 0..7 {
            let refused = [(item(Dataset::Alert), "too odd".to_owned())];
            dead_letter.append(&refused, &mut pushed_out).expect("written");
            counts.push(pushed_out);
        }
        assert_eq!(counts, [0, 0, 0, 0, 2, 2, 4]);
        dead_letter.append(&[(item(Dataset::Flow), "too odd".to_owned())], &mut pushed_out).expect("written");
        assert_eq!(pushed_out, 4, "files of their own");
    }
}
