//! Debian packages of any suite, read and unpacked without touching the system.
//!
//! apt runs with its own source list, lists and cache below the target directory. The mirror, proxies and keys are the
//! machine's own, so an inside mirror is used as it is everywhere else on that machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::process;

/// The archive asked where the machine's configuration names no Debian mirror (Ubuntu, say).
const PUBLIC_MIRROR: &str = "http://deb.debian.org/debian";

/// One suite of the Debian archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Suite {
    /// The suite's name on the mirror: `bookworm`, `trixie-backports`, `bullseye-security`.
    pub(crate) name: &'static str,
}

impl Suite {
    fn is_security(self) -> bool {
        self.name.ends_with("-security")
    }
}

/// An apt of its own for one suite.
#[derive(Debug)]
pub(crate) struct PrivateApt {
    folder: PathBuf,
}

impl PrivateApt {
    /// Prepares the folder and downloads the suite's package lists.
    ///
    /// Fails where there is no apt, no mirror answers, or the machine has no key for the suite.
    pub(crate) fn update(folder: &Path, suite: Suite) -> Result<Self> {
        let mirror = mirror(suite)?;
        for part in ["lists/partial", "cache/archives/partial"] {
            let part = folder.join(part);
            fs::create_dir_all(&part).with_context(|| format!("cannot create {}", part.display()))?;
        }
        let list = format!("deb {mirror} {} main\n", suite.name);
        for (name, text) in [("sources.list", list), ("apt.conf", configuration(folder))] {
            let path = folder.join(name);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }

        let apt = Self { folder: folder.to_path_buf() };
        process::output(apt.command("apt-get").args(["--error-on=any", "update"])).with_context(|| {
            format!(
                "cannot read the suite {} from {mirror}. The keys are those of the package `debian-archive-keyring`; \
                 another mirror can be named by EGRESSWATCH_DEBIAN_MIRROR",
                suite.name
            )
        })?;
        Ok(apt)
    }

    /// Every version of the package, in the archive's words.
    pub(crate) fn versions(&self, package: &str) -> Result<Vec<String>> {
        let listing = process::output(self.command("apt-cache").args(["madison", package]))?;
        Ok(versions_of_madison(&listing))
    }

    /// The packages that this package depends on, by name.
    pub(crate) fn dependencies(&self, package: &str) -> Result<Vec<String>> {
        let listing = process::output(self.command("apt-cache").args(["show", "--no-all-versions", package]))?;
        Ok(dependencies_of_show(&listing))
    }

    /// Downloads the package (`name` or `name=version`) and unpacks it into the folder.
    pub(crate) fn unpack(&self, package: &str, into: &Path) -> Result<()> {
        let downloads = self.folder.join("downloads");
        let _ = fs::remove_dir_all(&downloads);
        fs::create_dir_all(&downloads).with_context(|| format!("cannot create {}", downloads.display()))?;
        process::run(self.command("apt-get").args(["download", "-qq", package]).current_dir(&downloads))?;
        let archive = fs::read_dir(&downloads)?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
            .with_context(|| format!("`apt-get download {package}` left no package in {}", downloads.display()))?;
        process::run(process::command("dpkg-deb").arg("-x").arg(&archive).arg(into))?;
        fs::remove_dir_all(&downloads).with_context(|| format!("cannot remove {}", downloads.display()))
    }

    fn command(&self, program: &str) -> Command {
        let mut command = process::command(program);
        // A configuration file named here is read after the machine's own, whose proxies and keys stay in force.
        command.arg("-c").arg(self.folder.join("apt.conf")).env("LC_ALL", "C");
        command
    }
}

/// What sets the private apt apart from the machine's.
fn configuration(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "Dir::Etc::SourceList \"{folder}/sources.list\";\n\
         Dir::Etc::SourceParts \"/dev/null\";\n\
         Dir::Etc::Preferences \"/dev/null\";\n\
         Dir::Etc::PreferencesParts \"/dev/null\";\n\
         Dir::State::Lists \"{folder}/lists\";\n\
         Dir::Cache \"{folder}/cache\";\n\
         // The sandbox user of a system-wide apt cannot write below a private folder.\n\
         APT::Sandbox::User \"root\";\n\
         Acquire::Languages \"none\";\n\
         Acquire::IndexTargets::deb::DEP-11::DefaultEnabled \"false\";\n\
         Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled \"false\";\n"
    )
}

/// The mirror for a suite: named by the environment, configured on this machine, or the public one.
pub(crate) fn mirror(suite: Suite) -> Result<String> {
    if process::find_program("apt-get").is_none() || process::find_program("dpkg-deb").is_none() {
        bail!("apt-get and dpkg-deb are not installed: this needs a Debian or Ubuntu system");
    }
    let archive = if let Ok(mirror) = std::env::var("EGRESSWATCH_DEBIAN_MIRROR") {
        mirror
    } else {
        let targets = process::output(process::command("apt-get").args([
            "indextargets",
            "--format",
            "$(REPO_URI)",
            "Created-By: Packages",
        ]))?;
        debian_archive(&targets).unwrap_or(PUBLIC_MIRROR).to_owned()
    };
    let archive = archive.trim_end_matches('/');
    Ok(if suite.is_security() { format!("{archive}-security") } else { archive.to_owned() })
}

/// The main archive among the addresses the machine's apt uses: mirrors keep the folder names `debian` and
/// `debian-security` side by side.
fn debian_archive(addresses: &str) -> Option<&str> {
    addresses.lines().map(|line| line.trim().trim_end_matches('/')).find(|address| address.ends_with("/debian"))
}

/// The second column of `apt-cache madison`: `name | version | source`.
fn versions_of_madison(listing: &str) -> Vec<String> {
    listing.lines().filter_map(|line| line.split('|').nth(1)).map(|version| version.trim().to_owned()).collect()
}

/// The names in the `Depends:` line of `apt-cache show`, without versions and alternatives.
fn dependencies_of_show(listing: &str) -> Vec<String> {
    listing
        .lines()
        .find_map(|line| line.strip_prefix("Depends:"))
        .into_iter()
        .flat_map(|names| names.split(','))
        .filter_map(|name| name.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_debian_mirror_is_found_among_its_sources() {
        for (addresses, expected) in [
            (
                "http://mirror.example/debian/\nhttp://mirror.example/debian-security/\n",
                Some("http://mirror.example/debian"),
            ),
            ("http://mirror.example/debian-security\nhttps://b.example/x/debian\n", Some("https://b.example/x/debian")),
            ("http://archive.ubuntu.com/ubuntu/\n", None),
            ("", None),
        ] {
            assert_eq!(debian_archive(addresses), expected, "{addresses:?}");
        }
    }

    #[test]
    fn apts_listings_are_understood() {
        let madison = " rust-src | 1.96.1+dfsg1-2~bpo13+1 | http://m/debian trixie-backports/main amd64 Packages\n \
                       rust-src | 1.95.0+dfsg1-2~bpo13+1 | http://m/debian trixie-backports/main amd64 Packages\n";
        assert_eq!(versions_of_madison(madison), ["1.96.1+dfsg1-2~bpo13+1", "1.95.0+dfsg1-2~bpo13+1"]);

        let show =
            "Package: linux-image-cloud-amd64\nDepends: linux-base-cloud-amd64 (= 7.3.4-1), linux-image-7.3.4 | x\n";
        assert_eq!(dependencies_of_show(show), ["linux-base-cloud-amd64", "linux-image-7.3.4"]);
        assert!(dependencies_of_show("Package: busybox-static\n").is_empty());
    }
}
