//! Where things are: the checkout, its target directory and the pinned toolchain.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::process;

/// The checkout this program was built from.
#[derive(Debug, Clone)]
pub(crate) struct Workspace {
    root: PathBuf,
    target: PathBuf,
}

impl Workspace {
    /// Finds the checkout: the folder above `xtask/`.
    pub(crate) fn find() -> Result<Self> {
        // Cargo sets the variable for `cargo xtask`; the compiled-in value serves when the binary is started by hand.
        let manifest_folder =
            env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = manifest_folder.parent().context("xtask has no folder above it")?.to_path_buf();
        if !root.join("rust-toolchain.toml").is_file() {
            bail!("{} is no EgressWatch checkout: run `cargo xtask` from inside one", root.display());
        }
        let target = env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| root.join("target"), |folder| root.join(PathBuf::from(folder)));
        Ok(Self { root, target })
    }

    /// The checkout's top folder.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A path below the checkout's top folder.
    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// A path below the target directory.
    pub(crate) fn target(&self, relative: &str) -> PathBuf {
        self.target.join(relative)
    }

    /// The folder `cargo install` puts this project's own tools into.
    pub(crate) fn tools(&self) -> PathBuf {
        self.target("tools")
    }

    /// The compiler version of `rust-toolchain.toml`, such as `1.95.0`.
    pub(crate) fn pinned_rust_version(&self) -> Result<String> {
        let path = self.path("rust-toolchain.toml");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        text.lines()
            .find_map(|line| line.strip_prefix("channel = \"")?.strip_suffix('"'))
            .map(str::to_owned)
            .with_context(|| format!("{} has no line `channel = \"…\"`", path.display()))
    }
}

/// The compiler that cargo uses here.
#[derive(Debug, Clone)]
pub(crate) struct Compiler {
    /// The release, such as `1.95.0`.
    pub(crate) version: String,
    /// The folder that holds its libraries.
    pub(crate) sysroot: PathBuf,
}

impl Compiler {
    /// Asks the active compiler, and refuses any but the pinned one: another would build another kernel object.
    pub(crate) fn pinned(workspace: &Workspace) -> Result<Self> {
        let compiler = Self::active(workspace)?;
        let pinned = workspace.pinned_rust_version()?;
        if compiler.version != pinned {
            bail!(
                "the active compiler is {}, but rust-toolchain.toml pins {pinned}: \
                 run `rustup toolchain install {pinned}` and start again without RUSTUP_TOOLCHAIN and without `+toolchain`",
                compiler.version
            );
        }
        Ok(compiler)
    }

    fn active(workspace: &Workspace) -> Result<Self> {
        let version = process::output(process::command("rustc").current_dir(workspace.root()).arg("-vV"))?;
        let release = version
            .lines()
            .find_map(|line| line.strip_prefix("release: "))
            .context("`rustc -vV` prints no line `release: …`")?;
        let sysroot =
            process::output(process::command("rustc").current_dir(workspace.root()).args(["--print", "sysroot"]))?;
        Ok(Self { version: release.to_owned(), sysroot: PathBuf::from(sysroot.trim()) })
    }

    /// Where `rust-src` unpacks the standard library's source.
    pub(crate) fn library_source(&self) -> PathBuf {
        self.sysroot.join("lib/rustlib/src/rust/library")
    }
}

/// Cargo's home, the folder of downloaded crates.
pub(crate) fn cargo_home() -> Result<PathBuf> {
    env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::home_dir().map(|home| home.join(".cargo")))
        .context("neither CARGO_HOME nor HOME is set")
}
