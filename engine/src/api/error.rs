//! The one error that reaches a user: what, where, why, and what to do.

use std::fmt;

/// How a command ends; the numbers are the exit status of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done and verified.
    Done = 0,
    /// Failed; nothing was published.
    Failed = 1,
    /// The command line or configuration is wrong.
    Usage = 2,
    /// Some objects failed, others were published.
    Partial = 3,
    /// Refused: identity or policy.
    Refused = 4,
    /// Interrupted; the same command resumes.
    Interrupted = 5,
}

/// An error for people: one line that says what, where and why, and a hint that says what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// Stable code for programs, such as `peer-unreachable`.
    pub code: &'static str,
    /// How the command ends.
    pub exit: Exit,
    /// What went wrong, where and why.
    pub message: String,
    /// What to do next; empty if there is nothing sensible to say.
    pub hint: String,
}

impl Error {
    /// An error without a hint.
    pub fn new(code: &'static str, exit: Exit, message: impl Into<String>) -> Self {
        Self { code, exit, message: message.into(), hint: String::new() }
    }

    /// The same with a hint.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
