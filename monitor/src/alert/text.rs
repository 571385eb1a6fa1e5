//! Text that comes from outside, made fit for a terminal, and numbers made fit for people.

use std::fmt::Write as _;

/// `text` with everything escaped that could move a cursor, change colours or reorder what is read.
///
/// Control characters (C0, C1, so every terminal sequence), line separators, and the invisible and direction-changing
/// characters of Unicode become `\u{…}`; a name stays one line and shows what is in it. HTML is left alone: it means
/// nothing on a terminal.
#[must_use]
pub fn printable(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    for character in text.chars() {
        if is_deceptive(character) {
            result.extend(character.escape_default());
        } else {
            result.push(character);
        }
    }
    result
}

/// Whether a character shows nothing, or changes how its neighbours show.
fn is_deceptive(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Bytes in decimal units, as network equipment and file managers count them: 1 kB is 1,000 bytes.
///
/// Below 1 kB exact, above with one digit after the point below 100 and none from there on; rounded down, so that the
/// number never claims more than was sent.
#[must_use]
pub fn humane_bytes(bytes: u64) -> String {
    const UNITS: [(&str, u64); 6] = [
        ("EB", 1_000_000_000_000_000_000),
        ("PB", 1_000_000_000_000_000),
        ("TB", 1_000_000_000_000),
        ("GB", 1_000_000_000),
        ("MB", 1_000_000),
        ("kB", 1_000),
    ];
    match UNITS.into_iter().find(|(_, size)| bytes >= *size) {
        None => format!("{bytes} B"),
        Some((unit, size)) if bytes / size >= 100 => format!("{} {unit}", bytes / size),
        Some((unit, size)) => format!("{}.{} {unit}", bytes / size, bytes % size / (size / 10)),
    }
}

/// A span of time with the one unit that fits it, rounded down.
#[must_use]
pub fn humane_duration(span_ns: u64) -> String {
    match span_ns {
        0..=999_999 => format!("{} µs", span_ns / 1_000),
        1_000_000..=999_999_999 => format!("{} ms", span_ns / 1_000_000),
        1_000_000_000..=59_999_999_999 => {
            format!("{}.{} s", span_ns / 1_000_000_000, span_ns % 1_000_000_000 / 100_000_000)
        }
        60_000_000_000..=3_599_999_999_999 => format!("{} min", span_ns / 60_000_000_000),
        _ => format!("{} h", span_ns / 3_600_000_000_000),
    }
}

/// Arguments as one command line that a POSIX shell would split into the same arguments.
#[must_use]
pub fn command_line(arguments: &[String]) -> String {
    let mut line = String::new();
    for argument in arguments {
        if !line.is_empty() {
            line.push(' ');
        }
        let is_plain = !argument.is_empty()
            && argument.chars().all(|character| character.is_ascii_alphanumeric() || "@%+=:,./_-".contains(character));
        if is_plain {
            line.push_str(argument);
        } else {
            // Writing to a string cannot fail.
            let _ = write!(line, "'{}'", argument.replace('\'', "'\\''"));
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use proptest::{prop_assert, proptest};

    use super::{command_line, humane_bytes, humane_duration, printable};

    #[test]
    fn bytes_are_decimal_and_never_rounded_up() {
        for (bytes, expected) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.0 kB"),
            (1_499, "1.4 kB"),
            (99_999, "99.9 kB"),
            (123_456, "123 kB"),
            (999_999, "999 kB"),
            (1_000_000, "1.0 MB"),
            (u64::MAX, "18.4 EB"),
        ] {
            assert_eq!(humane_bytes(bytes), expected);
        }
    }

    #[test]
    fn durations_have_one_unit() {
        for (span_ns, expected) in [
            (12_345, "12 µs"),
            (1_500_000, "1 ms"),
            (3_260_000_000, "3.2 s"),
            (61_000_000_000, "1 min"),
            (7_300_000_000_000, "2 h"),
        ] {
            assert_eq!(humane_duration(span_ns), expected);
        }
    }

    #[test]
    fn command_lines_can_be_pasted_into_a_shell() {
        let arguments = ["/usr/bin/curl", "-d", "a b", "", "it's", "https://example.org/?q=1"].map(String::from);
        assert_eq!(command_line(&arguments), r"/usr/bin/curl -d 'a b' '' 'it'\''s' 'https://example.org/?q=1'");
    }

    #[test]
    fn nasty_names_show_what_is_in_them() {
        for (name, expected) in [
            ("chromium", "chromium"),
            ("\u{1b}[2J\u{1b}[1;1Hsshd", r"\u{1b}[2J\u{1b}[1;1Hsshd"),
            ("a\nb\r\tc\u{7}", r"a\nb\r\tc\u{7}"),
            ("\u{9b}31m", r"\u{9b}31m"),
            ("gpj.\u{202e}exe", r"gpj.\u{202e}exe"),
            ("<b>&amp;</b>", "<b>&amp;</b>"),
            ("паспорт 移动", "паспорт 移动"),
        ] {
            assert_eq!(printable(name), expected);
        }
    }

    proptest! {
        #[test]
        fn printable_text_is_one_line_without_controls(text in ".*") {
            let shown = printable(&text);
            prop_assert!(!shown.chars().any(char::is_control));
            let reordering = ['\u{202e}', '\u{2066}', '\u{2028}'];
            prop_assert!(!shown.contains(reordering));
        }
    }
}
