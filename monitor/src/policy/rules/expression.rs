//! A compiled condition and its evaluation.
//!
//! Truth is a set of possible outcomes: of a flow each condition has exactly one, *true*, *false* or *unknown*. Where
//! only the address is known (see `pushdown`), a term about anything else has all three.

use std::{borrow::Cow, net::IpAddr};

use ipnet::IpNet;
use regex::Regex;

use super::{facts::Facts, fields::Field};
use crate::ownership::{self, Scope};

/// The outcomes that a condition may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Truth(u8);

impl Truth {
    pub(super) const TRUE: Self = Self(1);
    pub(super) const FALSE: Self = Self(2);
    pub(super) const UNKNOWN: Self = Self(4);
    pub(super) const OPEN: Self = Self(7);

    pub(super) const fn known(truth: bool) -> Self {
        if truth { Self::TRUE } else { Self::FALSE }
    }

    pub(super) const fn may_be_true(self) -> bool {
        self.0 & Self::TRUE.0 != 0
    }

    const fn not(self) -> Self {
        Self((self.0 & 1) << 1 | (self.0 & 2) >> 1 | self.0 & 4)
    }

    const fn and(self, other: Self) -> Self {
        let (a, b) = (self.0, other.0);
        let mut outcomes = 0;
        if a & b & 1 != 0 {
            outcomes |= 1;
        }
        if (a | b) & 2 != 0 {
            outcomes |= 2;
        }
        // Unknown, where neither is false and at least one is unknown.
        if (a & 4 != 0 && b & 5 != 0) || (b & 4 != 0 && a & 5 != 0) {
            outcomes |= 4;
        }
        Self(outcomes)
    }

    const fn or(self, other: Self) -> Self {
        self.not().and(other.not()).not()
    }

    const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// A value while a condition is evaluated.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value<'a> {
    /// Nobody could tell.
    Unknown,
    /// Not looked at: it may be anything.
    Open,
    Bool(bool),
    Int(i64),
    Text(Cow<'a, str>),
    Address(Place),
    List(List<'a>),
}

/// Where an address lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    At(IpAddr),
    /// Somewhere in a network.
    Within(IpNet),
    /// In none of the networks that the condition names.
    Elsewhere,
}

/// A list of a flow's facts.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum List<'a> {
    Texts(Vec<Cow<'a, str>>),
    Parents(&'a [Relative<'a>]),
    Names(&'a [NameFact<'a>]),
}

/// An ancestor of the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Relative<'a> {
    pub(super) name: Cow<'a, str>,
    pub(super) executable: Option<Cow<'a, str>>,
}

/// A name of the remote side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NameFact<'a> {
    pub(super) name: Cow<'a, str>,
    pub(super) source: Cow<'a, str>,
}

/// An element of a list.
#[derive(Clone, Copy, Debug)]
enum Item<'a> {
    Text(&'a str),
    Parent(&'a Relative<'a>),
    Name(&'a NameFact<'a>),
}

/// How two values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
}

/// Arithmetic on whole numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

/// A test of a text.
#[derive(Clone, Debug)]
pub(super) enum TextTest {
    StartsWith(Box<Node>),
    EndsWith(Box<Node>),
    Contains(Box<Node>),
    Matches(Regex),
    /// It is one of the domains or below it.
    DomainMatches(Vec<String>),
}

/// Part of an element of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Itself,
    Name,
    Executable,
    Source,
}

/// A part of a compiled condition.
#[derive(Clone, Debug)]
pub(super) enum Node {
    Bool(bool),
    Int(i64),
    Text(String),
    Address(IpAddr),
    /// A list that is written out.
    Texts(Vec<String>),
    Ints(Vec<i64>),
    Addresses(Vec<IpAddr>),
    Field(Field),
    Label(String),
    /// The variable of the comprehension at this depth.
    Item(usize, Part),
    Not(Box<Node>),
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
    Choose(Box<Node>, Box<Node>, Box<Node>),
    Compare(Comparison, Box<Node>, Box<Node>),
    In(Box<Node>, Box<Node>),
    Test(Box<Node>, TextTest),
    InCidr(Box<Node>, Vec<IpNet>),
    IsPublic(Box<Node>),
    Lower(Box<Node>),
    Size(Box<Node>),
    Has(Box<Node>),
    Calculate(Arithmetic, Box<Node>, Box<Node>),
    Exists(Box<Node>, usize, Box<Node>),
    All(Box<Node>, usize, Box<Node>),
}

