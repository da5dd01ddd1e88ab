//! Results for people: tables on the terminal, and one page with pictures.

mod axis;
mod figures;
mod html;
mod svg;
mod words;

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;

use self::words::binary;
use crate::columns::Columns;
use crate::model;
use crate::result::{Document, Kind, Unit};

/// Arguments of `report`.
#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// Results of `portway-bench local`, `quic`, `path`, `rdma`, `transfer`, `size --json`
    #[arg(required = true)]
    results: Vec<PathBuf>,
    /// Also write a page with pictures
    #[arg(short, long, value_name = "FILE.html")]
    output: Option<PathBuf>,
}

/// Prints results as tables, and writes the page.
pub(crate) fn run(args: &ReportArgs) -> Result<bool> {
    let documents: Result<Vec<_>> = args.results.iter().map(|path| Document::read(path)).collect();
    let documents = documents?;
    if let Some(path) = &args.output {
        let page = html::page(&documents, &figures::all(&documents));
        std::fs::write(path, page).with_context(|| format!("write {}", path.display()))?;
    }
    print!("{}", documents.iter().map(text).collect::<String>());
    Ok(true)
}

/// A document as text.
fn text(document: &Document) -> String {
    let machine = &document.machine;
    let mut out = format!(
        "{}, {}: {} x {}, {}, {}\n\n",
        html::kind(document),
        html::date(document.when),
        machine.processors,
        machine.cpu,
        binary(machine.memory_bytes as f64),
        machine.kernel
    );
    match document.kind {
        Kind::Size => {
            for figure in figures::all(std::slice::from_ref(document)) {
                let _ = match &figure.picture {
                    svg::Picture::Week(hours) => {
                        writeln!(out, "{}, in tenths\n\n{}", figure.title, model::hours(hours))
                    }
                    _ => writeln!(out, "{}\n\n{}", figure.title, figure.numbers),
                };
            }
        }
        Kind::Rdma => {
            out += &perftest(document).to_string();
            latency(document, &mut out);
        }
        _ => {
            let plain = Document { results: without_places(document), ..document.clone() };
            out += &html::rows(&plain).to_string();
            latency(document, &mut out);
        }
    }
    if !document.notes.is_empty() {
        let _ = write!(out, "\n{}", model::wrapped(&document.notes));
    }
    out + "\n"
}

/// Latency at percentiles, if it was measured.
fn latency(document: &Document, out: &mut String) {
    let figures = figures::all(std::slice::from_ref(document)).into_iter();
    for figure in figures.filter(|figure| figure.title.starts_with("Latency")) {
        let _ = write!(out, "\n{}\n\n{}", figure.title, figure.numbers);
    }
}

fn without_places(document: &Document) -> Vec<crate::result::Row> {
    document.results.iter().filter(|row| row.at.is_none()).cloned().collect()
}

/// Rates in the columns of perftest (`ib_read_bw`): the peak is the best run, the average the median.
/// Beside them the lowest run, and CPU seconds of both ends for 10^9 bytes.
pub(crate) fn perftest(document: &Document) -> Columns {
    let headings = [
        "",
        "#bytes",
        "#iterations",
        "BW peak[MiB/sec]",
        "BW average[MiB/sec]",
        "MsgRate[Mpps]",
        "BW low[MiB/sec]",
        "CPU s/GB",
    ];
    let mut table = Columns::new(&headings);
    let mebi = |rate: f64| format!("{:.2}", rate / f64::from(1 << 20));
    let number = |value: Option<u64>| value.map_or_else(String::new, |value| value.to_string());
    for row in document.results.iter().filter(|row| row.unit == Unit::BytesPerSecond) {
        let messages = row.size.map(|size| row.median / size.max(1) as f64 / 1e6);
        table.row([
            figures::name(row),
            number(row.size),
            number(row.messages),
            mebi(row.high),
            mebi(row.median),
            messages.map_or_else(String::new, |rate| format!("{rate:.6}")),
            mebi(row.low),
            row.cpu_s_per_gb.map_or_else(String::new, |cpu| format!("{cpu:.3}")),
        ]);
    }
    table
}

#[cfg(test)]
mod tests;
