//! Commands after which TLS begins on a connection that began without it: SMTP (RFC 3207), IMAP (RFC 3501), POP3 (RFC
//! 2595), FTP (RFC 4217), XMPP (RFC 6120) and `PostgreSQL`.

use super::Reading;

/// `SSLRequest` of `PostgreSQL`'s protocol: its length and its code.
const POSTGRESQL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// Reads up to the command that starts TLS; says how long what stands before the TLS is.
pub(super) fn read(bytes: &[u8]) -> Reading<usize> {
    if bytes.first() == Some(&b'<') { read_xml(bytes) } else { read_lines(bytes) }
}

/// Reads the request for TLS of a `PostgreSQL` client.
pub(super) fn read_postgresql(bytes: &[u8]) -> Reading<usize> {
    if bytes.starts_with(&POSTGRESQL_REQUEST) {
        Reading::Done(POSTGRESQL_REQUEST.len())
    } else if POSTGRESQL_REQUEST.starts_with(bytes) {
        Reading::More
    } else {
        Reading::Other
    }
}

fn read_lines(bytes: &[u8]) -> Reading<usize> {
    let mut position = 0;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        if !line.iter().all(|byte| byte.is_ascii() && is_text(*byte)) {
            return Reading::Other;
        }
        let Some(line_without_end) = line.strip_suffix(b"\n") else { return Reading::More };
        position += line.len();
        if starts_tls(line_without_end.trim_ascii()) {
            return Reading::Done(position);
        }
    }
    Reading::More
}

/// `STARTTLS`, `STLS`, `AUTH TLS`, each perhaps behind the tag that IMAP puts before commands.
fn starts_tls(line: &[u8]) -> bool {
    let mut words = line.split(u8::is_ascii_whitespace).rev();
    match words.next() {
        Some(last) if last.eq_ignore_ascii_case(b"STARTTLS") || last.eq_ignore_ascii_case(b"STLS") => {
            words.count() <= 1
        }
        Some(last) if last.eq_ignore_ascii_case(b"TLS") => {
            words.next().is_some_and(|word| word.eq_ignore_ascii_case(b"AUTH"))
        }
        _ => false,
    }
}

fn read_xml(bytes: &[u8]) -> Reading<usize> {
    let after = |from: usize, text: &[u8]| {
        let found = bytes.get(from..)?.windows(text.len()).position(|part| part == text)?;
        Some(from + found + text.len())
    };
    match after(0, b"<starttls").and_then(|begun| after(begun, b">")) {
        Some(end) if bytes.get(end..).is_some_and(|rest| rest.starts_with(b"</")) => match after(end, b">") {
            Some(end) => Reading::Done(end),
            None => Reading::More,
        },
        Some(end) => Reading::Done(end),
        None if bytes.iter().all(|byte| is_text(*byte)) => Reading::More,
        None => Reading::Other,
    }
}

/// No control character but those of text.
const fn is_text(byte: u8) -> bool {
    !byte.is_ascii_control() || byte.is_ascii_whitespace()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_found_and_words_in_other_places_are_not() {
        for (text, expected) in [
            ("STARTTLS\r\n", Reading::Done(10)),
            ("EHLO x\r\nstarttls\r\nrest", Reading::Done(18)),
            ("a001 STARTTLS\r\n", Reading::Done(15)),
            ("AUTH TLS\r\n", Reading::Done(10)),
            ("EHLO x\r\n", Reading::More),
            ("EHLO x\r\nSTARTTL", Reading::More),
            ("MAIL FROM:<a@b> x STARTTLS\r\n", Reading::More),
            ("AUTH PLAIN TLS\r\n", Reading::More),
            ("EHLO x\r\n\x16\x03\x01", Reading::Other),
            ("<stream:stream to='x'>", Reading::More),
            ("<stream:stream><starttls/>", Reading::Done(26)),
            ("<stream:stream><starttls></starttls>", Reading::Done(36)),
            ("<stream:stream>\0", Reading::Other),
        ] {
            assert_eq!(read(text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn a_request_of_postgresql_is_eight_bytes() {
        assert_eq!(read_postgresql(&POSTGRESQL_REQUEST), Reading::Done(8));
        assert_eq!(read_postgresql(&POSTGRESQL_REQUEST[..5]), Reading::More);
        assert_eq!(read_postgresql(b"\0\0\0\x08\0\x03\0\0"), Reading::Other);
    }
}
