use std::fmt::Write as _;

use clap::{CommandFactory as _, Parser as _};
use jiff::civil::date;

use super::{
    Error, Output, Status,
    args::{Arguments, CheckArguments, Command},
    configuration, lists,
    lookup::{self, Target},
    matches, rules, run,
};
use crate::{
    config::{self, Config},
    control::{self, ClientError},
    coverage::{self, Features},
    daemon,
    doctor::{Facts, Report, TypeInformation},
    kernel::{LoadError, RungChoice, StartError, probes::Rung, system::System},
    ownership::Table,
    policy::{ListError, Lists, feeds::State},
    sink::Format,
};

/// What a command writes.
fn written(command: impl FnOnce(&mut Output<'_>) -> std::io::Result<()>) -> String {
    let mut bytes = Vec::new();
    command(&mut Output::new(&mut bytes, false)).expect("a buffer takes everything");
    String::from_utf8(bytes).expect("text")
}

#[test]
fn the_definition_is_consistent() {
    Arguments::command().debug_assert();
}

#[test]
fn help_of_every_command() {
    insta::assert_snapshot!(super::generate::reference_markdown());
}

/// A command and those below it.
fn visible(command: &clap::Command) -> usize {
    let inner = command.get_subcommands().filter(|command| !command.is_hide_set()).map(visible);
    1 + inner.sum::<usize>()
}

#[test]
fn a_man_page_for_every_visible_command() {
    let pages = super::generate::man_pages().expect("pages");
    let names: Vec<_> = pages.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names.first(), Some(&"egresswatch.1"));
    assert_eq!(names.len(), visible(&Arguments::command()));
    assert!(names.contains(&"egresswatch-data-import.1"), "{names:?}");
    assert!(pages.iter().all(|(_, text)| text.contains(".SH NAME")), "{names:?}");
}

#[test]
fn targets_are_told_apart() {
    let address = |text: &str| Target::Address(text.parse().expect("an address"));
    for (text, target) in [
        ("111.13.100.1", address("111.13.100.1")),
        ("2409:8c00::1", address("2409:8c00::1")),
        ("[2409:8c00::1]", address("2409:8c00::1")),
        ("::ffff:111.13.100.1", address("111.13.100.1")),
        ("AS9808", Target::System(9808)),
        ("as9808", Target::System(9808)),
        ("9808", Target::System(9808)),
        ("asn.example", Target::Name("asn.example".to_owned())),
        ("CMPassport.com.", Target::Name("cmpassport.com".to_owned())),
        ("_dmarc.xn--fiqs8s", Target::Name("_dmarc.xn--fiqs8s".to_owned())),
    ] {
        assert_eq!(text.parse(), Ok(target), "{text}");
    }
    let mut refusals = String::new();
    let long = "a".repeat(64);
    for text in [
        "",
        "111.13.100",
        "1.2.3.256",
        "10.0.0.0/8",
        "https://example.org/",
        "AS4294967296",
        "中国移动.cn",
        "a..b",
        &long,
    ] {
        _ = writeln!(refusals, "{text:?}: {}", text.parse::<Target>().expect_err(text));
    }
    insta::assert_snapshot!(refusals);
}

#[test]
fn lookups_for_people_and_machines() {
    let (table, lists) = (Table::embedded().expect("data"), Lists::embedded().expect("lists"));
    let mut text = String::new();
    for query in
        ["111.13.100.1", "2409:8c00::1", "AS9808", "www.cmpassport.com", "10.0.0.1", "example.org", "AS4200000000"]
    {
        let target = query.parse().expect(query);
        let report = lookup::Report::new(&target, &table, &lists, date(2026, 11, 23));
        let json = serde_json::to_string_pretty(&report).expect("JSON");
        _ = write!(text, "$ egresswatch lookup {query}\n{}\n", written(|output| report.print(output)));
        _ = write!(text, "$ egresswatch lookup {query} --json | jq\n{json}\n\n");
    }
    insta::assert_snapshot!(text);
}

#[test]
fn lists_for_people_and_machines() {
    let embedded = Lists::embedded().expect("lists");
    let mut text = written(|output| lists::print_all(embedded.headers(), &[], false, output));
    text.push_str(&written(|output| lists::print_all(embedded.headers(), &[], true, output)));
    insta::assert_snapshot!("all_lists", text);

    let config = Config::default();
    let list = config.list_files().expect("lists").into_iter().find(|list| &*list.header.id == "app-deepseek");
    let list = list.expect("an embedded list");
    let summary = embedded.headers().iter().find(|summary| summary.header.id == list.header.id).expect("the same");
    let mut text = written(|output| lists::print_one(summary, &list, None, false, output));
    text.push_str(&written(|output| lists::print_one(summary, &list, None, true, output)));
    insta::assert_snapshot!("one_list", text);
}

