//! `egresswatch data` as people and timers run it: the program itself, with files of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    thread,
    time::Duration,
};

use serde_json::Value;

/// All networks, as a table of this program.
fn full() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/ownership.bin")
}

/// A folder with a configuration whose table is in it.
struct Ground(tempfile::TempDir);

impl Ground {
    fn new() -> Self {
        let ground = Self(tempfile::tempdir().expect("a folder"));
        fs::write(ground.at("config.toml"), format!("[data]\ntable = \"{}\"\n", ground.at("ownership.bin").display()))
            .expect("a file");
        ground
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_egresswatch"));
        command.args(arguments).arg("--config").arg(self.at("config.toml"));
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the program runs")
    }

    /// The answer of a command that succeeds.
    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    /// Which network an address is of.
    fn asn(&self, address: &str) -> Option<u64> {
        self.json(&["lookup", "--json", address]).pointer("/owner/asn").and_then(Value::as_u64)
    }

    fn write(&self, name: &str, text: &str) -> String {
        fs::write(self.at(name), text).expect("a file");
        self.at(name).display().to_string()
    }
}

#[test]
fn data_are_imported_looked_up_and_rolled_back() {
    let ground = Ground::new();
    let full = full().display().to_string();
    let embedded = ground.json(&["data", "info", "--json"]);
    assert_eq!((&embedded["table"], &embedded["date"]), (&"embedded".into(), &"2026-06-17".into()));
    assert!(
        embedded["anchors"].as_array().is_some_and(|all| all.len() == 4 && all.iter().all(|one| one["passed"] == true))
    );
    assert!(embedded["sources"].to_string().contains("CC BY 4.0"));
    let mine = ground.write("mine.csv", "198.51.100.0/24,AS64500,Somebody\n1.0.0.0/99,AS1,Bad\n");
    let dry = ground.json(&["data", "import", "--json", "--dry-run", &mine, &full]);
    assert_eq!((&dry["outcome"], ground.asn("198.51.100.7")), (&"dry_run".into(), None));
    assert_eq!(dry["unreadable"][0]["line"], 2);
    let text = ground.run(&["data", "import", &mine, &full]);
    let told = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.status.success() && told.contains("left out:") && told.contains("line 2: `1.0.0.0/99`"), "{told}");
    assert!(told.contains("8.8.8.8 AS15169") && told.contains("a running monitor takes it in at once"), "{told}");
    assert_eq!((ground.asn("198.51.100.7"), ground.asn("111.13.100.1")), (Some(64_500), Some(9808)));
    let info = ground.json(&["data", "info", "--json"]);
    assert_eq!((&info["table"], &info["sources"][0]["bad_records"]), (&"imported".into(), &1.into()));
    // Wrong data: said which anchor, what it should be and what it is; the old table stays.
    let wrong = ground.write("wrong.csv", "8.8.8.0/24,AS64666,Wrong\n");
    let refused = ground.run(&["data", "import", &wrong, &full]);
    let complaint = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{complaint}");
    assert!(complaint.contains("8.8.8.8 must belong to AS15169, the data say AS64666"), "{complaint}");
    assert_eq!(ground.asn("198.51.100.7"), Some(64_500));
    let other = ground.write("other.csv", "198.51.100.0/24,AS64501,Other\n");
    assert_eq!(ground.json(&["data", "import", "--json", &other, &full])["outcome"], "replaced");
    for expected in [64_500, 64_501, 64_500] {
        ground.json(&["data", "import", "--json", "--rollback"]);
        assert_eq!(ground.asn("198.51.100.7"), Some(expected));
    }
    let none = ground.run(&["data", "update"]);
    assert_eq!(none.status.code(), Some(3), "{}", String::from_utf8_lossy(&none.stderr));
    // A damaged file is told by everybody who looks, and lookups go on.
    fs::write(ground.at("ownership.bin"), "rubbish").expect("a file");
    let check = Command::new(env!("CARGO_BIN_EXE_egresswatch")).arg("check").arg(ground.at("config.toml")).output();
    let check = check.expect("the program runs");
    let complaint = String::from_utf8_lossy(&check.stderr).into_owned();
    assert!(check.status.code() == Some(3) && complaint.contains("not an ownership table"), "{complaint}");
    assert_eq!(ground.run(&["data", "info"]).status.code(), Some(1));
    assert_eq!(ground.asn("111.13.100.1"), Some(9808));
    let answer = ground.json(&["lookup", "--json", "111.13.100.1"]);
    assert!(answer["data"]["trouble"].as_str().is_some_and(|trouble| trouble.contains("--rollback")), "{answer}");
    ground.json(&["data", "import", "--json", "--rollback"]);
    assert_eq!(ground.asn("198.51.100.7"), Some(64_501));
}

/// Killed at any moment, an import leaves the old table or the new one.
#[test]
fn a_killed_import_leaves_a_whole_table() {
    let ground = Ground::new();
    let full = full().display().to_string();
    let file = |asn: u32| ground.write(&format!("{asn}.csv"), &format!("198.51.100.0/24,AS{asn},Somebody\n"));
    let started = std::time::Instant::now();
    ground.json(&["data", "import", "--json", &file(64_500), &full]);
    let whole = started.elapsed();
    let mut in_force = 64_500;
    for round in 0..12_u32 {
        let next = 64_501 + round;
        let mut child = ground.command(&["data", "import", "--json", &file(next), &full]);
        let mut child = child.stdout(std::process::Stdio::null()).spawn().expect("the program runs");
        // Not a wait for something: the moment of the kill is what differs between the rounds.
        thread::sleep(Duration::min(whole, whole * (round + 3) / 14));
        child.kill().expect("a signal");
        child.wait().expect("an end");
        let found = ground.asn("198.51.100.7").and_then(|asn| u32::try_from(asn).ok());
        assert!(found == Some(in_force) || found == Some(next), "{found:?} in round {round}");
        in_force = found.unwrap_or_default();
    }
    ground.json(&["data", "import", "--json", &file(64_600), &full]);
    let mut names: Vec<_> = fs::read_dir(ground.0.path())
        .expect("a folder")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("ownership"))
        .collect();
    names.sort();
    assert_eq!(
        (names, ground.asn("198.51.100.7")),
        (vec!["ownership.bin".to_owned(), "ownership.bin.previous".to_owned()], Some(64_600))
    );
}
