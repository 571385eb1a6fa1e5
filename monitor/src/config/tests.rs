use std::{fmt::Write as _, path::Path};

use super::{Config, Error, default_toml, json_schema, reference::sections};

#[test]
fn the_default_file_is_the_default() {
    assert_eq!(Config::parse(&default_toml(), "default"), Ok(Config::default()));
    insta::assert_snapshot!(default_toml());
}

#[test]
fn every_key_is_documented_and_unset_ones_show_an_example() {
    for section in sections() {
        assert!(!section.entries.is_empty(), "[{}] has no keys", section.name);
    }
    let text = default_toml();
    assert!(!text.contains("# …") && !text.contains("= …"), "an optional key lacks #[schemars(example)]");
    assert!(!text.contains("\n#\n["), "a section lacks a doc comment");
    // An example that could not be written into the file would mislead.
    let uncommented: String = text.lines().fold(String::new(), |mut text, line| {
        let is_example = line.strip_prefix("# ").is_some_and(|rest| {
            rest.split_once(" = ")
                .is_some_and(|(key, _)| key.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_'))
        });
        _ = writeln!(text, "{}", if is_example { &line[2..] } else { line });
        text
    });
    Config::parse(&uncommented, "examples").expect("every example is valid");
}

#[test]
fn the_schema_describes_the_default() {
    let schema = json_schema();
    let properties = schema["properties"].as_object().expect("an object");
    let defaults = serde_json::to_value(Config::default()).expect("serialisable");
    assert_eq!(
        properties.keys().collect::<Vec<_>>(),
        defaults.as_object().expect("an object").keys().collect::<Vec<_>>()
    );
}

#[test]
fn a_bad_file_is_answered_with_the_line_the_key_and_what_to_write() {
    let cases = [
        ("unknown key", "[kernel]\nreport_intervall = \"1s\"\n"),
        ("key of another section", "[control]\nrung = \"base\"\n"),
        ("unknown section", "[sinks]\nfile = \"x\"\n"),
        ("misspelt section", "[kernal]\nrung = \"base\"\n"),
        ("wrong type", "[kernel]\nflow_table_entries = \"many\"\n"),
        ("bare number for a duration", "[kernel]\nreport_interval = 5\n"),
        ("unit that is none", "[kernel]\nflow_ring_size = \"8MB\"\n"),
        ("out of range", "[kernel]\nreport_interval = \"1m\"\nflow_ring_size = \"3MiB\"\nflow_table_entries = 7\n"),
        ("unknown choice", "[kernel]\nrung = \"senders\"\n"),
        (
            "mistakes in an output",
            "[outputs.disk]\ntype = \"file\"\npath = \"x\"\nformt = \"ecs\"\n[outputs.siem]\ntype = \"sislog\"\n[outputs.last]\ntype = \"file\"\npath = \"/x\"\nfilter = { records = [\"alert\"], min_severity = \"loud\" }\n",
        ),
        ("relative path", "[control]\nsocket = \"control.sock\"\n"),
        ("no TOML", "[kernel\nrung = base\n"),
        ("twice", "[kernel]\nrung = \"base\"\nrung = \"auto\"\n"),
        ("many at once", "verbose = true\n[kernel]\nrungs = 1\nreport_bytes = -1\n[control]\n\tenabled = \"ja\"\n"),
    ];
    let mut report = String::new();
    for (name, text) in cases {
        let invalid = Config::parse(text, "config.toml").expect_err(name);
        _ = write!(report, "--- {name}\n{invalid}\n\n");
    }
    insta::assert_snapshot!(report);
}

#[test]
fn only_the_default_file_may_be_missing() {
    let folder = tempfile::tempdir().expect("a folder");
    let missing = folder.path().join("missing.toml");
    assert_eq!(Config::load_or_default(None, &missing).expect("defaults"), (Config::default(), None));
    let error = Config::load_or_default(Some(&missing), Path::new("/nowhere")).expect_err("a named file must exist");
    assert!(matches!(error, Error::Unreadable { ref path, .. } if *path == missing), "{error}");
    let present = folder.path().join("present.toml");
    std::fs::write(&present, "[kernel]\nrung = \"base\"\n").expect("a file");
    let (config, file) = Config::load_or_default(Some(&present), &missing).expect("a good file");
    assert_eq!((config.kernel.rung, file), (crate::kernel::RungChoice::Base, Some(present)));
}

/// `egresswatch check`, the start and a reload read rules by the same function.
#[test]
fn rules_name_lists_that_are_there_switched_off_or_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        let file = folder.path().join(name);
        std::fs::write(&file, text).expect("a file");
        file
    };
    let own = write(
        "own.toml",
        "id = \"of-a-file\"\ntitle = \"T\"\nabout = \"A\"\nsource = \"S\"\nas_of = 2026-06-08\nseverity = \"low\"\n\
         [[entity]]\nname = \"E\"\nrelation = \"topical\"\nasns = [64500]\n",
    );
    let rules = |ids: &[&str]| {
        let lists = ids.iter().map(|id| format!("'{id}' in lists")).collect::<Vec<_>>().join(" || ");
        let text = format!(
            "[[rule]]\nid = \"r\"\ntitle = \"R\"\ncondition = \"{lists}\"\n[[suppress]]\nlist = {:?}\nexpires = 2020-01-01\n",
            ids[0]
        );
        let rules = write("rules.toml", &text);
        let text = format!(
            "[policy]\nfiles = [{own:?}]\nrules = [{rules:?}]\ndisable = [\"us-doj-dsp\"]\n\
             [lists.fetched]\nsource = \"https://lists.example.org/x\"\nenabled = false\n"
        );
        Config::parse(&text, "config.toml").expect("good").rules()
    };
    let good = rules(&["us-doj-dsp", "fetched", "of-a-file"]).unwrap_or_else(|error| panic!("{error}"));
    let notices: Vec<_> = good.notices(jiff::Timestamp::now()).collect();
    assert!(
        notices.len() == 1 && notices[0].contains("rules.toml:5: this suppression ended with 2020-01-01"),
        "{notices:?}"
    );
    let error = rules(&["of-a-fil", "fetchd"]).err().map(|error| error.to_string()).unwrap_or_default();
    for expected in [
        "rules.toml:4:14: lists is never \"of-a-fil\"\n  help: did you mean \"of-a-file\"?",
        "lists is never \"fetchd\"\n  help: did you mean \"fetched\"?",
        "rules.toml:6:8: there is no list \"of-a-fil\"\n  help: did you mean \"of-a-file\"?",
    ] {
        assert!(error.contains(expected), "{error}");
    }
}
