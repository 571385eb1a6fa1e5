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
    };
}

const _: () = assert!(size_of::<Offsets>() == 31 * 4);

// SAFETY: `repr(C)`, only integers of one width, any bit pattern is valid.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Offsets {}