/// What a condition is evaluated over.
#[derive(Clone, Copy)]
pub(super) struct Scene<'a> {
    pub(super) facts: &'a Facts<'a>,
    items: [Option<Item<'a>>; super::compile::DEPTH_OF_LISTS],
}

impl<'a> Scene<'a> {
    pub(super) const fn new(facts: &'a Facts<'a>) -> Self {
        Self { facts, items: [None; super::compile::DEPTH_OF_LISTS] }
    }
}

impl Node {
    /// Whether it holds.
    pub(super) fn truth(&self, scene: &Scene<'_>) -> Truth {
        match self {
            Self::Bool(truth) => Truth::known(*truth),
            Self::Not(inner) => inner.truth(scene).not(),
            Self::And(left, right) => match left.truth(scene) {
                Truth::FALSE => Truth::FALSE,
                truth => truth.and(right.truth(scene)),
            },
            Self::Or(left, right) => match left.truth(scene) {
                Truth::TRUE => Truth::TRUE,
                truth => truth.or(right.truth(scene)),
            },
            Self::Choose(condition, then, otherwise) => match condition.truth(scene) {
                Truth::TRUE => then.truth(scene),
                Truth::FALSE => otherwise.truth(scene),
                Truth::UNKNOWN => Truth::UNKNOWN,
                _ => then.truth(scene).union(otherwise.truth(scene)).union(Truth::UNKNOWN),
            },
            Self::Compare(how, left, right) => compare(*how, &left.value(scene), &right.value(scene)),
            Self::In(element, list) => is_in(&element.value(scene), list, scene),
            Self::Test(text, how) => test_text(&text.value(scene), how, scene),
            Self::InCidr(address, networks) => match address.value(scene) {
                Value::Address(place) => place.in_any(networks),
                other => missing(&other),
            },
            Self::IsPublic(address) => match address.value(scene) {
                Value::Address(Place::At(address)) => Truth::known(ownership::scope(address) == Scope::Global),
                Value::Address(_) => Truth::OPEN,
                other => missing(&other),
            },
            Self::Has(inner) => match inner.value(scene) {
                Value::Unknown => Truth::FALSE,
                Value::Open => Truth::OPEN,
                Value::List(list) => Truth::known(list.len() > 0),
                _ => Truth::TRUE,
            },
            Self::Exists(list, depth, body) => fold(list, *depth, body, scene, Truth::FALSE, Truth::or),
            Self::All(list, depth, body) => fold(list, *depth, body, scene, Truth::TRUE, Truth::and),
            other => match other.value(scene) {
                Value::Bool(truth) => Truth::known(truth),
                value => missing(&value),
            },
        }
    }

    /// Its value.
    fn value<'s>(&'s self, scene: &Scene<'s>) -> Value<'s> {
        match self {
            Self::Int(number) => Value::Int(*number),
            Self::Text(text) => Value::Text(Cow::Borrowed(text)),
            Self::Address(address) => Value::Address(Place::At(*address)),
            Self::Field(field) => scene.facts.get(*field),
            Self::Label(key) => scene.facts.label(key),
            Self::Item(depth, part) => match scene.items.get(*depth).copied().flatten() {
                Some(item) => item.part(*part),
                None => Value::Unknown,
            },
            Self::Lower(text) => match text.value(scene) {
                Value::Text(text) => Value::Text(Cow::Owned(text.to_ascii_lowercase())),
                other => other,
            },
            Self::Size(inner) => match inner.value(scene) {
                Value::Text(text) => count(text.chars().count()),
                Value::List(list) => count(list.len()),
                other => other,
            },
            Self::Calculate(how, left, right) => calculate(*how, &left.value(scene), &right.value(scene)),
            Self::Choose(condition, then, otherwise) => match condition.truth(scene) {
                Truth::TRUE => then.value(scene),
                Truth::FALSE => otherwise.value(scene),
                Truth::UNKNOWN => Value::Unknown,
                _ => Value::Open,
            },
            Self::Texts(texts) => Value::List(List::Texts(texts.iter().map(|text| text.as_str().into()).collect())),
            // The checker lets no list of numbers or addresses stand anywhere but after `in`.
            Self::Ints(_) | Self::Addresses(_) => Value::Unknown,
            truth => match truth.truth(scene) {
                Truth::TRUE => Value::Bool(true),
                Truth::FALSE => Value::Bool(false),
                Truth::UNKNOWN => Value::Unknown,
                _ => Value::Open,
            },
        }
    }

