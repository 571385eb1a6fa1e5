//! One message of RFC 5424.

use std::{fmt::Write as _, process};

use super::{Facility, Framing, SyslogConfig};
use crate::sink::{
    delivery::Item,
    fields::{Fields, dataset_word, priority},
};

/// Where the parameters of the structured data come from, by JSON pointer.
const PARAMETERS: [(&str, &str); 6] = [
    ("executable", "/process/executable"),
    ("pid", "/process/pid"),
    ("destinationIp", "/destination/ip"),
    ("destinationPort", "/destination/port"),
    ("asn", "/destination/as/number"),
    ("list", "/rule/id"),
];

/// Writes messages with the header of this host and program.
#[derive(Debug)]
pub(super) struct Writer {
    facility: Facility,
    hostname: String,
    app_name: String,
    structured_data_id: String,
    process_id: u32,
}

impl Writer {
    pub(super) fn new(config: &SyslogConfig, hostname: &str) -> Self {
        Self {
            facility: config.facility,
            hostname: header_value(config.hostname.as_deref().unwrap_or(hostname), 255),
            app_name: header_value(&config.app_name, 48),
            structured_data_id: format!("egresswatch@{}", config.enterprise_number),
            process_id: process::id(),
        }
    }

    /// The message of `item`, without framing.
    pub(super) fn message(&self, item: &Item) -> Vec<u8> {
        let word = dataset_word(item.dataset);
        let pri = self.facility.number() * 8 + priority(item);
        let unix_ns = item.time.unix_ns();
        // Microseconds are the finest that TIME-SECFRAC can hold.
        let time = jiff::Timestamp::from_nanosecond(unix_ns - unix_ns.rem_euclid(1_000)).unwrap_or_default();
        let mut header = format!(
            "<{pri}>1 {time:.6} {} {} {} {word} [{} id=\"",
            self.hostname, self.app_name, self.process_id, self.structured_data_id
        );
        escape(&mut header, &item.id);
        header.push('"');
        if let Some(severity) = item.severity {
            let _ = write!(header, " severity=\"{severity}\"");
        }
        let fields = Fields::of(item);
        for (name, pointer) in PARAMETERS {
            if let Some(value) = fields.text(pointer) {
                let _ = write!(header, " {name}=\"");
                escape(&mut header, &value);
                header.push('"');
            }
        }
        header.push_str("] ");
        let mut message = header.into_bytes();
        // No byte order mark, which RFC 5424 wants before UTF-8: receivers that read JSON stumble over it.
        message.extend_from_slice(&item.bytes);
        message
    }
}

/// Appends `message` as a stream wants it (RFC 6587, section 3.4).
pub(super) fn frame(stream: &mut Vec<u8>, message: &[u8], framing: Framing) {
    match framing {
        Framing::OctetCounting => {
            stream.extend_from_slice(message.len().to_string().as_bytes());
            stream.push(b' ');
            stream.extend_from_slice(message);
        }
        Framing::Newline => {
            // A newline inside would end the message; JSON has none.
            stream.extend(message.iter().map(|byte| if *byte == b'\n' { b' ' } else { *byte }));
            stream.push(b'\n');
        }
    }
}

/// A value as RFC 5424 allows it in a header: printable ASCII without spaces, bounded; `-` if nothing is left.
fn header_value(text: &str, max_bytes: usize) -> String {
    let value: String = text.chars().filter(char::is_ascii_graphic).take(max_bytes).collect();
    if value.is_empty() { "-".to_owned() } else { value }
}

/// Escapes a parameter's value (RFC 5424, section 6.3.3). Control characters, which receivers treat each in its own way,
/// become spaces.
fn escape(text: &mut String, value: &str) {
    for character in value.chars() {
        match character {
            '"' | '\\' | ']' => text.extend(['\\', character]),
            _ if character.is_control() => text.push(' '),
            _ => text.push(character),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{Framing, Writer, frame};
    use crate::{
        alert::{Timestamp, record::Dataset},
        sink::{delivery::Item, syslog::SyslogConfig},
    };

    fn item(bytes: &str) -> Item {
        Item {
            id: "run-7".to_owned(),
            time: Timestamp::from_unix_ns(1_795_431_784_123_456_789),
            dataset: Dataset::Alert,
            severity: Some(73),
            bytes: Bytes::copy_from_slice(bytes.as_bytes()),
        }
    }

    fn written(bytes: &str) -> String {
        let mut writer = Writer::new(&SyslogConfig::default(), "host.example ü");
        writer.process_id = 42;
        String::from_utf8(writer.message(&item(bytes))).expect("UTF-8")
    }

    #[test]
    fn header_structured_data_and_escapes_are_those_of_rfc_5424() {
        let record =
            r#"{"event":{"id":"run-7"},"process":{"executable":"/opt/a \"b\"]\\c\n"},"destination":{"port":443}}"#;
        assert_eq!(
            written(record),
            format!(
                "<130>1 2026-11-23T11:03:04.123456Z host.example egresswatch 42 alert [egresswatch@32473 id=\"run-7\" \
                 severity=\"73\" executable=\"/opt/a \\\"b\\\"\\]\\\\c \" destinationPort=\"443\"] {record}"
            )
        );
    }

    #[test]
    fn what_is_no_record_of_ours_is_not_read_for_fields() {
        for other in ["CEF:0|EgressWatch", r#"{"event":{"id":"another"},"process":{"pid":1}}"#, "{"] {
            assert!(written(other).ends_with(&format!("id=\"run-7\" severity=\"73\"] {other}")), "{other}");
        }
    }

    #[test]
    fn a_stream_tells_where_a_message_ends() {
        let mut stream = Vec::new();
        frame(&mut stream, b"a\nb", Framing::OctetCounting);
        frame(&mut stream, b"a\nb", Framing::Newline);
        assert_eq!(stream, b"3 a\nba b\n");
    }
}
