//! A record as the monitor wrote it.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result};
use serde_json::Value;

/// One line of the monitor's output. Fields are named by JSON pointers (RFC 6901).
#[derive(Clone, Debug)]
pub(crate) struct Record(Value);

impl Record {
    /// From a line.
    pub(crate) fn parse(line: &[u8]) -> Result<Self> {
        let value =
            serde_json::from_slice(line).with_context(|| format!("no JSON: {}", String::from_utf8_lossy(line)))?;
        Ok(Self(value))
    }

    /// A text field.
    pub(crate) fn text(&self, pointer: &str) -> Option<&str> {
        self.0.pointer(pointer)?.as_str()
    }

    /// A number field.
    pub(crate) fn number(&self, pointer: &str) -> Option<u64> {
        self.0.pointer(pointer)?.as_u64()
    }

    /// A yes-or-no field.
    pub(crate) fn flag(&self, pointer: &str) -> Option<bool> {
        self.0.pointer(pointer)?.as_bool()
    }

    /// The texts of an array field; none if it is absent.
    pub(crate) fn texts(&self, pointer: &str) -> Vec<&str> {
        self.objects(pointer).filter_map(Value::as_str).collect()
    }

    /// The elements of an array field; none if it is absent.
    pub(crate) fn objects(&self, pointer: &str) -> impl Iterator<Item = &Value> {
        self.0.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
    }

    /// Whether it is an alert.
    pub(crate) fn is_alert(&self) -> bool {
        self.text("/event/dataset") == Some("egresswatch.alert")
    }

    /// Whether it is the last record of a flow.
    pub(crate) fn is_flow_end(&self) -> bool {
        self.text("/event/action") == Some("flow_ended")
    }

    /// Whether it tells a loss.
    pub(crate) fn is_loss(&self) -> bool {
        self.text("/event/dataset") == Some("egresswatch.loss")
    }

    /// Whether it tells a loss that nothing makes up for.
    pub(crate) fn is_final_loss(&self) -> bool {
        self.is_loss() && self.0.pointer("/egresswatch/loss/recoverable") != Some(&Value::Bool(true))
    }

    /// Whether this host opened the flow.
    pub(crate) fn is_egress(&self) -> bool {
        self.text("/network/direction") == Some("egress")
    }

    /// Path of the executable.
    pub(crate) fn executable(&self) -> Option<&str> {
        self.text("/process/executable")
    }

    /// Remote end of an egress flow, port 0 where there is none.
    pub(crate) fn remote(&self) -> Option<SocketAddr> {
        self.endpoint("/destination")
    }

    /// Local end of an egress flow, port 0 where there is none.
    pub(crate) fn local(&self) -> Option<SocketAddr> {
        self.endpoint("/source")
    }

    fn endpoint(&self, pointer: &str) -> Option<SocketAddr> {
        let address: IpAddr = self.text(&format!("{pointer}/ip"))?.parse().ok()?;
        let port = self.number(&format!("{pointer}/port")).unwrap_or(0);
        Some(SocketAddr::new(address, u16::try_from(port).ok()?))
    }

    /// What is true of the flow.
    pub(crate) fn facts(&self) -> Vec<&str> {
        self.texts("/egresswatch/flow/facts")
    }

    /// Payload bytes that the opener and the other side sent.
    pub(crate) fn bytes(&self) -> (Option<u64>, Option<u64>) {
        (self.number("/source/bytes"), self.number("/destination/bytes"))
    }

    /// The whole record, indented.
    pub(crate) fn pretty(&self) -> String {
        format!("{:#}", self.0)
    }

    /// The record on one line, without what seldom matters.
    pub(crate) fn summary(&self) -> String {
        let text = |pointer| self.text(pointer).unwrap_or("-");
        if self.text("/event/dataset") == Some("egresswatch.flow") || self.is_alert() {
            let remote = self.remote().map_or_else(|| "-".to_owned(), |remote| remote.to_string());
            let (out, back) = self.bytes();
            return format!(
                "{} {} pid {:?} {} {} {remote} out {out:?} in {back:?} {:?} caveats {:?}",
                text("/event/action"),
                self.executable().unwrap_or("-"),
                self.number("/process/pid"),
                text("/network/transport"),
                text("/network/direction"),
                self.facts(),
                self.texts("/egresswatch/flow/caveats"),
            );
        }
        format!("{}: {}", text("/event/action"), text("/message"))
    }
}
