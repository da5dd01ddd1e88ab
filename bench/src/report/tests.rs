//! The page and the tables: only what there is data for, the same numbers in both, nothing loaded.

use super::*;
use crate::result::{Latency, Row};

fn machine(mut document: Document) -> Document {
    document.machine.cpu = "Example CPU".into();
    document.machine.kernel = "Linux 6.18 x86_64".into();
    (document.machine.processors, document.machine.memory_bytes) = (8, 64 << 30);
    document
}

fn document(kind: Kind, rows: Vec<Row>) -> Document {
    machine(Document::new(kind, 1_700_000_000, vec!["`digest` limits <b>".into()], rows))
}

fn rate(stage: &str, size: u64, rate: f64) -> Row {
    let row = Row::of_runs(stage, "", Unit::BytesPerSecond, vec![rate, rate * 1.1, rate * 0.9]);
    Row { size: Some(size), cpu_s_per_gb: Some(0.25), ..row }
}

fn rdma() -> Document {
    document(Kind::Rdma, vec![rate("write", 4096, 2e9), rate("write", 1 << 20, 12e9)])
}

fn transfer() -> Document {
    let stage = |name: &str, case: &str, s: f64| Row::of_runs(name, case, Unit::Seconds, vec![s]);
    let latency = Latency { p50: 1e-4, p90: 2e-4, p99: 1e-3, p999: 2e-2 };
    let message = Row { latency_s: Some(latency), ..stage("message", "", 1e-4) };
    let active = Row::of_runs("send", "sender, active", Unit::Share, vec![0.9]);
    let rows = vec![stage("read", "busy", 3.0), stage("send", "waiting", 1.0), message, active];
    document(Kind::Transfer, rows)
}

fn size() -> Document {
    let at = |row: Row, at: u64| Row { at: Some(at), ..row };
    let mut rows = Vec::new();
    for month in 0..=12 {
        let price = vec![1000.0 + 50.0 * month as f64];
        rows.push(at(Row::of_runs("price", "line", Unit::UsdPerMonth, price), month));
        rows.push(at(Row::of_runs("links", "line", Unit::Count, vec![2.0]), month));
        rows.push(at(Row::of_runs("sent a month", "line", Unit::Bytes, vec![1e12]), month));
    }
    for hour in 0..168 {
        let share = vec![hour as f64 / 168.0];
        rows.push(at(Row::of_runs("utilisation", "line", Unit::Share, share), hour));
    }
    document(Kind::Size, rows)
}

fn titles(documents: &[Document]) -> Vec<String> {
    figures::all(documents).into_iter().map(|figure| figure.title).collect()
}

#[test]
fn there_are_figures_for_what_there_is_data_for() {
    let none: Vec<String> = Vec::new();
    assert_eq!(titles(&[document(Kind::Path, vec![])]), none);
    assert_eq!(titles(&[rdma()]), ["Throughput over message size"]);
    assert_eq!(
        titles(&[transfer()]),
        ["Time per stage", "Time per stage, as a share", "Latency at percentiles"]
    );
    assert_eq!(titles(&[size()]), ["Utilisation by hour: line", "Price over growth"]);
    let one_size = document(Kind::Local, vec![rate("digest", 4096, 1e9), rate("cut", 4096, 2e9)]);
    assert_eq!(titles(&[one_size]), ["Rate of a stage: digest", "Rate of a stage: cut"]);
}

#[test]
fn lines_of_latency_are_told_apart_by_what_measured_them() {
    let latency = Latency { p50: 1e-4, p90: 2e-4, p99: 1e-3, p999: 2e-2 };
    let row = |case: &str| {
        let row = Row::of_runs("round trip", case, Unit::Seconds, vec![1e-4]);
        Row { latency_s: Some(latency), ..row }
    };
    let documents = [
        document(Kind::Quic, vec![row("idle")]),
        document(Kind::Path, vec![row("idle"), row("under load"), row("under load")]),
    ];
    let figures = figures::all(&documents);
    let svg::Picture::Lines(lines) = &figures[0].picture else { panic!("no lines") };
    let names: Vec<&str> = lines.series.iter().map(|series| series.name.as_str()).collect();
    let expected = ["quic: round trip, idle", "path: round trip, idle", "round trip, under load"];
    assert_eq!(names[..3], expected);
}

