//! Kernel programs that do nothing: on the monitor's hooks they cost what any set of programs there costs.

use std::{
    ffi::CStr,
    fs::File,
    os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd},
    path::Path,
};

use anyhow::{Context as _, Result};
use nix::{errno::Errno, libc};

/// Commands of `enum bpf_cmd` (`include/uapi/linux/bpf.h`, as all numbers here).
const PROG_LOAD: libc::c_long = 5;
const RAW_TRACEPOINT_OPEN: libc::c_long = 17;
const LINK_CREATE: libc::c_long = 28;

/// Kinds of `enum bpf_prog_type`.
const SCHED_CLS: u32 = 3;
const CGROUP_SKB: u32 = 8;
const CGROUP_SOCK: u32 = 9;
const SOCK_OPS: u32 = 13;
const RAW_TRACEPOINT: u32 = 17;
const CGROUP_SOCK_ADDR: u32 = 18;

/// The monitor's hooks at a cgroup: the kind of program and the number in `enum bpf_attach_type`.
const CGROUP_HOOKS: [(u32, u32); 9] = [
    (CGROUP_SKB, 0),        // BPF_CGROUP_INET_INGRESS
    (CGROUP_SKB, 1),        // BPF_CGROUP_INET_EGRESS
    (CGROUP_SOCK, 2),       // BPF_CGROUP_INET_SOCK_CREATE
    (SOCK_OPS, 3),          // BPF_CGROUP_SOCK_OPS
    (CGROUP_SOCK_ADDR, 10), // BPF_CGROUP_INET4_CONNECT
    (CGROUP_SOCK_ADDR, 11), // BPF_CGROUP_INET6_CONNECT
    (CGROUP_SOCK_ADDR, 14), // BPF_CGROUP_UDP4_SENDMSG
    (CGROUP_SOCK_ADDR, 15), // BPF_CGROUP_UDP6_SENDMSG
    (CGROUP_SOCK, 34),      // BPF_CGROUP_INET_SOCK_RELEASE
];

/// The monitor's tracepoints on the way of a send and a receive, since Linux 6.3.
const TRACEPOINTS: [&CStr; 2] = [c"sock_send_length", c"sock_recv_length"];

/// Programs attached to the monitor's hooks, until this is dropped.
#[derive(Debug)]
pub(crate) struct EmptyPrograms(
    #[expect(dead_code, reason = "the kernel detaches them when they are closed")] Vec<OwnedFd>,
);

impl EmptyPrograms {
    /// Attaches them to a cgroup and what is below it; the tracepoints are the whole host's, as the monitor's.
    pub(crate) fn attach(cgroup: &Path) -> Result<Self> {
        let cgroup = File::open(cgroup).with_context(|| format!("cannot open the cgroup {}", cgroup.display()))?;
        let mut links = Vec::new();
        for (kind, attach_type) in CGROUP_HOOKS {
            let instructions = if kind == SOCK_OPS { ASK_FOR_STATES.as_slice() } else { &RETURN_ONE };
            let program = load(kind, attach_type, instructions)?;
            links.push(link(&program, &cgroup, attach_type)?);
        }
        for tracepoint in TRACEPOINTS {
            let program = load(RAW_TRACEPOINT, 0, &RETURN_ONE)?;
            match open_tracepoint(&program, tracepoint) {
                Ok(link) => links.push(link),
                // An older kernel: the monitor does without as well.
                Err(Errno::ENOENT) => {}
                Err(error) => {
                    return Err(error).with_context(|| format!("cannot attach to {}", tracepoint.to_string_lossy()));
                }
            }
        }
        Ok(Self(links))
    }
}

/// A program of a kind that can be run without being attached.
pub(crate) fn program() -> Result<OwnedFd> {
    load(SCHED_CLS, 0, &RETURN_ONE)
}

/// `r0 = 1; exit`.
const RETURN_ONE: [u64; 2] = [instruction(0xb7, 0, 0, 1), instruction(0x95, 0, 0, 0)];

/// The same for socket operations, which first ask to be told of a new connection's states as the monitor does:
/// `r2 = context.op; if r2 == BPF_SOCK_OPS_TCP_CONNECT_CB { sock_ops_cb_flags_set(context, BPF_SOCK_OPS_STATE_CB_FLAG) }`.
const ASK_FOR_STATES: [u64; 6] = [
    instruction(0x61, 0x12, 0, 0),
    instruction(0x55, 0x02, 2, 3),
    instruction(0xb7, 0x02, 0, 4),
    instruction(0x85, 0, 0, 59),
    RETURN_ONE[0],
    RETURN_ONE[1],
];

/// `struct bpf_insn`: the upper half of `registers` is the source's number, the lower the destination's.
const fn instruction(code: u8, registers: u8, offset: u16, immediate: u32) -> u64 {
    code as u64 | (registers as u64) << 8 | (offset as u64) << 16 | (immediate as u64) << 32
}

/// The first fields of `union bpf_attr` for loading a program.
#[repr(C)]
struct LoadAttribute {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log: [u32; 4],
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    attach_type: u32,
}

/// The first fields of `union bpf_attr` for attaching a program.
#[repr(C)]
struct LinkAttribute {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
}

/// The fields of `union bpf_attr` for attaching a program to a tracepoint.
#[repr(C)]
struct TracepointAttribute {
    name: u64,
    program: u32,
    padding: u32,
}

fn load(kind: u32, attach_type: u32, instructions: &[u64]) -> Result<OwnedFd> {
    let attribute = LoadAttribute {
        kind,
        instruction_count: instructions.len() as u32,
        instructions: instructions.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        log: [0; 4],
        kernel_version: 0,
        flags: 0,
        name: *b"bench_empty\0\0\0\0\0",
        interface: 0,
        attach_type,
    };
    // SAFETY: the pointers live through the call.
    unsafe { bpf(PROG_LOAD, &attribute) }.context("cannot load an empty program")
}

fn link(program: &OwnedFd, target: &impl AsFd, attach_type: u32) -> Result<OwnedFd> {
    let attribute = LinkAttribute { program: number(program), target: number(target), attach_type, flags: 0 };
    // SAFETY: no pointers.
    unsafe { bpf(LINK_CREATE, &attribute) }
        .with_context(|| format!("cannot attach an empty program (hook {attach_type})"))
}

fn open_tracepoint(program: &OwnedFd, name: &CStr) -> Result<OwnedFd, Errno> {
    let attribute = TracepointAttribute { name: name.as_ptr() as u64, program: number(program), padding: 0 };
    // SAFETY: the name lives through the call.
    unsafe { bpf(RAW_TRACEPOINT_OPEN, &attribute) }
}

fn number(descriptor: &impl AsFd) -> u32 {
    descriptor.as_fd().as_raw_fd().cast_unsigned()
}

/// The system call for commands that return a descriptor.
///
/// # Safety
///
/// `attribute` is the command's, and what it points to lives through the call.
unsafe fn bpf<T>(command: libc::c_long, attribute: &T) -> Result<OwnedFd, Errno> {
    // SAFETY: the caller's; the size is the attribute's.
    let descriptor = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attribute), size_of::<T>()) };
    let descriptor = Errno::result(descriptor)?;
    // SAFETY: a fresh descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor as i32) })
}
