//! Times as text: RFC 3339 in UTC.

/// Seconds of a day; leap seconds are not counted, as in POSIX.
const DAY_S: i64 = 86_400;
/// 9999-12-31T23:59:59Z, the last time that is read.
const LAST_S: i64 = 253_402_300_799;

/// A text is not a time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a time is 2026-12-31 or 2026-12-31T23:59:59Z, in UTC, from 1970 on")]
pub struct ParseTimeError;

/// Seconds since 1970 as `2026-11-24T06:33:00Z`.
pub fn text(secs: i64) -> String {
    let (days, second) = (secs.div_euclid(DAY_S), secs.rem_euclid(DAY_S));
    let (year, month, day) = date(days);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}Z", second % 60)
}

/// Seconds since 1970 of a time, or of the beginning of a day.
///
/// # Errors
/// The text is neither, or the day does not exist.
pub fn parse(text: &str) -> Result<i64, ParseTimeError> {
    let day = text.get(..10).ok_or(ParseTimeError)?;
    let [year, month, day] = fields(day, '-', [4, 2, 2])?;
    let days = days(year, month, day);
    if date(days) != (year, month, day) {
        return Err(ParseTimeError);
    }
    let second = match &text[10..] {
        "" => 0,
        time => {
            let time = time.strip_prefix('T').and_then(|time| time.strip_suffix('Z'));
            let [hour, minute, second] = fields(time.ok_or(ParseTimeError)?, ':', [2, 2, 2])?;
            if hour > 23 || minute > 59 || second > 59 {
                return Err(ParseTimeError);
            }
            hour * 3600 + minute * 60 + second
        }
    };
    let secs = days * DAY_S + second;
    if (0..=LAST_S).contains(&secs) { Ok(secs) } else { Err(ParseTimeError) }
}

fn fields(text: &str, between: char, widths: [usize; 3]) -> Result<[i64; 3], ParseTimeError> {
    let mut numbers = [0; 3];
    let mut parts = text.split(between);
    for (number, width) in numbers.iter_mut().zip(widths) {
        let part = parts.next().filter(|part| part.len() == width);
        let part = part.filter(|part| part.bytes().all(|byte| byte.is_ascii_digit()));
        *number = part.and_then(|part| part.parse().ok()).ok_or(ParseTimeError)?;
    }
    if parts.next().is_some() { Err(ParseTimeError) } else { Ok(numbers) }
}

/// Year, month and day of a day since 1970. The calendar is the proleptic Gregorian one; the days
/// are counted as in "chrono-Compatible Low-Level Date Algorithms" (H. Hinnant), `civil_from_days`.
pub fn date(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

/// Days since 1970 of a date: `days_from_civil` there.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let shifted_month = (month + 9) % 12;
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_survive_their_text_form() {
        for (secs, shown) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_501_987, "2026-11-24T06:33:07Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (LAST_S, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(text(secs), shown);
            assert_eq!(parse(shown), Ok(secs));
        }
        assert_eq!(text(-1), "1969-12-31T23:59:59Z");
        assert_eq!(parse("2026-11-24"), Ok(1_795_478_400));
        for days in (-800_000..3_000_000).step_by(97) {
            let (year, month, day) = date(days);
            assert_eq!(super::days(year, month, day), days);
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for bad in [
            "",
            "2026",
            "2026-13-01",
            "2026-02-29",
            "2026-00-10",
            "2026-01-00",
            "1969-12-31",
            "2026-1-1",
            "2026-01-01 ",
            "2026-01-01T00:00:00",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:60:00Z",
            "2026-01-01T00:00:60Z",
            "2026-01-01T00:00:00+01:00",
            "+026-01-01",
            "20260101",
            "2026-01-01T00:00Z",
            "2026-01-\u{661}1",
        ] {
            assert_eq!(parse(bad), Err(ParseTimeError), "{bad:?}");
        }
    }
}
