//! Debian's cloud kernels, found on the mirror, unpacked below the target directory and never installed.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::ValueEnum;

use crate::apt::{PrivateApt, Suite};
use crate::ui;
use crate::workspace::Workspace;

/// The package that always depends on the newest kernel of its suite.
const META_PACKAGE: &str = "linux-image-cloud-amd64";

/// The packages that hold the kernel and its modules; up to 6.12 all is in `linux-image-…`.
const PACKAGE_PREFIXES: [&str; 3] = ["linux-image-", "linux-binary-", "linux-modules-"];

/// A line of kernels in the matrix: the oldest we support, the long-term ones between, and the newest there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Line {
    /// Debian 11
    #[value(name = "5.10")]
    V5_10,
    /// Debian 12
    #[value(name = "6.1")]
    V6_1,
    /// Debian 13
    #[value(name = "6.12")]
    V6_12,
    /// The newest 7.x, from Debian 13's backports
    #[value(name = "7")]
    V7,
}

impl Line {
    /// The whole matrix, oldest first.
    pub(crate) const ALL: [Self; 4] = [Self::V5_10, Self::V6_1, Self::V6_12, Self::V7];

    fn name(self) -> &'static str {
        match self {
            Self::V5_10 => "5.10",
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
            Self::V7 => "7",
        }
    }

    /// Arguments that leave out rungs. Fexit is never taken on kernels that have the probes of sender. Base is shown by
    /// itself on the oldest and on the newest kernel; between them its programs run as a part of the other rungs.
    pub(super) fn without_needless_rungs(self) -> &'static [&'static str] {
        match self {
            Self::V5_10 => &[],
            Self::V6_1 => &["--skip", "base::"],
            Self::V6_12 => &["--skip", "base::", "--skip", "fexit::"],
            Self::V7 => &["--skip", "fexit::"],
        }
    }

    /// On how many rungs the tests run there, which is how long they take.
    pub(super) fn rungs_shown(self) -> usize {
        match self {
            Self::V5_10 | Self::V7 => 2,
            Self::V6_1 | Self::V6_12 => 1,
        }
    }

    fn suite(self) -> Suite {
        Suite {
            name: match self {
                Self::V5_10 => "bullseye-security",
                Self::V6_1 => "bookworm",
                Self::V6_12 => "trixie",
                Self::V7 => "trixie-backports",
            },
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

/// An unpacked kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kernel {
    /// Its place in the matrix.
    pub(crate) line: Line,
    /// What `uname -r` says in it.
    pub(crate) release: String,
    /// The bootable image.
    pub(crate) image: PathBuf,
    /// The folder of its modules.
    pub(crate) modules: PathBuf,
}

impl Kernel {
    /// Takes the kernel from the cache, or from the mirror if it is not there or `refresh` asks for the newest.
    pub(crate) fn fetch(workspace: &Workspace, line: Line, refresh: bool) -> Result<Self> {
        let cache = workspace.target("vm/kernels").join(line.name());
        if !refresh && let Ok(kernel) = Self::in_folder(line, &cache) {
            return Ok(kernel);
        }
        ui::step(&format!("fetch kernel {line} from {}", line.suite().name), || {
            let apt = PrivateApt::update(&workspace.target("apt").join(line.suite().name), line.suite())?;
            let unpacking = workspace.target("vm/kernels").join(format!("{line}.unpacking"));
            let _ = fs::remove_dir_all(&unpacking);
            fs::create_dir_all(&unpacking).with_context(|| format!("cannot create {}", unpacking.display()))?;
            for package in packages(|name| apt.dependencies(name))? {
                apt.unpack(&package, &unpacking)?;
            }
            Self::in_folder(line, &unpacking)?;
            // Only a complete kernel gets the name that later runs look for.
            let _ = fs::remove_dir_all(&cache);
            fs::rename(&unpacking, &cache).with_context(|| format!("cannot create {}", cache.display()))?;
            Self::in_folder(line, &cache)
        })
    }

    /// Finds image and modules in an unpacked package tree.
    fn in_folder(line: Line, folder: &Path) -> Result<Self> {
        let libraries = ["lib/modules", "usr/lib/modules"].map(|name| folder.join(name));
        let modules = libraries
            .iter()
            .filter_map(|library| fs::read_dir(library).ok()?.next()?.ok())
            .map(|entry| entry.path())
            .next()
            .with_context(|| format!("no kernel modules in {}", folder.display()))?;
        let release = modules
            .file_name()
            .and_then(|name| name.to_str())
            .context("the modules' folder has no plain name")?
            .to_owned();
        // From 7.x on the image lies beside the modules.
        let image = [folder.join(format!("boot/vmlinuz-{release}")), modules.join("vmlinuz")]
            .into_iter()
            .find(|image| image.is_file())
            .with_context(|| format!("no kernel image in {}", folder.display()))?;
        Ok(Self { line, release, image, modules })
    }
}

/// The packages to unpack: what the meta package depends on, directly or not, as far as it is kernel or modules.
fn packages(dependencies: impl Fn(&str) -> Result<Vec<String>>) -> Result<Vec<String>> {
    let mut found: Vec<String> = Vec::new();
    let mut unexplored = vec![META_PACKAGE.to_owned()];
    while let Some(package) = unexplored.pop() {
        for name in dependencies(&package)? {
            if PACKAGE_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) && !found.contains(&name) {
                unexplored.push(name.clone());
                found.push(name);
            }
        }
    }
    anyhow::ensure!(!found.is_empty(), "{META_PACKAGE} depends on no kernel here");
    found.sort_unstable();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(archive: &[(&str, &[&str])], expected: &[&str]) {
        let dependencies = |name: &str| {
            let known =
                archive.iter().find(|(package, _)| *package == name).map(|(_, names)| *names).unwrap_or_default();
            Ok(known.iter().map(|name| (*name).to_owned()).collect())
        };
        assert_eq!(packages(dependencies).expect("packages"), expected);
    }

    #[test]
    fn the_kernel_is_found_in_one_package_or_in_several() {
        check(
            &[
                (META_PACKAGE, &["linux-image-6.12.117-cloud-amd64"]),
                ("linux-image-6.12.117-cloud-amd64", &["kmod", "linux-base"]),
            ],
            &["linux-image-6.12.117-cloud-amd64"],
        );
        check(
            &[
                (META_PACKAGE, &["linux-base-cloud-amd64", "linux-image-7.3-cloud-amd64", "linux-modules-cloud-amd64"]),
                (
                    "linux-image-7.3-cloud-amd64",
                    &["dracut", "linux-binary-7.3-cloud-amd64", "linux-modules-7.3-cloud-amd64"],
                ),
                ("linux-modules-cloud-amd64", &["linux-modules-7.3-cloud-amd64"]),
            ],
            &[
                "linux-binary-7.3-cloud-amd64",
                "linux-image-7.3-cloud-amd64",
                "linux-modules-7.3-cloud-amd64",
                "linux-modules-cloud-amd64",
            ],
        );
    }

    #[test]
    fn an_archive_without_kernels_is_an_error() {
        assert!(packages(|_| Ok(vec!["kmod".to_owned()])).is_err());
    }

    #[test]
    fn both_layouts_of_an_unpacked_kernel_are_understood() {
        for (modules, image) in [
            ("lib/modules/6.1.0-50-cloud-amd64/kernel", "boot/vmlinuz-6.1.0-50-cloud-amd64"),
            ("usr/lib/modules/7.3.4+deb13-cloud-amd64/kernel", "usr/lib/modules/7.3.4+deb13-cloud-amd64/vmlinuz"),
        ] {
            let folder = tempfile::tempdir().expect("a folder");
            assert!(Kernel::in_folder(Line::V7, folder.path()).is_err(), "nothing is there yet");
            fs::create_dir_all(folder.path().join(modules)).expect("folders");
            fs::create_dir_all(folder.path().join("boot")).expect("folders");
            fs::write(folder.path().join(image), "").expect("an image");
            let kernel = Kernel::in_folder(Line::V7, folder.path()).expect("a kernel");
            assert_eq!(kernel.image, folder.path().join(image));
            assert!(modules.contains(&kernel.release));
        }
    }
}
