//! The scenario of the mission: a web page tells a carrier in China who visits it, and the monitor says so.
//!
//! A real browser opens a page of a local web server. The page's script describes the device and posts that to
//! `https://cmpassport.com`, which the local name server places at an address of China Mobile. Everything happens in two
//! network namespaces joined by one link, without a route to anywhere else; the monitor watches from outside, on the
//! whole host, as it always does.
//!
//! Needs root: `cargo xtask test`, or `cargo test -p egresswatch --test mission` as root.

mod browser;
mod certificate;
mod internet;
mod scenario;
mod servers;
#[expect(dead_code, reason = "the kernel tests use more of it")]
mod support;

use std::{env, fs::File, net::IpAddr, process::ExitCode};

use anyhow::{Context as _, Result};
use libtest_mimic::{Arguments, Completion, Trial};
use support::Rung;

use crate::{
    internet::{COLLECTOR_IPV4, COLLECTOR_IPV6},
    scenario::Page,
};

/// Held by a run of these tests: a monitor sees the whole host, so a second run's browser would be taken for this one's.
const LOCK: &str = "/run/lock/egresswatch-mission-tests";

/// The collector's addresses when it has an old one only.
const IPV4: &[IpAddr] = &[IpAddr::V4(COLLECTOR_IPV4)];
/// The collector's addresses when it has both, as most of the web; a browser prefers the first.
const BOTH: &[IpAddr] = &[IpAddr::V6(COLLECTOR_IPV6), IpAddr::V4(COLLECTOR_IPV4)];

/// What the tests start, and the Debian package that brings it.
const PROGRAMS: [(&str, &str); 5] = [
    ("ip", "iproute2"),
    ("nsenter", "util-linux"),
    ("unshare", "util-linux"),
    ("openssl", "openssl"),
    ("python3", "python3"),
];

fn main() -> Result<ExitCode> {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let missing = missing();
    let _lock = if missing.is_none() && !arguments.list { Some(lock()?) } else { None };
    Ok(libtest_mimic::run(&arguments, trials(missing.as_deref())).exit_code())
}

/// What of the machine is missing for these tests.
fn missing() -> Option<String> {
    if !support::is_root() {
        return Some("no root: run `cargo xtask test`, which asks sudo for it".to_owned());
    }
    if browser::find().is_none() {
        return Some("no Chromium here: install the package chromium, or run `cargo xtask setup`".to_owned());
    }
    let (program, package) = PROGRAMS.into_iter().find(|(program, _)| browser::find_program(program).is_none())?;
    Some(format!("no `{program}` here: install the package {package}, or run `cargo xtask setup`"))
}

fn lock() -> Result<File> {
    let file = File::create(LOCK).with_context(|| format!("cannot create {LOCK}"))?;
    file.lock().with_context(|| format!("cannot lock {LOCK}"))?;
    Ok(file)
}

fn trials(missing: Option<&str>) -> Vec<Trial> {
    let mut trials = Vec::new();
    for rung in Rung::ALL {
        let mut add = |name: &str, test: Box<dyn Fn() -> Result<()> + Send>| {
            let missing = missing.map(str::to_owned);
            trials.push(Trial::ignorable_test(format!("mission::{name}::{rung}"), move || match &missing {
                // A person sees what was skipped; a CI run that tests less than it claims must not be green.
                Some(reason) if env::var_os("CI").is_some() => Err(format!("cannot run here: {reason}").into()),
                Some(reason) => Ok(Completion::ignored_with(reason)),
                None if !rung.is_available() => Ok(Completion::ignored_with(format!("this kernel has no rung {rung}"))),
                None => test().map(|()| Completion::Completed).map_err(|error| format!("{error:#}").into()),
            }));
        };
        for (family, addresses) in [("ipv4", IPV4), ("ipv6", BOTH)] {
            let name = format!("hidden_post_alerts::{family}");
            add(&name, Box::new(move || scenario::hidden_post_alerts(rung, addresses)));
        }
        for (name, page) in [("mere_link", Page::Link), ("looked_up_link", Page::LookedUpLink)] {
            let name = format!("{name}_does_not_alert");
            add(&name, Box::new(move || scenario::nothing_sent_does_not_alert(rung, page, BOTH)));
        }
    }
    trials
}
