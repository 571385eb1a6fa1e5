//! What is known to be good, and when nobody wants to be told.

use std::sync::Arc;

use jiff::{Timestamp, ZonedDateTime, civil::Date};

use super::facts::{Facts, weekday};

/// `[[suppress]]`: a flow that all of its keys fit gives no alert.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Suppression {
    pub(super) reason: Option<Arc<str>>,
    pub(super) sha256: Option<String>,
    pub(super) executable: Option<String>,
    pub(super) package: Option<String>,
    pub(super) unit: Option<String>,
    pub(super) image: Option<String>,
    pub(super) namespace: Option<String>,
    pub(super) asn: Option<u32>,
    pub(super) organisation: Option<String>,
    pub(super) list: Option<String>,
    pub(super) rule: Option<String>,
    /// It holds until the end of this day, UTC.
    pub(super) expires: Option<Date>,
    /// File and line.
    pub(super) place: String,
}

/// What would alert.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ground<'a> {
    Rule(&'a str),
    List(&'a str),
}

impl Suppression {
    pub(super) const fn is_empty(&self) -> bool {
        self.sha256.is_none()
            && self.executable.is_none()
            && self.package.is_none()
            && self.unit.is_none()
            && self.image.is_none()
            && self.namespace.is_none()
            && self.asn.is_none()
            && self.organisation.is_none()
            && self.list.is_none()
            && self.rule.is_none()
    }

    /// Whether it needs the executable to be read.
    pub(super) const fn needs_file(&self) -> bool {
        self.sha256.is_some() || self.package.is_some()
    }

    pub(super) fn has_expired(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|last| now.to_zoned_datetime(jiff::tz::TimeZone::UTC).date() > last)
    }

    /// Whether it fits. What is unknown fits nothing.
    pub(super) fn fits(&self, facts: &Facts<'_>, ground: Ground<'_>) -> bool {
        let is =
            |wanted: &Option<String>, known: Option<&str>| wanted.as_deref().is_none_or(|wanted| known == Some(wanted));
        let (rule, list) = match ground {
            Ground::Rule(id) => (Some(id), None),
            Ground::List(id) => (None, Some(id)),
        };
        is(&self.sha256, facts.sha256.as_deref())
            && is(&self.executable, facts.executable.as_deref())
            && is(&self.package, facts.package.as_deref())
            && is(&self.unit, facts.unit.as_deref())
            && is(&self.image, facts.container_image.as_deref())
            && is(&self.namespace, facts.namespace.as_deref())
            && self.asn.is_none_or(|asn| facts.asn == Some(asn))
            && is(&self.organisation, facts.organisation.as_deref())
            && is(&self.list, list)
            && is(&self.rule, rule)
            && !self.has_expired(facts.wall)
    }
}

/// `[[maintenance]]`: on these days, between these times of this host's zone, alerts are counted and told afterwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Maintenance {
    pub(super) reason: Option<Arc<str>>,
    /// Names of days; none means every day.
    pub(super) days: Vec<&'static str>,
    /// Hour, minute and second.
    pub(super) from: (u8, u8, u8),
    pub(super) to: (u8, u8, u8),
    /// Ids of rules and lists; none means all.
    pub(super) rules: Vec<String>,
}

impl Maintenance {
    /// Whether `moment` lies in it. A window that ends before it begins goes over midnight and belongs to the day on
    /// which it began.
    pub(super) fn holds(&self, moment: &ZonedDateTime, ground: Ground<'_>) -> bool {
        let (Ground::Rule(id) | Ground::List(id)) = ground;
        if !self.rules.is_empty() && !self.rules.iter().any(|rule| rule == id) {
            return false;
        }
        let now = [moment.hour(), moment.minute(), moment.second()].map(i8::unsigned_abs).into();
        let is_day = |moment: &ZonedDateTime| self.days.is_empty() || self.days.contains(&weekday(moment));
        if self.from <= self.to {
            return is_day(moment) && self.from <= now && now < self.to;
        }
        if now >= self.from {
            return is_day(moment);
        }
        now < self.to && moment.yesterday().is_ok_and(|yesterday| is_day(&yesterday))
    }
}
