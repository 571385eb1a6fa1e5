//! The process's memory: giving it back, and how much of it there is.

/// Gives free memory back to the system. The start reads the kernel's types and unpacks the ownership data, and a flood
/// of flows passes: without this, the allocator would keep what they needed at most for the rest of the run.
pub(crate) fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes a number of bytes to keep and touches free memory only, under the allocator's own locks.
    unsafe {
        nix::libc::malloc_trim(0);
    }
}

/// Lets all threads allocate from one place: each further one would keep free memory of its own. To be called before
/// there are threads.
pub(crate) fn share_one_arena() {
    #[cfg(target_env = "gnu")]
    // SAFETY: sets a number of the allocator's, under its own lock.
    unsafe {
        nix::libc::mallopt(nix::libc::M_ARENA_MAX, 1);
    }
}

/// Resident bytes of this process (`/proc/self/statm`, the second number, in pages); `None` where that cannot be read.
pub(crate) fn resident_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    let page_bytes = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok()??;
    pages.checked_mul(u64::try_from(page_bytes).ok()?)
}
