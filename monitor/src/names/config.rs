//! What of this stage can be configured.

use std::num::NonZeroUsize;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::{ByteSize, Duration};

/// Limits of what is remembered of names: `[names]` in the configuration file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How long a DNS answer names an address. Programs keep answers longer than the answers allow; records tell the age
    /// and the time to live of each.
    #[schemars(with = "String")]
    pub keep: Duration,
    /// Most addresses whose names are remembered. The longest unused one is forgotten first, and counted.
    pub max_addresses: NonZeroUsize,
    /// Most flows whose own names are remembered. The longest unused one is forgotten first, and counted.
    pub max_flows: NonZeroUsize,
    /// Most flows whose first bytes are waited for at a time. The longest silent one is given up first, and counted.
    pub max_openings: NonZeroUsize,
    /// Most captured bytes held at a time, of all flows.
    #[schemars(with = "String")]
    pub opening_memory: ByteSize,
}

impl Default for Config {
    fn default() -> Self {
        let size = |number| NonZeroUsize::new(number).unwrap_or(NonZeroUsize::MIN);
        Self {
            keep: Duration::from_secs(24 * 3_600),
            max_addresses: size(16_384),
            max_flows: size(16_384),
            max_openings: size(1_024),
            opening_memory: ByteSize::from_bytes(2 << 20),
        }
    }
}
