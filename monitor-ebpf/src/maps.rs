//! The maps: who writes, who reads, why this size. The daemon overrides the sizes at load; the numbers here are what an
//! untouched object would use.

use aya_ebpf::{
    bindings::{BPF_F_CLONE, BPF_F_NO_PREALLOC, BPF_SK_STORAGE_GET_F_CREATE, bpf_map_type::BPF_MAP_TYPE_SK_STORAGE},
    btf_maps::{HashMap, LpmTrie, LruHashMap, PerCpuArray, RingBuf},
    helpers::generated::bpf_sk_storage_get,
    macros::btf_map,
};
use core::{ffi::c_void, marker::PhantomData, ptr};
use monitor_common::{
    loss::LossReason,
    offsets::Offsets,
    record::{CgroupRecord, ExecRecord, FlowKey, FlowState},
    settings::Settings,
    socket::SocketState,
};

use crate::unasked::Unasked;

/// Where this kernel keeps the fields that are read; written by the daemon before load.
#[unsafe(no_mangle)]
pub(crate) static OFFSETS: Offsets = Offsets::NONE;

/// Settings; written by the daemon before load.
#[unsafe(no_mangle)]
pub(crate) static SETTINGS: Settings = Settings::DEFAULT;

/// Flows to addresses that are not flagged. Written by the hooks, read and cleaned by the daemon. Its memory is taken
/// at the start: an entry that is allocated when a process connects costs the connection time, and can fail.
#[btf_map]
pub(crate) static FLOWS: HashMap<FlowKey, FlowState, 32_768> = HashMap::new();

/// Flows to flagged addresses: a table of their own, so that ordinary flows cannot fill it.
#[btf_map]
pub(crate) static FLAGGED_FLOWS: HashMap<FlowKey, FlowState, 8_192> = HashMap::new();

/// Flagged IPv4 prefixes. Written by the daemon, read once per flow.
#[btf_map]
pub(crate) static FLAGGED_IPV4: LpmTrie<[u8; 4], u32, 262_144> = LpmTrie::new();

/// Flagged IPv6 prefixes. Written by the daemon, read once per flow.
#[btf_map]
pub(crate) static FLAGGED_IPV6: LpmTrie<[u8; 16], u32, 262_144> = LpmTrie::new();

/// Reports on flagged flows. Every report wakes the daemon.
#[btf_map]
pub(crate) static FLAGGED_EVENTS: RingBuf<u8, 4_194_304> = RingBuf::new();

/// Reports on ordinary flows. The daemon reads it on a timer, or is woken when much waits.
#[btf_map]
pub(crate) static FLOW_EVENTS: RingBuf<u8, 16_777_216> = RingBuf::new();

/// Processes and cgroups that come and go. Read before flows, because it explains them.
#[btf_map]
pub(crate) static PROCESS_EVENTS: RingBuf<u8, 8_388_608> = RingBuf::new();

/// Payload that may hold a name. Written by the packet hooks; the daemon reads it before flows, because it explains them.
#[btf_map]
pub(crate) static CAPTURES: RingBuf<u8, 2_097_152> = RingBuf::new();

/// What could not be kept or told, by reason. Written by the hooks, read by the daemon.
#[btf_map]
pub(crate) static LOSSES: PerCpuArray<u64, { LossReason::COUNT as usize }> = PerCpuArray::new();

/// Room to build an exec record, too large for the stack.
#[btf_map]
pub(crate) static EXEC_SCRATCH: PerCpuArray<ExecRecord, 1> = PerCpuArray::new();

/// Room to build a cgroup record, too large for the stack.
#[btf_map]
pub(crate) static CGROUP_SCRATCH: PerCpuArray<CgroupRecord, 1> = PerCpuArray::new();

/// Where each thread's datagram goes that is under way on a socket which several threads use: from the addressed send to
/// its tracepoint. As many as threads can be inside one system call at once, with room to spare.
#[btf_map]
pub(crate) static ADDRESSED_SENDS: LruHashMap<u64, FlowKey, 4_096> = LruHashMap::new();

/// What arrived by UDP from whom nothing was sent to, by the flow that an answer would open. Written and cleaned by the
/// hooks. So many senders may wait for an answer at once; a flood of others costs the oldest, and nothing else.
#[btf_map]
pub(crate) static UNASKED: LruHashMap<FlowKey, Unasked, 16_384> = LruHashMap::new();

/// What is known of each socket. The kernel frees it with the socket. A connection accepted from a listening socket
/// starts with a copy of the listener's (`BPF_F_CLONE`), which is how it gets an identity at all.
#[btf_map]
pub(crate) static SOCKETS: SocketStorage<SocketState> = SocketStorage::new();

const SOCKET_STORAGE_FLAGS: usize = (BPF_F_NO_PREALLOC | BPF_F_CLONE) as usize;

/// Socket-local storage for every hook that has a socket: the crate's own type serves address hooks only.
#[repr(C)]
pub(crate) struct SocketStorage<T> {
    r#type: *const [i32; BPF_MAP_TYPE_SK_STORAGE as usize],
    key: *const i32,
    value: *const T,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; SOCKET_STORAGE_FLAGS],
    owns: PhantomData<T>,
}

// SAFETY: the fields are a description for the loader and are never dereferenced; the kernel synchronises access.
unsafe impl<T> Sync for SocketStorage<T> {}

impl<T> SocketStorage<T> {
    const fn new() -> Self {
        Self {
            r#type: ptr::null(),
            key: ptr::null(),
            value: ptr::null(),
            max_entries: ptr::null(),
            map_flags: ptr::null(),
            owns: PhantomData,
        }
    }

    /// The socket's value, if it has one. `sk` is what the hook's context calls its socket.
    #[inline(always)]
    pub(crate) fn get<S>(&self, sk: *mut S) -> Option<&mut T> {
        // SAFETY: the verifier checks that `sk` is a socket and that the map is socket storage.
        unsafe { bpf_sk_storage_get(self.map(), sk.cast(), ptr::null_mut(), 0).cast::<T>().as_mut() }
    }

    /// The socket's value, made of zeros if it has none; `None` if there is no memory for one.
    #[inline(always)]
    pub(crate) fn get_or_create<S>(&self, sk: *mut S) -> Option<&mut T> {
        let flags = u64::from(BPF_SK_STORAGE_GET_F_CREATE);
        // SAFETY: as above.
        unsafe { bpf_sk_storage_get(self.map(), sk.cast(), ptr::null_mut(), flags).cast::<T>().as_mut() }
    }

    #[inline(always)]
    fn map(&self) -> *mut c_void {
        ptr::from_ref(self).cast_mut().cast()
    }
}
