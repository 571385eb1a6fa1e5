//! One QEMU guest: starts it, shows its console line by line, watches for crashes, reads the exit code.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::kernel::Kernel;
use crate::process;
use crate::ui;

/// What a guest did.
#[derive(Debug)]
pub(super) struct Report {
    /// The exit code of the tests; none if the guest never got that far.
    pub(super) exit_code: Option<i32>,
    /// The console line that told of a crash.
    pub(super) crash: Option<String>,
    /// The kernel's warnings.
    pub(super) warnings: Vec<String>,
    /// The test program's closing line.
    pub(super) result: Option<String>,
    /// The tests that failed.
    pub(super) failed: Vec<String>,
    /// The file that holds the whole console.
    pub(super) console: PathBuf,
}

impl Report {
    /// What the table says beside the kernel: the counts of the tests, and the kernel's warnings if there were any.
    pub(super) fn summary(&self) -> String {
        // test result: ok. 70 passed; 0 failed; 10 ignored; 0 measured; …
        let counts = self.result.as_deref().and_then(|line| line.split_once(". ")).map_or("", |(_, counts)| counts);
        let counts = counts
            .split("; ")
            .filter(|count| count.ends_with(" passed") || (count.ends_with(" ignored") && !count.starts_with("0 ")))
            .map(|count| format!(", {count}"));
        let warnings = (!self.warnings.is_empty()).then(|| format!(", {} kernel warnings", self.warnings.len()));
        counts.chain(warnings).collect()
    }
}

/// Boots the kernel with this initramfs and waits until it powers off, crashes or runs out of time.
///
/// A kernel that crashes before it ever started a program is booted once more: the emulator's processors sometimes see
/// the kernel's patching of its own instructions half done. A crash after that is never tried again.
pub(super) fn boot(folder: &Path, kernel: &Kernel, initramfs: &Path, timeout: Duration) -> Result<Report> {
    let (report, programs) = boot_once(folder, kernel, initramfs, timeout)?;
    let Some(crash) = report.crash.as_ref().filter(|_| !programs) else { return Ok(report) };
    // The next boot writes a console of its own; this one is the evidence.
    let kept = report.console.with_file_name("console-of-first-boot.log");
    fs::rename(&report.console, &kept).with_context(|| format!("cannot create {}", kept.display()))?;
    ui::say(&format!(
        "{} | booting again: the kernel crashed before it started a program: {crash} (whole console: {})",
        kernel.line,
        kept.display()
    ));
    Ok(boot_once(folder, kernel, initramfs, timeout)?.0)
}

