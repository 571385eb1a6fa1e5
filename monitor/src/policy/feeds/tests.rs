use std::{fmt::Write as _, fs, path::Path};

use jiff::Timestamp;

use super::*;
use crate::policy::{Action, Lists};

const NOW: &str = "2026-11-26T12:00:00Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

/// Writes `content` to a file and reads it as a list with these settings.
fn feed(folder: &Path, content: &str, settings: &str) -> Feed {
    let file = folder.join("list");
    fs::write(&file, content).unwrap();
    feed_at(folder, &file, settings)
}

fn feed_at(folder: &Path, source: &Path, settings: &str) -> Feed {
    let config: Config = toml::from_str(&format!("[x]\nsource = \"{}\"\n{settings}", source.display())).unwrap();
    load(&config, &folder.join("state"), now(), BAD_LINES_TOLD).pop().unwrap()
}

/// So many addresses, none beside another.
pub(super) fn addresses(count: u8) -> String {
    (0..count).map(|number| format!("192.0.2.{}", number * 2)).collect::<Vec<_>>().join("\n")
}

/// Every key by its entity, and every bad line.
fn told(feed: &Feed) -> String {
    let mut lines: Vec<String> = feed
        .list
        .entities
        .iter()
        .map(|entity| {
            let asns = entity.asns.iter().map(|asn| format!("AS{asn}"));
            let others = entity.cidrs.iter().map(ToString::to_string);
            let countries = entity.countries.iter().map(ToString::to_string);
            let names = entity.domains.iter().chain(&entity.organisations).map(ToString::to_string);
            let keys: Vec<String> = asns.chain(others).chain(countries).chain(names).collect();
            format!("{}: {}", entity.name, keys.join(" "))
        })
        .collect();
    lines.extend(feed.state.problems.iter().map(|bad| format!("bad line {}: {}", bad.line, bad.problem)));
    lines.join("\n")
}

