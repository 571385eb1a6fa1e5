use super::*;

const HEAD: &str = "id = \"t\"\ntitle = \"T\"\nlegal_basis = \"Act\"\nabout = \"A\"\nsource = \"S\"\nas_of = 2026-06-08\nseverity = \"medium\"\n";
const ENTITY: &str = "[[entity]]\nname = \"E\"\nrelation = \"named\"\n";

fn parse(text: &str) -> Result<List, String> {
    List::parse("t.toml", text).map_err(|error| error.to_string())
}

#[test]
fn a_file_gives_what_it_says() {
    let text = format!(
        "{HEAD}[[entity]]\nname = \"One\"\nrelation = \"parent\"\nauthority = \"Act 2\"\nlisted = 2022-03-25\nseverity = \"low\"\n\
         verified = false\nnote = \"N\"\nasns = [64496, 64497]\ndomains = [\"Example.COM.\", \"ru\", \"xn--80ak6aa92e.com\"]\n\
         countries = [\"cn\"]\ncidrs = [\"192.0.2.0/24\", \"2001:db8::/32\"]\n{ENTITY}asns = [64498]\n"
    );
    let list = parse(&text).unwrap();
    assert!(list.header.enabled);
    assert_eq!(list.header.as_of, Some(jiff::civil::date(2026, 6, 8)));
    let [one, two] = list.entities.as_slice() else { panic!("{list:?}") };
    assert_eq!(one.relation, Relation::Parent);
    assert_eq!(one.authority.as_deref(), Some("Act 2, 2022-03-25"));
    assert_eq!((one.severity, two.severity), (Severity::Low, Severity::Medium));
    assert_eq!((one.verified, two.verified), (false, true));
    assert_eq!(one.asns, [64496, 64497]);
    assert_eq!(one.domains.iter().map(|name| &**name).collect::<Vec<_>>(), ["example.com", "ru", "xn--80ak6aa92e.com"]);
    assert_eq!(one.countries, [CountryCode::new("CN").unwrap()]);
    assert_eq!(one.cidrs.len(), 2);
}

#[test]
fn a_list_without_legal_basis_is_topical() {
    let text = HEAD.replace("legal_basis = \"Act\"\n", "") + "[[entity]]\nname = \"E\"\nasns = [1]\n";
    assert_eq!(parse(&text).unwrap().entities[0].relation, Relation::Topical);
}

#[test]
fn errors_say_where_and_what_to_write_instead() {
    let entity = |line: &str| format!("{HEAD}{ENTITY}{line}\n");
    let cases = [
        ("id", HEAD.replace("\"t\"", "\"My List\"") + ENTITY),
        ("missing key", HEAD.replace("about = \"A\"\n", "") + ENTITY + "asns = [1]\n"),
        ("unknown key", entity("asn = [1]")),
        ("syntax", entity("asns = [1")),
        ("empty text", entity("note = \" \"")),
        ("date in quotes", HEAD.replace("2026-06-08", "\"2026-06-08\"") + ENTITY),
        ("date with time", HEAD.replace("2026-06-08", "2026-06-08T00:00:00Z") + ENTITY),
        ("severity", entity("severity = \"critical\"")),
        ("relation", format!("{HEAD}[[entity]]\nname = \"E\"\nrelation = \"friend\"\nasns = [1]\n")),
        ("no relation", format!("{HEAD}[[entity]]\nname = \"E\"\nasns = [1]\n")),
        ("topical in a legal list", format!("{HEAD}[[entity]]\nname = \"E\"\nrelation = \"topical\"\nasns = [1]\n")),
        ("named in a topical list", HEAD.replace("legal_basis = \"Act\"\n", "") + ENTITY + "asns = [1]\n"),
        ("nothing to match", entity("asns = []")),
        ("asn as text", entity("asns = [\"AS9808\"]")),
        ("asn as nonsense", entity("asns = [\"China Mobile\"]")),
        ("asn zero", entity("asns = [0]")),
        ("asn negative", entity("asns = [-1]")),
        ("asn too large", entity("asns = [4294967296]")),
        ("asn twice", format!("{HEAD}{ENTITY}asns = [\n  7,\n  8,\n  7,\n]\n")),
        (
            "domain twice",
            format!(
                "{HEAD}{ENTITY}domains = [\"a.b\"]\n[[entity]]\nname = \"F\"\nrelation = \"named\"\ndomains = [\"A.b.\"]\n"
            ),
        ),
        ("entity twice", format!("{HEAD}{ENTITY}asns = [1]\n{ENTITY}asns = [2]\n")),
        ("wildcard", entity("domains = [\"*.example.com\"]")),
        ("url", entity("domains = [\"https://example.com/\"]")),
        ("mistyped address", entity("domains = [\"300.1.1.1\"]")),
        ("address as domain", entity("domains = [\"192.0.2.1\"]")),
        ("international domain", entity("domains = [\"bücher.example\"]")),
        ("empty label", entity("domains = [\"a..b\"]")),
        ("empty domain", entity("domains = [\"\"]")),
        ("country", entity("countries = [\"China\"]")),
        ("no such country", entity("countries = [\"QQ\"]")),
        ("united kingdom", entity("countries = [\"UK\"]")),
        ("no length", entity("cidrs = [\"192.0.2.1\"]")),
        ("host bits", entity("cidrs = [\"192.0.2.1/24\"]")),
        ("everything", entity("cidrs = [\"::/0\"]")),
        ("mapped", entity("cidrs = [\"::ffff:192.0.2.0/120\"]")),
        ("no prefix", entity("cidrs = [\"192.0.2/24\"]")),
    ];
    let report: Vec<String> = cases
        .iter()
        .map(|(what, text)| format!("{what}\n    {}", parse(text).unwrap_err().replace('\n', "\n    ")))
        .collect();
    insta::assert_snapshot!(report.join("\n"));
}

#[test]
fn columns_count_characters() {
    let text = format!("{HEAD}entity = [{{ name = \"\u{fc}\", asns = [0] }}]\n");
    assert!(matches!(List::parse("f", &text), Err(ListError::File { line: 8, column: 33, .. })));
}

#[test]
fn a_list_of_many_keys_is_read_in_one_pass() {
    // Counting the lines before each key once made this take a minute and a half, and hours for a million keys.
    let prefixes: Vec<String> = (0..100_000_u32)
        .map(|index| format!("\"{}/32\"", std::net::Ipv4Addr::from_bits(0x0b00_0000 + index)))
        .collect();
    let list = parse(&format!("{HEAD}{ENTITY}cidrs = [\n{}\n]\n", prefixes.join(",\n"))).unwrap();
    assert_eq!(list.entities.first().map(|entity| entity.cidrs.len()), Some(100_000));
}
