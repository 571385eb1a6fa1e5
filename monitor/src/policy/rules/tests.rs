use std::{borrow::Cow, fs, path::Path};

use super::{
    expression::{NameFact, Place, Relative, Scene, Truth},
    facts::Facts,
    *,
};
use crate::{ownership, policy::Level};

fn facts() -> Facts<'static> {
    Facts {
        executable: Some("/usr/bin/curl".into()),
        process_name: Some("curl".into()),
        arguments: Some(vec!["curl".into(), "-k".into()]),
        user: Some("ada".into()),
        effective_user: Some("root".into()),
        container_name: Some("web".into()),
        container_image: Some("registry.example/shop/web:1.25".into()),
        pod: Some("web-0".into()),
        namespace: Some("shop".into()),
        labels: vec![("app".into(), "web".into()), ("app.kubernetes.io/name".into(), "shop".into())],
        parents: Some(vec![
            Relative { name: "sh".into(), executable: Some("/bin/sh".into()) },
            Relative { name: "sshd".into(), executable: None },
        ]),
        place: Some(Place::At([93, 184, 216, 34].into())),
        port: Some(443),
        asn: Some(64500),
        as_country: Some("DE".into()),
        registered_country: Some("US".into()),
        names: vec![NameFact { name: "cdn.Example.com".into(), source: "tls_sni".into() }],
        lists: vec!["my-list".into()],
        protocol: "tcp".into(),
        level: Level::Sent,
        bytes_out: Some(5_000),
        bytes_in: Some(70),
        age_s: 12,
        // A Thursday.
        wall: "2026-11-26T23:30:00Z".parse().unwrap(),
        zone: Some(jiff::tz::TimeZone::fixed(jiff::tz::offset(2))),
        ..Facts::default()
    }
}

fn truth(condition: &str, facts: &Facts<'_>) -> Truth {
    let node = compile::compile(condition, None).unwrap_or_else(|mistakes| panic!("{condition}: {mistakes:#?}"));
    node.truth(&Scene::new(facts))
}

#[test]
fn conditions_ask_for_facts() {
    for condition in [
        "process.executable == '/usr/bin/curl'",
        "process.executable.startsWith('/usr/') && process.executable.endsWith('curl')",
        "process.name.matches('^cu.l$') || false",
        "'-k' in process.arguments",
        "process.arguments.exists(a, a == '-k')",
        "process.user != process.effective_user",
        "process.parents.exists(p, p.name == 'sshd')",
        "process.parents.exists(p, p.executable == '/bin/sh')",
        "process.parents.all(p, p.name != 'cron')",
        "size(process.parents) == 2",
        "destination.ip == '93.184.216.34'",
        "destination.ip in ['93.184.216.34', '2001:db8::1']",
        "in_cidr(destination.ip, '93.184.0.0/16')",
        "cidr('93.184.0.0/16').contains(destination.ip)",
        "!in_cidr(destination.ip, ['10.0.0.0/8', '192.168.0.0/16'])",
        "is_public(destination.ip)",
        "destination.port in [80, 443]",
        "destination.asn == 64500 && destination.port > 400 + 2 * 20",
        "'US' in destination.countries && destination.as_country == 'DE'",
        "destination.names.exists(n, domain_matches(n.name, 'example.com') && n.source == 'tls_sni')",
        "destination.names.exists(n, n.name.lowerAscii().contains('example'))",
        "!destination.names.exists(n, domain_matches(n.name, 'ample.com'))",
        "flow.state == 'sent' && flow.bytes_out >= 5000 && flow.age < 13",
        "flow.protocol == 'tcp' && flow.direction == 'egress'",
        "'my-list' in lists",
        "time.hour == 23 && time.weekday == 'thursday'",
        "time.local_hour == 1 && time.local_weekday == 'friday'",
        "process.container.name == 'web' && process.container.image.startsWith('registry.example/')",
        "process.pod.startsWith('web-') && process.namespace in ['shop', 'bank']",
        "process.labels['app'] == 'web' && process.labels.app != 'x' && has(process.labels.app)",
        "process.labels['app.kubernetes.io/name'] == 'shop' && !has(process.labels.tier)",
        "has(process.executable) && !has(process.unit)",
        "process.parents.exists(p, process.arguments.exists(a, a == '-k') && p.name == 'sh')",
        "flow.bytes_out > 10 ? process.name == 'curl' : false",
        // Borders may be written either way.
        "time.hour < 24 && time.hour > -1 && destination.port > 0 && destination.port < 65536 && flow.bytes_out >= 0",
        "flow.protocol in ['tcp', 'ip-47', 'ipv6-icmp']",
        "destination.countries.exists(c, c == 'DE') && destination.names.all(n, n.source != 'dns_cname')",
    ] {
        assert_eq!(truth(condition, &facts()), Truth::TRUE, "{condition}");
    }
}

