//! Rules that no policy lifts.

use super::classes::Classes;
use super::request::{PATH_BYTES_MAX, Relabel, Request, RequestError, Subject};
use super::words::{Action, Transport};
use crate::base::Tier;

/// A rule that stands whatever the policy says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rule {
    /// Its id, as those of policies.
    pub(super) id: &'static str,
    /// Why it denies.
    pub(super) reason: &'static str,
}

/// RDMA does not encrypt.
const PLAINTEXT: Rule = Rule {
    id: "rdma-inside-a-private-site",
    reason: "RDMA is not encrypted, so it stays inside one private site",
};
/// Some classes do not travel in plain text even there.
const PLAINTEXT_CLASS: Rule = Rule {
    id: "rdma-classes",
    reason: "RDMA is not encrypted, and this class is not configured to travel so",
};
/// Lowering a class takes two.
const TWO_IDENTITIES: Rule = Rule {
    id: TWO_IDENTITIES_RULE,
    reason: "a class is lowered by two identities, and there is no second one",
};

/// The id of the rule that asks for a second identity.
pub const TWO_IDENTITIES_RULE: &str = "two-lower-a-class";

/// Somebody was shut out.
pub(super) const REVOKED: Rule = Rule { id: REVOKED_RULE, reason: "the identity is revoked" };
/// The id of the rule that denies everything to an identity that is revoked.
pub const REVOKED_RULE: &str = "revoked-identity";

/// The id of the rule that denies while no descriptor is left to read the policy with.
pub const NO_DESCRIPTORS_RULE: &str = "no-descriptors";

/// Whether the request makes sense at all.
pub(super) fn check(request: &Request, classes: &Classes) -> Result<Subject, RequestError> {
    let new = request.relabel.as_ref().map(|relabel| &relabel.class);
    if new.is_some() != (request.action == Action::Relabel) {
        return Err(RequestError::Relabel);
    }
    if let Some(class) =
        [Some(&request.class), new].into_iter().flatten().find(|one| classes.rank(one).is_none())
    {
        return Err(RequestError::Class { class: class.clone() });
    }
    let len = request.path.as_bytes().len();
    if len > PATH_BYTES_MAX {
        return Err(RequestError::Path { len });
    }
    let subject = Subject::of(&request.who)?;
    let second = request.relabel.as_ref().and_then(|relabel| relabel.second.as_ref());
    let second = second.map(Subject::of).transpose()?;
    let sides = [Some(&request.from), Some(&request.to), Some(&subject.side)];
    let sides: Vec<_> =
        sides.into_iter().chain([second.as_ref().map(|second| &second.side)]).flatten().collect();
    let differs = sides.iter().enumerate().find(|(at, side)| {
        sides[..*at].iter().any(|other| other.site == side.site && other.tier != side.tier)
    });
    match differs {
        Some((_, side)) => Err(RequestError::Tier { site: side.site.clone() }),
        None => Ok(subject),
    }
}

/// The rule that denies the request, if one does.
pub(super) fn denies(request: &Request, classes: &Classes) -> Option<Rule> {
    if request.transport == Transport::Rdma {
        if request.from.site != request.to.site || request.from.tier != Tier::Private {
            return Some(PLAINTEXT);
        }
        if !classes.in_plaintext(&request.class) {
            return Some(PLAINTEXT_CLASS);
        }
    }
    let relabel = request.relabel.as_ref().filter(|new| lowers(request, new, classes));
    relabel.filter(|new| new.second.as_ref().is_none_or(|it| *it == request.who))?;
    Some(TWO_IDENTITIES)
}

/// Whether the new class is below the old one.
pub(super) fn lowers(request: &Request, new: &Relabel, classes: &Classes) -> bool {
    classes.rank(&new.class) < classes.rank(&request.class)
}
