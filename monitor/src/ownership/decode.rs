//! Reads a table file; its form is described in `encode`.

use std::{io::Read, sync::Arc};

use jiff::civil::Date;
use ruzstd::decoding::{FrameDecoder, StreamingDecoder};

use super::{
    CountryCode, Data, Layer, System,
    encode::{HEADER_BYTES, MAGIC, VERSION},
};

/// Largest content that is read; the data of all autonomous systems take 5 MB.
const MAXIMUM_CONTENT_BYTES: u32 = 64 << 20;
/// Largest distance over which the frame may refer back, which is what the decompressor keeps in memory.
const MAXIMUM_WINDOW_BYTES: u64 = 8 << 20;

/// Why bytes are no ownership table.
#[derive(Debug, thiserror::Error)]
pub enum OwnershipError {
    /// The file begins with something else, or ends within its header.
    #[error("not an ownership table: it does not begin with its mark; give a file made by `cargo xtask data`")]
    Mark,
    /// Another format.
    #[error("the ownership table has format {found}, this program reads {VERSION}: rebuild it with `cargo xtask data`")]
    Version {
        /// The file's format.
        found: u16,
    },
    /// The date does not exist.
    #[error("the ownership table's date {year}-{month}-{day} does not exist: rebuild it with `cargo xtask data`")]
    Date {
        /// Year.
        year: i16,
        /// Month.
        month: u8,
        /// Day.
        day: u8,
    },
    /// The content claims to be larger than any table.
    #[error(
        "the ownership table claims {found} bytes of content, more than the {MAXIMUM_CONTENT_BYTES} that are read: \
         rebuild it with `cargo xtask data`"
    )]
    TooLarge {
        /// What the header says.
        found: u32,
    },
    /// The frame does not decompress to the length in the header.
    #[error("the ownership table does not decompress ({problem}): the file is damaged, take a fresh copy")]
    Compression {
        /// What the decompressor said.
        problem: String,
    },
    /// The columns do not fit together.
    #[error("the ownership table is damaged in its {column} at byte {offset} of the content: take a fresh copy")]
    Content {
        /// Which column.
        column: &'static str,
        /// Where reading stopped, from the start of the decompressed content.
        offset: usize,
    },
}

/// The data in a file. Total: any bytes give data or an error.
pub(super) fn decode(bytes: &[u8]) -> Result<Data, OwnershipError> {
    let (header, frame) = bytes.split_first_chunk::<HEADER_BYTES>().ok_or(OwnershipError::Mark)?;
    let [mark @ .., v1, v0, y1, y0, month, day, l3, l2, l1, l0] = *header;
    if mark != MAGIC {
        return Err(OwnershipError::Mark);
    }
    let found = u16::from_be_bytes([v1, v0]);
    if found != VERSION {
        return Err(OwnershipError::Version { found });
    }
    let year = i16::from_be_bytes([y1, y0]);
    let date = Date::new(year, month.cast_signed(), day.cast_signed()).map_err(|_| OwnershipError::Date {
        year,
        month,
        day,
    })?;
    let content = decompress(frame, u32::from_be_bytes([l3, l2, l1, l0]))?;
    let mut reader = Reader { rest: &content, length: content.len(), column: "systems" };
    let systems = reader.systems()?;
    let count = systems.len() as u32;
    let origin = |position| u32::try_from(position).ok().filter(|&position| position < count);
    let country = |index| u16::try_from(index).ok().and_then(CountryCode::from_index);
    let origins = Layer { v4: reader.steps("IPv4 origins", origin)?, v6: reader.steps("IPv6 origins", origin)? };
    let registrations =
        Layer { v4: reader.steps("IPv4 registrations", country)?, v6: reader.steps("IPv6 registrations", country)? };
    if !reader.rest.is_empty() {
        return Err(reader.damaged());
    }
    Ok(Data { date, systems, origins, registrations })
}

/// Decompresses one frame of exactly `length` bytes.
fn decompress(frame: &[u8], length: u32) -> Result<Vec<u8>, OwnershipError> {
    if length > MAXIMUM_CONTENT_BYTES {
        return Err(OwnershipError::TooLarge { found: length });
    }
    let damaged = |problem: String| OwnershipError::Compression { problem };
    let mut decoder = FrameDecoder::new();
    decoder.set_max_window_size(MAXIMUM_WINDOW_BYTES);
    let decoder = StreamingDecoder::new_with_decoder(frame, decoder).map_err(|error| damaged(error.to_string()))?;
    let mut content = Vec::new();
    // One byte more than wanted shows a frame that is too long without reading all of it.
    decoder.take(u64::from(length) + 1).read_to_end(&mut content).map_err(|error| damaged(error.to_string()))?;
    if content.len() != length as usize {
        return Err(damaged(format!("{length} bytes expected, {} found", content.len())));
    }
    Ok(content)
}

