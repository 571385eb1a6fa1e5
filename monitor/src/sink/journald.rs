//! The systemd journal, by its native protocol (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>): one datagram holds the
//! fields of one entry; what a datagram cannot hold goes as a sealed file in memory.
//!
//! systemd holds the socket while the journal restarts, so an entry that is written is queued and counts as delivered.

use std::{
    fs::File,
    io::{self, IoSlice, Write as _},
    os::fd::{AsRawFd as _, OwnedFd},
    path::PathBuf,
    time,
};

use nix::{
    fcntl::{FcntlArg, SealFlag, fcntl},
    sys::{
        memfd::{MFdFlags, memfd_create},
        socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg},
    },
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::{io::Interest, net::UnixDatagram};

use super::{
    delivery::{Delivered, Delivery, Failure, Item},
    fields::{Fields, dataset_word, priority},
};
use crate::{alert::record::Dataset, units::Duration};

/// Fields of the journal and where their values come from in the record, by JSON pointer.
const FIELDS: [(&str, &str); 21] = [
    ("EGRESSWATCH_ACTION", "/event/action"),
    ("EGRESSWATCH_REASON", "/event/reason"),
    ("EGRESSWATCH_EXECUTABLE", "/process/executable"),
    ("EGRESSWATCH_SHA256", "/process/hash/sha256"),
    ("EGRESSWATCH_PROCESS_NAME", "/process/name"),
    ("EGRESSWATCH_PROCESS_ID", "/process/pid"),
    ("EGRESSWATCH_USER", "/user/name"),
    ("EGRESSWATCH_CONTAINER_ID", "/container/id"),
    ("EGRESSWATCH_CONTAINER_NAME", "/container/name"),
    ("EGRESSWATCH_CONTAINER_IMAGE", "/egresswatch/container/image"),
    ("EGRESSWATCH_POD", "/orchestrator/resource/name"),
    ("EGRESSWATCH_NAMESPACE", "/orchestrator/namespace"),
    ("EGRESSWATCH_SOURCE_IP", "/source/ip"),
    ("EGRESSWATCH_DESTINATION_IP", "/destination/ip"),
    ("EGRESSWATCH_DESTINATION_PORT", "/destination/port"),
    ("EGRESSWATCH_DESTINATION_DOMAIN", "/destination/domain"),
    ("EGRESSWATCH_ASN", "/destination/as/number"),
    ("EGRESSWATCH_ORGANIZATION", "/destination/as/organization/name"),
    ("EGRESSWATCH_COUNTRY", "/destination/geo/country_iso_code"),
    ("EGRESSWATCH_DIRECTION", "/network/direction"),
    ("EGRESSWATCH_PROTOCOL", "/network/transport"),
];

/// Settings of an output of type `journald`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct JournaldConfig {
    /// Socket of the journal.
    pub socket: PathBuf,
    /// `SYSLOG_IDENTIFIER` of the entries, by which `journalctl -t` finds them.
    pub identifier: String,
    /// Longest time for a batch.
    #[schemars(with = "String")]
    pub timeout: Duration,
}

impl Default for JournaldConfig {
    fn default() -> Self {
        Self {
            socket: PathBuf::from("/run/systemd/journal/socket"),
            identifier: "egresswatch".to_owned(),
            timeout: Duration::from_secs(30),
        }
    }
}

/// `MESSAGE_ID` of a kind of record: `journalctl MESSAGE_ID=…` finds them, and a catalogue can explain them.
#[must_use]
pub const fn message_id(dataset: Dataset) -> &'static str {
    match dataset {
        Dataset::Alert => "d37d735d4db242358332a02257cb95cd",
        Dataset::Flow => "38f90a11df5e43c5a5d95ad5c11f56d4",
        Dataset::Executable => "29936a48d6ae4644a6d1b3ef0c11501c",
        Dataset::Loss => "a9ee8b505d684bd9ae47a5a6911c9c69",
        Dataset::Degradation => "af3553ee453342e4acf228b69d65ee52",
        Dataset::Status => "26f0befb4f314c78ab1194a7aeece2e0",
    }
}

/// Hands batches to the journal.
#[derive(Debug)]
pub struct Journald {
    description: String,
    socket: PathBuf,
    identifier: String,
    timeout: time::Duration,
}

impl Journald {
    /// It connects with each batch.
    #[must_use]
    pub fn open(config: &JournaldConfig) -> Self {
        Self {
            description: format!("journald {}", config.socket.display()),
            socket: config.socket.clone(),
            identifier: config.identifier.clone(),
            timeout: config.timeout.get(),
        }
    }

    fn connect(&self) -> Result<UnixDatagram, Failure> {
        let socket = UnixDatagram::unbound().map_err(|error| Failure::new(format!("no socket: {error}")))?;
        socket.connect(&self.socket).map_err(|error| {
            Failure::new(format!("cannot connect to {}: {error} (does systemd run here?)", self.socket.display()))
        })?;
        Ok(socket)
    }

