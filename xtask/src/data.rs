//! Rebuilds the ownership table that `monitor` embeds, byte for byte, from pinned packages of public data.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use crate::process;
use crate::ui;
use crate::workspace::Workspace;

/// The table: generated data, checked in; NOTICE says whose data they are.
const TABLE: &str = "monitor/data/ownership.bin";

/// What the packages hold is of this day; their version says so.
const DATE: &str = "2026-06-17";

/// The version of all packages.
const VERSION: &str = "2.3.2026061719";

/// The packages, and the SHA-256 of each as the registry gives it out.
const PACKAGES: [Package; 3] = [
    Package { name: "asn", sha256: "b9425daf2f011c28f8586685d4f89166e77627e2c15fd93c6262c3e2dead6153" },
    Package { name: "asn-country", sha256: "f1ba738e7a4c3f5b5fd1ccef47576ad797625a9d8efd5f2fb06a3abef3db3b91" },
    Package {
        name: "iptoasn-country-mmdb",
        sha256: "58129284b6beca9f3ad68cae72f941488bb03060d9a51590824890899bf9f773",
    },
];

/// Arguments of `cargo xtask data`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Rebuild the table beside the checked-in one and fail unless their bytes are equal
    #[arg(long)]
    pub(crate) check: bool,
}

/// Runs the command.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let sources = ui::step("fetch the sources of the ownership table", || fetch(workspace))?;
    let built = workspace.target("data/ownership.bin");
    ui::step("build the ownership table", || build(workspace, &sources, &built))?;
    let table = workspace.path(TABLE);
    if fs::read(&table).is_ok_and(|present| fs::read(&built).is_ok_and(|rebuilt| rebuilt == present)) {
        ui::say(&format!("{TABLE} is what the sources give: {}", process::sha256(&table)?));
        return Ok(());
    }
    ensure!(
        !arguments.check,
        "{TABLE} is not what its sources give ({} was built): run `cargo xtask data` and commit the result",
        process::sha256(&built)?
    );
    fs::copy(&built, &table).with_context(|| format!("cannot write {}", table.display()))?;
    ui::say(&format!("{TABLE} is new: {}", process::sha256(&table)?));
    Ok(())
}

/// Runs the builder. It is an example of `monitor` so that this program stays small; see there.
fn build(workspace: &Workspace, sources: &Path, output: &Path) -> Result<()> {
    process::run(
        process::cargo()
            .current_dir(workspace.root())
            .args(["run", "--quiet", "--locked", "--package", "egresswatch", "--example", "build-ownership", "--"])
            .arg(sources)
            .arg(DATE)
            .arg(output),
    )
}

/// Unpacks all packages, each into a folder of its name, and returns the folder above them.
fn fetch(workspace: &Workspace) -> Result<PathBuf> {
    let downloads = workspace.target("data/packages");
    let sources = workspace.target("data/sources");
    fs::create_dir_all(&downloads).with_context(|| format!("cannot create {}", downloads.display()))?;
    for package in &PACKAGES {
        let archive = package.download(&downloads)?;
        let folder = sources.join(package.name);
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("cannot empty {}", folder.display()))?;
        }
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let mut unpack = process::command("tar");
        unpack.args(["--extract", "--gzip", "--strip-components=1", "--no-same-owner"]);
        process::run(unpack.arg("--directory").arg(&folder).arg("--file").arg(&archive))?;
    }
    Ok(sources)
}

/// A package of the `@ip-location-db` family.
struct Package {
    name: &'static str,
    sha256: &'static str,
}

impl Package {
    /// The package's file in `folder`, fetched from the registry that npm is configured for unless it is there already.
    fn download(&self, folder: &Path) -> Result<PathBuf> {
        // The name that `npm pack` gives to a package with a scope.
        let archive = folder.join(format!("ip-location-db-{}-{VERSION}.tgz", self.name));
        if archive.is_file() && process::sha256(&archive)? == self.sha256 {
            return Ok(archive);
        }
        ensure!(
            process::find_program("npm").is_some(),
            "npm is missing: install the package `npm`, or put {} into {}",
            archive.file_name().unwrap_or_default().display(),
            folder.display()
        );
        let mut pack = process::command("npm");
        pack.args(["pack", "--silent", "--ignore-scripts", "--pack-destination"]).arg(folder);
        process::run(pack.current_dir(folder).arg(format!("@ip-location-db/{}@{VERSION}", self.name)))?;
        let found = process::sha256(&archive)?;
        ensure!(
            found == self.sha256,
            "{} has SHA-256 {found}, {} is pinned: the registry gave out something else; do not use it",
            archive.display(),
            self.sha256
        );
        Ok(archive)
    }
}
