//! Import, file form and lookups against models that are too simple to be wrong.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::LazyLock,
};

use ipnet::{Ipv4Net, Ipv6Net};
use jiff::civil::{Date, date};
use proptest::prelude::*;

use super::{
    Conflict, CountryCode, Data, Facts, Owner, OwnerLookup as _, OwnershipError, Ranges, Table, encode,
    import::{ImportError, Origins, Problem, read_country_csv},
};

static EMBEDDED: LazyLock<Table> = LazyLock::new(|| Table::embedded().expect("the embedded table"));

fn address(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|_| panic!("`{text}` is not an address"))
}

fn country(text: &str) -> CountryCode {
    CountryCode::new(text).unwrap_or_else(|| panic!("`{text}` is not a country"))
}

#[test]
fn the_embedded_table_knows_the_anchors() {
    const CASES: &[(&str, u32, &str, &str)] = &[
        ("8.8.8.8", 15169, "Google LLC", "US"),
        ("1.1.1.1", 13335, "Cloudflare, Inc.", "US"),
        ("111.13.100.1", 9808, "China Mobile", "CN"),
        ("::ffff:111.13.100.1", 9808, "China Mobile", "CN"),
        ("2409:8c00::1", 9808, "China Mobile", "CN"),
        ("77.88.55.88", 13238, "YANDEX LLC", "RS"),
    ];
    for &(text, asn, organisation, as_country) in CASES {
        let owner = EMBEDDED.lookup(address(text));
        assert_eq!(owner.asn, Some(asn), "{text}");
        assert_eq!(owner.organisation.as_deref(), Some(organisation), "{text}");
        assert_eq!(owner.as_country, Some(country(as_country)), "{text}");
        assert_eq!(EMBEDDED.organisation(asn).as_deref(), Some(organisation));
        assert_eq!(EMBEDDED.as_country(asn), Some(country(as_country)));
    }
}

#[test]
fn the_countries_of_the_embedded_table_are_separate_facts() {
    let owner = EMBEDDED.lookup(address("47.241.1.1"));
    assert_eq!((owner.as_country, owner.registered_country), (Some(country("CN")), Some(country("US"))), "{owner:?}");
}

#[test]
fn the_embedded_table_is_whole() {
    let (v4, v6) = EMBEDDED.range_counts();
    assert!(v4 > 300_000, "{v4} IPv4 ranges");
    assert!(v6 > 60_000, "{v6} IPv6 ranges");
    assert!(EMBEDDED.systems().count() > 80_000);
    assert!(EMBEDDED.systems().all(|system| EMBEDDED.organisation(system.asn).as_deref() == system.organisation));
    assert_eq!(EMBEDDED.data_date(), date(2026, 6, 17));
}

#[test]
fn the_embedded_table_finds_each_of_its_ranges_at_both_ends() {
    let v4: Vec<_> = EMBEDDED.v4.steps().collect();
    for range in v4.windows(2) {
        let [(first, value), (next, _)] = range else { unreachable!("windows of two") };
        assert_eq!((EMBEDDED.v4.lookup(*first), EMBEDDED.v4.lookup(next - 1)), (*value, *value), "{first:#x}");
    }
    let v6: Vec<_> = EMBEDDED.v6.steps().collect();
    for range in v6.windows(2) {
        let [(first, value), (next, _)] = range else { unreachable!("windows of two") };
        assert_eq!((EMBEDDED.v6.lookup(*first), EMBEDDED.v6.lookup(next - 1)), (*value, *value), "{first:#x}");
    }
}

#[test]
fn the_embedded_table_knows_nothing_of_special_addresses() {
    for text in [
        "0.0.0.0",
        "10.1.2.3",
        "127.0.0.1",
        "192.168.1.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "fc00::1",
        "ff02::1",
    ] {
        assert_eq!(EMBEDDED.lookup(address(text)), Owner::default(), "{text}");
    }
    assert_eq!(EMBEDDED.organisation(4_200_000_000), None);
    assert_eq!(EMBEDDED.as_country(0), None);
}

