//! From samples to rows of a result, and where results go: a table, JSON, a file.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use clap::Args;
use portway::base::human;

use crate::report;
use crate::result::{Document, Kind, Row, Unit};

/// Where results go.
#[derive(Debug, Args)]
pub(crate) struct OutputArgs {
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
    /// Also write JSON to this file, for `portway-bench size` and `report`
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// One run: how much was done, in what time.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sample {
    /// Bytes that were worked on.
    pub(crate) bytes: f64,
    /// Wall time in seconds.
    pub(crate) wall_s: f64,
    /// CPU seconds, of both ends where there are two.
    pub(crate) cpu_s: f64,
}

/// The rate of some runs, and the CPU time that a gigabyte took in their median.
pub(crate) fn rate(stage: &str, case: &str, samples: &[Sample]) -> Row {
    let rates = samples.iter().map(|s| s.bytes / s.wall_s).collect();
    let cpu = samples.iter().map(|s| s.cpu_s / s.bytes * 1e9).collect();
    let cpu = Row::of_runs(stage, case, Unit::Seconds, cpu).median;
    Row { cpu_s_per_gb: Some(cpu), ..Row::of_runs(stage, case, Unit::BytesPerSecond, rates) }
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl OutputArgs {
    /// Prints what was measured since `when`, and writes it where that was asked for.
    pub(crate) fn give(
        &self,
        kind: Kind,
        when: u64,
        notes: Vec<String>,
        rows: Vec<Row>,
    ) -> Result<()> {
        let document = Document::new(kind, when, notes, rows);
        if let Some(path) = &self.output {
            let written = std::fs::write(path, document.to_json()?);
            written.with_context(|| format!("write {}", path.display()))?;
        }
        if self.json {
            print!("{}", document.to_json()?);
        } else {
            print!("{}", text(&document));
        }
        Ok(())
    }
}

/// The document as a table for people.
fn text(document: &Document) -> String {
    let machine = &document.machine;
    let mut out = format!(
        "{}, {} processors, {} of memory, {}\n\n",
        machine.cpu,
        machine.processors,
        human::bytes(machine.memory_bytes),
        machine.kernel
    );
    if document.kind == Kind::Rdma {
        out += &report::perftest(document).to_string();
    } else {
        out += &table(document);
    }
    for row in document.results.iter().filter(|row| row.latency_s.is_some()) {
        if let Some(l) = row.latency_s {
            let [p50, p90, p99, p999] = [l.p50, l.p90, l.p99, l.p999].map(|s| s * 1e3);
            let size = row.size.map_or_else(String::new, |size| format!(", {size} bytes"));
            let _ = write!(
                out,
                "\n{} {}{size}: 50 % within {p50:.3} ms, 90 % {p90:.3}, 99 % {p99:.3}, 99.9 % {p999:.3}\n",
                row.stage, row.case
            );
        }
    }
    for note in &document.notes {
        let _ = write!(out, "\n{note}\n");
    }
    out
}

/// Every row with its runs' median, lowest and highest.
fn table(document: &Document) -> String {
    let head = ["stage", "case", "median", "low", "high", "runs", "CPU s/GB"].map(str::to_owned);
    let mut lines = vec![head];
    for row in &document.results {
        lines.push([
            row.stage.clone(),
            row.case.clone(),
            shown(row.median, row.unit),
            shown(row.low, row.unit),
            shown(row.high, row.unit),
            row.runs.len().to_string(),
            row.cpu_s_per_gb.map_or(String::new(), |cpu| format!("{cpu:.3}")),
        ]);
    }
    let widths: Vec<usize> =
        (0..7).map(|i| lines.iter().map(|l| l[i].chars().count()).max().unwrap_or(0)).collect();
    let mut out = String::new();
    for line in &lines {
        let mut cells = String::new();
        for (i, (cell, width)) in line.iter().zip(&widths).enumerate() {
            // Words to the left, numbers to the right.
            let _ = if i < 2 {
                write!(cells, "{cell:<width$}  ")
            } else {
                write!(cells, "{cell:>width$}  ")
            };
        }
        out += cells.trim_end();
        out.push('\n');
    }
    out
}

/// A value in its unit, for people.
fn shown(value: f64, unit: Unit) -> String {
    match unit {
        Unit::BytesPerSecond => human::rate(value),
        Unit::BitsPerSecond => bits(value),
        Unit::Bytes => human::bytes(value as u64),
        Unit::Seconds if value < 1.0 => format!("{:.3} ms", value * 1e3),
        Unit::Seconds => human::seconds(value),
        Unit::PerSecond => format!("{value:.0} /s"),
        Unit::Share if value < 0.01 && value > 0.0 => format!("{:.3} %", value * 100.0),
        Unit::Share => format!("{:.1} %", value * 100.0),
        Unit::Count if value.fract() == 0.0 => format!("{value:.0}"),
        Unit::Count => format!("{value:.2}"),
        Unit::Usd => format!("{value:.0} USD"),
        Unit::UsdPerMonth => format!("{value:.0} USD/month"),
    }
}

/// Bits a second, in decimal units.
pub(crate) fn bits(value: f64) -> String {
    match value {
        v if v >= 1e9 => format!("{:.2} Gb/s", v / 1e9),
        v => format!("{:.1} Mb/s", v / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::Latency;

    #[test]
    fn rates_are_bytes_over_wall_time_and_cpu_is_for_a_gigabyte() {
        let sample = |wall_s| Sample { bytes: 2e9, wall_s, cpu_s: 1.0 };
        let row = rate("digest", "x", &[sample(1.0), sample(2.0), sample(4.0)]);
        assert_eq!((row.low, row.median, row.high), (5e8, 1e9, 2e9));
        assert_eq!(row.cpu_s_per_gb, Some(0.5));
    }

    #[test]
    fn a_table_has_a_line_for_each_row_and_says_what_follows() {
        let mut row = Row::of_runs("link", "idle", Unit::Seconds, vec![0.002, 0.001, 0.003]);
        row.latency_s = Some(Latency { p50: 0.002, p90: 0.003, p99: 0.004, p999: 0.005 });
        let rate = Row::of_runs("link", "", Unit::BitsPerSecond, vec![1.5e9]);
        let notes = vec!["the link limits".to_owned()];
        let text = text(&Document::new(Kind::Path, 0, notes, vec![row, rate]));
        let has = |line: &str| assert!(text.contains(line), "{text}");
        has("\nlink   idle   2.000 ms   1.000 ms   3.000 ms     3\n");
        has("\nlink         1.50 Gb/s  1.50 Gb/s  1.50 Gb/s     1\n");
        has("\nlink idle: 50 % within 2.000 ms, 90 % 3.000, 99 % 4.000, 99.9 % 5.000\n");
        has("\nthe link limits\n");
    }
}
