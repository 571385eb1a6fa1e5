//! What the kernel programs and the daemon share: the wire records, the constants both sides must agree on, and the
//! decisions of the kernel side that are pure enough to be unit-tested.
//!
//! The records are plain integers and byte arrays in `repr(C)` with named padding. Nothing here is trusted on the
//! reading side: the daemon's `decode` module checks every length, kind and value.
#![cfg_attr(not(test), no_std)]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

pub mod accounting;
pub mod address;
pub mod loss;
pub mod offsets;
pub mod packet;
pub mod record;
pub mod settings;
pub mod socket;
