//! The source of the standard library, from which `core` is built for the kernel.
//!
//! It comes, in this order, from: where it already is; the archive named by `EGRESSWATCH_RUST_SRC`; rustup; the
//! distribution's package of exactly the compiler's version.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::apt::{PrivateApt, Suite};
use crate::process::{self, Root};
use crate::ui;
use crate::workspace::{Compiler, Workspace};

/// Names an archive (`.tar.xz` holding `library/`) for machines that reach neither rustup nor a mirror.
const ARCHIVE_VARIABLE: &str = "EGRESSWATCH_RUST_SRC";

/// Suites that carry current compilers as the package `rust-src`.
const SUITES: [Suite; 3] = [Suite { name: "trixie-backports" }, Suite { name: "testing" }, Suite { name: "unstable" }];

/// Makes sure that the source is there and belongs to this compiler.
pub(super) fn install(workspace: &Workspace, compiler: &Compiler) -> Result<()> {
    let library = compiler.library_source();
    if verify(&library, &compiler.version).is_ok() {
        return Ok(());
    }
    ui::step(&format!("setup: install rust-src {} into {}", compiler.version, library.display()), || {
        let mut tried = Vec::new();
        for (source, attempt) in SOURCES {
            match attempt(workspace, compiler) {
                Ok(true) => {
                    verify(&library, &compiler.version)?;
                    ui::say(&format!("rust-src {} installed from {source}", compiler.version));
                    return Ok(());
                }
                Ok(false) => {}
                Err(error) => {
                    // A backtrace of another program helps nobody here; its first line says what happened.
                    let reason: Vec<_> = error.chain().map(|cause| first_lines(&cause.to_string())).collect();
                    ui::say(&format!("not from {source}: {}", reason.join(": ")));
                    tried.push(source);
                }
            }
        }
        bail!(
            "rust-src {} could not be had from {}. Name an archive of the toolchain's `library/` folder (tar.xz) by {ARCHIVE_VARIABLE}",
            compiler.version,
            tried.join(" or ")
        );
    })
}

/// Installs the source and says whether it did; `false` where this way does not apply.
type Attempt = fn(&Workspace, &Compiler) -> Result<bool>;

const SOURCES: [(&str, Attempt); 3] = [
    ("the archive named by EGRESSWATCH_RUST_SRC", from_archive),
    ("rustup", from_rustup),
    ("the distribution's package", from_distribution),
];

fn from_archive(workspace: &Workspace, compiler: &Compiler) -> Result<bool> {
    let Some(archive) = env::var_os(ARCHIVE_VARIABLE) else { return Ok(false) };
    let staging = empty_folder(&workspace.target("setup/rust-src-archive"))?;
    let archive = workspace.root().join(PathBuf::from(archive));
    process::run(process::command("tar").arg("-xJf").arg(&archive).arg("-C").arg(&staging))?;
    place(&staging.join("library"), compiler)?;
    Ok(true)
}

fn from_rustup(workspace: &Workspace, compiler: &Compiler) -> Result<bool> {
    // A compiler of the distribution has no toolchain that rustup could add to.
    if process::find_program("rustup").is_none() || !compiler.sysroot.join("lib/rustlib/components").is_file() {
        return Ok(false);
    }
    process::output(process::command("rustup").current_dir(workspace.root()).args(["component", "add", "rust-src"]))?;
    Ok(true)
}

fn from_distribution(workspace: &Workspace, compiler: &Compiler) -> Result<bool> {
    let mut failure = None;
    for suite in SUITES {
        let attempt = PrivateApt::update(&workspace.target("apt").join(suite.name), suite).and_then(|apt| {
            let versions = apt.versions("rust-src")?;
            let version = versions
                .iter()
                .find(|version| upstream_version(version) == compiler.version)
                .with_context(|| format!("{} has rust-src {}", suite.name, versions.join(", ")))?;
            let staging = empty_folder(&workspace.target("setup/rust-src-package"))?;
            apt.unpack(&format!("rust-src={version}"), &staging)?;
            place(&staging.join(format!("usr/src/rustc-{}/library", compiler.version)), compiler)
        });
        match attempt {
            Ok(()) => return Ok(true),
            Err(error) => failure = Some(error),
        }
    }
    Err(failure.context("no suite is known")?)
}

