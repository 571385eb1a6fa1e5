//! Every form, in the shape in which it is published, to a table and back to owners.

use std::{
    collections::BTreeSet,
    io::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use flate2::{Compression, write::GzEncoder};
use ipnet::IpNet;
use jiff::civil::date;
use proptest::prelude::*;

use super::{
    Fact, Format, Gathered, NoOrigins, SourceError, join,
    mmdb_writer::{
        Value::{Map, Number, Text},
        mmdb,
    },
};
use crate::ownership::{OwnerLookup as _, Table, encode};

fn read(bytes: impl Into<Vec<u8>>) -> Gathered {
    Gathered::read(bytes.into(), None).unwrap_or_else(|error| panic!("{error}"))
}

fn refused(bytes: impl Into<Vec<u8>>) -> String {
    Gathered::read(bytes.into(), None).map(|one| one.format).expect_err("nothing that can be read").to_string()
}

fn table(files: &[Gathered], base: Option<&Gathered>) -> Table {
    Table::new(&join(date(2026, 11, 1), files, base).expect("origins")).expect("few systems")
}

/// `AS number organisation/country of the system/country of the registration`, with `-` for what is not known.
fn owner(table: &Table, address: &str) -> String {
    let owner = table.lookup(address.parse().expect("an address"));
    format!(
        "{} {}/{}/{}",
        owner.asn.map_or("-".to_owned(), |asn| asn.to_string()),
        owner.organisation.as_deref().unwrap_or("-"),
        owner.as_country.map_or("-".to_owned(), |country| country.to_string()),
        owner.registered_country.map_or("-".to_owned(), |country| country.to_string()),
    )
}

/// With the form and some owners.
fn check(what: &str, bytes: impl Into<Vec<u8>>, format: Format, owners: &[(&str, &str)]) -> Gathered {
    let gathered = read(bytes);
    assert_eq!(gathered.format, format, "{what}");
    let files = [gathered];
    let table = table(&files, None);
    for (address, expected) in owners {
        assert_eq!(owner(&table, address), *expected, "{what}: {address}");
    }
    let [gathered] = files;
    gathered
}

#[test]
fn texts_of_every_form_give_owners() {
    check(
        "ip2asn-combined.tsv",
        "1.0.0.0\t1.0.0.255\t64500\tUS\tEXAMPLE - Example, \"Inc\"\n1.0.1.0\t1.0.3.255\t0\tNone\tNot routed\r\n\
         2001:db8::\t2001:db8:ffff:ffff:ffff:ffff:ffff:ffff\t64501\tCN\tOTHER\n",
        Format::Iptoasn,
        &[
            ("1.0.0.9", "64500 EXAMPLE - Example, \"Inc\"/US/-"),
            ("1.0.1.9", "- -/-/-"),
            ("2001:db8::9", "64501 OTHER/CN/-"),
        ],
    );
    check(
        "ip2asn-v4-u32.tsv",
        "16777216\t16777471\t64500\tUS\tEXAMPLE\n",
        Format::Iptoasn,
        &[("1.0.0.255", "64500 EXAMPLE/US/-"), ("1.0.1.0", "- -/-/-")],
    );
    check(
        "@ip-location-db/asn",
        "1.0.0.0,1.0.0.255,64500,\"Example, Inc\"\n1.0.1.0,1.0.1.255,64502,\n",
        Format::RangeCsv,
        &[("1.0.0.0", "64500 Example, Inc/-/-"), ("1.0.1.0", "64502 -/-/-")],
    );
    check(
        "GeoLite2-ASN-Blocks-IPv4.csv",
        "network,autonomous_system_number,autonomous_system_organization\n1.0.0.0/24,64500,\"Example, Inc\"\n",
        Format::CidrCsv,
        &[("1.0.0.0", "64500 Example, Inc/-/-")],
    );
    check(
        "dbip-asn-lite.csv",
        "1.0.0.0,1.0.0.255,64500,Example\n",
        Format::RangeCsv,
        &[("1.0.0.7", "64500 Example/-/-")],
    );
    check(
        "ipinfo_lite.csv",
        "network,country,country_code,continent,continent_code,asn,as_name,as_domain\n\
         1.0.0.0/24,Australia,AU,Oceania,OC,AS64500,\"Example, Inc\",example.com\n\
         1.0.1.7,China,CN,Asia,AS,AS64501,Other,example.org\n2.0.0.0/8,France,FR,Europe,EU,,,\n",
        Format::CidrCsv,
        // The country of the place stands in for that of the network.
        &[("1.0.0.0", "64500 Example, Inc/AU/-"), ("1.0.1.7", "64501 Other/CN/-"), ("2.0.0.1", "- -/-/-")],
    );
    check(
        "ip-to-asn.csv of IPLocate",
        "network,asn,country_code,name,org,domain\n1.0.0.0/24,64500,US,EXAMPLENET,\"Example, Inc\",example.com\n",
        Format::CidrCsv,
        &[("1.0.0.0", "64500 Example, Inc/US/-")],
    );
    check(
        "prefixes without a header",
        "2001:db8::/32,AS64500,Example\n1.0.0.0/24,AS64500,Example\n",
        Format::CidrCsv,
        &[("2001:db8::1", "64500 Example/-/-"), ("1.0.0.1", "64500 Example/-/-")],
    );
    check(
        "ipasn_20261101.dat",
        "; IP-ASN32-DAT file\n; Original file : rib.20261101.0000.bz2\n1.0.0.0/16\t64500\n1.0.4.0/22\t64501\n\
         2001:db8::/32\t4200000000\n",
        Format::Pyasn,
        &[("1.0.0.0", "64500 -/-/-"), ("1.0.7.255", "64501 -/-/-"), ("2001:db8::", "4200000000 -/-/-")],
    );
}

#[test]
fn mmdb_files_of_every_publisher_give_owners() {
    let epoch = 1_793_491_200; // 2026-11-01.
    let country = |code| Map(vec![("geoname_id", Number(7)), ("iso_code", Text(code))]);
    let geolite = |asn, name| {
        Map(vec![("autonomous_system_number", Number(asn)), ("autonomous_system_organization", Text(name))])
    };
    let asn = check(
        "GeoLite2-ASN",
        mmdb(
            "GeoLite2-ASN",
            epoch,
            &[
                ("1.0.0.0/24", geolite(64_500, "Example, Inc")),
                ("2001:db8::/32", geolite(64_501, "A name that is longer than twenty-nine bytes")),
            ],
        ),
        Format::Mmdb,
        &[
            ("1.0.0.255", "64500 Example, Inc/-/-"),
            ("1.0.1.0", "- -/-/-"),
            ("2001:db8::1", "64501 A name that is longer than twenty-nine bytes/-/-"),
        ],
    );
    assert_eq!(asn.date, Some(date(2026, 11, 1)));
    assert!(asn.licence.as_ref().is_some_and(|licence| licence.contains("GeoLite2 End User")), "{:?}", asn.licence);
    let countries = read(mmdb(
        "GeoLite2-Country",
        epoch,
        &[("1.0.0.0/23", Map(vec![("country", country("SG")), ("registered_country", country("US"))]))],
    ));
    assert_eq!(countries.facts(), BTreeSet::from([Fact::AsCountry, Fact::RegisteredCountry]));
    let joined = table(&[asn, countries], None);
    // Three countries are three facts: that of the place is told of the network only because no other is known.
    assert_eq!(owner(&joined, "1.0.0.1"), "64500 Example, Inc/SG/US");
    assert_eq!(owner(&joined, "1.0.1.1"), "- -/-/US");
    let dbip = mmdb("DBIP-ASN-Lite (compat=GeoLite2-ASN)", epoch, &[("1.0.0.0/8", geolite(64_500, "Example"))]);
    let dbip = check("DB-IP", dbip, Format::Mmdb, &[("1.0.0.0", "64500 Example/-/-")]);
    assert!(dbip.licence.is_some_and(|licence| licence.contains("https://db-ip.com/")));
    let record = vec![
        ("as_domain", Text("example.com")),
        ("as_name", Text("Example")),
        ("asn", Text("AS64500")),
        ("continent", Text("Asia")),
        ("continent_code", Text("AS")),
        ("country", Text("China")),
        ("country_code", Text("CN")),
    ];
    let ipinfo = mmdb("ipinfo bundle_lite.mmdb", epoch, &[("1.0.0.0/24", Map(record))]);
    let ipinfo = check("IPinfo Lite", ipinfo, Format::Mmdb, &[("1.0.0.0", "64500 Example/CN/-")]);
    assert!(ipinfo.locations.values().next().is_some() && ipinfo.system_countries.values().next().is_none());
    let record =
        vec![("asn", Number(64_500)), ("country_code", Text("US")), ("name", Text("EX")), ("org", Text("Example"))];
    let iplocate = mmdb("IPLocate ip-to-asn", epoch, &[("1.0.0.0/24", Map(record))]);
    let iplocate = check("IPLocate", iplocate, Format::Mmdb, &[("1.0.0.0", "64500 Example/US/-")]);
    assert!(iplocate.system_countries.values().next().is_some());
}

#[test]
fn a_table_of_this_program_is_a_source_too() {
    let mut first = read("1.0.0.0\t1.0.0.255\t64500\tUS\tEXAMPLE\n");
    first.registrations = read("1.0.0.0,1.0.0.255,AU\n").registrations;
    let written = encode(&table(&[first], None), |content| zstd::bulk::compress(content, 1)).expect("a table");
    check("a table", written, Format::Table, &[("1.0.0.9", "64500 EXAMPLE/US/AU")]);
}

#[test]
fn packed_files_are_unpacked_and_others_refused() {
    let rows = b"1.0.0.0/24\t64500\n";
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(rows).expect("memory");
    let gzip = gzip.finish().expect("memory");
    let zstd = zstd::bulk::compress(rows, 3).expect("memory");
    // Some publishers join streams.
    for packed in [gzip.clone(), zstd.clone(), [gzip.clone(), gzip.clone()].concat()] {
        check("packed", packed, Format::Pyasn, &[("1.0.0.0", "64500 -/-/-")]);
    }
    let page = "<!DOCTYPE html><html><body>Sign in</body></html>";
    for (bytes, complaint) in [
        (gzip[..gzip.len() - 9].to_vec(), "the gzip stream is damaged or ends early"),
        (zstd[..zstd.len() - 3].to_vec(), "the Zstandard stream is damaged or ends early"),
        (Vec::new(), "the file is empty"),
        (b"PK\x03\x04whatever".to_vec(), "this is a ZIP archive: unpack it"),
        (b"\xfd7zXZ\0whatever".to_vec(), "this is an xz file: unpack it"),
        ([&[b'a'; 257][..], b"ustar\0", &[0; 249]].concat(), "this is a tar archive: unpack it"),
        (page.into(), "this is a web page"),
        (vec![0xff; 4_000], "none of the known forms"),
        (b"hello\nworld\n".to_vec(), "none of the known forms"),
        (b"network,geoname_id,is_anonymous_proxy\n1.0.0.0/24,7,0\n".to_vec(), "none of the known forms"),
        (b"EWOWN\n\0\x01".to_vec(), "not an ownership table"),
    ] {
        let said = refused(bytes);
        assert!(said.contains(complaint), "{said}");
    }
    let whole = mmdb("x", 0, &[("1.0.0.0/24", Map(vec![("asn", Number(1))]))]);
    // Cut within the tree: what is left still ends as such files do.
    let cut = [&whole[..100], &whole[300..]].concat();
    let said = refused(cut);
    assert!(said.contains("the MMDB file is damaged") || said.contains("no record says"), "{said}");
    let said = refused(mmdb("x", 0, &[("1.0.0.0/24", Map(vec![("city", Text("Here"))]))]));
    assert!(said.contains("no record says"), "{said}");
    let bomb = zstd::bulk::compress(&vec![b'1'; 1 << 20], 3).expect("memory");
    let unpacked = super::source::unpack(bomb, 1_000);
    assert!(matches!(unpacked, Err(SourceError::TooLarge)), "{unpacked:?}");
}

#[test]
fn a_few_bad_records_are_told_and_many_refused() {
    let good = (0..200).map(|third| format!("1.0.{third}.0/24\t64500\n")).collect::<Vec<_>>().concat();
    let some = format!("{good}1.0.0.0/33\t64500\n1.1.0.0/24\tAS\n1.2.0.0/24\n1.3.0.0/24\t64501\n");
    let gathered = read(some);
    assert_eq!((gathered.records, gathered.bad_records), (204, 3));
    let told: Vec<_> = gathered.bad.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "line 201: `1.0.0.0/33` is not a prefix: write it as 192.0.2.0/24 or 2001:db8::/32",
            "line 202: `AS` is not an AS number: write it as 64496 or AS64496",
            "line 203: the columns are not prefix and AS number",
        ]
    );
    let many = format!("{good}{}", "rubbish\n".repeat(11));
    let said = refused(many);
    assert!(said.starts_with("11 of 211 records cannot be read") && said.contains("line 201"), "{said}");
    let broken = format!("1.0.0.0/24\t64500\n1.0.1.0/24\t64500\n{}", "1.0.0.0/24\t99999999999\n".repeat(10));
    assert_eq!(read(broken).bad_records, 10);
    let said = refused("1.0.0.0,1.0.0.255,64500,Example\n".to_owned() + &"1.0.0.0,1.0.0.255,x\n".repeat(100));
    assert!(said.contains("3 fields where 4 are expected"), "{said}");
}

