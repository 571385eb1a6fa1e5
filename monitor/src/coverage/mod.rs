//! What is seen on which rung, as data: the one source of `egresswatch coverage`, of the page in `docs/`, and of what
//! the kernel tests must prove.
//!
//! A row is one way to send. It names the kernel tests that make that traffic with known bytes and compare what the
//! monitor says; the test program refuses rows whose tests it does not have.

mod host;
mod page;
mod rows;

use serde::{Serialize, Serializer, ser::SerializeMap as _};

use crate::kernel::probes::Rung;

pub use host::Features;
pub use page::markdown;
pub use rows::{LIMITS, ROWS};

/// How well a rung sees a way to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// The executable and process that sent, and the exact payload bytes each way, with wire bytes that include the
    /// headers.
    Seen,
    /// Seen, except for what is said.
    Partly(&'static str),
    /// No flow is reported; why.
    NotSeen(&'static str),
}

impl Sight {
    /// Stable name of the state.
    #[must_use]
    pub const fn as_token(self) -> &'static str {
        match self {
            Self::Seen => "seen",
            Self::Partly(_) => "partly",
            Self::NotSeen(_) => "not_seen",
        }
    }

    /// What is missing; `None` if nothing is.
    #[must_use]
    pub const fn note(self) -> Option<&'static str> {
        match self {
            Self::Seen => None,
            Self::Partly(note) | Self::NotSeen(note) => Some(note),
        }
    }
}

impl Serialize for Sight {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("state", self.as_token())?;
        if let Some(note) = self.note() {
            map.serialize_entry("note", note)?;
        }
        map.end()
    }
}

/// What rows have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    /// TCP connections.
    Tcp,
    /// UDP datagrams.
    Udp,
    /// Protocols beside TCP and UDP.
    Protocols,
    /// System calls that hand payload to a socket.
    Calls,
    /// Who is named as the sender.
    Senders,
    /// Where the socket is, and where its packets go.
    Places,
}

impl Group {
    /// Every group, in the order of the table.
    pub const ALL: [Self; 6] = [Self::Tcp, Self::Udp, Self::Protocols, Self::Calls, Self::Senders, Self::Places];

    /// Heading of the group.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Protocols => "Other protocols",
            Self::Calls => "Ways to hand payload over",
            Self::Senders => "Who is the sender",
            Self::Places => "Where the socket is",
        }
    }
}

/// What a kernel must have for a way to send to exist at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Every kernel since 5.10 has it.
    Nothing,
    /// Multipath TCP, switched on.
    Mptcp,
    /// SCTP, built in or as a loaded module.
    Sctp,
    /// `io_uring`, not forbidden.
    IoUring,
}

/// One way to send, and how well each rung sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Stable name.
    pub token: &'static str,
    /// Where it stands in the table.
    pub group: Group,
    /// What it is, in one line.
    pub what: &'static str,
    /// What the kernel must have.
    pub needs: Needs,
    /// Names of the kernel tests that prove the row, on every rung.
    pub tests: &'static [&'static str],
    sights: [Sight; Rung::ALL.len()],
}

impl Row {
    /// A row that every rung sees.
    const fn new(group: Group, token: &'static str, what: &'static str, tests: &'static [&'static str]) -> Self {
        Self { token, group, what, needs: Needs::Nothing, tests, sights: [Sight::Seen; Rung::ALL.len()] }
    }

    /// The same, but a rung sees less.
    const fn on_rung(mut self, rung: Rung, sight: Sight) -> Self {
        #[expect(clippy::indexing_slicing, reason = "one element a rung, by the array's type")]
        {
            self.sights[rung as usize] = sight;
        }
        self
    }

    /// The same, but every rung sees less.
    const fn everywhere(mut self, sight: Sight) -> Self {
        self.sights = [sight; Rung::ALL.len()];
        self
    }

    /// The same, but not every kernel has it.
    const fn needs(self, needs: Needs) -> Self {
        Self { needs, ..self }
    }

    /// How well `rung` sees it.
    #[must_use]
    pub fn on(&self, rung: Rung) -> Sight {
        self.sights.get(rung as usize).copied().unwrap_or(Sight::Seen)
    }
}

/// Rows of which `rung` sees less than the best rung does: what a host loses by running on it.
pub fn lost_on(rung: Rung) -> impl Iterator<Item = &'static Row> {
    let best = Rung::ALL.into_iter().max().unwrap_or(rung);
    ROWS.iter().filter(move |row| row.on(rung) != row.on(best))
}

/// Something that no rung sees by design, and has no test because there is nothing to compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Limit {
    /// Stable name.
    pub token: &'static str,
    /// What is not seen, and what is reported instead.
    pub what: &'static str,
}

/// The whole table, as one host sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Version of the program.
    pub version: &'static str,
    /// Kernel release.
    pub kernel: String,
    /// The rung that the monitor would run on; `None` if it cannot run.
    pub rung: Option<&'static str>,
    /// Each way to send.
    pub rows: Vec<RowReport>,
    /// What no rung sees.
    pub limits: Vec<Limit>,
}

/// A row as one host sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RowReport {
    /// Stable name.
    pub token: &'static str,
    /// Where it stands in the table.
    pub group: Group,
    /// What it is.
    pub what: &'static str,
    /// How well this host's rung sees it; `None` if the monitor cannot run here.
    pub here: Option<Sight>,
    /// Why nothing can be sent this way on this host at present; `None` if it can.
    pub absent: Option<&'static str>,
    /// How well each rung sees it, by the rung's name.
    pub rungs: std::collections::BTreeMap<&'static str, Sight>,
    /// The kernel tests that prove it.
    pub tests: &'static [&'static str],
}

impl Report {
    /// The table for a host with this kernel, rung and features.
    #[must_use]
    pub fn new(kernel: &str, rung: Option<Rung>, features: &Features) -> Self {
        let row = |row: &Row| RowReport {
            token: row.token,
            group: row.group,
            what: row.what,
            here: rung.map(|rung| row.on(rung)),
            absent: features.absent(row.needs),
            rungs: Rung::ALL.into_iter().map(|rung| (rung.as_token(), row.on(rung))).collect(),
            tests: row.tests,
        };
        Self {
            version: env!("CARGO_PKG_VERSION"),
            kernel: kernel.to_owned(),
            rung: rung.map(Rung::as_token),
            rows: ROWS.iter().map(row).collect(),
            limits: LIMITS.to_vec(),
        }
    }
}

#[cfg(test)]
mod tests;
