//! Answers of a DNS server over TCP: messages behind their lengths, in a stream of which pieces may be missing.
//!
//! What is missing costs the messages in it and no others: the length of a message says where the next one begins, and a
//! segment that holds nothing but whole messages shows it again where that is not known.

use super::{
    dns,
    fragments::{Fragments, ORIGIN, offset_in_stream},
};
use crate::event::Capture;

/// Most bytes of one stream that are held: a message of the largest size, and a packet beyond.
const STREAM_BYTES: usize = (64 << 10) + (16 << 10);

/// What a server answers on one connection.
pub(super) struct AnswerStream {
    /// Sequence number that stands at [`ORIGIN`].
    origin: u32,
    /// Where the next message begins, while that is known.
    next: Option<u64>,
    fragments: Fragments,
}

impl AnswerStream {
    /// Begins with the segment that has this sequence number.
    pub(super) fn new(origin: u32) -> Self {
        Self { origin, next: Some(ORIGIN), fragments: Fragments::default() }
    }

    /// Bytes held.
    pub(super) const fn bytes(&self) -> usize {
        self.fragments.bytes()
    }

    /// Reads a segment. The kernel side captures none twice, because a repeated one brings nothing new.
    pub(super) fn read(&mut self, capture: &Capture) -> dns::Answers {
        let start = offset_in_stream(self.origin, capture.tcp_sequence);
        let captured_end = start + capture.data.len() as u64;
        let end = captured_end.max(start + u64::from(capture.payload_bytes));
        let is_whole = captured_end == end;
        let reach = self.reach();
        let Some(reach) = reach.filter(|reach| (start..end).contains(reach)) else {
            return self.read_apart(&capture.data, start, end, reach);
        };
        let skipped = usize::try_from(reach - start).unwrap_or(usize::MAX);
        let new = capture.data.get(skipped..).unwrap_or_default();
        if !self.fragments.insert(reach, new, STREAM_BYTES) {
            return self.lose_place();
        }
        let mut answers = self.read_on();
        if !is_whole {
            answers.add(self.read_cut(captured_end, end));
            answers.add(self.read_on());
        }
        answers
    }

    /// Up to where the stream was read or is held without a gap.
    fn reach(&self) -> Option<u64> {
        self.next.map(|next| next + self.fragments.prefix(next).len() as u64)
    }

    /// Reads a segment that does not stand at `reach`.
    fn read_apart(&mut self, data: &[u8], start: u64, end: u64, reach: Option<u64>) -> dns::Answers {
        let is_behind = reach.is_some_and(|reach| end <= reach);
        let is_whole = start + data.len() as u64 == end;
        if is_whole && let Some(mut answers) = dns::read_whole(data) {
            if !is_behind {
                // What stood before it is missing.
                answers.cut += u64::from(self.next.is_some());
                self.next = Some(end);
                answers.add(self.read_on());
            }
            return answers;
        }
        if is_behind {
            // Of a message that was read as far as it was captured.
            return dns::Answers::default();
        }
        if self.next.is_some() && is_whole && self.fragments.insert(start, data, STREAM_BYTES) {
            return dns::Answers::default();
        }
        self.lose_place()
    }

    /// Reads what is held from the next message on.
    fn read_on(&mut self) -> dns::Answers {
        let Some(next) = self.next else { return dns::Answers::default() };
        self.fragments.consume(next);
        let (answers, used_bytes) = dns::read_stream(&self.fragments.prefix(next));
        let next = next + used_bytes as u64;
        self.fragments.consume(next);
        self.next = Some(next);
        answers
    }

    /// Reads the message in which the captured part of a packet ends, at `captured_end`, and finds the one after it.
    fn read_cut(&mut self, captured_end: u64, end: u64) -> dns::Answers {
        let Some(next) = self.next.filter(|next| *next < captured_end) else { return self.lose_place() };
        let held = self.fragments.prefix(next);
        let Some((length, message)) = held.split_first_chunk::<{ dns::PREFIX_BYTES }>() else {
            return self.lose_place();
        };
        let mut answers = dns::read(message);
        let after = next + (dns::PREFIX_BYTES + usize::from(u16::from_be_bytes(*length))) as u64;
        if after < end {
            answers.add(self.lose_place());
        } else {
            self.next = Some(after);
            self.fragments.consume(after);
        }
        answers
    }

