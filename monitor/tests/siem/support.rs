//! Certificates, ports, items, and waiting for a fact.

use std::{
    fs,
    net::{TcpListener, UdpSocket},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use egresswatch::{
    alert::{Timestamp, record::Dataset},
    config::Config,
    sink::delivery::{AnyDelivery, Item},
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};

/// Where a program of the distribution is.
pub(crate) fn installed(name: &str) -> Option<PathBuf> {
    ["/usr/sbin", "/usr/bin", "/sbin", "/bin"]
        .into_iter()
        .map(|folder| Path::new(folder).join(name))
        .find(|path| path.is_file())
}

/// A file of `deploy/siem`, each of `changes` made in it. A change that changes nothing is an error: the file has moved on.
pub(crate) fn example(path: &str, changes: &[(&str, &str)]) -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/siem").join(path);
    let mut text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    for (from, to) in changes {
        ensure!(text.contains(from), "{} has no {from}", path.display());
        text = text.replace(from, to);
    }
    Ok(text)
}

/// Python with a package of the Python Package Index, in an environment under `target` that is kept.
pub(crate) fn python_with(package: &str) -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let folder = root.join("target/siem").join(package.replace("==", "-"));
    let python = folder.join("bin/python3");
    let complete = folder.join("complete");
    if !complete.exists() {
        let mut venv = Command::new(installed("python3").unwrap_or_else(|| PathBuf::from("python3")));
        venv.args(["-m", "venv", "--clear"]).arg(&folder);
        succeed(&mut venv).context("install the package python3-venv")?;
        succeed(Command::new(&python).args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            package,
        ]))?;
        fs::write(&complete, "")?;
    }
    Ok(python)
}

/// A package of the distribution with those that it needs and this machine lacks, unpacked under `target` and not
/// installed. Returns the folder that stands for `/`.
pub(crate) fn debian_package(package: &str) -> Result<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/siem").join(package);
    let complete = folder.join("complete");
    if complete.exists() {
        return Ok(folder);
    }
    let _ = fs::remove_dir_all(&folder);
    let downloads = folder.join("downloads");
    fs::create_dir_all(&downloads)?;
    let depends = Command::new("apt-cache").env("LC_ALL", "C").args(["depends", "--important", package]).output()?;
    let depends = String::from_utf8_lossy(&depends.stdout).into_owned();
    let needed = depends.lines().filter_map(|line| line.trim().strip_prefix("Depends: ")).filter(|name| {
        let state = Command::new("dpkg-query").args(["--show", "--showformat=${Status}", name]).output();
        !state.is_ok_and(|state| state.stdout.ends_with(b" installed"))
    });
    let mut download = Command::new("apt-get");
    download.args(["download", "-qq", package]).args(needed).current_dir(&downloads);
    succeed(&mut download).context("bring the package lists up to date with `apt-get update`")?;
    for archive in fs::read_dir(&downloads)? {
        succeed(Command::new("dpkg-deb").arg("--extract").arg(archive?.path()).arg(&folder))?;
    }
    fs::write(&complete, "")?;
    Ok(folder)
}

/// A script of this folder run by `python`; what it prints, or its complaint.
pub(crate) fn script(python: &Path, name: &str, arguments: &[PathBuf], input: &Path) -> Result<String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/siem").join(name);
    let input = fs::File::open(input).with_context(|| format!("cannot read {}", input.display()))?;
    let output = Command::new(python).arg(script).args(arguments).stdin(input).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{name}: {text}{}", String::from_utf8_lossy(&output.stderr));
    Ok(text)
}

/// A file of this package.
pub(crate) fn package_file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn succeed(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// A port that is free for TCP and UDP now.
pub(crate) fn free_port() -> Result<u16> {
    for _ in 0..100 {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        if UdpSocket::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no port is free")
}

/// The one output of a configuration.
pub(crate) fn open(text: &str) -> Result<Box<dyn AnyDelivery>> {
    let config = Config::parse(text, "the test's configuration")?;
    let (name, output) = config.outputs.first_key_value().context("no output")?;
    Ok(output.kind.open(name, &egresswatch::host::read())?)
}

/// What drives the transports.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

/// Waits until `fact` gives something.
pub(crate) fn wait<T>(what: &str, mut fact: impl FnMut() -> Option<T>) -> Result<T> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = fact() {
            return Ok(found);
        }
        ensure!(Instant::now() < deadline, "{what}: not within 20 s");
        thread::sleep(Duration::from_millis(20));
    }
}

/// A record of about 1 kB with the id `run-NUMBER`.
pub(crate) fn item(number: usize) -> Item {
    let id = format!("run-{number}");
    let filler = "x".repeat(900);
    let json = format!(
        "{{\"event\":{{\"id\":\"{id}\"}},\"process\":{{\"executable\":\"/opt/\u{fc}\"}},\"filler\":\"{filler}\"}}"
    );
    Item {
        id,
        time: Timestamp::from_unix_ns(1_795_431_784_000_000_000),
        dataset: Dataset::Alert,
        severity: Some(73),
        bytes: Bytes::from(json),
    }
}

/// An authority that lives as long as the test.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Writes `ca.pem` into `folder`.
    pub(crate) fn new(folder: &Path) -> Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "Authority of the test");
        let key = KeyPair::generate()?;
        fs::write(folder.join("ca.pem"), params.self_signed(&key)?.pem())?;
        Ok(Self { issuer: Issuer::new(params, key) })
    }

    /// Writes `NAME.pem` and `NAME.key` into `folder`, for the DNS name or address `subject`.
    pub(crate) fn issue(&self, folder: &Path, name: &str, subject: &str, expired: bool) -> Result<()> {
        let mut params = CertificateParams::new([subject.to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, subject);
        if expired {
            (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
        }
        let key = KeyPair::generate()?;
        fs::write(folder.join(format!("{name}.pem")), params.signed_by(&key, &self.issuer)?.pem())?;
        fs::write(folder.join(format!("{name}.key")), key.serialize_pem())?;
        Ok(())
    }
}
