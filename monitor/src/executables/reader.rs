//! The slow part: reads files, in a thread of its own.

use std::{
    fs::File,
    io::Read,
    os::fd::AsFd as _,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use rustix::process::setpriority_process;
use sha2::Digest as _;

use super::{
    Config, FileFacts, Gap, Job, Sha256,
    find::{Found, stamp},
    package,
};
use crate::inside;

/// Bytes read at once.
const CHUNK_BYTES: usize = 128 << 10;
/// A file of this size takes longer to hash than a package takes to be found.
const LARGE_BYTES: u64 = 16 << 20;
/// Urgency of the thread (`setpriority(2)`): a tenth of the share of an ordinary one. It is not the least urgent, because
/// on a busy machine alerts would then go without what it reads.
const LOW_PRIORITY: i32 = 10;

/// What is done with a file.
#[derive(Clone, Copy)]
enum Step {
    Hash,
    Package,
}

/// Reads the files that are found, one after another.
#[derive(Debug)]
pub struct Reader {
    jobs: mpsc::Receiver<Job>,
    max_bytes: u64,
    bytes_per_second: u64,
}

impl Reader {
    pub(super) fn new(config: &Config, jobs: mpsc::Receiver<Job>) -> Self {
        Self { jobs, max_bytes: config.max_size.bytes(), bytes_per_second: config.read_rate.bytes().max(1) }
    }

    /// Reads until [`super::Executables`] is dropped; `tell` is called after each fact. The calling thread gets a
    /// low priority.
    pub fn run(self, tell: impl Fn()) {
        if let Err(error) = setpriority_process(None, LOW_PRIORITY) {
            tracing::debug!(%error, "executables are read at the usual priority");
        }
        let mut pace = Pace::new(self.bytes_per_second);
        while let Ok(Job { found, facts }) = self.jobs.recv() {
            if !is_wanted(&facts) {
                continue;
            }
            // What is sooner done comes first, so that an alert that cannot wait for both has at least one.
            let mut steps = [Step::Hash, Step::Package];
            if found.stamp.size_bytes > LARGE_BYTES {
                steps.reverse();
            }
            for step in steps {
                // Nobody else sets them.
                let _ = match step {
                    Step::Hash => facts.hash.set(self.hash(&found, &facts, &mut pace)).is_ok(),
                    Step::Package => facts.package.set(package_of(&found)).is_ok(),
                };
                tell();
            }
        }
    }

    /// The digest of a file that was the same before and after.
    fn hash(&self, found: &Found, facts: &Arc<FileFacts>, pace: &mut Pace) -> Result<Sha256, Gap> {
        if found.stamp.size_bytes > self.max_bytes {
            return Err(Gap::TooLarge);
        }
        let file = inside::open(found.file.as_fd()).ok_or(Gap::Unreadable)?;
        let hash = digest(file, self.max_bytes, || is_wanted(facts), pace)?;
        if stamp(found.file.as_fd()) == Some(found.stamp) { Ok(hash) } else { Err(Gap::FileChanged) }
    }
}

/// Whether somebody beside the job itself holds the facts; nobody does when the monitor stops.
fn is_wanted(facts: &Arc<FileFacts>) -> bool {
    Arc::strong_count(facts) > 1
}

fn package_of(found: &Found) -> Result<package::Package, Gap> {
    match (&found.root, &found.path) {
        (Some(root), Some(path)) => package::find(root.as_fd(), path),
        (_, None) => Err(Gap::NotPackaged),
        (None, _) => Err(Gap::Unreadable),
    }
}

fn digest(mut file: File, max_bytes: u64, is_wanted: impl Fn() -> bool, pace: &mut Pace) -> Result<Sha256, Gap> {
    let mut hasher = sha2::Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut left = max_bytes;
    loop {
        let length = file.read(&mut chunk).map_err(|_| Gap::Unreadable)?;
        if length == 0 {
            return Ok(Sha256(hasher.finalize().into()));
        }
        left = left.checked_sub(length as u64).ok_or(Gap::TooLarge)?;
        hasher.update(chunk.get(..length).unwrap_or_default());
        if !is_wanted() {
            return Err(Gap::Unreadable);
        }
        thread::sleep(pace.pause(length as u64, Instant::now()));
    }
}

/// Keeps to so many bytes a second on average; what was not used in a second is lost.
#[derive(Debug)]
struct Pace {
    bytes_per_second: u64,
    /// When everything that was read so far will have been paid for.
    paid_at: Option<Instant>,
}

impl Pace {
    const fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second, paid_at: None }
    }

    /// How long to wait after so many bytes: nothing as long as a second's share is not used up.
    fn pause(&mut self, bytes: u64, now: Instant) -> Duration {
        let cost = Duration::from_nanos(bytes.saturating_mul(1_000_000_000) / self.bytes_per_second);
        let paid_at = self.paid_at.filter(|paid_at| *paid_at > now).unwrap_or(now) + cost;
        self.paid_at = Some(paid_at);
        paid_at.saturating_duration_since(now).saturating_sub(Duration::from_secs(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_lets_a_second_pass_at_once_and_then_keeps_to_the_rate() {
        let (mut pace, start) = (Pace::new(1_000), Instant::now());
        assert_eq!(pace.pause(1_000, start), Duration::ZERO);
        assert_eq!(pace.pause(500, start), Duration::from_millis(500));
        // What was not used is not saved up.
        let later = start + Duration::from_mins(1);
        assert_eq!(pace.pause(1_000, later), Duration::ZERO);
        assert_eq!(pace.pause(1_000, later), Duration::from_secs(1));
    }
}
