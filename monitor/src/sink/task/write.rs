//! A batch of encoded records, and one attempt to write it.

use std::io;

use super::Transport;
use crate::{alert::Record, sink::Encoding};

/// Encoded records on their way out. Which bytes are written is known exactly, so that a write that fails in the middle
/// of a record neither loses nor repeats a byte.
#[derive(Debug, Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    /// Where each record ends.
    ends: Vec<usize>,
    /// Bytes written.
    written: usize,
}

impl Batch {
    /// Appends a record; on an error nothing of it.
    pub(super) fn push(&mut self, record: &Record, encoding: &Encoding) -> Result<(), serde_json::Error> {
        encoding.write(record, &mut self.bytes)?;
        self.ends.push(self.bytes.len());
        Ok(())
    }

    pub(super) const fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) const fn is_written(&self) -> bool {
        self.written == self.bytes.len()
    }

    pub(super) fn unwritten_records(&self) -> usize {
        self.ends.len() - self.written_records()
    }

    /// Empties it for the next records and keeps its memory.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.written = 0;
    }

    fn written_records(&self) -> usize {
        self.ends.partition_point(|end| *end <= self.written)
    }

    /// Forgets the beginning of a half-written record.
    fn rewind_to_record(&mut self) {
        self.written =
            self.written_records().checked_sub(1).and_then(|index| self.ends.get(index)).copied().unwrap_or(0);
    }
}

/// A transport and what it is to write.
#[derive(Debug)]
pub(super) struct Writer<T> {
    pub(super) transport: T,
    pub(super) batch: Batch,
}

/// What one attempt did.
#[derive(Debug, Default)]
pub(super) struct Attempt {
    pub(super) written_bytes: u64,
    pub(super) written_records: u64,
    /// Why the rest is not written.
    pub(super) error: Option<io::Error>,
    /// Why the place could not be opened anew.
    pub(super) reopen_error: Option<io::Error>,
}

impl<T: Transport> Writer<T> {
    /// Opens the place anew if asked to, then writes until everything is written or a write fails. Blocks.
    pub(super) fn attempt(mut self, reopen: bool) -> (Self, Attempt) {
        let mut attempt = Attempt::default();
        if reopen {
            match self.transport.reopen() {
                Ok(true) => self.batch.rewind_to_record(),
                Ok(false) => {}
                Err(error) => attempt.reopen_error = Some(error),
            }
        }
        let records_before = self.batch.written_records();
        while let Some(rest) = self.batch.bytes.get(self.batch.written..).filter(|rest| !rest.is_empty()) {
            match self.transport.write(rest) {
                Ok(0) => {
                    attempt.error = Some(io::ErrorKind::WriteZero.into());
                    break;
                }
                Ok(count) => {
                    self.batch.written += count.min(rest.len());
                    attempt.written_bytes += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    attempt.error = Some(error);
                    break;
                }
            }
        }
        attempt.written_records = (self.batch.written_records() - records_before) as u64;
        (self, attempt)
    }
}
