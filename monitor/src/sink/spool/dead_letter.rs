//! Records that a receiver refuses for good, kept for people.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use serde::Serialize;

use crate::{alert::Timestamp, sink::delivery::Item};

/// Size from which on a dead-letter file is moved to `NAME.jsonl.1`, over the one before: each output keeps at most twice
/// that and one batch.
pub const DEAD_LETTER_BYTES: u64 = 16 << 20;

/// The dead-letter file of one output.
#[derive(Clone, Debug)]
pub(super) struct DeadLetter {
    path: PathBuf,
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
        Self { path: directory.join("dead-letter").join(format!("{output}.jsonl")) }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Appends what was refused, with the reasons, and waits until it is on the disk.
    pub(super) fn append(&self, refused: &[(Item, String)]) -> io::Result<()> {
        let mut bytes = Vec::new();
        for (item, reason) in refused {
            let record = String::from_utf8_lossy(&item.bytes).into_owned();
            serde_json::to_writer(&mut bytes, &Line { time: item.time, id: &item.id, reason, record })?;
            bytes.push(b'\n');
        }
        if let Some(directory) = self.path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        }
        if fs::metadata(&self.path).is_ok_and(|metadata| metadata.len() >= DEAD_LETTER_BYTES) {
            fs::rename(&self.path, self.path.with_extension("jsonl.1"))?;
        }
        let mut file = fs::File::options().append(true).create(true).mode(0o600).open(&self.path)?;
        file.write_all(&bytes)?;
        file.sync_data()
    }
}
