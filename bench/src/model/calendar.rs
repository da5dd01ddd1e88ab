//! The week: its hours, and windows in it.

use serde::de::{Deserialize, Deserializer, Error};

/// Seconds of an hour and of a week.
pub(crate) const HOUR_S: f64 = 3600.0;
pub(crate) const WEEK_S: f64 = HOUR_S * WEEK_HOURS as f64;
/// Hours of a week.
pub(crate) const WEEK_HOURS: usize = 168;
/// Days of the week, as they are written.
pub(crate) const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// A set of the week's hours, never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hours([bool; WEEK_HOURS]);

/// A moment of the week, in seconds from Monday 00:00.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Moment(pub(crate) f64);

impl Hours {
    /// The whole week.
    pub(crate) const ALWAYS: Self = Self([true; WEEK_HOURS]);

    /// Whether the hour that `at` lies in is in the set; `at` in seconds from a Monday 00:00.
    pub(crate) fn is_open(&self, at: f64) -> bool {
        self.0[hour(at)]
    }

    /// When it is open first, at `at` or later.
    pub(crate) fn opens(&self, at: f64) -> f64 {
        if self.is_open(at) {
            return at;
        }
        let next = (at / HOUR_S).floor() + 1.0;
        let wait = (0..WEEK_HOURS).find(|wait| self.0[(hour(at) + 1 + wait) % WEEK_HOURS]);
        (next + wait.unwrap_or(0) as f64) * HOUR_S
    }

    /// Seconds between two moments in which it is open.
    pub(crate) fn open_s(&self, from: f64, to: f64) -> f64 {
        if *self == Self::ALWAYS {
            return (to - from).max(0.0);
        }
        let mut at = from;
        let mut open = 0.0;
        while at < to {
            let end = (((at / HOUR_S).floor() + 1.0) * HOUR_S).min(to);
            if self.is_open(at) {
                open += end - at;
            }
            at = end;
        }
        open
    }

    /// Reads `20:00-06:00`, `Sat 08:00-20:00` or `Mon-Fri 20:00-06:00`. A window that ends before
    /// it begins ends on the next day; `00:00-24:00` is a whole day.
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| {
            format!(
                "`{text}` is not a window: {what}; such as `Mon-Fri 20:00-06:00` or `22:00-04:00`"
            )
        };
        let (days, times) = text.trim().rsplit_once(' ').unwrap_or(("Mon-Sun", text.trim()));
        let (first, last) = days.split_once('-').unwrap_or((days, days));
        let day = |name: &str| {
            let found = DAYS.iter().position(|day| *day == name);
            found.ok_or_else(|| wrong("a day is one of Mon, Tue, Wed, Thu, Fri, Sat, Sun"))
        };
        let (first, last) = (day(first)?, day(last)?);
        let (from, to) = times.split_once('-').ok_or_else(|| wrong("it has no end"))?;
        let clock = |text: &str| {
            let hour = text.strip_suffix(":00").and_then(|hour| hour.parse::<usize>().ok());
            let hour = hour.filter(|hour| *hour <= 24 && text.len() == 5);
            hour.ok_or_else(|| wrong("times are whole hours, 00:00 to 24:00"))
        };
        let (from, to) = (clock(from)?, clock(to)?);
        if from == to || from == 24 {
            return Err(wrong("it is never open"));
        }
        let length = if to > from { to - from } else { to + 24 - from };
        let mut hours = [false; WEEK_HOURS];
        for day in 0..=(last + 7 - first) % 7 {
            for hour in 0..length {
                hours[((first + day) * 24 + from + hour) % WEEK_HOURS] = true;
            }
        }
        Ok(Self(hours))
    }
}

/// The hour of the week of a time.
pub(crate) fn hour(at: f64) -> usize {
    (at.rem_euclid(WEEK_S) / HOUR_S) as usize % WEEK_HOURS
}

/// `Tue 10:30`.
pub(crate) fn shown(at: f64) -> String {
    let minutes = (at.rem_euclid(WEEK_S) / 60.0) as usize;
    format!("{} {:02}:{:02}", DAYS[minutes / 1440 % 7], minutes / 60 % 24, minutes % 60)
}

impl<'de> Deserialize<'de> for Hours {
    /// One window, or a list of them that are open together.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        #[serde(untagged, expecting = "expected a window or a list of windows")]
        enum Raw {
            One(String),
            Many(Vec<String>),
        }
        let windows = match Raw::deserialize(deserializer)? {
            Raw::One(window) => vec![window],
            Raw::Many(windows) => windows,
        };
        let mut hours = [false; WEEK_HOURS];
        for window in &windows {
            let window = Self::parse(window).map_err(D::Error::custom)?;
            hours.iter_mut().zip(window.0).for_each(|(hour, open)| *hour |= open);
        }
        if windows.is_empty() {
            return Err(D::Error::custom("a list without windows is never open; leave it out"));
        }
        Ok(Self(hours))
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let read = || {
            let (day, clock) = text.split_once(' ')?;
            let day = DAYS.iter().position(|name| *name == day)?;
            let (hour, minute) = clock.split_once(':')?;
            let (hour, minute): (usize, usize) = (hour.parse().ok()?, minute.parse().ok()?);
            let fits = hour < 24 && minute < 60 && clock.len() == 5;
            fits.then_some(Self(((day * 24 + hour) * 60 + minute) as f64 * 60.0))
        };
        read().ok_or_else(|| {
            D::Error::custom(format!("`{text}` is not a moment of the week, such as `Mon 06:30`"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(text: &str) -> Vec<usize> {
        let hours = Hours::parse(text).unwrap();
        (0..WEEK_HOURS).filter(|hour| hours.0[*hour]).collect()
    }

    #[test]
    fn windows_cross_midnight_and_the_week() {
        assert_eq!(open("Mon 08:00-10:00"), [8, 9]);
        assert_eq!(open("Mon-Tue 23:00-01:00"), [23, 24, 47, 48]);
        assert_eq!(open("Sun 23:00-01:00"), [0, 167]);
        assert_eq!(open("Sat-Mon 00:00-01:00"), [0, 120, 144]);
        assert_eq!(open("00:00-24:00").len(), WEEK_HOURS);
        assert_eq!(open("22:00-04:00").len(), 42);
    }

    #[test]
    fn what_is_no_window_is_told() {
        for text in ["", "Mon", "Mon 8-10", "Mon 08:00-08:00", "Mon 08:30-10:00", "Mo 08:00-09:00"]
        {
            let error = Hours::parse(text).unwrap_err();
            assert!(error.starts_with(&format!("`{text}` is not a window: ")), "{error}");
            assert!(error.ends_with("such as `Mon-Fri 20:00-06:00` or `22:00-04:00`"), "{error}");
        }
    }

    #[test]
    fn open_time_is_counted_over_hours_and_weeks() {
        let hours = Hours::parse("Mon 08:00-10:00").unwrap();
        let close = |a: f64, b: f64| (a - b).abs() < 1e-6;
        assert!(close(hours.open_s(0.0, 8.5 * HOUR_S), 1800.0));
        assert!(close(hours.open_s(9.0 * HOUR_S, WEEK_S + 9.0 * HOUR_S), 2.0 * HOUR_S));
        assert!(close(hours.opens(0.0), 8.0 * HOUR_S));
        assert!(close(hours.opens(8.5 * HOUR_S), 8.5 * HOUR_S));
        assert!(close(hours.opens(10.0 * HOUR_S), WEEK_S + 8.0 * HOUR_S));
        assert_eq!(shown(WEEK_S + 34.5 * HOUR_S), "Tue 10:30");
    }
}