#[test]
fn unknown_facts_never_match_however_they_are_asked() {
    for (condition, expected) in [
        ("process.unit == 'a.service'", Truth::UNKNOWN),
        ("process.unit != 'a.service'", Truth::UNKNOWN),
        ("!(process.unit == 'a.service')", Truth::UNKNOWN),
        ("process.unit.startsWith('a')", Truth::UNKNOWN),
        ("!process.unit.startsWith('a')", Truth::UNKNOWN),
        ("process.unit in ['a', 'b']", Truth::UNKNOWN),
        ("process.unit == 'a' || process.name == 'curl'", Truth::TRUE),
        ("process.unit == 'a' && process.name == 'wget'", Truth::FALSE),
        ("process.unit == 'a' && process.name == 'curl'", Truth::UNKNOWN),
        ("has(process.unit)", Truth::FALSE),
        ("!has(process.unit) || process.unit == 'a'", Truth::TRUE),
        ("process.labels['tier'] == 'x'", Truth::UNKNOWN),
        ("process.labels['tier'] != 'x'", Truth::UNKNOWN),
        ("process.pod_uid == 'x'", Truth::UNKNOWN),
        ("flow.bytes_out / 0 == 1", Truth::UNKNOWN),
        ("flow.bytes_out * 9223372036854775807 > 0", Truth::UNKNOWN),
        ("process.parents.exists(p, p.executable == '/sbin/init')", Truth::UNKNOWN),
        ("process.parents.exists(p, p.executable == '/bin/sh')", Truth::TRUE),
    ] {
        assert_eq!(truth(condition, &facts()), expected, "{condition}");
    }
}

/// Where everything is known, a condition means what it means to the crate's own interpreter.
#[test]
fn known_facts_give_what_the_crate_gives() {
    use cel::{Context, Program};
    use serde_json::json;

    for condition in [
        "process.name == 'curl'",
        "process.name != 'curl' || flow.bytes_out > 4999",
        "!(process.name == 'wget') && flow.age % 5 == 2",
        "process.name.startsWith('cu') ? flow.age == 12 : flow.age == 13",
        "destination.port in [80, 443]",
        "'-k' in process.arguments",
        "process.arguments.exists(a, a.contains('k'))",
        "process.arguments.all(a, a.contains('k'))",
        "process.parents.exists(p, p.name == 'sshd') && !process.parents.all(p, p.name == 'sshd')",
        "process.parents.exists(p, process.arguments.exists(a, a == p.name))",
        "size(process.arguments) == 2 && size(process.name) == 4",
        "process.name.matches('u.l')",
        "destination.names.exists(n, n.source == 'tls_sni' && n.name.endsWith('.com'))",
        "flow.bytes_out - flow.bytes_in * 2 > 4000 && flow.age / 5 == 2",
        "process.name < 'd' && -flow.age < 0",
    ] {
        let mut context = Context::default();
        let process = json!({
            "name": "curl", "arguments": ["curl", "-k"], "parents": [{ "name": "sh" }, { "name": "sshd" }],
        });
        let destination = json!({ "port": 443, "names": [{ "name": "cdn.Example.com", "source": "tls_sni" }] });
        let flow = json!({ "bytes_out": 5_000, "bytes_in": 70, "age": 12 });
        for (name, value) in [("process", process), ("destination", destination), ("flow", flow)] {
            context.add_variable(name, signed(value)).unwrap();
        }
        let theirs = Program::compile(condition).unwrap().execute(&context).unwrap();
        let ours = truth(condition, &facts());
        assert_eq!(cel::Value::Bool(ours == Truth::TRUE), theirs, "{condition}");
    }
}

