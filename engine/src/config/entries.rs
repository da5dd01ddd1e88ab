//! The tables with an entry per name: nodes and sites here, links and budgets in `links`.

use std::collections::BTreeMap;

use toml_edit::{Item, TableLike, Value};

use super::endpoint::Endpoint;
use super::fields::{ENTRY_FIELDS, Field};
use super::load::Loader;
use super::setting::{Rule, Wrong};
use super::similar;
use crate::base::{Jurisdiction, NodeName, SiteName, Tier};

/// Most addresses of one node.
const ADDRESSES_MAX: usize = 16;

/// A node that this one knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Where it listens, at least one.
    pub addresses: Vec<Endpoint>,
    /// Its site, if that was written down.
    pub site: Option<SiteName>,
}

/// A site that this node knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// Its tier.
    pub tier: Tier,
    /// Whose law holds there, if that was written down.
    pub jurisdiction: Option<Jurisdiction>,
}

impl Loader<'_> {
    /// Reads the entries of `[nodes]`, `[sites]`, `[links]` or `[budgets]`.
    pub(super) fn entries(&mut self, section: &str, table: &dyn TableLike) {
        for (name, item) in table.iter() {
            let field = format!("{section}.{name}");
            if let Err(error) = name.parse::<NodeName>() {
                self.mistake(item, &field, error.into());
                continue;
            }
            let Some(entry) = item.as_table_like() else {
                self.mistake(item, &field, Wrong::Shape { wanted: "table" });
                continue;
            };
            let entry = self.entry(section, &field, entry);
            match section {
                "nodes" => self.node(name, &field, item, &entry),
                "sites" => self.site(name, &field, item, &entry),
                "links" => self.link(name, &field, item, &entry),
                _ => self.budget(name, &field, item, &entry),
            }
        }
    }

    /// The values of one entry that are of the known fields; what else is there is a mistake.
    fn entry<'t>(
        &mut self,
        section: &str,
        entry_field: &str,
        entry: &'t dyn TableLike,
    ) -> BTreeMap<&'static str, &'t Value> {
        let known: Vec<&Field> =
            ENTRY_FIELDS.iter().filter(|f| f.section.split('.').next() == Some(section)).collect();
        let mut found = BTreeMap::new();
        for (name, item) in entry.iter() {
            let field = format!("{entry_field}.{name}");
            let Some(known_field) = known.iter().find(|f| f.name == name) else {
                let similar = similar(name, known.iter().map(|f| f.name));
                self.mistake(item, &field, Wrong::Unknown { what: "field", similar });
                continue;
            };
            match item.as_value() {
                Some(value) => drop(found.insert(known_field.name, value)),
                None => self.mistake(item, &field, Wrong::Shape { wanted: "value" }),
            }
        }
        found
    }

    fn node(&mut self, name: &str, field: &str, item: &Item, entry: &Values<'_>) {
        let addresses = self.required(field, item, entry, "address", endpoints);
        let site = self.optional(field, entry, "site", site_name);
        let (Some(addresses), Ok(name)) = (addresses, name.parse()) else { return };
        self.config.nodes.insert(name, Node { addresses, site });
    }

    fn site(&mut self, name: &str, field: &str, item: &Item, entry: &Values<'_>) {
        let tier = self.required(field, item, entry, "tier", |value| value.as_str()?.parse().ok());
        let law = |value: &Value| value.as_str()?.parse().ok();
        let jurisdiction = self.optional(field, entry, "jurisdiction", law);
        let (Some(tier), Ok(name)) = (tier, name.parse()) else { return };
        self.config.sites.insert(name, Site { tier, jurisdiction });
    }

    pub(super) fn required<T>(
        &mut self,
        field: &str,
        item: &Item,
        entry: &Values<'_>,
        name: &'static str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Option<T> {
        let full = format!("{field}.{name}");
        let section = field.split('.').next().unwrap_or_default();
        match entry.get(name) {
            None => {
                let because = "every entry needs it";
                self.mistake(item, &full, Wrong::Missing { because });
                None
            }
            Some(value) => {
                let rule = rule_of(section, name);
                let read = read(value).ok_or_else(|| self.raw(value).wrong(rule));
                self.checked(value.span(), &full, read)
            }
        }
    }

    /// A field that may be left out.
    pub(super) fn optional<T>(
        &mut self,
        field: &str,
        entry: &Values<'_>,
        name: &'static str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Option<T> {
        let value = entry.get(name)?;
        let rule = rule_of(field.split('.').next().unwrap_or_default(), name);
        let read = read(value).ok_or_else(|| self.raw(value).wrong(rule));
        self.checked(value.span(), &format!("{field}.{name}"), read)
    }

    /// Every site that is named must be there.
    pub(super) fn check_sites(&mut self) {
        let nodes = self.config.nodes.iter().filter_map(|(name, node)| {
            node.site.clone().map(|site| (format!("nodes.{name}.site"), site))
        });
        let links = self.config.links.iter().flat_map(|(name, link)| {
            link.sites.iter().map(move |site| (format!("links.{name}.sites"), site.clone()))
        });
        let named: Vec<_> = nodes.chain(links).collect();
        for (field, site) in named {
            if !self.config.sites.contains_key(&site) {
                let near = similar(site.as_str(), self.config.sites.keys().map(SiteName::as_str));
                let line = self.lines.get(&field).copied().unwrap_or(0);
                self.mistake_at(
                    line,
                    &field,
                    Wrong::UnknownSite { site: site.to_string(), similar: near },
                );
            }
        }
    }
}

pub(super) type Values<'t> = BTreeMap<&'static str, &'t Value>;

pub(super) fn rule_of(section: &str, name: &str) -> Rule {
    let section = section.split('.').next();
    ENTRY_FIELDS
        .iter()
        .find(|field| field.section.split('.').next() == section && field.name == name)
        .map_or(Rule::Bool, |field| field.rule)
}

pub(super) fn site_name(value: &Value) -> Option<SiteName> {
    value.as_str()?.parse().ok()
}

fn endpoints(value: &Value) -> Option<Vec<Endpoint>> {
    let list: Vec<Endpoint> = match value {
        Value::Array(list) => {
            list.iter().map(|one| one.as_str()?.parse().ok()).collect::<Option<_>>()?
        }
        one => vec![one.as_str()?.parse().ok()?],
    };
    (1..=ADDRESSES_MAX).contains(&list.len()).then_some(list)
}
