//! Field offsets out of the running kernel's type information (BTF).
//!
//! aya parses BTF too, but keeps the fields to itself; the other crates are LGPL or long unmaintained. This reads the
//! little that is needed: structures, their members, and typedefs, by the format in
//! `Documentation/bpf/btf.rst` of the kernel.

use std::{collections::HashMap, fs, io, path::Path};

use bytes::Buf;

/// Where kernels since 5.4 publish their own BTF.
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// Why the type information cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    /// It cannot be read.
    #[error("cannot read {path}: {error}")]
    Read {
        /// The file.
        path: String,
        /// The cause.
        #[source]
        error: io::Error,
    },
    /// It is not BTF, or is cut short.
    #[error("{path} is not valid BTF: {what} at byte {at}")]
    Format {
        /// The file.
        path: String,
        /// What is wrong.
        what: &'static str,
        /// Where.
        at: usize,
    },
}

/// A kernel's types, as far as they are needed.
pub struct Btf {
    bytes: Vec<u8>,
    strings: usize,
    /// Position of each type's entry, by type id; id 0 is `void`.
    types: Vec<u32>,
    /// Type id of each structure, by name.
    structures: HashMap<Vec<u8>, u32>,
    /// Names of the typedefs that declare tracepoints for typed programs.
    tracepoints: Vec<Vec<u8>>,
}

mod type_kind {
    pub(super) const INT: u32 = 1;
    pub(super) const ARRAY: u32 = 3;
    pub(super) const STRUCT: u32 = 4;
    pub(super) const UNION: u32 = 5;
    pub(super) const ENUM: u32 = 6;
    pub(super) const TYPEDEF: u32 = 8;
    pub(super) const VOLATILE: u32 = 9;
    pub(super) const CONST: u32 = 10;
    pub(super) const RESTRICT: u32 = 11;
    pub(super) const FUNC: u32 = 12;
    pub(super) const FUNC_PROTO: u32 = 13;
    pub(super) const VAR: u32 = 14;
    pub(super) const DATASEC: u32 = 15;
    pub(super) const DECL_TAG: u32 = 17;
    pub(super) const ENUM64: u32 = 19;
}

const MAGIC: u16 = 0xeb9f;
const TRACEPOINT_PREFIX: &[u8] = b"btf_trace_";
/// Structures nest anonymously a few levels deep; more means damage.
const NESTING_LIMIT: usize = 8;

/// The fixed part of a type's entry.
struct Entry {
    name: u32,
    kind: u32,
    count: usize,
    has_bit_fields: bool,
    /// The type that a modifier or typedef stands for.
    target: u32,
    /// Position of what follows.
    extra: usize,
}

impl Btf {
    /// Reads the running kernel's BTF.
    pub fn of_running_kernel() -> Result<Self, BtfError> {
        Self::read(Path::new(VMLINUX))
    }

    /// Reads BTF from a file.
    pub fn read(path: &Path) -> Result<Self, BtfError> {
        let name = || path.display().to_string();
        let bytes = fs::read(path).map_err(|error| BtfError::Read { path: name(), error })?;
        Self::parse(bytes).map_err(|(what, at)| BtfError::Format { path: name(), what, at })
    }

    fn parse(bytes: Vec<u8>) -> Result<Self, (&'static str, usize)> {
        let mut header = bytes.get(..24).ok_or(("no header", 0))?;
        if header.get_u16_ne() != MAGIC {
            return Err(("wrong magic number", 0));
        }
        header.advance(2);
        let header_bytes = header.get_u32_ne() as usize;
        let (type_offset, type_bytes) = (header.get_u32_ne() as usize, header.get_u32_ne() as usize);
        let (string_offset, string_bytes) = (header.get_u32_ne() as usize, header.get_u32_ne() as usize);
        let types_start = header_bytes + type_offset;
        let types_end = types_start + type_bytes;
        let strings = header_bytes + string_offset;
        if types_end > bytes.len() || strings + string_bytes > bytes.len() {
            return Err(("sections beyond the end", 8));
        }
        let mut btf = Self { bytes, strings, types: vec![0], structures: HashMap::new(), tracepoints: Vec::new() };
        let mut at = types_start;
        while at < types_end {
            let entry = btf.entry_at(at).ok_or(("type entry cut short", at))?;
            let id = btf.types.len() as u32;
            btf.types.push(at as u32);
            if entry.kind == type_kind::STRUCT {
                let name = btf.string(entry.name);
                if !name.is_empty() {
                    let name = name.to_vec();
                    btf.structures.entry(name).or_insert(id);
                }
            } else if entry.kind == type_kind::TYPEDEF
                && let Some(tracepoint) = btf.string(entry.name).strip_prefix(TRACEPOINT_PREFIX)
            {
                let tracepoint = tracepoint.to_vec();
                btf.tracepoints.push(tracepoint);
            }
            at = entry.extra + extra_bytes(&entry).ok_or(("unknown kind of type", at))?;
        }
        Ok(btf)
    }

    /// Whether typed programs can be attached to the tracepoint.
    #[must_use]
    pub fn has_tracepoint(&self, name: &str) -> bool {
        self.tracepoints.iter().any(|tracepoint| tracepoint == name.as_bytes())
    }

