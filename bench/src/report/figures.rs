//! What a set of results has pictures for, each with its numbers as a table.

use std::collections::BTreeSet;

use super::axis::Axis;
use super::html;
use super::svg::{Bar, LOOKS, Lines, Picture, Series};
use super::words::{binary, shown};
use crate::columns::Columns;
use crate::result::{Document, Kind, Latency, Row, Unit};

/// A picture and its numbers.
#[derive(Debug, Clone)]
pub(super) struct Figure {
    pub(super) title: String,
    /// What is to be seen in it.
    pub(super) caption: &'static str,
    pub(super) picture: Picture,
    pub(super) numbers: Columns,
}

/// All figures that the results have data for.
pub(super) fn all(documents: &[Document]) -> Vec<Figure> {
    let mut figures = Vec::new();
    figures.extend(over_size(documents, Unit::BytesPerSecond));
    figures.extend(over_size(documents, Unit::BitsPerSecond));
    figures.extend(rates(documents));
    figures.extend(stages(documents));
    figures.extend(latencies(documents));
    figures.extend(utilisation(documents));
    figures.extend(price(documents));
    figures
}

/// Each of them once, in the order in which they come.
fn unique(all: impl Iterator<Item = String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    all.filter(|it| seen.insert(it.clone())).collect()
}

/// `stage, case`, or the stage alone.
pub(super) fn name(row: &Row) -> String {
    if row.case.is_empty() { row.stage.clone() } else { format!("{}, {}", row.stage, row.case) }
}

