//! Programs that the distribution's packages bring.

use std::ffi::OsStr;

use anyhow::{Result, bail};

use super::Part;
use crate::process::{self, Root};
use crate::ui;

/// A program and the Debian package that brings it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Package {
    /// The program looked for.
    pub(super) program: &'static str,
    /// The package's name in Debian and Ubuntu.
    pub(super) name: &'static str,
    part: Part,
}

/// Everything that any part needs.
const PACKAGES: &[Package] = &[
    Package { program: "xz", name: "xz-utils", part: Part::Ebpf },
    Package { program: "tar", name: "tar", part: Part::Ebpf },
    // The clients of the kernel tests, each another way of sending.
    Package { program: "curl", name: "curl", part: Part::Test },
    Package { program: "python3", name: "python3", part: Part::Test },
    // Environments for packages of Python, such as the validator of OCSF; no program of its own.
    Package { program: "python3", name: "python3-venv", part: Part::Test },
    Package { program: "ncat", name: "ncat", part: Part::Test },
    Package { program: "nc", name: "netcat-openbsd", part: Part::Test },
    Package { program: "ping", name: "iputils-ping", part: Part::Test },
    Package { program: "chromium", name: "chromium", part: Part::Test },
    // A container around such a client.
    Package { program: "runc", name: "runc", part: Part::Test },
    Package { program: "busybox", name: "busybox-static", part: Part::Test },
    // The network those clients see: namespaces, names and certificates.
    Package { program: "ip", name: "iproute2", part: Part::Test },
    Package { program: "nft", name: "nftables", part: Part::Test },
    Package { program: "nsenter", name: "util-linux", part: Part::Test },
    Package { program: "dnsmasq", name: "dnsmasq-base", part: Part::Test },
    Package { program: "openssl", name: "openssl", part: Part::Test },
    Package { program: "certutil", name: "libnss3-tools", part: Part::Test },
    // Receivers of syslog; the tests start them. The second brings a library and no program, so it comes with the first.
    Package { program: "rsyslogd", name: "rsyslog", part: Part::Test },
    Package { program: "rsyslogd", name: "rsyslog-openssl", part: Part::Test },
    // Reads metrics and alert rules.
    Package { program: "promtool", name: "prometheus", part: Part::Test },
    // Fetches the pinned packages of ownership data.
    Package { program: "npm", name: "npm", part: Part::Ci },
    // The guests.
    Package { program: "qemu-system-x86_64", name: "qemu-system-x86", part: Part::Vm },
    Package { program: "ip", name: "iproute2", part: Part::Vm },
    Package { program: "busybox", name: "busybox-static", part: Part::Vm },
    Package { program: "xz", name: "xz-utils", part: Part::Vm },
    // The guest with systemd.
    Package { program: "debootstrap", name: "debootstrap", part: Part::Vm },
    Package { program: "cpio", name: "cpio", part: Part::Vm },
];

/// The packages whose program is not there.
pub(super) fn missing(parts: &[Part]) -> Vec<Package> {
    PACKAGES
        .iter()
        .filter(|package| parts.contains(&package.part) && process::find_program(package.program).is_none())
        .copied()
        .collect()
}

/// Installs the missing packages with apt; elsewhere says what to install.
pub(super) fn install(parts: &[Part]) -> Result<()> {
    let missing = missing(parts);
    if missing.is_empty() {
        return Ok(());
    }
    let mut names: Vec<_> = missing.iter().map(|package| package.name).collect();
    names.sort_unstable();
    names.dedup();
    if process::find_program("apt-get").is_none() {
        let programs: Vec<_> = missing.iter().map(|package| package.program).collect();
        bail!(
            "these programs are missing and there is no apt-get here: {}. \
             Install them with your system's packages; in Debian they are called: {}",
            programs.join(" "),
            names.join(" ")
        );
    }
    ui::step(&format!("setup: install the packages {}", names.join(" ")), || {
        let root = Root::obtain()?;
        let environment: &[(&str, &OsStr)] = &[("DEBIAN_FRONTEND", OsStr::new("noninteractive"))];
        process::run(root.command("apt-get", environment).args(["update", "-qq"]))?;
        process::run(
            root.command("apt-get", environment).args(["install", "-y", "-qq", "--no-install-recommends"]).args(&names),
        )
    })
}
