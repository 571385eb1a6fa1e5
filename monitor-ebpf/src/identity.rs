//! Who acts: `current` is asked in process context only. In packet context it is whatever the interrupt hit.

use aya_ebpf::helpers::{
    bpf_get_current_pid_tgid, bpf_get_current_uid_gid,
    generated::{bpf_get_current_cgroup_id, bpf_get_current_comm, bpf_get_current_task, bpf_get_current_task_btf},
};
use monitor_common::record::{COMM_BYTES, Identity, UNKNOWN_USER};

use crate::{
    offset,
    read::{Probed, Reading, Typed, field},
    setting,
};

/// The program that runs now, as far as it tells one actor from another: a process that executes another file keeps its
/// id and its start time.
#[derive(Clone, Copy)]
pub(crate) struct Actor {
    /// The process.
    pub(crate) tgid: u32,
    /// Which of its programs; 0 if not known.
    pub(crate) exec_id: u32,
    /// The thread.
    pub(crate) tid: u32,
}

impl Actor {
    /// The current process.
    #[inline(always)]
    pub(crate) fn current() -> Self {
        let pid_tgid = bpf_get_current_pid_tgid();
        let exec_id = if has_typed_task() { exec_id::<Typed>(typed_task()) } else { exec_id::<Probed>(task()) };
        Self { tgid: (pid_tgid >> 32) as u32, exec_id, tid: pid_tgid as u32 }
    }

    /// Process and thread in one number, as the kernel's helper gives them.
    #[inline(always)]
    pub(crate) fn pid_tgid(self) -> u64 {
        u64::from(self.tgid) << 32 | u64::from(self.tid)
    }

    /// Whether `identity` is this actor's.
    #[inline(always)]
    pub(crate) fn is(self, identity: &Identity) -> bool {
        identity.tgid == self.tgid && identity.exec_id == self.exec_id
    }
}

/// Fills `identity` with the current process. Fields the kernel's layout does not give say so.
#[inline(always)]
pub(crate) fn read_current(identity: &mut Identity, network_namespace_cookie: u64) {
    let pid_tgid = bpf_get_current_pid_tgid();
    let uid_gid = bpf_get_current_uid_gid();
    identity.tgid = (pid_tgid >> 32) as u32;
    identity.tid = pid_tgid as u32;
    identity.uid = uid_gid as u32;
    identity.gid = (uid_gid >> 32) as u32;
    // SAFETY: takes no arguments and has no preconditions.
    identity.cgroup_id = unsafe { bpf_get_current_cgroup_id() };
    identity.network_namespace_cookie = network_namespace_cookie;
    // In place: it would be copied byte by byte.
    // SAFETY: the helper writes at most so many bytes, and zeros if it fails.
    unsafe { bpf_get_current_comm((&raw mut identity.comm).cast(), COMM_BYTES as u32) };
    if has_typed_task() {
        read_program::<Typed>(identity, typed_task());
    } else {
        read_program::<Probed>(identity, task());
    }
}

/// Whether these programs may have the current task as a typed pointer.
#[inline(always)]
fn has_typed_task() -> bool {
    setting!(has_typed_task) != 0
}

/// The current task, as a typed pointer in a register.
#[inline(always)]
fn typed_task() -> u64 {
    // SAFETY: takes no arguments and has no preconditions.
    unsafe { bpf_get_current_task_btf() as u64 }
}

/// The current task's address.
#[inline(always)]
fn task() -> u64 {
    // SAFETY: takes no arguments and has no preconditions.
    unsafe { bpf_get_current_task() }
}

/// Fills `identity` with another process, which holds a socket. Fields the kernel's layout does not give stay 0.
#[inline(always)]
pub(crate) fn read_task(identity: &mut Identity, task: u64, network_namespace_cookie: u64) {
    let credentials: u64 = field(task, offset!(task_cred)).unwrap_or(0);
    let groups: u64 = field(task, offset!(task_cgroups)).unwrap_or(0);
    let group: u64 = field(groups, offset!(css_set_default_cgroup)).unwrap_or(0);
    let node: u64 = field(group, offset!(cgroup_kn)).unwrap_or(0);
    identity.tgid = field(task, offset!(task_tgid)).unwrap_or(0);
    identity.tid = field(task, offset!(task_pid)).unwrap_or(0);
    identity.uid = field(credentials, offset!(cred_uid)).unwrap_or(0);
    identity.gid = field(credentials, offset!(cred_gid)).unwrap_or(0);
    identity.cgroup_id = field(node, offset!(kernfs_node_id)).unwrap_or(0);
    identity.network_namespace_cookie = network_namespace_cookie;
    identity.comm = field(task, offset!(task_comm)).unwrap_or_default();
    read_program::<Probed>(identity, task);
}

/// Fills in what only the structures of the kernel tell.
#[inline(always)]
fn read_program<R: Reading>(identity: &mut Identity, task: u64) {
    let credentials: u64 = R::field(task, offset!(task_cred)).unwrap_or(0);
    identity.effective_uid = R::field(credentials, offset!(cred_euid)).unwrap_or(UNKNOWN_USER);
    identity.start_boot_ns = process_start::<R>(task);
    let (device, inode) = executable::<R>(task);
    identity.executable_device = device;
    identity.executable_inode = inode;
    identity.exec_id = exec_id::<R>(task);
}

/// The low half of `task->self_exec_id`; 0 if not known.
#[inline(always)]
fn exec_id<R: Reading>(task: u64) -> u32 {
    R::field::<u64>(task, offset!(task_self_exec_id)).unwrap_or(0) as u32
}

/// Start of the process that `task` is a thread of, ns since boot; 0 if not known.
#[inline(always)]
pub(crate) fn process_start<R: Reading>(task: u64) -> u64 {
    let leader: u64 = R::field(task, offset!(task_group_leader)).unwrap_or(0);
    R::field(leader, offset!(task_start_boottime)).unwrap_or(0)
}

/// Device and inode of the file that `task` executes; zeros if not known (a kernel thread has none).
#[inline(always)]
fn executable<R: Reading>(task: u64) -> (u32, u64) {
    let inode = executable_inode::<R>(executable_file::<R>(task));
    let super_block: u64 = R::field(inode, offset!(inode_sb)).unwrap_or(0);
    let device = R::field(super_block, offset!(super_block_dev)).unwrap_or(0);
    (device, R::field(inode, offset!(inode_ino)).unwrap_or(0))
}

/// `task->mm->exe_file`; 0 if not known.
#[inline(always)]
pub(crate) fn executable_file<R: Reading>(task: u64) -> u64 {
    let mm: u64 = R::field(task, offset!(task_mm)).unwrap_or(0);
    R::field(mm, offset!(mm_exe_file)).unwrap_or(0)
}

/// `file->f_inode`; 0 if not known.
#[inline(always)]
pub(crate) fn executable_inode<R: Reading>(file: u64) -> u64 {
    R::field(file, offset!(file_inode)).unwrap_or(0)
}
