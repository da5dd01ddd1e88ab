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

/// Seconds since 1970 as `2026-11-24 06:33`.
fn utc(seconds: i64) -> String {
    let text = portway::base::utc::text(seconds);
    match text.rsplit_once(':') {
        Some((minutes, _)) => minutes.replace('T', " "),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::utc;

    #[test]
    fn seconds_become_dates() {
        assert_eq!(utc(1_795_501_980), "2026-11-24 06:33");
        assert_eq!(utc(-1), "1969-12-31 23:59");
        utc(i64::MIN);
        utc(i64::MAX);
    }
}
