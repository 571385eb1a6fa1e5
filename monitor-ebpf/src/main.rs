//! EgressWatch's kernel programs. This file holds the attributes only: what each hook does is in the module of its family.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch, core_intrinsics)]
#![expect(
    internal_features,
    reason = "the target has atomic addition but no compare-and-swap, so the library's atomics are not there"
)]

mod capture;
mod connect;
mod emit;
mod flow;
mod identity;
mod inventory;
mod maps;
mod packet;
mod process;
mod read;
mod sender;
mod sock;
mod socket;
mod sockops;
mod storage;
mod unasked;

use aya_ebpf::{
    macros::{btf_tracepoint, cgroup_skb, cgroup_sock, cgroup_sock_addr, fexit, raw_tracepoint, sock_ops},
    programs::{
        BtfTracePointContext, FExitContext, RawTracePointContext, SkBuffContext, SockAddrContext, SockContext,
        SockOpsContext,
    },
};
use monitor_common::record::{FAMILY_IPV4, FAMILY_IPV6};

use sender::Call;

/// What every cgroup hook answers: the traffic goes on. EgressWatch only watches.
const ALLOW: i32 = 1;

#[cgroup_sock_addr(connect4)]
fn connect4(ctx: SockAddrContext) -> i32 {
    connect::connecting(&ctx, FAMILY_IPV4);
    ALLOW
}

#[cgroup_sock_addr(connect6)]
fn connect6(ctx: SockAddrContext) -> i32 {
    connect::connecting(&ctx, FAMILY_IPV6);
    ALLOW
}

#[cgroup_sock_addr(sendmsg4)]
fn sendmsg4(ctx: SockAddrContext) -> i32 {
    connect::sending(&ctx, FAMILY_IPV4);
    ALLOW
}

#[cgroup_sock_addr(sendmsg6)]
fn sendmsg6(ctx: SockAddrContext) -> i32 {
    connect::sending(&ctx, FAMILY_IPV6);
    ALLOW
}

#[cgroup_sock(sock_create)]
fn sock_create(ctx: SockContext) -> i32 {
    socket::created(&ctx);
    ALLOW
}

#[cgroup_sock(sock_release)]
fn sock_release(ctx: SockContext) -> i32 {
    socket::released(&ctx);
    ALLOW
}

#[cgroup_skb(egress)]
fn packet_out(ctx: SkBuffContext) -> i32 {
    packet::seen(&ctx, packet::Direction::Out);
    ALLOW
}

#[cgroup_skb(ingress)]
fn packet_in(ctx: SkBuffContext) -> i32 {
    packet::seen(&ctx, packet::Direction::In);
    ALLOW
}

#[sock_ops]
fn tcp_milestone(ctx: SockOpsContext) -> u32 {
    sockops::changed(&ctx);
    ALLOW as u32
}

#[raw_tracepoint(tracepoint = "sched_process_exec")]
fn process_exec(ctx: RawTracePointContext) -> i32 {
    process::executed(&ctx);
    0
}

#[raw_tracepoint(tracepoint = "sched_process_fork")]
fn process_fork(ctx: RawTracePointContext) -> i32 {
    process::forked(&ctx);
    0
}

#[raw_tracepoint(tracepoint = "sched_process_exit")]
fn process_exit(ctx: RawTracePointContext) -> i32 {
    process::exited(&ctx);
    0
}

#[raw_tracepoint(tracepoint = "cgroup_mkdir")]
fn cgroup_mkdir(ctx: RawTracePointContext) -> i32 {
    process::cgroup_made(&ctx);
    0
}

#[btf_tracepoint(function = "sock_send_length")]
fn sock_send_length(ctx: BtfTracePointContext) -> i32 {
    if let Some(call) = Call::traced(&ctx) {
        sender::sent(&call);
    }
    0
}

#[btf_tracepoint(function = "sock_recv_length")]
fn sock_recv_length(ctx: BtfTracePointContext) -> i32 {
    if let Some(call) = Call::traced(&ctx) {
        sender::received(&call, ctx.arg(2));
    }
    0
}

#[fexit(function = "inet_sendmsg")]
fn inet_sendmsg(ctx: FExitContext) -> i32 {
    if let Some(call) = Call::returned::<3, true>(&ctx) {
        sender::sent(&call);
    }
    0
}

#[fexit(function = "inet6_sendmsg")]
fn inet6_sendmsg(ctx: FExitContext) -> i32 {
    if let Some(call) = Call::returned::<3, true>(&ctx) {
        sender::sent(&call);
    }
    0
}

#[fexit(function = "inet_sendpage")]
fn inet_sendpage(ctx: FExitContext) -> i32 {
    if let Some(call) = Call::returned::<5, false>(&ctx) {
        sender::sent(&call);
    }
    0
}

#[fexit(function = "packet_sendmsg")]
fn packet_sendmsg(ctx: FExitContext) -> i32 {
    if let Some(call) = Call::returned::<3, true>(&ctx) {
        sender::sent(&call);
    }
    0
}

#[fexit(function = "inet_recvmsg")]
fn inet_recvmsg(ctx: FExitContext) -> i32 {
    if let Some(call) = Call::returned::<4, true>(&ctx) {
        sender::received(&call, ctx.arg(3));
    }
    0
}

#[fexit(function = "inet6_recvmsg")]
fn inet6_recvmsg(ctx: FExitContext) -> i32 {
    if let Some(call) = Call::returned::<4, true>(&ctx) {
        sender::received(&call, ctx.arg(3));
    }
    0
}

/// The attribute's crate has none for iterators.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
extern "C" fn held_sockets(ctx: *mut core::ffi::c_void) -> i32 {
    inventory::held(ctx);
    0
}

/// Several helpers are reserved for GPL-compatible programs; the sources are dual-licensed MIT OR Apache-2.0 besides.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
