//! What the answer of an HTTP server means for what was sent.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use jiff::fmt::rfc2822::DateTimeParser;
use reqwest::{
    StatusCode,
    header::{HeaderMap, LOCATION, RETRY_AFTER},
};
use zeroize::Zeroizing;

use crate::sink::delivery::Failure;

/// Pause where only a person can mend it (credentials, an address): often enough to notice that it was mended.
pub(crate) const SLOW_PAUSE: Duration = Duration::from_mins(1);

/// Most that a receiver may hold up alerts by `Retry-After`.
const RETRY_AFTER_MAX: Duration = Duration::from_hours(1);

/// Most characters of an answer that are repeated in a message.
const EXCERPT_MAX_CHARACTERS: usize = 300;

/// An answer was read.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// The status.
    pub(crate) status: StatusCode,
    /// How long the receiver asks to wait.
    pub(crate) retry_after: Option<Duration>,
    /// The body, as far as it was read.
    pub(crate) body: Bytes,
    location: Option<String>,
    pub(super) secrets: Vec<Zeroizing<String>>,
}

/// Why what was sent is not confirmed.
#[derive(Clone, Debug)]
pub(crate) enum Problem {
    /// It has to be sent again.
    Again(Failure),
    /// It is too large for one request.
    TooLarge(String),
    /// Something in it is refused for good.
    Refused(String),
    /// The receiver calls the request bad, which may be for something in it, or for all that is sent there.
    BadRequest(String),
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        Self::Again(failure)
    }
}

impl From<Problem> for Failure {
    /// For a request that holds no record.
    fn from(problem: Problem) -> Self {
        match problem {
            Problem::Again(failure) => failure,
            Problem::TooLarge(reason) | Problem::Refused(reason) | Problem::BadRequest(reason) => slow(reason),
        }
    }
}

/// A failure that only a person can mend.
pub(crate) fn slow(reason: impl Into<String>) -> Failure {
    Failure { retry_after: Some(SLOW_PAUSE), ..Failure::new(reason) }
}

impl Answer {
    pub(super) fn new(status: StatusCode, headers: &HeaderMap, body: Bytes) -> Self {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        Self {
            status,
            retry_after: text(RETRY_AFTER).and_then(|value| retry_after(value, SystemTime::now())),
            body,
            location: text(LOCATION).map(str::to_owned),
            secrets: Vec::new(),
        }
    }

    /// The answer if it confirms, else what to do.
    pub(crate) fn check(self) -> Result<Self, Problem> {
        if self.status.is_success() {
            return Ok(self);
        }
        Err(self.problem())
    }

    /// What to do about an answer that does not confirm.
    pub(crate) fn problem(&self) -> Problem {
        let said = self.said();
        match self.status.as_u16() {
            400 if self.wants_tls() => {
                Problem::Again(self.pause(format!("{said}; the receiver wants TLS: write the address with https://")))
            }
            400 => Problem::BadRequest(said),
            413 => Problem::TooLarge(said),
            408 | 425 | 429 | 500.. => Problem::Again(Failure { retry_after: self.retry_after, ..Failure::new(said) }),
            status => match advice(status) {
                Some(advice) => Problem::Again(self.pause(format!("{said}; {advice}"))),
                None => Problem::Refused(said),
            },
        }
    }

    /// Whether a server of HTTPS says that it was spoken to without TLS, as those of Go, nginx and Apache do.
    fn wants_tls(&self) -> bool {
        const WORDS: [&str; 3] = [
            "http request to an https server",
            "plain http request was sent to https port",
            "speaking plain http to an ssl-enabled server port",
        ];
        let body = String::from_utf8_lossy(&self.body).to_ascii_lowercase();
        WORDS.iter().any(|words| body.contains(words))
    }

    /// A failure that only a person can mend.
    pub(crate) fn pause(&self, reason: String) -> Failure {
        Failure { retry_after: Some(self.retry_after.unwrap_or(SLOW_PAUSE).max(SLOW_PAUSE)), ..Failure::new(reason) }
    }

    /// The status and the beginning of the body, in one line, without what the request kept secret.
    pub(crate) fn said(&self) -> String {
        let mut text = format!("the receiver answered {}", self.status);
        if let Some(location) = &self.location {
            text.push_str(" with a redirect to ");
            text.push_str(&self.printable(location));
        }
        let body = self.printable(&String::from_utf8_lossy(&self.body));
        if !body.is_empty() {
            text.push_str(": ");
            text.push_str(&body);
        }
        text
    }

