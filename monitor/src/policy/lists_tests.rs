use std::{collections::BTreeSet, fmt::Write as _, fs, net::Ipv4Addr, path::Path};

use proptest::prelude::*;

use super::*;
use crate::policy::{Relation, Severity};

fn owner(asn: u32, as_country: &str, registered_country: &str) -> Owner {
    Owner {
        asn: Some(asn),
        organisation: None,
        as_country: CountryCode::new(as_country),
        registered_country: CountryCode::new(registered_country),
    }
}

fn list(id: &str, enabled: bool, keys: &str) -> List {
    let text = format!(
        "id = \"{id}\"\ntitle = \"T\"\nabout = \"A\"\nsource = \"S\"\nas_of = 2026-01-01\nseverity = \"high\"\nenabled = {enabled}\n\
         [[entity]]\nname = \"E\"\n{keys}\n"
    );
    List::parse(id, &text).unwrap()
}

fn describe(matches: &[Match]) -> String {
    matches.iter().fold(String::new(), |mut text, hit| {
        writeln!(
            text,
            "{} | {} | {:?} | {:?} | {:?} | verified {} | enabled {}",
            hit.list.id, hit.entity, hit.relation, hit.key, hit.severity, hit.verified, hit.list.enabled
        )
        .unwrap();
        text
    })
}

fn ids(matches: &[Match]) -> BTreeSet<&str> {
    matches.iter().map(|hit| &*hit.list.id).collect()
}

#[test]
fn every_file_of_the_directory_is_embedded_under_its_id() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("lists");
    let mut on_disk: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "README.md")
        .collect();
    on_disk.sort();
    assert_eq!(EMBEDDED.map(|(file, _)| file).to_vec(), on_disk);
    for list in Lists::embedded_files().unwrap() {
        assert_eq!(list.file, format!("{}.toml", list.header.id));
    }
}

#[test]
fn embedded_lists_hold_what_they_should() {
    let lists = Lists::embedded().unwrap();
    let table: String = lists.headers().iter().fold(String::new(), |mut text, summary| {
        let header = &summary.header;
        writeln!(
            text,
            "{} | {} | as of {} | {:?} | enabled {}\n    {:?}",
            header.id,
            header.title,
            header.as_of.unwrap(),
            header.severity,
            header.enabled,
            summary.counts
        )
        .unwrap();
        text
    });
    insta::assert_snapshot!(table);
}

#[test]
fn whole_carriers_and_countries_are_low() {
    let lists = Lists::embedded().unwrap();
    // Chinanet, CN2, CMNET, China169, Rostelecom, MegaFon.
    for asn in [4134, 4809, 9808, 4837, 12389, 31133] {
        let matches = lists.match_asn(asn);
        assert!(!matches.is_empty(), "AS{asn}");
        assert!(matches.iter().all(|hit| hit.severity == Severity::Low), "AS{asn}\n{}", describe(&matches));
    }
    for entity in Lists::embedded_files().unwrap().iter().flat_map(|list| &list.entities) {
        assert!(entity.countries.is_empty() || entity.severity == Severity::Low, "{}", entity.name);
    }
}

#[test]
fn the_scenario_of_the_mission_matches_by_default() {
    let lists = Lists::embedded().unwrap();
    let address = IpAddr::V4(Ipv4Addr::new(111, 13, 100, 1));
    let mut text = describe(&lists.match_name("www.CMPassport.com."));
    text += "--\n";
    text += &describe(&lists.match_address(address, &owner(9808, "CN", "CN")));
    insta::assert_snapshot!(text);
    assert!(lists.match_name("cmpassport.com").iter().any(|hit| hit.severity == Severity::High));
}

#[test]
fn texts_say_what_a_list_does_not_restrict() {
    let lists = Lists::embedded().unwrap();
    for (id, title, about) in [
        ("us-ofac-ns-cmic", "securities only", "Restricts securities only"),
        ("us-ofac-dir3", "debt and equity only", "does not restrict traffic"),
        ("us-doj-dsp", "names countries of concern", "Names countries of concern, not companies"),
    ] {
        let header = &lists.headers().iter().find(|summary| &*summary.header.id == id).unwrap().header;
        assert!(header.title.contains(title) && header.about.contains(about), "{header:?}");
    }
    for list in Lists::embedded_files().unwrap() {
        let topical = list.header.legal_basis.is_none();
        assert!(list.entities.iter().all(|entity| (entity.relation == Relation::Topical) == topical));
        assert_eq!(list.header.enabled, !topical || &*list.header.id == "app-deepseek");
        let words = format!("{list:?}").to_lowercase();
        assert!(!words.contains("malicious") && !words.contains("stolen"), "{}", list.header.id);
    }
}