#[test]
fn what_two_results_have_is_told_apart_and_stands_together() {
    let local = || document(Kind::Local, vec![rate("digest", 4096, 1e9), rate("cut", 4096, 2e9)]);
    let documents = [local(), rdma(), local()];
    assert_eq!(figures::labels(&documents), ["local 1", "rdma", "local 2"]);
    let figures = figures::all(&documents);
    let digest = figures.iter().find(|it| it.title == "Rate of a stage: digest").expect("a figure");
    let svg::Picture::Bars { bars, .. } = &digest.picture else { panic!("no bars") };
    let names: Vec<&str> = bars.iter().map(|bar| bar.name.as_str()).collect();
    assert_eq!(names, ["local 1: digest", "local 2: digest"]);
    let page = html::page(&documents, &figures);
    assert!(page.contains("All numbers: local 2<") && page.contains(">local 1</td>"));
}

#[test]
fn lines_of_two_results_do_not_become_one() {
    let figures = figures::all(&[rdma(), rdma()]);
    let svg::Picture::Lines(lines) = &figures[0].picture else { panic!("no lines") };
    let own = lines.series.iter().map(|series| (series.name.as_str(), series.points.len()));
    assert_eq!(own.collect::<Vec<_>>(), [("rdma 1: write", 2), ("rdma 2: write", 2)]);
    let titles = titles(&[size(), size()]);
    let weeks = ["Utilisation by hour: size 1: line", "Utilisation by hour: size 2: line"];
    assert_eq!(titles, [&weeks[..], &["Price over growth"]].concat());
}

#[test]
fn a_picture_of_latency_has_no_more_lines_than_can_be_told_apart() {
    let latency = Latency { p50: 1e-4, p90: 2e-4, p99: 1e-3, p999: 2e-2 };
    let row = |stage: &str, size: u64| {
        let row = Row::of_runs(stage, "one at a time", Unit::Seconds, vec![1e-4]);
        Row { latency_s: Some(latency), size: Some(size), ..row }
    };
    let mut rows: Vec<Row> = (0..9).map(|bits| row("read", 64 << bits)).collect();
    rows.push(row("write", 64));
    let figures = figures::all(&[document(Kind::Rdma, rows)]);
    let titles: Vec<&str> = figures.iter().map(|figure| figure.title.as_str()).collect();
    assert_eq!(titles, ["Latency at percentiles: read", "Latency at percentiles: write"]);
    assert_eq!(figures[0].numbers.rows().len(), 10, "a heading, and every size");
    let svg::Picture::Lines(lines) = &figures[0].picture else { panic!("no lines") };
    let names: Vec<&str> = lines.series.iter().map(|series| series.name.as_str()).collect();
    assert_eq!(names.len(), svg::LOOKS);
    assert_eq!(names[0], "read, one at a time, 64 B");
    assert_eq!(names[5], "read, one at a time, 16 KiB", "the largest");
}

#[test]
fn the_page_is_whole_and_loads_nothing() {
    let documents = [rdma(), transfer(), size()];
    let page = html::page(&documents, &figures::all(&documents));
    for word in ["http:", "https:", "//", "<script", "url(", "<img", "<link", "@import"] {
        assert!(!page.contains(word), "{word}");
    }
    for tag in ["svg", "figure", "table", "section", "details", "ul", "tr", "text", "title"] {
        let opened =
            page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count();
        assert_eq!(opened, page.matches(&format!("</{tag}>")).count(), "{tag}");
    }
    assert!(!page.contains("NaN") && !page.contains("inf"), "every number is one");
    assert!(page.contains("<code>digest</code> limits &lt;b&gt;"));
}

#[test]
fn the_page_has_the_numbers_of_the_terminal() {
    for document in [rdma(), transfer(), size()] {
        let documents = [document];
        let page = html::page(&documents, &figures::all(&documents));
        for figure in figures::all(&documents) {
            for cell in figure.numbers.rows().iter().skip(1).flatten() {
                assert!(page.contains(&format!(">{cell}<")), "{cell}");
            }
        }
    }
}

#[test]
fn tables_are_as_they_were() {
    let all: String = [rdma(), transfer(), size()].iter().map(text).collect();
    insta::assert_snapshot!(all);
}
