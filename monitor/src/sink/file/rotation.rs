//! Moving a full file aside: `events.jsonl` becomes `events.jsonl.1`, that one `events.jsonl.2`, and so on.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use flate2::{Compression, write::GzEncoder};

use super::delivery::sync_directory;

/// A kept file is as it was written, or compressed.
const SUFFIXES: [&str; 2] = ["", ".gz"];

/// Moves `path` to `path.1`, and what is there one further, so that at most `keep` are left. No old file goes before the new
/// one has its place: after an error everything that was kept still is, and `path` is written on. What a crash leaves half
/// done is finished by the next rotation.
pub(super) fn rotate(path: &Path, keep: u32, compress: bool) -> io::Result<()> {
    let staged = with_suffix(path, ".rotating");
    if staged.try_exists()? {
        place(path, &staged)?;
    }
    // Where the file cannot be moved (an attribute, a mount) this fails before anything else is touched.
    fs::rename(path, &staged)?;
    if let Err(error) = place(path, &staged) {
        // Nobody else writes there; if it does not work, the next rotation finds the file where it is.
        let _ = fs::rename(&staged, path);
        return Err(error);
    }
    remove_beyond(path, keep)?;
    sync_directory(path)?;
    if compress {
        // The records are safe where they are: a full disk must not keep new ones from being written.
        let first = numbered(path, 1, "");
        if let Err(error) = compress_file(&first) {
            tracing::warn!(file = %first.display(), %error, "cannot be compressed: it stays as it is");
        }
    }
    Ok(())
}

/// Makes `staged` the first of the kept files. The others move into the first gap, so that what fails midway takes no file
/// further at each try.
fn place(path: &Path, staged: &Path) -> io::Result<()> {
    let mut gap = 1;
    while is_taken(path, gap)? {
        gap += 1;
    }
    for number in (1..gap).rev() {
        for suffix in SUFFIXES {
            rename_if_there(&numbered(path, number, suffix), &numbered(path, number + 1, suffix))?;
        }
    }
    fs::rename(staged, numbered(path, 1, ""))
}

/// Removes the kept files behind number `keep`: the oldest one, and more where fewer are kept than before.
fn remove_beyond(path: &Path, keep: u32) -> io::Result<()> {
    let mut number = keep.saturating_add(1);
    while is_taken(path, number)? {
        for suffix in SUFFIXES {
            remove_if_there(&numbered(path, number, suffix))?;
        }
        number = number.saturating_add(1);
    }
    Ok(())
}

fn is_taken(path: &Path, number: u32) -> io::Result<bool> {
    for suffix in SUFFIXES {
        // A link to nowhere takes its name as well.
        match fs::symlink_metadata(numbered(path, number, suffix)) {
            Ok(_) => return Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(false)
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
