//! Which values a field can have: what it never is, and what is always so, is a mistake.

use cel::IdedExpr;

use super::Compiler;
use crate::{
    mistakes::nearest_word,
    ownership::CountryCode,
    policy::rules::{
        expression::{Arithmetic, Comparison, Node, Part},
        fields::{self, SOURCES, Values},
    },
};

/// So many words are told one by one.
const WORDS_TOLD: usize = 10;

impl Compiler<'_> {
    /// Refuses to compare a field with what it can never be. Both sides may be the field.
    pub(super) fn check_values(&mut self, how: Comparison, left: (&IdedExpr, &Node), right: (&IdedExpr, &Node)) {
        self.check_side(how, left.1, right);
        self.check_side(mirrored(how), right.1, left);
    }

    fn check_side(&mut self, how: Comparison, node: &Node, (place, other): (&IdedExpr, &Node)) {
        let Some((name, values)) = self.values_of(node) else { return };
        let texts = match other {
            Node::Text(text) => std::slice::from_ref(text),
            Node::Texts(texts) => texts.as_slice(),
            _ => &[],
        };
        for text in texts {
            if let Some(help) = self.refusal(values, text) {
                self.wrong(place, format!("{name} is never {text:?}"), help);
            }
        }
        let Values::Range(least, most) = values else { return };
        let numbers = match other {
            Node::Ints(numbers) => numbers.clone(),
            other => number(other).into_iter().collect(),
        };
        for number in numbers {
            if says_nothing(how, number, least, most) {
                let message = match how {
                    Comparison::Equal | Comparison::NotEqual => format!("{name} is never {number}"),
                    _ => format!("the comparison of {name} with {number} always has the same outcome"),
                };
                let help = match most {
                    i64::MAX => format!("it is a number from {least} on"),
                    most => format!("it is a number from {least} to {most}"),
                };
                self.wrong(place, message, help);
            }
        }
    }

    /// How a value is called and what it can be, where that is known. Of a list, what its elements can be.
    pub(super) fn values_of(&self, node: &Node) -> Option<(String, Values)> {
        match node {
            Node::Field(field) => {
                let row = fields::FIELDS.iter().find(|row| row.field == *field)?;
                Some((row.path.to_owned(), row.values))
            }
            Node::Item(depth, part) => {
                let variable = self.variables.get(*depth)?;
                Some(match part {
                    Part::Itself => (variable.name.clone(), variable.values),
                    Part::Source => (format!("{}.source", variable.name), Values::Words(&SOURCES)),
                    Part::Executable => (format!("{}.executable", variable.name), Values::Path),
                    Part::Name => (format!("{}.name", variable.name), Values::Any),
                })
            }
            _ => None,
        }
    }

    /// Why a field can never be `text`: what to write instead.
    fn refusal(&self, values: Values, text: &str) -> Option<String> {
        match values {
            // A number that is compared with a text is told by its type.
            Values::Any | Values::Range(..) => None,
            Values::Words(words) => (!words.contains(&text)).then(|| one_of(text, words)),
            Values::Protocol(words) => {
                let number = text.strip_prefix("ip-").and_then(|number| number.parse::<u8>().ok());
                let is_one = words.contains(&text) || number.is_some_and(|number| text == format!("ip-{number}"));
                (!is_one).then(|| format!("{}, or ip- and a number", one_of(text, words)))
            }
            Values::List => {
                let known: Vec<&str> = self.known_lists?.iter().map(|id| &**id).collect();
                (!known.contains(&text)).then(|| match nearest_word(text, known) {
                    Some(near) => format!("did you mean {near:?}? `egresswatch lists` shows every list"),
                    None => "`egresswatch lists` shows every list".to_owned(),
                })
            }
            Values::Country => {
                let is_upper = text.bytes().all(|letter| letter.is_ascii_uppercase());
                let is_code = is_upper && CountryCode::new(text).is_some_and(|code| code.is_known());
                (!is_code).then(|| match text {
                    "UK" => "write \"GB\": the code of the United Kingdom".to_owned(),
                    _ => "write the two upper-case letters of a country by ISO 3166-1, such as \"DE\"".to_owned(),
                })
            }
            Values::Path => (!text.starts_with('/')).then(|| {
                format!("write the whole path, such as {:?}, or compare its name", format!("/usr/bin/{text}"))
            }),
            Values::Digest => {
                let is_digit = |digit: u8| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit);
                let is_digest = text.len() == 64 && text.bytes().all(is_digit);
                (!is_digest).then(|| "write 64 lower-case hexadecimal digits".to_owned())
            }
        }
    }
}

fn one_of(text: &str, words: &[&str]) -> String {
    let all = if words.len() > WORDS_TOLD { "docs/rules.md lists them".to_owned() } else { words.join(", ") };
    match nearest_word(text, words.iter().copied()) {
        Some(near) => format!("did you mean {near:?}? It is one of {all}"),
        None => format!("write one of {all}"),
    }
}

/// A number that is written out, perhaps with a sign.
fn number(node: &Node) -> Option<i64> {
    match node {
        Node::Int(number) => Some(*number),
        Node::Calculate(Arithmetic::Subtract, zero, number) => match (&**zero, &**number) {
            (Node::Int(0), Node::Int(number)) => number.checked_neg(),
            _ => None,
        },
        _ => None,
    }
}

/// Whether a comparison with `number` has one outcome for everything from `least` to `most`. The borders themselves may be
/// written either way: `time.hour < 24` says that any hour will do, and a port that is `> 0` is one.
fn says_nothing(how: Comparison, number: i64, least: i64, most: i64) -> bool {
    let is_outside = number < least || number > most;
    match how {
        Comparison::Equal | Comparison::NotEqual | Comparison::LessEqual | Comparison::GreaterEqual => is_outside,
        Comparison::Less => number <= least || number.checked_sub(1).is_some_and(|last| last > most),
        Comparison::Greater => number >= most || number.checked_add(1).is_some_and(|first| first < least),
    }
}

const fn mirrored(how: Comparison) -> Comparison {
    match how {
        Comparison::Less => Comparison::Greater,
        Comparison::LessEqual => Comparison::GreaterEqual,
        Comparison::Greater => Comparison::Less,
        Comparison::GreaterEqual => Comparison::LessEqual,
        same => same,
    }
}