/// What is left of the content, and where it was damaged if something does not fit.
struct Reader<'content> {
    rest: &'content [u8],
    length: usize,
    column: &'static str,
}

impl<'content> Reader<'content> {
    fn damaged(&self) -> OwnershipError {
        OwnershipError::Content { column: self.column, offset: self.length - self.rest.len() }
    }

    fn bytes(&mut self, count: usize) -> Result<&'content [u8], OwnershipError> {
        let (bytes, rest) = self.rest.split_at_checked(count).ok_or_else(|| self.damaged())?;
        self.rest = rest;
        Ok(bytes)
    }

    fn number(&mut self) -> Result<u128, OwnershipError> {
        // Nearly all numbers take one byte.
        if let Some((&byte, rest)) = self.rest.split_first()
            && byte < 0x80
        {
            self.rest = rest;
            return Ok(byte.into());
        }
        let mut number = 0;
        for shift in (0..u128::BITS).step_by(7) {
            let Some((&byte, rest)) = self.rest.split_first() else { break };
            let bits = u128::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                break;
            }
            self.rest = rest;
            number |= bits << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(self.damaged())
    }

    /// A number of things that take at least one byte each, so that no claim makes room for more than there can be.
    fn count(&mut self) -> Result<usize, OwnershipError> {
        let count = self.number()?;
        usize::try_from(count).ok().filter(|&count| count <= self.rest.len()).ok_or_else(|| self.damaged())
    }

    fn systems(&mut self) -> Result<Vec<System>, OwnershipError> {
        self.column = "AS numbers";
        let count = self.count()?;
        if count > Data::MAXIMUM_SYSTEMS {
            return Err(self.damaged());
        }
        let mut systems = Vec::with_capacity(count);
        let mut previous = 0_i64;
        for _ in 0..count {
            let zigzag = u64::try_from(self.number()?).map_err(|_| self.damaged())?;
            let difference = (zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed();
            let asn = previous.checked_add(difference).and_then(|asn| u32::try_from(asn).ok());
            let asn = asn.ok_or_else(|| self.damaged())?;
            systems.push(System { asn, organisation: None, country: None });
            previous = asn.into();
        }
        self.column = "AS countries";
        for system in &mut systems {
            let number = self.number()?;
            system.country = self.value(number, |index| u16::try_from(index).ok().and_then(CountryCode::from_index))?;
        }
        self.column = "names";
        let mut lengths = Vec::with_capacity(count);
        for _ in 0..count {
            lengths.push(usize::try_from(self.number()?).map_err(|_| self.damaged())?);
        }
        for (system, length) in systems.iter_mut().zip(lengths) {
            let name = str::from_utf8(self.bytes(length)?).map_err(|_| self.damaged())?;
            system.organisation = (!name.is_empty()).then(|| Arc::from(name));
        }
        Ok(systems)
    }

    fn steps<K, T>(
        &mut self,
        column: &'static str,
        code: impl Fn(u128) -> Option<T>,
    ) -> Result<Vec<(K, Option<T>)>, OwnershipError>
    where
        K: Copy + TryFrom<u128> + Into<u128>,
    {
        self.column = column;
        let count = self.count()?;
        let zero_bits = self.bytes(count)?;
        let mut steps = Vec::with_capacity(count + 1);
        let mut start = 0_u128;
        steps.push((K::try_from(start).map_err(|_| self.damaged())?, None));
        for &zero_bits in zero_bits {
            let odd = self.number()?.checked_mul(2).map(|even| even + 1).ok_or_else(|| self.damaged())?;
            let distance = (odd.leading_zeros() >= zero_bits.into()).then(|| odd << zero_bits);
            start = distance.and_then(|distance| start.checked_add(distance)).ok_or_else(|| self.damaged())?;
            steps.push((K::try_from(start).map_err(|_| self.damaged())?, None));
        }
        for (_, value) in &mut steps {
            let number = self.number()?;
            *value = self.value(number, &code)?;
        }
        Ok(steps)
    }

    /// 0 is no value, any other number one more than the value's code.
    fn value<T>(&self, number: u128, code: impl Fn(u128) -> Option<T>) -> Result<Option<T>, OwnershipError> {
        match number.checked_sub(1) {
            None => Ok(None),
            Some(number) => code(number).map(Some).ok_or_else(|| self.damaged()),
        }
    }
}
