//! Moving a full file aside: `events.jsonl` becomes `events.jsonl.1`, that one `events.jsonl.2`, and so on.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use flate2::{Compression, write::GzEncoder};

use super::delivery::sync_directory;

/// Moves `path` to `path.1`, and what is there one further, so that at most `keep` are left. What a crash leaves half done
/// is finished by the next rotation.
pub(super) fn rotate(path: &Path, keep: u32, compress: bool) -> io::Result<()> {
    for number in (1..=keep).rev() {
        for suffix in ["", ".gz"] {
            let from = numbered(path, number, suffix);
            if number == keep {
                remove_if_there(&from)?;
            } else {
                rename_if_there(&from, &numbered(path, number + 1, suffix))?;
            }
        }
    }
    let first = numbered(path, 1, "");
    fs::rename(path, &first)?;
    sync_directory(path)?;
    if compress {
        // The records are safe where they are: a full disk must not keep new ones from being written.
        if let Err(error) = compress_file(&first) {
            tracing::warn!(file = %first.display(), %error, "cannot be compressed: it stays as it is");
        }
    }
    Ok(())
}

/// Replaces `path` by `path.gz`. The one is removed only after the other is whole and on the disk.
fn compress_file(path: &Path) -> io::Result<()> {
    let whole = with_suffix(path, ".gz");
    let partial = with_suffix(path, ".gz.part");
    let outcome = (|| {
        let mut source = fs::File::open(path)?;
        let target = fs::File::create(&partial)?;
        target.set_permissions(source.metadata()?.permissions())?;
        let mut encoder = GzEncoder::new(target, Compression::default());
        io::copy(&mut source, &mut encoder)?;
        let mut target = encoder.finish()?;
        target.flush()?;
        target.sync_all()?;
        fs::rename(&partial, &whole)?;
        sync_directory(path)?;
        fs::remove_file(path)
    })();
    if outcome.is_err() {
        remove_if_there(&partial)?;
    }
    outcome
}

fn numbered(path: &Path, number: u32, suffix: &str) -> PathBuf {
    with_suffix(path, &format!(".{number}{suffix}"))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut text = path.as_os_str().to_owned();
    text.push(suffix);
    PathBuf::from(text)
}

fn rename_if_there(from: &Path, to: &Path) -> io::Result<()> {
    ignore_missing(fs::rename(from, to))
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    ignore_missing(fs::remove_file(path))
}

fn ignore_missing(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}
