//! Giving memory back.

/// Gives free memory back to the system. The start reads the kernel's types and unpacks the ownership data, and a flood
/// of flows passes: without this, the allocator would keep what they needed at most for the rest of the run.
pub(crate) fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes a number of bytes to keep and touches free memory only, under the allocator's own locks.
    unsafe {
        nix::libc::malloc_trim(0);
    }
}
