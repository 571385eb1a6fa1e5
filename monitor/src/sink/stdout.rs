//! Records from a spool to standard output. A record counts once the kernel has taken its last byte, and in a file once it
//! is on the disk.

use std::{
    fs,
    io::{self, Write as _},
    os::fd::{AsFd as _, OwnedFd},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::delivery::{Delivered, Delivery, Failure, Item};

/// Longest time for a batch. A reader that takes nothing meanwhile is told of, and gets the rest later.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a thread that waits for a reader looks whether anybody still waits for it.
const LOOK: u16 = 100;
/// What a pipe that can be written to takes without blocking (`PIPE_BUF`, `pipe(7)`).
const PIECE_BYTES: usize = 4_096;

/// Settings of an output of type `stdout`: it has none of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StdoutConfig {}

/// Standard output cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use standard output: {0}; start the monitor with one, or remove the output")]
pub struct StdoutError(#[from] io::Error);

/// Writes batches, record by record.
#[derive(Debug)]
pub struct Stdout {
    /// Tells what this one left cut off from what another did.
    number: u64,
    lines: Arc<Mutex<Lines>>,
}

impl Stdout {
    /// Standard output. Several outputs may have it, and no line of one stands within a line of another.
    pub fn open(_: &StdoutConfig) -> Result<Self, StdoutError> {
        static LINES: OnceLock<Arc<Mutex<Lines>>> = OnceLock::new();
        if let Some(lines) = LINES.get() {
            return Ok(Self::sharing(Arc::clone(lines)));
        }
        let lines = Lines::new(io::stdout().as_fd().try_clone_to_owned()?);
        Ok(Self::sharing(Arc::clone(LINES.get_or_init(|| Arc::new(Mutex::new(lines))))))
    }

    /// Another descriptor in place of standard output.
    #[must_use]
    pub fn over(descriptor: OwnedFd) -> Self {
        Self::sharing(Arc::new(Mutex::new(Lines::new(descriptor))))
    }

    fn sharing(lines: Arc<Mutex<Lines>>) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        Self { number: NUMBER.fetch_add(1, Ordering::Relaxed), lines }
    }

    async fn write(&self, batch: &[Item], patience: Duration) -> Result<Delivered, Failure> {
        let call = Call { writer: self.number, items: batch.to_vec(), until: Instant::now() + patience };
        let lines = Arc::clone(&self.lines);
        let is_given_up = Arc::new(AtomicBool::new(false));
        let given_up = GivenUp(Arc::clone(&is_given_up));
        let written = tokio::task::spawn_blocking(move || lock(&lines).write(&call, &is_given_up)).await;
        drop(given_up);
        written.unwrap_or_else(|error| Err(Failure::new(format!("the thread that writes was stopped: {error}"))))
    }
}

impl Delivery for Stdout {
    fn describe(&self) -> &'static str {
        "standard output"
    }

    async fn deliver(&mut self, batch: &[Item]) -> Result<Delivered, Failure> {
        self.write(batch, PATIENCE).await
    }
}

/// Ends the thread that writes when nobody waits for it any more.
struct GivenUp(Arc<AtomicBool>);

impl Drop for GivenUp {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

fn lock(lines: &Mutex<Lines>) -> MutexGuard<'_, Lines> {
    lines.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One batch to write.
struct Call {
    writer: u64,
    items: Vec<Item>,
    until: Instant,
}

/// The descriptor, and where its last line ends.
#[derive(Debug)]
struct Lines {
    file: fs::File,
    /// The last line has no end yet.
    cut: Option<Cut>,
}

/// A record that is written in part.
#[derive(Debug)]
struct Cut {
    /// Who wrote it; nobody goes on with a line whose reader has gone.
    writer: Option<u64>,
    id: String,
    bytes: usize,
}

impl Lines {
    fn new(descriptor: OwnedFd) -> Self {
        Self { file: fs::File::from(descriptor), cut: None }
    }

    fn write(&mut self, call: &Call, is_given_up: &AtomicBool) -> Result<Delivered, Failure> {
        for (confirmed, item) in call.items.iter().enumerate() {
            if let Err(error) = self.write_item(call, item, is_given_up) {
                return Err(Failure { confirmed, ..Failure::new(reason(&error)) });
            }
        }
        // Pipes, sockets and terminals have nothing to flush.
        let is_file = self.file.metadata().is_ok_and(|metadata| metadata.is_file());
        match self.file.sync_data() {
            Err(error) if is_file => Err(Failure::new(reason(&error))),
            _ => Ok(Delivered::default()),
        }
    }

    /// Writes one line, or the rest of it if the last try ended in its middle.
    fn write_item(&mut self, call: &Call, item: &Item, is_given_up: &AtomicBool) -> io::Result<()> {
        let mut line = item.bytes.to_vec();
        line.push(b'\n');
        let mut done = 0;
        match self.cut.take() {
            Some(cut) if cut.writer == Some(call.writer) && cut.id == item.id => done = cut.bytes,
            Some(cut) => {
                if let Err(error) = self.write_all(b"\n", &mut 0, call.until, is_given_up) {
                    self.cut = Some(cut);
                    return Err(error);
                }
            }
            None => {}
        }
        let written = self.write_all(&line, &mut done, call.until, is_given_up);
        if let Err(error) = &written
            && done > 0
        {
            // Whoever reads next gets the record whole, after what is left of this.
            let writer = (error.kind() != io::ErrorKind::BrokenPipe).then_some(call.writer);
            self.cut = Some(Cut { writer, id: item.id.clone(), bytes: done });
        }
        written
    }

    /// Writes `bytes` from `done` on and moves it. It never blocks for long, whether the descriptor does or not.
    fn write_all(
        &mut self,
        bytes: &[u8],
        done: &mut usize,
        until: Instant,
        is_given_up: &AtomicBool,
    ) -> io::Result<()> {
        while let Some(rest) = bytes.get(*done..).filter(|rest| !rest.is_empty()) {
            let mut descriptors = [PollFd::new(self.file.as_fd(), PollFlags::POLLOUT)];
            let is_ready = match poll(&mut descriptors, PollTimeout::from(LOOK)) {
                Ok(count) => count > 0,
                Err(nix::errno::Errno::EINTR) => false,
                Err(error) => return Err(error.into()),
            };
            if is_ready {
                match self.file.write(rest.get(..PIECE_BYTES).unwrap_or(rest)) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(count) => *done += count,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            } else if Instant::now() >= until || is_given_up.load(Ordering::Acquire) {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
        Ok(())
    }
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::BrokenPipe => {
            "nobody reads standard output any more: start the monitor with a reader; until then the spool keeps the records"
                .to_owned()
        }
        io::ErrorKind::TimedOut => format!("whoever reads standard output took nothing for {} s", PATIENCE.as_secs()),
        _ => format!("cannot write to standard output: {error}"),
    }
}

#[cfg(test)]
mod tests;
