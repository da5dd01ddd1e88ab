//! What the module promises, and the ready policy against a plain model of it.

mod builtin;
mod bundle;
mod cases;
mod decider;
mod load;
mod roles;

use std::collections::BTreeMap;

use super::*;
use crate::base::{Class, RelPath, Tier};

/// 2026-06-01T00:00:30Z.
const NOW: i64 = 1_780_272_030;

fn principal(tier: &str, site: &str, kind: &str, name: &str) -> Principal {
    format!("spiffe://d/tier/{tier}/site/{site}/{kind}/{name}").parse().expect("an id")
}

fn node(site: &str) -> Principal {
    principal(&tier(site).to_string(), site, "node", "gpu-1")
}

/// Sites of these tests whose names begin with a `c` are clouds.
fn tier(site: &str) -> Tier {
    if site.starts_with('c') { Tier::Public } else { Tier::Private }
}

fn side(site: &str) -> Side {
    Side { site: site.parse().expect("a site"), tier: tier(site) }
}

fn class(name: &str) -> Class {
    name.parse().expect("a class")
}

fn path(text: &str) -> RelPath {
    RelPath::from_typed(text.as_bytes()).expect("a path")
}

fn role(name: &str) -> Role {
    name.parse().expect("a role")
}

/// A push of a dataset of class internal from one site to another by a node of the first.
fn push(from: &str, to: &str) -> Request {
    Request {
        who: node(from),
        action: Action::Push,
        path: path("checkpoints/step-1"),
        class: class("internal"),
        from: side(from),
        to: side(to),
        transport: Transport::Quic,
        relabel: None,
    }
}

/// A change of class from internal by a node of the site.
fn relabel(site: &str, to: &str, second: Option<Principal>) -> Request {
    Request {
        action: Action::Relabel,
        transport: Transport::None,
        relabel: Some(Relabel { class: class(to), second }),
        ..push(site, site)
    }
}

fn loaded(text: &str) -> Result<Policy, PolicyError> {
    Policy::load(text, 7, Classes::default(), BTreeMap::new())
}

fn builtin() -> Policy {
    Policy::builtin(7, Classes::default(), BTreeMap::new()).expect("the ready policy")
}

/// Roles with one grant.
fn granted(who: &Principal, name: &str, dataset: &str, until: Option<i64>) -> Roles {
    let grant = Grant { identity: who.clone(), role: role(name), dataset: path(dataset) };
    Roles::default().grant(grant, until, NOW).expect("granted")
}

fn verdict(policy: &Policy, request: &Request, roles: &Roles) -> Verdict {
    policy.decide(request, roles, NOW).verdict
}
