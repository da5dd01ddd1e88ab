//! One decision: the rules that stand, then the policy; whatever fails denies.

use cedar_policy::{Authorizer, Decision as CedarDecision};

use super::entities::{Actor, Question, TIME_STEP_S, path_id, shown_time};
use super::load::Policy;
use super::request::{Request, Subject};
use super::roles::{Held, Roles};
use super::rules;
use super::words::{Action, PolicyVersion, Reason, Verdict};
use crate::base::utc;

/// What was decided, why, and for how long it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Whether it may be done.
    pub verdict: Verdict,
    /// Why, in words, with the ids of the policies that decided.
    pub reason: Reason,
    /// Those ids, in alphabetical order; of a rule that no policy lifts, its own.
    pub by: Vec<String>,
    /// The policy that decided.
    pub policy: PolicyVersion,
    /// The version of the roles that it was decided with.
    pub roles: u64,
    /// When it was decided, in seconds since 1970.
    pub since: i64,
    /// The second from which on it has to be decided anew: a minute has passed, or a role ends.
    pub until: i64,
}

/// A decision with everything that it was decided from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The decision.
    pub decision: Decision,
    /// The attributes that policies could see: `principal.site` and its value, for example.
    pub attributes: Vec<(String, String)>,
}

/// A verdict with its reason, before it is dated.
struct Outcome {
    verdict: Verdict,
    reason: String,
    by: Vec<String>,
}

impl Outcome {
    fn denied(reason: String, by: Vec<String>) -> Self {
        Self { verdict: Verdict::Denied, reason, by }
    }

    fn rule(rule: rules::Rule) -> Self {
        Self::denied(format!("rule {}: {}", rule.id, rule.reason), vec![rule.id.to_owned()])
    }
}

impl Decision {
    /// The same, denied by a rule that stands beside all policies.
    pub fn denied_by(&self, rule: &str, reason: &str) -> Self {
        let Outcome { verdict, reason, by } =
            Outcome::denied(format!("rule {rule}: {reason}"), vec![rule.to_owned()]);
        Self { verdict, reason: Reason::new(&reason), by, ..self.clone() }
    }
}

impl Policy {
    /// Decides. `now` is in seconds since 1970.
    pub fn decide(&self, request: &Request, roles: &Roles, now: i64) -> Decision {
        let held = roles.held(&request.who, &request.path, now);
        let second = request.relabel.as_ref().and_then(|relabel| relabel.second.as_ref());
        let second_held = second.map(|second| roles.held(second, &request.path, now));
        let ends = [held.until, second_held.as_ref().and_then(|held| held.until)];
        let outcome = self.outcome(request, &held, second_held.as_ref(), now);
        let minute = shown_time(now).saturating_add(TIME_STEP_S);
        Decision {
            verdict: outcome.verdict,
            reason: Reason::new(&outcome.reason),
            by: outcome.by,
            policy: self.version(),
            roles: roles.version(),
            since: now,
            until: ends.into_iter().flatten().fold(minute, i64::min),
        }
    }

    fn outcome(
        &self,
        request: &Request,
        held: &Held<'_>,
        second_held: Option<&Held<'_>>,
        now: i64,
    ) -> Outcome {
        let subject = match rules::check(request, &self.classes) {
            Ok(subject) => subject,
            Err(error) => return Outcome::denied(error.to_string(), Vec::new()),
        };
        if held.revoked || second_held.is_some_and(|held| held.revoked) {
            return Outcome::rule(rules::REVOKED);
        }
        if let Some(rule) = rules::denies(request, &self.classes) {
            return Outcome::rule(rule);
        }
        let who = request.who.as_str();
        let second = request.relabel.as_ref().and_then(|relabel| relabel.second.as_ref());
        let second_subject = second.and_then(|second| Subject::of(second).ok());
        let second = second.zip(second_subject.as_ref()).zip(second_held).map(
            |((second, subject), held)| Actor { id: second.as_str(), subject, roles: &held.roles },
        );
        let who = Actor { id: who, subject: &subject, roles: &held.roles };
        self.evaluate(&Question { request, who, second, now })
    }