/// JSON numbers as the crate's signed integers.
fn signed(value: serde_json::Value) -> cel::Value {
    use serde_json::Value as Json;
    match value {
        Json::Number(number) => cel::Value::Int(number.as_i64().unwrap()),
        Json::String(text) => text.into(),
        Json::Array(items) => cel::Value::List(Arc::new(items.into_iter().map(signed).collect())),
        Json::Object(fields) => {
            let fields: std::collections::HashMap<String, cel::Value> =
                fields.into_iter().map(|(key, value)| (key, signed(value))).collect();
            cel::Value::Map(fields.into())
        }
        Json::Bool(truth) => truth.into(),
        Json::Null => cel::Value::Null,
    }
}

#[test]
fn mistakes_in_conditions_are_refused() {
    let deep = format!("{}true{}", "(".repeat(200), ")".repeat(200));
    let wide = vec!["flow.age == 1"; 200].join(" || ");
    let long = format!("process.name == '{}'", "x".repeat(5_000));
    for (condition, message, help) in [
        ("process.executible == 'x'", "there is no field process.executible", "process.executable?"),
        ("destination.ans == 1", "there is no field destination.ans", "destination.asn?"),
        ("asn == 1", "there is no field asn", "destination.asn?"),
        ("process.container == 'x'", "there is no field process.container", "process.container.id"),
        ("destination.port == '443'", "an int is compared with a string", "without quotes"),
        ("process.name == 3", "a string is compared with an int", "in quotes"),
        ("process.name", "this condition is a string", "compare it"),
        ("flow.age + 1", "this condition is an int", "compare it"),
        ("flow.age && true", "this is an int, where a bool is needed", ""),
        ("flow.state == 'send'", "flow.state is never \"send\"", "attempted, established, sent"),
        ("destination.as_country == 'germany'", "never \"germany\"", "two upper-case letters"),
        ("destination.as_country == 'ZZ'", "never \"ZZ\"", "ISO 3166-1"),
        ("destination.registered_country in ['DE', 'QQ']", "never \"QQ\"", "ISO 3166-1"),
        ("destination.as_country != 'UK'", "never \"UK\"", "\"GB\""),
        ("destination.countries.exists(c, c == 'ZZ')", "c is never \"ZZ\"", "ISO 3166-1"),
        ("flow.state == 'snet'", "flow.state is never \"snet\"", "did you mean \"sent\"?"),
        ("flow.protocol == 'tpc'", "flow.protocol is never \"tpc\"", "did you mean \"tcp\"?"),
        ("flow.protocol in ['tcp', 'ip-300']", "never \"ip-300\"", "ip- and a number"),
        ("destination.names.exists(n, n.source == 'tls_snii')", "n.source is never", "did you mean \"tls_sni\"?"),
        ("'us-ofac-sdnx' in lists", "lists is never \"us-ofac-sdnx\"", "did you mean \"us-ofac-sdn\"?"),
        ("lists.exists(l, l == 'us-ofac-sdnn')", "l is never", "did you mean \"us-ofac-sdn\"?"),
        ("lists.exists(l, l in ['my-list', 'quite another'])", "never \"quite another\"", "egresswatch lists"),
        ("time.hour == 25", "time.hour is never 25", "from 0 to 23"),
        ("time.local_hour in [22, 24]", "time.local_hour is never 24", "from 0 to 23"),
        ("25 != time.hour", "time.hour is never 25", "from 0 to 23"),
        ("time.hour > 23", "the comparison of time.hour with 23", "from 0 to 23"),
        ("time.hour < 25", "always has the same outcome", "from 0 to 23"),
        ("0 > time.hour", "always has the same outcome", "from 0 to 23"),
        ("time.weekday == 'mondy'", "never \"mondy\"", "did you mean \"monday\"?"),
        ("destination.port == 70000", "destination.port is never 70000", "from 1 to 65535"),
        ("destination.port == 0", "destination.port is never 0", "from 1 to 65535"),
        ("destination.port == -1", "destination.port is never -1", "from 1 to 65535"),
        ("destination.asn == 4294967296", "destination.asn is never", "4294967295"),
        ("flow.bytes_out < 0", "flow.bytes_out with 0", "from 0 on"),
        ("process.executable == 'curl'", "never \"curl\"", "\"/usr/bin/curl\""),
        ("process.parents.exists(p, p.executable == 'sh')", "p.executable is never \"sh\"", "\"/usr/bin/sh\""),
        (
            "destination.names.exists(n, domain_matches(n.name, '*.example.com'))",
            "\"*.example.com\" is no domain name",
            "write \"example.com\": a domain holds for every name below it",
        ),
        (
            "destination.names.exists(n, domain_matches(n.name, ['example.com', 'https://example.org']))",
            "\"https://example.org\" is no domain name",
            "write the name alone",
        ),
        (
            "destination.names.exists(n, domain_matches(n.name, '192.0.2'))",
            "neither an address nor a domain",
            "such as",
        ),
        ("'de' in destination.countries", "never \"de\"", "two upper-case letters"),
        ("process.sha256 == 'abc'", "never \"abc\"", "64"),
        ("destination.ip == 'example.com'", "this is no address", "in_cidr"),
        ("in_cidr(destination.ip, '10.0.0.0/33')", "\"10.0.0.0/33\" is no network", "192.0.2.0/24"),
        ("process.unit == null", "null cannot be compared", "has(field)"),
        ("flow.age > 1.5", "fields have no fractions", "whole number"),
        ("destination.names == 'a'", "is compared with a string", "exists"),
        ("'a' in destination.names", "is looked for in a list of {name, source}", "exists"),
        ("destination.names.exists(n, n.title == 'a')", "a {name, source} has no title", ".source"),
        ("destination.names.filter(n, true).size() > 1", "only exists and all", ".exists"),
        ("process.arguments.exists(a, lists.exists(l, process.arguments.exists(b, a == b)))", "too deep", "2"),
        ("process.name.startWith('a')", "there is no function startWith", "startsWith?"),
        ("process.name.matches('(')", "this pattern cannot be used", ""),
        ("process.name.matches('\\\\w{1000}{1000}')", "this pattern cannot be used", ""),
        ("process.name.matches(process.user)", "a pattern must be written out", "quotes"),
        ("destination.port in []", "this list is empty", ""),
        ("process.arguments[0] == 'a'", "has no elements by number", "exists"),
        ("process.name == ", "cannot be read", ""),
        (&deep, "", ""),
        (&wide, "too large", ""),
        (&long, "5018 bytes", "4096"),
    ] {
        let known_lists = ["us-ofac-sdn".into(), "my-list".into()];
        let mistakes = compile::compile(condition, Some(&known_lists)).expect_err(condition);
        let first = &mistakes[0];
        assert!(first.message.contains(message), "{condition}: {mistakes:#?}");
        assert!(first.help.as_deref().unwrap_or_default().contains(help), "{condition}: {mistakes:#?}");
    }
}