#[test]
fn the_first_file_that_has_a_fact_counts() {
    let first = || read("1.0.0.0/24\t64500\n");
    let second = || read("1.0.0.0\t1.0.255.255\t64501\tCN\tSECOND\n2.0.0.0\t2.0.0.255\t64500\tUS\tFIRST\n");
    let third = || read("1.0.0.0,1.255.255.255,AU\n");
    let joined = table(&[first(), second(), third()], None);
    assert_eq!(owner(&joined, "1.0.0.1"), "64500 FIRST/US/AU");
    assert_eq!(owner(&joined, "1.0.1.1"), "64501 SECOND/CN/AU");
    assert_eq!(owner(&joined, "1.9.0.1"), "- -/-/AU");
    let reversed = table(&[second(), first(), third()], None);
    assert_eq!(owner(&reversed, "1.0.0.1"), "64501 SECOND/CN/AU");
    // Only what is asked for; one kind of country may be taken for another.
    let names = second().only(&BTreeSet::from([Fact::Organisation]));
    let countries = third().only(&BTreeSet::from([Fact::AsCountry]));
    let joined = table(&[first(), names, countries], None);
    assert_eq!(owner(&joined, "1.0.0.1"), "64500 FIRST/AU/-");
    assert_eq!(owner(&joined, "1.0.1.1"), "- -/-/-");
    assert_eq!(join(date(2026, 11, 1), &[third()], None).err(), Some(NoOrigins));
    // What no file has comes from the base, but for origins.
    let mut base = second();
    base.registrations = third().registrations;
    let filled = table(&[first()], Some(&base));
    assert_eq!(owner(&filled, "1.0.0.1"), "64500 FIRST/US/AU");
    assert_eq!(owner(&filled, "1.0.1.1"), "- -/-/AU");
    // Where an address is says less of a network than an older word on the network itself.
    let place = read("network,country_code\n1.0.0.0/24,SG\n");
    assert_eq!(owner(&table(&[first(), place], Some(&base)), "1.0.0.1"), "64500 FIRST/US/AU");
}

