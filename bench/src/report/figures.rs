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
    figures.extend(documents.iter().filter_map(utilisation));
    figures.extend(price(documents));
    figures
}

/// `stage, case`, or the stage alone.
pub(super) fn name(row: &Row) -> String {
    if row.case.is_empty() { row.stage.clone() } else { format!("{}, {}", row.stage, row.case) }
}

fn rows<'a>(
    documents: &'a [Document],
    of: impl Fn(&Document, &Row) -> bool + 'a,
) -> impl Iterator<Item = &'a Row> {
    let of = std::rc::Rc::new(of);
    documents.iter().flat_map(move |document| {
        let of = of.clone();
        document.results.iter().filter(move |row| of(document, row))
    })
}

/// Names in the order in which they come.
fn names<'a>(rows: impl Iterator<Item = &'a Row>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    rows.map(name).filter(|name| seen.insert(name.clone())).collect()
}

fn over_size(documents: &[Document], unit: Unit) -> Option<Figure> {
    let of = |_: &Document, row: &Row| {
        row.unit == unit && row.size.is_some_and(|size| size > 0) && row.at.is_none()
    };
    let mut numbers = Columns::new(&["", "size", "median", "low", "high"]);
    let mut all = Vec::new();
    for series in names(rows(documents, of)) {
        let mut own: Vec<&Row> = rows(documents, of).filter(|row| name(row) == series).collect();
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
fn bars<'a>(
    title: &str,
    caption: &'static str,
    named: fn(&Row) -> String,
    rows: impl Iterator<Item = &'a Row>,
) -> Option<Figure> {
    let mut numbers = Columns::new(&["", "median", "low", "high", "CPU s/GB"]);
    let mut bars = Vec::new();
    let mut shares = true;
    for row in rows {
        shares &= row.unit == Unit::Share;
        let [median, low, high] = [row.median, row.low, row.high].map(|it| shown(row.unit, it));
        let cpu = row.cpu_s_per_gb.map_or_else(String::new, |cpu| format!("{cpu:.3}"));
        numbers.row([named(row), median.clone(), low, high, cpu]);
        let (value, low, high) = (row.median, row.low, row.high);
        bars.push(Bar { name: named(row), shown: median, value, low, high });
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
    let mut stages: Vec<&String> = Vec::new();
    for row in rows(documents, of) {
        if !stages.contains(&&row.stage) {
            stages.push(&row.stage);
        }
    }
    let caption = "Longer is faster. The thin line goes from the slowest run to the fastest.";
    let figure = |stage: &String| {
        let own = rows(documents, of).filter(move |row| row.stage == *stage);
        let named =
            |row: &Row| if row.case.is_empty() { row.stage.clone() } else { row.case.clone() };
        bars(&format!("Rate of a stage: {stage}"), caption, named, own)
    };
    stages.into_iter().filter_map(figure).collect()
}

/// What the stages of transfers did: how long, and how fast while they did.
fn stages(documents: &[Document]) -> impl Iterator<Item = Figure> {
    let of = |unit: Unit| {
        rows(documents, move |document, row| {
            document.kind == Kind::Transfer && row.unit == unit && row.latency_s.is_none()
        })
    };
    let caption =
        "Longer is busier. The stage that is busy longest limits; one that waits has room.";
    let times = [
        bars("Time per stage", caption, name, of(Unit::Seconds)),
        bars("Time per stage, as a share", caption, name, of(Unit::Share)),
        bars(
            "Rate per stage of a transfer",
            "Longer is faster. What a stage would do if it never waited.",
            name,
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
    let of = |document| rows(std::slice::from_ref(document), |_, row| row.latency_s.is_some());
    let mut seen = BTreeSet::new();
    let twice: BTreeSet<String> = documents
        .iter()
        .flat_map(|document| of(document).map(sized).collect::<BTreeSet<_>>())
        .filter(|name| !seen.insert(name.clone()))
        .collect();
    let mut groups: Vec<(String, Vec<(String, Latency)>)> = Vec::new();
    let all = documents.iter().flat_map(|document| of(document).map(move |row| (document, row)));
    for (document, row) in all {
        let Some(latency) = row.latency_s else { continue };
        let title = match document.kind {
            Kind::Rdma => format!("Latency at percentiles: {}", row.stage),
            _ => "Latency at percentiles".to_owned(),
        };
        let mut name = sized(row);
        // What several results have is told apart by what measured it.
        if twice.contains(&name) {
            name = format!("{}: {name}", html::kind(document));
        }
        match groups.iter_mut().find(|(known, _)| *known == title) {
            Some((_, own)) => own.push((name, latency)),
            None => groups.push((title, vec![(name, latency)])),
        }
    }
    groups.into_iter().map(|(title, own)| latency(title, &own)).collect()
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

fn utilisation(document: &Document) -> Option<Figure> {
    let case = &document.results.iter().find(|row| row.stage == "utilisation")?.case;
    let hours = series(document, "utilisation", case);
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
    Some(Figure {
        title: format!("Utilisation by hour: {case}"),
        caption: "How much of the links the median week uses, hour by hour.",
        picture: Picture::Week(hours),
        numbers,
    })
}

fn price(documents: &[Document]) -> Option<Figure> {
    let mut all = Vec::new();
    let mut numbers = Columns::new(&["option", "month", "links", "sent", "price"]);
    for document in documents {
        let of = |row: &&Row| row.stage == "price" && row.at.is_some();
        for option in names(document.results.iter().filter(of)) {
            let case = option.trim_start_matches("price, ");
            let [price, links, sent] =
                ["price", "links", "sent a month"].map(|stage| series(document, stage, case));
            for (month, price) in price.iter().enumerate() {
                // The first, each half year, and whenever there is a link more.
                let more = month > 0 && links.get(month) != links.get(month - 1);
                if month % 6 == 0 || more {
                    numbers.row([
                        case.to_owned(),
                        month.to_string(),
                        links.get(month).map_or_else(String::new, |it| shown(Unit::Count, *it)),
                        sent.get(month).map_or_else(String::new, |it| shown(Unit::Bytes, *it)),
                        shown(Unit::UsdPerMonth, *price),
                    ]);
                }
            }
            let points =
                price.iter().enumerate().map(|(month, usd)| (month as f64, *usd)).collect();
            all.push(Series { name: case.to_owned(), points });
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
