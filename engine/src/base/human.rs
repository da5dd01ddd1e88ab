//! How sizes, rates, durations and names are shown to people.

use std::fmt::Write;

/// Bytes in decimal units: `1.50 GB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    match (unit, value) {
        (0, _) => format!("{count} B"),
        (_, v) if v < 10.0 => format!("{v:.2} {}", UNITS[unit]),
        (_, v) if v < 100.0 => format!("{v:.1} {}", UNITS[unit]),
        (_, v) => format!("{v:.0} {}", UNITS[unit]),
    }
}

/// A rate in bytes per second, decimal units: `1.50 GB/s`.
pub fn rate(bytes_per_s: f64) -> String {
    format!("{}/s", bytes(bytes_per_s.max(0.0) as u64))
}

/// A duration: `0.42 s`, `12.3 s`, `3 min 05 s`, `2 h 04 min`.
pub fn seconds(s: f64) -> String {
    let whole = s.max(0.0).round() as u64;
    if s < 10.0 {
        format!("{:.2} s", s.max(0.0))
    } else if s < 60.0 {
        format!("{s:.1} s")
    } else if whole < 3600 {
        format!("{} min {:02} s", whole / 60, whole % 60)
    } else {
        format!("{} h {:02} min", whole / 3600, whole / 60 % 60)
    }
}

/// A count with thousands separated by commas: `20,000`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// A number of files: `1 file`, `20,000 files`.
pub fn files(n: u64) -> String {
    format!("{} file{}", count(n), if n == 1 { "" } else { "s" })
}

/// Raw bytes made safe for a terminal or a log line: control characters, text-direction marks and
/// bytes that are not UTF-8 show as `\xNN`, a backslash as `\\`.
pub fn escaped(raw: &[u8]) -> String {
    let mut out = String::with_capacity(raw.len());
    for part in raw.utf8_chunks() {
        for c in part.valid().chars() {
            let direction = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
            if c == '\\' {
                out.push_str("\\\\");
            } else if c.is_control() || direction {
                let mut utf8 = [0; 4];
                for byte in c.encode_utf8(&mut utf8).bytes() {
                    let _ = write!(out, "\\x{byte:02x}");
                }
            } else {
                out.push(c);
            }
        }
        for byte in part.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_read_well() {
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(2_147_483_648), "2.15 GB");
        assert_eq!(bytes(999_600), "1.00 MB");
        assert_eq!(seconds(185.0), "3 min 05 s");
        assert_eq!(count(20_000), "20,000");
        assert_eq!(count(7), "7");
        assert_eq!([0, 1, 2_000].map(files), ["0 files", "1 file", "2,000 files"]);
    }

    #[test]
    fn names_cannot_forge_a_log_line_or_move_the_cursor() {
        assert_eq!(escaped(b"a\nb\x1b[2J\xff\\"), "a\\x0ab\\x1b[2J\\xff\\\\");
        assert_eq!(escaped("\u{202e}x".as_bytes()), "\\xe2\\x80\\xaex");
    }
}
