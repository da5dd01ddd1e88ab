//! What may be done with which dataset: classes, roles, and the policy that decides.
//!
//! A [`Policy`] is Cedar text (<https://www.cedarpolicy.com>) that was checked against the schema in
//! `schema.cedarschema`, with the [`Classes`] and the jurisdictions of sites that it decides over.
//! [`Policy::builtin`] is the one that counts where nobody wrote one. A [`Request`] says who wants to
//! do what with which dataset, from where to where; [`Roles`] say which roles somebody has. A
//! [`Decider`] answers, and remembers its answers until policy, roles or time change them.
//!
//! Whatever is wrong denies: a request that makes no sense, a policy that cannot be read or whose
//! evaluation fails, roles that were tampered with. Three rules are lifted by no
//! policy: RDMA, which is not encrypted, stays inside one private site and moves the classes that are
//! configured for it; a class is lowered by two identities; a revoked identity may do nothing.
//!
//! `docs/border.md` tells the words of the schema, the ready policy and its examples.

mod bundle;
mod cases;
mod classes;
mod decide;
mod decider;
mod entities;
pub(crate) mod fields;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod load;
mod nesting;
mod request;
mod roles;
mod rules;
#[cfg(test)]
mod tests;
mod words;

pub use bundle::{BUNDLE_BYTES_MAX, Bundle, RolesMark};
pub use cases::{CASES_BYTES_MAX, CaseResult, Cases, CasesError};
pub use classes::{CLASSES_MAX, Classes, ClassesError};
pub use decide::{Decision, Explanation};
pub use decider::{Broken, Cause, DECISIONS_MAX, Decider};
pub use load::{
    BUILTIN, Mistake, POLICIES_MAX, POLICY_BYTES_MAX, Policy, PolicyError, REASON_CHARS_MAX,
    SCHEMA, Span,
};
pub use request::{Kind, PATH_BYTES_MAX, Relabel, Request, RequestError, Side, Subject};
pub use roles::{ChangeError, GRANTS_MAX, Grant, REVOKED_MAX, Role, Roles, SucceedError};
pub use rules::{NO_DESCRIPTORS_RULE, REVOKED_RULE, TWO_IDENTITIES_RULE};
pub use words::{
    Action, ParsePrincipalError, PolicyVersion, Principal, REASON_BYTES_MAX, Reason, Transport,
    Verdict, WHO_BYTES_MAX,
};
