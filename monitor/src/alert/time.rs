//! Wall-clock times of records, and the way there from the kernel's clock.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

use crate::event::BootTime;

/// A moment on the wall clock, written as RFC 3339 in UTC with nanoseconds: `2026-11-23T11:03:04.000000000Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(jiff::Timestamp);

impl Timestamp {
    /// From nanoseconds since the Unix epoch. A value no calendar can hold becomes the nearest one that it can.
    #[must_use]
    pub fn from_unix_ns(unix_ns: i128) -> Self {
        let bounded = unix_ns.clamp(jiff::Timestamp::MIN.as_nanosecond(), jiff::Timestamp::MAX.as_nanosecond());
        Self(jiff::Timestamp::from_nanosecond(bounded).unwrap_or_default())
    }

    /// Nanoseconds since the Unix epoch.
    #[must_use]
    pub fn unix_ns(self) -> i128 {
        self.0.as_nanosecond()
    }

    /// Hours, minutes and seconds in `time_zone`, for people.
    #[must_use]
    pub fn time_of_day(self, time_zone: &jiff::tz::TimeZone) -> String {
        self.0.to_zoned_datetime(time_zone.clone()).strftime("%H:%M:%S").to_string()
    }

    /// Date and time in `time_zone` with its offset from UTC, as in RFC 3339 to the second, for people:
    /// `2026-11-23T12:03:04+01:00`.
    #[must_use]
    pub fn with_offset(self, time_zone: &jiff::tz::TimeZone) -> String {
        self.0.to_zoned_datetime(time_zone.clone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
    }
}

impl From<Timestamp> for jiff::Timestamp {
    fn from(timestamp: Timestamp) -> Self {
        timestamp.0
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:.9}", self.0))
    }
}

impl JsonSchema for Timestamp {
    fn schema_name() -> Cow<'static, str> {
        "Timestamp".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "date-time" })
    }
}

/// What turns the kernel's boot clock into wall-clock time. The daemon measures it and renews it, because the wall
/// clock can be set while the boot clock runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WallClock {
    /// Nanoseconds since the Unix epoch at which the boot clock stood at 0.
    pub boot_wall_ns: i128,
}

impl WallClock {
    /// The wall-clock time of `boot_time`.
    #[must_use]
    pub fn at(self, boot_time: BootTime) -> Timestamp {
        Timestamp::from_unix_ns(self.boot_wall_ns.saturating_add(i128::from(boot_time.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::{Timestamp, WallClock};
    use crate::event::BootTime;

    #[test]
    fn boot_times_become_rfc_3339_in_utc() {
        let clock = WallClock { boot_wall_ns: 1_795_431_784_000_000_000 };
        let json = serde_json::to_string(&clock.at(BootTime(1_000_000_007))).expect("a timestamp is a string");
        assert_eq!(json, "\"2026-11-23T11:03:05.000000007Z\"");
    }

    #[test]
    fn times_beyond_the_calendar_are_bounded() {
        assert!(Timestamp::from_unix_ns(i128::MAX) > Timestamp::from_unix_ns(0));
        assert!(Timestamp::from_unix_ns(i128::MIN) < Timestamp::from_unix_ns(0));
    }
}
