//! Reads a table file; its form is described in `encode`.

use std::{io::Read, iter};

use jiff::civil::Date;
use ruzstd::decoding::{FrameDecoder, StreamingDecoder};

use super::{
    CountryCode, Table,
    encode::{HEADER_BYTES, MAGIC, VERSION},
    provenance,
    ranges::{Packed, V4, V6},
    systems::Systems,
};

/// Largest content that is read; the data of all autonomous systems take 5 MB.
const MAXIMUM_CONTENT_BYTES: u32 = 64 << 20;
/// Largest distance over which the frame may refer back, which is what the decompressor keeps in memory.
const MAXIMUM_WINDOW_BYTES: u64 = 8 << 20;

/// Why bytes are no ownership table.
#[derive(Debug, thiserror::Error)]
pub enum OwnershipError {
    /// The file begins with something else, or ends within its header.
    #[error("not an ownership table: it does not begin with its mark; give a file that `egresswatch data import` made")]
    Mark,
    /// Another format.
    #[error("the ownership table has format {found}, this program reads {VERSION}: import the data anew")]
    Version {
        /// The file's format.
        found: u16,
    },
    /// The date does not exist.
    #[error("the ownership table's date {year}-{month}-{day} does not exist: import the data anew")]
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
         import the data anew"
    )]
    TooLarge {
        /// What the header says.
        found: u32,
    },
    /// The note of where an imported table comes from cannot be read.
    #[error("the ownership table does not say where it comes from ({problem}): the file is damaged, take a fresh copy")]
    Provenance {
        /// What is wrong with it.
        problem: String,
    },
    /// The content is not what was written.
    #[error("the ownership table is not what was written: its checksum differs, take a fresh copy")]
    Checksum,
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

/// The table in a file.
pub(super) fn decode(bytes: &[u8]) -> Result<Table, OwnershipError> {
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
    let (provenance, frame) = provenance::from_frame(frame)?;
    let content = decompress(frame, u32::from_be_bytes([l3, l2, l1, l0]))?;
    let mut reader = Reader { rest: &content, end: content.len(), column: "" };
    let systems = reader.systems()?;
    let mut v4 = V4::default();
    reader.ranges(["IPv4 ranges", "IPv4 systems", "IPv4 countries"], &systems, |start, value| {
        u32::try_from(start).map(|start| v4.push(start, value)).is_ok()
    })?;
    v4.finish();
    let mut v6 = V6::default();
    reader.ranges(["IPv6 ranges", "IPv6 systems", "IPv6 countries"], &systems, |start, value| {
        v6.push(start, value);
        true
    })?;
    v6.finish();
    reader.ended()?;
    Ok(Table { date, systems, v4, v6, provenance })
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
    let mut content = Vec::with_capacity(length as usize + 1);
    // One byte more than wanted shows a frame that is too long without reading all of it.
    decoder.take(u64::from(length) + 1).read_to_end(&mut content).map_err(|error| damaged(error.to_string()))?;
    if content.len() != length as usize {
        return Err(damaged(format!("{length} bytes expected, {} found", content.len())));
    }
    Ok(content)
}

/// What is left of a column or the whole content, and where it was damaged if something does not fit.
struct Reader<'content> {
    rest: &'content [u8],
    /// Where `rest` ends in the content.
    end: usize,
    column: &'static str,
}

impl<'content> Reader<'content> {
    fn damaged(&self) -> OwnershipError {
        OwnershipError::Content { column: self.column, offset: self.end - self.rest.len() }
    }

    fn ended(&self) -> Result<(), OwnershipError> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.damaged()) }
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

    /// A column with its length in front.
    fn column(&mut self, column: &'static str) -> Result<Self, OwnershipError> {
        self.column = column;
        let length = self.count()?;
        let bytes = self.bytes(length)?;
        Ok(Self { rest: bytes, end: self.end - self.rest.len(), column })
    }

    fn systems(&mut self) -> Result<Systems, OwnershipError> {
        self.column = "AS numbers";
        let count = self.count()?;
        if count > Systems::MAXIMUM {
            return Err(self.damaged());
        }
        let mut numbers = Vec::with_capacity(count);
        let mut previous = 0_i64;
        for _ in 0..count {
            let zigzag = u64::try_from(self.number()?).map_err(|_| self.damaged())?;
            let difference = (zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed();
            let asn = previous.checked_add(difference).and_then(|asn| u32::try_from(asn).ok());
            let asn = asn.ok_or_else(|| self.damaged())?;
            numbers.push(asn);
            previous = asn.into();
        }
        self.column = "AS countries";
        let mut countries = Vec::with_capacity(count);
        for _ in 0..count {
            let country = match self.number()? {
                0 => None,
                code => Some(self.country(code - 1)?),
            };
            countries.push(country);
        }
        self.column = "names";
        let mut lengths = Vec::with_capacity(count);
        for _ in 0..count {
            lengths.push(usize::try_from(self.number()?).map_err(|_| self.damaged())?);
        }
        let mut systems = Systems::default();
        for ((asn, country), length) in numbers.into_iter().zip(countries).zip(lengths) {
            let name = str::from_utf8(self.bytes(length)?).map_err(|_| self.damaged())?;
            systems.push(asn, country, name);
        }
        systems.finish();
        Ok(systems)
    }

    /// Hands the start and the value of each range to `take`, which says whether it can be one.
    fn ranges(
        &mut self,
        [starts, systems, countries]: [&'static str; 3],
        known: &Systems,
        mut take: impl FnMut(u128, Packed) -> bool,
    ) -> Result<(), OwnershipError> {
        self.column = starts;
        let count = self.count()?;
        let zero_bits = self.bytes(count)?;
        let mut odd_parts = self.column(starts)?;
        let mut systems = self.column(systems)?;
        let mut countries = self.column(countries)?;
        let (mut start, mut country) = (0_u128, None);
        // The first range begins at the lowest address, without a distance.
        for zero_bits in iter::once(None).chain(zero_bits.iter().map(Some)) {
            if let Some(&zero_bits) = zero_bits {
                let odd = odd_parts.number()?.checked_mul(2).map(|even| even | 1);
                let distance = odd.filter(|odd| odd.leading_zeros() >= zero_bits.into()).map(|odd| odd << zero_bits);
                let next = distance.and_then(|distance| start.checked_add(distance));
                start = next.ok_or_else(|| odd_parts.damaged())?;
            }
            let system = match systems.number()? {
                0 => None,
                code => Some(systems.position(code - 1, known)?),
            };
            country = match countries.number()? {
                0 => country,
                1 => None,
                code => Some(countries.country(code - 2)?),
            };
            if !take(start, Packed::new(system, country)) {
                return Err(odd_parts.damaged());
            }
        }
        odd_parts.ended().and(systems.ended()).and(countries.ended())
    }

    fn position(&self, number: u128, known: &Systems) -> Result<u32, OwnershipError> {
        let position = u32::try_from(number).ok().filter(|&position| (position as usize) < known.len());
        position.ok_or_else(|| self.damaged())
    }

    fn country(&self, number: u128) -> Result<CountryCode, OwnershipError> {
        u16::try_from(number).ok().and_then(CountryCode::from_index).ok_or_else(|| self.damaged())
    }
}
