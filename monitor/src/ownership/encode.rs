//! Writes a table file.
//!
//! A file is a header of [`HEADER_BYTES`], read before anything is decompressed, and one Zstandard frame:
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
//! 2. four layers, of origins IPv4 and IPv6 and of registrations IPv4 and IPv6. Each: the number of steps after the one
//!    at the lowest address; the distance of each from the one before, as a column of single bytes with its trailing
//!    zero bits and a column of what is left, halved (0 for a power of two); the values with that of the lowest address
//!    first (0 for none, else the system's position or the country's index + 1).

use std::io;

use super::{Data, Layer};

/// First bytes of a table file.
pub(super) const MAGIC: [u8; 6] = *b"EWOWN\n";
/// Format of the file; changes with every change to the columns.
pub(super) const VERSION: u16 = 1;
/// Length of the header.
pub(super) const HEADER_BYTES: usize = 16;

/// The file's bytes. `compress` makes a Zstandard frame; it is an argument because only the build of the table needs a
/// compressor. The same data and compressor give the same bytes.
pub fn encode(data: &Data, compress: impl FnOnce(&[u8]) -> io::Result<Vec<u8>>) -> io::Result<Vec<u8>> {
    let content = content(data);
    let length = u32::try_from(content.len()).map_err(|_| io::Error::other("the table's content exceeds 4 GiB"))?;
    let mut file = Vec::with_capacity(HEADER_BYTES);
    file.extend(MAGIC);
    file.extend(VERSION.to_be_bytes());
    file.extend(data.date.year().to_be_bytes());
    file.extend([data.date.month().cast_unsigned(), data.date.day().cast_unsigned()]);
    file.extend(length.to_be_bytes());
    file.extend(compress(&content)?);
    Ok(file)
}

fn content(data: &Data) -> Vec<u8> {
    let mut content = Vec::new();
    number(&mut content, data.systems.len() as u128);
    let mut previous = 0;
    for system in &data.systems {
        let difference = i64::from(system.asn) - previous;
        number(&mut content, u128::from(((difference << 1) ^ (difference >> 63)).cast_unsigned()));
        previous = system.asn.into();
    }
    for system in &data.systems {
        number(&mut content, system.country.map_or(0, |country| u128::from(country.index()) + 1));
    }
    let names = || data.systems.iter().map(|system| system.organisation.as_deref().unwrap_or_default());
    for name in names() {
        number(&mut content, name.len() as u128);
    }
    for name in names() {
        content.extend(name.as_bytes());
    }
    layer(&mut content, &data.origins, u128::from);
    layer(&mut content, &data.registrations, |country| country.index().into());
    content
}

fn layer<T: Copy>(content: &mut Vec<u8>, layer: &Layer<T>, code: impl Fn(T) -> u128) {
    steps(content, &layer.v4, &code);
    steps(content, &layer.v6, &code);
}

fn steps<K: Copy + Into<u128>, T: Copy>(content: &mut Vec<u8>, steps: &[(K, Option<T>)], code: impl Fn(T) -> u128) {
    let distances = || steps.windows(2).filter_map(|pair| Some(pair.last()?.0.into() - pair.first()?.0.into()));
    number(content, distances().count() as u128);
    content.extend(distances().map(|distance| distance.trailing_zeros() as u8));
    for distance in distances() {
        number(content, distance >> distance.trailing_zeros() >> 1);
    }
    for &(_, value) in steps {
        number(content, value.map_or(0, |value| code(value) + 1));
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