#[test]
fn every_mistake_of_every_file_is_told_with_its_place() {
    let first = r#"
[[rule]]
id = "one"
title = "One"
condition = 'proces.name == "a" && destination.port == "x"'
severty = "high"
severity = "loud"
tags = ["T104", "fine"]

[[rule]]
id = "one"
title = "Two"
condition = '''
flow.age > 1
  && flow.stat == "sent"
'''
threshold = { kind = "bytes_out", window = "1h" }

[[rules]]
"#;
    let second = r#"
[[rule]]
title = "No id"
condition = "true"

[[suppress]]
reason = "none"

[[maintenance]]
days = ["someday"]
from = 02:00:00
"#;
    let errors = Rules::compile([("a.toml", first), ("b.toml", second)], &["nine".into()], &[], None).unwrap_err();
    insta::assert_snapshot!(errors.to_string());
}

#[test]
fn what_suppressions_and_windows_name_must_be_there() {
    let first = r#"
[[rule]]
id = "mine"
title = "Mine"
condition = "'us-ofac-sdnx' in lists"

[[suppress]]
list = "us-ofac-sdnn"
rule = "memory-only-program"

[[suppress]]
rule = "yours"
executable = "curl"
organisation = ""
asn = 0
"#;
    let second = r#"
[[rule]]
id = "your"
title = "Yours"
condition = "true"

[[maintenance]]
from = 02:00:30
to = 02:00:30
rules = ["mine", "yours", "us-ofac-sdn", "habitual"]
"#;
    let known_lists = ["us-ofac-sdn".into(), "us-doj-dsp".into()];
    let errors = Rules::compile([("a.toml", first), ("b.toml", second)], &[], &[], Some(&known_lists)).unwrap_err();
    insta::assert_snapshot!(errors.to_string());
    // Ids of other files, of embedded rules and of lists are known; half a minute is a window.
    let second =
        second.replace("02:00:30\nrules", "02:01:00\nrules").replace("\"habitual\"", "\"memory-only-program\"");
    let second = second.replace("\"yours\"", "\"your\"").replace("\"mine\", ", "");
    let good = Rules::compile([("b.toml", second.as_str())], &[], &[], Some(&known_lists));
    assert!(good.is_ok(), "{good:?}");
}