#[test]
fn prefixes_of_a_system_hold_its_addresses_and_no_others() {
    let prefixes = EMBEDDED.prefixes_of(|facts| facts.asn == Some(9808));
    assert!(prefixes.v4.len() > 100 && prefixes.v6.len() > 10, "{} and {}", prefixes.v4.len(), prefixes.v6.len());
    assert!(prefixes.v4.iter().any(|prefix| prefix.contains(&Ipv4Addr::new(111, 13, 100, 1))));
    for prefix in &prefixes.v4 {
        for end in [prefix.network(), prefix.broadcast()] {
            assert_eq!(EMBEDDED.facts(end.into()).asn, Some(9808), "{prefix}");
        }
    }
    assert_eq!(prefixes.v4, Ipv4Net::aggregate(&prefixes.v4));
    assert_eq!(prefixes.v6, Ipv6Net::aggregate(&prefixes.v6));
}

#[test]
fn everything_is_one_prefix() {
    let prefixes = EMBEDDED.prefixes_of(|_| true);
    assert_eq!(prefixes.v4, [Ipv4Net::default()]);
    assert_eq!(prefixes.v6, [Ipv6Net::default()]);
    let nothing = EMBEDDED.prefixes_of(|_| false);
    assert!(nothing.v4.is_empty() && nothing.v6.is_empty());
}

fn table_of(origins: &Origins, registrations: &Ranges<CountryCode>) -> Table {
    let layer = origins.ranges.flatten();
    let registrations = registrations.flatten();
    let as_countries = layer.majorities(&registrations);
    let organisations = origins.organisations.clone();
    Table::new(&Data { date: DATE, origins: layer, organisations, as_countries, registrations }).expect("few systems")
}

const DATE: Date = date(2026, 6, 17);

#[test]
fn csv_rows_bear_what_sources_do() {
    let source = concat!(
        "\u{feff}1.0.4.0,1.0.7.255,64500,Narrow\r\n",
        "\"1.0.0.0\",\"1.0.255.255\",64501,\"Wide, \"\"Inc.\"\" \"\r\n",
        "\n",
        "1.0.4.128,1.0.5.127,AS64502,\n",
        "::ffff:2.0.0.0,::ffff:2.0.0.255,64503, Mapped \n",
        "2001:db8::,2001:db8::ff,64504,\"\"\n",
        "3.0.0.0,3.0.0.255,0,Not routed\n",
        "0.0.0.0,0.0.0.0,64505,Lowest\n",
        "255.255.255.255,255.255.255.255,64506,Highest\n",
        "ffff::,ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff,64507,Última",
    );
    let mut origins = Origins::default();
    origins.read_csv(source.as_bytes()).expect("a good source");
    let table = table_of(&origins, &Ranges::default());
    let cases: &[(&str, Option<u32>, Option<&str>)] = &[
        ("0.0.0.0", Some(64505), Some("Lowest")),
        ("0.0.0.1", None, None),
        ("1.0.0.0", Some(64501), Some("Wide, \"Inc.\"")),
        ("1.0.3.255", Some(64501), Some("Wide, \"Inc.\"")),
        ("1.0.4.0", Some(64500), Some("Narrow")),
        ("1.0.4.127", Some(64500), Some("Narrow")),
        ("1.0.4.128", Some(64502), None),
        ("1.0.5.127", Some(64502), None),
        ("1.0.5.128", Some(64500), Some("Narrow")),
        ("1.0.8.0", Some(64501), Some("Wide, \"Inc.\"")),
        ("1.1.0.0", None, None),
        ("2.0.0.7", Some(64503), Some("Mapped")),
        ("::ffff:2.0.0.7", Some(64503), Some("Mapped")),
        ("3.0.0.7", None, None),
        ("255.255.255.254", None, None),
        ("255.255.255.255", Some(64506), Some("Highest")),
        ("2001:db7:ffff:ffff:ffff:ffff:ffff:ffff", None, None),
        ("2001:db8::", Some(64504), None),
        ("2001:db8::ff", Some(64504), None),
        ("2001:db8::100", None, None),
        ("2001:db8:0:1::", None, None),
        ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Some(64507), Some("Última")),
    ];
    for &(text, asn, organisation) in cases {
        let owner = table.lookup(address(text));
        assert_eq!((owner.asn, owner.organisation.as_deref()), (asn, organisation), "{text}");
    }
}

