//! Where an imported table comes from: a note in its file, which also proves that the rest is what was written.
//!
//! It is JSON in a skippable frame (RFC 8878, 3.1.2) before the content's frame, so that any Zstandard tool passes over it.

use std::{collections::BTreeSet, io};

use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{
    OwnershipError,
    import::{Fact, Format},
};

/// The first bytes of the frame: one of the sixteen numbers that RFC 8878 sets apart.
const MAGIC: [u8; 4] = 0x184d_2a5e_u32.to_le_bytes();
/// Largest note that is read.
const MAXIMUM_BYTES: u32 = 1 << 20;

/// Of what a table was made, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// The program that made it, with its version.
    pub made_by: String,
    /// When, in UTC.
    pub made_at: jiff::Timestamp,
    /// The files, in the order in which they were given.
    pub sources: Vec<SourceNote>,
    /// Date of the embedded table, where what the files lack was taken from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filled_from_embedded: Option<Date>,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceNote {
    /// Its path or address, without what could be a secret.
    pub name: String,
    /// Its form.
    pub format: Format,
    /// Of which day it is.
    pub date: Date,
    /// What was taken from it.
    pub facts: BTreeSet<Fact>,
    /// Its SHA-256 as it was read.
    pub sha256: String,
    /// Records read.
    pub records: u64,
    /// Those of them that could not be read.
    pub bad_records: u64,
    /// Under which licence it is given, if its form tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
}

impl Provenance {
    /// The licences of its files, each once; of files that do not tell theirs there is none.
    #[must_use]
    pub fn licences(&self) -> Vec<&str> {
        let known: BTreeSet<_> = self.sources.iter().filter_map(|source| source.licence.as_deref()).collect();
        known.into_iter().collect()
    }
}

#[derive(Serialize, Deserialize)]
struct Note {
    /// SHA-256 of the content's frame.
    content_sha256: String,
    #[serde(flatten)]
    provenance: Provenance,
}

/// The SHA-256 of bytes as text.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The frame with the note; `content` is what follows it.
pub(super) fn to_frame(provenance: &Provenance, content: &[u8]) -> io::Result<Vec<u8>> {
    let note = serde_json::to_vec(&Note { content_sha256: sha256(content), provenance: provenance.clone() })?;
    let length = u32::try_from(note.len()).ok().filter(|&length| length <= MAXIMUM_BYTES);
    let length = length.ok_or_else(|| io::Error::other("the sources have too many or too long names"))?;
    Ok([&MAGIC[..], &length.to_le_bytes(), &note].concat())
}

/// Splits the note off, where there is one, and checks what follows it.
pub(super) fn from_frame(bytes: &[u8]) -> Result<(Option<Provenance>, &[u8]), OwnershipError> {
    let Some(rest) = bytes.strip_prefix(&MAGIC) else { return Ok((None, bytes)) };
    let damaged = |problem: &str| OwnershipError::Provenance { problem: problem.to_owned() };
    let (length, rest) = rest.split_first_chunk::<4>().ok_or_else(|| damaged("it ends early"))?;
    let length = u32::from_le_bytes(*length);
    let (note, content) = rest.split_at_checked(length as usize).ok_or_else(|| damaged("it ends early"))?;
    let note: Note = serde_json::from_slice(note).map_err(|error| damaged(&error.to_string()))?;
    if sha256(content) != note.content_sha256 {
        return Err(OwnershipError::Checksum);
    }
    Ok((Some(note.provenance), content))
}
