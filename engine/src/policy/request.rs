//! What is asked: who wants to do what with which dataset, from where to where.

use super::words::{Action, Principal, Transport};
use crate::base::{Class, RelPath, SiteName, Tier};

/// Longest path that can be decided about, in bytes (`PATH_MAX`).
pub const PATH_BYTES_MAX: usize = 4096;

/// A site, with the tier that its certificates say.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Side {
    /// The site.
    pub site: SiteName,
    /// Its tier.
    pub tier: Tier,
}

/// What a relabelling would do.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Relabel {
    /// The new class.
    pub class: Class,
    /// Who else stands behind it: without one, no class is lowered.
    pub second: Option<Principal>,
}

/// A question. What it says of identities and sites has to come from certificates, never from what a
/// peer says.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Request {
    /// Who asks.
    pub who: Principal,
    /// What is to be done.
    pub action: Action,
    /// The dataset, below the root of the node that keeps it.
    pub path: RelPath,
    /// The dataset's class.
    pub class: Class,
    /// Where the content, or what is told of it, comes from: the site that keeps the dataset.
    pub from: Side,
    /// Where it goes; the same as `from` where nothing leaves.
    pub to: Side,
    /// What carries it.
    pub transport: Transport,
    /// For [`Action::Relabel`], and for it only, what it would do.
    pub relabel: Option<Relabel>,
}

/// Why nothing can be decided but a denial.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The identity is not that of a node or a workload.
    #[error("{who} is not the identity of a node or a workload of a site")]
    Subject {
        /// The identity.
        who: Principal,
    },
    /// A class that is not configured.
    #[error("the class {class} is not configured here")]
    Class {
        /// The class.
        class: Class,
    },
    /// The path is too long.
    #[error("the path has {len} bytes, more than the {PATH_BYTES_MAX} that can be decided about")]
    Path {
        /// Its length in bytes.
        len: usize,
    },
    /// What a relabelling would do is missing, or is there for another action.
    #[error("a new class belongs to the action relabel, and to no other")]
    Relabel,
    /// A site is said to be of both tiers.
    #[error("the site {site} cannot be private and public")]
    Tier {
        /// The site.
        site: SiteName,
    },
}

/// What kind of identity acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A node, for its machine.
    Node,
    /// A job with an identity of its own.
    Workload,
}

impl Kind {
    /// Its word in a SPIFFE id and in policies.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Workload => "workload",
        }
    }
}

/// What a SPIFFE id says: `spiffe://DOMAIN/tier/TIER/site/SITE/node/NAME`, or `workload` for `node`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The trust domain.
    pub domain: String,
    /// Its kind.
    pub kind: Kind,
    /// The site that it belongs to.
    pub side: Side,
    /// Its name there.
    pub name: String,
}

impl Subject {
    /// The id of somebody as people write it: a SPIFFE id, or SITE/node/NAME or SITE/workload/NAME in
    /// `domain`, at a site whose tier is known. `None` if it is neither.
    pub fn typed(
        text: &str,
        domain: &str,
        tier: impl Fn(&SiteName) -> Option<Tier>,
    ) -> Option<Principal> {
        if text.starts_with("spiffe://") {
            return text.parse().ok();
        }
        let (site, rest) = text.split_once('/')?;
        let tier = tier(&site.parse().ok()?)?;
        let who = format!("spiffe://{domain}/tier/{tier}/site/{site}/{rest}").parse().ok()?;
        Self::of(&who).is_ok().then_some(who)
    }

    /// What the id says.
    ///
    /// # Errors
    /// It has another shape.
    pub fn of(who: &Principal) -> Result<Self, RequestError> {
        let parts: Vec<&str> = who.as_str().split('/').collect();
        let parsed = match parts[..] {
            ["spiffe:", "", domain, "tier", tier, "site", site, kind, name]
                if !domain.is_empty() && !name.is_empty() =>
            {
                let kind = [Kind::Node, Kind::Workload].into_iter().find(|it| it.as_str() == kind);
                let side = tier.parse().ok().zip(site.parse().ok());
                kind.zip(side).map(|(kind, (tier, site))| Self {
                    domain: domain.to_owned(),
                    kind,
                    side: Side { site, tier },
                    name: name.to_owned(),
                })
            }
            _ => None,
        };
        parsed.ok_or_else(|| RequestError::Subject { who: who.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_of_another_shape_is_nobody() {
        let of = |text: &str| Subject::of(&text.parse().expect("visible"));
        let node = of("spiffe://d/tier/private/site/dc1/node/gpu-1").expect("a node");
        assert_eq!(
            (node.domain.as_str(), node.kind, node.name.as_str()),
            ("d", Kind::Node, "gpu-1")
        );
        assert_eq!((node.side.site.as_str(), node.side.tier), ("dc1", Tier::Private));
        let job = of("spiffe://d/tier/public/site/eu1/workload/train-7").expect("a workload");
        assert_eq!((job.kind, job.side.tier), (Kind::Workload, Tier::Public));
        for bad in [
            "spiffe://d",
            "spiffe:///tier/private/site/dc1/node/gpu-1",
            "spiffe://d/tier/secret/site/dc1/node/gpu-1",
            "spiffe://d/tier/private/site/DC/node/gpu-1",
            "spiffe://d/tier/private/site/dc1/robot/gpu-1",
            "spiffe://d/tier/private/site/dc1/node/",
            "spiffe://d/tier/private/site/dc1/node/gpu-1/",
            "spiffe://d/tier/private/site/dc1/node/gpu-1/x",
            "spiffe://d/site/dc1/tier/private/node/gpu-1",
        ] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }
}
