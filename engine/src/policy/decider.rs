//! Decisions that are remembered until something changes them.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use super::decide::Decision;
use super::load::Policy;
use super::request::Request;
use super::roles::Roles;
use super::rules::NO_DESCRIPTORS_RULE;
use super::words::{PolicyVersion, Principal, Reason, Verdict};

/// Most decisions that are remembered; beyond it all are forgotten.
pub const DECISIONS_MAX: usize = 4096;

/// Why there is nothing to decide with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// What is wrong, in words.
    pub reason: Reason,
    /// Whether it may pass by itself.
    pub cause: Cause,
    /// The roles, where they could be had all the same: who is revoked stays so.
    pub roles: Option<Roles>,
}

/// Whether what is wrong may pass by itself; of several causes the last one counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// What was read is wrong, and stays so until somebody changes it.
    Content,
    /// A file could not be read or written.
    File,
    /// There was no descriptor to read a file with.
    NoDescriptors,
}

/// What decides.
#[derive(Debug)]
struct Ground {
    policy: Policy,
    roles: Roles,
}

#[derive(Debug)]
struct State {
    ground: Arc<Result<Ground, Broken>>,
    answers: HashMap<Request, Arc<Decision>>,
}

/// Decides, by one version of policy and roles at a time, and remembers. Shared between threads.
///
/// An answer is remembered for the whole request: identity, action, dataset, class, route and
/// transport; until its minute is over, a role in it ends, or [`Decider::replace`] is called.
#[derive(Debug)]
pub struct Decider(RwLock<State>);

impl Decider {
    /// Decides by `policy` and `roles`; if one of them could not be had, denies everything.
    pub fn new(policy: Policy, roles: Roles) -> Self {
        Self::of(Ok(Ground { policy, roles }))
    }

    /// Denies everything, since there is nothing to decide with.
    pub fn broken(broken: Broken) -> Self {
        Self::of(Err(broken))
    }

    fn of(ground: Result<Ground, Broken>) -> Self {
        Self(RwLock::new(State { ground: Arc::new(ground), answers: HashMap::new() }))
    }

    /// Decides by these from now on, and forgets every answer.
    pub fn replace(&self, policy: Policy, roles: Roles) {
        self.change(Ok(Ground { policy, roles }));
    }

    /// Denies everything from now on.
    pub fn fail(&self, broken: Broken) {
        self.change(Err(broken));
    }

    fn change(&self, ground: Result<Ground, Broken>) {
        let changed = State { ground: Arc::new(ground), answers: HashMap::new() };
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = changed;
    }

    /// The policy and the version of roles that decide; `None` where everything is denied.
    pub fn version(&self) -> Option<(PolicyVersion, u64)> {
        let state = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let ground = state.ground.as_ref().as_ref().ok()?;
        Some((ground.policy.version(), ground.roles.version()))
    }

    /// The version of the roles that count, beside a broken policy too.
    ///
    /// # Errors
    /// They could not be had, so that nobody knows who is revoked.
    pub fn roles_version(&self) -> Result<u64, Broken> {
        match self.ground().as_ref() {
            Ok(Ground { roles, .. }) | Err(Broken { roles: Some(roles), .. }) => {
                Ok(roles.version())
            }
            Err(broken) => Err(broken.clone()),
        }
    }

    /// The first of some identities that is revoked, as far as is known; they are made only where
    /// somebody is.
    pub fn revoked(&self, who: impl Iterator<Item = Principal>) -> Option<Principal> {
        let ground = self.ground();
        let roles = match ground.as_ref() {
            Ok(ground) => &ground.roles,
            Err(broken) => broken.roles.as_ref()?,
        };
        if roles.revoked.is_empty() {
            return None;
        }
        who.into_iter().find(|who| roles.revoked.contains(who))
    }

    fn ground(&self) -> Arc<Result<Ground, Broken>> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner).ground)
    }

    /// Decides. `now` is in seconds since 1970. To be asked again for each batch of chunks: an
    /// answer that still holds costs less than a microsecond.
    pub fn decide(&self, request: &Request, now: i64) -> Arc<Decision> {
        let ground = {
            let state = self.0.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(answer) = state.answers.get(request)
                && (answer.since..answer.until).contains(&now)
            {
                return Arc::clone(answer);
            }
            Arc::clone(&state.ground)
        };
        let decision = match ground.as_ref() {
            Ok(Ground { policy, roles }) => Arc::new(policy.decide(request, roles, now)),
            Err(broken) => return Arc::new(broken.denial(now)),
        };
        let mut state = self.0.write().unwrap_or_else(PoisonError::into_inner);
        // What was replaced meanwhile must not be remembered under what replaced it.
        if Arc::ptr_eq(&state.ground, &ground) {
            if state.answers.len() >= DECISIONS_MAX {
                state.answers.clear();
            }
            state.answers.insert(request.clone(), Arc::clone(&decision));
        }
        decision
    }
}

#[cfg(test)]
impl Decider {
    /// How many answers are remembered.
    pub(super) fn remembered(&self) -> usize {
        self.0.read().unwrap_or_else(PoisonError::into_inner).answers.len()
    }
}

impl Broken {
    /// This is wrong with what was read, and no roles are known.
    pub fn new(reason: &str) -> Self {
        Self { reason: Reason::new(reason), cause: Cause::Content, roles: None }
    }

    fn denial(&self, now: i64) -> Decision {
        Decision {
            verdict: Verdict::Denied,
            reason: self.reason.clone(),
            by: match self.cause {
                Cause::NoDescriptors => vec![NO_DESCRIPTORS_RULE.to_owned()],
                Cause::Content | Cause::File => Vec::new(),
            },
            policy: PolicyVersion::default(),
            roles: 0,
            since: now,
            until: now,
        }
    }
}
