//! `egresswatch run`: the daemon in the foreground.

use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use super::{
    Error, Status,
    args::{LogFormat, RunArguments},
    output::Colours,
};
use crate::{
    config::Config,
    daemon::{self, RunOptions},
    kernel::{LoadError, StartError, system::System},
    sink::Format,
};

/// Environment variable that overrules what is told on standard error, in the syntax of `tracing`'s `EnvFilter`.
const LOG_VARIABLE: &str = "EGRESSWATCH_LOG";

/// Monitors until SIGTERM or SIGINT.
pub(super) fn execute(arguments: &RunArguments, colours: Colours) -> Result<Status, Error> {
    let (mut config, file) = Config::load(arguments.config.as_deref())?;
    let options = apply(arguments, &mut config)?;
    start_log(arguments, colours.stderr);
    if let Some(file) = file {
        tracing::info!(file = %file.display(), "configuration read");
    }
    require_privileges()?;
    daemon::run(&config, &options)?;
    Ok(Status::Success)
}

/// Says which privilege is missing before anything else fails for want of it.
fn require_privileges() -> Result<(), daemon::Error> {
    let missing = System::read().missing_vital_capabilities().join(", ");
    if missing.is_empty() {
        return Ok(());
    }
    Err(StartError::Load(LoadError::Privilege { missing }).into())
}

/// Lays the command line over the configuration.
pub(super) fn apply(arguments: &RunArguments, config: &mut Config) -> Result<RunOptions, Error> {
    if let Some(rung) = arguments.rung {
        config.kernel.rung = rung;
    }
    Ok(RunOptions {
        // The daemon reads it again; where it is must not depend on a directory.
        config: arguments.config.as_deref().map(std::path::absolute).transpose()?,
        rung: arguments.rung,
        writes_flows: arguments.flows,
        stdout: arguments.json.then_some(Format::Json),
        file: arguments.output.as_deref().map(std::path::absolute).transpose()?,
        verbose_kernel: arguments.verbose > 1,
    })
}

/// Sends diagnostics to standard error, so that standard output holds records only.
fn start_log(arguments: &RunArguments, colour: bool) {
    let default = match arguments.verbose {
        0 => "warn,egresswatch=info",
        1 => "info,egresswatch=debug",
        _ => "debug,egresswatch=trace",
    };
    let filter = EnvFilter::try_from_env(LOG_VARIABLE).unwrap_or_else(|_| EnvFilter::new(default));
    let layer = fmt::layer().with_writer(std::io::stderr).with_ansi(colour);
    let registry = tracing_subscriber::registry().with(filter);
    // Fails only if somebody else's subscriber is there already, which then does the work.
    let _ = match arguments.log_format {
        LogFormat::Text => registry.with(layer.with_target(false)).try_init(),
        LogFormat::Json => registry.with(layer.json()).try_init(),
    };
}