    /// Where the next message begins is no longer known.
    fn lose_place(&mut self) -> dns::Answers {
        self.next = None;
        self.fragments = Fragments::default();
        dns::Answers { rows: Vec::new(), cut: 1 }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::event::{BootTime, Direction, FlowKey, Protocol};

    /// A message that gives `name` the address 192.0.2.`last`, behind its length, with `padding` records before it.
    fn framed(name: &str, last: u8, padding: usize) -> Vec<u8> {
        let message = dns::tests::padded(name, [192, 0, 2, last], padding);
        [&u16::try_from(message.len()).unwrap().to_be_bytes()[..], &message].concat()
    }

    fn segment(sequence: usize, stream: &[u8], captured_bytes: usize) -> Capture {
        Capture {
            key: FlowKey { socket_cookie: 1, protocol: Protocol::Tcp, remote: "192.0.2.53:53".parse().unwrap() },
            direction: Direction::In,
            process: None,
            network_namespace_cookie: None,
            tcp_sequence: (u32::MAX - 50).wrapping_add(sequence as u32),
            payload_bytes: stream.len() as u32,
            data: Bytes::copy_from_slice(&stream[..captured_bytes.min(stream.len())]),
            at: BootTime(0),
        }
    }

    /// Last bytes of the addresses that are learned from each segment, and how much was cut.
    fn read(segments: &[Capture]) -> (Vec<Vec<u8>>, u64) {
        let mut stream = AnswerStream::new(segments.first().unwrap().tcp_sequence);
        let mut cut = 0;
        let learned = segments
            .iter()
            .map(|segment| {
                let answers = stream.read(segment);
                cut += answers.cut;
                answers.rows.iter().map(|row| dns::tests::last_octet(row.address)).collect()
            })
            .collect();
        assert_eq!(stream.bytes(), 0, "all was read");
        (learned, cut)
    }

    #[test]
    fn a_large_answer_that_was_not_captured_whole_costs_no_other_one() {
        let (large, next) = (framed("large.example", 1, 320), framed("next.example", 2, 0));
        assert!(large.len() > 9_000);
        // In a packet of its own, and the rest of it with what follows.
        let first = segment(0, &large, 8_192);
        assert_eq!(read(&[first, segment(large.len(), &next, 8_192)]), (vec![vec![], vec![2]], 1));
        let joined = [&large[8_500..], &next].concat();
        let segments = [segment(0, &large[..8_500], 8_192), segment(8_500, &joined, 8_192)];
        assert_eq!(read(&segments), (vec![vec![], vec![2]], 1));
    }

    #[test]
    fn a_segment_of_whole_messages_shows_where_they_begin() {
        let (large, next) = (framed("large.example", 1, 320), framed("next.example", 2, 0));
        let joined = [&large[..], &next].concat();
        let begun = segment(0, &joined, 8_192);
        let half = segment(joined.len(), &next[..20], 8_192);
        let rest = segment(joined.len() + 20, &next[20..], 8_192);
        let after = joined.len() + next.len();
        let whole = segment(after, &[&next[..], &next].concat(), 8_192);
        let then = segment(after + 2 * next.len(), &next, 8_192);
        let learned = read(&[begun, half, rest, whole, then]);
        // One large answer, its place, and two segments that nothing is known about.
        assert_eq!(learned, (vec![vec![], vec![], vec![], vec![2, 2], vec![2]], 4));
    }

    #[test]
    fn a_segment_that_was_not_captured_costs_what_is_in_it() {
        let one = framed("one.example", 1, 0);
        let segments = [segment(0, &one, 8_192), segment(3 * one.len(), &one, 8_192)];
        assert_eq!(read(&segments), (vec![vec![1], vec![1]], 1));
        // It only came late.
        let late = segment(one.len(), &one, 8_192);
        let [first, overtaking] = segments;
        assert_eq!(read(&[first, overtaking, late]), (vec![vec![1], vec![1], vec![1]], 1));
    }

    #[test]
    fn the_largest_message_is_read_from_small_segments() {
        let large = framed("large.example", 1, 2_200);
        assert!(large.len() > 60_000);
        let stream = [&large[..], &framed("next.example", 2, 0)].concat();
        let segments: Vec<Capture> =
            stream.chunks(1_448).enumerate().map(|(index, piece)| segment(index * 1_448, piece, 8_192)).collect();
        let (learned, cut) = read(&segments);
        assert_eq!((learned.concat(), cut), (vec![2], 1), "more records than are read of one message");
    }

    proptest! {
        #[test]
        fn any_segments_are_read_without_a_panic(
            pieces in proptest::collection::vec((0usize..3_000, proptest::collection::vec(any::<u8>(), 1..200), 0usize..250), 1..40),
        ) {
            let mut stream = AnswerStream::new(u32::MAX - 50);
            for (sequence, data, captured) in pieces {
                stream.read(&segment(sequence, &data, captured.max(1)));
                prop_assert!(stream.bytes() <= STREAM_BYTES);
            }
        }

        /// However the stream is cut into segments, all of it is read.
        #[test]
        fn messages_are_found_in_any_segments(sizes in proptest::collection::vec(1usize..400, 1..60)) {
            let stream: Vec<u8> = (0..20).flat_map(|last| framed("any.example", last, usize::from(last))).collect();
            let (mut at, mut segments) = (0, Vec::new());
            for size in sizes.into_iter().chain([stream.len()]) {
                let end = (at + size).min(stream.len());
                if at < end {
                    segments.push(segment(at, &stream[at..end], 8_192));
                }
                at = end;
            }
            let (learned, cut) = read(&segments);
            prop_assert_eq!((learned.concat(), cut), ((0..20).collect::<Vec<u8>>(), 0));
        }
    }
}