#[test]
fn a_suppression_that_has_run_out_is_told_and_no_mistake() {
    let text = "[[suppress]]\nasn = 64500\nexpires = 2020-01-01\n\n[[suppress]]\nasn = 64501\nexpires = 2026-11-26\n";
    let rules = Rules::compile([("r.toml", text)], &[], &[], None).unwrap();
    let told: Vec<_> = rules.notices("2026-11-26T23:59:59Z".parse().unwrap()).collect();
    assert_eq!(told, ["r.toml:1: this suppression ended with 2020-01-01: give it another date, or take it out"]);
    assert_eq!(rules.notices("2026-11-27T00:00:00Z".parse().unwrap()).count(), 2);
}

#[test]
fn a_date_in_quotes_is_answered_with_how_to_write_it() {
    let text = "[[suppress]]\nasn = 64500\nexpires = \"2020-01-01\"\n";
    let error = Rules::compile([("r.toml", text)], &[], &[], None).unwrap_err().to_string();
    assert!(
        error.starts_with("r.toml:3:11: ") && error.contains("without quotes: a day such as 2027-03-31"),
        "{error}"
    );
}

#[test]
fn sources_of_names_are_those_of_the_stage() {
    assert_eq!(fields::SOURCES, crate::names::Source::ALL.map(crate::names::Source::as_token));
}

#[test]
fn the_embedded_rules_are_those_of_the_directory() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("rules");
    let mut files: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    files.sort();
    let embedded: Vec<_> = EMBEDDED.iter().map(|(file, _)| file.trim_start_matches("built-in:")).collect();
    assert_eq!(files, embedded);
    let rules = Rules::new(&[], &[], &[], None).unwrap_or_else(|errors| panic!("{errors}"));
    let on: Vec<_> = rules.headers().filter(|header| header.enabled).map(|header| &*header.id).collect();
    assert_eq!(on, ["memory-only-program", "program-in-shared-memory"]);
    assert!(!rules.needs_files() && !rules.needs_baseline());
    let rules = Rules::new(&[], &["first-contact".into()], &[], None).unwrap();
    assert!(rules.needs_baseline());
}

#[test]
fn the_shipped_example_is_good() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/rules.d/example.toml");
    let text = fs::read_to_string(file).unwrap();
    let known_lists: Vec<_> =
        crate::policy::Lists::embedded_files().unwrap().into_iter().map(|list| list.header.id).collect();
    let rules = Rules::new(&[("example.toml".into(), text)], &[], &[], Some(&known_lists))
        .unwrap_or_else(|errors| panic!("{errors}"));
    assert!(rules.headers().any(|header| &*header.id == "backup-host"));
}

