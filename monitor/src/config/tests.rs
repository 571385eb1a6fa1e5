use std::{fmt::Write as _, path::Path};

use super::{Config, Error, default_toml, json_schema, reference::sections};
use crate::policy::rules::{RuleErrors, RuleProblem};

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
        ("unknown key of an output", "[outputs.disk]\ntype = \"file\"\npath = \"/x\"\nlevel = 1\nfillter = {}\n"),
        ("metrics for all the world", "[metrics]\nlisten = \"0.0.0.0:9999\"\n"),
        ("broker without a port", "[outputs.bus]\ntype = \"kafka\"\nbrokers = [\"a:9092\", \"localhost\"]\n"),
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
fn what_may_be_a_secret_is_in_no_message() {
    let output = |body: &str| format!("[outputs.siem]\n{body}\n");
    let hec = |body: &str| output(&format!("type = \"splunk_hec\"\nurl = \"https://h:1\"\n{body}"));
    let web = |body: &str| output(&format!("type = \"webhook\"\n{body}"));
    let list = |body: &str| format!("[lists.own]\n{body}\n");
    let cases = [
        ("a token", hec("token = \"hunter2-TOKEN\"")),
        ("a token in one piece", "outputs.siem = { type = \"splunk_hec\", token = \"hunter2-TOKEN\" }\n".to_owned()),
        ("a token with quotes", hec("token = 'hunter2\"\\TOKEN'")),
        ("a short token", hec("token = { file = \"hu2\" }")),
        ("a token as a place", hec("token = { file = \"hunter2-TOKEN\" }")),
        ("a token as a variable", hec("token = { env = \"hunter2=TOKEN\" }")),
        ("a token as a number", hec("token = 0x1234_5678")),
        ("a token in a list", hec("token = [\"hunter2-TOKEN\", 305419896]")),
        ("an address with a password", web("url = \"https://user:hunter2@host/hook\"")),
        ("an address of a strange kind", web("url = \"hunter2:TOKEN\"")),
        ("a header", web("url = \"https://h/\"\nheaders = { Authorization = \"Bearer hunter2\" }")),
        ("a header in one piece", web("url = \"https://h/\"\nheaders = { \"Authorization: Bearer hunter2\" = \"\" }")),
        ("a header that is none", web("url = \"https://h/\"\nheaders = { X-Key = \"hunter2\\n\" }")),
        ("another key's value", web("url = \"https://h/\"\ntoken = \"hunter2\"")),
        ("a choice", output("type = \"hunter2\"")),
        ("a format", output("type = \"stdout\"\nformat = \"hunter2\"")),
        ("a number", output("type = \"syslog\"\ntimeout = \"hunter2\"")),
        ("a list's address", list("source = \"https://user:hunter2@h/list\"")),
        ("a list's relative address", list("source = \"h/list?key=hunter2\"")),
        ("a list's date", list("source = \"/x\"\nvalid_until = \"hunter2\"")),
        ("a source of data", "[data]\nsources = [\"/x\", \"https://user:hunter2@h/\", \"h?key=hunter2\"]\n".to_owned()),
        ("a proxy", "[data]\nproxy = \"http://user:hunter2@proxy:1\"\n".to_owned()),
        ("the wrong table", "[output]\ntoken = \"hunter2\"\n".to_owned()),
        ("the wrong table in one piece", "output = { token = \"hunter2\", formatt = 1 }\n".to_owned()),
        ("a misspelt table", "[output.siem]\ntoken = \"hunter2\"\n".to_owned()),
        ("a misspelt table with dots", "outptus.siem.token = \"hunter2\"\n".to_owned()),
        ("no table", "token = \"hunter2\" # hunter2\n[kernel]\nrung = 1 # hunter2\n".to_owned()),
        ("a table for a value", "[metrics]\nlisten = { token = \"hunter2\" }\n".to_owned()),
        ("no TOML", hec("token = hunter2")),
        ("an open text", hec("token = \"hunter2")),
        ("a text on a line of its own", hec("token =\nhunter2")),
        ("twice", hec("token = \"hunter2\"\ntoken = \"hunter2\"")),
    ];
    let mut report = String::new();
    for (name, text) in cases {
        let invalid = Config::parse(&text, "config.toml").expect_err(name);
        let json = serde_json::to_string(&invalid).expect("JSON");
        let said = [invalid.to_string(), format!("{invalid:?}"), json, invalid.brief()];
        for said in &said {
            for secret in ["hunter2", "TOKEN", "\"hu2\"", "`hu2`", "305419896", "0x1234"] {
                assert!(!said.contains(secret), "{name}: {said}");
            }
        }
        _ = write!(report, "--- {name}\n{invalid}\n\n");
    }
    insta::assert_snapshot!(report);
}

