//! Durations and sizes as people write them in configuration: `10s`, `1h 30m`, `64KiB`.

use std::{fmt, str::FromStr, time};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A length of time, written as numbers with units: `250ms`, `3s`, `1m30s`, `2h`, `7d`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(time::Duration);

/// A number of bytes, written with a unit: `512B`, `64KiB`, `10MB`. Units with an `i` are powers of 1024, the others of
/// 1000 (IEC 80000-13).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(u64);

/// A text that is no duration or size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// Not a duration.
    #[error("{0:?} is not a duration: write whole numbers with ms, s, m, h or d, such as \"10s\" or \"1h30m\"")]
    Duration(String),
    /// Not a size.
    #[error("{0:?} is not a size: write a whole number with B, KiB, MiB, GiB, kB, MB or GB, such as \"64KiB\"")]
    ByteSize(String),
}

const MILLISECOND_UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

const BYTE_UNITS: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1_000),
    ("B", 1),
];

impl Duration {
    /// From milliseconds.
    #[must_use]
    pub const fn from_millis(milliseconds: u64) -> Self {
        Self(time::Duration::from_millis(milliseconds))
    }

    /// From seconds.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self(time::Duration::from_secs(seconds))
    }

    /// As the standard library's duration.
    #[must_use]
    pub const fn get(self) -> time::Duration {
        self.0
    }

    /// As nanoseconds, at most `u64::MAX` (584 years).
    #[must_use]
    pub fn as_ns(self) -> u64 {
        u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX)
    }
}

impl ByteSize {
    /// From a number of bytes.
    #[must_use]
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// As a number of bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

/// Splits a leading whole number from `text`.
fn take_number(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at_checked(end)?;
    Some((digits.parse().ok()?, rest.trim_start()))
}

impl FromStr for Duration {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let parse = || {
            let mut rest = text.trim();
            let mut milliseconds = 0_u64;
            if rest == "0" {
                return Some(0);
            }
            // Each unit may be given once and from the largest down, so that "5m 3d" is taken for the slip that it is.
            let mut largest = u64::MAX;
            while !rest.is_empty() || largest == u64::MAX {
                let (number, tail) = take_number(rest)?;
                let end = tail.find(|character: char| !character.is_ascii_alphabetic()).unwrap_or(tail.len());
                let (unit, tail) = tail.split_at_checked(end)?;
                let &(_, factor) = MILLISECOND_UNITS.iter().find(|(name, _)| *name == unit)?;
                if factor >= largest {
                    return None;
                }
                largest = factor;
                milliseconds = milliseconds.checked_add(number.checked_mul(factor)?)?;
                rest = tail.trim_start();
            }
            Some(milliseconds)
        };
        parse().map(Self::from_millis).ok_or_else(|| UnitError::Duration(text.to_owned()))
    }
}

impl FromStr for ByteSize {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let parse = || {
            let (number, unit) = take_number(text.trim())?;
            let &(_, factor) = BYTE_UNITS.iter().find(|(name, _)| *name == unit)?;
            number.checked_mul(factor)
        };
        parse().map(Self).ok_or_else(|| UnitError::ByteSize(text.to_owned()))
    }
}

impl fmt::Display for Duration {
    /// The shortest form that [`FromStr`] reads back: `1h30m`. Fractions of a millisecond are left out.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_millis();
        if rest == 0 {
            return formatter.write_str("0s");
        }
        for (unit, factor) in MILLISECOND_UNITS {
            let number = rest / u128::from(factor);
            if number > 0 {
                write!(formatter, "{number}{unit}")?;
                rest %= u128::from(factor);
            }
        }
        Ok(())
    }
}

impl fmt::Display for ByteSize {
    /// In the largest unit that divides it without rest, so that nothing is rounded.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, factor) in BYTE_UNITS {
            if self.0 >= factor && self.0.is_multiple_of(factor) {
                return write!(formatter, "{}{unit}", self.0 / factor);
            }
        }
        formatter.write_str("0B")
    }
}

macro_rules! serde_as_text {
    ($type:ty) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    };
}

serde_as_text!(Duration);
serde_as_text!(ByteSize);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_read_as_people_write_them() {
        for (text, milliseconds) in [
            ("3s", 3_000),
            ("250ms", 250),
            ("1m", 60_000),
            ("1h30m", 5_400_000),
            (" 1d 2h ", 93_600_000),
            ("0", 0),
            ("0s", 0),
        ] {
            assert_eq!(text.parse(), Ok(Duration::from_millis(milliseconds)), "{text:?}");
        }
        for text in
            ["", "3", "s", "3 fortnights", "-3s", "1.5s", "3s3s", "5m3d", "99999999999999999999s", "9999999999999999d"]
        {
            assert_eq!(text.parse::<Duration>(), Err(UnitError::Duration(text.to_owned())));
        }
    }

    #[test]
    fn sizes_read_as_people_write_them() {
        for (text, bytes) in [("0B", 0), ("512B", 512), ("64KiB", 65_536), ("10 MB", 10_000_000), ("1GiB", 1 << 30)] {
            assert_eq!(text.parse(), Ok(ByteSize::from_bytes(bytes)), "{text:?}");
        }
        for text in ["", "64", "64K", "64kib", "-1B", "99999999999999GiB"] {
            assert_eq!(text.parse::<ByteSize>(), Err(UnitError::ByteSize(text.to_owned())));
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(milliseconds: u64, bytes: u64) {
            let duration = Duration::from_millis(milliseconds);
            prop_assert_eq!(duration.to_string().parse(), Ok(duration));
            let size = ByteSize::from_bytes(bytes);
            prop_assert_eq!(size.to_string().parse(), Ok(size));
        }
    }
}
