//! An item as bytes in the store.
//!
//! `version u8, dataset u8, severity u8, id length u16, time i128`, numbers little endian, then the id and the record.
//! Items of versions that are not known, and damaged ones, are counted and passed over.

use bytes::Bytes;

use crate::{
    alert::{Timestamp, record::Dataset},
    sink::delivery::Item,
};

const VERSION: u8 = 1;
/// Stands for "no severity", which is a number up to 100.
const NO_SEVERITY: u8 = u8::MAX;

/// What is told apart in the store; the position is the number, so new ones go last.
const DATASETS: [Dataset; 6] =
    [Dataset::Alert, Dataset::Flow, Dataset::Executable, Dataset::Loss, Dataset::Degradation, Dataset::Status];

/// `item` as the store keeps it.
pub(super) fn encode(item: &Item) -> Bytes {
    let id = item.id.as_bytes();
    let id = id.get(..usize::from(u16::MAX)).unwrap_or(id);
    let dataset = DATASETS.iter().position(|dataset| *dataset == item.dataset).unwrap_or_default();
    let mut bytes = Vec::with_capacity(21 + id.len() + item.bytes.len());
    bytes.extend([VERSION, dataset as u8, item.severity.unwrap_or(NO_SEVERITY)]);
    bytes.extend((id.len() as u16).to_le_bytes());
    bytes.extend(item.time.unix_ns().to_le_bytes());
    bytes.extend(id);
    bytes.extend(&item.bytes);
    bytes.into()
}

/// The item that the store kept as `bytes`; `None` if they are no item.
pub(super) fn decode(bytes: &[u8]) -> Option<Item> {
    let (&[version, dataset, severity], rest) = bytes.split_first_chunk()?;
    let (id_length, rest) = rest.split_first_chunk()?;
    let (time, rest) = rest.split_first_chunk()?;
    let (id, record) = rest.split_at_checked(usize::from(u16::from_le_bytes(*id_length)))?;
    (version == VERSION).then_some(())?;
    Some(Item {
        id: std::str::from_utf8(id).ok()?.to_owned(),
        time: Timestamp::from_unix_ns(i128::from_le_bytes(*time)),
        dataset: *DATASETS.get(usize::from(dataset))?,
        severity: (severity != NO_SEVERITY).then_some(severity),
        bytes: Bytes::copy_from_slice(record),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_kept_is_given_back(id in "[a-f0-9-]{0,80}", ns: i64, kind in 0_usize..6, severity in proptest::option::of(0_u8..=100), record: Vec<u8>) {
            let item = Item { id, time: Timestamp::from_unix_ns(ns.into()), dataset: DATASETS[kind], severity, bytes: record.into() };
            let bytes = encode(&item);
            prop_assert_eq!(decode(&bytes), Some(item));
            for end in 0..bytes.len().min(21) {
                prop_assert_eq!(decode(&bytes[..end]), None);
            }
        }

        #[test]
        fn anything_else_is_refused_without_a_panic(bytes: Vec<u8>) {
            let _ = decode(&bytes);
        }
    }
}
