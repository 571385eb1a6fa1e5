//! A stream of bytes: standard output as a pipe, a terminal or a redirected file, or any writer.

use std::{
    fs,
    io::{self, IsTerminal as _, Write},
    os::fd::AsFd as _,
};

use anstream::{AutoStream, ColorChoice};
use jiff::tz::TimeZone;

use super::{Encoding, Format, Transport};
use crate::alert::human::HumanFormat;

/// Writes to any unbuffered writer.
#[derive(Debug)]
pub struct Stream<W> {
    name: &'static str,
    writer: W,
}

impl<W: Write> Stream<W> {
    /// `writer` must pass bytes on at once: it is not flushed.
    pub const fn new(name: &'static str, writer: W) -> Self {
        Self { name, writer }
    }
}

impl Stream<fs::File> {
    /// Standard output, past the standard library's buffer, which would hide how much was written before an error.
    pub fn stdout() -> io::Result<Self> {
        let descriptor = io::stdout().as_fd().try_clone_to_owned()?;
        Ok(Self::new("standard output", fs::File::from(descriptor)))
    }
}

impl<W: Write + Send + 'static> Transport for Stream<W> {
    fn name(&self) -> &str {
        self.name
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write(bytes)
    }
}

/// Whether standard output is a terminal.
#[must_use]
pub fn stdout_is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// The encoding for standard output: as asked for, else by what it is. Colours follow `NO_COLOR`, `CLICOLOR_FORCE` and
/// `TERM`; times are shown in `time_zone`.
#[must_use]
pub fn stdout_format(format: Format, time_zone: TimeZone) -> Encoding {
    let is_human = match format {
        Format::Auto => stdout_is_terminal(),
        Format::Human => true,
        Format::Json => false,
    };
    if !is_human {
        return Encoding::JsonLines;
    }
    Encoding::Human(HumanFormat {
        colors: AutoStream::choice(&io::stdout()) != ColorChoice::Never,
        columns: terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| usize::from(width.0)),
        time_zone,
        has_dates: false,
    })
}
