//! Links between sites and budgets: what they are, and how they are read.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use toml_edit::{Item, Value};

use super::entries::{Values, rule_of, site_name};
use super::load::{Config, Loader};
use super::setting::{Raw, Setting, Wrong};
use super::similar;
use crate::base::{NodeName, Rate, RelPath, SiteName};
use crate::cost::{Billing, Currency, Hours, Money, Per, Price, Tariff};
use crate::policy::Principal;

/// A way between two sites.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The sites that it joins.
    pub sites: [SiteName; 2],
    /// Its rate in megabits per second.
    pub rate_mbps: u64,
    /// The most that this node sends over it, in megabits per second.
    pub limit_mbps: Option<u64>,
    /// What its provider bills.
    pub billing: Billing,
    /// What 10^9 bytes cost that this node sends over it.
    pub price: Option<Price>,
    /// The rate that is paid for whatever is sent, in megabits per second.
    pub commit_mbps: Option<u64>,
    /// What a Mb/s of the billed rate costs a month, or the link, as its billing is.
    pub price_per_month: Option<Money>,
    /// When it may be used.
    pub hours: Option<Hours>,
    /// Where nodes at the other end are reached over it.
    pub addresses: BTreeMap<NodeName, SocketAddr>,
}

impl Link {
    /// The most that this node sends over it.
    pub fn limit(&self) -> Option<Rate> {
        self.limit_mbps.and_then(Rate::from_mbps)
    }

    /// What can be had of it.
    pub fn rate(&self) -> Option<Rate> {
        let rate = Rate::from_mbps(self.rate_mbps)?;
        Some(self.limit().map_or(rate, |limit| limit.min(rate)))
    }

    /// What one more byte costs: nothing where bytes are not what is billed.
    pub fn tariff(&self, currency: Currency) -> Option<Tariff> {
        let price = match self.billing {
            Billing::Volume => self.price?,
            Billing::Flat | Billing::P95 => Price::default(),
        };
        Some(Tariff { price, currency })
    }

    /// Whether it joins these two sites.
    pub fn joins(&self, one: &SiteName, other: &SiteName) -> bool {
        let [here, there] = &self.sites;
        (here, there) == (one, other) || (here, there) == (other, one)
    }
}

/// The most that may be spent in a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    /// The amount.
    pub amount: Money,
    /// The time.
    pub per: Per,
    /// Whose transfers count; none for everybody's.
    pub identity: Option<Principal>,
    /// The dataset that counts, with what is below it; none for all.
    pub dataset: Option<RelPath>,
    /// The link that counts; none for all.
    pub link: Option<String>,
}

impl Config {
    /// The links between two sites, with their names.
    pub fn links_between(&self, one: &SiteName, other: &SiteName) -> Vec<(&str, &Link)> {
        let links = self.links.iter().map(|(name, link)| (name.as_str(), link));
        links.filter(|(_, link)| link.joins(one, other)).collect()
    }

    /// The fastest link between two sites, with its name; one that nodes are not reached over by an
    /// address of its own comes first.
    pub fn link_between(&self, one: &SiteName, other: &SiteName) -> Option<(&str, &Link)> {
        let links = self.links_between(one, other).into_iter();
        links.max_by_key(|(_, link)| (link.addresses.is_empty(), link.rate_mbps))
    }

    /// The link that a session between two sites takes whose peer, called `node`, is at `remote`: the
    /// one that has this address of it, or else [`link_between`](Self::link_between).
    pub fn link_taken(
        &self,
        (one, other): (&SiteName, &SiteName),
        (node, remote): (&NodeName, Option<SocketAddr>),
    ) -> Option<(&str, &Link)> {
        let links = self.links_between(one, other);
        let at = |link: &Link| link.addresses.get(node).copied();
        let exact = links.iter().find(|(_, link)| at(link).is_some() && at(link) == remote);
        // Who dialled us comes from the address that it listens at, from another port.
        let ip = remote.map(|remote| remote.ip());
        let near = || links.iter().find(|(_, link)| ip.is_some() && at(link).map(|a| a.ip()) == ip);
        exact.or_else(near).copied().or_else(|| self.link_between(one, other))
    }
}