#[test]
fn own_lists_are_told_with_every_bad_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let bad_lines = "no name\n".repeat(22);
    std::fs::write(at("own.txt"), format!("192.0.2.0/24\nbad.example\n{bad_lines}")).expect("written");
    let text = format!(
        "[policy]\nlists_directory = \"{0}\"\n[lists.own]\nsource = \"{0}/own.txt\"\n[lists.off]\n\
         source = \"{0}/missing\"\nenabled = false\n[lists.web]\nsource = \"https://lists.example.org/l?key=hunter2\"\n",
        folder.path().display()
    );
    std::fs::write(at("config.toml"), &text).expect("written");
    let check = |json| {
        let arguments = CheckArguments { file: Some(at("config.toml")), connect: false, json };
        let mut bytes = Vec::new();
        let status = configuration::check(&arguments, &mut Output::new(&mut bytes, false)).expect("an answer");
        (status, String::from_utf8(bytes).expect("text").replace(&folder.path().display().to_string(), "[folder]"))
    };
    let (status, mut text) = check(false);
    assert_eq!(status, Status::Success);
    let (_, json) = check(true);
    assert_eq!(json.matches("more than one word").count(), 22);

    let config = Config::parse(&std::fs::read_to_string(at("config.toml")).expect("read"), "test").expect("good");
    let (lists, read) = config.lists_with(config.feeds(3)).expect("lists");
    let own = lists.headers().get(lists.headers().len() - 3..).expect("the last three");
    // When the file was written is not for a snapshot.
    let undated: Vec<_> = read.into_iter().map(|state| State { good_at: None, ..state }).collect();
    text.push_str(&written(|output| lists::print_all(own, &undated, false, output)));
    text.push_str(&written(|output| lists::print_all(own, &undated, true, output)));
    assert!(!text.contains("hunter2"), "{text}");
    insta::assert_snapshot!(text.replace(&folder.path().display().to_string(), "[folder]"));

    std::fs::remove_file(at("own.txt")).expect("removed");
    let (status, text) = check(false);
    assert_eq!(status, Status::Configuration);
    assert!(text.contains("list own is empty: [folder]/own.txt cannot be read: No such file"), "{text}");
}

#[test]
fn nothing_from_a_list_reaches_the_terminal_raw() {
    let text = "id = \"x\"\ntitle = \"\\u001b[31mred\"\nabout = \"x\"\nsource = \"https://example.org\"\nas_of = 2026-01-01\n\
                severity = \"low\"\nenabled = true\n[[entity]]\nname = \"a\\u0007b\"\nrelation = \"topical\"\n\
                domains = [\"example.org\"]\n";
    let list = crate::policy::List::parse("x.toml", text).expect("a list");
    let lists = Lists::new([list.clone()], &[], &[]).expect("lists");
    let found = lists.match_name_all("example.org").iter().map(matches::MatchReport::new).collect::<Vec<_>>();
    let mut text = written(|output| matches::print(&found, output));
    text.push_str(&written(|output| lists::print_all(lists.headers(), &[], false, output)));
    text.push_str(&written(|output| lists::print_one(&lists.headers()[0], &list, None, false, output)));
    assert!(text.chars().all(|character| character == '\n' || !character.is_control()), "{text:?}");
}

#[test]
fn the_doctor_says_what_to_do() {
    let facts = Facts {
        system: System {
            kernel_release: "5.10.0-36-amd64".to_owned(),
            machine: "x86_64".to_owned(),
            is_root: false,
            missing_capabilities: vec!["CAP_NET_ADMIN", "CAP_SYS_PTRACE"],
            cgroup_root: Some("/sys/fs/cgroup".into()),
            lockdown: Some("confidentiality".to_owned()),
        },
        cgroup_is_root: Some(false),
        types: Ok(TypeInformation {
            missing_functions: vec!["inet_sendmsg"],
            missing_tracepoints: vec!["sock_send_length", "sock_recv_length"],
            unknown_fields: vec!["task_struct.start_boottime".to_owned()],
        }),
        in_host_pid_namespace: Some(false),
        bpf_statistics: Some(true),
        locked_memory_bytes: Some(64 << 10),
        data_date: Ok(date(2026, 6, 17)),
        today: date(2026, 11, 23),
        daemon_answers: false,
    };
    let mut text = written(|output| super::doctor::print(&Report::new(&facts), output));
    let mut runnable = facts;
    runnable.system.missing_capabilities.clear();
    text.push_str(&written(|output| super::doctor::print(&Report::new(&runnable), output)));
    insta::assert_snapshot!(text);
}