/// Boots once; also tells whether the guest's kernel came as far as to start a program.
fn boot_once(folder: &Path, kernel: &Kernel, initramfs: &Path, timeout: Duration) -> Result<(Report, bool)> {
    let code_file = folder.join("exit-code");
    let console = folder.join("console.log");
    fs::write(&code_file, "").with_context(|| format!("cannot write {}", code_file.display()))?;
    let mut command = process::command("qemu-system-x86_64");
    command
        // Emulation everywhere: hosts that are guests themselves rarely have a working KVM, and results stay comparable.
        .args(["-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "3072"])
        .args(["-display", "none", "-no-reboot", "-nic", "none", "-monitor", "none", "-serial", "stdio"])
        .arg("-serial")
        .arg(format!("file:{}", code_file.display()))
        .arg("-kernel")
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(initramfs)
        // Level 5 shows the kernel's warnings and leaves its chatter out.
        .args(["-append", "console=ttyS0 loglevel=5 panic=-1 oops=panic"])
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit());
    ui::say(&format!("{} | $ {}", kernel.line, process::describe(&command)));
    let mut guest = Guest(command.spawn().context("cannot start qemu-system-x86_64")?);
    let watched = watch(&mut guest, kernel, &console, timeout)?;
    let code = fs::read_to_string(&code_file).unwrap_or_default();
    let report = Report {
        exit_code: code.trim().parse().ok(),
        crash: watched.crash,
        warnings: watched.warnings,
        result: watched.result,
        failed: watched.failed,
        console,
    };
    Ok((report, watched.programs))
}

/// A running QEMU that does not outlive this program's interest in it.
struct Guest(Child);

impl Drop for Guest {
    fn drop(&mut self) {
        // Both only fail when it has already ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[derive(Debug, Default)]
struct Watched {
    crash: Option<String>,
    warnings: Vec<String>,
    result: Option<String>,
    failed: Vec<String>,
    /// The last line that is not empty: where a guest hangs.
    last: String,
    /// The kernel has spoken.
    kernel: bool,
    /// Something else than the kernel has spoken after it.
    programs: bool,
}

/// Copies the console to the terminal and to a file until it closes or the time is over.
fn watch(guest: &mut Guest, kernel: &Kernel, console: &Path, timeout: Duration) -> Result<Watched> {
    let output = guest.0.stdout.take().context("QEMU has no output")?;
    let mut log = File::create(console).with_context(|| format!("cannot write {}", console.display()))?;
    let (sender, lines) = mpsc::sync_channel(64);
    let reader = thread::spawn(move || {
        for line in BufReader::new(output).split(b'\n') {
            let Ok(line) = line else { return };
            if sender.send(String::from_utf8_lossy(&line).trim_end().to_owned()).is_err() {
                return;
            }
        }
    });
    let deadline = Instant::now() + timeout;
    let mut watched = Watched::default();
    loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                writeln!(log, "{line}").with_context(|| format!("cannot write {}", console.display()))?;
                ui::say(&format!("{} | {line}", kernel.line));
                watched.note(&line);
            }
            Err(RecvTimeoutError::Timeout) => {
                bail!(
                    "the guest did not end within {}; failed so far: {:?}; last line: {} (whole console: {})",
                    ui::duration(timeout),
                    watched.failed,
                    watched.last,
                    console.display()
                )
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    reader.join().ok().context("the console reader panicked")?;
    Ok(watched)
}

impl Watched {
    fn note(&mut self, line: &str) {
        if line.starts_with("test result: ") {
            self.result = Some(line.to_owned());
        } else if let Some(test) = failed_test(line) {
            self.failed.push(test.to_owned());
        }
        if !line.is_empty() {
            line.clone_into(&mut self.last);
        }
        match kernel_message(line) {
            Some(_) => self.kernel = true,
            None => self.programs |= self.kernel && !line.is_empty(),
        }
        match verdict(line) {
            Verdict::Crash if self.crash.is_none() => self.crash = Some(line.to_owned()),
            Verdict::Warning => self.warnings.push(line.to_owned()),
            Verdict::Crash | Verdict::Nothing => {}
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Nothing,
    Warning,
    Crash,
}

/// What a console line says about the kernel's health. Only the kernel's own lines count: they start with a time.
fn verdict(line: &str) -> Verdict {
    const CRASHES: [&str; 6] =
        ["Kernel panic", "BUG: ", "Oops: ", "general protection fault", "Unable to handle kernel", "KASAN: "];
    const WARNINGS: [&str; 5] =
        ["WARNING: ", "soft lockup", "self-detected stall", "detected stalls", "blocked for more than"];
    let Some(message) = kernel_message(line) else { return Verdict::Nothing };
    // A lock-up line begins with BUG, but under emulation it only says that the host was busy.
    if WARNINGS.iter().any(|sign| message.contains(sign)) {
        Verdict::Warning
    } else if CRASHES.iter().any(|sign| message.contains(sign)) {
        Verdict::Crash
    } else {
        Verdict::Nothing
    }
}

/// The test of which this line says that it failed: `test base::x ... FAILED`.
fn failed_test(line: &str) -> Option<&str> {
    line.strip_prefix("test ")?.strip_suffix("FAILED")?.split_whitespace().next()
}

/// What the kernel says in this line; none if the line is not the kernel's.
fn kernel_message(line: &str) -> Option<&str> {
    let line = line.strip_prefix('[')?;
    // The blank after the time is gone where the kernel said nothing more.
    let (time, message) = line.split_once("] ").or_else(|| Some((line.strip_suffix(']')?, "")))?;
    time.trim().chars().all(|character| character.is_ascii_digit() || character == '.').then_some(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_what_speaks_after_the_kernel() {
        let mut watched = Watched::default();
        for line in [
            "SeaBIOS (version 1.16.2)",
            "",
            "[    0.0] Linux version 6.12",
            "[    2.367852]",
            "[    3.1] Oops: int3: 0000",
            "",
        ] {
            watched.note(line);
            assert!(!watched.programs, "{line}");
        }
        watched.note("guest: up");
        assert!(watched.programs);
    }

    #[test]
    fn crashes_are_told_from_warnings_and_from_what_tests_print() {
        for (line, expected) in [
            ("[    4.321000] Kernel panic - not syncing: Attempted to kill init!", Verdict::Crash),
            ("[   12.000001] BUG: kernel NULL pointer dereference, address: 0000000000000008", Verdict::Crash),
            ("[   12.000001] Oops: 0000 [#1] PREEMPT SMP", Verdict::Crash),
            ("[    9.5] WARNING: CPU: 1 PID: 77 at kernel/bpf/verifier.c:1 x+0x1/0x2", Verdict::Warning),
            ("[   60.0] watchdog: BUG: soft lockup - CPU#0 stuck for 22s!", Verdict::Warning),
            ("[    1.0] clocksource: tsc", Verdict::Nothing),
            ("BUG: this is a test's own line", Verdict::Nothing),
            ("[not a time] Kernel panic", Verdict::Nothing),
            ("", Verdict::Nothing),
        ] {
            assert_eq!(verdict(line), expected, "{line}");
        }
    }

    #[test]
    fn the_tests_that_failed_are_named() {
        for (line, expected) in [
            ("test base::tcp_upload           ... FAILED", Some("base::tcp_upload")),
            ("test base::tcp_upload           ... ok", None),
            ("test result: FAILED. 1 passed; 1 failed", None),
            ("FAILED", None),
        ] {
            assert_eq!(failed_test(line), expected, "{line}");
        }
    }

    #[test]
    fn the_table_shows_the_counts_and_the_warnings() {
        let mut watched = Watched::default();
        watched.note("test result: ok. 31 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 9.1s");
        let mut report = Report {
            exit_code: Some(0),
            crash: watched.crash,
            warnings: watched.warnings,
            result: watched.result,
            failed: watched.failed,
            console: PathBuf::new(),
        };
        assert_eq!(report.summary(), ", 31 passed");
        report.result = Some("test result: ok. 70 passed; 0 failed; 10 ignored; 0 measured".to_owned());
        assert_eq!(report.summary(), ", 70 passed, 10 ignored");
        report.warnings.push("[ 1.0] WARNING: x".to_owned());
        assert_eq!(report.summary(), ", 70 passed, 10 ignored, 1 kernel warnings");
    }
}