impl Loader<'_> {
    pub(super) fn link(&mut self, name: &str, field: &str, item: &Item, entry: &Values<'_>) {
        let sites = self.required(field, item, entry, "sites", |value| {
            let sites: Option<Vec<_>> = value.as_array()?.iter().map(site_name).collect();
            <[SiteName; 2]>::try_from(sites?).ok()
        });
        let rule = rule_of("links.NAME", "rate_mbps");
        let mbps = |value: &Value| {
            u64::read(&Raw::Toml { value, dir: std::path::Path::new("") }, rule).ok()
        };
        let rate = self.required(field, item, entry, "rate_mbps", mbps);
        let limit_mbps = self.optional(field, entry, "limit_mbps", mbps);
        let commit_mbps = self.optional(field, entry, "commit_mbps", mbps);
        let price = self.optional(field, entry, "price_per_gb", amount).map(Price);
        let billing = self.optional(field, entry, "billing", word(Billing::ALL, Billing::as_str));
        let per_mbps = self.optional(field, entry, "price_per_mbps", amount);
        let per_month = self.optional(field, entry, "price_per_month", amount);
        let hours = self.optional(field, entry, "hours", |value| value.as_str()?.parse().ok());
        let addresses = self.optional(field, entry, "address", addresses).unwrap_or_default();
        let billing = billing.unwrap_or(Billing::Volume);
        for (name, given, needs) in [
            ("price_per_gb", price.is_some(), Billing::Volume),
            ("commit_mbps", commit_mbps.is_some(), Billing::P95),
            ("price_per_mbps", per_mbps.is_some(), Billing::P95),
            ("price_per_month", per_month.is_some(), Billing::Flat),
        ] {
            if given && billing != needs {
                let field = format!("{field}.{name}");
                let line = self.lines.get(&field).copied().unwrap_or(0);
                self.mistake_at(line, &field, Wrong::Billing { needs });
            }
        }
        let (Some(sites), Some(rate_mbps)) = (sites, rate) else { return };
        let link = Link {
            sites,
            rate_mbps,
            limit_mbps,
            billing,
            price,
            commit_mbps,
            price_per_month: per_mbps.or(per_month),
            hours,
            addresses,
        };
        self.config.links.insert(name.to_owned(), link);
    }

    pub(super) fn budget(&mut self, name: &str, field: &str, item: &Item, entry: &Values<'_>) {
        let amount = self.required(field, item, entry, "amount", amount);
        let per = self.required(field, item, entry, "per", word(Per::ALL, Per::as_str));
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let identity = self.optional(field, entry, "identity", |v| v.as_str()?.parse().ok());
        let dataset = self.optional(field, entry, "dataset", |value| {
            RelPath::from_typed(value.as_str()?.as_bytes()).ok()
        });
        let link = self.optional(field, entry, "link", text);
        let (Some(amount), Some(per)) = (amount, per) else { return };
        let budget = Budget { amount, per, identity, dataset, link };
        self.config.budgets.insert(name.to_owned(), budget);
    }

    /// Every link that a budget names must be there.
    pub(super) fn check_budgets(&mut self) {
        let links = &self.config.links;
        let unknown: Vec<_> = self
            .config
            .budgets
            .iter()
            .filter_map(|(name, budget)| Some((name, budget.link.as_ref()?)))
            .filter(|(_, link)| !links.contains_key(*link))
            .map(|(name, link)| {
                let near = similar(link, links.keys().map(String::as_str));
                (format!("budgets.{name}.link"), link.clone(), near)
            })
            .collect();
        for (field, link, similar) in unknown {
            let line = self.lines.get(&field).copied().unwrap_or(0);
            self.mistake_at(line, &field, Wrong::UnknownLink { link, similar });
        }
    }
}

/// A number of the file as it is written there: `0.09` has no exact form as a float.
fn amount(value: &Value) -> Option<Money> {
    match value {
        Value::String(text) => text.value().parse().ok(),
        Value::Integer(_) | Value::Float(_) => {
            let text = value.clone().decorated("", "").to_string();
            text.replace('_', "").parse().ok()
        }
        _ => None,
    }
}

fn word<T: Copy>(
    all: &'static [T],
    text: impl Fn(T) -> &'static str,
) -> impl FnOnce(&Value) -> Option<T> {
    move |value| {
        let wanted = value.as_str()?;
        all.iter().copied().find(|one| text(*one) == wanted)
    }
}

/// `{ NODE = "ADDR:PORT", ... }`
fn addresses(value: &Value) -> Option<BTreeMap<NodeName, SocketAddr>> {
    let table = value.as_inline_table()?;
    let entry = |(node, at): (&str, &Value)| {
        let at: SocketAddr = at.as_str()?.parse().ok()?;
        (at.port() != 0).then_some((node.parse().ok()?, at))
    };
    table.iter().map(entry).collect()
}

impl Setting for Currency {
    fn read(raw: &Raw<'_>, rule: super::Rule) -> Result<Self, Wrong> {
        raw.text().and_then(|text| text.parse().ok()).ok_or_else(|| raw.wrong(rule))
    }

    fn toml(&self) -> Option<String> {
        Some(super::setting::quoted(self.as_str()))
    }
}
