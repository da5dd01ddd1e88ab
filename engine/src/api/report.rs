//! What crossed the border and what it cost, from the audit log.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::engine::Engine;
use super::{Error, Exit};
use crate::audit::{Entries, Meter, ReadError, Record};
use crate::base::{human, utc};
use crate::cost::{Currency, Money, Tally};

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
            Self::Month => utc::text(at).chars().take("2026-11".len()).collect(),
        }
    }
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

/// What crossed and what it cost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CostReport {
    /// The rows, one for each key and currency, in alphabetical order.
    pub rows: Vec<CostRow>,
    /// All of them together, one for each currency.
    pub totals: Vec<CostRow>,
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
        for entry in entries {
            let entry = entry.map_err(failed)?;
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
        Ok(CostReport { rows: rows.collect(), totals: totals.collect() })
    }
}