#[test]
fn each_form_gives_its_keys() {
    let folder = tempfile::tempdir().unwrap();
    let cases = [
        (
            "plain",
            "",
            "# note\n192.0.2.0/25\r\n192.0.2.128/25\n192.0.2.7\n; x\n2001:db8::1 ; SBL1\n::ffff:203.0.113.9\nAS64496\nEvil.Example.\ncom\nAS64497 a name\n*.wild.example\n0.0.0.0/0\nno name!\n198.51.100.9\t7\n",
        ),
        (
            "ranges",
            "",
            "#Start\tEnd\tNetmask\n192.0.2.0\t192.0.2.255\t24\t3000\n198.51.100.1-198.51.100.2\n203.0.113.4 - 203.0.113.5\n203.0.113.9-203.0.113.8\n",
        ),
        ("hosts", "", "127.0.0.1 localhost\n0.0.0.0 ads.example tracker.example # both\n::1 ip6-localhost\n"),
        (
            "adblock",
            "",
            "[Adblock Plus 2.0]\n! Title: x\n||ads.example^\n||path.example/ad.js\n||opt.example^$third-party\n",
        ),
        ("netset", "", "# FireHOL\n#\n192.0.2.0/24\n192.0.2.64/26\n198.51.100.77/24\n"),
        ("asns", "format = \"asns\"", "64496\nAS64497 # x\n0\nten\n"),
        ("countries", "format = \"countries\"", "cn\nRU\nUK\n"),
        ("organisations", "format = \"organisations\"", "China Mobile\nab\n"),
        (
            "spamhaus",
            "",
            "{\"cidr\":\"192.0.2.0/24\",\"sblid\":\"SBL7\",\"rir\":\"x\"}\n{\"cidr\":\"oops\",\"sblid\":\"SBL8\"}\nnonsense\n{\"type\":\"metadata\",\"timestamp\":1790000000,\"records\":1}\n",
        ),
        (
            "asn drop",
            "",
            "{\"asn\":64496,\"rir\":\"x\",\"domain\":\"x.example\",\"cc\":\"ZZ\",\"asname\":\"EVIL\"}\n{\"asn\":64497,\"asname\":\"EVIL\"}\n",
        ),
        (
            "stix",
            "",
            r#"{"type":"bundle","id":"bundle--1","objects":[
            {"type":"ipv4-addr","value":"192.0.2.9"},{"type":"domain-name","value":"Obs.Example"},
            {"type":"indicator","name":"One","pattern_type":"stix","modified":"2026-10-05T00:00:00Z","pattern":"[ipv4-addr:value = '192.0.2.1' OR domain-name:value='c2.example']"},
            {"type":"indicator","name":"Two","pattern_type":"stix","pattern":"[ipv6-addr:value ISSUBSET '2001:db8::/32']"},
            {"type":"indicator","name":"Gone","revoked":true,"pattern_type":"stix","pattern":"[ipv4-addr:value = '192.0.2.2']"},
            {"type":"indicator","name":"Old","valid_until":"2026-11-01T00:00:00Z","pattern_type":"stix","pattern":"[ipv4-addr:value = '192.0.2.8']"},
            {"type":"indicator","name":"New","valid_until":"2027-11-01T00:00:00Z","pattern_type":"stix","pattern":"[domain-name:value = 'new.example']"},
            {"type":"indicator","name":"Both","pattern_type":"stix","pattern":"[ipv4-addr:value = '192.0.2.3' AND domain-name:value = 'x.example']"},
            {"type":"indicator","id":"indicator--4","name":"Not","pattern_type":"stix","pattern":"[ipv4-addr:value != '192.0.2.4']"},
            {"type":"indicator","id":"indicator--5","name":"Open","pattern_type":"stix","pattern":"[ipv4-addr:value = '1.2.3.4\""},
            {"type":"indicator","id":"indicator--6","name":"Open","pattern_type":"stix","pattern":"[ipv4-addr:value = '1.2.3.4'"},
            {"type":"indicator","id":"indicator--7","name":"Bare","pattern_type":"stix","pattern":"[ipv4-addr:value '1.2.3.4']"},
            {"type":"indicator","name":"Two","pattern_type":"stix","pattern":"[(ipv4-addr:value='192.0.2.11' OR ipv4-addr:value = '192.0.2.12')] OR [domain-name:value = 'two.example']"}]}"#,
        ),
        (
            "misp",
            "",
            r#"{"Event":{"info":"Case 1","date":"2026-09-01","Attribute":[{"type":"ip-dst|port","value":"192.0.2.5|443"},{"type":"sha256","value":"ab"},{"type":"domain","value":"gone.example","deleted":true},{"type":"domain","value":"context.example","to_ids":false},{"type":"domain|ip","value":"c2.example|192.0.2.6","to_ids":true}],"Object":[{"Attribute":[{"type":"url","value":"https://u@bad.example:8443/x"},{"uuid":"5f0c","type":"ip-src","value":"192.0.2"}]}]}}"#,
        ),
        (
            "warninglist",
            "action = \"ignore\"",
            r#"{"name":"Known","description":"Resolvers","version":20260114,"type":"cidr","list":["192.0.2.53","192.0.2.0/33","2001:db8::/48"]}"#,
        ),
        (
            "feodo",
            "",
            "# Generated\n#\n\"first_seen_utc\",\"dst_ip\",\"dst_port\",\"c2_status\",\"last_online\",\"malware\"\n\"2026-01-01 00:00:00\",\"192.0.2.66\",\"443\",\"online\",\"2026-01-02\",\"Emo\"\n# END\n",
        ),
        (
            "threatfox",
            "",
            "# \"first_seen_utc\",\"ioc_id\",\"ioc_value\",\"ioc_type\",\"threat_type\",\"fk_malware\",\"malware_alias\",\"malware_printable\"\n\"2026-01-01\", \"1\", \"192.0.2.67:8080\", \"ip:port\", \"c2\", \"x\", \"None\", \"Quak\"\n\"2026-01-01\", \"2\", \"d41d8cd98f00b204e9800998ecf8427e\", \"md5_hash\", \"p\", \"x\", \"None\", \"Quak\"\n\"2026-01-01\", \"3\", \"c2.example\", \"domain\", \"c2\", \"x\", \"None\", \"Quak\"\n\"2026-01-01\", \"4\", \"http://bad.example/\", \"url\", \"c2\", \"x\", \"None\", \"Quak\"\n\"2026-01-01\", \"5\", \"198.51.100.4:443\", \"ip:port\", \"c2\", \"x\", \"None\", \"Quak\"\n",
        ),
        (
            "words in rows",
            "",
            "ip,kind,note\n192.0.2.1,ip,a\n192.0.2.2,domain,b\n192.0.2.3,url,network\n# cidr,kind,note\n192.0.2.64/26,ip,c\n",
        ),
        ("no header", "", "192.0.2.9,domain,x\n192.0.2.10\n"),
        ("numbers", "", "300.1.1.1\n1.2.3\n7.example\n"),
        (
            "urlhaus",
            "",
            "# id,dateadded,url,url_status,last_online,threat,tags,urlhaus_link,reporter\n\"1\",\"2026-01-01\",\"http://198.51.100.3:8080/i\",\"online\",\"x\",\"malware_download\",\"elf,arm\",\"y\",\"z\"\n\"2\",\"2026-01-01\"\n",
        ),
    ];
    let mut report = String::new();
    for (name, settings, content) in cases {
        let feed = feed(folder.path(), content, settings);
        assert_eq!(feed.state.problems.len() as u64, feed.state.bad_lines, "{name}");
        writeln!(report, "--- {name}, as of {:?}\n{}", feed.list.header.as_of, told(&feed)).unwrap();
    }
    insta::assert_snapshot!(report);
}

