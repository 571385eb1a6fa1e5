//! EgressWatch: which program sends how much to whose network.
//!
//! Stages run in one direction, kernel to sink; see ARCHITECTURE.md.

pub mod alert;
mod bounded;
pub mod cli;
pub mod config;
pub mod containers;
pub mod control;
pub mod coverage;
pub mod daemon;
pub mod data;
mod database;
pub mod decode;
pub mod doctor;
mod download;
pub mod event;
pub mod executables;
pub mod host;
mod inside;
pub mod kernel;
pub mod limits;
mod memory;
pub mod metrics;
mod mistakes;
pub mod names;
pub mod ownership;
pub mod pipeline;
pub mod policy;
pub mod process;
mod procfs;
mod recent;
pub mod sink;
pub mod units;
