//! The real `/proc` of this machine.

use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use nix::unistd::{getgid, getuid};

use super::*;

/// A child that is ended with the test.
struct Sleeper(Child);

impl Sleeper {
    /// Starts one and waits until the kernel shows its arguments: `spawn` returns when the program has replaced this one,
    /// a moment before they are in place.
    fn start() -> Self {
        let child = Self(Command::new("sleep").arg("60").spawn().expect("sleep is installed"));
        let deadline = Instant::now() + Duration::from_secs(10);
        while fs::read(format!("/proc/{}/cmdline", child.0.id())).expect("the child runs").is_empty() {
            assert!(Instant::now() < deadline, "the child got no arguments within 10 s");
            thread::yield_now();
        }
        child
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_child_of_this_test_is_described() {
    let child = Sleeper::start();
    let roots = Roots::default();
    let host = HostFacts::read(&roots).expect("facts");
    let own = host.own;
    let mut table = Table::new(roots, host, &Config::default());
    assert!(table.seed().expect("seed") >= 2);
    let stat = table.proc.stat(child.0.id()).expect("the child runs");
    let executable = fs::metadata(format!("/proc/{}/exe", child.0.id())).expect("metadata");
    let identity = Identity {
        user_id: getuid().as_raw(),
        group_id: getgid().as_raw(),
        effective_user_id: None,
        ..identity(key(child.0.id(), stat.start_ticks), Some(file(executable.ino())))
    };

    let process = table.resolve(&identity);
    let path = fs::read_link(format!("/proc/{}/exe", child.0.id())).expect("link");
    assert_eq!(path_of(&process), Some((path.as_path(), PathQuality::Proc)));
    assert_eq!(process.arguments, ["sleep", "60"]);
    assert_eq!((process.matching, process.is_own), (Matching::Start, false));
    let user = nix::unistd::User::from_uid(getuid()).expect("user database").expect("the user of this test");
    assert_eq!(process.user.name, Some(user.name));
    assert_eq!(process.ancestors[0].key, own);
    assert_eq!(process.ancestors[0].executable, std::env::current_exe().ok());
    assert!(process.ancestors.len() <= 16);
    assert!(process.ancestors.windows(2).all(|pair| pair[0].key.start_ticks >= pair[1].key.start_ticks));
    assert!(table.resolve(&self::identity(own, None)).is_own);

    drop(child);
    let unseen = Identity { thread_id: 1, ..identity };
    assert_eq!(table.resolve(&unseen).arguments, ["sleep", "60"], "kept after the end");
}
