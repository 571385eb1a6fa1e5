//! The arguments as they are written. What they mean is decided by each command.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};

use super::{filter::Filter, lookup::Target};
use crate::{control, data::Source, kernel::RungChoice, ownership::import::Format, units::Duration};

const AFTER_HELP: &str = "\
Exit codes:
  0  done
  1  something failed while running
  2  the command line cannot be understood
  3  the configuration, a list or a rule is wrong
  4  a privilege is missing
  5  this kernel or system cannot run the monitor";

/// Says which program on this host sends how much to whose network.
///
/// EgressWatch attaches eBPF programs to the kernel's socket hooks, joins every outbound flow with the process behind
/// it, the owner of the remote address and the lists that name that owner, and writes one record when a program
/// contacts a listed owner.
#[derive(Debug, Parser)]
#[command(name = "egresswatch", version, after_help = AFTER_HELP, max_term_width = 100)]
#[command(disable_help_subcommand = true)]
pub(super) struct Arguments {
    /// When to use colours; NO_COLOR is honoured
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    pub(super) color: ColorChoice,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum ColorChoice {
    // Not documented one by one: the choices explain themselves, and every command's help shows them.
    #[default]
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    Run(RunArguments),
    Lookup(LookupArguments),
    Lists(ListsArguments),
    Status(StatusArguments),
    Alerts(AlertsArguments),
    Flows(FlowsArguments),
    Reload(ReloadArguments),
    Doctor(DoctorArguments),
    Coverage(CoverageArguments),
    Data(DataArguments),
    Check(CheckArguments),
    TestRules(TestRulesArguments),
    /// Print the default configuration, with comments
    Config,
    Completions(CompletionsArguments),
    /// Print the man page
    #[command(hide = true)]
    Man,
}

/// Monitor this host until SIGTERM or SIGINT
///
/// Writes alerts, and with --flows every flow, to standard output: lines for people on a terminal, JSON Lines on a
/// pipe. Diagnostics go to standard error. SIGHUP reloads; one that comes because the terminal was closed stops. Needs
/// root, or CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN; `egresswatch doctor` says what this host gives.
#[derive(Args, Debug)]
pub(super) struct RunArguments {
    /// Configuration file, which must exist [default: /etc/egresswatch/config.toml if it exists]
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) config: Option<PathBuf>,
    /// Also write every flow that ends, and long ones on a schedule
    #[arg(long)]
    pub(super) flows: bool,
    /// Write JSON Lines to standard output, also on a terminal
    #[arg(long)]
    pub(super) json: bool,
    /// Append JSON Lines to FILE; on a terminal, lines for people go on
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) output: Option<PathBuf>,
    /// Which kernel programs to attach, whatever the configuration says
    #[arg(long, value_enum, value_name = "RUNG")]
    pub(super) rung: Option<RungChoice>,
    /// Tell more on standard error; twice also what the kernel programs do
    #[arg(long, short, action = clap::ArgAction::Count)]
    pub(super) verbose: u8,
    /// Form of the diagnostics on standard error
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(super) log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    /// Lines for people
    #[default]
    Text,
    /// JSON Lines
    Json,
}

/// Say who owns an address or network, and which lists name it or a domain
///
/// Answers from the data in force and never asks the network: no name is resolved. Lists that are switched off are looked
/// at too, and marked.
#[derive(Args, Debug)]
pub(super) struct LookupArguments {
    /// An address, an AS number (AS9808 or 9808) or a domain name
    #[arg(value_name = "ADDRESS|ASN|NAME")]
    pub(super) target: Target,
    /// Write one JSON object
    #[arg(long)]
    pub(super) json: bool,
    /// Configuration file, for its lists [default: /etc/egresswatch/config.toml if it exists]
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) config: Option<PathBuf>,
}

/// Show the lists of flagged infrastructure, or what one of them holds
#[derive(Args, Debug)]
pub(super) struct ListsArguments {
    /// Id of a list
    #[arg(value_name = "LIST")]
    pub(super) list: Option<String>,
    /// Write JSON Lines, one object a list; of one list also its entries
    #[arg(long)]
    pub(super) json: bool,
    /// Configuration file, for its lists [default: /etc/egresswatch/config.toml if it exists]
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) config: Option<PathBuf>,
}

