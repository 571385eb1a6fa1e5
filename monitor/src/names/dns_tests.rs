use std::net::{Ipv4Addr, Ipv6Addr};

use domain::{
    base::{MessageBuilder, Name, message_builder::AnswerBuilder},
    rdata::svcb::SvcParams,
};
use proptest::prelude::*;

use super::*;

fn name(text: &str) -> Name<Vec<u8>> {
    text.parse().unwrap()
}

/// An answer to a question for `asked`; `fill` adds the records.
pub(in crate::names) fn answer(asked: &str, fill: impl FnOnce(&mut AnswerBuilder<Vec<u8>>)) -> Vec<u8> {
    let mut builder = MessageBuilder::new_vec();
    builder.header_mut().set_qr(true);
    let mut question = builder.question();
    question.push((name(asked), Rtype::A)).unwrap();
    let mut answer = question.answer();
    fill(&mut answer);
    answer.finish()
}

/// An answer that gives `asked` one address.
pub(in crate::names) fn address(asked: &str, address: [u8; 4], ttl_s: u32) -> Vec<u8> {
    answer(asked, |records| {
        records.push((name(asked), ttl_s, A::new(Ipv4Addr::from(address)))).unwrap();
    })
}

/// The same behind `padding` other addresses of a name that nobody asked for.
pub(in crate::names) fn padded(asked: &str, address: [u8; 4], padding: usize) -> Vec<u8> {
    answer(asked, |records| {
        for _ in 0..padding {
            records.push((name("other.example"), 1, A::new(Ipv4Addr::LOCALHOST))).unwrap();
        }
        records.push((name(asked), 1, A::new(Ipv4Addr::from(address)))).unwrap();
    })
}

/// The last byte of an address.
pub(in crate::names) fn last_octet(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(address) => address.octets()[3],
        IpAddr::V6(address) => address.octets()[15],
    }
}

fn shown(rows: &[Row]) -> Vec<String> {
    let show = |row: &Row| {
        let asked = row.asked.as_ref().map_or_else(String::new, |asked| format!(" for {asked}"));
        let ech = if row.has_ech { " ech" } else { "" };
        format!("{} {} {}{asked} {}s{ech}", row.address, row.source.as_token(), row.name, row.ttl_s)
    };
    rows.iter().map(show).collect()
}

#[test]
fn each_address_has_the_name_asked_for_and_the_aliases() {
    let message = answer("www.Example.com", |records| {
        records.push((name("www.example.com"), 300, Cname::new(name("edge.cdn.example")))).unwrap();
        records.push((name("edge.cdn.example"), 60, Cname::new(name("a.node.example")))).unwrap();
        records.push((name("a.node.example"), 20, A::new(Ipv4Addr::new(192, 0, 2, 1)))).unwrap();
        records.push((name("a.node.example"), 20, Aaaa::new("2001:db8::1".parse().unwrap()))).unwrap();
        // Nobody asked for it.
        records.push((name("bank.example"), 20, A::new(Ipv4Addr::new(192, 0, 2, 9)))).unwrap();
    });
    let of = |address: &str| {
        [
            format!("{address} dns www.example.com 20s"),
            format!("{address} dns_cname edge.cdn.example for www.example.com 20s"),
            format!("{address} dns_cname a.node.example for www.example.com 20s"),
        ]
    };
    assert_eq!(shown(&read(&message).rows), [of("192.0.2.1"), of("2001:db8::1")].concat());
}

#[test]
fn hints_of_https_records_count_as_addresses() {
    let parameters: SvcParams<Vec<u8>> = SvcParams::from_values(|builder| {
        builder.ech(b"keys".as_slice()).unwrap();
        builder.ipv4hint([Ipv4Addr::new(192, 0, 2, 1)]).unwrap();
        builder.ipv6hint(["2001:db8::1".parse::<Ipv6Addr>().unwrap()]).unwrap();
        Ok(())
    })
    .unwrap();
    let message = answer("_8443._https.example.com", |records| {
        let service = Https::new(1, name("."), parameters).unwrap();
        records.push((name("_8443._https.example.com"), 300, service)).unwrap();
    });
    assert_eq!(
        shown(&read(&message).rows),
        ["192.0.2.1 dns_https example.com 300s ech", "2001:db8::1 dns_https example.com 300s ech"]
    );
}

