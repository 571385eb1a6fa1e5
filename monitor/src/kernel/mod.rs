//! The kernel side as the daemon sees it.

mod config;

pub use config::{Config, RungChoice};
