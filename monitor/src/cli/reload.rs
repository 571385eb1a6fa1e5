//! `egresswatch reload`: lets a running daemon take its files in anew.

use std::io;

use super::{Error, Output, Status, args::ReloadArguments};
use crate::{
    alert::text::printable,
    control::{self, ClientError, ReloadAnswer, Request},
};

/// Asks the daemon to reload and says how that went.
pub(super) fn execute(arguments: &ReloadArguments, output: &mut Output<'_>) -> Result<Status, Error> {
    let mut lines = control::ask(&arguments.socket, Request::Reload)?;
    let broken = |source| ClientError::Broken { socket: arguments.socket.clone(), source };
    let line = lines.next().ok_or_else(|| broken(io::ErrorKind::UnexpectedEof.into()))??;
    let answer = serde_json::from_str(&line).map_err(|error| broken(error.into()))?;
    if arguments.json {
        output.line(&line)?;
    }
    match answer {
        ReloadAnswer::Refused { error, is_configuration } => Err(Error::NotReloaded { error, is_configuration }),
        ReloadAnswer::Done { .. } if arguments.json => Ok(Status::Success),
        ReloadAnswer::Done { generation, enabled_lists, left_out, needs_restart, list_troubles } => {
            let done = output.good("reloaded");
            output.line(format_args!("{done}: policy number {generation} is in force, with {enabled_lists} lists"))?;
            if left_out > 0 {
                let label = output.fair("degraded:");
                output.line(format_args!(
                    "{label} {left_out} flagged prefixes found no room in the kernel; alerts on them come up to half a \
                     second later until a restart"
                ))?;
            }
            for trouble in &list_troubles {
                output.line(format_args!("{} {}", output.fair("note:"), printable(trouble)))?;
            }
            if !needs_restart.is_empty() {
                let label = output.fair("needs a restart:");
                output.line(format_args!("{label} {}", needs_restart.join(", ")))?;
            }
            Ok(Status::Success)
        }
    }
}