#[test]
fn a_bad_row_is_an_error_with_its_line() {
    const UNENDED: &str = "line 1: a quoted field does not end before the next comma or the end of the line: write a quote inside it twice";
    const CASES: &[(&str, &str)] = &[
        (
            "1.0.0.0,1.0.0.255,1,A\n1.0.0.0,1.0.0.999,1,A",
            "line 2: `1.0.0.999` is not an IP address: write it as 192.0.2.1 or 2001:db8::1",
        ),
        ("\n\nstart,end,7,B", "line 3: `start` is not an IP address: write it as 192.0.2.1 or 2001:db8::1"),
        ("1.0.0.0,1.0.0.255,A,1", "line 1: `A` is not an AS number: write it as 64496 or AS64496"),
        ("1.0.0.0,1.0.0.255,4294967296,A", "line 1: `4294967296` is not an AS number: write it as 64496 or AS64496"),
        ("1.0.0.0,1.0.0.255,1", "line 1: 3 fields where 4 are expected: quote fields that contain commas"),
        ("1.0.0.0,1.0.0.255,1,A, Inc.", "line 1: 5 fields where 4 are expected: quote fields that contain commas"),
        ("1.0.0.255,1.0.0.0,1,A", "line 1: the range runs backwards from 1.0.0.255 to 1.0.0.0: swap them"),
        (
            "1.0.0.0,2001:db8::,1,A",
            "line 1: the range runs from 1.0.0.0 to 2001:db8::, an address of the other family: give both ends in one family",
        ),
        (
            "1.0.0.0,1.0.0.255,1,A\r\n\r\nx,1.0.0.255,1,A",
            "line 3: `x` is not an IP address: write it as 192.0.2.1 or 2001:db8::1",
        ),
        ("1.0.0.0,1.0.0.255,1,\"two\nlines\"", UNENDED),
        ("1.0.0.0,1.0.0.255,1,\"A\"\"", UNENDED),
        ("1.0.0.0,1.0.0.255,1,\"A\" Inc.", UNENDED),
        ("1.0.0.0,1.0.0.255,1,\"A\",", "line 1: 5 fields where 4 are expected: quote fields that contain commas"),
    ];
    for &(source, expected) in CASES {
        let error = Origins::default().read_csv(source.as_bytes()).expect_err(source);
        assert_eq!(error.to_string(), expected, "{source:?}");
    }
    let error =
        Origins::default().read_csv(&b"1.0.0.0,1.0.0.1,1,A\n1.0.0.0,1.0.0.1,1,\xff\n"[..]).expect_err("no UTF-8");
    assert!(matches!(error, ImportError { line: 2, problem: Problem::Encoding(_) }), "{error}");
}

#[test]
fn countries_are_two_letters() {
    let mut ranges = Ranges::default();
    read_country_csv(&mut ranges, &b"1.0.0.0,1.0.0.255,au\r\n2001:db8::,2001:db8::1,CN\r\n"[..]).expect("good rows");
    assert_eq!(ranges.counts(), (1, 1));
    assert_eq!(ranges.flatten().v4, [(0, None), (0x0100_0000, Some(country("AU"))), (0x0100_0100, None)]);
    for bad in ["", "AUS", "A1", "中"] {
        let error = read_country_csv(&mut ranges, format!("1.0.0.0,1.0.0.255,{bad}").as_bytes()).expect_err(bad);
        assert_eq!(
            error.to_string(),
            format!("line 1: `{bad}` is not a country code: write the two letters of ISO 3166-1")
        );
    }
}

