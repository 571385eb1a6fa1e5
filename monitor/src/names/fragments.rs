//! Pieces of a byte stream, put in order.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

/// Where the first byte of a TCP stream is put, so that pieces that overtook it find a place before it.
pub(super) const ORIGIN: u64 = 1 << 32;

/// The offset of the byte with this sequence number in a stream whose first byte, at [`ORIGIN`], has the number `origin`.
pub(super) fn offset_in_stream(origin: u32, sequence: u32) -> u64 {
    // Sequence numbers wrap: the sign of the distance says which one is later (RFC 9293, section 3.4).
    ORIGIN.saturating_add_signed(sequence.wrapping_sub(origin).cast_signed().into())
}

/// Pieces by their offset. They may come in any order, twice, and overlap; where they overlap, what came first counts.
/// The bytes are erased when they go.
#[derive(Default)]
pub(super) struct Fragments {
    pieces: BTreeMap<u64, Zeroizing<Vec<u8>>>,
    bytes: usize,
}

impl Fragments {
    /// Keeps a piece unless more than `limit_bytes` would be held then; says whether it was kept or known before.
    pub(super) fn insert(&mut self, offset: u64, piece: &[u8], limit_bytes: usize) -> bool {
        // Whatever earlier pieces hold is cut away, so that no byte is held twice.
        let (mut offset, mut piece) = (offset, piece);
        let mut kept_all = true;
        while !piece.is_empty() {
            let before = self.pieces.range(..=offset).next_back();
            let covered = before.map_or(0, |(start, held)| (start + held.len() as u64).saturating_sub(offset));
            if covered > 0 {
                let skipped = usize::try_from(covered).unwrap_or(usize::MAX).min(piece.len());
                piece = piece.get(skipped..).unwrap_or_default();
                offset += skipped as u64;
                continue;
            }
            let next = self.pieces.range(offset..).next().map_or(u64::MAX, |(start, _)| *start);
            let room = usize::try_from(next - offset).unwrap_or(usize::MAX).min(piece.len());
            let (new, rest) = piece.split_at(room);
            if self.bytes + new.len() > limit_bytes {
                kept_all = false;
                break;
            }
            self.bytes += new.len();
            self.pieces.insert(offset, Zeroizing::new(new.to_vec()));
            piece = rest;
            offset += room as u64;
        }
        kept_all
    }

    /// Offset of the first byte held.
    pub(super) fn start(&self) -> Option<u64> {
        self.pieces.keys().next().copied()
    }

    /// The first piece held.
    pub(super) fn first(&self) -> &[u8] {
        self.pieces.first_key_value().map_or(&[], |(_, piece)| piece)
    }

    /// The bytes from `start` on up to the first gap.
    pub(super) fn prefix(&self, start: u64) -> Zeroizing<Vec<u8>> {
        let mut prefix = Zeroizing::new(Vec::new());
        for (offset, piece) in self.pieces.range(start..) {
            if *offset != start + prefix.len() as u64 {
                break;
            }
            prefix.extend_from_slice(piece);
        }
        prefix
    }

    /// Forgets whatever stands before `end`, where a piece ends or a part of it has been used.
    pub(super) fn consume(&mut self, end: u64) {
        while let Some((&offset, piece)) = self.pieces.first_key_value()
            && offset < end
        {
            let used = usize::try_from(end - offset).unwrap_or(usize::MAX).min(piece.len());
            let rest = piece.get(used..).filter(|rest| !rest.is_empty()).map(<[u8]>::to_vec);
            self.pieces.pop_first();
            self.bytes -= used;
            if let Some(rest) = rest {
                self.pieces.insert(end, Zeroizing::new(rest));
                break;
            }
        }
    }

    /// Bytes held.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 1 << 20;

    #[test]
    fn a_gap_ends_the_prefix_until_it_is_filled() {
        let mut fragments = Fragments::default();
        assert!(fragments.insert(10, b"ab", LIMIT) && fragments.insert(14, b"ef", LIMIT));
        assert_eq!(**fragments.prefix(10), *b"ab");
        assert!(fragments.insert(12, b"cd", LIMIT));
        assert_eq!(**fragments.prefix(10), *b"abcdef");
        fragments.consume(13);
        assert_eq!((fragments.start(), fragments.bytes()), (Some(13), 3));
        assert_eq!(**fragments.prefix(13), *b"def");
    }

    #[test]
    fn what_came_first_counts_and_the_limit_holds() {
        let mut fragments = Fragments::default();
        assert!(fragments.insert(2, b"CD", 8) && fragments.insert(0, b"abcdef", 8));
        assert_eq!(**fragments.prefix(0), *b"abCDef");
        assert!(fragments.insert(0, b"xxxxxx", 8), "nothing of it is new");
        assert!(!fragments.insert(6, b"ghi", 8));
        assert_eq!(fragments.bytes(), 6);
    }

    proptest! {
        #[test]
        fn any_order_and_overlap_gives_the_stream(
            stream in proptest::collection::vec(any::<u8>(), 1..200),
            mut cuts in proptest::collection::vec((0usize..200, 1usize..60), 0..40),
            base in 0u64..1 << 40,
        ) {
            cuts.push((0, stream.len()));
            let mut fragments = Fragments::default();
            for (start, length) in cuts {
                let start = start.min(stream.len());
                let end = (start + length).min(stream.len());
                prop_assert!(fragments.insert(base + start as u64, &stream[start..end], LIMIT));
                prop_assert!(fragments.bytes() <= stream.len());
            }
            prop_assert_eq!(&**fragments.prefix(base), &stream);
            let half = stream.len() / 2;
            fragments.consume(base + half as u64);
            prop_assert_eq!(&**fragments.prefix(base + half as u64), &stream[half..]);
            prop_assert_eq!(fragments.bytes(), stream.len() - half);
        }
    }
}