#[test]
fn rules_about_addresses_are_pushed_down_and_others_never() {
    let ownership = ownership::Table::embedded().unwrap();
    let china_mobile: std::net::IpAddr = [120, 232, 0, 1].into();
    let owner = ownership.facts(china_mobile);
    let organisation = ownership.organisation(owner.asn.unwrap()).unwrap();
    let prefixes = |condition: &str| {
        let text = format!("[[rule]]\nid = \"r\"\ntitle = \"R\"\ncondition = '''{condition}'''\n");
        Rules::compile([("r.toml", text.as_str())], &[], &[], None).unwrap().flagged_prefixes(&ownership)
    };
    let holds =
        |condition: &str| prefixes(condition).v4.iter().any(|net| ipnet::IpNet::from(*net).contains(&china_mobile));
    for condition in [
        format!("destination.asn == {}", owner.asn.unwrap()),
        format!("destination.asn in [1, {}] && process.name == 'curl'", owner.asn.unwrap()),
        format!("destination.organisation == '{organisation}' || destination.asn == 1"),
        "destination.as_country == 'CN' && flow.bytes_out > 100".to_owned(),
        "'CN' in destination.countries && !has(process.unit)".to_owned(),
        "in_cidr(destination.ip, '120.232.0.0/16') && flow.state == 'sent'".to_owned(),
        "destination.ip == '120.232.0.1' && !in_cidr(destination.ip, '10.0.0.0/8')".to_owned(),
    ] {
        assert!(holds(&condition), "{condition}");
    }
    for condition in [
        "process.name == 'curl'",
        "true",
        "destination.as_country != 'US'",
        "!in_cidr(destination.ip, '10.0.0.0/8')",
        "destination.asn == 64500 || process.name == 'curl'",
        "is_public(destination.ip) && flow.state == 'sent'",
        "has(destination.asn)",
        "destination.organisation.contains('')",
    ] {
        let found = prefixes(condition);
        assert!(found.v4.is_empty() && found.v6.is_empty(), "{condition}: {} prefixes", found.v4.len());
    }
    let named = prefixes(
        "in_cidr(destination.ip, ['192.0.2.0/24', '2001:db8::/32']) && !in_cidr(destination.ip, '192.0.2.0/25')",
    );
    assert_eq!((named.v4.len(), named.v6.len()), (1, 1), "{named:?}");
    // A third country's networks stay out.
    let german = prefixes("destination.as_country == 'DE'");
    assert!(!german.v4.is_empty() && !german.v4.iter().any(|net| ipnet::IpNet::from(*net).contains(&china_mobile)));
}

#[test]
fn the_documentation_names_every_field_and_rule() {
    let page = markdown();
    for row in fields::FIELDS {
        assert!(page.contains(&format!("| `{}` |", row.path)), "{}", row.path);
    }
    assert!(page.contains("| `memory-only-program` | yes | high |"), "{page}");
}

#[test]
fn a_name_that_is_borrowed_stays_so() {
    // What is looked at for every report must not copy what it looks at.
    let facts = facts();
    assert!(matches!(facts.get(Field::Executable), expression::Value::Text(Cow::Borrowed(_))));
}

#[test]
fn networks_that_are_everything_between_them_flag_nothing() {
    let owners = crate::ownership::Table::embedded().unwrap();
    for (networks, expected) in [
        (r#"["0.0.0.0/1", "128.0.0.0/1", "2001:db8::/32"]"#, (0, 1)),
        (r#"["0.0.0.0/0", "192.0.2.0/24"]"#, (0, 0)),
        (r#"["::ffff:192.0.2.0/120"]"#, (1, 0)),
    ] {
        let text = format!("[[rule]]\nid = \"r\"\ntitle = \"R\"\ncondition = 'in_cidr(destination.ip, {networks})'\n");
        let rules = Rules::compile([("r.toml", text.as_str())], &[], &[], None).unwrap();
        let prefixes = rules.flagged_prefixes(&owners);
        assert_eq!((prefixes.v4.len(), prefixes.v6.len()), expected, "{networks}");
    }
}

#[test]
fn what_can_never_fit_is_refused_at_its_line() {
    let rule = |rest: &str| format!("[[rule]]\nid = \"r\"\ntitle = \"R\"\n{rest}\n");
    for (text, line, message) in [
        (rule("condition = \"true\"\nmax_alerts_per_hour = 0"), 5, "a limit of 0 alerts an hour"),
        (
            "[[suppress]]\nrule = \"r\"\nlist = \"l\"\n".to_owned() + &rule("condition = \"true\""),
            3,
            "of a list and of a rule",
        ),
        (rule("condition = '''\ntrue &&\nnothing == 1'''").replace('\n', "\r\n"), 6, "there is no field nothing"),
        (rule("condition = '''\ntrue &&\nnothing == 1'''"), 6, "there is no field nothing"),
    ] {
        let errors = Rules::compile([("r.toml", text.as_str())], &[], &[], None).unwrap_err().to_string();
        assert!(errors.contains(message) && errors.contains(&format!("r.toml:{line}:")), "{text}{errors}");
    }
}
