//! Where the running kernel keeps the fields that the programs read: taken from its BTF, never from one build.

/// Marks a field whose offset is not known on this kernel.
pub const UNKNOWN: u32 = u32::MAX;

/// Byte offsets of kernel structure fields; [`UNKNOWN`] where the kernel's BTF does not tell.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offsets {
    /// `task_struct.start_boottime`, u64 (`real_start_time` before 5.5).
    pub task_start_boottime: u32,
    /// `task_struct.group_leader`, pointer.
    pub task_group_leader: u32,
    /// `task_struct.real_parent`, pointer.
    pub task_real_parent: u32,
    /// `task_struct.tgid`, i32.
    pub task_tgid: u32,
    /// `task_struct.pid`, i32.
    pub task_pid: u32,
    /// `task_struct.mm`, pointer.
    pub task_mm: u32,
    /// `task_struct.signal`, pointer.
    pub task_signal: u32,
    /// `task_struct.cred`, pointer.
    pub task_cred: u32,
    /// `cred.euid`, u32.
    pub cred_euid: u32,
    /// `signal_struct.live`, i32.
    pub signal_live: u32,
    /// `mm_struct.exe_file`, pointer.
    pub mm_exe_file: u32,
    /// `mm_struct.arg_start`, u64.
    pub mm_arg_start: u32,
    /// `mm_struct.arg_end`, u64.
    pub mm_arg_end: u32,
    /// `file.f_path.mnt`, pointer to `vfsmount`.
    pub file_mnt: u32,
    /// `file.f_path.dentry`, pointer.
    pub file_dentry: u32,
    /// `file.f_inode`, pointer.
    pub file_inode: u32,
    /// `inode.i_ino`, u64.
    pub inode_ino: u32,
    /// `inode.i_sb`, pointer.
    pub inode_sb: u32,
    /// `inode.i_nlink`, u32.
    pub inode_nlink: u32,
    /// `super_block.s_dev`, u32.
    pub super_block_dev: u32,
    /// `dentry.d_parent`, pointer.
    pub dentry_parent: u32,
    /// `dentry.d_name.name`, pointer to the name.
    pub dentry_name: u32,
    /// `vfsmount.mnt_root`, pointer to a dentry.
    pub vfsmount_root: u32,
    /// `mount.mnt`, the embedded `vfsmount`.
    pub mount_vfsmount: u32,
    /// `mount.mnt_parent`, pointer to a mount.
    pub mount_parent: u32,
    /// `mount.mnt_mountpoint`, pointer to a dentry.
    pub mount_mountpoint: u32,
    /// `sock.__sk_common.skc_family`, u16.
    pub sock_family: u32,
    /// `cgroup.kn`, pointer to a `kernfs_node`.
    pub cgroup_kn: u32,
    /// `kernfs_node.id`, u64.
    pub kernfs_node_id: u32,
    /// `cgroup.root`, pointer to a `cgroup_root`.
    pub cgroup_root: u32,
    /// `cgroup_root.hierarchy_id`, i32.
    pub cgroup_root_hierarchy_id: u32,
    /// `task_struct.comm`, 16 bytes.
    pub task_comm: u32,
    /// `task_struct.cgroups`, pointer to a `css_set`.
    pub task_cgroups: u32,
    /// `task_struct.self_exec_id`, u64.
    pub task_self_exec_id: u32,
    /// `cred.uid`, u32.
    pub cred_uid: u32,
    /// `cred.gid`, u32.
    pub cred_gid: u32,
    /// `css_set.dfl_cgrp`, pointer to a cgroup.
    pub css_set_default_cgroup: u32,
    /// `socket.sk`, pointer to a sock.
    pub socket_sk: u32,
    /// `socket_alloc.vfs_inode` less `socket_alloc.socket`: from a socket to its inode.
    pub socket_inode: u32,
    /// `sock.__sk_common.skc_state`, u8.
    pub sock_state: u32,
    /// `sock.sk_protocol`, u16.
    pub sock_protocol: u32,
    /// `sock.sk_type`, u16.
    pub sock_type: u32,
    /// `sock.__sk_common.skc_cookie`, u64.
    pub sock_cookie: u32,
    /// `sock.__sk_common.skc_daddr`, 4 bytes in network order.
    pub sock_remote_ipv4: u32,
    /// `sock.__sk_common.skc_v6_daddr`, 16 bytes.
    pub sock_remote_ipv6: u32,
    /// `sock.__sk_common.skc_dport`, u16 in network order.
    pub sock_remote_port: u32,
    /// `sock.__sk_common.skc_rcv_saddr`, 4 bytes in network order.
    pub sock_local_ipv4: u32,
    /// `sock.__sk_common.skc_v6_rcv_saddr`, 16 bytes.
    pub sock_local_ipv6: u32,
    /// `sock.__sk_common.skc_num`, u16 in host order.
    pub sock_local_port: u32,
    /// `sock.__sk_common.skc_net.net`, pointer to a `net`.
    pub sock_namespace: u32,
    /// `sock.sk_max_ack_backlog`, u32.
    pub sock_backlog_max: u32,
    /// `net.net_cookie`, u64.
    pub namespace_cookie: u32,
    /// `tcp_sock.snd_nxt`, u32.
    pub tcp_sent_next: u32,
    /// `tcp_sock.rcv_nxt`, u32.
    pub tcp_received_next: u32,
    /// `tcp_sock.bytes_sent`, u64, retransmissions included.
    pub tcp_sent_bytes: u32,
    /// `tcp_sock.bytes_retrans`, u64.
    pub tcp_retransmitted_bytes: u32,
    /// `tcp_sock.bytes_received`, u64.
    pub tcp_received_bytes: u32,
    /// `msghdr.msg_name`, pointer to a socket address in kernel memory.
    pub message_address: u32,
    /// `msghdr.msg_namelen`, i32.
    pub message_address_bytes: u32,
    /// `mptcp_sock.first`, pointer to the sock of the first subflow.
    pub mptcp_first: u32,
    /// `packet_sock.ifindex`, i32.
    pub packet_interface: u32,
    /// `packet_sock.num`, u16 in network order.
    pub packet_ether_type: u32,
    /// `packet_sock.prot_hook.dev`, pointer to a `net_device`.
    pub packet_device: u32,
    /// `net_device.name`, 16 bytes.
    pub device_name: u32,
}