    fn evaluate(&self, question: &Question<'_>) -> Outcome {
        let (request, entities) = match self.cedar(question) {
            Ok(built) => built,
            Err(error) => {
                return Outcome::denied(format!("it cannot be decided: {error}"), Vec::new());
            }
        };
        let response = Authorizer::new().is_authorized(&request, &self.set, &entities);
        let diagnostics = response.diagnostics();
        let ids = |ids: &mut dyn Iterator<Item = String>| {
            let mut ids: Vec<String> = ids.collect();
            ids.sort_unstable();
            ids.dedup();
            ids
        };
        // Cedar leaves a policy out whose evaluation fails. It may have been one that forbids.
        if let Some(error) = diagnostics.errors().next() {
            let by = ids(&mut diagnostics.errors().map(
                |cedar_policy::AuthorizationError::PolicyEvaluationError(error)| {
                    error.policy_id().to_string()
                },
            ));
            return Outcome::denied(format!("{error}"), by);
        }
        let by = ids(&mut diagnostics.reason().map(ToString::to_string));
        let listed = by.join(", ");
        match (response.decision(), &by[..]) {
            (CedarDecision::Allow, _) => Outcome {
                verdict: Verdict::Granted,
                reason: format!("permitted by policy {listed}"),
                by,
            },
            (CedarDecision::Deny, []) => {
                Outcome::denied("no policy permits it".to_owned(), Vec::new())
            }
            (CedarDecision::Deny, _) => {
                let said: Vec<&str> =
                    by.iter().filter_map(|id| Some(self.reasons.get(id)?.as_str())).collect();
                let said =
                    if said.is_empty() { String::new() } else { format!(": {}", said.join("; ")) };
                Outcome::denied(format!("forbidden by policy {listed}{said}"), by)
            }
        }
    }

    /// Decides, and tells everything that a policy could see of the request.
    pub fn explain(&self, request: &Request, roles: &Roles, now: i64) -> Explanation {
        let decision = self.decide(request, roles, now);
        let mut attributes = Vec::new();
        let mut tell = |name: &str, value: String| attributes.push((name.to_owned(), value));
        tell("action", request.action.to_string());
        tell("principal", request.who.to_string());
        if let Ok(subject) = Subject::of(&request.who) {
            tell("principal.kind", subject.kind.as_str().to_owned());
            tell("principal.domain", subject.domain);
            tell("principal.site", subject.side.site.to_string());
            tell("principal.site.tier", subject.side.tier.to_string());
            tell("principal.site.jurisdiction", self.jurisdiction(&subject.side).to_owned());
            tell("principal.name", subject.name);
        }
        let held = |who| match &roles.held(who, &request.path, now).roles[..] {
            [] => "-".to_owned(),
            roles => roles.join(", "),
        };
        tell("principal in Role", held(&request.who));
        tell("resource.path", path_id(&request.path));
        tell("resource.class", request.class.to_string());
        let rank = self.classes.rank(&request.class);
        tell("resource.class.lowest", (rank == Some(0)).to_string());
        let highest = self.classes.order().len() - 1;
        tell("resource.class.highest", (rank == Some(highest)).to_string());
        tell("resource.site", request.from.site.to_string());
        for (name, side) in [("context.from", &request.from), ("context.to", &request.to)] {
            tell(name, side.site.to_string());
            tell(&format!("{name}.tier"), side.tier.to_string());
            tell(&format!("{name}.jurisdiction"), self.jurisdiction(side).to_owned());
        }
        tell("context.transport", request.transport.to_string());
        let encrypted = request.transport != super::words::Transport::Rdma;
        tell("context.encrypted", encrypted.to_string());
        tell("context.time", utc::text(shown_time(now)));
        tell("context.policy", self.version().number.to_string());
        if let Some(relabel) =
            request.relabel.as_ref().filter(|_| request.action == Action::Relabel)
        {
            tell("context.class", relabel.class.to_string());
            tell("context.lowers", rules::lowers(request, relabel, &self.classes).to_string());
            if let Some(second) = &relabel.second {
                tell("context.second", second.to_string());
                tell("context.second in Role", held(second));
            }
        }
        Explanation { decision, attributes }
    }
}
