//! Lists of lines: addresses, prefixes, ranges, AS numbers, domains, hosts files, `AdBlock` rules, and tables of abuse.ch.

use std::{
    io::{BufRead, Read as _},
    net::IpAddr,
};

use ipnet::IpNet;

use super::{
    Format,
    collect::{Collected, shown},
};

/// Longer lines are no entries.
const LINE_BYTES: u64 = 16 << 10;
/// Names in every hosts file that mean the host itself, or everybody on its link, beside those that begin with `ip6-`.
const OWN_NAMES: [&str; 7] =
    ["localhost", "localhost.localdomain", "localhost4", "localhost6", "local", "broadcasthost", "0.0.0.0"];
/// Options of `AdBlock` rules with which they hold for everything that comes from a name.
const WHOLE_OPTIONS: [&str; 4] = ["all", "important", "document", "doc"];

/// Reads lines until the end. Bounded in memory by the keys.
pub(super) fn read(file: &str, mut source: impl BufRead, format: Format, into: &mut Collected) -> std::io::Result<()> {
    let mut columns: Option<Columns> = None;
    let mut bytes = Vec::new();
    for number in 1.. {
        bytes.clear();
        if (&mut source).take(LINE_BYTES).read_until(b'\n', &mut bytes)? == 0 {
            break;
        }
        if bytes.len() as u64 == LINE_BYTES && bytes.last() != Some(&b'\n') {
            into.refuse(file, number, &format!("the line is longer than {LINE_BYTES} bytes"));
            skip_line(&mut source)?;
            continue;
        }
        let Ok(line) = str::from_utf8(&bytes) else {
            into.refuse(file, number, "the line is not UTF-8");
            continue;
        };
        let line = line.trim_start_matches('\u{feff}').trim();
        // Words such as `domain` stand in rows too: once there is a header, only a comment may be another.
        let may_be_header = columns.is_none() || line.starts_with('#');
        if matches!(format, Format::Auto | Format::Csv)
            && may_be_header
            && let Some(found) = Columns::of(line)
        {
            columns = Some(found);
            continue;
        }
        let outcome = match &columns {
            Some(_) if line.is_empty() || line.starts_with('#') => Ok(()),
            Some(columns) => columns.row(line, into),
            None => entry(line, format, into),
        };
        if let Err(problem) = outcome {
            into.refuse(file, number, &problem);
        }
    }
    Ok(())
}

fn skip_line(source: &mut impl BufRead) -> std::io::Result<()> {
    loop {
        let buffer = source.fill_buf()?;
        let (length, ends) = match buffer.iter().position(|byte| *byte == b'\n') {
            Some(position) => (position + 1, true),
            None => (buffer.len(), buffer.is_empty()),
        };
        source.consume(length);
        if ends {
            return Ok(());
        }
    }
}

fn entry(line: &str, format: Format, into: &mut Collected) -> Result<(), String> {
    // `#`, `;` and `//` begin comments; `!` and `[` do in rules of AdBlock.
    if line.starts_with(['#', ';', '!', '[']) || line.starts_with("//") {
        return Ok(());
    }
    if let Some(rule) = line.strip_prefix("||") {
        let end = rule.find(['^', '$', '/', '*']).unwrap_or(rule.len());
        // A rule with a path or with other options holds for some requests only, not for the name.
        let rest = rule.get(end..).unwrap_or_default();
        let options = rest.strip_prefix('^').unwrap_or(rest);
        let is_whole = |options: &str| options.split(',').all(|option| WHOLE_OPTIONS.contains(&option));
        if options.is_empty() || options.strip_prefix('$').is_some_and(is_whole) {
            return into.any("", rule.get(..end).unwrap_or_default());
        }
        return Err(format!("{} is a rule for some requests only, which a name cannot tell", shown(line)));
    }
    let text = without_comment(line);
    if text.is_empty() {
        return Ok(());
    }
    match format {
        Format::Asns => return into.asn("", text.split_whitespace().next().unwrap_or_default()),
        Format::Countries => return into.country("", text),
        Format::Organisations => return into.organisation("", text),
        _ => {}
    }
    // As v2fly writes names: `domain:` with what is below, `full:` without, which a list cannot tell apart, and `@` before tags.
    if let Some(name) = text.strip_prefix("domain:").or_else(|| text.strip_prefix("full:")) {
        return into.domain("", name.split_whitespace().next().unwrap_or_default());
    }
    let mut words = text.split_whitespace();
    let (first, second) = (words.next().unwrap_or_default(), words.next());
    if second.is_some() && text.split_whitespace().skip(1).all(is_own_name) {
        return Ok(());
    }
    let first_address = first.parse::<IpAddr>();
    match (first_address, second) {
        // Hosts files send names to nowhere; a real address in one is this host's business.
        (Ok(address), Some(_)) if address.is_unspecified() || address.is_loopback() => {
            let names = text.split_whitespace().skip(1).filter(|name| !is_own_name(name));
            // What is wrong with one name says nothing about the others.
            let mut outcome = Ok(());
            for name in names {
                outcome = outcome.and(into.domain("", name));
            }
            outcome
        }
        (Ok(start), Some(second)) => match second.trim_start_matches('-').trim().parse::<IpAddr>() {
            Ok(last) => into.range("", start, last),
            Err(_) if second == "-" => match words.next().and_then(|last| last.parse().ok()) {
                Some(last) => into.range("", start, last),
                None => Err(format!("{} is no range", shown(text))),
            },
            Err(_) if is_nobodys(start) => {
                Err(format!("{} is the address of a group or of a link, and nobody's", shown(first)))
            }
            // Counts and the like may follow an address.
            Err(_) => into.cidr("", first),
        },
        // Further columns follow prefixes and AS numbers; sentences begin with names too.
        (Err(_), Some(second)) if !first.contains('/') && !is_asn(first) && !second.starts_with('@') => {
            Err(format!("{} is more than one word and no entry", shown(text)))
        }
        _ => into.any("", first),
    }
}

