//! A real browser, headless, that lives in the client's network and asks its name server.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    certificate::Certificate,
    internet::{Internet, SITE},
    support::patience,
};

/// Names under which distributions install Chromium, and Chrome.
const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome-stable", "google-chrome"];

/// What makes it run without a screen, as root, on the first start, over the protocols that the servers speak. Nothing
/// that keeps it from talking on its own: a user's browser does that too.
const FLAGS: [&str; 5] = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"];

/// Binds the two files over the machine's own in a mount namespace of the browser's own, then becomes the browser.
/// `nsswitch.conf` too: a machine's own may ask a resolver over a Unix socket, out of the network namespace.
const START: &str = r#"
mount --bind "$1/resolv.conf" /etc/resolv.conf &&
mount --bind "$1/nsswitch.conf" /etc/nsswitch.conf &&
shift && exec "$@"
"#;

/// A running browser.
pub(crate) struct Browser(Child);

impl Browser {
    /// Opens `address` in a fresh profile in `folder`.
    pub(crate) fn open(internet: &Internet, certificate: &Certificate, folder: &Path, address: &str) -> Result<Self> {
        let browser = find().context("no Chromium here")?;
        fs::write(folder.join("resolv.conf"), format!("nameserver {SITE}\n"))?;
        fs::write(folder.join("nsswitch.conf"), "hosts: files dns\n")?;
        let log = fs::File::create(folder.join("browser.log"))?;
        let child = internet
            .client
            .command("unshare")
            .args(["--mount", "--propagation", "private", "--", "sh", "-c", START, "sh"])
            .arg(folder)
            .arg(browser)
            .args(FLAGS)
            .arg(format!("--user-data-dir={}", folder.join("profile").display()))
            .arg(format!("--ignore-certificate-errors-spki-list={}", certificate.public_key_hash))
            .arg(address)
            .env("HOME", folder)
            .env_remove("DBUS_SESSION_BUS_ADDRESS")
            .env_remove("WAYLAND_DISPLAY")
            .env_remove("DISPLAY")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("cannot start the browser")?;
        Ok(Self(child))
    }

    /// Path of the program that runs, after every wrapper script has become it.
    pub(crate) fn executable(&self) -> Result<PathBuf> {
        fs::read_link(format!("/proc/{}/exe", self.0.id())).context("the browser has ended")
    }

    /// Closes it as a session manager does, and waits until it has ended.
    pub(crate) fn close(mut self) -> Result<()> {
        kill(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGTERM)?;
        let deadline = Instant::now() + patience();
        while self.0.try_wait()?.is_none() {
            ensure!(Instant::now() < deadline, "the browser does not end");
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It has ended already unless the test failed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The installed browser; `None` if there is none.
pub(crate) fn find() -> Option<PathBuf> {
    NAMES.into_iter().find_map(find_program)
}

/// The program `name` in the search path.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}
