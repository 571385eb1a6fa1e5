//! The values a list file holds, each checked while it is read, so that a message points at the value itself.

use std::{fmt, net::IpAddr, sync::Arc};

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, de};

use super::index::words;
use crate::ownership::CountryCode;

/// Stable id of a list.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ListId(pub(super) Arc<str>);

/// Number of an autonomous system that may originate routes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Asn(pub(super) u32);

/// Domain name in lower case, ASCII, without a trailing dot.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Domain(pub(super) Arc<str>);

/// Country code.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Country(pub(super) CountryCode);

/// Prefix without host bits.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Prefix(pub(super) IpNet);

/// Words of an organisation's name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Organisation(pub(super) Arc<str>);

/// TOML local date.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CalendarDate(pub(super) jiff::civil::Date);

pub(super) fn list_id(text: &str) -> Result<ListId, String> {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if text.is_empty() || text.len() > 64 || !text.bytes().all(is_plain) {
        return Err(format!(
            "{text:?} is no list id: write up to 64 lower-case letters, digits and hyphens, such as \"my-list\""
        ));
    }
    Ok(ListId(text.into()))
}

pub(super) fn asn(number: u64) -> Result<Asn, String> {
    match u32::try_from(number) {
        // 0, AS_TRANS and the last one never originate routes (RFC 7607, RFC 6793, RFC 7300).
        Ok(0 | 23456 | u32::MAX) => {
            Err(format!("AS{number} is reserved and holds no network: write the holder's own number"))
        }
        Ok(number) => Ok(Asn(number)),
        Err(_) => Err(format!("{number} is no AS number: they end at 4294967294")),
    }
}

pub(super) fn domain(text: &str) -> Result<Domain, String> {
    let name = text.strip_suffix('.').unwrap_or(text);
    if let Some(rest) = name.strip_prefix("*.").or_else(|| name.strip_prefix('.')) {
        return Err(format!("write {rest:?}: a domain holds for every name below it"));
    }
    if name.contains(['/', ':', '@']) {
        return Err(format!("{text:?} is no domain name: write the name alone, such as \"example.com\""));
    }
    if name.parse::<IpAddr>().is_ok() {
        return Err(format!("{text:?} is an address: write it in cidrs, such as {:?}", format!("{name}/32")));
    }
    if !name.is_ascii() {
        return Err(format!("{text:?} is an international name: write its ASCII form, which begins with xn--"));
    }
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if name.len() > 253 || !name.split('.').all(is_label) {
        return Err(format!(
            "{text:?} is no domain name: write labels of at most 63 letters, digits and hyphens with dots between them"
        ));
    }
    // No top-level domain is a number, so that a mistyped address is no name (RFC 3696, section 2).
    if name.rsplit('.').next().is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_digit())) {
        return Err(format!("{text:?} is neither an address nor a domain name, whose last label is no number"));
    }
    Ok(Domain(name.to_ascii_lowercase().into()))
}

pub(super) fn country(text: &str) -> Result<Country, String> {
    match CountryCode::new(text) {
        // Reserved exceptionally in ISO 3166-1, but routing data never says it.
        Some(code) if code.as_str() == "UK" => Err("write \"GB\": the code of the United Kingdom".to_owned()),
        Some(code) if code.is_known() => Ok(Country(code)),
        _ => Err(format!("{text:?} is no country: write two letters by ISO 3166-1, such as \"CN\"")),
    }
}

pub(super) fn organisation(text: &str) -> Result<Organisation, String> {
    // Shorter ones are in half of all names.
    if words(text).chars().filter(|letter| letter.is_alphanumeric()).count() < 3 {
        return Err(format!("{text:?} is too short for an organisation: write words that are in no other name"));
    }
    Ok(Organisation(text.trim().into()))
}

pub(super) fn prefix(text: &str) -> Result<Prefix, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Err(format!("write {:?}: a prefix needs its length", IpNet::from(address).to_string()));
    }
    let Ok(net) = text.parse::<IpNet>() else {
        return Err(format!("{text:?} is no prefix: write one such as \"192.0.2.0/24\" or \"2001:db8::/32\""));
    };
    if net.trunc() != net {
        return Err(format!("{text:?} has bits set beyond its length: write {:?}", net.trunc().to_string()));
    }
    if net.prefix_len() == 0 {
        return Err(format!("{text:?} holds every address: write a narrower prefix"));
    }
    if let IpNet::V6(v6) = net
        && let Some(v4) = v6.addr().to_ipv4_mapped()
        && v6.prefix_len() >= 96
    {
        return Err(format!("write {:?}: addresses are matched as IPv4", format!("{v4}/{}", v6.prefix_len() - 96)));
    }
    Ok(Prefix(net))
}

struct AsnVisitor;

impl de::Visitor<'_> for AsnVisitor {
    type Value = Asn;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the number of an autonomous system, such as 9808")
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Asn, E> {
        u64::try_from(number)
            .map_err(|_| format!("{number} is no AS number: they begin at 1"))
            .and_then(asn)
            .map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Asn, E> {
        asn(number).map_err(E::custom)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Asn, E> {
        let digits = text.trim_start_matches(['A', 'S', 'a', 's', ' ']);
        Err(E::custom(match digits.parse::<u32>() {
            Ok(number) => format!("write {number}: AS numbers stand without quotes and without \"AS\""),
            Err(_) => format!("{text:?} is no AS number: write one such as 9808"),
        }))
    }
}

impl<'de> Deserialize<'de> for Asn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AsnVisitor)
    }
}

macro_rules! read_from_text {
    ($type:ty, $parse:path) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
            }
        }
    };
}

read_from_text!(ListId, list_id);
read_from_text!(Domain, domain);
read_from_text!(Country, country);
read_from_text!(Organisation, organisation);
read_from_text!(Prefix, prefix);

impl<'de> Deserialize<'de> for CalendarDate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wrong =
            || de::Error::custom("this is no date: write one such as 2026-06-08, without quotes and without a time");
        let value = toml::Value::deserialize(deserializer)?;
        let toml::Value::Datetime(toml::value::Datetime { date: Some(date), time: None, offset: None }) = value else {
            return Err(wrong());
        };
        let year = i16::try_from(date.year).map_err(|_| wrong())?;
        let month = i8::try_from(date.month).map_err(|_| wrong())?;
        let day = i8::try_from(date.day).map_err(|_| wrong())?;
        jiff::civil::Date::new(year, month, day).map(Self).map_err(|_| wrong())
    }
}
/// A network of IPv4-mapped addresses as the IPv4 network that it is.
pub(super) fn canonical(network: IpNet) -> IpNet {
    match network {
        IpNet::V6(v6) if v6.prefix_len() >= 96 => match v6.addr().to_ipv4_mapped() {
            Some(v4) => IpNet::new(v4.into(), v6.prefix_len() - 96).unwrap_or(network),
            None => network,
        },
        IpNet::V4(_) | IpNet::V6(_) => network,
    }
}
