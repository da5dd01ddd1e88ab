//! Rates with their unit.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

/// Bytes per second, never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rate(NonZeroU64);

/// Not a rate: bits and bytes differ by eight, so there is no rate without its unit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a rate is written like 200Mb/s (megabits) or 25MB/s (megabytes); k, M, G, Ki, Mi, Gi")]
pub struct ParseRateError;

impl Rate {
    /// This many bytes per second; `None` for zero.
    pub fn from_bytes_per_s(bytes: u64) -> Option<Self> {
        NonZeroU64::new(bytes).map(Self)
    }

    /// This many megabits per second; `None` for zero.
    pub fn from_mbps(mbps: u64) -> Option<Self> {
        Self::from_bytes_per_s(mbps.saturating_mul(125_000))
    }

    /// Bytes per second.
    pub fn bytes_per_s(self) -> u64 {
        self.0.get()
    }

    /// Nanoseconds that `bytes` take at this rate.
    pub fn nanos(self, bytes: u64) -> u64 {
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_s());
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = self.bytes_per_s() as f64 * 8.0;
        match bits {
            b if b >= 1e9 => write!(f, "{} Gb/s", b / 1e9),
            b if b >= 1e6 => write!(f, "{} Mb/s", b / 1e6),
            b => write!(f, "{} kb/s", b / 1e3),
        }
    }
}

impl FromStr for Rate {
    type Err = ParseRateError;

    fn from_str(text: &str) -> Result<Self, ParseRateError> {
        let text = text.trim();
        let digits = text.find(|c: char| c != '.' && !c.is_ascii_digit()).ok_or(ParseRateError)?;
        let (number, unit) = text.split_at(digits);
        let number: f64 = number.parse().map_err(|_| ParseRateError)?;
        let unit = unit.trim_start().strip_suffix("/s").ok_or(ParseRateError)?;
        let (prefix, bits) = match unit.strip_suffix("bit").or_else(|| unit.strip_suffix('b')) {
            Some(prefix) => (prefix, 8.0),
            None => (unit.strip_suffix('B').ok_or(ParseRateError)?, 1.0),
        };
        let times = match prefix {
            "" => 1.0,
            "k" => 1e3,
            "M" => 1e6,
            "G" => 1e9,
            "Ki" => 1024.0,
            "Mi" => 1_048_576.0,
            "Gi" => 1_073_741_824.0,
            _ => return Err(ParseRateError),
        };
        let bytes = number * times / bits;
        if !bytes.is_finite() || bytes > 1e15 {
            return Err(ParseRateError);
        }
        Self::from_bytes_per_s(bytes as u64).ok_or(ParseRateError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_and_bytes_are_told_apart() {
        for (text, bytes) in [
            ("200Mb/s", 25_000_000),
            ("25MB/s", 25_000_000),
            ("1.5 Gbit/s", 187_500_000),
            ("8b/s", 1),
            ("2KiB/s", 2048),
            ("1MiB/s", 1 << 20),
        ] {
            assert_eq!(text.parse::<Rate>().map(Rate::bytes_per_s), Ok(bytes), "{text}");
        }
        for text in
            ["", "200", "200M", "200Mb", "0Mb/s", "7b/s", "-1MB/s", "1mB/s", "1e3MB/s", "MB/s"]
        {
            assert_eq!(text.parse::<Rate>(), Err(ParseRateError), "{text}");
        }
    }

    #[test]
    fn what_is_shown_can_be_read_back() {
        for text in ["200 Mb/s", "1.5 Gb/s", "64 kb/s"] {
            assert_eq!(text.parse::<Rate>().expect("a rate").to_string(), text);
        }
    }

    #[test]
    fn times_do_not_overflow() {
        let slow = Rate::from_bytes_per_s(1).expect("not zero");
        assert_eq!(slow.nanos(u64::MAX), u64::MAX);
        assert_eq!(slow.nanos(3), 3_000_000_000);
        assert_eq!(Rate::from_mbps(0), None);
        assert_eq!(Rate::from_mbps(8).map(|rate| rate.nanos(1_000_000)), Some(1_000_000_000));
    }
}
