//! Writes a table file.
//!
//! A file is a header of [`HEADER_BYTES`], read before anything is decompressed, and one Zstandard frame, in an imported
//! table with a skippable frame before it that says where the data come from (`provenance`):
//!
//! | bytes | content |
//! |---|---|
//! | 6 | [`MAGIC`] |
//! | 2 | [`VERSION`], big-endian |
//! | 2, 1, 1 | year (big-endian), month and day of the data |
//! | 4 | length of the content in bytes, big-endian |
//!
//! The content is a row of columns, one kind of number after the other because that is what compresses. Numbers are
//! LEB128 unless said otherwise:
//!
//! 1. the number of systems; their AS numbers as zigzag differences; their countries (0 for none, else the index + 1);
//!    the lengths of their names in bytes (0 for none); the names in UTF-8;
//! 2. the ranges of the IPv4 space, then those of the IPv6 space. Each: how many begin above the lowest address; the
//!    distance of each from the one before, as a column of single bytes with its trailing zero bits and a column of what
//!    is left, halved (0 for a power of two); the systems with that of the lowest address first (0 for none, else the
//!    position + 1); the countries of registration likewise (0 for that of the range before, at first none; 1 for none;
//!    else the index + 2). The three columns after the bytes begin with their length in bytes, because they are read in
//!    step.

use std::io;

use super::{Table, provenance, ranges::Packed};

/// First bytes of a table file.
pub(super) const MAGIC: [u8; 6] = *b"EWOWN\n";
/// Format of the file; changes with every change to the columns.
pub(super) const VERSION: u16 = 1;
/// Length of the header.
pub(super) const HEADER_BYTES: usize = 16;

/// The file's bytes. `compress` makes a Zstandard frame; it is an argument because only the build of the table needs a
/// compressor. The same table and compressor give the same bytes.
pub fn encode(table: &Table, compress: impl FnOnce(&[u8]) -> io::Result<Vec<u8>>) -> io::Result<Vec<u8>> {
    let content = content(table);
    let length = u32::try_from(content.len()).map_err(|_| io::Error::other("the table's content exceeds 4 GiB"))?;
    let mut file = Vec::with_capacity(HEADER_BYTES);
    file.extend(MAGIC);
    file.extend(VERSION.to_be_bytes());
    file.extend(table.date.year().to_be_bytes());
    file.extend([table.date.month().cast_unsigned(), table.date.day().cast_unsigned()]);
    file.extend(length.to_be_bytes());
    let frame = compress(&content)?;
    if let Some(provenance) = table.provenance() {
        file.extend(provenance::to_frame(provenance, &frame)?);
    }
    file.extend(frame);
    Ok(file)
}

fn content(table: &Table) -> Vec<u8> {
    let mut content = Vec::new();
    number(&mut content, table.systems.len() as u128);
    let mut previous = 0;
    for system in table.systems() {
        let difference = i64::from(system.asn) - previous;
        number(&mut content, u128::from(((difference << 1) ^ (difference >> 63)).cast_unsigned()));
        previous = system.asn.into();
    }
    for system in table.systems() {
        number(&mut content, system.country.map_or(0, |country| u128::from(country.index()) + 1));
    }
    let names = || table.systems().map(|system| system.organisation.unwrap_or_default());
    for name in names() {
        number(&mut content, name.len() as u128);
    }
    for name in names() {
        content.extend(name.as_bytes());
    }
    ranges(&mut content, table.v4.steps().map(|(start, value)| (start.into(), value)));
    ranges(&mut content, table.v6.steps());
    content
}

fn ranges(content: &mut Vec<u8>, steps: impl Iterator<Item = (u128, Packed)>) {
    let mut zero_bits = Vec::new();
    let [mut odd_parts, mut systems, mut countries] = [const { Vec::new() }; 3];
    let mut last: Option<(u128, Packed)> = None;
    for (start, value) in steps {
        if let Some((last_start, last_value)) = last {
            // The layout in memory may cut a range in two.
            if value == last_value {
                continue;
            }
            let distance = start - last_start;
            zero_bits.push(distance.trailing_zeros() as u8);
            number(&mut odd_parts, distance >> distance.trailing_zeros() >> 1);
        }
        number(&mut systems, value.system().map_or(0, |position| u128::from(position) + 1));
        let country = value.country();
        let code = country.map_or(1, |country| u128::from(country.index()) + 2);
        let same = country == last.and_then(|(_, last_value)| last_value.country());
        number(&mut countries, if same { 0 } else { code });
        last = Some((start, value));
    }
    number(content, zero_bits.len() as u128);
    content.extend(zero_bits);
    for column in [odd_parts, systems, countries] {
        number(content, column.len() as u128);
        content.extend(column);
    }
}

/// LEB128: seven bits a byte, the lowest first, the eighth bit says that more follow.
fn number(content: &mut Vec<u8>, mut number: u128) {
    while number > 0x7f {
        content.push(number as u8 | 0x80);
        number >>= 7;
    }
    content.push(number as u8);
}