    /// `text` for a message.
    pub(crate) fn printable(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in self.secrets.iter().filter(|secret| secret.len() > 3) {
            text = text.replace(secret.as_str(), "[secret]");
        }
        let line = text.split(|character: char| character.is_whitespace() || character.is_control());
        let words: Vec<_> = line.filter(|word| !word.is_empty()).collect();
        let line = words.join(" ");
        match line.char_indices().nth(EXCERPT_MAX_CHARACTERS) {
            Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
            None => line,
        }
    }
}

/// What to mend, for a status that is about the address, the account or the method and not about a record.
fn advice(status: u16) -> Option<&'static str> {
    Some(match status {
        401 => "see whether the credentials are right and have not expired",
        403 => "give these credentials the right to write there",
        404 | 410 => "see whether the address is right and what it names exists",
        407 => "the proxy asks for credentials: let it pass this host without",
        300..=399 => "redirects are not followed: write the final address",
        402 | 405 | 406 | 411 | 415 | 421 | 426 | 428 | 431 => {
            "see whether the address and the type of output are right"
        }
        _ => return None,
    })
}

/// RFC 9110, 10.2.3: seconds or a date.
fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    let pause = if let Ok(seconds) = value.parse::<u64>() {
        Duration::from_secs(seconds)
    } else {
        let date = DateTimeParser::new().parse_timestamp(value).ok()?.as_second();
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Duration::from_secs(u64::try_from(date).unwrap_or(0).saturating_sub(now))
    };
    Some(pause.min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use bytes::Bytes;
    use reqwest::{StatusCode, header::HeaderMap};
    use zeroize::Zeroizing;

    use super::{Answer, Problem, SLOW_PAUSE, retry_after};

    fn answer(status: u16, headers: &[(&'static str, &str)], body: &'static str) -> Answer {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value")))
            .collect();
        Answer::new(StatusCode::from_u16(status).expect("a status"), &headers, Bytes::from_static(body.as_bytes()))
    }

    #[test]
    fn a_pause_is_seconds_or_a_date_and_bounded() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (value, seconds) in [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("Sun, 06 Nov 1994 08:50:07 GMT", Some(30)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("99999999999", Some(3_600)),
            ("-5", None),
            ("soon", None),
        ] {
            assert_eq!(retry_after(value, now), seconds.map(Duration::from_secs), "{value}");
        }
    }

    #[test]
    fn every_status_is_again_slowly_smaller_or_never() {
        for status in [408, 425, 429, 500, 502, 503, 504, 507] {
            let Problem::Again(failure) = answer(status, &[("retry-after", "7")], "").problem() else {
                panic!("{status}");
            };
            assert_eq!(failure.retry_after, Some(Duration::from_secs(7)), "{status}");
        }
        for status in [301, 307, 401, 403, 404, 405, 407, 410, 415] {
            let Problem::Again(failure) = answer(status, &[], "").problem() else { panic!("{status}") };
            assert_eq!(failure.retry_after, Some(SLOW_PAUSE), "{status}");
            assert!(failure.reason.contains("; "), "{failure}");
        }
        assert!(matches!(answer(413, &[], "").problem(), Problem::TooLarge(_)));
        assert!(matches!(answer(400, &[], "").problem(), Problem::BadRequest(_)));
        for status in [409, 422] {
            assert!(matches!(answer(status, &[], "").problem(), Problem::Refused(_)), "{status}");
        }
        for said in [
            "Client sent an HTTP request to an HTTPS server.\n",
            "<center>The plain HTTP request was sent to HTTPS port</center>",
            "You're speaking plain HTTP to an SSL-enabled server port.<br />",
        ] {
            let Problem::Again(failure) = answer(400, &[], said).problem() else { panic!("{said}") };
            assert!(failure.reason.ends_with("write the address with https://"), "{failure}");
        }
        for status in [200, 201, 202, 204] {
            assert!(answer(status, &[], "").check().is_ok());
        }
    }

    #[test]
    fn a_message_holds_one_line_of_the_answer_and_no_secret() {
        let mut refused = answer(401, &[], "bad token\n\tBearer hunter2 \u{1b}[31m");
        refused.secrets = vec![Zeroizing::new("hunter2".to_owned())];
        assert_eq!(refused.said(), "the receiver answered 401 Unauthorized: bad token Bearer [secret] [31m");
        let long = answer(
            400,
            &[],
            "ab cd efgh ij klmn op qr st uvwx yz 0123456789 ab cd efgh ij klmn op qr st uvwx yz 0123456789 \
            ab cd efgh ij klmn op qr st uvwx yz 0123456789 ab cd efgh ij klmn op qr st uvwx yz 0123456789 ab cd efgh ij klmn op \
            qr st uvwx yz 0123456789 ab cd efgh ij klmn op qr st uvwx yz 0123456789 ab cd efgh ij klmn op qr st uvwx yz 0123456789",
        );
        assert!(long.said().ends_with('…') && long.said().chars().count() < 350);
    }
}
