//! Processes and cgroups that come and go: raw tracepoints, which need neither tracefs nor typed programs.
//!
//! `sched_process_exec` runs in the new program after the point of no return, `sched_process_fork` in the parent,
//! `sched_process_exit` in each ending thread, `cgroup_mkdir` in whoever makes the group; since 4.17. Without BTF the
//! records carry what the helpers give, and the daemon reads the rest from `/proc`.

use aya_ebpf::{
    helpers::{
        bpf_probe_read_kernel_str_bytes,
        generated::{bpf_get_current_task, bpf_ktime_get_boot_ns, bpf_probe_read_kernel_str, bpf_probe_read_user},
    },
    programs::RawTracePointContext,
};
use monitor_common::{
    offsets::UNKNOWN,
    record::{ARGUMENT_BYTES, CgroupRecord, ExecRecord, ExitRecord, ForkRecord, Header, PATH_BYTES, exec_flag, kind},
};

use crate::{
    emit,
    identity::{executable_file, executable_inode, process_start, read_current},
    maps::{CGROUP_SCRATCH, EXEC_SCRATCH},
    offset,
    read::{Probed, field},
};

/// Components of a path that are followed, mount points included.
const PATH_STEPS: usize = 48;
/// The longest name of a component (`NAME_MAX` 255, and its NUL).
const NAME_BYTES: u32 = 256;

/// The current process runs another program now.
#[inline(always)]
pub(crate) fn executed(_ctx: &RawTracePointContext) {
    let Some(scratch) = EXEC_SCRATCH.get_ptr_mut(0) else { return };
    // SAFETY: an element of a per-CPU array; the tracepoint does not nest on one CPU.
    let record = unsafe { &mut *scratch };
    // SAFETY: takes no arguments.
    let task = unsafe { bpf_get_current_task() };
    record.header = header(kind::EXEC, size_of::<ExecRecord>());
    read_current(&mut record.identity, 0);
    let parent: u64 = field(task, offset!(task_real_parent)).unwrap_or(0);
    record.parent_tgid = field(parent, offset!(task_tgid)).unwrap_or(0);
    record.flags = 0;
    record.padding = 0;
    let file = executable_file::<Probed>(task);
    if field::<u32>(executable_inode::<Probed>(file), offset!(inode_nlink)) == Some(0) {
        record.flags |= exec_flag::UNLINKED;
    }
    read_path(record, file);
    read_arguments(record, task);
    emit::process(record);
}

/// A process made a process. Threads are left out.
#[inline(always)]
pub(crate) fn forked(ctx: &RawTracePointContext) {
    let parent: u64 = ctx.arg(0);
    let child: u64 = ctx.arg(1);
    let (Some(tgid), Some(tid)) = (field::<u32>(child, offset!(task_tgid)), field::<u32>(child, offset!(task_pid)))
    else {
        return;
    };
    if tgid != tid {
        return;
    }
    emit::process(&ForkRecord {
        header: header(kind::FORK, size_of::<ForkRecord>()),
        parent_start_boot_ns: process_start::<Probed>(parent),
        child_start_boot_ns: process_start::<Probed>(child),
        parent_tgid: field(parent, offset!(task_tgid)).unwrap_or(0),
        child_tgid: tgid,
    });
}

/// A thread ends; the last one of its process is reported.
#[inline(always)]
pub(crate) fn exited(ctx: &RawTracePointContext) {
    let task: u64 = ctx.arg(0);
    let signal: u64 = field(task, offset!(task_signal)).unwrap_or(0);
    let Some(tgid) = field::<u32>(task, offset!(task_tgid)) else { return };
    if field::<i32>(signal, offset!(signal_live)).unwrap_or(0) > 0 {
        return;
    }
    emit::process(&ExitRecord {
        header: header(kind::EXIT, size_of::<ExitRecord>()),
        start_boot_ns: process_start::<Probed>(task),
        tgid,
        padding: 0,
    });
}