#[test]
fn coverage_for_people() {
    let features = Features { mptcp: false, sctp: true, io_uring: true };
    let report = |rung| coverage::Report::new("6.12.1", rung, &features);
    let mut text = written(|output| super::coverage::print(&report(Some(Rung::Base)), output));
    for rung in [Some(Rung::Sender), None] {
        let written = written(|output| super::coverage::print(&report(rung), output));
        _ = writeln!(text, "\n{}", written.lines().take(4).collect::<Vec<_>>().join("\n"));
    }
    insta::assert_snapshot!(text);
    let json = serde_json::to_value(report(Some(Rung::Base))).expect("JSON");
    let row = json["rows"].as_array().expect("rows").iter().find(|row| row["token"] == "inherited_by_child").cloned();
    let row = row.expect("the row");
    assert_eq!((&row["here"]["state"], &row["rungs"]["sender"]["state"]), (&"partly".into(), &"seen".into()), "{row}");
}

#[test]
fn check_connects_when_it_is_asked_to() {
    let folder = tempfile::tempdir().expect("a folder");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let file = folder.path().join("config.toml");
    let text = format!(
        "[spool]\ndirectory = \"{}\"\n[outputs.siem]\ntype = \"webhook\"\nurl = \"http://{address}/\"\n",
        folder.path().display()
    );
    std::fs::write(&file, text).expect("a file");
    let check = |more: &[&str]| {
        let file = file.to_string_lossy();
        let arguments = ["egresswatch", "check", &file].into_iter().chain(more.iter().copied());
        let Command::Check(arguments) = Arguments::parse_from(arguments).command else { panic!("another command") };
        let mut bytes = Vec::new();
        let status = configuration::check(&arguments, &mut Output::new(&mut bytes, false)).expect("an answer");
        (status, String::from_utf8(bytes).expect("text"))
    };
    assert_eq!(check(&[]).0, Status::Success);
    let (status, said) = check(&["--connect"]);
    assert_eq!(status, Status::Configuration);
    assert!(said.starts_with(&format!("failed: outputs.siem, webhook http://{address}: cannot connect")), "{said}");
    assert!(said.trim_end().ends_with("good, but not everything answered"), "{said}");
    let (status, said) = check(&["--connect", "--json"]);
    assert_eq!(status, Status::Configuration);
    let said: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(said["contacts"][0]["key"], "outputs.siem");
    assert_eq!((&said["valid"], &said["contacts"][0]["reached"]), (&true.into(), &false.into()));
}

#[test]
fn check_tells_people_and_machines() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("config.toml");
    let arguments = |json| match Arguments::parse_from(["egresswatch", "check", &file.to_string_lossy()]).command {
        Command::Check(mut arguments) => {
            arguments.json = json;
            arguments
        }
        other => panic!("{other:?}"),
    };
    let check = |text: &str, json| {
        std::fs::write(&file, text).expect("a file");
        let mut bytes = Vec::new();
        let result = configuration::check(&arguments(json), &mut Output::new(&mut bytes, false));
        (result, String::from_utf8(bytes).expect("text"))
    };
    let (result, text) = check("", false);
    assert_eq!((result.expect("good"), text.ends_with("config.toml: good\n")), (Status::Success, true), "{text}");
    let (result, text) = check("[kernel]\nrungs = 1\n", true);
    assert_eq!(result.expect("an answer"), Status::Configuration);
    let answer: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(answer["problems"][0]["key"], "kernel.rungs");
    assert_eq!((&answer["problems"][0]["line"], &answer["valid"]), (&2.into(), &false.into()));
    for (text, complaint) in [
        ("[kernel]\nrungs = 1\n", "unknown key `kernel.rungs`"),
        ("[policy]\nenable = [\"us-fcc\"]\n", "us-fcc"),
        ("[policy]\nfiles = [\"/nowhere/x.toml\"]\n", "/nowhere/x.toml"),
        (
            "[outputs.x]\ntype = \"file\"\npath = \"/nowhere/x.jsonl\"\n",
            "outputs.x.path: there is no directory /nowhere: make it",
        ),
    ] {
        let error = check(text, false).0.expect_err(text);
        assert!(error.to_string().contains(complaint), "{error}");
        assert_eq!(error.status(), Status::Configuration);
    }
    // What only the daemon can tell is noted.
    let spool = folder.path().join("spool");
    let text = format!(
        "[spool]\ndirectory = {spool:?}\n[outputs.x]\ntype = \"splunk_hec\"\nurl = \"http://127.0.0.1:8088\"\n\
         token = {{ env = \"EGRESSWATCH_NOT_SET\" }}\n"
    );
    let (result, said) = check(&text, false);
    assert_eq!(result.expect("good"), Status::Success, "{said}");
    assert!(said.starts_with("note: outputs.x.token: not to be told from here: "), "{said}");
    assert!(said.ends_with("config.toml: good, with notes\n"), "{said}");
    let (_, said) = check(&text, true);
    let answer: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(answer["outputs"][0]["key"], "outputs.x.token");
    // So are rules that ran out while they were deployed.
    let rules = folder.path().join("rules.toml");
    std::fs::write(&rules, "[[suppress]]\nasn = 64500\nexpires = 2020-01-01\n").expect("a file");
    let (result, said) = check(&format!("[policy]\nrules = [{rules:?}]\n"), false);
    assert_eq!(result.expect("good"), Status::Success, "{said}");
    assert!(
        said.starts_with("note: ") && said.contains("rules.toml:1: this suppression ended with 2020-01-01"),
        "{said}"
    );
    assert!(said.ends_with("config.toml: good, with notes\n"), "{said}");
}