fn prefixes() -> impl Strategy<Value = Vec<(IpNet, u32)>> {
    let v4 = (any::<u32>(), 0..=32_u8)
        .prop_map(|(bits, length)| IpNet::new(Ipv4Addr::from_bits(bits).into(), length).expect("a length").trunc());
    let v6 = (any::<u128>(), 97..=128_u8).prop_map(|(bits, length)| {
        IpNet::new(Ipv6Addr::from_bits(bits | 1 << 125).into(), length).expect("a length").trunc()
    });
    prop::collection::vec((prop_oneof![v4, v6], 1..5_u32), 1..20)
}

/// The longest prefix, of equals the last.
fn naive(prefixes: &[(IpNet, u32)], address: IpAddr) -> Option<u32> {
    let holding = prefixes.iter().filter(|(prefix, _)| prefix.contains(&address));
    holding.max_by_key(|(prefix, _)| prefix.prefix_len()).map(|&(_, asn)| asn)
}

proptest! {
    #[test]
    fn every_form_of_the_same_rows_says_the_same(rows in prefixes()) {
        let written = |row: &dyn Fn(&IpNet, u32) -> String| -> String {
            rows.iter().map(|(prefix, asn)| row(prefix, *asn)).collect::<Vec<_>>().concat()
        };
        let forms = [
            (Format::Pyasn, written(&|prefix, asn| format!("{prefix}\t{asn}\n"))),
            (Format::CidrCsv, written(&|prefix, asn| format!("\"{prefix}\",AS{asn},\"N, {asn}\"\r\n"))),
            (Format::RangeCsv, written(&|prefix, asn| {
                format!("{},{},{asn},\"N, {asn}\"\n", prefix.network(), prefix.broadcast())
            })),
            (Format::Iptoasn, written(&|prefix, asn| {
                format!("{}\t{}\t{asn}\tDE\tN, {asn}\n", prefix.network(), prefix.broadcast())
            })),
        ];
        for (format, text) in forms {
            let gathered = Gathered::read(text.into_bytes(), None);
            prop_assert!(gathered.is_ok(), "{gathered:?}");
            let Ok(gathered) = gathered else { return Ok(()) };
            prop_assert_eq!(gathered.format, format);
            let table = table(&[gathered], None);
            for address in rows.iter().flat_map(|(prefix, _)| [prefix.network(), prefix.broadcast()]) {
                let owner = table.lookup(address);
                prop_assert_eq!(owner.asn, naive(&rows, address), "{} by {:?}", address, format);
                let name = owner.asn.filter(|_| format != Format::Pyasn).map(|asn| format!("N, {asn}"));
                prop_assert_eq!(owner.organisation.as_deref(), name.as_deref());
            }
        }
    }

    #[test]
    fn any_bytes_are_a_source_or_an_error(
        bytes in prop::collection::vec(any::<u8>(), 0..256),
        head in prop::sample::select(vec![&b""[..], b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"EWOWN\n\0\x01\x07\xea\x01\x01\0\0\0\x09\x5e\x2a\x4d\x18"]),
        tail in prop::sample::select(vec![&b""[..], b"\xab\xcd\xefMaxMind.com\xe9"]),
    ) {
        let _ = Gathered::read([head, &bytes, tail].concat(), None);
    }

    #[test]
    fn any_damage_of_an_mmdb_file_is_borne(damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let mut file = mmdb("x", 0, &[("1.0.0.0/24", Map(vec![("asn", Text("AS1")), ("as_name", Text("One"))]))]);
        for (position, byte) in damage {
            *position.get_mut(&mut file) ^= byte;
        }
        let _ = Gathered::read(file, Some(Format::Mmdb));
    }
}