#[test]
fn the_brief_form_is_one_line() {
    let keys: Vec<_> = (1..=7).map(|number| format!("wrong{number} = 1")).collect();
    let invalid = Config::parse(&keys.join("\n"), "x").expect_err("unknown keys");
    assert_eq!(
        invalid.brief(),
        "x:1:1: unknown key `wrong1`; x:2:1: unknown key `wrong2`; x:3:1: unknown key `wrong3`; x:4:1: unknown key \
         `wrong4`; x:5:1: unknown key `wrong5`; and 2 more mistakes"
    );
    let error = Error::Several(vec![
        Config::parse("x = 1", "a").expect_err("unknown").into(),
        RuleErrors {
            problems: vec![RuleProblem {
                file: "b".to_owned(),
                line: 2,
                column: 3,
                message: "wrong".to_owned(),
                help: Some("write it".to_owned()),
                is_about_unknown_rule: false,
            }],
        }
        .into(),
    ]);
    assert_eq!(error.brief(), "a:1:1: unknown key `x`; b:2:3: wrong");
}

#[test]
fn one_check_tells_every_mistake() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let write = |name: &str, text: &[u8]| std::fs::write(at(name), text).expect("written");
    std::fs::create_dir_all(at("rules.d/folder.toml")).expect("a folder");
    std::os::unix::fs::symlink("/nowhere", at("rules.d/dangling.toml")).expect("a link");
    write("rules.d/latin.toml", b"[[rule]]\nid = \"caf\xe9\"\n");
    write("rules.d/wrong.toml", b"[[rule]]\nid = \"mine\"\ntitle = \"Mine\"\ncondition = 'destination.prt == 1'\n");
    write("list.toml", b"id = 1\n");
    let entities = "\n[[entity]]\nname = \"A\"\n[[entity]]\nname = \"B\"\n";
    let head = "id = \"two\"\ntitle = \"T\"\nabout = \"A\"\nsource = \"S\"\nas_of = 2026-01-01\nseverity = \"low\"\n";
    write("two.toml", format!("{head}{entities}").as_bytes());
    write("own.txt", b"192.0.2.1\n");
    let config = "verbose = true\n\
        [kernel]\ncgroup = \"FOLDER/cgroup\"\n\
        [policy]\nlists_directory = \"FOLDER\"\nrules = [\"FOLDER/rules.d\", \"FOLDER/none.toml\"]\n\
        files = [\"FOLDER/list.toml\", \"FOLDER/two.toml\", \"FOLDER/missing.toml\"]\n\
        [data]\ntable = \"FOLDER/none\"\nca = \"FOLDER/ca.pem\"\n\
        [containers]\nroot = \"FOLDER/host\"\n\
        [lists.gone]\nsource = \"FOLDER/gone.txt\"\n\
        [spool]\ndirectory = \"FOLDER/spool\"\n\
        [outputs.a]\ntype = \"file\"\npath = \"FOLDER/none/x\"\n\
        [outputs.b]\ntype = \"syslog\"\ntransport = \"tcp\"\n\
        [outputs.c]\ntype = \"kafka\"\nbrokers = [\"localhost\"]\n";
    let mut report = String::new();
    let mut check = |text: &str| {
        let here = folder.path().display().to_string();
        write("config.toml", text.replace("FOLDER", &here).as_bytes());
        let checked = Config::check(Some(&at("config.toml")), 10);
        let error = checked.into_good().expect_err("mistakes");
        _ = write!(report, "{}\n\n", error.to_string().replace(&here, "[folder]"));
    };
    check(config);
    check(
        "[policy]\nlists_directory = \"FOLDER\"\nenable = [\"us-ofac\", \"eu-media\"]\ndisable = [\"eu-media\", \"nosuch\"]\n\
         [data]\ntable = \"FOLDER/none\"\n\
         [lists.own]\nsource = \"FOLDER/own.txt\"\naction = \"ignore\"\napplies_to = [\"us-fcc\"]\n\
         [spool]\ndirectory = \"FOLDER/spool\"\n\
         [outputs.o]\ntype = \"stdout\"\nfilter = { lists = [\"own\", \"us-fcc-coverd\", \"zzz\"] }\n",
    );
    insta::assert_snapshot!(report);
    for name in ["cgroup", "spool", "host", "none"] {
        assert!(!at(name).exists(), "the check made {name}");
    }
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
        let config = Config::parse(&text, "config.toml").expect("good");
        config.rules(&config.lists().expect("lists"))
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
