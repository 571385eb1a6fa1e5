//! What this kernel and machine give the tests.

use std::{fmt, fs, path::Path, sync::OnceLock, time::Duration};

/// How much the kernel side can see: the tests' own view of it, so that a wrong choice of the monitor shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rung {
    /// Cgroup hooks: every kernel from 5.10 on.
    Base,
    /// Exits of the send and receive functions too: with BTF, where the platform lets programs be attached to functions.
    Fexit,
    /// Send and receive tracepoints too: from 6.3 on, with BTF.
    Sender,
}

impl Rung {
    /// Every rung, the lowest first.
    pub(crate) const ALL: [Self; 3] = [Self::Base, Self::Fexit, Self::Sender];

    /// Name on the command line and in records.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Fexit => "fexit",
            Self::Sender => "sender",
        }
    }

    /// Whether this kernel has it.
    pub(crate) fn is_available(self) -> bool {
        match self {
            Self::Base => true,
            Self::Fexit => can_watch_functions(),
            Self::Sender => kernel_version() >= (6, 3) && Path::new("/sys/kernel/btf/vmlinux").exists(),
        }
    }

    /// The highest that this kernel has and that the monitor would take by itself.
    pub(crate) fn highest() -> Self {
        Self::ALL.into_iter().rev().find(|rung| rung.is_available()).unwrap_or(Self::Base)
    }

    /// Whether it tells who sends, beside who connected.
    pub(crate) const fn tells_senders(self) -> bool {
        !matches!(self, Self::Base)
    }
}

impl fmt::Display for Rung {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Whether the kernel lets a program walk over sockets: elsewhere the monitor asks the processes that hold them.
pub(crate) fn has_socket_iterator() -> bool {
    kernel_version() >= (5, 12) && Path::new("/sys/kernel/btf/vmlinux").exists()
}

/// Whether this platform lets a program be attached to a function of the kernel: some refuse it whatever the kernel.
fn can_watch_functions() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| {
        let Ok(types) = aya::Btf::from_sys_fs() else { return false };
        let Ok(mut object) = aya::Ebpf::load(egresswatch::kernel::OBJECT) else { return false };
        let Some(program) = object.program_mut("inet_sendmsg") else { return false };
        let Ok(program) = <&mut aya::programs::FExit>::try_from(program) else { return false };
        match program.load("inet_sendmsg", &types).and_then(|()| program.attach()) {
            // A refusal by the verifier is the monitor's fault and must show.
            Err(aya::programs::ProgramError::LoadError { io_error, .. }) => {
                io_error.kind() != std::io::ErrorKind::PermissionDenied
            }
            outcome => outcome.is_ok(),
        }
    })
}

/// Major and minor version of the running kernel; 0.0 if it tells none.
fn kernel_version() -> (u32, u32) {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(|character: char| !character.is_ascii_digit()).map(|digits| digits.parse().ok());
    (numbers.next().flatten().unwrap_or(0), numbers.next().flatten().unwrap_or(0))
}

/// Whether the tests run as root, without which no program can be loaded and no namespace made.
pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Whether the processor is emulated (QEMU's TCG): tests do less there and wait longer.
pub(crate) fn is_emulated() -> bool {
    match std::env::var("EGRESSWATCH_TEST_SCALE") {
        Ok(scale) => scale == "small",
        Err(_) => fs::read_to_string("/proc/cpuinfo").is_ok_and(|processors| processors.contains("QEMU TCG")),
    }
}

/// How long a fact may take before a test gives it up.
pub(crate) fn patience() -> Duration {
    if is_emulated() { Duration::from_mins(1) } else { Duration::from_secs(20) }
}
