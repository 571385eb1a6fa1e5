//! The one record we emit, and its forms: ECS JSON, OCSF and CEF for machines, lines for people.
//!
//! Everything here is pure: it is given times and facts and gives back a [`Record`], JSON or text. What an alert, a
//! flow, a loss, a degradation and the monitor's own life have in common is one set of fields, so that a reader needs
//! one schema (`docs/event-schema.json`, `docs/events.md`).

pub mod build;
pub mod cef;
mod community;
pub mod human;
pub mod input;
mod loss_reasons;
pub mod ocsf;
pub mod record;
pub mod schema;
mod sentence;
pub mod text;
pub mod time;

#[cfg(test)]
pub(crate) mod example;
#[cfg(test)]
pub(crate) mod tests;

pub use build::RecordBuilder;
pub use community::community_id;
pub use record::Record;
pub use time::{Timestamp, WallClock};
