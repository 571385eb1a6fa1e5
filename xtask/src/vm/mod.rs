//! Runs the kernel tests on other kernels: Debian's, under QEMU, from nothing but a kernel and an initramfs.

mod guest;
mod initramfs;
mod kernel;
pub(crate) mod systemd;

use std::cmp::Reverse;
use std::path::PathBuf;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use crate::root_test::RootTest;
use crate::setup::{self, Part};
use crate::ui::{self, Outcome, Summary};
use crate::workspace::Workspace;
use kernel::{Kernel, Line};

/// Emulation is slow, and two guests at a time are what two processors bear.
const JOBS: usize = 2;

/// A guest that takes longer hangs.
const TIMEOUT_SECONDS: u64 = 1_800;

/// Arguments of `cargo xtask vm`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Every kernel of the matrix; this is what happens without any option
    #[arg(long, conflicts_with = "kernel")]
    all: bool,
    /// Only this kernel (may be given several times)
    #[arg(long, value_enum)]
    kernel: Vec<Line>,
    /// Ask the mirror for newer point releases of kernels that are already cached
    #[arg(long)]
    refresh: bool,
    /// How many guests run at the same time
    #[arg(long, default_value_t = JOBS, value_name = "COUNT")]
    jobs: usize,
    /// Seconds a guest may take
    #[arg(long, default_value_t = TIMEOUT_SECONDS, value_name = "SECONDS")]
    timeout: u64,
    /// A folder with `kernel-tests` and `egresswatch` to run instead of building them
    #[arg(long, value_name = "FOLDER")]
    payload: Option<PathBuf>,
    /// Arguments of the test program: a filter, or options such as --nocapture
    #[arg(last = true)]
    forwarded: Vec<String>,
}

impl Default for Arguments {
    fn default() -> Self {
        Self {
            all: true,
            kernel: Vec::new(),
            refresh: false,
            jobs: JOBS,
            timeout: TIMEOUT_SECONDS,
            payload: None,
            forwarded: Vec::new(),
        }
    }
}

/// Runs the command.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let lines = if arguments.kernel.is_empty() { &Line::ALL } else { arguments.kernel.as_slice() };
    let plan = Plan {
        refresh: arguments.refresh,
        jobs: arguments.jobs.max(1),
        timeout: Duration::from_secs(arguments.timeout),
        test_arguments: &arguments.forwarded,
    };
    ensure_host()?;
    setup::ensure(workspace, &[Part::Vm])?;
    let payload = match &arguments.payload {
        Some(folder) => RootTest::in_folder(folder)?,
        None => ui::step("build the kernel tests", || RootTest::build(workspace, "kernel"))?,
    };
    matrix(workspace, lines, &payload, &plan)
}

/// How the guests are run.
struct Plan<'a> {
    refresh: bool,
    jobs: usize,
    timeout: Duration,
    test_arguments: &'a [String],
}

fn ensure_host() -> Result<()> {
    ensure!(
        cfg!(target_arch = "x86_64"),
        "the guests are x86_64 machines and their test programs are built on an x86_64 host: run this there"
    );
    Ok(())
}

fn matrix(workspace: &Workspace, lines: &[Line], payload: &RootTest, plan: &Plan<'_>) -> Result<()> {
    // The downloads come first and one after another: apt's progress and errors stay readable.
    let mut kernels = Vec::new();
    let mut summary = Summary::default();
    for line in lines {
        let start = Instant::now();
        match Kernel::fetch(workspace, *line, plan.refresh) {
            Ok(kernel) => kernels.push(kernel),
            Err(error) => {
                ui::say(&format!("error: {error:#}"));
                summary.note(&format!("kernel {line}"), start.elapsed(), Outcome::failed(&error));
            }
        }
    }

    // Those that take longest run beside each other, and none of them by itself at the end.
    kernels.sort_by_key(|kernel| Reverse(kernel.line.rungs_shown()));
    let mut rows = ui::step(&format!("run the kernel tests in {} guests", kernels.len()), || {
        Ok(run_in_parallel(&kernels, plan.jobs, |kernel| boot(workspace, kernel, payload, plan)))
    })?;
    rows.sort_by_key(|(kernel, ..)| kernel.line);
    for (kernel, took, result) in rows {
        let (outcome, note) = match result {
            Ok(report) => (Outcome::Passed, report.summary()),
            Err(error) => {
                ui::say(&format!("error: {}: {error:#}", kernel.line));
                (Outcome::failed(&error), String::new())
            }
        };
        summary.note(&format!("kernel {} ({}){note}", kernel.line, kernel.release), took, outcome);
    }
    summary.finish("the kernel matrix")
}

/// Boots one guest and judges what it did.
fn boot(workspace: &Workspace, kernel: &Kernel, payload: &RootTest, plan: &Plan<'_>) -> Result<guest::Report> {
    let folder = workspace.target("vm/guests").join(kernel.line.to_string());
    // Who asks for certain tests gets them all.
    let image = if plan.test_arguments.is_empty() {
        let arguments: Vec<_> = kernel.line.without_needless_rungs().iter().map(|text| (*text).to_owned()).collect();
        initramfs::write(&folder, kernel, payload, &arguments)?
    } else {
        initramfs::write(&folder, kernel, payload, plan.test_arguments)?
    };
    let report = guest::boot(&folder, kernel, &image, plan.timeout)?;
    if let Some(line) = &report.crash {
        bail!("the kernel crashed: {line} (whole console: {})", report.console.display());
    }
    match report.exit_code {
        Some(0) => Ok(report),
        Some(code) => bail!(
            "the tests failed with exit code {code}: {} (whole console: {})",
            report.failed.join(", "),
            report.console.display()
        ),
        None => bail!("the guest ended without an exit code (whole console: {})", report.console.display()),
    }
}

/// Does the work for every item with so many threads; the results keep the order of the items.
fn run_in_parallel<'items, T: Sync, R: Send>(
    items: &'items [T],
    jobs: usize,
    work: impl Fn(&'items T) -> R + Sync,
) -> Vec<(&'items T, Duration, R)> {
    let queue = Mutex::new(items.iter().enumerate());
    let results = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    // The lock is let go before the work starts.
                    let next = queue.lock().map(|mut queue| queue.next());
                    let Ok(Some((index, item))) = next else { return };
                    let start = Instant::now();
                    let result = work(item);
                    if let Ok(mut results) = results.lock() {
                        results.push((index, item, start.elapsed(), result));
                    }
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    results.sort_by_key(|(index, ..)| *index);
    results.into_iter().map(|(_, item, took, result)| (item, took, result)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parallel_results_keep_the_order_and_miss_nothing() {
        let items: Vec<u64> = (0..20).collect();
        for jobs in [1, 2, 7, 50] {
            let squares: Vec<_> = run_in_parallel(&items, jobs, |item| item * item)
                .into_iter()
                .map(|(item, _, square)| (*item, square))
                .collect();
            assert_eq!(squares, items.iter().map(|item| (*item, item * item)).collect::<Vec<_>>(), "{jobs} jobs");
        }
    }
}
