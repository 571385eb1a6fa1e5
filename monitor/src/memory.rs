//! The process's memory: giving it back, and how much of it there is.

use std::{fs, ops::Range, path::Path};

/// Gives free memory back to the system. The start reads the kernel's types and unpacks the ownership data, and a flood
/// of flows passes: without this, the allocator would keep what they needed at most for the rest of the run.
pub(crate) fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes a number of bytes to keep and touches free memory only, under the allocator's own locks.
    unsafe {
        nix::libc::malloc_trim(0);
    }
}

/// Lets go of the pages of the program's own file, of which the start needed many: the embedded data, the kernel object
/// and the code that read them. What is needed again comes back from the page cache.
pub(crate) fn let_go_of_program() {
    let (Ok(program), Ok(maps)) = (fs::read_link("/proc/self/exe"), fs::read_to_string("/proc/self/maps")) else {
        return;
    };
    for range in maps.lines().filter_map(|line| unchanged(line, &program)) {
        let start = std::ptr::with_exposed_provenance_mut(range.start);
        // SAFETY: a private mapping of a file that nothing ever wrote to, so that its pages come back as they were.
        unsafe {
            nix::libc::madvise(start, range.len(), nix::libc::MADV_DONTNEED);
        }
    }
}

/// The addresses of a line of `/proc/self/maps` (`proc_pid_maps(5)`), if nothing but the program's file is there: its code,
/// and the start of the file, where constants are. The linker has written to the rest that cannot be written to now.
fn unchanged(line: &str, program: &Path) -> Option<Range<usize>> {
    let (addresses, rest) = line.split_once(' ')?;
    let (permissions, rest) = rest.split_once(' ')?;
    let (offset, rest) = rest.split_once(' ')?;
    let path = rest.splitn(3, ' ').nth(2)?.trim_start();
    let is_start = usize::from_str_radix(offset, 16) == Ok(0);
    let is_unchanged = permissions == "r-xp" || (permissions == "r--p" && is_start);
    if !is_unchanged || Path::new(path) != program {
        return None;
    }
    let (start, end) = addresses.split_once('-')?;
    Some(usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?)
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
    let text = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    let page_bytes = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok()??;
    pages.checked_mul(u64::try_from(page_bytes).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nothing_wrote_to_is_let_go() {
        let program = Path::new("/usr/local/bin/egress watch");
        let line = |permissions: &str, offset: &str, path: &str| {
            format!("7f00-8f00 {permissions} {offset} fd:00 1234                       {path}")
        };
        let of = |permissions, offset, path| unchanged(&line(permissions, offset, path), program);
        assert_eq!(of("r--p", "00000000", "/usr/local/bin/egress watch"), Some(0x7f00..0x8f00));
        assert_eq!(of("r-xp", "0070b000", "/usr/local/bin/egress watch"), Some(0x7f00..0x8f00));
        for (permissions, offset, path) in [
            ("r--p", "014b2000", "/usr/local/bin/egress watch"),
            ("rw-p", "00000000", "/usr/local/bin/egress watch"),
            ("r-xp", "00000000", "/usr/lib/libc.so.6"),
            ("r-xp", "00000000", ""),
        ] {
            assert_eq!(of(permissions, offset, path), None, "{permissions} {offset} {path}");
        }
        assert_eq!(unchanged("broken", program), None);
    }

    #[test]
    fn what_was_let_go_comes_back_as_it_was() {
        let before = crate::kernel::OBJECT.to_vec();
        let_go_of_program();
        assert!(crate::kernel::OBJECT == before.as_slice());
    }
}