/// Show how the running daemon is
///
/// What is attached, what does not work and how to mend it, losses, lists and data with their dates, the last reload and
/// the outputs.
#[derive(Args, Debug)]
pub(super) struct StatusArguments {
    /// Write one JSON object
    #[arg(long)]
    pub(super) json: bool,
    /// The daemon's socket
    #[arg(long, value_name = "PATH", default_value = control::DEFAULT_SOCKET, value_hint = ValueHint::FilePath)]
    pub(super) socket: PathBuf,
}

/// Show the last alerts of the running daemon
///
/// The daemon keeps the last 1,000 of its run; its outputs have them all.
#[derive(Args, Debug)]
pub(super) struct AlertsArguments {
    /// Go on, and show each alert when it is told
    #[arg(long, short)]
    pub(super) follow: bool,
    /// Only those of the last while, such as 90s, 15m, 1h or 7d
    #[arg(long, value_name = "SPAN")]
    pub(super) since: Option<Duration>,
    /// Only those that meet a condition on a field: process.name=curl, egresswatch.lists~ofac, source.bytes>1000; may be
    /// given several times, and then all have to be met
    #[arg(long, value_name = "CONDITION")]
    pub(super) filter: Vec<Filter>,
    /// Write JSON Lines, one record an alert
    #[arg(long)]
    pub(super) json: bool,
    /// The daemon's socket
    #[arg(long, value_name = "PATH", default_value = control::DEFAULT_SOCKET, value_hint = ValueHint::FilePath)]
    pub(super) socket: PathBuf,
}

/// Show the live flows of the running daemon
///
/// The flow that moved the most bytes comes first.
#[derive(Args, Debug)]
pub(super) struct FlowsArguments {
    /// Only those that meet a condition on a field, as in `egresswatch alerts`
    #[arg(long, value_name = "CONDITION")]
    pub(super) filter: Vec<Filter>,
    /// Write JSON Lines, one record a flow
    #[arg(long)]
    pub(super) json: bool,
    /// The daemon's socket
    #[arg(long, value_name = "PATH", default_value = control::DEFAULT_SOCKET, value_hint = ValueHint::FilePath)]
    pub(super) socket: PathBuf,
}

/// Let the running daemon take its configuration, lists and data in anew
///
/// The daemon does so by itself when one of the files changes, and on SIGHUP. No connection is missed. If anything is
/// wrong, all of it is said, what was in force stays, and the exit code is 3.
#[derive(Args, Debug)]
pub(super) struct ReloadArguments {
    /// Write one JSON object
    #[arg(long)]
    pub(super) json: bool,
    /// The daemon's socket
    #[arg(long, value_name = "PATH", default_value = control::DEFAULT_SOCKET, value_hint = ValueHint::FilePath)]
    pub(super) socket: PathBuf,
}

/// Say what this host gives the monitor, what is missing and what to do
///
/// The exit code is 0 if the monitor can run, be it degraded.
#[derive(Args, Debug)]
pub(super) struct DoctorArguments {
    /// Write one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

/// Say which ways to send are seen on this host, and which are not
///
/// The table is that of docs/coverage.md, for this kernel. Each row is proven by a kernel test.
#[derive(Args, Debug)]
pub(super) struct CoverageArguments {
    /// Write one JSON object, with every rung
    #[arg(long)]
    pub(super) json: bool,
}

/// See and replace the data about who owns addresses
///
/// The embedded table is in force until data are imported. Running daemons take another table in at once.
#[derive(Args, Debug)]
pub(super) struct DataArguments {
    #[command(subcommand)]
    pub(super) command: DataCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum DataCommand {
    Info(DataInfoArguments),
    Import(DataImportArguments),
    Update(DataUpdateArguments),
}

/// Say which table is in force, of which day and of what it was made
#[derive(Args, Debug)]
pub(super) struct DataInfoArguments {
    /// Write one JSON object
    #[arg(long)]
    pub(super) json: bool,
    /// Configuration file [default: /etc/egresswatch/config.toml if it exists]
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) config: Option<PathBuf>,
}

/// Make a table of files that you have, and put it in force
///
/// Reads MMDB files (GeoLite2, DB-IP, IPinfo, IPLocate and the like), iptoasn's TSV, CSV with ranges or prefixes, pyasn's
/// .dat files and tables of this program, plain or packed with gzip or Zstandard; docs/ownership-data.md describes them.
/// For each fact the first file that has it counts; the embedded table comes last. The table replaces the one before only
/// if it knows the anchors, and at once or not at all; the one before is kept.
#[derive(Args, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(super) struct DataImportArguments {
    /// Files, in the order in which they count. asn,organisation=FILE takes only that of a file; there are asn,
    /// organisation, as-country and registered-country
    #[arg(value_name = "[FACTS=]FILE", required_unless_present = "rollback", value_hint = ValueHint::FilePath)]
    pub(super) files: Vec<Source>,
    /// Form of the files, where their content is not to tell it
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub(super) format: Option<Format>,
    /// Date of the data [default: that of the oldest file with networks]
    #[arg(long, value_name = "DATE")]
    pub(super) date: Option<jiff::civil::Date>,
    /// Take nothing from the embedded table: what the files do not say is not known
    #[arg(long)]
    pub(super) alone: bool,
    /// Say what would be, and change nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Bring back the table before; once more undoes it
    #[arg(long, conflicts_with_all = ["files", "format", "date", "alone", "dry_run"])]
    pub(super) rollback: bool,
    /// Where to write the table [default: data.table of the configuration]
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) output: Option<PathBuf>,
    /// Write one JSON object
    #[arg(long)]
    pub(super) json: bool,
    /// Configuration file [default: /etc/egresswatch/config.toml if it exists]
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) config: Option<PathBuf>,
}

