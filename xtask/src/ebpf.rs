//! Builds the kernel programs with the pinned compiler, so that the same source gives the same bytes anywhere.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::process;
use crate::reproducible_rustc;
use crate::setup::{self, Part};
use crate::ui;
use crate::workspace::{Compiler, Workspace, cargo_home};

/// The object that `monitor` embeds: generated code, checked in, one for `x86_64` and aarch64 (both little-endian).
const OBJECT: &str = "monitor/src/kernel/egresswatch.bpf.o";

/// The kernel target: BPF, little-endian.
const TARGET: &str = "bpfel-unknown-none";

/// Otherwise the linker makes LLVM call functions that copy and clear memory byte by byte.
const INLINE_COPIES: &str = "-Clink-arg=--disable-expand-memcpy-in-order";

/// The one program of `monitor-ebpf`.
const BINARY: &str = "egresswatch";

/// What the kernel programs are made of; the root manifest is there because `monitor-common` inherits from it.
const SOURCES: [&str; 4] = ["Cargo.toml", "rust-toolchain.toml", "monitor-ebpf", "monitor-common"];

/// Arguments of `cargo xtask ebpf`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Rebuild from a copy in another folder and fail unless the bytes equal the checked-in object
    #[arg(long, conflicts_with = "clippy")]
    check: bool,
    /// Run clippy on the kernel programs instead of building them
    #[arg(long)]
    clippy: bool,
}

/// Runs the command.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    if arguments.check {
        check(workspace)
    } else if arguments.clippy {
        clippy(workspace)
    } else {
        build(workspace)
    }
}

/// Builds the object and puts it where `monitor` embeds it.
pub(crate) fn build(workspace: &Workspace) -> Result<()> {
    let recipe = Recipe::prepare(workspace)?;
    let built = ui::step("build the kernel programs", || {
        recipe.compile(&workspace.path("monitor-ebpf"), &workspace.target("ebpf"))
    })?;
    let object = workspace.path(OBJECT);
    let bytes = read(&built)?;
    // An unchanged file keeps its time, so that nothing that embeds it is compiled again.
    if fs::read(&object).is_ok_and(|present| present == bytes) {
        ui::say(&format!("{OBJECT} is unchanged: {}", process::sha256(&object)?));
        return Ok(());
    }
    if let Some(folder) = object.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    fs::write(&object, &bytes).with_context(|| format!("cannot write {}", object.display()))?;
    ui::say(&format!("{OBJECT} is new, {} bytes: {}", bytes.len(), process::sha256(&object)?));
    Ok(())
}

/// Rebuilds the object from a copy in a folder of another name and compares it with the one checked in.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    let object = workspace.path(OBJECT);
    let present = read(&object)?;
    let recipe = Recipe::prepare(workspace)?;
    // The place must not matter; building elsewhere each time keeps that true.
    let elsewhere = workspace.target("ebpf-check/a folder of another name");
    let built = ui::step("rebuild the kernel programs from a copy in another folder", || {
        let _ = fs::remove_dir_all(&elsewhere);
        copy_sources(workspace, &elsewhere)?;
        recipe.compile(&elsewhere.join("monitor-ebpf"), &workspace.target("ebpf-check/build"))
    })?;
    let rebuilt = read(&built)?;
    ui::say(&format!("checked in: {}  {} bytes  {OBJECT}", process::sha256(&object)?, present.len()));
    ui::say(&format!("rebuilt:    {}  {} bytes", process::sha256(&built)?, rebuilt.len()));
    if present == rebuilt {
        return Ok(());
    }
    let offset = present.iter().zip(&rebuilt).position(|(left, right)| left != right);
    bail!(
        "{OBJECT} is not what its source builds; the first difference is at byte {}. Run `cargo xtask ebpf` and commit the \
         object with its source. If the source is unchanged, the toolchain differs: compare `rustc -vV` and \
         `bpf-linker --version`, and keep {} for comparison",
        offset.unwrap_or(present.len().min(rebuilt.len())),
        built.display()
    );
}

/// Runs clippy with the crate's own lints; every warning is an error.
pub(crate) fn clippy(workspace: &Workspace) -> Result<()> {
    let recipe = Recipe::prepare(workspace)?;
    ui::step("clippy on the kernel programs", || {
        let mut cargo = recipe.cargo("clippy", &workspace.path("monitor-ebpf"), &workspace.target("ebpf"))?;
        process::run(cargo.args(["--", "--deny", "warnings"]))
    })
}

/// Everything that decides the bytes of the object.
struct Recipe {
    compiler: Compiler,
    search_path: OsString,
}

impl Recipe {
    fn prepare(workspace: &Workspace) -> Result<Self> {
        setup::ensure(workspace, &[Part::Ebpf])?;
        let linker = setup::BPF_LINKER.find(workspace).context("bpf-linker was installed but is not found")?;
        let linker_folder = linker.parent().context("bpf-linker is in no folder")?.to_path_buf();
        // The linker is found by name: an absolute path would be one more thing of the machine in the flags.
        let path = env::var_os("PATH").unwrap_or_default();
        let search_path = env::join_paths(std::iter::once(linker_folder).chain(env::split_paths(&path)))
            .context("PATH cannot be extended")?;
        Ok(Self { compiler: Compiler::pinned(workspace)?, search_path })
    }

