//! Putting the stages together.

use std::{sync::Arc, thread};

use jiff::tz::TimeZone;
use tokio::sync::Notify;

use super::{
    Error, RunOptions,
    baseline::{self, Opened},
    policy::{Policy, list_states},
};
use crate::{
    alert::RecordBuilder,
    config::Config,
    containers::Containers,
    executables::Executables,
    host,
    kernel::{Kernel, system::System},
    limits::FlowBounds,
    metrics::ListState,
    names::Names,
    ownership,
    pipeline::Pipeline,
    policy::{feeds, rules::Baseline},
    process,
};

/// What runs.
pub(super) struct Stages {
    pub(super) kernel: Kernel,
    pub(super) pipeline: Pipeline,
    /// Tells of executables and containers that have been read.
    pub(super) facts_read: Arc<Notify>,
    pub(super) records: Arc<RecordBuilder>,
    pub(super) ownership_date: jiff::civil::Date,
    /// Why imported ownership data are not in force.
    pub(super) ownership_trouble: Option<String>,
    pub(super) enabled_lists: u64,
    /// The same with their dates.
    pub(super) lists: Vec<ListState>,
    /// How the lists of `[lists]` are.
    pub(super) feeds: Vec<feeds::State>,
    /// Flows that the kernel's two tables hold at most.
    pub(super) flow_capacity: usize,
    /// Keeps the contacts that rules learn.
    pub(super) baseline: Option<baseline::Keeper>,
    /// A damaged file of theirs.
    pub(super) baseline_put_aside: Option<baseline::PutAside>,
    // After the pipeline: they are waited for, and end when the pipeline has gone.
    _readers: Vec<Reader>,
}

/// A thread that reads what files say. Dropping it waits for its end.
struct Reader(Option<thread::JoinHandle<()>>);

impl Reader {
    fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<Self, Error> {
        let thread = thread::Builder::new().name(name.to_owned()).spawn(run).map_err(Error::Runtime)?;
        Ok(Self(Some(thread)))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if self.0.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("a thread that reads executables or containers panicked");
        }
    }
}

/// Loads data and lists, starts the kernel side, and seeds the process table.
pub(super) fn stages(
    config: &Config,
    options: &RunOptions,
    system: &System,
    records: Arc<RecordBuilder>,
    flow_bounds: FlowBounds,
) -> Result<Stages, Error> {
    let (policy, ownership_trouble) = Policy::read_at_start(config)?;
    let Policy { ownership, lists, rules, feeds, prefixes, enabled_lists } = policy;
    if let Some(trouble) = &ownership_trouble {
        tracing::error!(error = trouble, "the embedded ownership data are in force");
    }
    tracing::info!(
        ipv4_prefixes = prefixes.ipv4.len(),
        ipv6_prefixes = prefixes.ipv6.len(),
        lists = enabled_lists,
        rules = rules.headers().filter(|header| header.enabled).count(),
        "flagged prefixes"
    );
    let opened = if rules.needs_baseline() { Some(baseline::open(&config.policy)?) } else { None };
    let kernel = Kernel::start(&config.kernel, system, &prefixes, options.verbose_kernel)?;
    // The kernel side keeps a copy of its own.
    drop(prefixes);
    let list_states = list_states(&lists);
    let flow_capacity = (config.kernel.flow_table_entries as usize) + (config.kernel.flagged_table_entries as usize);
    let ownership_date = ownership::OwnerLookup::data_date(&ownership);
    let mut flows = config.flows.clone();
    flows.write |= options.writes_flows;
    let roots = process::Roots { cgroup: Some(kernel.cgroup.clone()), ..process::Roots::default() };
    // Declared before what asks them, so that a failure below lets go of that first: until then they do not end.
    let mut readers = Vec::new();
    let (executables, reader) = Executables::new(&config.executables, roots.proc.clone());
    let (containers, container_reader) = Containers::new(&config.containers, roots.proc.clone());
    let facts_read = Arc::new(Notify::new());
    let [of_files, of_containers] = [Arc::clone(&facts_read), Arc::clone(&facts_read)];
    readers.push(Reader::spawn("executables", move || reader.run(|| of_files.notify_one()))?);
    readers.push(Reader::spawn("containers", move || container_reader.run(|| of_containers.notify_one()))?);
    let (baseline, baseline_keeper, baseline_put_aside) = match opened {
        Some(Opened { baseline, keeper, put_aside }) => (baseline, Some(keeper), put_aside),
        None => (Baseline::default(), None, None),
    };
    let pipeline = Pipeline::new(
        flows,
        process_table(config, roots)?,
        Box::new(ownership),
        lists,
        &config.policy,
        Arc::clone(&records),
        host::wall_clock(),
    )
    .with_rules(rules, baseline, TimeZone::system())
    .with_flow_bounds(flow_bounds)
    .with_names(Names::new(&config.names))
    .with_executables(executables, config.executables.wait)
    .with_containers(containers);
    Ok(Stages {
        kernel,
        pipeline,
        facts_read,
        baseline: baseline_keeper,
        baseline_put_aside,
        _readers: readers,
        records,
        ownership_date,
        ownership_trouble,
        enabled_lists,
        lists: list_states,
        feeds,
        flow_capacity,
    })
}

fn process_table(config: &Config, roots: process::Roots) -> Result<process::Table, Error> {
    let host = process::HostFacts::read(&roots)?;
    let mut table = process::Table::new(roots, host, &config.process);
    let processes = table.seed()?;
    tracing::info!(processes, "seeded the process table");
    Ok(table)
}
