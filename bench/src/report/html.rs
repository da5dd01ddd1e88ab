//! The page: one file, no scripts, nothing from a network.

use std::fmt::Write as _;

use super::figures::{self, Figure};
use super::svg::{self, Picture, escaped};
use super::words::{binary, shown};
use crate::columns::{Columns, is_number};
use crate::result::{Document, Row};

const STYLE: &str = include_str!("style.css");

/// The page of all results.
pub(super) fn page(documents: &[Document], figures: &[Figure]) -> String {
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>Portway: measurements and sizing</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         <h1>Measurements and sizing</h1>\n"
    );
    let labels = figures::labels(documents);
    let labelled = || documents.iter().zip(&labels);
    for (first, label) in labelled().filter_map(|(it, label)| Some((it.notes.first()?, label))) {
        let _ = writeln!(page, "<p class=\"lead\"><b>{label}</b> {}</p>", marked(first));
    }
    page += "<div class=\"figures\">\n";
    page.extend(figures.iter().map(figure));
    page += "</div>\n";
    for (document, label) in labelled().filter(|(document, _)| document.notes.len() > 1) {
        let _ = write!(page, "<section class=\"notes\">\n<h2>Why: {label}</h2>\n<ul>\n");
        let notes = document.notes.iter().skip(1);
        page.extend(notes.map(|note| format!("<li>{}</li>\n", marked(note))));
        page += "</ul>\n</section>\n";
    }
    page += "<section>\n<h2>Where and when</h2>\n";
    page += &table(&machines(documents));
    page += "</section>\n";
    for (document, label) in labelled() {
        let _ = write!(
            page,
            "<section>\n<details>\n<summary>All numbers: {label}</summary>\n{}</details>\n</section>\n",
            table(&rows(document))
        );
    }
    page + "</body>\n</html>\n"
}

fn figure(figure: &Figure) -> String {
    let mut out = format!("<figure>\n<h2>{}</h2>\n", escaped(&figure.title));
    out += &svg::draw(&figure.picture, &figure.title);
    if let Picture::Lines(lines) = &figure.picture {
        out += "<ul class=\"keys\">\n";
        for (number, series) in lines.series.iter().enumerate() {
            let _ = writeln!(out, "<li>{}{}</li>", svg::key(number), escaped(&series.name));
        }
        out += "</ul>\n";
    }
    let _ = write!(
        out,
        "<figcaption>{}</figcaption>\n<details>\n<summary>Numbers</summary>\n{}</details>\n</figure>\n",
        escaped(figure.caption),
        table(&figure.numbers)
    );
    out
}

/// Text with what stands between backquotes as code.
fn marked(text: &str) -> String {
    let parts = text.split('`').enumerate();
    let part = |(number, part): (usize, &str)| {
        if number % 2 == 1 { format!("<code>{}</code>", escaped(part)) } else { escaped(part) }
    };
    parts.map(part).collect()
}

fn table(columns: &Columns) -> String {
    let rows = columns.rows();
    let mut out = String::from("<div class=\"wide\"><table>\n");
    for (number, row) in rows.iter().enumerate() {
        let tag = if number == 0 { "th" } else { "td" };
        out += "<tr>";
        for (column, cell) in row.iter().enumerate() {
            let class = if is_number(rows, column) { " class=\"n\"" } else { "" };
            let _ = write!(out, "<{tag}{class}>{}</{tag}>", escaped(cell));
        }
        out += "</tr>\n";
    }
    out + "</table></div>\n"
}

/// The command that wrote a document.
pub(super) fn kind(document: &Document) -> String {
    serde_json::to_value(document.kind)
        .ok()
        .and_then(|kind| Some(kind.as_str()?.to_owned()))
        .unwrap_or_default()
}

/// The day and minute of a time since 1970, in UTC.
pub(super) fn date(when: u64) -> String {
    // Days to a date, from the first of March of the year 0 (H. Hinnant, "chrono-compatible
    // low-level date algorithms").
    let days = when / 86_400 + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    let (hour, minute) = (when / 3600 % 24, when / 60 % 60);
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02} UTC")
}

/// What each document was measured on.
pub(super) fn machines(documents: &[Document]) -> Columns {
    let mut table = Columns::new(&["result", "when", "processors", "memory", "kernel"]);
    for (document, label) in documents.iter().zip(figures::labels(documents)) {
        let machine = &document.machine;
        table.row([
            label,
            date(document.when),
            format!("{} x {}", machine.processors, machine.cpu),
            binary(machine.memory_bytes as f64),
            machine.kernel.clone(),
        ]);
    }
    table
}

/// Every row of a document.
pub(super) fn rows(document: &Document) -> Columns {
    let headings = ["", "size", "at", "median", "low", "high", "runs", "CPU s/GB"];
    let mut table = Columns::new(&headings);
    for row in &document.results {
        let [median, low, high] = [row.median, row.low, row.high].map(|it| shown(row.unit, it));
        let Row { size, at, runs, cpu_s_per_gb, .. } = row;
        table.row([
            figures::name(row),
            size.map_or_else(String::new, |size| binary(size as f64)),
            at.map_or_else(String::new, |at| at.to_string()),
            median,
            low,
            high,
            runs.len().to_string(),
            cpu_s_per_gb.map_or_else(String::new, |cpu| format!("{cpu:.3}")),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(date(0), "1970-01-01 00:00 UTC");
        assert_eq!(date(951_782_400), "2000-02-29 00:00 UTC");
        assert_eq!(date(1_700_000_000), "2023-11-14 22:13 UTC");
    }

    #[test]
    fn code_is_marked_and_text_escaped() {
        assert_eq!(marked("a `b<c` d"), "a <code>b&lt;c</code> d");
    }
}