#[test]
fn a_systems_country_is_that_of_most_of_its_ipv4_addresses() {
    let mut origins = Ranges::default();
    let mut countries = Ranges::default();
    for (first, last, asn, code) in [
        ("1.0.0.0", "1.0.0.255", 1, "SG"),
        ("1.0.1.0", "1.0.1.63", 1, "CN"),
        ("1.0.2.0", "1.0.2.63", 1, "CN"),
        ("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", 1, "CN"),
        ("2.0.0.0", "2.0.0.7", 2, "FR"),
        ("2.0.1.0", "2.0.1.7", 2, "DE"),
        ("2001:db9::", "2001:db9::", 3, "JP"),
    ] {
        origins.push(address(first), address(last), asn).expect("a range");
        countries.push(address(first), address(last), country(code)).expect("a range");
    }
    origins.push(address("9.0.0.0"), address("9.0.0.1"), 4).expect("a range");
    let expected = [(1, country("SG")), (2, country("DE")), (3, country("JP"))];
    assert_eq!(origins.flatten().majorities(&countries.flatten()), BTreeMap::from(expected));
}

#[test]
fn files_that_are_no_tables_say_what_is_wrong() {
    let good = file_of(&empty());
    assert!(Table::decode(&good).is_ok());
    let with = |position: usize, byte: u8| {
        let mut file = good.clone();
        file[position] = byte;
        Table::decode(&file).map(|_| ()).expect_err("a damaged file")
    };
    assert!(matches!(Table::decode(b""), Err(OwnershipError::Mark)));
    assert!(matches!(Table::decode(&good[..15]), Err(OwnershipError::Mark)));
    assert!(matches!(with(0, b'e'), OwnershipError::Mark));
    assert!(matches!(with(7, 9), OwnershipError::Version { found: 9 }));
    assert!(matches!(with(10, 13), OwnershipError::Date { year: 2026, month: 13, day: 17 }));
    assert!(matches!(with(12, 0xff), OwnershipError::TooLarge { .. }));
    assert!(matches!(with(15, 1), OwnershipError::Compression { .. }));
    assert!(matches!(with(16, 0), OwnershipError::Compression { .. }));
    assert!(matches!(Table::decode(&good[..good.len() - 1]), Err(OwnershipError::Compression { .. })));
}

#[test]
fn damaged_columns_are_told_apart() {
    /// No systems and, in each family, one range of which nothing is known.
    const EMPTY: &[u8] = &[0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 1, 0];
    const CASES: &[(&[u8], &str, usize)] = &[
        (&[], "AS numbers", 0),
        // Two systems claimed, one there.
        (&[2, 2], "AS numbers", 1),
        // AS number -1.
        (&[1, 1], "AS numbers", 2),
        // A number of more than 128 bits.
        (
            &[1, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 4],
            "AS numbers",
            19,
        ),
        // Country 676, one past ZZ.
        (&[1, 2, 0xa5, 0x05], "AS countries", 4),
        // A name that is not UTF-8, and one past the end.
        (&[1, 2, 0, 1, 0xff], "names", 5),
        (&[1, 2, 0, 9, b'A'], "names", 4),
        // A distance of 2^32, past the last address; and one of more than 128 bits.
        (&[0, 1, 32, 1, 0, 2, 0, 0, 2, 0, 0], "IPv4 ranges", 5),
        (&[0, 1, 200, 1, 0, 2, 0, 0, 2, 0, 0], "IPv4 ranges", 5),
        // A column that is too short, and one that is too long.
        (&[0, 1, 0, 0, 2, 0, 0, 2, 0, 0], "IPv4 ranges", 4),
        (&[0, 0, 0, 2, 0, 0, 1, 0], "IPv4 systems", 5),
        // The first of no systems.
        (&[0, 0, 0, 1, 1, 1, 0], "IPv4 systems", 5),
        (&[0, 0, 0, 1, 0, 2, 0xa6, 0x05], "IPv4 countries", 8),
        (&[0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0], "IPv6 countries", 11),
        // More than the last column.
        (&[0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 1, 0, 7], "IPv6 countries", 13),
    ];
    assert!(Table::decode(&file_with(EMPTY)).is_ok());
    for &(content, column, offset) in CASES {
        match Table::decode(&file_with(content)) {
            Err(OwnershipError::Content { column: found, offset: at }) => {
                assert_eq!((found, at), (column, offset), "{content:?}");
            }
            other => panic!("{content:?}: {other:?}"),
        }
    }
}