#[test]
fn bad_lines_are_counted_and_a_few_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let long = "x".repeat(40_000);
    let content = format!("192.0.2.1\n{long}\n{}\u{fffd}.example\n192.0.2.9\n", "no name\n".repeat(500));
    let feed = feed(folder.path(), &content, "");
    assert_eq!((feed.state.keys, feed.state.bad_lines, feed.state.problems.len()), (2, 502, 20));
    assert_eq!(feed.state.problems[0].line, 2);
    let all_bad = super::tests::feed(folder.path(), "no name\n", "");
    assert!(all_bad.state.failed.is_some_and(|why| why.contains("none of the 1 lines")));
}

#[test]
fn shrinking_is_told_and_can_be_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let whole = addresses(20);
    keep(&[feed(folder.path(), &whole, "")], &state).unwrap();
    let shrunk = feed(folder.path(), "192.0.2.1\n", "");
    assert_eq!(shrunk.state.keys, 20);
    assert!(shrunk.state.kept.as_ref().is_some_and(|why| why.contains("holds 1 entry where it held 20")), "{shrunk:?}");
    // What is in force by the last good one is not kept as a new good one.
    keep(&[shrunk], &state).unwrap();
    assert_eq!(feed(folder.path(), "192.0.2.1\n", "").state.keys, 20);
    assert_eq!(feed(folder.path(), "192.0.2.1\n", "accept_shrunk = true").state.keys, 1);
    fs::remove_file(folder.path().join("list")).unwrap();
    let gone = feed_at(folder.path(), &folder.path().join("list"), "");
    assert!(gone.state.keys == 20 && gone.state.kept.is_some_and(|why| why.contains("cannot be read")));
    assert_eq!(feed(folder.path(), &addresses(10), "").state.keys, 20);
    assert_eq!(feed(folder.path(), &addresses(11), "").state.keys, 11);
}

