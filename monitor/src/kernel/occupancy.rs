//! How full a ring is, read from the two positions that the kernel keeps in front of its data.

use std::{
    io,
    num::NonZeroUsize,
    os::{fd::BorrowedFd, raw::c_void},
    ptr::{self, NonNull},
    sync::atomic::{AtomicUsize, Ordering},
};

use nix::libc;

/// A ring's positions, mapped to be read. Looking at them costs two loads.
///
/// `kernel/bpf/ringbuf.c` lays a ring out as one page with the consumer's position, one with the producer's, and the data.
/// Both only grow, in an `unsigned long` each.
#[derive(Debug)]
pub(super) struct Positions {
    pages: NonNull<c_void>,
    page_bytes: NonZeroUsize,
    /// Bytes of data that the ring holds.
    pub(super) size_bytes: u64,
}

impl Positions {
    /// Of the ring that `descriptor` is, with so many bytes.
    pub(super) fn map(descriptor: BorrowedFd<'_>, size_bytes: u64) -> io::Result<Self> {
        use std::os::fd::AsRawFd as _;
        let page_bytes = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)?
            .and_then(|bytes| NonZeroUsize::new(usize::try_from(bytes).ok()?))
            .ok_or(io::ErrorKind::Unsupported)?;
        let flags = libc::MAP_SHARED;
        // SAFETY: a new mapping at a place of the kernel's choice touches no memory that is in use, and nothing writes to it
        // from here.
        let pages = unsafe {
            libc::mmap(ptr::null_mut(), 2 * page_bytes.get(), libc::PROT_READ, flags, descriptor.as_raw_fd(), 0)
        };
        if pages == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let pages = NonNull::new(pages).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Self { pages, page_bytes, size_bytes })
    }

    /// Bytes that are written and not read, with the headers of their records.
    pub(super) fn unread_bytes(&self) -> u64 {
        // The consumer first: the other way round a producer that is fast would seem to be behind.
        let consumer = self.position(0);
        let producer = self.position(self.page_bytes.get());
        (producer.wrapping_sub(consumer) as u64).min(self.size_bytes)
    }

    fn position(&self, offset_bytes: usize) -> usize {
        // SAFETY: the offset is 0 or one page, and two pages are mapped.
        let position = unsafe { self.pages.byte_add(offset_bytes) }.cast::<usize>();
        // SAFETY: the beginning of a page is aligned, the mapping lives as long as `self`, and the kernel changes the value
        // as a whole.
        let position = unsafe { AtomicUsize::from_ptr(position.as_ptr()) };
        position.load(Ordering::Acquire)
    }
}

impl Drop for Positions {
    fn drop(&mut self) {
        // SAFETY: these are the two pages that were mapped, and nothing else points at them.
        unsafe { libc::munmap(self.pages.as_ptr(), 2 * self.page_bytes.get()) };
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, os::fd::AsFd as _};

    use super::Positions;

    /// A file that looks as a ring does.
    #[test]
    fn what_is_between_the_positions_is_unread() {
        let page_bytes = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).unwrap().unwrap();
        let page_bytes = usize::try_from(page_bytes).unwrap();
        for (consumer, producer, unread) in
            [(0, 0, 0), (0, 128, 128), (4_096, 8_192, 4_096), (usize::MAX - 7, 8, 16), (0, 1 << 20, 65_536)]
        {
            let mut file = tempfile::tempfile().unwrap();
            let mut pages = vec![0; 2 * page_bytes];
            pages[..size_of::<usize>()].copy_from_slice(&usize::to_ne_bytes(consumer));
            pages[page_bytes..page_bytes + size_of::<usize>()].copy_from_slice(&usize::to_ne_bytes(producer));
            file.write_all(&pages).unwrap();
            let positions = Positions::map(file.as_fd(), 65_536).unwrap();
            assert_eq!(positions.unread_bytes(), unread, "{consumer} {producer}");
        }
    }
}
