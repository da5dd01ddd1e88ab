//! The time that a budget is for.

use std::fmt;

use crate::base::utc;

/// Seconds of a day.
const DAY_S: i64 = 86_400;

/// What a budget is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Per {
    /// A month, UTC.
    Month,
    /// A day, UTC.
    Day,
    /// A transfer, with all sessions that it takes, resumed ones too.
    Transfer,
}

impl Per {
    /// All of them.
    pub const ALL: &[Self] = &[Self::Month, Self::Day, Self::Transfer];

    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Month => "month",
            Self::Day => "day",
            Self::Transfer => "transfer",
        }
    }
}

impl fmt::Display for Per {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Per {
    /// When the time that holds `at` began, in seconds since 1970; a transfer's is not of the clock.
    pub fn began(self, at: i64) -> i64 {
        let days = at.div_euclid(DAY_S);
        match self {
            Self::Month => (days - utc::date(days).2 + 1) * DAY_S,
            Self::Day => days * DAY_S,
            Self::Transfer => 0,
        }
    }
}
