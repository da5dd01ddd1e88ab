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

use self::words::{binary, shown};
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
        Kind::Rdma => out += &perftest(document).to_string(),
        _ => {
            let plain = Document { results: without_places(document), ..document.clone() };
            out += &html::rows(&plain).to_string();
            let latency = figures::all(std::slice::from_ref(document)).into_iter();
            for figure in latency.filter(|figure| figure.title.starts_with("Latency")) {
                let _ = write!(out, "\n{}\n\n{}", figure.title, figure.numbers);
            }
        }
    }
    if !document.notes.is_empty() {
        let _ = write!(out, "\n{}", model::wrapped(&document.notes));
    }
    out + "\n"
}

fn without_places(document: &Document) -> Vec<crate::result::Row> {
    document.results.iter().filter(|row| row.at.is_none()).cloned().collect()
}

/// Rates in the columns of perftest (`ib_write_bw`): the peak is the best run, the average the
/// median.
fn perftest(document: &Document) -> Columns {
    let headings = ["", "#bytes", "#runs", "BW peak", "BW average", "MsgRate[Mpps]"];
    let mut table = Columns::new(&headings);
    for row in document.results.iter().filter(|row| row.unit == Unit::BytesPerSecond) {
        let messages = row.size.map(|size| row.median / size.max(1) as f64 / 1e6);
        table.row([
            figures::name(row),
            row.size.map_or_else(String::new, |size| size.to_string()),
            row.runs.len().to_string(),
            shown(row.unit, row.high),
            shown(row.unit, row.median),
            messages.map_or_else(String::new, |rate| format!("{rate:.6}")),
        ]);
    }
    table
}

#[cfg(test)]
mod tests;
