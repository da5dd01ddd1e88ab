//! The one error that reaches a user: what, where, why, and what to do.

use std::fmt;

/// How a command ends; the numbers are the exit status of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done and verified.
    Done = 0,
    /// Failed; nothing was published, unless the message says so.
    Failed = 1,
    /// The command line or configuration is wrong.
    Usage = 2,
    /// Some objects failed, others were published.
    Partial = 3,
    /// Refused: identity, policy, budget or deadline.
    Refused = 4,
    /// Interrupted; the same command resumes.
    Interrupted = 5,
}

/// What a caller does about an error. It says what helps, not what is certain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// Something was in the way that passes by itself: do the same again later.
    Retry,
    /// Part of it is done and kept: the same call goes on from there.
    Resume,
    /// An argument, the configuration, an identity or a right is wrong: change it first.
    Reconfigure,
    /// The same call would fail the same way.
    GiveUp,
}

impl Advice {
    /// `retry`, `resume`, `reconfigure` or `give up`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Resume => "resume",
            Self::Reconfigure => "reconfigure",
            Self::GiveUp => "give up",
        }
    }
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

    /// What to do about it, for a program.
    pub fn advice(&self) -> Advice {
        match self.exit {
            Exit::Done | Exit::Interrupted | Exit::Partial => Advice::Resume,
            Exit::Usage | Exit::Refused => Advice::Reconfigure,
            Exit::Failed => match self.code {
                "incomplete" => Advice::Resume,
                "changed" | "conflict" | "peer-unreachable" | "unresolved" | "resolve"
                | "no-serve" | "served" | "listen" => Advice::Retry,
                "home" | "config" | "root" | "target" | "read-only" | "no-rdma" | "admin"
                | "no-ca" => Advice::Reconfigure,
                _ => Advice::GiveUp,
            },
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_follows_from_the_exit_and_the_code() {
        let advice = |code, exit| Error::new(code, exit, "").advice().as_str();
        assert_eq!(advice("no-space", Exit::Interrupted), "resume");
        assert_eq!(advice("unknown-node", Exit::Usage), "reconfigure");
        assert_eq!(advice("identity-refused", Exit::Refused), "reconfigure");
        assert_eq!(advice("conflict", Exit::Failed), "retry");
        assert_eq!(advice("root", Exit::Failed), "reconfigure");
        assert_eq!(advice("not-found", Exit::Failed), "give up");
    }
}
