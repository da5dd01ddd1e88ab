//! What a session may still cost, and the hours of its link.

use std::io;

use super::ask::{Ask, Denied};
use super::spend::{Booked, Spend};
use crate::audit::{Entries, LogFolder, Meter, Place, ReadError, Record};
use crate::base::limits::LEASE_BYTES;
use crate::base::{Digest, human};
use crate::config::{Budget, Config, Home};
use crate::cost::{Currency, Hours, Money, Per, Price, Tally};

/// Seconds of a day.
const DAY_S: i64 = 86_400;

/// Whether a batch is paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Paid {
    /// It is.
    Done,
    /// Another process has the books at this moment.
    Later,
}

/// What bounds the cost of one session.
pub(super) struct Purse {
    limits: Vec<Limit>,
    /// The link, and its hours if it has any.
    link: String,
    hours: Option<Hours>,
    /// What arrives is what counts, not what leaves.
    inward: bool,
    /// Bytes of the wire that were booked by now, of all of the session: what crossed, and what was
    /// handed to the link.
    level: u64,
    /// What of them was booked by another purse.
    base: u64,
    /// From this second on budgets are for another time.
    pub(super) until: i64,
}

struct Limit {
    /// What is bounded, in words.
    what: String,
    amount: Tally,
    price: Price,
    spent: Spent,
}

enum Spent {
    /// In this session alone.
    Here(Tally),
    /// By all processes of this home.
    Shared(Spend),
}

impl Limit {
    fn book(&mut self, bytes: u64) -> io::Result<Booked> {
        let cost = Tally::of(self.price, bytes);
        match &mut self.spent {
            Spent::Shared(spend) => spend.book(cost, self.amount),
            Spent::Here(spent) if spent.plus(cost) > self.amount => Ok(Booked::Over(*spent)),
            Spent::Here(spent) => {
                *spent = spent.plus(cost);
                Ok(Booked::Done)
            }
        }
    }

    fn settle(&mut self, booked: u64, paid: u64) -> io::Result<()> {
        let (booked, paid) = (Tally::of(self.price, booked), Tally::of(self.price, paid));
        match &mut self.spent {
            Spent::Shared(spend) => spend.settle(booked, paid),
            Spent::Here(spent) => {
                *spent = spent.plus(paid).minus(booked);
                Ok(())
            }
        }
    }

    fn spent(&self) -> io::Result<Tally> {
        match &self.spent {
            Spent::Shared(spend) => spend.spent(),
            Spent::Here(spent) => Ok(*spent),
        }
    }

    fn over(&self, spent: Tally) -> Denied {
        let money = match self.spent {
            Spent::Shared(_) => format!(": {} is spent", spent.money()),
            Spent::Here(_) => String::new(),
        };
        Denied::Budget(format!("{} is reached{money}, and the next batch would pass it", self.what))
    }
}

fn unreadable(error: &io::Error) -> Denied {
    Denied::Audit(format!("what was spent cannot be told: {error}"))
}

/// Where purses come from.
pub(super) struct Books<'a> {
    pub(super) home: &'a Home,
    pub(super) config: &'a Config,
    /// This node.
    pub(super) us: &'a Place,
    /// Now, in seconds since 1970.
    pub(super) at: i64,
}