    async fn send(&self, batch: &[Item]) -> Result<(), Failure> {
        let socket = self.connect()?;
        for (index, item) in batch.iter().enumerate() {
            let entry = self.entry(item);
            let sent = match socket.send(&entry).await {
                Err(error) if is_too_large(&error) => send_as_file(&socket, &entry).await,
                sent => sent.map(drop),
            };
            if let Err(error) = sent {
                return Err(Failure { confirmed: index, ..Failure::new(format!("cannot send: {error}")) });
            }
        }
        Ok(())
    }

    /// The fields of the entry for `item`.
    fn entry(&self, item: &Item) -> Vec<u8> {
        let fields = Fields::of(item);
        let mut entry = Vec::with_capacity(item.bytes.len() + 1_024);
        let message = fields.text("/message").map_or_else(|| item.bytes.to_vec(), String::into_bytes);
        put(&mut entry, "MESSAGE", &message);
        put(&mut entry, "PRIORITY", priority(item).to_string().as_bytes());
        put(&mut entry, "SYSLOG_IDENTIFIER", self.identifier.as_bytes());
        put(&mut entry, "MESSAGE_ID", message_id(item.dataset).as_bytes());
        put(&mut entry, "EGRESSWATCH_EVENT_ID", item.id.as_bytes());
        put(&mut entry, "EGRESSWATCH_KIND", dataset_word(item.dataset).as_bytes());
        if let Some(severity) = item.severity {
            put(&mut entry, "EGRESSWATCH_SEVERITY", severity.to_string().as_bytes());
        }
        for (name, pointer) in FIELDS {
            if let Some(value) = fields.text(pointer) {
                put(&mut entry, name, value.as_bytes());
            }
        }
        // A field of the journal may have several values.
        let mut lists = fields.texts("/egresswatch/matches", "list");
        lists.sort_unstable();
        lists.dedup();
        for list in lists {
            put(&mut entry, "EGRESSWATCH_LIST", list.as_bytes());
        }
        if fields.is_record() {
            put(&mut entry, "EGRESSWATCH_RECORD", &item.bytes);
        }
        entry
    }
}

impl Delivery for Journald {
    fn describe(&self) -> &str {
        &self.description
    }

    fn patience(&self) -> std::time::Duration {
        self.timeout
    }

    async fn deliver(&mut self, batch: &[Item]) -> Result<Delivered, Failure> {
        match tokio::time::timeout(self.timeout, self.send(batch)).await {
            Ok(sent) => sent.map(|()| Delivered::default()),
            Err(_) => {
                Err(Failure::new("the journal does not read its socket: see `systemctl status systemd-journald`"))
            }
        }
    }

    async fn probe(&mut self) -> Result<Option<String>, Failure> {
        self.connect()?;
        Ok(Some("the journal has its socket open".to_owned()))
    }
}

/// Appends a field. A value with a newline has its length before it; the short form would end there.
fn put(entry: &mut Vec<u8>, name: &str, value: &[u8]) {
    entry.extend_from_slice(name.as_bytes());
    if value.contains(&b'\n') {
        entry.push(b'\n');
        entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        entry.push(b'=');
    }
    entry.extend_from_slice(value);
    entry.push(b'\n');
}

fn is_too_large(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(nix::libc::EMSGSIZE | nix::libc::ENOBUFS))
}

/// Sends `entry` as a file in memory that nobody can change any longer, which is how the journal takes large entries.
async fn send_as_file(socket: &UnixDatagram, entry: &[u8]) -> io::Result<()> {
    let file = sealed(entry)?;
    let send = || {
        let descriptors = [file.as_raw_fd()];
        let rights = [ControlMessage::ScmRights(&descriptors)];
        let flags = MsgFlags::MSG_NOSIGNAL;
        sendmsg::<UnixAddr>(socket.as_raw_fd(), &[IoSlice::new(&[])], &rights, flags, None).map_err(io::Error::from)
    };
    socket.async_io(Interest::WRITABLE, send).await.map(drop)
}

