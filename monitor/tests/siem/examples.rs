//! Every configuration in `deploy/siem` is one that the daemon reads.

use std::fs;

use anyhow::{Result, ensure};
use egresswatch::config::Config;

use crate::{Case, support::package_file};

pub(crate) const CASES: &[Case] = &[Case { name: "examples::are_read", missing: || None, test: read }];

fn read() -> Result<()> {
    let mut read = 0;
    for entry in fs::read_dir(package_file("../deploy/siem"))? {
        let path = entry?.path().join("egresswatch.toml");
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let config = Config::parse(&text, &path.display().to_string())?;
        ensure!(config.outputs.len() == 1, "{} has {} outputs", path.display(), config.outputs.len());
        read += 1;
    }
    ensure!(read >= 10, "only {read} configurations are there");
    Ok(())
}
