//! `portway ls`.

use portway::api::{Error, Exit, ListEntry};

use crate::args::Ls;
use crate::facade::address;
use crate::out::event::Event;
use crate::setup::Context;

/// Hexadecimal digits of a digest that people see.
const DIGEST_CHARS: usize = 12;

pub(super) async fn run(context: &Context<'_>, args: &Ls) -> Result<Exit, Error> {
    let config = context.config()?;
    let remote = address::remote(&args.path, &config)?;
    let entries = context.engine(&config)?.list(remote).await?;
    for entry in &entries {
        context.out.event(&Event::Entry(entry));
        context.out.text(&line(entry));
    }
    Ok(Exit::Done)
}

/// `-rw-r--r--  1234  2026-11-24 06:33  3f2a...  name`, the time in UTC.
pub(super) fn line(entry: &ListEntry) -> String {
    let kind = match entry.kind.as_str() {
        "dir" => 'd',
        "symlink" => 'l',
        "file" => '-',
        _ => '?',
    };
    let rights: String = (0..9)
        .map(|bit| if entry.mode >> (8 - bit) & 1 == 1 { ['r', 'w', 'x'][bit % 3] } else { '-' })
        .collect();
    let digest = entry.digest.as_deref().unwrap_or("-");
    let digest = digest.get(..DIGEST_CHARS).unwrap_or(digest);
    let slash = if kind == 'd' { "/" } else { "" };
    let (len, time) = (entry.len, utc(entry.mtime_s));
    format!("{kind}{rights} {len:>14} {time} {digest:<DIGEST_CHARS$} {}{slash}", entry.name)
}

/// Seconds since 1970 as `2026-11-24 06:33`. The calendar is the proleptic Gregorian one; the days
/// are counted as in "chrono-Compatible Low-Level Date Algorithms" (H. Hinnant), `civil_from_days`.
fn utc(seconds: i64) -> String {
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}", second / 3600, second / 60 % 60)
}

#[cfg(test)]
mod tests {
    use super::utc;

    #[test]
    fn seconds_become_dates() {
        for (seconds, date) in [
            (0, "1970-01-01 00:00"),
            (951_782_400, "2000-02-29 00:00"),
            (1_795_501_980, "2026-11-24 06:33"),
            (-1, "1969-12-31 23:59"),
            (4_107_542_399, "2100-02-28 23:59"),
        ] {
            assert_eq!(utc(seconds), date);
        }
        utc(i64::MIN);
        utc(i64::MAX);
    }
}