fn empty() -> Table {
    table_of(&Origins::default(), &Ranges::default())
}

/// A file with a content of its own.
fn file_with(content: &[u8]) -> Vec<u8> {
    let mut file = encode(&empty(), |_| pack(content)).expect("compression into memory");
    file[12..16].copy_from_slice(&(content.len() as u32).to_be_bytes());
    file
}

fn pack(content: &[u8]) -> std::io::Result<Vec<u8>> {
    zstd::bulk::compress(content, 1)
}

fn file_of(table: &Table) -> Vec<u8> {
    encode(table, pack).expect("compression into memory")
}

/// Addresses crowded where layouts have their edges: ends of the space, of /16 buckets and of /64 networks.
fn addresses() -> impl Strategy<Value = IpAddr> {
    let v4 = (prop::sample::select(vec![0, 0x0100_0000, 0x0100_fff0, 0x0102_0000, 0xffff_fff0]), 0..16_u32)
        .prop_map(|(base, offset)| Ipv4Addr::from_bits(base + offset).into());
    let upper =
        prop::sample::select(vec![0, 1, 2, 0x2001_0db8_0000_0000, 0x2001_0db8_0000_0001, u64::MAX - 1, u64::MAX]);
    let lower = prop::sample::select(vec![0, 1, 2, 7, 0xffff_0102_0304, u64::MAX - 1, u64::MAX]);
    let v6 = (upper, lower)
        .prop_map(|(upper, lower)| Ipv6Addr::from_bits(u128::from(upper) << 64 | u128::from(lower)).into());
    prop_oneof![v4, v6]
}

type Row = (IpAddr, IpAddr, u32);

fn rows() -> impl Strategy<Value = Vec<Row>> {
    prop::collection::vec((addresses(), addresses(), 1..6_u32), 0..24)
}