/// Rows with what they are called in one figure, those of one name together. What several results have
/// is told apart by the result that it is of.
fn rows<'a>(
    documents: &'a [Document],
    of: impl Fn(&Document, &Row) -> bool,
    name: impl Fn(&Row) -> String,
) -> Vec<(String, &'a Row)> {
    let mut groups: Vec<(String, Vec<(usize, &Row)>)> = Vec::new();
    for (place, document) in documents.iter().enumerate() {
        for row in document.results.iter().filter(|row| of(document, row)) {
            let name = name(row);
            match groups.iter_mut().find(|(known, _)| *known == name) {
                Some((_, own)) => own.push((place, row)),
                None => groups.push((name, vec![(place, row)])),
            }
        }
    }
    let labels = labels(documents);
    let shown = |(name, own): (String, Vec<(usize, &'a Row)>)| {
        let several = own.iter().any(|(place, _)| *place != own[0].0);
        let labels = &labels;
        own.into_iter().map(move |(place, row)| {
            let name = if several { format!("{}: {name}", labels[place]) } else { name.clone() };
            (name, row)
        })
    };
    groups.into_iter().flat_map(shown).collect::<Vec<_>>()
}

/// What each result is called: its kind, and a number where there are several of one.
pub(super) fn labels(documents: &[Document]) -> Vec<String> {
    let of =
        |kind: Kind, documents: &[Document]| documents.iter().filter(|it| it.kind == kind).count();
    let label = |(place, document): (usize, &Document)| match of(document.kind, documents) {
        1 => html::kind(document),
        _ => format!("{} {}", html::kind(document), of(document.kind, &documents[..=place])),
    };
    documents.iter().enumerate().map(label).collect()
}

fn over_size(documents: &[Document], unit: Unit) -> Option<Figure> {
    let of = |_: &Document, row: &Row| {
        row.unit == unit && row.size.is_some_and(|size| size > 0) && row.at.is_none()
    };
    let mut numbers = Columns::new(&["", "size", "median", "low", "high"]);
    let mut all = Vec::new();
    let rows = rows(documents, of, name);
    for series in unique(rows.iter().map(|(name, _)| name.clone())) {
        let own = rows.iter().filter(|(name, _)| *name == series);
        let mut own: Vec<&Row> = own.map(|(_, row)| *row).collect();
        own.sort_by_key(|row| row.size);
        // One size is no line; it is a bar among the rates.
        if own.first().map(|row| row.size) == own.last().map(|row| row.size) {
            continue;
        }
        let size = |row: &Row| row.size.unwrap_or(0) as f64;
        for row in &own {
            let [median, low, high] = [row.median, row.low, row.high].map(|rate| shown(unit, rate));
            numbers.row([series.clone(), binary(size(row)), median, low, high]);
        }
        let points = own.iter().map(|row| (size(row), row.median)).collect();
        all.push(Series { name: series, points });
    }
    if all.is_empty() {
        return None;
    }
    let points = || all.iter().flat_map(|series| &series.points);
    let lines = Lines {
        x: Axis::log(2.0, points().map(|(size, _)| *size)),
        y: Axis::linear(points().map(|(_, rate)| *rate)),
        x_title: "size of a message".to_owned(),
        x_shown: binary,
        y_shown: if unit == Unit::BitsPerSecond {
            |rate| shown(Unit::BitsPerSecond, rate)
        } else {
            |rate| shown(Unit::BytesPerSecond, rate)
        },
        series: all,
    };
    Some(Figure {
        title: "Throughput over message size".to_owned(),
        caption: "Where a line bends, the cost of a message stops to count.",
        picture: Picture::Lines(lines),
        numbers,
    })
}

/// Bars of rows, with a table of the same.
fn bars(title: &str, caption: &'static str, rows: Vec<(String, &Row)>) -> Option<Figure> {
    let mut numbers = Columns::new(&["", "median", "low", "high", "CPU s/GB"]);
    let mut bars = Vec::new();
    let mut shares = true;
    for (name, row) in rows {
        shares &= row.unit == Unit::Share;
        let [median, low, high] = [row.median, row.low, row.high].map(|it| shown(row.unit, it));
        let cpu = row.cpu_s_per_gb.map_or_else(String::new, |cpu| format!("{cpu:.3}"));
        numbers.row([name.clone(), median.clone(), low, high, cpu]);
        let (value, low, high) = (row.median, row.low, row.high);
        bars.push(Bar { name, shown: median, value, low, high });
    }
    if bars.is_empty() {
        return None;
    }
    // A share is a part of all; of others the longest fills the picture.
    let most = bars.iter().map(|bar| bar.high).fold(f64::MIN_POSITIVE, f64::max);
    let picture = Picture::Bars { full: if shares { most.max(1.0) } else { most }, bars };
    Some(Figure { title: title.to_owned(), caption, picture, numbers })
}

/// A figure for each stage of one machine.
fn rates(documents: &[Document]) -> Vec<Figure> {
    let of = |document: &Document, row: &Row| {
        document.kind == Kind::Local && row.unit == Unit::BytesPerSecond
    };
    let all = documents.iter().flat_map(|document| {
        document.results.iter().filter(move |row| of(document, row)).map(|row| row.stage.clone())
    });
    let caption = "Longer is faster. The thin line goes from the slowest run to the fastest.";
    let figure = |stage: String| {
        let case =
            |row: &Row| if row.case.is_empty() { row.stage.clone() } else { row.case.clone() };
        let own = rows(documents, |it, row| of(it, row) && row.stage == stage, case);
        bars(&format!("Rate of a stage: {stage}"), caption, own)
    };
    unique(all).into_iter().filter_map(figure).collect()
}

/// What the stages of transfers did: how long, and how fast while they did.
fn stages(documents: &[Document]) -> impl Iterator<Item = Figure> {
    let of = |unit: Unit| {
        let of = |document: &Document, row: &Row| {
            document.kind == Kind::Transfer && row.unit == unit && row.latency_s.is_none()
        };
        rows(documents, of, name)
    };
    let caption =
        "Longer is busier. The stage that is busy longest limits; one that waits has room.";
    let times = [
        bars("Time per stage", caption, of(Unit::Seconds)),
        bars("Time per stage, as a share", caption, of(Unit::Share)),
        bars(
            "Rate per stage of a transfer",
            "Longer is faster. What a stage would do if it never waited.",
            of(Unit::BytesPerSecond),
        ),
    ];
    times.into_iter().flatten()
}

/// A row's name with the size of its messages.
fn sized(row: &Row) -> String {
    let size = row.size.map_or_else(String::new, |size| format!(", {}", binary(size as f64)));
    name(row) + &size
}

/// A figure of latencies; RDMA has one for each operation, since each has many sizes.
fn latencies(documents: &[Document]) -> Vec<Figure> {
    let title = |document: &Document, row: &Row| match document.kind {
        Kind::Rdma => format!("Latency at percentiles: {}", row.stage),
        _ => "Latency at percentiles".to_owned(),
    };
    let of = |row: &&Row| row.latency_s.is_some();
    let all = documents.iter().flat_map(|document| {
        document.results.iter().filter(of).map(move |row| title(document, row))
    });
    let figure = |own: String| {
        let rows = rows(documents, |it, row| of(&row) && title(it, row) == own, sized);
        let rows = rows.into_iter().filter_map(|(name, row)| Some((name, row.latency_s?)));
        latency(own, &rows.collect::<Vec<_>>())
    };
    unique(all).into_iter().map(figure).collect()
}

/// Every row in the table; in the picture no more than can be told apart, from the first to the last.
fn latency(title: String, rows: &[(String, Latency)]) -> Figure {
    let marks = ["p50", "p90", "p99", "p99.9"];
    let mut numbers = Columns::new(&["", marks[0], marks[1], marks[2], marks[3]]);
    let mut all = Vec::new();
    for (name, latency) in rows {
        let values = [latency.p50, latency.p90, latency.p99, latency.p999];
        let [a, b, c, d] = values.map(|value| shown(Unit::Seconds, value));
        numbers.row([name.clone(), a, b, c, d]);
        // A logarithm has no zero.
        let points = values.iter().map(|value| value.max(1e-9));
        let points = points.enumerate().map(|(mark, value)| (mark as f64, value)).collect();
        all.push(Series { name: name.clone(), points });
    }
    let last = all.len().saturating_sub(1);
    if all.len() > LOOKS {
        let places: BTreeSet<usize> =
            (0..LOOKS).map(|look| (look * last + (LOOKS - 1) / 2) / (LOOKS - 1)).collect();
        let mut place = 0;
        all.retain(|_| {
            place += 1;
            places.contains(&(place - 1))
        });
    }
    let lines = Lines {
        x: Axis::Names(marks.map(str::to_owned).into()),
        y: Axis::log(10.0, all.iter().flat_map(|series| series.points.iter().map(|(_, s)| *s))),
        x_title: "share of messages that took no longer".to_owned(),
        x_shown: |mark| ["50 %", "90 %", "99 %", "99.9 %"][(mark as usize).min(3)].to_owned(),
        y_shown: |s| shown(Unit::Seconds, s),
        series: all,
    };
    Figure {
        title,
        caption: "Each mark upwards is ten times as long. A line that rises has a long tail.",
        picture: Picture::Lines(lines),
        numbers,
    }
}

/// Medians of a series, by place.
pub(super) fn series(document: &Document, stage: &str, case: &str) -> Vec<f64> {
    let own = document.results.iter().filter(|row| row.stage == stage && row.case == case);
    let mut own: Vec<(u64, f64)> = own.filter_map(|row| Some((row.at?, row.median))).collect();
    own.sort_by_key(|(at, _)| *at);
    own.into_iter().map(|(_, value)| value).collect()
}

fn utilisation(documents: &[Document]) -> Vec<Figure> {
    let several = documents.iter().filter(|it| it.kind == Kind::Size).count() > 1;
    let week = |(document, label): (&Document, String)| {
        let case = &document.results.iter().find(|row| row.stage == "utilisation")?.case;
        let of = if several { format!("{label}: {case}") } else { case.clone() };
        Some(week(&of, series(document, "utilisation", case)))
    };
    documents.iter().zip(labels(documents)).filter_map(week).collect()
}

fn week(of: &str, hours: Vec<f64>) -> Figure {
    let mut numbers = Columns::new(&["hour", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]);
    for hour in 0..24 {
        // The hour, then the days.
        numbers.row([0, 1, 2, 3, 4, 5, 6, 7].map(|column: usize| match column.checked_sub(1) {
            None => format!("{hour:02}:00"),
            Some(day) => {
                let share = hours.get(day * 24 + hour);
                share.map_or_else(String::new, |share| format!("{:.0} %", share * 100.0))
            }
        }));
    }
    Figure {
        title: format!("Utilisation by hour: {of}"),
        caption: "How much of the links the median week uses, hour by hour.",
        picture: Picture::Week(hours),
        numbers,
    }
}

fn price(documents: &[Document]) -> Option<Figure> {
    let mut all = Vec::new();
    let mut numbers = Columns::new(&["option", "month", "links", "sent", "price"]);
    let several = documents.iter().filter(|it| it.kind == Kind::Size).count() > 1;
    for (document, label) in documents.iter().zip(labels(documents)) {
        let of = |row: &&Row| row.stage == "price" && row.at.is_some();
        let cases = document.results.iter().filter(of).map(|row| row.case.clone());
        for case in &unique(cases) {
            let option = if several { format!("{label}: {case}") } else { case.clone() };
            let [price, links, sent] =
                ["price", "links", "sent a month"].map(|stage| series(document, stage, case));
            for (month, price) in price.iter().enumerate() {
                // The first, each half year, and whenever there is a link more.
                let more = month > 0 && links.get(month) != links.get(month - 1);
                if month % 6 == 0 || more {
                    numbers.row([
                        option.clone(),
                        month.to_string(),
                        links.get(month).map_or_else(String::new, |it| shown(Unit::Count, *it)),
                        sent.get(month).map_or_else(String::new, |it| shown(Unit::Bytes, *it)),
                        shown(Unit::UsdPerMonth, *price),
                    ]);
                }
            }
            let points =
                price.iter().enumerate().map(|(month, usd)| (month as f64, *usd)).collect();
            all.push(Series { name: option, points });
        }
    }
    if all.is_empty() {
        return None;
    }
    let points = || all.iter().flat_map(|series| &series.points);
    let lines = Lines {
        x: Axis::linear(points().map(|(month, _)| *month)),
        y: Axis::linear(points().map(|(_, usd)| *usd)),
        x_title: "months from now".to_owned(),
        x_shown: |month| format!("{month:.0}"),
        y_shown: |usd| format!("${usd:.0}"),
        series: all,
    };
    Some(Figure {
        title: "Price over growth".to_owned(),
        caption: "US dollars a month. A step is one link more; a line that ends has not enough links.",
        picture: Picture::Lines(lines),
        numbers,
    })
}
