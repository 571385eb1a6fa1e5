//! The archive format the kernel unpacks at boot: cpio "newc", as in the kernel's
//! `Documentation/driver-api/early-userspace/buffer-format.rst`.

use std::collections::BTreeSet;
use std::path::Path;

/// An archive in memory.
#[derive(Debug, Default)]
pub(in crate::vm) struct Archive {
    bytes: Vec<u8>,
    names: BTreeSet<String>,
}

/// `S_IFDIR`, `S_IFREG` and `S_IFLNK` of `stat(2)`.
const FOLDER_TYPE: u32 = 0o040_000;
const FILE_TYPE: u32 = 0o100_000;
const LINK_TYPE: u32 = 0o120_000;

impl Archive {
    /// Adds a folder and those above it; again is no harm.
    pub(super) fn folder(&mut self, name: &str) {
        if name.is_empty() || !self.names.insert(name.to_owned()) {
            return;
        }
        self.parent(name);
        self.entry(name, FOLDER_TYPE | 0o755, &[]);
    }

    /// Adds a file and the folders above it; the first file of a name stays.
    pub(in crate::vm) fn file(&mut self, name: &str, permissions: u32, content: &[u8]) {
        if !self.names.insert(name.to_owned()) {
            return;
        }
        self.parent(name);
        self.entry(name, FILE_TYPE | permissions, content);
    }

    /// Adds a symbolic link and the folders above it.
    pub(in crate::vm) fn link(&mut self, name: &str, target: &str) {
        if !self.names.insert(name.to_owned()) {
            return;
        }
        self.parent(name);
        self.entry(name, LINK_TYPE | 0o777, target.as_bytes());
    }

    /// The bytes of the finished archive.
    pub(in crate::vm) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }

    fn parent(&mut self, name: &str) {
        if let Some(parent) = Path::new(name).parent().and_then(Path::to_str) {
            self.folder(parent);
        }
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) {
        // Inode numbers only matter for hard links, and there are none.
        let inode = self.names.len();
        let links = 1;
        let size = content.len();
        let name_size = name.len() + 1;
        // Magic, inode, mode, user, group, links, time, size, four device numbers, length of the name, checksum.
        let header = format!(
            "070701{inode:08X}{mode:08X}{user:08X}{group:08X}{links:08X}{time:08X}{size:08X}\
             {device:08X}{device:08X}{device:08X}{device:08X}{name_size:08X}{checksum:08X}",
            user = 0,
            group = 0,
            time = 0,
            device = 0,
            checksum = 0,
        );
        self.bytes.extend_from_slice(header.as_bytes());
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    /// Names and contents each end at a multiple of four.
    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads an archive back: name, mode and content of each entry.
    fn read(bytes: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let number = |position: usize| {
            let digits = std::str::from_utf8(&bytes[position..position + 8]).expect("digits");
            u32::from_str_radix(digits, 16).expect("a hexadecimal number")
        };
        let mut entries = Vec::new();
        let mut position = 0;
        loop {
            assert_eq!(&bytes[position..position + 6], b"070701");
            let (mode, size, name_size) =
                (number(position + 14), number(position + 54) as usize, number(position + 94) as usize);
            let name_start = position + 110;
            let name = String::from_utf8(bytes[name_start..name_start + name_size - 1].to_vec()).expect("a name");
            assert_eq!(bytes[name_start + name_size - 1], 0);
            let content_start = (name_start + name_size).next_multiple_of(4);
            position = (content_start + size).next_multiple_of(4);
            if name == "TRAILER!!!" {
                assert_eq!(position, bytes.len());
                return entries;
            }
            entries.push((name, mode, bytes[content_start..content_start + size].to_vec()));
        }
    }

    #[test]
    fn an_archive_reads_back_with_folders_before_their_files() {
        let mut archive = Archive::default();
        archive.folder("proc");
        archive.file("lib/modules/veth.ko", 0o644, b"12345");
        archive.file("lib/modules/veth.ko", 0o644, b"a second file of that name");
        archive.file("init", 0o755, b"");
        archive.folder("lib");
        assert_eq!(
            read(&archive.finish()),
            [
                ("proc".to_owned(), 0o040_755, vec![]),
                ("lib".to_owned(), 0o040_755, vec![]),
                ("lib/modules".to_owned(), 0o040_755, vec![]),
                ("lib/modules/veth.ko".to_owned(), 0o100_644, b"12345".to_vec()),
                ("init".to_owned(), 0o100_755, vec![]),
            ]
        );
    }
}
