//! Writing to a person or a program.

use std::{
    fmt,
    io::{self, Write},
};

use anstream::AutoStream;
use anstyle::{AnsiColor, Style};
use serde::Serialize;

use super::args::ColorChoice;

/// Where a command writes its answer.
pub struct Output<'a> {
    writer: &'a mut dyn Write,
    colour: bool,
}

impl<'a> Output<'a> {
    /// Writes to `writer`, with colours or without.
    pub fn new(writer: &'a mut dyn Write, colour: bool) -> Self {
        Self { writer, colour }
    }

    /// Writes one line.
    pub(super) fn line(&mut self, text: impl fmt::Display) -> io::Result<()> {
        writeln!(self.writer, "{text}")
    }

    /// Writes text that ends its own lines.
    pub(super) fn text(&mut self, text: &str) -> io::Result<()> {
        self.writer.write_all(text.as_bytes())
    }

    /// Writes one line of JSON.
    pub(super) fn json(&mut self, value: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.writer, value)?;
        self.writer.write_all(b"\n")
    }

    /// Sends on what was written so far.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }

    /// Good news.
    pub(super) fn good<T: fmt::Display>(&self, text: T) -> Painted<T> {
        self.paint(AnsiColor::Green.on_default(), text)
    }

    /// News that ask for attention.
    pub(super) fn fair<T: fmt::Display>(&self, text: T) -> Painted<T> {
        self.paint(AnsiColor::Yellow.on_default(), text)
    }

    /// Bad news.
    pub(super) fn bad<T: fmt::Display>(&self, text: T) -> Painted<T> {
        self.paint(AnsiColor::Red.on_default().bold(), text)
    }

    /// What the eye should find first.
    pub(super) fn strong<T: fmt::Display>(&self, text: T) -> Painted<T> {
        self.paint(Style::new().bold(), text)
    }

    /// What the eye may skip.
    pub(super) fn faint<T: fmt::Display>(&self, text: T) -> Painted<T> {
        self.paint(Style::new().dimmed(), text)
    }

    fn paint<T: fmt::Display>(&self, style: Style, text: T) -> Painted<T> {
        Painted { style: if self.colour { style } else { Style::new() }, text }
    }
}

/// Text in a style; padding counts the text and not its colour codes.
pub(super) struct Painted<T> {
    style: Style,
    text: T,
}

impl<T: fmt::Display> fmt::Display for Painted<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.style)?;
        self.text.fmt(formatter)?;
        write!(formatter, "{:#}", self.style)
    }
}

/// Which of the standard streams get colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Colours {
    /// Standard output.
    pub(super) stdout: bool,
    /// Standard error.
    pub(super) stderr: bool,
}

impl Colours {
    /// By the command line, then by the environment (`NO_COLOR`, `CLICOLOR_FORCE`, `TERM`), then by what the stream is.
    /// The daemon's outputs follow the same choice.
    pub(super) fn choose(choice: ColorChoice) -> Self {
        let choice = match choice {
            ColorChoice::Auto => anstream::ColorChoice::Auto,
            ColorChoice::Always => anstream::ColorChoice::Always,
            ColorChoice::Never => anstream::ColorChoice::Never,
        };
        choice.write_global();
        Self {
            stdout: AutoStream::choice(&io::stdout()) != anstream::ColorChoice::Never,
            stderr: AutoStream::choice(&io::stderr()) != anstream::ColorChoice::Never,
        }
    }
}