    /// Calls `visit` for itself and everything in it.
    pub(super) fn walk(&self, visit: &mut impl FnMut(&Self)) {
        visit(self);
        let mut all = |nodes: &[&Self]| nodes.iter().for_each(|node| node.walk(visit));
        match self {
            Self::Not(a) | Self::InCidr(a, _) | Self::IsPublic(a) | Self::Lower(a) | Self::Size(a) | Self::Has(a) => {
                all(&[a]);
            }
            Self::Test(a, TextTest::StartsWith(b) | TextTest::EndsWith(b) | TextTest::Contains(b))
            | Self::And(a, b)
            | Self::Or(a, b)
            | Self::Compare(_, a, b)
            | Self::In(a, b)
            | Self::Calculate(_, a, b)
            | Self::Exists(a, _, b)
            | Self::All(a, _, b) => all(&[a, b]),
            Self::Test(a, _) => all(&[a]),
            Self::Choose(a, b, c) => all(&[a, b, c]),
            _ => {}
        }
    }
}

fn count(count: usize) -> Value<'static> {
    Value::Int(i64::try_from(count).unwrap_or(i64::MAX))
}

/// The truth of a test on a value that is not there.
const fn missing(value: &Value<'_>) -> Truth {
    match value {
        Value::Open => Truth::OPEN,
        _ => Truth::UNKNOWN,
    }
}

fn compare(how: Comparison, left: &Value<'_>, right: &Value<'_>) -> Truth {
    use std::cmp::Ordering;
    if matches!(left, Value::Open) || matches!(right, Value::Open) {
        return Truth::OPEN;
    }
    let order = match (left, right) {
        (Value::Int(left), Value::Int(right)) => left.cmp(right),
        (Value::Text(left), Value::Text(right)) => left.cmp(right),
        (Value::Bool(left), Value::Bool(right)) => left.cmp(right),
        (Value::Address(place), Value::Address(Place::At(address)))
        | (Value::Address(Place::At(address)), Value::Address(place)) => {
            let truth = place.in_any(&[IpNet::from(*address)]);
            return if how == Comparison::Equal { truth } else { truth.not() };
        }
        _ => return Truth::UNKNOWN,
    };
    Truth::known(match how {
        Comparison::Equal => order == Ordering::Equal,
        Comparison::NotEqual => order != Ordering::Equal,
        Comparison::Less => order == Ordering::Less,
        Comparison::LessEqual => order != Ordering::Greater,
        Comparison::Greater => order == Ordering::Greater,
        Comparison::GreaterEqual => order != Ordering::Less,
    })
}

fn is_in(element: &Value<'_>, list: &Node, scene: &Scene<'_>) -> Truth {
    match (element, list) {
        (Value::Open, _) => Truth::OPEN,
        (Value::Int(number), Node::Ints(numbers)) => Truth::known(numbers.contains(number)),
        (Value::Text(text), Node::Texts(texts)) => Truth::known(texts.iter().any(|known| known == text)),
        (Value::Address(place), Node::Addresses(addresses)) => {
            let networks: Vec<IpNet> = addresses.iter().copied().map(IpNet::from).collect();
            place.in_any(&networks)
        }
        (Value::Text(text), list) => match list.value(scene) {
            Value::List(List::Texts(texts)) => Truth::known(texts.iter().any(|known| known == text)),
            other => missing(&other),
        },
        (Value::Unknown, list) => match list.value(scene) {
            Value::Open => Truth::OPEN,
            _ => Truth::UNKNOWN,
        },
        _ => Truth::UNKNOWN,
    }
}