/// `1.95.0` of the Debian version `1.95.0+dfsg1-2~bpo13+1`.
fn upstream_version(version: &str) -> &str {
    version.split(['+', '-']).next().unwrap_or(version)
}

/// Verifies the unpacked tree and copies it into the toolchain, as root if the toolchain is the system's.
fn place(staged: &Path, compiler: &Compiler) -> Result<()> {
    verify(staged, &compiler.version)?;
    let library = compiler.library_source();
    let parent = library.parent().context("the library has no folder above it")?;
    if fs::create_dir_all(parent).is_ok() && fs::write(parent.join(".writable"), b"").is_ok() {
        let _ = fs::remove_file(parent.join(".writable"));
        let _ = fs::remove_dir_all(&library);
        return process::run(process::command("cp").arg("-rT").arg(staged).arg(&library));
    }
    let root = Root::obtain()?;
    process::run(root.command("mkdir", &[]).arg("-p").arg(parent))?;
    process::run(root.command("cp", &[]).arg("-rT").arg(staged).arg(&library))
}

fn empty_folder(folder: &Path) -> Result<PathBuf> {
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    Ok(folder.to_path_buf())
}

/// Checks that the tree is the library of this compiler's release.
///
/// The tree carries no version file, but the stable interfaces in it say since when they exist: the compiler's own
/// release must be among them, and the next one must not.
pub(super) fn verify(library: &Path, version: &str) -> Result<()> {
    if !library.join("Cargo.lock").is_file() {
        bail!("rust-src {version} is not at {}", library.display());
    }
    let minor: u32 = version
        .split('.')
        .nth(1)
        .and_then(|minor| minor.parse().ok())
        .with_context(|| format!("the compiler's version {version} has no minor number"))?;
    let mut mentions = Mentions { this: since(minor), next: since(minor + 1), has_this: false, has_next: false };
    mentions.scan(&library.join("core/src"))?;
    if !mentions.has_this || mentions.has_next {
        bail!(
            "{} is not the library of Rust {version}: remove that folder and run `cargo xtask setup --only ebpf`",
            library.display()
        );
    }
    Ok(())
}

fn since(minor: u32) -> String {
    format!("since = \"1.{minor}.")
}

struct Mentions {
    this: String,
    next: String,
    has_this: bool,
    has_next: bool,
}

impl Mentions {
    fn scan(&mut self, folder: &Path) -> Result<()> {
        let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
        for entry in entries {
            let path = entry.with_context(|| format!("cannot read {}", folder.display()))?.path();
            if path.is_dir() {
                self.scan(&path)?;
            } else if path.extension() == Some(OsStr::new("rs")) {
                let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
                self.has_this |= text.contains(&self.this);
                self.has_next |= text.contains(&self.next);
            }
        }
        Ok(())
    }
}

fn first_lines(text: &str) -> String {
    text.lines().take(2).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debian_versions_begin_with_the_upstream_version() {
        for (version, expected) in [
            ("1.95.0+dfsg1-2~bpo13+1", "1.95.0"),
            ("1.95.0-1", "1.95.0"),
            ("1.95.0~beta.3+dfsg1-1", "1.95.0~beta.3"),
            ("1.95.0", "1.95.0"),
        ] {
            assert_eq!(upstream_version(version), expected);
        }
    }

    #[test]
    fn a_library_of_another_release_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let library = folder.path();
        assert!(verify(library, "1.95.0").is_err(), "an empty folder is no library");

        fs::create_dir_all(library.join("core/src/num")).expect("folders");
        fs::write(library.join("Cargo.lock"), "").expect("a lock file");
        let stable = |minor: u32| format!("#[stable(feature = \"x\", since = \"1.{minor}.0\")]\n");
        for (newest, accepted) in [(94, false), (95, true), (96, false)] {
            let text: String = (90..=newest).map(stable).collect();
            fs::write(library.join("core/src/num/mod.rs"), text).expect("a source file");
            assert_eq!(verify(library, "1.95.0").is_ok(), accepted, "newest mention is 1.{newest}");
        }
    }
}