/// Import from data.sources of the configuration
///
/// Addresses among them are fetched, if they changed; without any, nothing is asked of the network. All else is as with
/// `egresswatch data import`. deploy/systemd has a timer for it.
#[derive(Args, Debug)]
pub(super) struct DataUpdateArguments {
    /// Say what would be, and change nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Write one JSON object
    #[arg(long)]
    pub(super) json: bool,
    /// Configuration file [default: /etc/egresswatch/config.toml if it exists]
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) config: Option<PathBuf>,
}

/// Check a configuration file, and the lists, rules, certificates and secrets that it names
///
/// Nothing is connected to, unless --connect says so, and nothing is written. What only the daemon can read, such as its
/// environment, is noted.
#[derive(Args, Debug)]
pub(super) struct CheckArguments {
    /// The file [default: /etc/egresswatch/config.toml if it exists]
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) file: Option<PathBuf>,
    /// Also connect to every output and to every server that lists are fetched from, and say what answered; no record is
    /// sent
    #[arg(long)]
    pub(super) connect: bool,
    /// Write one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

/// Run recorded flows through lists and rules, and say which would have told of what
///
/// FILE holds what `egresswatch run --flows --json` wrote. Each flow is matched anew with the lists of the configuration,
/// by its address, owner and names as they were recorded, and judged by rules, thresholds, suppressions and times of
/// maintenance, as of the times of the records; what lists tell is summed up as it is live. Every contact counts as a
/// first one, because nothing is known before the first record. Nothing is looked up anew: what a record lacks, such as
/// the hash of an executable that was not read, is unknown. docs/rules.md says more.
///
/// The exit code is 0 if every line could be read and at least one is of a flow, whether something would be told or not;
/// 1 if not; 3 if a rule or a list is wrong.
#[derive(Args, Debug)]
pub(super) struct TestRulesArguments {
    /// Rules instead of those that the configuration names: a file, or a directory of *.toml; may be repeated
    #[arg(long, value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub(super) rules: Vec<PathBuf>,
    /// Id of a rule of --rules to switch on, over what its file says; may be repeated
    #[arg(long, value_name = "RULE", requires = "rules")]
    pub(super) enable: Vec<String>,
    /// Recorded flows as JSON Lines; - for standard input
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) replay: PathBuf,
    /// Write JSON Lines: one object an alert, and one with the sums
    #[arg(long)]
    pub(super) json: bool,
    /// Configuration file, for its lists and rules [default: /etc/egresswatch/config.toml if it exists]
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) config: Option<PathBuf>,
}

/// Print completions for a shell
///
/// For bash: egresswatch completions bash > /etc/bash_completion.d/egresswatch
#[derive(Args, Debug)]
pub(super) struct CompletionsArguments {
    /// The shell
    #[arg(value_enum)]
    pub(super) shell: clap_complete::Shell,
}