fn test_text(text: &Value<'_>, how: &TextTest, scene: &Scene<'_>) -> Truth {
    let Value::Text(text) = text else { return missing(text) };
    let with = |other: &Node, holds: fn(&str, &str) -> bool| match other.value(scene) {
        Value::Text(other) => Truth::known(holds(text, &other)),
        other => missing(&other),
    };
    match how {
        TextTest::StartsWith(other) => with(other, |text, other| text.starts_with(other)),
        TextTest::EndsWith(other) => with(other, |text, other| text.ends_with(other)),
        TextTest::Contains(other) => with(other, |text, other| text.contains(other)),
        TextTest::Matches(regex) => Truth::known(regex.is_match(text)),
        TextTest::DomainMatches(domains) => {
            let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
            let is_within = |domain: &String| {
                name.strip_suffix(domain.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            };
            Truth::known(domains.iter().any(is_within))
        }
    }
}

fn calculate<'a>(how: Arithmetic, left: &Value<'_>, right: &Value<'_>) -> Value<'a> {
    if matches!(left, Value::Open) || matches!(right, Value::Open) {
        return Value::Open;
    }
    let (Value::Int(left), Value::Int(right)) = (left, right) else { return Value::Unknown };
    let result = match how {
        Arithmetic::Add => left.checked_add(*right),
        Arithmetic::Subtract => left.checked_sub(*right),
        Arithmetic::Multiply => left.checked_mul(*right),
        Arithmetic::Divide => left.checked_div(*right),
        Arithmetic::Remainder => left.checked_rem(*right),
    };
    result.map_or(Value::Unknown, Value::Int)
}

fn fold(
    list: &Node,
    depth: usize,
    body: &Node,
    scene: &Scene<'_>,
    empty: Truth,
    join: fn(Truth, Truth) -> Truth,
) -> Truth {
    let list = match list.value(scene) {
        Value::List(list) => list,
        other => return missing(&other),
    };
    let mut truth = empty;
    for index in 0..list.len() {
        let mut inner = *scene;
        if let (Some(slot), Some(item)) = (inner.items.get_mut(depth), list.item(index)) {
            *slot = Some(item);
        }
        truth = join(truth, body.truth(&inner));
    }
    truth
}

impl Place {
    fn in_any(self, networks: &[IpNet]) -> Truth {
        match self {
            Self::At(address) => Truth::known(networks.iter().any(|network| network.contains(&address))),
            Self::Elsewhere => Truth::FALSE,
            Self::Within(place) => {
                if networks.iter().any(|network| network.contains(&place)) {
                    Truth::TRUE
                } else if networks.iter().any(|network| place.contains(network)) {
                    Truth::TRUE.union(Truth::FALSE)
                } else {
                    Truth::FALSE
                }
            }
        }
    }
}

impl List<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Texts(texts) => texts.len(),
            Self::Parents(parents) => parents.len(),
            Self::Names(names) => names.len(),
        }
    }

    fn item(&self, index: usize) -> Option<Item<'_>> {
        Some(match self {
            Self::Texts(texts) => Item::Text(texts.get(index)?),
            Self::Parents(parents) => Item::Parent(parents.get(index)?),
            Self::Names(names) => Item::Name(names.get(index)?),
        })
    }
}

impl<'a> Item<'a> {
    fn part(self, part: Part) -> Value<'a> {
        let text = match (self, part) {
            (Self::Text(text), _) => Some(text),
            (Self::Parent(parent), Part::Executable) => parent.executable.as_deref(),
            (Self::Parent(parent), _) => Some(&*parent.name),
            (Self::Name(name), Part::Source) => Some(&*name.source),
            (Self::Name(name), _) => Some(&*name.name),
        };
        text.map_or(Value::Unknown, |text| Value::Text(Cow::Borrowed(text)))
    }
}

#[cfg(test)]
mod tests {
    use super::Truth;

    #[test]
    fn truth_follows_kleene_whatever_is_open() {
        const ONE: [Truth; 3] = [Truth::TRUE, Truth::FALSE, Truth::UNKNOWN];
        let and = |a, b| match (a, b) {
            (Truth::FALSE, _) | (_, Truth::FALSE) => Truth::FALSE,
            (Truth::TRUE, Truth::TRUE) => Truth::TRUE,
            _ => Truth::UNKNOWN,
        };
        let members = |set: Truth| ONE.into_iter().filter(move |one| set.0 & one.0 != 0);
        for left in (1..8).map(Truth) {
            for right in (1..8).map(Truth) {
                let mut expected = 0;
                for a in members(left) {
                    for b in members(right) {
                        expected |= and(a, b).0;
                    }
                }
                assert_eq!(left.and(right).0, expected, "{left:?} and {right:?}");
                assert_eq!(left.or(right), left.not().and(right.not()).not());
            }
        }
    }
}