impl Books<'_> {
    /// What bounds the cost of a session; `None` where nothing does. Blocks.
    pub(super) fn purse(&self, ask: &Ask) -> Result<Option<Purse>, Denied> {
        let link = self.config.links.get(ask.link.as_str());
        let hours = link.and_then(|link| link.hours);
        let (from, _) = ask.places();
        let inward = from != *self.us;
        let mut limits = Vec::new();
        if !inward {
            for (name, budget) in &self.config.budgets {
                if counts(budget, ask) {
                    limits.extend(self.budget(name, budget, ask)?);
                }
            }
        }
        limits.extend(self.transfer(ask, inward)?.map(|limit| {
            // What the other end sends, it bounds; what is here has arrived and was paid.
            let slack = if inward { LEASE_BYTES as u64 } else { 0 };
            let amount = limit.amount.plus(Tally::of(limit.price, slack));
            Limit { amount, ..limit }
        }));
        if let Some(bytes) = ask.wire_max {
            // Each byte of it counts as a millionth for 10^9 of them: a tally counts these.
            let (price, spent) = (Price(Money(1)), Spent::Here(Tally::default()));
            let what = format!("what the receiver pays for, {} on the wire,", human::bytes(bytes));
            limits.push(Limit { what, amount: Tally::of(price, bytes), price, spent });
        }
        if limits.is_empty() && hours.is_none() {
            return Ok(None);
        }
        let until = Per::Day.began(self.at) + DAY_S;
        let link = ask.link.to_string();
        let purse = Purse { limits, link, hours, inward, level: 0, base: 0, until };
        purse.check(self.at)?;
        Ok(Some(purse))
    }

    /// How many bytes of the wire a pull that may cost `ask.cost_max` may still take; `None` for any
    /// number. Blocks.
    pub(super) fn wire_left(&self, ask: &Ask) -> Result<Option<u64>, Denied> {
        let Some(limit) = self.transfer(ask, true)? else { return Ok(None) };
        let spent = limit.spent().map_err(|e| unreadable(&e))?;
        match limit.price.bytes_within(limit.amount.minus(spent)) {
            Some(0) => Err(limit.over(spent)),
            left => Ok(left),
        }
    }

    fn currency(&self) -> Currency {
        self.config.settings.cost.currency
    }

    /// What a byte on the link of `ask` costs.
    fn price(&self, ask: &Ask) -> Option<Price> {
        let link = self.config.links.get(ask.link.as_str())?;
        link.tariff(self.currency()).map(|tariff| tariff.price)
    }

    /// A budget as it stands; none where nothing that is sent has a price.
    fn budget(&self, name: &str, budget: &Budget, ask: &Ask) -> Result<Option<Limit>, Denied> {
        let Some(price) = self.price(ask) else { return Ok(None) };
        let began = budget.per.began(self.at);
        let transfer = (budget.per == Per::Transfer).then_some(ask.transfer);
        let key = format!(
            "{name}\0{}\0{began}\0{transfer:?}\0{:?}\0{:?}\0{:?}",
            budget.per, budget.identity, budget.dataset, budget.link
        );
        let counted = |at: i64, meter: &Meter| {
            let of = &meter.crossing;
            let mine = of.from == *self.us && at >= began;
            let this = transfer.is_none_or(|transfer| transfer == of.transfer);
            mine && this && covers(budget, (of.who.as_str(), &of.path, of.link.as_str()))
        };
        let sum = |meter: &Meter| tally(meter, meter.sent);
        let spend = self.open(&key, counted, sum)?;
        let (currency, per) = (self.currency(), budget.per);
        let what = format!("the budget {name} of {} {currency} per {per}", budget.amount);
        let spent = Spent::Shared(spend);
        Ok(Some(Limit { what, amount: budget.amount.into(), price, spent }))
    }

    /// What this transfer alone may cost, if that was said.
    fn transfer(&self, ask: &Ask, inward: bool) -> Result<Option<Limit>, Denied> {
        let Some(amount) = ask.cost_max else { return Ok(None) };
        let Some(price) = self.price(ask) else {
            let link = &ask.link;
            let why = format!("the link {link} has no price here, so its cost cannot be bounded");
            return Err(Denied::Unpriced(why));
        };
        let key = format!("transfer\0{}\0{inward}", ask.transfer);
        let counted = |_, meter: &Meter| meter.crossing.transfer == ask.transfer;
        let sum = |meter: &Meter| tally(meter, if inward { meter.received } else { meter.sent });
        let spend = self.open(&key, counted, sum)?;
        let what = format!("the most that this transfer may cost, {amount} {},", self.currency());
        let spent = Spent::Shared(spend);
        Ok(Some(Limit { what, amount: amount.into(), price, spent }))
    }

    fn open(
        &self,
        key: &str,
        counted: impl Fn(i64, &Meter) -> bool,
        sum: impl Fn(&Meter) -> Tally,
    ) -> Result<Spend, Denied> {
        let name = Digest::of(key.as_bytes()).to_string();
        let path = self.home.state_dir().join("spend").join(name);
        let found = || in_log(self.home, &counted, &sum).map_err(io::Error::other);
        Spend::open(&path, found).map_err(|e| unreadable(&e))
    }
}