#[test]
fn names_match_on_label_boundaries() {
    let lists = Lists::new(
        [list("a", true, "domains = [\"example.com\", \"login.example.com\"]"), list("b", true, "domains = [\"com\"]")],
        &[],
        &[],
    )
    .unwrap();
    let keys = |name: &str| -> Vec<String> {
        let key = |hit: &Match| match &hit.key {
            MatchKey::Domain(domain) => domain.to_string(),
            other => panic!("{other:?}"),
        };
        lists.match_name(name).iter().map(key).collect()
    };
    assert_eq!(keys("a.Login.EXAMPLE.com."), ["login.example.com", "example.com", "com"]);
    assert_eq!(keys("example.com"), ["example.com", "com"]);
    assert_eq!(keys("notexample.com"), ["com"]);
    assert_eq!(keys("example.com.evil.net"), [""; 0]);
    for name in ["", ".", "..", "bücher.example", &"a".repeat(300)] {
        assert_eq!(keys(name), [""; 0], "{name:?}");
    }
}

#[test]
fn prefixes_match_narrow_and_wide_and_mapped() {
    let lists =
        Lists::new([list("a", true, "cidrs = [\"192.0.2.0/24\", \"192.0.0.0/16\", \"2001:db8::/32\"]")], &[], &[])
            .unwrap();
    let hits = |address: &str| lists.match_address(address.parse().unwrap(), &Owner::default()).len();
    assert_eq!(hits("192.0.2.255"), 2);
    assert_eq!(hits("192.0.3.0"), 1);
    assert_eq!(hits("192.1.0.0"), 0);
    assert_eq!(hits("::ffff:192.0.2.1"), 2);
    assert_eq!(hits("2001:db8:ffff::1"), 1);
    assert_eq!(lists.cidrs().count(), 3);
}

#[test]
fn each_country_is_a_match_of_its_own() {
    let lists = Lists::new([list("a", true, "countries = [\"CN\"]")], &[], &[]).unwrap();
    let keys = |as_country, registered| -> Vec<MatchKey> {
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        lists.match_address(address, &owner(1, as_country, registered)).into_iter().map(|hit| hit.key).collect()
    };
    let cn = CountryCode::new("CN").unwrap();
    assert_eq!(keys("CN", "US"), [MatchKey::AsCountry(cn)]);
    assert_eq!(keys("US", "CN"), [MatchKey::RegisteredCountry(cn)]);
    assert_eq!(keys("CN", "CN").len(), 2);
    assert!(lists.flags_owner(None, None, Some(cn)) && lists.flags_owner(None, Some(cn), None));
    assert!(!lists.flags_owner(Some(1), CountryCode::new("US"), None));
}

#[test]
fn switches_overrule_the_files() {
    let files = || [list("on", true, "asns = [7]\ncidrs = [\"192.0.2.0/24\"]"), list("off", false, "asns = [7]")];
    let address = "192.0.2.1".parse().unwrap();
    let switch = |enable: &[&str], disable: &[&str]| {
        let owned = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
        Lists::new(files(), &owned(enable), &owned(disable))
    };
    let by_default = switch(&[], &[]).unwrap();
    assert_eq!(ids(&by_default.match_asn(7)), ["on"].into());
    assert_eq!(ids(&by_default.match_asn_all(7)), ["off", "on"].into());
    assert_eq!(by_default.match_address(address, &owner(7, "US", "US")).len(), 2);
    let swapped = switch(&["off"], &["on"]).unwrap();
    assert_eq!(ids(&swapped.match_asn(7)), ["off"].into());
    assert_eq!(swapped.match_address_all(address, &owner(7, "US", "US")).len(), 3);
    assert_eq!(swapped.cidrs().count(), 0);
    let none = switch(&[], &["on"]).unwrap();
    assert!(!none.flags_owner(Some(7), None, None));
    let errors = [
        switch(&["of"], &[]).unwrap_err().to_string(),
        switch(&["on"], &["on"]).unwrap_err().to_string(),
        Lists::new([list("a", true, "asns = [1]"), list("a", true, "asns = [2]")], &[], &[]).unwrap_err().to_string(),
    ];
    insta::assert_snapshot!(errors.join("\n"));
}

#[test]
fn organisations_match_by_whole_words() {
    let lists = Lists::new([list("a", true, "organisations = [\"China Mobile\", \"yandex\"]")], &[], &[]).unwrap();
    let hits = |name: &str| {
        let owner = Owner { organisation: Some(name.into()), ..Owner::default() };
        lists.match_address(IpAddr::V4(Ipv4Addr::LOCALHOST), &owner).into_iter().map(|hit| hit.key).collect::<Vec<_>>()
    };
    let china_mobile = [MatchKey::Organisation("China Mobile".into())];
    assert_eq!(hits("China Mobile"), china_mobile);
    assert_eq!(hits("CHINA-MOBILE, Communications Group Co., Ltd."), china_mobile);
    assert_eq!(hits("Guangdong  China  Mobile"), china_mobile);
    assert_eq!(hits("YANDEX LLC"), [MatchKey::Organisation("yandex".into())]);
    for name in ["", "Machina Mobile", "China Mobiles", "China Unicom Mobile", "Mobile China"] {
        assert_eq!(hits(name), [], "{name}");
    }
    assert!(lists.flags_organisation("China Mobile Ltd") && !lists.flags_organisation("China Telecom"));
}