fn sealed(entry: &[u8]) -> io::Result<OwnedFd> {
    let mut file = File::from(memfd_create("egresswatch-entry", MFdFlags::MFD_ALLOW_SEALING | MFdFlags::MFD_CLOEXEC)?);
    file.write_all(entry)?;
    let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        fs::File,
        io::{IoSliceMut, Read as _, Seek as _},
        os::{
            fd::{AsRawFd as _, FromRawFd as _},
            unix::net::UnixDatagram,
        },
    };

    use bytes::Bytes;
    use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixAddr, recvmsg};

    use super::{Journald, JournaldConfig};
    use crate::{
        alert::{Timestamp, record::Dataset},
        sink::delivery::{Delivery as _, Item},
    };

    fn item(bytes: String) -> Item {
        Item {
            id: "run-7".to_owned(),
            time: Timestamp::from_unix_ns(0),
            dataset: Dataset::Alert,
            severity: Some(47),
            bytes: Bytes::from(bytes),
        }
    }

    /// Takes one entry as the journal would, from the datagram or the file that it carries.
    fn receive(socket: &UnixDatagram) -> (BTreeMap<String, Vec<u8>>, bool) {
        let mut datagram = vec![0; 1 << 20];
        let mut ancillary = nix::cmsg_space!([i32; 1]);
        let mut buffers = [IoSliceMut::new(&mut datagram)];
        let message = recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut buffers, Some(&mut ancillary), MsgFlags::empty())
            .expect("a datagram");
        let length = message.bytes;
        let descriptor = message.cmsgs().expect("ancillary data").find_map(|message| match message {
            ControlMessageOwned::ScmRights(descriptors) => descriptors.first().copied(),
            _ => None,
        });
        let Some(descriptor) = descriptor else {
            datagram.truncate(length);
            return (parse(&datagram), false);
        };
        assert_eq!(length, 0, "an entry is in the datagram or in the file");
        // SAFETY: the descriptor was received just now and belongs to nobody else.
        let mut file = unsafe { File::from_raw_fd(descriptor) };
        let mut entry = Vec::new();
        file.rewind().expect("a file");
        file.read_to_end(&mut entry).expect("a file");
        assert!(file.set_len(0).is_err(), "the file is sealed");
        (parse(&entry), true)
    }

    fn parse(mut entry: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut fields = BTreeMap::new();
        while let Some(end) = entry.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = entry.split_at(end);
            let rest = rest.get(1..).expect("a newline");
            if let Some(equals) = line.iter().position(|byte| *byte == b'=') {
                let (name, value) = line.split_at(equals);
                let value = value.get(1..).expect("a value").to_vec();
                fields.insert(String::from_utf8(name.to_vec()).expect("a name"), value);
                entry = rest;
            } else {
                let (length, rest) = rest.split_first_chunk().expect("a length");
                let (value, rest) = rest.split_at(usize::try_from(u64::from_le_bytes(*length)).expect("short"));
                fields.insert(String::from_utf8(line.to_vec()).expect("a name"), value.to_vec());
                entry = rest.strip_prefix(b"\n").expect("a newline");
            }
        }
        assert!(entry.is_empty(), "the entry ends with a newline");
        fields
    }

    #[tokio::test]
    async fn entries_have_native_fields_and_large_ones_come_as_sealed_files() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("socket");
        let journal = UnixDatagram::bind(&path).expect("a socket");
        let mut journald = Journald::open(&JournaldConfig { socket: path, ..JournaldConfig::default() });
        let record = |message: &str| {
            item(format!(
                r#"{{"message":{message:?},"event":{{"id":"run-7"}},"destination":{{"as":{{"number":9808}}}},"egresswatch":{{"matches":[{{"list":"a"}},{{"list":"a"}}]}}}}"#
            ))
        };
        let (small, large) = (record("two\nlines"), record(&"x".repeat(400_000)));
        journald.deliver(&[small.clone(), large.clone()]).await.expect("sent");
        let (fields, from_file) = receive(&journal);
        assert!(!from_file);
        let text = |name: &str| fields.get(name).map(|value| String::from_utf8_lossy(value).into_owned());
        for (name, value) in [
            ("MESSAGE", "two\nlines"),
            ("PRIORITY", "4"),
            ("SYSLOG_IDENTIFIER", "egresswatch"),
            ("MESSAGE_ID", "d37d735d4db242358332a02257cb95cd"),
            ("EGRESSWATCH_EVENT_ID", "run-7"),
            ("EGRESSWATCH_KIND", "alert"),
            ("EGRESSWATCH_SEVERITY", "47"),
            ("EGRESSWATCH_ASN", "9808"),
            ("EGRESSWATCH_LIST", "a"),
        ] {
            assert_eq!(text(name).as_deref(), Some(value), "{name}");
        }
        assert_eq!(fields.get("EGRESSWATCH_RECORD").map(Vec::as_slice), Some(small.bytes.as_ref()));
        let (fields, from_file) = receive(&journal);
        assert!(from_file, "400 kB are more than a datagram holds");
        assert_eq!(fields.get("EGRESSWATCH_RECORD").map(Vec::as_slice), Some(large.bytes.as_ref()));
    }

    #[tokio::test]
    async fn without_a_journal_the_batch_stays_here() {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("socket");
        let mut journald = Journald::open(&JournaldConfig { socket, ..JournaldConfig::default() });
        let failure = journald.deliver(&[item("text".to_owned())]).await.expect_err("nobody there");
        assert!(
            failure.reason.ends_with("No such file or directory (os error 2) (does systemd run here?)"),
            "{failure}"
        );
    }
}
