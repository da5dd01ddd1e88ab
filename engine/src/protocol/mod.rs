//! The two roles of a transfer as machines without I/O, clock or randomness.
//!
//! Each machine takes inputs with [`Source::handle`] or [`Target::handle`] and gives actions with
//! `poll_action` until there are none. What an action asks for is done elsewhere, in any order and
//! at any pace, and its result comes back as an input. The same machines run under the real driver
//! and in the seeded simulation.
//!
//! The target drives: it says which files it has, which pieces it wants and how much it can take.
//! A request for a piece is idempotent, so a piece can be asked for again on any path.

mod settle;
mod source;
mod target;

pub use source::{Changed, ReadDone, ReadJob, Source, SourceAction, SourceEnd, SourceInput};
pub(crate) use target::OWN_RUN;
pub use target::{
    Checked, CommitJob, CommitObject, Finding, PlacePiece, PlaceResult, PlantedMachine,
    SettledObject, Target, TargetAction, TargetEnd, TargetInput, Task,
};

use crate::base::Seq;

/// Code of [`Failure::no_descriptors`].
const NO_DESCRIPTORS: &str = "no-descriptors";

/// Why something failed: a stable code for programs, and words for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Stable code, such as `source-changed`.
    pub code: String,
    /// What, where and why.
    pub detail: String,
}

impl Failure {
    /// A failure.
    pub fn new(code: &str, detail: impl Into<String>) -> Self {
        Self { code: code.to_owned(), detail: detail.into() }
    }

    /// The process has no descriptor left. No object is to blame, and it passes: whoever met it
    /// ends its session and comes back.
    pub fn no_descriptors(detail: impl Into<String>) -> Self {
        Self::new(NO_DESCRIPTORS, detail)
    }

    /// An object that was to be published with all others, or nothing, cannot be.
    pub fn incomplete(path: &str, detail: &str) -> Self {
        Self::new("incomplete", format!("{path} cannot be moved: {detail}"))
    }

    /// See [`Failure::no_descriptors`].
    pub fn is_no_descriptors(&self) -> bool {
        self.code == NO_DESCRIPTORS
    }
}

/// An object that failed alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedObject {
    /// Its number.
    pub seq: Seq,
    /// Its path, escaped.
    pub path: String,
    /// Why.
    pub failure: Failure,
}

/// Why a session of a transfer ended early.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// The peer refused or gave up; `retry` says whether the same request may succeed later.
    Refused {
        /// The peer's reason.
        failure: Failure,
        /// Whether to come back.
        retry: bool,
    },
    /// The peer broke the protocol.
    Violation(Failure),
    /// This end cannot go on; what is journaled stays, so the transfer resumes once the cause is
    /// gone.
    Local(Failure),
}

#[cfg(test)]
mod tests;