#[test]
fn a_list_that_became_empty_leaves_the_last_good_one_and_an_empty_one_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let notices = |feed: &Feed| feed.state.notices().collect::<Vec<_>>().join("; ");
    // Nothing before: there is nothing to fall back on, and it is said.
    let first = feed(folder.path(), "# nothing yet\n", "");
    assert!(first.state.kept.is_none() && first.state.failed.is_none());
    assert!(notices(&first).contains("holds no entry"), "{}", notices(&first));
    assert!(feed(folder.path(), "", "enabled = false").state.notices().next().is_none());
    keep(&[first], &state).unwrap();
    keep(&[feed(folder.path(), &addresses(3), "")], &state).unwrap();
    for empty in ["", "\n# gone\n", "{\"type\":\"bundle\",\"objects\":[]}"] {
        let feed = feed(folder.path(), empty, "");
        assert_eq!(feed.state.keys, 3, "{empty:?}");
        let told = notices(&feed);
        assert!(told.contains("the last good one is in force") && told.contains("no entry where it held 3"), "{told}");
        keep(&[feed], &state).unwrap();
    }
    // Fewer than ten may shrink as they like, and an empty one can be what is meant.
    assert_eq!(feed(folder.path(), "192.0.2.1\n", "").state.keys, 1);
    let meant = feed(folder.path(), "", "accept_shrunk = true");
    assert!(meant.state.keys == 0 && meant.state.kept.is_none());
    assert!(notices(&meant).contains("holds no entry"), "{}", notices(&meant));
}

#[test]
fn expired_lists_do_not_match_and_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let hits = |settings: &str| {
        let feed = feed(folder.path(), "bad.example\n", settings);
        let lists = Lists::new([feed.list], &[], &[]).unwrap();
        (lists.match_name("bad.example").len(), feed.state.expired)
    };
    assert_eq!(hits("valid_until = \"2026-11-26\""), (1, None));
    assert_eq!(hits("valid_until = 2026-11-25"), (0, Some("it was valid until 2026-11-25".to_owned())));
    // The file was written by this test.
    let file = folder.path().join("list");
    let old = (std::time::UNIX_EPOCH + std::time::Duration::from_secs(now().as_second().cast_unsigned()))
        - std::time::Duration::from_hours(8 * 24);
    fs::File::options().write(true).open(&file).unwrap().set_modified(old).unwrap();
    let feed = feed_at(folder.path(), &file, "expires = \"7d\"");
    assert!(!feed.list.header.enabled && feed.state.expired.is_some_and(|why| why.contains("more than 7d ago")));
    assert!(feed_at(folder.path(), &file, "expires = \"9d\"").list.header.enabled);
}

#[test]
fn a_directory_is_one_list() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("feed");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("manifest.json"), r#"{"e1":{"info":"Case 1","date":"2026-09-01"}}"#).unwrap();
    fs::write(
        source.join("e1.json"),
        r#"{"Event":{"info":"Case 1","Attribute":[{"type":"ip-dst","value":"192.0.2.5"}]}}"#,
    )
    .unwrap();
    fs::write(source.join("more.txt"), "more.example\n").unwrap();
    fs::write(source.join(".hidden"), "hidden.example\n").unwrap();
    let feed = feed_at(folder.path(), &source, "");
    // The manifest says that it is a feed of MISP, beside whose events lie lists of hashes.
    assert_eq!(told(&feed), "Case 1: 192.0.2.5/32");
    fs::remove_file(source.join("manifest.json")).unwrap();
    let feed = feed_at(folder.path(), &source, "");
    assert_eq!(told(&feed), "Case 1: 192.0.2.5/32\nx: more.example");
}

#[test]
fn settings_are_checked() {
    for (text, message) in [
        ("[x]\nsource = \"list\"", "write a path from /"),
        ("[x]\nsource = \"ftp://example.org/l\"", "write an address with https:// or http://"),
        ("[x]\nsource = \"https://u:p@example.org/l\"", "holds no user and password"),
        ("[x]\nsource = \"https://example.org/l\"\nrefresh = \"1s\"", "write \"1m\" or more"),
        ("[X]\nsource = \"/l\"", "no list id"),
        ("[x]\nformat = \"auto\"", "missing field `source`"),
        ("[x]\nsource = \"/l\"\nvalid_until = \"soon\"", "no date"),
        ("[x]\nsource = \"/l\"\nacton = \"ignore\"", "unknown field `acton`"),
    ] {
        let error = toml::from_str::<Config>(text).unwrap_err().to_string();
        assert!(error.contains(message), "{text}: {error}");
    }
    let list = ListConfig {
        applies_to: vec!["y".to_owned()],
        ..toml::from_str("source = \"/l\"\naction = \"ignore\"").unwrap()
    };
    assert_eq!((list.action, list.enabled), (Action::Ignore, true));
}