/// A line up to its comment.
fn without_comment(line: &str) -> &str {
    let mut text = line;
    for mark in [" #", "\t#", ";", " //", "\t//"] {
        text = text.split(mark).next().unwrap_or_default();
    }
    // In what follows a name a `#` begins a rule for some part of a page.
    match text.split_once('#') {
        Some((before, _)) if before.parse::<IpAddr>().is_ok() || before.parse::<IpNet>().is_ok() => before.trim(),
        _ => text.trim(),
    }
}

/// Whether a name of a hosts file means no other host.
fn is_own_name(name: &str) -> bool {
    OWN_NAMES.contains(&name) || name.starts_with("ip6-")
}

/// Whether an address is no host's out there: of a group, of a link, or of everybody on it.
fn is_nobodys(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_multicast() || address.is_link_local() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_multicast() || address.is_unicast_link_local(),
    }
}

fn is_asn(text: &str) -> bool {
    let digits = text.strip_prefix("AS").or_else(|| text.strip_prefix("as")).unwrap_or_default();
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// Which columns of a table hold keys and labels, by its header.
#[derive(Debug)]
struct Columns {
    key: usize,
    label: Option<usize>,
}

/// Names of columns that hold keys, and of those that say what a key is of.
const KEYS: [&str; 9] = ["dst_ip", "dstip", "ioc_value", "url", "ip_address", "ip", "cidr", "network", "domain"];
const LABELS: [&str; 3] = ["malware_printable", "malware", "threat"];

impl Columns {
    /// The header of a table, which may be commented out.
    fn of(line: &str) -> Option<Self> {
        if !line.contains(',') {
            return None;
        }
        let names = fields(line.trim_start_matches(['#', ' ']))?;
        // Sentences in comments have commas too, and a table without a header has addresses in its first row.
        if names.iter().any(|name| name.contains(' ') || name.parse::<IpAddr>().is_ok()) {
            return None;
        }
        let find = |wanted: &[&str]| {
            wanted.iter().find_map(|wanted| names.iter().position(|name| name.eq_ignore_ascii_case(wanted)))
        };
        Some(Self { key: find(&KEYS)?, label: find(&LABELS) })
    }

    fn row(&self, line: &str, into: &mut Collected) -> Result<(), String> {
        let fields = fields(line).ok_or_else(|| format!("{} is no row of a table", shown(line)))?;
        let field = |index| fields.get(index).map(String::as_str);
        let key = field(self.key).ok_or_else(|| format!("{} fields are too few for the header", fields.len()))?;
        let label = self.label.and_then(field).unwrap_or_default();
        indicator(label, key, into)
    }
}

/// An indicator as tables and MISP write it: an address, perhaps with a port, a domain or a URL.
pub(super) fn indicator(label: &str, text: &str, into: &mut Collected) -> Result<(), String> {
    let hash = |length| text.len() == length && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if hash(32) || hash(40) || hash(64) {
        return Ok(());
    }
    if let Some((_, rest)) = text.split_once("://") {
        let (authority, page) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let host = without_port(authority.rsplit('@').next().unwrap_or_default());
        // Large hosts of other people's files are in every list of URLs.
        if !matches!(page, "" | "/") && host.parse::<IpAddr>().is_err() {
            return Err(format!("{} is one page of a server, which a name cannot tell from the others", shown(text)));
        }
        return into.any(label, host);
    }
    into.any(label, without_port(text))
}

fn without_port(text: &str) -> &str {
    if let Some(rest) = text.strip_prefix('[') {
        return rest.split(']').next().unwrap_or_default();
    }
    match text.split_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => text,
    }
}

fn fields(line: &str) -> Option<Vec<String>> {
    let mut reader =
        csv::ReaderBuilder::new().has_headers(false).flexible(true).trim(csv::Trim::All).from_reader(line.as_bytes());
    // abuse.ch puts a space before quotes, which a reader of RFC 4180 takes for text.
    let record = reader.records().next()?.ok()?;
    Some(record.iter().map(|field| field.trim().trim_matches('"').to_owned()).collect())
}