#[test]
fn a_severity_of_the_configuration_holds_for_every_entry() {
    let files = || [list("a", true, "asns = [7]\nseverity = \"low\""), list("b", true, "asns = [7]")];
    let severity = BTreeMap::from([("a".to_owned(), Severity::Medium)]);
    let lists = Lists::switched(files(), Switches { enable: &[], disable: &[], severity: &severity }).unwrap();
    let severities: Vec<Severity> = lists.match_asn(7).iter().map(|hit| hit.severity).collect();
    assert_eq!(severities, [Severity::Medium, Severity::High]);
    let unknown = BTreeMap::from([("c".to_owned(), Severity::Low)]);
    let refused = Lists::switched(files(), Switches { enable: &[], disable: &[], severity: &unknown });
    assert!(matches!(refused, Err(ListError::UnknownId { id, .. }) if id == "c"));
}

#[test]
fn an_ignoring_list_spares_what_it_holds_and_counts_it() {
    let ignoring = |applies_to: &[&str]| {
        let mut ignoring = list("good", true, "cidrs = [\"192.0.2.0/28\"]\ndomains = [\"cdn.example\"]");
        ignoring.header.action = Action::Ignore;
        ignoring.applies_to = applies_to.iter().map(|id| (*id).into()).collect();
        ignoring
    };
    let feed = || list("feed", true, "cidrs = [\"192.0.2.0/24\"]\ndomains = [\"cdn.example\", \"bad.example\"]");
    let embedded = || List { is_embedded: true, ..list("law", true, "cidrs = [\"192.0.2.0/24\"]") };
    let hits = |lists: &Lists, address: &str| {
        lists
            .match_address(address.parse().unwrap(), &Owner::default())
            .iter()
            .map(|hit| hit.list.id.to_string())
            .collect::<Vec<_>>()
    };
    let lists = Lists::new([ignoring(&[]), feed(), embedded()], &[], &[]).unwrap();
    // What a law names is not spared unless somebody says so.
    assert_eq!(hits(&lists, "192.0.2.1"), ["law"]);
    assert_eq!(hits(&lists, "192.0.2.77"), ["feed", "law"]);
    assert!(lists.match_name("a.cdn.example").is_empty());
    assert_eq!(lists.match_name("bad.example").len(), 1);
    assert_eq!(lists.match_name_all("cdn.example").len(), 2);
    assert_eq!(lists.spared().collect::<Vec<_>>(), [("good", 2)]);
    assert_eq!(lists.cidrs().map(|net| net.to_string()).collect::<Vec<_>>(), ["192.0.2.0/24"]);

    let named = Lists::new([ignoring(&["law"]), feed(), embedded()], &[], &[]).unwrap();
    assert_eq!(hits(&named, "192.0.2.1"), ["feed"]);
    let off = Lists::new([ignoring(&[]), feed()], &[], &["good".to_owned()]).unwrap();
    assert_eq!(hits(&off, "192.0.2.1"), ["feed"]);
    let refused = Lists::new([ignoring(&["lwa"]), embedded()], &[], &[]).unwrap_err().to_string();
    assert_eq!(refused, "lists.good.applies_to: there is no list \"lwa\": write one of good, law");
}

proptest! {
    #[test]
    fn prefix_matching_agrees_with_a_plain_search(
        nets in prop::collection::vec((any::<u32>(), 1_u8..=32), 1..40),
        address: u32,
        near in any::<prop::sample::Index>(),
        noise in 0_u32..256,
    ) {
        let nets: BTreeSet<IpNet> = nets
            .into_iter()
            .map(|(bits, length)| IpNet::new(Ipv4Addr::from(bits).into(), length).unwrap().trunc())
            .collect();
        let quoted: Vec<String> = nets.iter().map(|net| format!("\"{net}\"")).collect();
        let lists = Lists::new([list("a", true, &format!("cidrs = [{}]", quoted.join(", ")))], &[], &[]).unwrap();
        let IpAddr::V4(base) = near.get(&nets.iter().copied().collect::<Vec<_>>()).addr() else { unreachable!() };
        for address in [address, u32::from(base) ^ noise] {
            let address = IpAddr::from(Ipv4Addr::from(address));
            let expected: BTreeSet<String> = nets.iter().filter(|net| net.contains(&address)).map(ToString::to_string).collect();
            let found: BTreeSet<String> = lists
                .match_address(address, &Owner::default())
                .into_iter()
                .map(|hit| match hit.key { MatchKey::Cidr(net) => net.to_string(), other => format!("{other:?}") })
                .collect();
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn any_name_is_borne(name in "\\PC{0,300}") {
        let lists = Lists::new([list("a", true, "domains = [\"example.com\"]")], &[], &[]).unwrap();
        let plain = name.strip_suffix('.').unwrap_or(&name).to_ascii_lowercase();
        let expected = plain.len() <= NAME_BYTES && (plain == "example.com" || plain.ends_with(".example.com"));
        prop_assert_eq!(!lists.match_name(&name).is_empty(), expected);
    }
}