/// Somebody made a cgroup.
#[inline(always)]
pub(crate) fn cgroup_made(ctx: &RawTracePointContext) {
    let cgroup: u64 = ctx.arg(0);
    let path: u64 = ctx.arg(1);
    let Some(scratch) = CGROUP_SCRATCH.get_ptr_mut(0) else { return };
    // SAFETY: an element of a per-CPU array; the tracepoint does not nest on one CPU.
    let record = unsafe { &mut *scratch };
    let node: u64 = field(cgroup, offset!(cgroup_kn)).unwrap_or(0);
    let root: u64 = field(cgroup, offset!(cgroup_root)).unwrap_or(0);
    record.header = header(kind::CGROUP, size_of::<CgroupRecord>());
    record.cgroup_id = field(node, offset!(kernfs_node_id)).unwrap_or(0);
    record.hierarchy_id = field(root, offset!(cgroup_root_hierarchy_id)).unwrap_or(u32::MAX);
    record.path_bytes = 0;
    // SAFETY: the helper bears any address; the tracepoint gives a NUL-terminated string.
    if let Ok(text) = unsafe { bpf_probe_read_kernel_str_bytes(path as *const u8, &mut record.path) } {
        record.path_bytes = text.len() as u32;
    }
    if record.cgroup_id != 0 {
        emit::process(record);
    }
}

/// Writes the components of the file's path, leaf first, climbing through mounts to the root of the mount namespace.
///
/// The compiler knows that `at` stays below `PATH_BYTES` and would drop the mask; the verifier knows only the mask. A name
/// of 256 bytes written at the last position still ends inside the record, because the arguments follow and are read
/// later.
#[inline(always)]
fn read_path(record: &mut ExecRecord, file: u64) {
    record.path_bytes = 0;
    let mut dentry: u64 = field(file, offset!(file_dentry)).unwrap_or(0);
    let mut mount: u64 = field(file, offset!(file_mnt)).unwrap_or(0);
    let embedded = offset!(mount_vfsmount);
    if dentry == 0 || mount == 0 || embedded == UNKNOWN {
        return;
    }
    let mut at: u32 = 0;
    let start = record.path.as_mut_ptr();
    for _ in 0..PATH_STEPS {
        let root: u64 = field(mount, offset!(vfsmount_root)).unwrap_or(0);
        let parent: u64 = field(dentry, offset!(dentry_parent)).unwrap_or(0);
        if dentry == root {
            let whole = mount - u64::from(embedded);
            let upper: u64 = field(whole, offset!(mount_parent)).unwrap_or(0);
            if upper == 0 || upper == whole {
                record.path_bytes = at as u16;
                return;
            }
            dentry = field(whole, offset!(mount_mountpoint)).unwrap_or(0);
            mount = upper + u64::from(embedded);
            continue;
        }
        let name: u64 = field(dentry, offset!(dentry_name)).unwrap_or(0);
        // Read back from memory, so that the compiler cannot prove the mask useless and drop it.
        record.path_bytes = at as u16;
        // SAFETY: a field of the record.
        let room = u32::from(unsafe { (&raw const record.path_bytes).read_volatile() }) & (PATH_BYTES as u32 - 1);
        // SAFETY: `room` is below PATH_BYTES and 256 bytes more are still inside the record.
        let read = unsafe { bpf_probe_read_kernel_str(start.add(room as usize).cast(), NAME_BYTES, name as *const _) };
        if read <= 1 || at + read as u32 > PATH_BYTES as u32 - 1 {
            break;
        }
        at += read as u32;
        if parent == dentry {
            // A file outside any directory tree, such as a memfd: its name is all there is.
            record.path_bytes = at as u16;
            return;
        }
        dentry = parent;
    }
    record.flags |= exec_flag::PATH_TRUNCATED;
    record.path_bytes = at as u16;
}

/// Copies the first bytes of the arguments from the new program's stack.
#[inline(always)]
fn read_arguments(record: &mut ExecRecord, task: u64) {
    record.argument_bytes = 0;
    let mm: u64 = field(task, offset!(task_mm)).unwrap_or(0);
    let start: u64 = field(mm, offset!(mm_arg_start)).unwrap_or(0);
    let end: u64 = field(mm, offset!(mm_arg_end)).unwrap_or(0);
    if start == 0 || end <= start {
        return;
    }
    let mut length_bytes = end - start;
    if length_bytes > ARGUMENT_BYTES as u64 {
        length_bytes = ARGUMENT_BYTES as u64;
        record.flags |= exec_flag::ARGUMENTS_TRUNCATED;
    }
    // SAFETY: the helper bears any address; at most ARGUMENT_BYTES are written.
    let failed =
        unsafe { bpf_probe_read_user(record.arguments.as_mut_ptr().cast(), length_bytes as u32, start as *const _) };
    if failed == 0 {
        record.argument_bytes = length_bytes as u16;
    }
}

#[inline(always)]
fn header(kind: u16, size_bytes: usize) -> Header {
    // SAFETY: takes no arguments.
    let boot_ns = unsafe { bpf_ktime_get_boot_ns() };
    Header { kind, reason: 0, size_bytes: size_bytes as u32, boot_ns }
}