#[test]
fn arguments_overrule_the_configuration() {
    let Command::Run(arguments) =
        Arguments::parse_from(["egresswatch", "run", "--rung", "base", "--json", "--flows", "-vv", "-o", "/x/y"])
            .command
    else {
        panic!("run")
    };
    let mut config = Config::default();
    let options = run::apply(&arguments, &mut config).expect("options");
    assert_eq!((config.kernel.rung, options.stdout), (RungChoice::Base, Some(Format::Json)));
    assert!(options.writes_flows && options.verbose_kernel);
    assert_eq!(options.file.as_deref(), Some(std::path::Path::new("/x/y")));
}

#[test]
fn every_failure_has_its_exit_code() {
    let folder = tempfile::tempdir().expect("a folder");
    let nobody = folder.path().join("control.sock");
    let not_running = control::ask(&nobody, control::Request::Flows).err().expect("nobody listens");
    let cases = [
        (Error::Output(std::io::ErrorKind::BrokenPipe.into()), Status::Success),
        (Error::Output(std::io::ErrorKind::StorageFull.into()), Status::Failure),
        (Error::NoSuchList { id: "x".into(), known: "y".into() }, Status::Failure),
        (Error::Control(not_running), Status::Failure),
        (Error::Control(ClientError::Forbidden { socket: nobody }), Status::Privilege),
        (Error::Config(Config::parse("x = 1", "x").expect_err("unknown").into()), Status::Configuration),
        (Error::Daemon(config::Error::from(ListError::Contradiction { id: "x".into() }).into()), Status::Configuration),
        (Error::Daemon(daemon::Error::Deadline), Status::Failure),
        (start(LoadError::Privilege { missing: "CAP_BPF".into() }), Status::Privilege),
        (start(LoadError::NoCgroup), Status::Unsupported),
        (
            start(LoadError::Rung {
                rung: crate::kernel::probes::Rung::Sender,
                release: "5.10".into(),
                cause: "too old".into(),
            }),
            Status::Unsupported,
        ),
    ];
    for (error, status) in cases {
        assert_eq!(error.status(), status, "{error}");
    }
}

fn start(error: LoadError) -> Error {
    Error::Daemon(daemon::Error::Kernel(StartError::Load(error)))
}

#[test]
fn recorded_flows_tell_which_program_reached_what_by_which_list_or_rule() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        let file = folder.path().join(name);
        std::fs::write(&file, text).expect("a file");
        file.to_string_lossy().into_owned()
    };
    let list = write("list.txt", "93.184.216.0/24\n");
    let rules =
        write("rules.toml", "[[rule]]\nid = \"web\"\ntitle = \"To the web\"\ncondition = \"'mine' in lists\"\n");
    let config = write("config.toml", &format!("[policy]\nrules = [{rules:?}]\n[lists.mine]\nsource = {list:?}\n"));
    let flow = |ip: &str| {
        serde_json::json!({
            "@timestamp": "2026-11-26T12:00:01Z",
            "event": { "id": "e1", "dataset": "egresswatch.flow", "start": "2026-11-26T12:00:00Z" },
            "process": { "name": "curl", "executable": "/usr/bin/curl" },
            "network": { "transport": "tcp", "direction": "egress" },
            "destination": { "ip": ip, "port": 443, "domain": "www.example.com" },
            "egresswatch": { "flow": { "id": "1.1", "facts": ["sent"], "out": { "payload_bytes": 1500 } }, "owner": { "asn": 64500 } },
        })
    };
    let flows = write("flows.jsonl", &format!("{}\n\n{}\n", flow("192.0.2.1"), flow("93.184.216.34")));
    let run = |more: &[&str]| {
        let arguments = ["egresswatch", "test-rules", "--config", &config, "--replay", &flows];
        let Command::TestRules(arguments) =
            Arguments::parse_from(arguments.into_iter().chain(more.iter().copied())).command
        else {
            panic!("another command")
        };
        let mut bytes = Vec::new();
        let status = rules::test(&arguments, &mut Output::new(&mut bytes, false)).expect("an answer");
        assert_eq!(status, Status::Success);
        String::from_utf8(bytes).expect("text")
    };
    insta::assert_snapshot!(run(&[]));
    insta::assert_snapshot!(run(&["--json"]));
}
