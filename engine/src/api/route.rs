//! Which link a session to a node takes: at which of its addresses it is dialled.

use super::connect::{Greet, Session};
use super::crossing::CLOSED_HINT;
use super::engine::{Engine, clock_ms, unknown_node};
use super::{Error, Exit, NodeAddress};
use crate::config::{Endpoint, Link};
use crate::identity::Expect;

impl Engine {
    /// A session with a node over the link that was named, or over the cheapest one that is open and
    /// that has an address of the node. Where none has, the node's own addresses are dialled.
    pub(super) async fn connect_over(
        &self,
        node: &NodeAddress,
        named: Option<&str>,
    ) -> Result<Session, Error> {
        self.connect_by((node, named), Greet::Wait).await
    }

    /// The same; who greets ahead is told later what the greeting changes, by [`Self::heard_by`].
    pub(super) async fn connect_by(
        &self,
        (node, named): (&NodeAddress, Option<&str>),
        greet: Greet,
    ) -> Result<Session, Error> {
        let (own, expect) = self.locate(node)?;
        let endpoints = self.endpoints(node, named)?.unwrap_or(own);
        self.connect_at(&endpoints, expect, (&node.to_string(), greet)).await
    }

    /// A session of which the greeting was heard late: what that changes.
    pub(super) async fn heard_by(
        &self,
        session: &Session,
        (node, named): (&NodeAddress, Option<&str>),
    ) -> Result<(), Error> {
        let (own, expect) = self.locate(node)?;
        let endpoints = self.endpoints(node, named)?.unwrap_or(own);
        self.admitted(session, (&endpoints, expect, &node.to_string())).await
    }

    /// Where a node listens, and who must answer there.
    pub(super) fn locate(&self, node: &NodeAddress) -> Result<(Vec<Endpoint>, Expect), Error> {
        match node {
            NodeAddress::Address(address) => Ok((vec![Endpoint::Address(*address)], Expect::Any)),
            NodeAddress::Name(name) => match self.0.config.nodes.get(name) {
                Some(known) => Ok((known.addresses.clone(), Expect::Node(name.clone()))),
                None => Err(unknown_node(&self.0.config, name)),
            },
        }
    }

    /// Addresses of a node over links, the best first; `None` where no link has one.
    fn endpoints(
        &self,
        node: &NodeAddress,
        named: Option<&str>,
    ) -> Result<Option<Vec<Endpoint>>, Error> {
        let links = &self.0.config.links;
        let now = i64::try_from(clock_ms() / 1000).unwrap_or(i64::MAX);
        if let Some(name) = named {
            let link = links.get(name).ok_or_else(|| unknown(name, links.keys()))?;
            let open = link.hours.is_none_or(|hours| hours.is_open(now));
            return match address(link, node) {
                _ if !open => Err(closed(&[(name, link)], now)),
                Some(at) => Ok(Some(vec![at])),
                // The node's own addresses are on such a link.
                None if link.addresses.is_empty() => Ok(None),
                None => Err(without_address(name, node)),
            };
        }
        let mut found: Vec<_> = links
            .iter()
            .filter_map(|(name, link)| Some((name.as_str(), link, address(link, node)?)))
            .collect();
        if found.is_empty() {
            return Ok(None);
        }
        let all: Vec<_> = found.iter().map(|(name, link, _)| (*name, *link)).collect();
        found.retain(|(_, link, _)| link.hours.is_none_or(|hours| hours.is_open(now)));
        if found.is_empty() {
            return Err(closed(&all, now));
        }
        let currency = self.0.config.settings.cost.currency;
        found.sort_by_key(|(_, link, _)| {
            let price = link.tariff(currency).map(|tariff| tariff.price);
            (price.is_none(), price, std::cmp::Reverse(link.rate()))
        });
        Ok(Some(found.into_iter().map(|(_, _, at)| at).collect()))
    }
}

fn address(link: &Link, node: &NodeAddress) -> Option<Endpoint> {
    let NodeAddress::Name(name) = node else { return None };
    link.addresses.get(name).copied().map(Endpoint::Address)
}

fn unknown<'a>(name: &str, known: impl Iterator<Item = &'a String>) -> Error {
    let similar = crate::config::similar(name, known.map(String::as_str));
    let hint = match &similar[..] {
        [] => "portway limit lists the links that are known".to_owned(),
        similar => format!("did you mean {}?", similar.join(" or ")),
    };
    Error::new("unknown-link", Exit::Usage, format!("no link {name} is known")).hint(hint)
}

fn without_address(name: &str, node: &NodeAddress) -> Error {
    let message = format!("the link {name} has no address of {node}");
    Error::new("unknown-link", Exit::Usage, message)
        .hint(format!("write address = {{ {node} = \"HOST:PORT\" }} into [links.{name}]"))
}

fn closed(links: &[(&str, &Link)], now: i64) -> Error {
    let opens = |link: &Link| link.hours.map_or(now, |hours| hours.opens(now));
    let next = links.iter().min_by_key(|(_, link)| opens(link));
    let message = next.map_or_else(String::new, |(name, link)| {
        let hours = link.hours.map_or_else(String::new, |hours| hours.to_string());
        let at = crate::base::utc::text(opens(link));
        format!("the link {name} is open {hours} UTC only, next at {at}")
    });
    Error::new("link-closed", Exit::Refused, message).hint(CLOSED_HINT)
}
