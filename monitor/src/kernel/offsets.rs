//! The running kernel's [`Offsets`].

use monitor_common::offsets::{Offsets, UNKNOWN};

use super::btf::Btf;

/// Takes every offset from the kernel's BTF; a field it does not have stays unknown.
#[must_use]
pub fn of_kernel(btf: &Btf) -> Offsets {
    let field = |structure: &str, path: &str| btf.field_offset(structure, path).unwrap_or(UNKNOWN);
    Offsets {
        task_start_boottime: match field("task_struct", "start_boottime") {
            UNKNOWN => field("task_struct", "real_start_time"),
            offset => offset,
        },
        task_group_leader: field("task_struct", "group_leader"),
        task_real_parent: field("task_struct", "real_parent"),
        task_tgid: field("task_struct", "tgid"),
        task_pid: field("task_struct", "pid"),
        task_mm: field("task_struct", "mm"),
        task_signal: field("task_struct", "signal"),
        task_cred: field("task_struct", "cred"),
        cred_euid: field("cred", "euid"),
        signal_live: field("signal_struct", "live"),
        mm_exe_file: field("mm_struct", "exe_file"),
        mm_arg_start: field("mm_struct", "arg_start"),
        mm_arg_end: field("mm_struct", "arg_end"),
        file_mnt: field("file", "f_path.mnt"),
        file_dentry: field("file", "f_path.dentry"),
        file_inode: field("file", "f_inode"),
        inode_ino: field("inode", "i_ino"),
        inode_sb: field("inode", "i_sb"),
        inode_nlink: field("inode", "i_nlink"),
        super_block_dev: field("super_block", "s_dev"),
        dentry_parent: field("dentry", "d_parent"),
        dentry_name: field("dentry", "d_name.name"),
        vfsmount_root: field("vfsmount", "mnt_root"),
        mount_vfsmount: field("mount", "mnt"),
        mount_parent: field("mount", "mnt_parent"),
        mount_mountpoint: field("mount", "mnt_mountpoint"),
        sock_family: field("sock", "__sk_common.skc_family"),
        cgroup_kn: field("cgroup", "kn"),
        kernfs_node_id: field("kernfs_node", "id"),
        cgroup_root: field("cgroup", "root"),
        cgroup_root_hierarchy_id: field("cgroup_root", "hierarchy_id"),
        task_comm: field("task_struct", "comm"),
        task_cgroups: field("task_struct", "cgroups"),
        task_self_exec_id: field("task_struct", "self_exec_id"),
        cred_uid: field("cred", "uid"),
        cred_gid: field("cred", "gid"),
        css_set_default_cgroup: field("css_set", "dfl_cgrp"),
        socket_sk: field("socket", "sk"),
        socket_inode: match (field("socket_alloc", "vfs_inode"), field("socket_alloc", "socket")) {
            (UNKNOWN, _) | (_, UNKNOWN) => UNKNOWN,
            (inode, socket) => inode.saturating_sub(socket),
        },
        sock_state: field("sock", "__sk_common.skc_state"),
        sock_protocol: field("sock", "sk_protocol"),
        sock_type: field("sock", "sk_type"),
        sock_cookie: field("sock", "__sk_common.skc_cookie"),
        sock_remote_ipv4: field("sock", "__sk_common.skc_daddr"),
        sock_remote_ipv6: field("sock", "__sk_common.skc_v6_daddr"),
        sock_remote_port: field("sock", "__sk_common.skc_dport"),
        sock_local_ipv4: field("sock", "__sk_common.skc_rcv_saddr"),
        sock_local_ipv6: field("sock", "__sk_common.skc_v6_rcv_saddr"),
        sock_local_port: field("sock", "__sk_common.skc_num"),
        sock_namespace: field("sock", "__sk_common.skc_net.net"),
        sock_backlog_max: field("sock", "sk_max_ack_backlog"),
        namespace_cookie: field("net", "net_cookie"),
        tcp_sent_next: field("tcp_sock", "snd_nxt"),
        tcp_received_next: field("tcp_sock", "rcv_nxt"),
        tcp_sent_bytes: field("tcp_sock", "bytes_sent"),
        tcp_retransmitted_bytes: field("tcp_sock", "bytes_retrans"),
        tcp_received_bytes: field("tcp_sock", "bytes_received"),
        message_address: field("msghdr", "msg_name"),
        message_address_bytes: field("msghdr", "msg_namelen"),
        mptcp_first: field("mptcp_sock", "first"),
        packet_interface: field("packet_sock", "ifindex"),
        packet_ether_type: field("packet_sock", "num"),
        packet_device: field("packet_sock", "prot_hook.dev"),
        device_name: field("net_device", "name"),
    }
}

/// Fields of what a kernel may be built without, or may have in a module: what they are read for is then not there
/// either, or is told as a degradation of its own.
const OPTIONAL: [&str; 2] = ["mptcp_", "packet_"];

/// Names of the fields that this kernel's BTF does not have.
#[must_use]
pub fn unknown_fields(offsets: &Offsets) -> Vec<String> {
    // The derived form names each field once, which is all that is needed here.
    format!("{offsets:#?}")
        .lines()
        .filter_map(|line| line.trim().strip_suffix(','))
        .filter_map(|line| line.split_once(": "))
        .filter(|(_, value)| value.parse() == Ok(UNKNOWN))
        .map(|(name, _)| name.to_owned())
        .filter(|name| !OPTIONAL.iter().any(|prefix| name.starts_with(prefix)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_kernel_tells_every_offset() {
        let Ok(btf) = Btf::of_running_kernel() else {
            eprintln!("skipped: this kernel publishes no BTF");
            return;
        };
        assert_eq!(unknown_fields(&of_kernel(&btf)), Vec::<String>::new());
        let optional = 4;
        assert_eq!(unknown_fields(&Offsets::NONE).len(), size_of::<Offsets>() / 4 - optional);
    }
}
