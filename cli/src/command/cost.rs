//! `portway cost`.

use std::fmt::Write;

use portway::api::{self, CostReport, CostRow, Error, Exit, LinkMonth};
use portway::audit::csv_cell;
use portway::base::human;

use crate::args::{Cost, CostBy, CostCommand, CostFormat};
use crate::out::event::Event;
use crate::setup::Context;

pub(super) fn run(context: &Context<'_>, args: &Cost) -> Result<Exit, Error> {
    let CostCommand::Report { by, since, format } = args.command;
    let by = match by {
        CostBy::Link => api::CostBy::Link,
        CostBy::Dataset => api::CostBy::Dataset,
        CostBy::Identity => api::CostBy::Identity,
        CostBy::Month => api::CostBy::Month,
    };
    let report = context.engine(&context.config()?)?.cost_report(by, since)?;
    for row in &report.rows {
        context.out.event(&Event::cost(by.as_str(), row));
    }
    for row in &report.totals {
        context.out.event(&Event::cost("total", row));
    }
    for month in &report.months {
        context.out.event(&Event::LinkMonth(month));
    }
    context.out.text(&match format {
        CostFormat::Text => text(by, &report),
        CostFormat::Csv => csv(by, &report),
    });
    Ok(Exit::Done)
}

/// A table: what, transfers, what was sent and received, what it cost.
pub(super) fn text(by: api::CostBy, report: &CostReport) -> String {
    let totals = report.totals.iter().map(|row| (total(report, row), row));
    let rows = report.rows.iter().map(|row| (row.key.clone(), row)).chain(totals);
    let rows: Vec<_> = rows.collect();
    let width = rows.iter().map(|(key, _)| key.chars().count()).max().unwrap_or(0).max(8);
    let mut text = format!("{:<width$}  transfers       sent   received  cost", by.as_str());
    for (key, row) in &rows {
        let price = row.price.zip(row.currency);
        let cost = price.map_or_else(
            || "no price".to_owned(),
            |(price, currency)| format!("{price} {currency}"),
        );
        let _ = write!(
            text,
            "\n{key:<width$}  {:>9}  {:>9}  {:>9}  {cost}",
            human::count(row.transfers),
            human::bytes(row.sent_bytes),
            human::bytes(row.received_bytes),
        );
    }
    text.push_str(&months(&report.months));
    text
}

/// What a total is called: of several, each says of what it is.
fn total(report: &CostReport, row: &CostRow) -> String {
    match row.currency {
        _ if report.totals.len() < 2 => row.key.clone(),
        Some(currency) => format!("{} in {currency}", row.key),
        None => format!("{} without a price", row.key),
    }
}

/// A table of what is billed by the month, if anything is.
fn months(months: &[LinkMonth]) -> String {
    let width = months.iter().map(|row| row.link.chars().count()).max().unwrap_or(0).max(4);
    let mut text = String::new();
    for (i, row) in months.iter().enumerate() {
        if i == 0 {
            let _ = write!(
                text,
                "\n\n{:<width$}  month    billing    sent at p95      commit  cost a month",
                "link"
            );
        }
        let commit = row.commit_mbps.map_or_else(|| "-".to_owned(), |mbps| format!("{mbps} Mb/s"));
        let cost = row
            .price
            .map_or_else(|| "no price".to_owned(), |price| format!("{price} {}", row.currency));
        let _ = write!(
            text,
            "\n{:<width$}  {}  {:<7}  {:>10.3} Mb/s  {commit:>10}  {cost}",
            row.link,
            row.month,
            row.billing,
            row.p95_bps as f64 / 1e6,
        );
    }
    text
}

/// RFC 4180, without the totals, which a spreadsheet computes itself.
pub(super) fn csv(by: api::CostBy, report: &CostReport) -> String {
    let names = [by.as_str(), "transfers", "sent_bytes", "received_bytes", "price", "currency"];
    let mut lines = vec![names.map(csv_cell).join(",")];
    for CostRow { key, transfers, sent_bytes, received_bytes, price, currency } in &report.rows {
        let cells = [
            key.clone(),
            transfers.to_string(),
            sent_bytes.to_string(),
            received_bytes.to_string(),
            price.map_or_else(String::new, |price| price.to_string()),
            currency.map_or_else(String::new, |currency| currency.to_string()),
        ];
        lines.push(cells.map(|cell| csv_cell(&cell)).join(","));
    }
    lines.join("\r\n")
}