fn tally(meter: &Meter, bytes: u64) -> Tally {
    meter.tariff.map_or(Tally::default(), |tariff| Tally::of(tariff.price, bytes))
}

/// The sum over what the log has of it.
fn in_log(
    home: &Home,
    counted: &impl Fn(i64, &Meter) -> bool,
    sum: &impl Fn(&Meter) -> Tally,
) -> Result<Tally, ReadError> {
    let dir = home.audit_dir();
    let mut found = Tally::default();
    if !dir.exists() {
        return Ok(found);
    }
    let entries = match Entries::open(&LogFolder::open(&dir)?) {
        Err(ReadError::Missing) => return Ok(found),
        opened => opened?,
    };
    for entry in entries {
        let entry = entry?;
        if let Record::Meter(meter) = &entry.record
            && counted(entry.at.secs, meter)
        {
            found = found.plus(sum(meter));
        }
    }
    Ok(found)
}

/// Whether a budget is about this transfer.
fn counts(budget: &Budget, ask: &Ask) -> bool {
    covers(budget, (&ask.who.to_string(), &ask.path, ask.link.as_str()))
}

fn covers(budget: &Budget, (who, path, link): (&str, &crate::base::RelPath, &str)) -> bool {
    budget.identity.as_ref().is_none_or(|identity| identity.as_str() == who)
        && budget.dataset.as_ref().is_none_or(|dataset| path.strip(dataset).is_some())
        && budget.link.as_ref().is_none_or(|name| name == link)
}

impl Purse {
    /// Goes on where `level` bytes of the session's wire are paid.
    pub(super) fn begin(self, level: u64) -> Self {
        Self { level, base: level, ..self }
    }

    /// Bytes of the session's wire that were booked by now.
    pub(super) fn level(&self) -> u64 {
        self.level
    }

    /// Whether anything may cross: the link is open, and something is left.
    fn check(&self, at: i64) -> Result<(), Denied> {
        self.open(at)?;
        for limit in &self.limits {
            let spent = limit.spent().map_err(|e| unreadable(&e))?;
            if spent >= limit.amount && limit.price > Price::default() {
                return Err(limit.over(spent));
            }
        }
        Ok(())
    }

    fn open(&self, at: i64) -> Result<(), Denied> {
        match self.hours {
            Some(hours) if !hours.is_open(at) => {
                let link = &self.link;
                Err(Denied::Closed(format!("the link {link} is open {hours} UTC only")))
            }
            _ => Ok(()),
        }
    }

    /// Pays for `bytes` that are about to be handed to the link, or for what arrived, and for what
    /// else crossed since the last call; `wire` is what the session has sent and received by now.
    pub(super) fn pay(&mut self, bytes: u64, wire: (u64, u64), at: i64) -> Result<Paid, Denied> {
        self.open(at)?;
        let (bytes, wire) = if self.inward { (0, wire.1) } else { (bytes, wire.0) };
        let due = bytes + wire.saturating_sub(self.level);
        for at in 0..self.limits.len() {
            let booked = self.limits[at].book(due).map_err(|e| unreadable(&e))?;
            if booked == Booked::Done {
                continue;
            }
            for limit in &mut self.limits[..at] {
                limit.settle(due, 0).map_err(|e| unreadable(&e))?;
            }
            return match booked {
                Booked::Over(spent) => Err(self.limits[at].over(spent)),
                Booked::Held | Booked::Done => Ok(Paid::Later),
            };
        }
        self.level += due;
        Ok(Paid::Done)
    }

    /// Corrects what was booked to what crossed, `wire` bytes sent and received in all. Blocks.
    pub(super) fn settle(mut self, wire: (u64, u64)) -> Result<(), Denied> {
        let crossed = if self.inward { wire.1 } else { wire.0 };
        let (booked, paid) = (self.level - self.base, crossed.saturating_sub(self.base));
        for limit in &mut self.limits {
            limit.settle(booked, paid).map_err(|e| unreadable(&e))?;
        }
        Ok(())
    }
}
