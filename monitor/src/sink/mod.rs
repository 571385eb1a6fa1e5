//! Where records go.
//!
//! There are two ways. Standard output and `output.file` are written at once: a [`Transport`] moves bytes and knows nothing
//! else; queues, retries, reopening and counting are [`task`], the same for each. Everything in `[outputs]` goes through the
//! [`spool`]: a [`delivery::Delivery`] hands batches to a receiver and says what was confirmed; the disk, order, retries and
//! counting are the spool's, the same for each. A new output is one file with one `Delivery` and one line in [`outputs`].

pub mod check;
mod config;
pub mod delivery;
pub mod elasticsearch;
mod fields;
mod file;
mod filter;
pub mod http;
pub mod journald;
pub mod kafka;
pub mod loki;
pub mod otlp;
pub mod outputs;
pub mod secret;
pub mod splunk;
pub mod spool;
pub mod stdout;
mod stream;
pub mod syslog;
pub mod task;
pub mod tls;
pub mod webhook;

use std::io;

pub use self::{
    config::{Config, Format},
    file::{File, FileConfig, FileDelivery, FileError},
    filter::{Filter, RecordKind},
    outputs::{OpenError, OutputConfig, OutputKind, OutputName, OutputsConfig, RecordFormat},
    stream::{Stream, stdout_format, stdout_is_terminal},
    task::{Counters, Dropped, Ending, OutputError, OutputGone, OutputSender, OutputTask, Reopener, Settings, output},
};
use crate::alert::{Record, cef, human::HumanFormat, ocsf};

/// Moves bytes to one place.
pub trait Transport: Send + 'static {
    /// What it is called in messages, such as `standard output` or `file /var/log/egresswatch.jsonl`.
    fn name(&self) -> &str;

    /// Writes some of `bytes` and returns how many, like [`io::Write::write`]. It may block. What it returned as written
    /// is never offered again, so nothing may be kept back in a buffer.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Opens the same place anew, after a log rotation moved the old file away. Returns whether later bytes go to
    /// another place than the ones before, in which case a record that was half written is written again whole.
    fn reopen(&mut self) -> io::Result<bool> {
        Ok(false)
    }
}

/// The form in which records are written.
#[derive(Clone, Debug)]
pub enum Encoding {
    /// JSON Lines: one record, one line.
    JsonLines,
    /// OCSF events as JSON Lines.
    Ocsf,
    /// Lines of the Common Event Format.
    Cef,
    /// Lines for people.
    Human(HumanFormat),
}

impl Encoding {
    /// Appends `record` to `buffer`, with its final newline.
    pub fn write(&self, record: &Record, buffer: &mut Vec<u8>) -> Result<(), serde_json::Error> {
        match self {
            Self::JsonLines => record.write_json_line(buffer),
            Self::Ocsf => {
                let start = buffer.len();
                let result = ocsf::write(record, buffer);
                match result {
                    Ok(()) => buffer.push(b'\n'),
                    Err(_) => buffer.truncate(start),
                }
                result
            }
            Self::Cef => {
                cef::write(record, buffer);
                buffer.push(b'\n');
                Ok(())
            }
            Self::Human(format) => {
                format.write(record, buffer);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests;
