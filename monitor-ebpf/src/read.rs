//! Reading settings, kernel memory at offsets that the daemon took from the running kernel's BTF, and addresses in contexts.

use aya_ebpf::helpers::bpf_probe_read_kernel;
use monitor_common::{address::Address, offsets::UNKNOWN};

/// A read-only setting, read from the loaded object and not from what the compiler saw.
#[macro_export]
macro_rules! setting {
    ($field:ident) => {
        // SAFETY: a field of an initialised static.
        unsafe { ::core::ptr::read_volatile(&raw const $crate::maps::SETTINGS.$field) }
    };
}

/// An offset, read from the loaded object and not from what the compiler saw.
#[macro_export]
macro_rules! offset {
    ($field:ident) => {
        // SAFETY: a field of an initialised static.
        unsafe { ::core::ptr::read_volatile(&raw const $crate::maps::OFFSETS.$field) }
    };
}

/// The value of type `T` at `base + offset`; `None` if the offset is not known or the address cannot be read.
#[inline(always)]
pub(crate) fn field<T: Copy>(base: u64, offset: u32) -> Option<T> {
    if base == 0 || offset == UNKNOWN {
        return None;
    }
    // SAFETY: `bpf_probe_read_kernel` bears any address and reports the ones that cannot be read.
    unsafe { bpf_probe_read_kernel((base + u64::from(offset)) as *const T) }.ok()
}

/// How a structure of the kernel's is read.
pub(crate) trait Reading {
    /// The value of type `T` at `base + offset`; `None` if either is not known.
    fn field<T: Copy>(base: u64, offset: u32) -> Option<T>;
}

/// By a helper that bears any address. It costs as much as the rest of many a program.
pub(crate) struct Probed;

/// By loads of typed pointers, which the verifier follows from a task that is one. A load from memory that is gone gives
/// zeros.
pub(crate) struct Typed;

impl Reading for Probed {
    #[inline(always)]
    fn field<T: Copy>(base: u64, offset: u32) -> Option<T> {
        field(base, offset)
    }
}

impl Reading for Typed {
    #[inline(always)]
    fn field<T: Copy>(base: u64, offset: u32) -> Option<T> {
        if base == 0 || offset == UNKNOWN {
            return None;
        }
        // SAFETY: the verifier checks the load of a typed pointer at the given offset, and the kernel bears its failure.
        Some(unsafe { ((base + u64::from(offset)) as *const T).read_volatile() })
    }
}

/// The address that a hook's context holds as four words: it allows no other loads than of one word each.
///
/// # Safety
///
/// `words` are in the context of the hook that runs, which lets it read them.
#[inline(always)]
pub(crate) unsafe fn address(words: *const [u32; 4]) -> Address {
    let word = words.cast::<u32>();
    // SAFETY: the caller's; volatile, so that the loads are not joined.
    Address::from_words(unsafe {
        [word.read_volatile(), word.add(1).read_volatile(), word.add(2).read_volatile(), word.add(3).read_volatile()]
    })
}
