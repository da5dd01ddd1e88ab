//! Which transfers of a node go first.

use std::str::FromStr;

use super::words;

words! {
    /// How soon a transfer is needed. On one node, those of a lower priority yield to those of a
    /// higher one.
    #[derive(Default)]
    Priority {
        /// Somebody waits for it.
        #[default]
        Interactive = 0 "interactive",
        /// A job will need it soon.
        Staging = 1 "staging",
        /// Whenever there is room.
        Bulk = 2 "bulk",
    }
}

/// Not a priority.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a priority is interactive, staging or bulk")]
pub struct ParsePriorityError;

impl FromStr for Priority {
    type Err = ParsePriorityError;

    fn from_str(text: &str) -> Result<Self, ParsePriorityError> {
        Self::ALL.iter().copied().find(|it| it.as_str() == text).ok_or(ParsePriorityError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_priority_is_written_as_it_is_read() {
        for priority in Priority::ALL {
            assert_eq!(priority.to_string().parse(), Ok(*priority));
        }
        assert_eq!("Bulk".parse::<Priority>(), Err(ParsePriorityError));
        assert!(Priority::Interactive < Priority::Staging && Priority::Staging < Priority::Bulk);
    }
}