/// Puts a row's ends in order; `None` if they are of different families.
fn ordered((first, last, asn): Row) -> Option<Row> {
    let (first, last) = (first.to_canonical(), last.to_canonical());
    (first.is_ipv4() == last.is_ipv4()).then(|| (first.min(last), first.max(last), asn))
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// The narrowest row that holds the address, of equals the last.
fn naive(rows: &[Row], address: IpAddr) -> Option<u32> {
    let address = address.to_canonical();
    let holds = |&&(first, last, _): &&Row| first.is_ipv4() == address.is_ipv4() && (first..=last).contains(&address);
    rows.iter().rev().filter(holds).min_by_key(|(first, last, _)| bits(*last) - bits(*first)).map(|&(.., asn)| asn)
}

fn code(asn: u32) -> CountryCode {
    ["AA", "CN", "RU", "US", "ZZ"].get(asn as usize % 5).copied().map(country).expect("one of five")
}

proptest! {
    #[test]
    fn imported_tables_answer_like_a_linear_scan(
        origins in rows(),
        registrations in rows(),
        asked in prop::collection::vec(addresses(), 1..32),
    ) {
        let origin_rows: Vec<Row> = origins.into_iter().filter_map(ordered).collect();
        let lines = origin_rows.iter().map(|(first, last, asn)| format!("{first},{last},{asn},\"Org, {asn}\""));
        let csv = lines.collect::<Vec<_>>().join("\r\n");
        let registration_rows: Vec<Row> = registrations.into_iter().filter_map(ordered).collect();
        let mut ranges = Ranges::default();
        for &(first, last, value) in &registration_rows {
            prop_assert_eq!(ranges.push(first, last, code(value)), Ok(()));
        }
        let mut imported = Origins::default();
        prop_assert!(imported.read_csv(csv.as_bytes()).is_ok());
        let table = Table::decode(&file_of(&table_of(&imported, &ranges)));
        prop_assert!(table.is_ok(), "{table:?}");
        let Ok(table) = table else { return Ok(()) };
        let ends = origin_rows.iter().chain(&registration_rows).flat_map(|&(first, last, _)| [first, last]);
        for address in asked.into_iter().chain(ends) {
            let owner = table.lookup(address);
            let asn = naive(&origin_rows, address);
            prop_assert_eq!(owner.asn, asn, "{}", address);
            let organisation = asn.map(|asn| format!("Org, {asn}"));
            prop_assert_eq!(owner.organisation.as_deref(), organisation.as_deref());
            prop_assert_eq!(owner.registered_country, naive(&registration_rows, address).map(code));
            prop_assert_eq!(owner.as_country, asn.and_then(|asn| table.as_country(asn)));
        }
    }

    #[test]
    fn a_table_survives_its_file(origins in rows(), registrations in rows()) {
        let mut imported = Origins::default();
        for (first, last, asn) in origins.into_iter().filter_map(ordered) {
            prop_assert_eq!(imported.ranges.push(first, last, asn), Ok(()));
            imported.organisations.insert(asn, format!("Организация {asn}"));
        }
        let mut ranges = Ranges::default();
        for (first, last, value) in registrations.into_iter().filter_map(ordered) {
            prop_assert_eq!(ranges.push(first, last, code(value)), Ok(()));
        }
        let table = table_of(&imported, &ranges);
        let file = file_of(&table);
        let read = Table::decode(&file);
        prop_assert!(read.is_ok(), "{read:?}");
        let Ok(read) = read else { return Ok(()) };
        prop_assert_eq!(read.data_date(), DATE);
        prop_assert!(read.systems().eq(table.systems()));
        prop_assert_eq!(file_of(&read), file);
    }

    #[test]
    fn prefixes_cover_exactly_what_is_wanted(
        origins in rows(),
        wanted in 1..6_u32,
        asked in prop::collection::vec(addresses(), 1..32),
    ) {
        let rows: Vec<Row> = origins.into_iter().filter_map(ordered).collect();
        let mut imported = Origins::default();
        for &(first, last, asn) in &rows {
            prop_assert_eq!(imported.ranges.push(first, last, asn), Ok(()));
        }
        let prefixes = table_of(&imported, &Ranges::default()).prefixes_of(|&Facts { asn, .. }| asn == Some(wanted));
        for address in asked.into_iter().chain(rows.iter().flat_map(|&(first, last, _)| [first, last])) {
            let covering = match address.to_canonical() {
                IpAddr::V4(address) => prefixes.v4.iter().filter(|prefix| prefix.contains(&address)).count(),
                IpAddr::V6(address) => prefixes.v6.iter().filter(|prefix| prefix.contains(&address)).count(),
            };
            prop_assert_eq!(covering, usize::from(naive(&rows, address) == Some(wanted)), "{}", address);
        }
        prop_assert_eq!(&prefixes.v4, &Ipv4Net::aggregate(&prefixes.v4));
        prop_assert_eq!(&prefixes.v6, &Ipv6Net::aggregate(&prefixes.v6));
    }

    #[test]
    fn any_bytes_are_a_table_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        prop_assert!(Table::decode(&bytes).is_err());
    }

    #[test]
    fn any_frame_is_a_table_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        // A good header, so that the decompressor sees the bytes; and once with its mark as well.
        for frame in [bytes.clone(), [&[0x28, 0xb5, 0x2f, 0xfd], bytes.as_slice()].concat()] {
            let file = encode(&empty(), |_| Ok(frame));
            prop_assert!(file.is_ok_and(|file| Table::decode(&file).is_err()));
        }
    }

    #[test]
    fn damaged_content_is_a_table_or_an_error(
        origins in rows(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        in_frame in any::<bool>(),
        asked in prop::collection::vec(addresses(), 1..8),
    ) {
        let mut imported = Origins::default();
        for (first, last, asn) in origins.into_iter().filter_map(ordered) {
            prop_assert_eq!(imported.ranges.push(first, last, asn), Ok(()));
        }
        let file = encode(&table_of(&imported, &Ranges::default()), |content| {
            let hurt = |mut bytes: Vec<u8>| {
                for (position, byte) in &damage {
                    *position.get_mut(&mut bytes) ^= byte;
                }
                bytes
            };
            if in_frame { pack(content).map(hurt) } else { pack(&hurt(content.to_vec())) }
        });
        if let Ok(table) = Table::decode(&file.expect("compression into memory")) {
            for address in asked {
                let owner = table.lookup(address);
                prop_assert_eq!(owner.asn, table.facts(address).asn);
            }
            let _prefixes = table.prefixes_of(|facts| facts.asn.is_some());
        }
    }
}