fn packed(content: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn packed_sources_are_read_and_bombs_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("list.gz");
    let read = |bytes: &[u8], settings: &str| {
        fs::write(&file, bytes).unwrap();
        feed_at(folder.path(), &file, settings)
    };
    let good = packed(addresses(20).as_bytes());
    assert_eq!(read(&good, "").state.keys, 20);
    let json = packed(b"{\"cidr\":\"192.0.2.0/24\",\"sblid\":\"SBL1\",\"rir\":\"x\"}\n");
    assert_eq!(read(&json, "").state.keys, 1);
    // Two members one after the other are one content (RFC 1952, 2.2).
    let two = [packed(b"192.0.2.1\n"), packed(b"198.51.100.1\n")].concat();
    assert_eq!(read(&two, "").state.keys, 2);
    let failed = read(&good[..good.len() - 9], "").state.failed.expect("cut short");
    assert!(failed.contains("list.gz cannot be read"), "{failed}");
    let bomb = packed(&b"192.0.2.1\n".repeat(1 << 20));
    assert!(bomb.len() < 64 << 10, "{}", bomb.len());
    let failed = read(&bomb, "max_bytes = \"1MiB\"").state.failed.expect("too large");
    assert!(failed.contains("unpacked it is larger than the list's max_bytes"), "{failed}");
    assert_eq!(read(&bomb, "max_bytes = \"16MiB\"").state.keys, 1);
}

