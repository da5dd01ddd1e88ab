//! Results of measurements: one JSON document a run, described by `docs/result.schema.json`.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::spread::Spread;

/// The version of the format. It grows by one when a reader of the old one would be wrong.
pub(crate) const SCHEMA: u32 = 1;

/// What one run of a measuring command found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct Document {
    /// Version of this format: 1.
    pub(crate) schema: u32,
    /// The command that wrote it.
    pub(crate) kind: Kind,
    /// The machine that it ran on.
    pub(crate) machine: Machine,
    /// When it began, in seconds since 1970.
    pub(crate) when: u64,
    /// What follows from the results, a sentence each: what limits, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) notes: Vec<String>,
    /// What was measured or computed.
    pub(crate) results: Vec<Row>,
}

/// A command of `portway-bench` that writes results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// Stages on one machine, each by itself.
    Local,
    /// Content over a QUIC session to a peer.
    Quic,
    /// A network path: round trip, loss, packet size, buffers.
    Path,
    /// Content by RDMA to a peer.
    Rdma,
    /// A whole transfer, stage by stage.
    Transfer,
    /// The sizing model: computed, not measured.
    Size,
}

/// The machine of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct Machine {
    /// Model of the processor, as the kernel calls it.
    pub(crate) cpu: String,
    /// Processors that this process may use.
    pub(crate) processors: u32,
    /// Memory in bytes.
    pub(crate) memory_bytes: u64,
    /// Name, release and architecture of the kernel.
    pub(crate) kernel: String,
}

/// One thing measured in several runs, or computed for several weeks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct Row {
    /// The stage that a byte passes, such as `digest`, `disk write`, `link`.
    pub(crate) stage: String,
    /// What tells rows of a stage apart, such as `direct` or `busy`; empty if there is nothing.
    pub(crate) case: String,
    /// Unit of `median`, `low`, `high` and `runs`.
    pub(crate) unit: Unit,
    /// The median of all runs.
    pub(crate) median: f64,
    /// The lowest run.
    pub(crate) low: f64,
    /// The highest run.
    pub(crate) high: f64,
    /// Each run, in order.
    pub(crate) runs: Vec<f64>,
    /// CPU seconds for 10^9 bytes, of all processes that had a part in it.
    pub(crate) cpu_s_per_gb: Option<f64>,
    /// Bytes of one message, call or file.
    pub(crate) size: Option<u64>,
    /// Messages of all runs together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) messages: Option<u64>,
    /// Place in a series: the hour of the week from Monday 00:00, or the month from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) at: Option<u64>,
    /// How long single messages took.
    pub(crate) latency_s: Option<Latency>,
}

/// A unit of results. Rates of links are in bits, those of everything else in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) enum Unit {
    /// Bytes per second.
    #[serde(rename = "bytes/s")]
    BytesPerSecond,
    /// Bits per second.
    #[serde(rename = "bits/s")]
    BitsPerSecond,
    /// Bytes.
    #[serde(rename = "bytes")]
    Bytes,
    /// Seconds.
    #[serde(rename = "s")]
    Seconds,
    /// Messages, calls or files per second.
    #[serde(rename = "1/s")]
    PerSecond,
    /// A part of a whole, 0 to 1.
    #[serde(rename = "share")]
    Share,
    /// A number of things.
    #[serde(rename = "count")]
    Count,
    /// US dollars, once.
    #[serde(rename = "USD")]
    Usd,
    /// US dollars per month.
    #[serde(rename = "USD/month")]
    UsdPerMonth,
}

/// Latency at percentiles, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct Latency {
    /// Half of all took no longer.
    pub(crate) p50: f64,
    /// 90 % took no longer.
    pub(crate) p90: f64,
    /// 99 % took no longer.
    pub(crate) p99: f64,
    /// 99.9 % took no longer.
    pub(crate) p999: f64,
}

impl Machine {
    /// This machine, as far as the kernel tells.
    pub(crate) fn here() -> Self {
        let field = |file: &str, name: &str| {
            let text = std::fs::read_to_string(file).unwrap_or_default();
            let line = text.lines().find(|line| line.starts_with(name));
            Some(line?.split_once(':')?.1.trim().to_owned())
        };
        let kib = field("/proc/meminfo", "MemTotal");
        let kib = kib.and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok());
        let processors = std::thread::available_parallelism().map_or(1, |count| count.get() as u32);
        let system = rustix::system::uname();
        let words = [system.sysname(), system.release(), system.machine()];
        Self {
            cpu: field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".to_owned()),
            processors,
            memory_bytes: kib.unwrap_or(0) << 10,
            kernel: words.map(|word| word.to_string_lossy().into_owned()).join(" "),
        }
    }
}

impl Row {
    /// A row of runs, which are finite and at least one; size, CPU and latency are added after.
    pub(crate) fn of_runs(stage: &str, case: &str, unit: Unit, runs: Vec<f64>) -> Self {
        let Spread { median, low, high } = Spread::of(runs.clone());
        Self {
            stage: stage.to_owned(),
            case: case.to_owned(),
            unit,
            median,
            low,
            high,
            runs,
            cpu_s_per_gb: None,
            size: None,
            messages: None,
            at: None,
            latency_s: None,
        }
    }
}

impl Document {
    /// A document of this machine that begins at `when`, seconds since 1970.
    pub(crate) fn new(kind: Kind, when: u64, notes: Vec<String>, results: Vec<Row>) -> Self {
        Self { schema: SCHEMA, kind, machine: Machine::here(), when, notes, results }
    }

    /// Reads a document that a measuring command wrote.
    ///
    /// # Errors
    /// If the file cannot be read, or is not such a document, or one of another version.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let shown = path.display();
        let text = std::fs::read_to_string(path).with_context(|| format!("read {shown}"))?;
        Self::parse(&text).with_context(|| format!("{shown} is not a result of portway-bench"))
    }

    fn parse(text: &str) -> Result<Self> {
        let value: serde_json::Value = serde_json::from_str(text)?;
        let schema = value.get("schema").and_then(serde_json::Value::as_u64);
        let version = schema.context("it has no number `schema`")?;
        ensure!(
            version == u64::from(SCHEMA),
            "it has schema {version}, and this program reads {SCHEMA}: measure again with this \
             program, or use the one that wrote it"
        );
        let document: Self = serde_json::from_value(value)?;
        for row in &document.results {
            ensure!(!row.runs.is_empty(), "the row `{} {}` has no runs", row.stage, row.case);
            ensure!(
                row.low <= row.median && row.median <= row.high,
                "the row `{} {}` has a median that is not between its low and high",
                row.stage,
                row.case
            );
        }
        Ok(document)
    }

    /// The document as JSON, with a new line at its end.
    pub(crate) fn to_json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }
}

#[cfg(test)]
mod tests;