    /// Compiles the crate in `source` and returns the object's path.
    fn compile(&self, source: &Path, target_folder: &Path) -> Result<PathBuf> {
        process::run(&mut self.cargo("build", source, target_folder)?)?;
        let object = target_folder.join(TARGET).join("release").join(BINARY);
        ensure!(object.is_file(), "the build left no {}", object.display());
        self.strip(&object)
    }

    /// Drops the DWARF sections, which no loader reads; BTF and its line information stay.
    fn strip(&self, object: &Path) -> Result<PathBuf> {
        let stripped = object.with_extension("bpf.o");
        let library = self.compiler.sysroot.join("lib");
        let host = format!("{}-unknown-linux-gnu", env::consts::ARCH);
        let tool = library.join("rustlib").join(host).join("bin/rust-objcopy");
        ensure!(
            tool.is_file(),
            "{} is missing: it comes with rustc from rustup (`rustup toolchain install` again)",
            tool.display()
        );
        // The tool finds the compiler's own LLVM only this way.
        process::run(
            Command::new(&tool).env("LD_LIBRARY_PATH", &library).arg("--strip-debug").arg(object).arg(&stripped),
        )?;
        Ok(stripped)
    }

    fn cargo(&self, verb: &str, source: &Path, target_folder: &Path) -> Result<Command> {
        let mut cargo = process::cargo();
        cargo.current_dir(source).arg(verb).args([
            "--release",
            "--locked",
            "--target",
            TARGET,
            "--config",
            "unstable.build-std=[\"core\"]",
        ]);
        for (name, _) in env::vars_os() {
            if is_foreign_setting(&name.to_string_lossy()) {
                cargo.env_remove(name);
            }
        }
        cargo
            // build-std is unstable; the pinned stable compiler with this variable is reproducible, a nightly is not.
            .env("RUSTC_BOOTSTRAP", "1")
            // Named in full, so that the standard library's source comes from the same folder as the mapping below.
            .env("RUSTC", self.compiler.sysroot.join("bin/rustc"))
            .env("RUSTC_WRAPPER", env::current_exe().context("cannot tell where this program is")?)
            .env(reproducible_rustc::MODE_VARIABLE, "1")
            .env("CARGO_ENCODED_RUSTFLAGS", self.flags(source, target_folder)?)
            .env("CARGO_TARGET_DIR", target_folder)
            .env("CARGO_INCREMENTAL", "0")
            .env("PATH", &self.search_path);
        Ok(cargo)
    }

    /// The compiler's flags in cargo's encoding, which allows spaces in paths.
    fn flags(&self, source: &Path, target_folder: &Path) -> Result<OsString> {
        let repository = source.parent().context("the kernel programs have no folder above them")?;
        let mut flags: Vec<OsString> =
            ["-Clinker=bpf-linker", "-Cdebuginfo=2", "-Clink-arg=--btf", INLINE_COPIES].map(OsString::from).into();
        // Paths go into line information and panic messages. The last mapping that fits wins.
        for (path, replacement) in [
            (cargo_home()?.as_path(), "/cargo"),
            (self.compiler.sysroot.as_path(), "/rust"),
            (repository, "/src"),
            (target_folder, "/build"),
        ] {
            let mut flag = OsString::from("--remap-path-prefix=");
            flag.push(path);
            flag.push("=");
            flag.push(replacement);
            flags.push(flag);
        }
        Ok(flags.join(&OsString::from("\u{1f}")))
    }
}

/// Whether a variable of the user's environment could change the object or its place.
fn is_foreign_setting(name: &str) -> bool {
    ["CARGO_BUILD_", "CARGO_PROFILE_", "CARGO_TARGET_", "CARGO_UNSTABLE_"].iter().any(|prefix| name.starts_with(prefix))
        || matches!(name, "RUSTFLAGS" | "RUSTC" | "RUSTC_WORKSPACE_WRAPPER" | "SOURCE_DATE_EPOCH")
}

fn copy_sources(workspace: &Workspace, into: &Path) -> Result<()> {
    for source in SOURCES {
        copy(&workspace.path(source), &into.join(source))?;
    }
    Ok(())
}

/// Copies a file, or a folder without what was built in it.
fn copy(from: &Path, to: &Path) -> Result<()> {
    if from.is_file() {
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        }
        fs::copy(from, to).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
        return Ok(());
    }
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let name = entry.with_context(|| format!("cannot read {}", from.display()))?.file_name();
        if name != "target" {
            copy(&from.join(&name), &to.join(&name))?;
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}: run `cargo xtask ebpf`", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_the_environment_do_not_reach_the_build() {
        for (name, foreign) in [
            ("RUSTFLAGS", true),
            ("CARGO_PROFILE_RELEASE_OPT_LEVEL", true),
            ("CARGO_BUILD_RUSTFLAGS", true),
            ("CARGO_TARGET_DIR", true),
            ("CARGO_HOME", false),
            ("CARGO_HTTP_PROXY", false),
            ("RUSTUP_TOOLCHAIN", false),
        ] {
            assert_eq!(is_foreign_setting(name), foreign, "{name}");
        }
    }

    #[test]
    fn a_copy_leaves_built_files_behind() {
        let folder = tempfile::tempdir().expect("a folder");
        let from = folder.path().join("from");
        fs::create_dir_all(from.join("src")).expect("folders");
        fs::create_dir_all(from.join("target/debug")).expect("folders");
        fs::write(from.join("src/main.rs"), "fn main() {}").expect("a source file");
        let to = folder.path().join("to");
        copy(&from, &to).expect("the copy");
        assert!(to.join("src/main.rs").is_file());
        assert!(!to.join("target").exists());
    }
}