#[test]
fn aliases_in_a_circle_end() {
    let message = answer("a.example", |records| {
        records.push((name("a.example"), 1, Cname::new(name("b.example")))).unwrap();
        records.push((name("b.example"), 1, Cname::new(name("a.example")))).unwrap();
        records.push((name("b.example"), 1, A::new(Ipv4Addr::new(192, 0, 2, 1)))).unwrap();
    });
    assert_eq!(shown(&read(&message).rows).len(), 2);
}

#[test]
fn questions_and_failures_say_nothing() {
    let mut question = address("a.example", [192, 0, 2, 1], 1);
    question[2] &= 0x7f;
    let mut failure = address("a.example", [192, 0, 2, 1], 1);
    failure[3] = 3;
    for message in [&question[..], &failure, b"", b"short"] {
        assert_eq!(read(message), Answers::default());
    }
}

#[test]
fn a_stream_is_read_message_by_message() {
    let messages = [address("a.example", [192, 0, 2, 1], 1), address("b.example", [192, 0, 2, 2], 1)];
    let framed: Vec<Vec<u8>> =
        messages.iter().map(|message| [&(message.len() as u16).to_be_bytes()[..], message].concat()).collect();
    let stream = framed.concat();
    let one = framed[0].len();
    assert_eq!(shown(&read_stream(&stream).0.rows), ["192.0.2.1 dns a.example 1s", "192.0.2.2 dns b.example 1s"]);
    assert_eq!(read_stream(&stream[..stream.len() - 1]).1, one);
    assert_eq!(read_stream(&stream[..1]).1, 0);
}

#[test]
fn an_answer_that_is_cut_off_is_read_up_to_there() {
    let message = answer("a.example", |records| {
        for last in 1..=3 {
            records.push((name("a.example"), 1, A::new(Ipv4Addr::new(192, 0, 2, last)))).unwrap();
        }
    });
    assert_eq!((read(&message).rows.len(), read(&message).cut), (3, 0));
    let cut = read(&message[..message.len() - 1]);
    assert_eq!((cut.rows.len(), cut.cut), (2, 1));
}

#[test]
fn more_records_than_are_read_are_told() {
    for (others, expected) in [(RECORDS - 1, (1, 0)), (RECORDS, (0, 1))] {
        let answers = read(&padded("a.example", [192, 0, 2, 1], others));
        assert_eq!((answers.rows.len(), answers.cut), expected);
    }
}

#[test]
fn a_piece_of_whole_responses_is_told_from_others() {
    let message = address("a.example", [192, 0, 2, 1], 1);
    let framed = [&(message.len() as u16).to_be_bytes()[..], &message].concat();
    assert_eq!(read_whole(&framed.repeat(2)).map(|answers| answers.rows.len()), Some(2));
    let mut question = framed.clone();
    question[4] &= 0x7f;
    for piece in [&framed[1..], &framed[..framed.len() - 1], &question, b"", b"\0\0"] {
        assert_eq!(read_whole(piece), None);
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = (read(&bytes), read_stream(&bytes));
        // The flags of an answer, so that the records are looked at.
        if let Some(flags) = bytes.get_mut(2..4) {
            flags.copy_from_slice(&[0x80, 0]);
        }
        prop_assert!(read(&bytes).rows.len() <= 2 * RECORDS * CHAIN * RECORDS);
    }

    #[test]
    fn damage_is_read_without_a_panic(position in 0usize..200, byte: u8) {
        let mut message = answer("www.example.com", |records| {
            records.push((name("www.example.com"), 300, Cname::new(name("edge.cdn.example")))).unwrap();
            records.push((name("edge.cdn.example"), 20, A::new(Ipv4Addr::new(192, 0, 2, 1)))).unwrap();
        });
        if let Some(place) = message.get_mut(position) {
            *place = byte;
        }
        let _ = read(&message);
    }
}