/// Forms in which lists are published that are easily read wrongly.
#[test]
fn forms_of_the_wild_give_their_keys() {
    let folder = tempfile::tempdir().unwrap();
    let misp =
        |value: &str| format!(r#"{{"info":"Case","Attribute":[{{"type":"ip-dst","value":"{value}","to_ids":true}}]}}"#);
    let events = format!(r#"[{{"Event":{}}},{{"Event":{}}}]"#, misp("192.0.2.1"), misp("nothing good"));
    let alone = r#"{"response":{"Attribute":[{"type":"domain","value":"a.example","Event":{"info":"E"}},{"type":"ip-src","value":"192.0.2.2"}]}}"#;
    let stix = |rest: &str| {
        format!(
            r#"{{"type":"bundle","objects":[{{"type":"ipv4-addr","id":"ipv4-addr--1","value":"192.0.2.9"}},{{"type":"domain-name","id":"domain-name--1","value":"o.example"}},
            {{"type":"indicator","id":"indicator--1","pattern_type":"stix","pattern":"[file:name = 'x']",{rest}}},
            {{"type":"relationship","relationship_type":"based-on","source_ref":"indicator--1","target_ref":"ipv4-addr--1"}}]}}"#
        )
    };
    let cases: [(String, &str); 19] = [
        (format!(r#"{{"response":{events}}}"#), "Case: 192.0.2.1/32\nbad line 0: response[1].Attribute[0]: "),
        (events, "Case: 192.0.2.1/32\nbad line 0: [1].Attribute[0]: "),
        (alone.to_owned(), "E: a.example\nx: 192.0.2.2/32"),
        (format!("\u{feff}{alone}"), "E: a.example\nx: 192.0.2.2/32"),
        (r#"["192.0.2.1", "a.example"]"#.to_owned(), "x: 192.0.2.1/32 a.example"),
        ("[Adblock Plus 2.0]\n||a.example^$important,all\n||b.example^$document\n||c.example^$3p\n".to_owned(), "x: a.example b.example\nbad line 4: "),
        (
            "127.0.0.1 localhost\n255.255.255.255 broadcasthost\nfe80::1%lo0 localhost\nff02::1 ip6-allnodes\nff00::0 ip6-mcastprefix\nfe00::0 ip6-localnet\n0.0.0.0 a.example no_good! b.example\n".to_owned(),
            "x: a.example b.example\nbad line 7: ",
        ),
        ("224.0.0.1 all\n169.254.0.1 x.example\n192.0.2.1 7\n".to_owned(), "x: 192.0.2.1/32\nbad line 1: \"224.0.0.1\" is the address of a group"),
        ("0.0.0.0/1\n128.0.0.0/1\n2001:db8::/32\n".to_owned(), "x: 2001:db8::/32\nbad line 0: its prefixes hold every address of IPv4"),
        ("0.0.0.0/1\n192.0.2.1\n".to_owned(), "x: 0.0.0.0/1 192.0.2.1/32"),
        ("# Firstseen,DstIP,DstPort\n2026-01-01 00:00:00,192.0.2.5,443\n".to_owned(), "x: 192.0.2.5/32"),
        ("ip,reason\n192.0.2.5,scan\n".to_owned(), "x: 192.0.2.5/32"),
        ("domain:a.example @ads\nfull:b.example\nc.example @cn\nregexp:^x\n".to_owned(), "x: a.example b.example c.example\nbad line 4: "),
        ("192.0.2.0/24 // c\n203.0.113.0/28#x\na.example // why\n".to_owned(), "x: 192.0.2.0/24 203.0.113.0/28 a.example"),
        ("a.example##.ad\n192.0.2.1\n".to_owned(), "x: 192.0.2.1/32\nbad line 1: "),
        (stix(r#""revoked":true"#), "x: o.example"),
        (stix(r#""valid_until":"2026-11-01T00:00:00Z""#), "x: o.example"),
        (stix(r#""valid_from":"2026-12-01T00:00:00Z""#), "x: o.example"),
        (stix(r#""valid_from":"2026-11-01T00:00:00Z""#), "x: 192.0.2.9/32 o.example\nbad line 0: "),
    ];
    for (content, expected) in cases {
        let told = told(&feed(folder.path(), &content, ""));
        assert!(told.starts_with(expected), "{content}\n{told}");
        assert!(expected.contains("bad line") || told == expected, "{content}\n{told}");
    }
}

#[test]
fn what_editors_leave_in_a_directory_is_no_list() {
    let folder = tempfile::tempdir().unwrap();
    let lists = folder.path().join("lists");
    fs::create_dir(&lists).unwrap();
    for (name, entry) in
        [("a.txt", 1), ("a.txt~", 2), (".b.txt.swp", 3), ("#a.txt#", 4), ("c.bak", 5), ("d.txt.dpkg-old", 6)]
    {
        fs::write(lists.join(name), format!("192.0.2.{entry}")).unwrap();
    }
    assert_eq!(told(&feed_at(folder.path(), &lists, "")), "x: 192.0.2.1/32");
}

#[test]
fn an_event_that_a_feed_lacks_is_a_bad_line() {
    let folder = tempfile::tempdir().unwrap();
    let lists = folder.path().join("feed");
    fs::create_dir(&lists).unwrap();
    let (there, gone) = ("5a5d2a5c-0000-4000-8000-00000000000a", "5a5d2a5c-0000-4000-8000-00000000000b");
    fs::write(lists.join("manifest.json"), format!(r#"{{"{there}":{{"info":"a"}},"{gone}":{{"info":"b"}}}}"#)).unwrap();
    let event = r#"{"Event":{"info":"a","Attribute":[{"type":"ip-dst","value":"192.0.2.1"}]}}"#;
    fs::write(lists.join(format!("{there}.json")), event).unwrap();
    let expected = format!("a: 192.0.2.1/32\nbad line 0: event {gone} of the feed is not there");
    assert_eq!(told(&feed_at(folder.path(), &lists, "")), expected);
}
