//! The hours of the day in which a link may be used, UTC.

use std::fmt;
use std::str::FromStr;

/// Seconds of a day.
const DAY_S: i64 = 86_400;

/// From one time of the day to another; the end may be on the next day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hours {
    /// Second of the day when it opens.
    from: i64,
    /// How long it is open, in seconds: at least a minute, at most a day.
    open: i64,
}

/// Not hours of a day.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("hours are written like 22:00-06:00, in UTC")]
pub struct ParseHoursError;

impl Hours {
    /// Whether it is open at this time, in seconds since 1970.
    pub fn is_open(self, at: i64) -> bool {
        self.since(at) < self.open
    }

    /// Seconds since it opened last.
    fn since(self, at: i64) -> i64 {
        (at - self.from).rem_euclid(DAY_S)
    }

    /// When it is open next: `at` itself if it is.
    pub fn opens(self, at: i64) -> i64 {
        if self.is_open(at) { at } else { at + DAY_S - self.since(at) }
    }

    /// When something is done that begins at `at` and takes `needs` seconds of open time.
    pub fn done(self, at: i64, needs: i64) -> i64 {
        let begins = self.opens(at);
        let left = self.open - self.since(begins);
        if needs <= left {
            return begins.saturating_add(needs);
        }
        // Whole days after the next opening, so that a long transfer takes no long loop.
        let next = begins + DAY_S - self.since(begins);
        let rest = needs - left;
        let (days, last) = ((rest - 1) / self.open, (rest - 1) % self.open + 1);
        next.saturating_add(days.saturating_mul(DAY_S)).saturating_add(last)
    }
}

impl FromStr for Hours {
    type Err = ParseHoursError;

    fn from_str(text: &str) -> Result<Self, ParseHoursError> {
        let (from, to) = text.split_once('-').ok_or(ParseHoursError)?;
        let (from, to) = (clock(from.trim())?, clock(to.trim())?);
        let open = if to > from { to - from } else { to + DAY_S - from };
        if from == DAY_S || from == to { Err(ParseHoursError) } else { Ok(Self { from, open }) }
    }
}

/// `HH:MM` as seconds, `24:00` included.
fn clock(text: &str) -> Result<i64, ParseHoursError> {
    let part = |text: &str| {
        let two = text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
        if two { text.parse::<i64>().ok() } else { None }
    };
    let (hour, minute) = text.split_once(':').ok_or(ParseHoursError)?;
    let (hour, minute) = part(hour).zip(part(minute)).ok_or(ParseHoursError)?;
    let fits = hour < 24 && minute < 60 || (hour, minute) == (24, 0);
    if fits { Ok(hour * 3600 + minute * 60) } else { Err(ParseHoursError) }
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.from + self.open;
        let end = if end == DAY_S { end } else { end % DAY_S };
        let clock = |second: i64| format!("{:02}:{:02}", second / 3600, second / 60 % 60);
        write!(f, "{}-{}", clock(self.from), clock(end))
    }
}
