//! The plan as text for a terminal, and as rows of a result.

use std::fmt::Write as _;

use super::calendar::{DAYS, WEEK_S};
use super::plan::{OptionPlan, Plan};
use super::reason::rate;
use super::unit::{LinkRate, Share, Size, Time};
use super::workload::Flow;
use crate::columns::Columns;
use crate::result::{Row, Unit};

/// Widest line of sentences.
const WIDTH: usize = 100;

/// Everything, as a page of text; `reasons` are its sentences.
pub(crate) fn page(plan: &Plan<'_>, reasons: &[String]) -> String {
    let workload = plan.workload;
    let mut page = format!("{}\n", workload.name);
    let mut section = |title: &str, body: &dyn std::fmt::Display| {
        let _ = write!(page, "\n{title}\n\n{body}");
    };
    section("What moves", &flows(&workload.flows));
    section("Required rate of content", &required(plan));
    section("Options", &options(plan));
    if let Some((option, usage)) = advised(plan).and_then(|it| Some((it, it.usage.as_ref()?))) {
        let title = format!(
            "Used in each hour of the median week, in tenths of the {} of `{}` (. is less than half \
             a tenth)",
            links(option),
            option.option.name
        );
        let tenths: Vec<f64> = usage.hours.iter().map(|weeks| weeks[1]).collect();
        section(&title, &hours(&tenths));
    }
    section("Why", &wrapped(reasons));
    page
}

fn advised<'a, 'b>(plan: &'a Plan<'b>) -> Option<&'a OptionPlan<'b>> {
    plan.advised.map(|number| &plan.options[number])
}

fn links(plan: &OptionPlan<'_>) -> String {
    match plan.months.first().map_or(0, |month| month.links) {
        1 => "link".to_owned(),
        count => format!("{count} links"),
    }
}

fn flows(flows: &[Flow]) -> Columns {
    let mut table = Columns::new(&["flow", "each", "on the wire", "a week", "deadline"]);
    for flow in flows {
        let nodes = if flow.nodes == 1 { String::new() } else { format!("{} x ", flow.nodes) };
        table.row([
            flow.name.clone(),
            format!("{nodes}{}", flow.size),
            format!("{}", Share(flow.wire_share())),
            format!("{:.1}", WEEK_S / flow.every.0),
            Time(flow.deadline_s()).to_string(),
        ]);
    }
    table
}

fn required(plan: &Plan<'_>) -> Columns {
    let headroom = plan.workload.headroom;
    let with = format!("with {headroom} headroom");
    let mut table = Columns::new(&["week", "least", &with]);
    let required = &plan.required;
    for (week, need) in
        [("median", required.median), ("p95", required.p95), ("worst", required.worst)]
    {
        let ample = rate(need * (1.0 + headroom.0));
        table.row([week.to_owned(), rate(need).to_string(), ample.to_string()]);
    }
    table
}

fn options(plan: &Plan<'_>) -> Columns {
    let months = plan.workload.months;
    let end = format!("month {months}");
    let (links_then, price_then) = (format!("links, {end}"), format!("USD, {end}"));
    let headings = [
        "option",
        "links now",
        &links_then,
        "sent a month",
        "USD now",
        &price_then,
        "USD once",
        "USD in all",
    ];
    let mut table = Columns::new(&headings);
    for (number, option) in plan.options.iter().enumerate() {
        let mark = if plan.advised == Some(number) { " *" } else { "" };
        let now = option.months.first();
        let then = option.months.get(months as usize);
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
        table.row([
            format!("{}{mark}", option.option.name),
            or_dash(now.map(|month| month.links.to_string())),
            or_dash(then.map(|month| month.links.to_string())),
            or_dash(now.map(|month| Size(month.bytes).to_string())),
            or_dash(now.map(|month| format!("{:.0}", month.price))),
            or_dash(then.map(|month| format!("{:.0}", month.price))),
            or_dash(now.map(|_| format!("{:.0}", option.once()))),
            or_dash(option.total(months).map(|total| format!("{total:.0}"))),
        ]);
    }
    table
}

/// A line for each day, a digit for each hour: tenths, rounded.
pub(crate) fn hours(used: &[f64]) -> String {
    let mut text = String::from("       00 03 06 09 12 15 18 21\n");
    for (day, hours) in DAYS.iter().zip(used.chunks(24)) {
        let digit = |share: &f64| match (share * 10.0).round() as u32 {
            0 => '.',
            10.. => 'X',
            tenths => char::from_digit(tenths, 10).unwrap_or('X'),
        };
        let line: String = hours.iter().map(digit).collect();
        let _ = writeln!(text, "  {day}  {line}");
    }
    text
}

/// Sentences as a list, in lines of [`WIDTH`].
pub(crate) fn wrapped(sentences: &[String]) -> String {
    let mut text = String::new();
    for sentence in sentences {
        let mut line = String::from("  -");
        for word in sentence.split(' ') {
            if line.chars().count() + 1 + word.chars().count() > WIDTH {
                text += &line;
                text += "\n";
                line = String::from("   ");
            }
            line += " ";
            line += word;
        }
        text += &line;
        text += "\n";
    }
    text
}

/// The numbers that plots are made of.
pub(crate) fn rows(plan: &Plan<'_>) -> Vec<Row> {
    let required = &plan.required;
    let mut rows = Vec::new();
    for (week, need) in [
        ("median week", required.median),
        ("p95 week", required.p95),
        ("worst week", required.worst),
    ] {
        rows.push(Row::of_runs("required rate", week, Unit::BitsPerSecond, vec![need * 8.0]));
    }
    for option in &plan.options {
        let name = &option.option.name;
        if let Some(LinkRate(least)) = option.smallest.map(|link| link.rate) {
            rows.push(Row::of_runs("least link", name, Unit::BitsPerSecond, vec![least]));
        }
        for (number, month) in option.months.iter().enumerate() {
            let mut at = |stage, unit, value| {
                let row = Row::of_runs(stage, name, unit, vec![value]);
                rows.push(Row { at: Some(number as u64), ..row });
            };
            at("price", Unit::UsdPerMonth, month.price);
            if month.once > 0.0 {
                at("price once", Unit::Usd, month.once);
            }
            at("links", Unit::Count, f64::from(month.links));
            at("sent a month", Unit::Bytes, month.bytes);
        }
    }
    if let Some((option, usage)) = advised(plan).and_then(|it| Some((it, it.usage.as_ref()?))) {
        let name = &option.option.name;
        for (hour, weeks) in usage.hours.iter().enumerate() {
            let row = Row::of_runs("utilisation", name, Unit::Share, weeks.to_vec());
            rows.push(Row { at: Some(hour as u64), ..row });
        }
    }
    rows
}