#[test]
fn ranges_refuse_what_is_none() {
    let mut ranges = Ranges::default();
    let (low, high, other) = (address("1.0.0.0"), address("1.0.0.1"), address("2001:db8::"));
    assert_eq!(ranges.push(high, low, 1), Err(Conflict::Order { first: high, last: low }));
    assert_eq!(ranges.push(low, other, 1), Err(Conflict::Families { first: low, last: other }));
    assert_eq!(ranges.push(low, address("::ffff:1.0.0.1"), 1), Ok(()));
    assert_eq!(ranges.counts(), (1, 0));
}

#[test]
fn the_embedded_table_passes_the_anchors_and_others_do_not() {
    assert_eq!(super::verify(&EMBEDDED), Ok(()));
    let (v4, v6) = EMBEDDED.origin_counts();
    assert!(v4 > 350_000 && v6 > 80_000, "{v4} and {v6}");
    let differences = super::verify(&empty()).expect_err("an empty table").differences;
    assert_eq!(differences.len(), 6, "{differences:?}");
    assert_eq!(differences[0], "8.8.8.8 must belong to AS15169, the data say no network");
    assert_eq!(differences[5], "more than 60000 IPv6 ranges must have an origin, the data have 0");
}

#[test]
fn a_note_of_where_data_come_from_survives_its_file_and_guards_it() {
    let provenance = super::Provenance {
        made_by: "egresswatch test".to_owned(),
        made_at: "2026-11-01T12:00:00Z".parse().expect("a time"),
        sources: vec![super::SourceNote {
            name: "/data/a.tsv.gz".to_owned(),
            format: super::import::Format::Iptoasn,
            date: date(2026, 10, 31),
            facts: [super::import::Fact::Asn].into(),
            sha256: "0".repeat(64),
            records: 7,
            bad_records: 1,
            licence: Some("PDDL".to_owned()),
        }],
        filled_from_embedded: Some(DATE),
    };
    let plain = file_of(&empty());
    let file = file_of(&empty().with_provenance(provenance.clone()));
    assert!(file.ends_with(&plain[16..]) && file.len() > plain.len());
    let read = Table::decode(&file).expect("a table");
    assert_eq!(read.provenance(), Some(&provenance));
    assert_eq!(file_of(&read), file);
    for cut in 17..file.len() {
        assert!(Table::decode(&file[..cut]).is_err(), "cut at {cut}");
    }
    let mut damaged = file.clone();
    *damaged.last_mut().expect("bytes") ^= 1;
    assert!(matches!(Table::decode(&damaged), Err(OwnershipError::Checksum)));
    let mut damaged = file;
    damaged[30] = 0xff;
    assert!(matches!(Table::decode(&damaged), Err(OwnershipError::Provenance { .. })));
}
