//! The border as this node guards it: who may move what from where to where, and the record of what
//! crossed.
//!
//! A [`Border`] has the node's policy, its roles and its audit log. A transfer asks it with an [`Ask`]
//! and gets a [`Way`], one for each session: the only thing that content is moved with. A way between
//! sites begins with a decision and a start in the log, durable before it is there, holds the permit
//! of that decision, notes every extent that moved, and ends with a record of how. The way asks again
//! before each batch of content, so a policy, a role or a class that changes stops a transfer that is
//! under way. Inside a site the policy is asked all the same, and nothing is recorded.

mod ask;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod gate;
mod ledger;
mod looked;
mod lowering;
mod meter;
mod purse;
mod receipts;
mod session;
mod sight;
mod spend;
mod stamps;
mod standing;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod way;

pub use ask::{Ask, DENIALS, Denied};
pub(crate) use gate::Stage;
pub use gate::{Border, Label};
pub use lowering::{PROPOSAL_TTL_S, PROPOSALS_MAX, Proposal, ProposalError};
pub use receipts::{Offered, Signed, Unsigned};
pub use session::Closed;
pub use sight::Sight;
pub use standing::{Follow, Party};
pub use way::{SendError, Way};