    /// Whether the kernel has the function, so that typed programs can be attached to it, or so that it offers what the
    /// function implements.
    #[must_use]
    pub fn has_function(&self, name: &str) -> bool {
        self.types.iter().skip(1).any(|at| {
            self.entry_at(*at as usize)
                .is_some_and(|entry| entry.kind == type_kind::FUNC && self.string(entry.name) == name.as_bytes())
        })
    }

    /// Offset in bytes of `path` (members joined by dots) in `structure`. Anonymous structures and unions are looked
    /// through. `None` if this kernel has no such field, or if it is a bit field.
    #[must_use]
    pub fn field_offset(&self, structure: &str, path: &str) -> Option<u32> {
        let mut id = *self.structures.get(structure.as_bytes())?;
        let mut offset = 0;
        for member in path.split('.') {
            let (member_offset, member_type) = self.member(id, member.as_bytes(), NESTING_LIMIT)?;
            offset += member_offset;
            id = member_type;
        }
        Some(offset)
    }

    /// Offset and type of a member, looked for in anonymous members as well.
    fn member(&self, id: u32, name: &[u8], depth: usize) -> Option<(u32, u32)> {
        let entry = self.resolved(id)?;
        if entry.kind != type_kind::STRUCT && entry.kind != type_kind::UNION {
            return None;
        }
        for index in 0..entry.count {
            let mut bytes = self.bytes.get(entry.extra + index * 12..)?.get(..12)?;
            let member_name = bytes.get_u32_ne();
            let member_type = bytes.get_u32_ne();
            let packed = bytes.get_u32_ne();
            let bits = if entry.has_bit_fields { packed & 0x00ff_ffff } else { packed };
            let member_name = self.string(member_name);
            if member_name == name {
                return bits.is_multiple_of(8).then_some((bits / 8, member_type));
            }
            if member_name.is_empty()
                && depth > 0
                && let Some((offset, found)) = self.member(member_type, name, depth - 1)
            {
                return Some((bits / 8 + offset, found));
            }
        }
        None
    }

    /// The type behind typedefs and qualifiers.
    fn resolved(&self, mut id: u32) -> Option<Entry> {
        for _ in 0..=NESTING_LIMIT {
            let entry = self.entry_at(*self.types.get(id as usize).filter(|_| id != 0)? as usize)?;
            match entry.kind {
                type_kind::TYPEDEF | type_kind::VOLATILE | type_kind::CONST | type_kind::RESTRICT => id = entry.target,
                _ => return Some(entry),
            }
        }
        None
    }

    fn entry_at(&self, at: usize) -> Option<Entry> {
        let mut bytes = self.bytes.get(at..)?.get(..12)?;
        let name = bytes.get_u32_ne();
        let info = bytes.get_u32_ne();
        let target = bytes.get_u32_ne();
        Some(Entry {
            name,
            kind: info >> 24 & 0x1f,
            count: (info & 0xffff) as usize,
            has_bit_fields: info >> 31 != 0,
            target,
            extra: at + 12,
        })
    }

    fn string(&self, offset: u32) -> &[u8] {
        let bytes = self.bytes.get(self.strings + offset as usize..).unwrap_or_default();
        bytes.split(|byte| *byte == 0).next().unwrap_or_default()
    }
}

/// Bytes that follow a type's fixed part.
fn extra_bytes(entry: &Entry) -> Option<usize> {
    Some(match entry.kind {
        type_kind::INT | type_kind::VAR | type_kind::DECL_TAG => 4,
        type_kind::ARRAY => 12,
        type_kind::STRUCT | type_kind::UNION | type_kind::DATASEC | type_kind::ENUM64 => entry.count * 12,
        type_kind::ENUM | type_kind::FUNC_PROTO => entry.count * 8,
        2 | 7..=12 | 16 | 18 => 0,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn finds_fields_of_the_running_kernel() {
        let Ok(btf) = Btf::of_running_kernel() else {
            eprintln!("skipped: this kernel publishes no BTF");
            return;
        };
        assert_eq!(btf.field_offset("list_head", "next"), Some(0));
        assert_eq!(btf.field_offset("list_head", "prev"), Some(8));
        assert!(btf.field_offset("dentry", "d_name.name").is_some_and(|offset| offset > 0));
        assert!(btf.field_offset("inode", "i_nlink").is_some());
        assert_eq!(btf.field_offset("task_struct", "no_such_field"), None);
        assert_eq!(btf.field_offset("no_such_structure", "x"), None);
        assert!(btf.has_tracepoint("sched_process_exec"));
        assert!(!btf.has_tracepoint("no_such_tracepoint"));
        assert!(btf.has_function("inet_sendmsg"));
        assert!(!btf.has_function("no_such_function"));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(tail in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut bytes = MAGIC.to_ne_bytes().to_vec();
            bytes.extend([1, 0, 24, 0, 0, 0]);
            bytes.extend(&tail);
            if let Ok(btf) = Btf::parse(bytes) {
                let _ = btf.field_offset("a", "b.c");
            }
        }
    }
}