impl Offsets {
    /// Nothing known: the programs then leave what they cannot read at 0.
    pub const NONE: Self = Self {
        task_start_boottime: UNKNOWN,
        task_group_leader: UNKNOWN,
        task_real_parent: UNKNOWN,
        task_tgid: UNKNOWN,
        task_pid: UNKNOWN,
        task_mm: UNKNOWN,
        task_signal: UNKNOWN,
        task_cred: UNKNOWN,
        cred_euid: UNKNOWN,
        signal_live: UNKNOWN,
        mm_exe_file: UNKNOWN,
        mm_arg_start: UNKNOWN,
        mm_arg_end: UNKNOWN,
        file_mnt: UNKNOWN,
        file_dentry: UNKNOWN,
        file_inode: UNKNOWN,
        inode_ino: UNKNOWN,
        inode_sb: UNKNOWN,
        inode_nlink: UNKNOWN,
        super_block_dev: UNKNOWN,
        dentry_parent: UNKNOWN,
        dentry_name: UNKNOWN,
        vfsmount_root: UNKNOWN,
        mount_vfsmount: UNKNOWN,
        mount_parent: UNKNOWN,
        mount_mountpoint: UNKNOWN,
        sock_family: UNKNOWN,
        cgroup_kn: UNKNOWN,
        kernfs_node_id: UNKNOWN,
        cgroup_root: UNKNOWN,
        cgroup_root_hierarchy_id: UNKNOWN,
        task_comm: UNKNOWN,
        task_cgroups: UNKNOWN,
        task_self_exec_id: UNKNOWN,
        cred_uid: UNKNOWN,
        cred_gid: UNKNOWN,
        css_set_default_cgroup: UNKNOWN,
        socket_sk: UNKNOWN,
        socket_inode: UNKNOWN,
        sock_state: UNKNOWN,
        sock_protocol: UNKNOWN,
        sock_type: UNKNOWN,
        sock_cookie: UNKNOWN,
        sock_remote_ipv4: UNKNOWN,
        sock_remote_ipv6: UNKNOWN,
        sock_remote_port: UNKNOWN,
        sock_local_ipv4: UNKNOWN,
        sock_local_ipv6: UNKNOWN,
        sock_local_port: UNKNOWN,
        sock_namespace: UNKNOWN,
        sock_backlog_max: UNKNOWN,
        namespace_cookie: UNKNOWN,
        tcp_sent_next: UNKNOWN,
        tcp_received_next: UNKNOWN,
        tcp_sent_bytes: UNKNOWN,
        tcp_retransmitted_bytes: UNKNOWN,
        tcp_received_bytes: UNKNOWN,
        message_address: UNKNOWN,
        message_address_bytes: UNKNOWN,
        mptcp_first: UNKNOWN,
        packet_interface: UNKNOWN,
        packet_ether_type: UNKNOWN,
        packet_device: UNKNOWN,
        device_name: UNKNOWN,
    };
}

const _: () = assert!(size_of::<Offsets>() == 64 * 4);

// SAFETY: `repr(C)`, only integers of one width, any bit pattern is valid.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Offsets {}
