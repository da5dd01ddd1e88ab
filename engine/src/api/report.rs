//! What crossed the border and what it cost, from the audit log.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use super::engine::{Engine, clock_ms};
use super::{Error, Exit};
use crate::audit::{Entries, Entry, Meter, ReadError, Record};
use crate::base::{human, utc};
use crate::config::Config;
use crate::cost::rate::{Samples, month_price};
use crate::cost::{Billing, Currency, Money, Per, Tally};

/// What the rows of a report stand for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CostBy {
    /// The link that was taken.
    #[default]
    Link,
    /// The dataset.
    Dataset,
    /// The identity that asked for the transfer.
    Identity,
    /// The month, UTC.
    Month,
}

impl CostBy {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Link => "link",
            Self::Dataset => "dataset",
            Self::Identity => "identity",
            Self::Month => "month",
        }
    }

    fn key(self, at: i64, meter: &Meter) -> String {
        let of = &meter.crossing;
        match self {
            Self::Link => of.link.to_string(),
            Self::Dataset => human::escaped(of.path.as_bytes()),
            Self::Identity => of.who.to_string(),
            Self::Month => month(at),
        }
    }
}

fn month(at: i64) -> String {
    utc::text(at).chars().take("2026-11".len()).collect()
}

/// One row of a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CostRow {
    /// What it stands for; `total` for all of them together.
    pub key: String,
    /// Transfers.
    pub transfers: u64,
    /// Bytes of IP packets that this node sent to other sites in them.
    pub sent_bytes: u64,
    /// Bytes of IP packets that it received.
    pub received_bytes: u64,
    /// What it paid for what it sent; `None` where the link had no price.
    pub price: Option<Money>,
    /// What the price is in.
    pub currency: Option<Currency>,
}

/// What a link that is not billed by bytes came to in a month.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkMonth {
    /// The link.
    pub link: String,
    /// The month, UTC, such as `2026-11`.
    pub month: String,
    /// What its provider bills: `p95` or `flat`.
    pub billing: String,
    /// The 95th percentile of what this node sent in each five minutes of the month, or of what of it is
    /// over, in bits per second.
    pub p95_bps: u64,
    /// The rate that is paid for whatever is sent, in megabits per second.
    pub commit_mbps: Option<u64>,
    /// What the month costs; `None` where the configuration has no price.
    pub price: Option<Money>,
    /// What the price is in.
    pub currency: Currency,
}

/// What crossed and what it cost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CostReport {
    /// The rows, one for each key and currency, in alphabetical order.
    pub rows: Vec<CostRow>,
    /// All of them together, one for each currency.
    pub totals: Vec<CostRow>,
    /// What is billed by the month whatever was sent, for each link and month in which this node sent
    /// something over it. It is in no row.
    pub months: Vec<LinkMonth>,
}

#[derive(Default)]
struct Sum {
    transfers: BTreeSet<u128>,
    sent: u64,
    received: u64,
    tally: Tally,
}

impl Sum {
    fn add(&mut self, meter: &Meter) {
        self.transfers.insert(meter.crossing.transfer.0);
        self.sent = self.sent.saturating_add(meter.sent);
        self.received = self.received.saturating_add(meter.received);
        let price = meter.tariff.map_or(Tally::default(), |it| Tally::of(it.price, meter.sent));
        self.tally = self.tally.plus(price);
    }

    fn row(self, key: String, currency: Option<Currency>) -> CostRow {
        CostRow {
            key,
            transfers: self.transfers.len() as u64,
            sent_bytes: self.sent,
            received_bytes: self.received,
            price: currency.map(|_| self.tally.money()),
            currency,
        }
    }
}

/// What links sent that are billed by the month.
struct Monthly<'a> {
    config: &'a Config,
    /// Seconds since 1970 at which the first month began that counts.
    began: i64,
    /// When each transfer had its last record.
    seen: HashMap<u128, i64>,
    sent: BTreeMap<&'a str, Samples>,
}

impl<'a> Monthly<'a> {
    fn new(config: &'a Config, since: Option<i64>) -> Self {
        let began = since.map_or(i64::MIN, |since| Per::Month.began(since));
        Self { config, began, seen: HashMap::new(), sent: BTreeMap::new() }
    }

    fn add(&mut self, entry: &Entry) {
        let Some(transfer) = entry.record.transfer() else { return };
        let at = entry.at.secs;
        let before = self.seen.insert(transfer.0, at);
        let Record::Meter(meter) = &entry.record else { return };
        let Some((name, link)) = self.config.links.get_key_value(meter.crossing.link.as_str())
        else {
            return;
        };
        if link.billing != Billing::Volume && at >= self.began {
            let from = before.unwrap_or(at).max(self.began);
            self.sent.entry(name).or_default().add((from, at), meter.sent);
        }
    }

    fn rows(self, now: i64) -> Vec<LinkMonth> {
        let mut rows = Vec::new();
        for (name, samples) in &self.sent {
            let Some(link) = self.config.links.get(*name) else { continue };
            for began in samples.months() {
                let p95_bps = samples.p95_bps(began, now);
                let price = link.price_per_month.map(|price| match link.billing {
                    Billing::P95 => month_price(price, p95_bps, link.commit_mbps.unwrap_or(0)),
                    Billing::Volume | Billing::Flat => price,
                });
                rows.push(LinkMonth {
                    link: (*name).to_owned(),
                    month: month(began),
                    billing: link.billing.to_string(),
                    p95_bps,
                    commit_mbps: link.commit_mbps,
                    price,
                    currency: self.config.settings.cost.currency,
                });
            }
        }
        rows
    }
}

impl Engine {
    /// What this node sent to other sites since `since` (seconds since 1970), and what it paid for
    /// that, by its audit log: each byte at the price that counted when it was sent. Blocks.
    ///
    /// # Errors
    /// There is no log, or it cannot be read.
    pub fn cost_report(&self, by: CostBy, since: Option<i64>) -> Result<CostReport, Error> {
        let failed = |error: ReadError| {
            Error::new("audit", Exit::Failed, error.to_string()).hint(error.hint())
        };
        let entries = Entries::open(&self.audit_folder()?).map_err(failed)?;
        let mut rows: BTreeMap<(String, Option<Currency>), Sum> = BTreeMap::new();
        let mut totals: BTreeMap<Option<Currency>, Sum> = BTreeMap::new();
        let mut monthly = Monthly::new(&self.0.config, since);
        for entry in entries {
            let entry = entry.map_err(failed)?;
            monthly.add(&entry);
            let Record::Meter(meter) = &entry.record else { continue };
            if since.is_some_and(|since| entry.at.secs < since) {
                continue;
            }
            let currency = meter.tariff.map(|tariff| tariff.currency);
            rows.entry((by.key(entry.at.secs, meter), currency)).or_default().add(meter);
            totals.entry(currency).or_default().add(meter);
        }
        let rows = rows.into_iter().map(|((key, currency), sum)| sum.row(key, currency));
        let totals = totals.into_iter().map(|(currency, sum)| sum.row("total".into(), currency));
        let months = monthly.rows(i64::try_from(clock_ms() / 1000).unwrap_or(i64::MAX));
        Ok(CostReport { rows: rows.collect(), totals: totals.collect(), months })
    }
}
