//! Quantities of a workload file: a type for each, read from text with its unit.

use serde::de::{Deserialize, Deserializer, Error};

/// What a unit measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quantity {
    Size,
    LinkRate,
    ByteRate,
    Duration,
    Share,
    Growth,
    Monthly,
    Once,
    PerGb,
    PerMbit,
}

impl Quantity {
    /// Its name with an article, and an example.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Size => ("a size", "`64 GiB` or `500 GB`"),
            Self::LinkRate => ("a rate in bits", "`10 Gb/s`"),
            Self::ByteRate => ("a rate in bytes", "`2.5 GB/s`"),
            Self::Duration => ("a time", "`40 ms`, `30 min` or `24 h`"),
            Self::Share => ("a share", "`12.5 %`"),
            Self::Growth => ("a growth", "`4 %/month`"),
            Self::Monthly => ("a monthly price", "`900 USD/month`"),
            Self::Once => ("a one-time price", "`1500 USD`"),
            Self::PerGb => ("a price of bytes", "`0.09 USD/GB`"),
            Self::PerMbit => ("a monthly price of a rate", "`0.60 USD/Mb/s`"),
        }
    }
}

/// Every unit, what it measures, and what one of it is in the base unit: bytes, bits per second,
/// bytes per second, seconds, parts of one, USD, USD per 10^9 bytes, USD per 10^6 bits per second.
const UNITS: [(&str, Quantity, f64); 35] = [
    ("B", Quantity::Size, 1.0),
    ("kB", Quantity::Size, 1e3),
    ("MB", Quantity::Size, 1e6),
    ("GB", Quantity::Size, 1e9),
    ("TB", Quantity::Size, 1e12),
    ("PB", Quantity::Size, 1e15),
    ("KiB", Quantity::Size, 1024.0),
    ("MiB", Quantity::Size, 1_048_576.0),
    ("GiB", Quantity::Size, 1_073_741_824.0),
    ("TiB", Quantity::Size, 1_099_511_627_776.0),
    ("PiB", Quantity::Size, 1_125_899_906_842_624.0),
    ("b/s", Quantity::LinkRate, 1.0),
    ("kb/s", Quantity::LinkRate, 1e3),
    ("Mb/s", Quantity::LinkRate, 1e6),
    ("Gb/s", Quantity::LinkRate, 1e9),
    ("Tb/s", Quantity::LinkRate, 1e12),
    ("B/s", Quantity::ByteRate, 1.0),
    ("kB/s", Quantity::ByteRate, 1e3),
    ("MB/s", Quantity::ByteRate, 1e6),
    ("GB/s", Quantity::ByteRate, 1e9),
    ("MiB/s", Quantity::ByteRate, 1_048_576.0),
    ("GiB/s", Quantity::ByteRate, 1_073_741_824.0),
    ("us", Quantity::Duration, 1e-6),
    ("ms", Quantity::Duration, 1e-3),
    ("s", Quantity::Duration, 1.0),
    ("min", Quantity::Duration, 60.0),
    ("h", Quantity::Duration, 3600.0),
    ("d", Quantity::Duration, 86_400.0),
    ("%", Quantity::Share, 0.01),
    ("%/month", Quantity::Growth, 0.01),
    ("USD/month", Quantity::Monthly, 1.0),
    ("USD", Quantity::Once, 1.0),
    ("USD/GB", Quantity::PerGb, 1.0),
    ("USD/TB", Quantity::PerGb, 1e-3),
    ("USD/Mb/s", Quantity::PerMbit, 1.0),
];

/// A number of base units, or what is wrong with the text.
fn parse(text: &str, wanted: Quantity) -> Result<f64, String> {
    let (name, example) = wanted.words();
    let expected = format!("{name} is expected, such as {example}");
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '_'));
    let (number, unit) = text.split_at(end.unwrap_or(text.len()));
    let unit = unit.trim();
    let value: Option<f64> = number.replace('_', "").parse().ok();
    let Some(value) = value else {
        return Err(format!(
            "`{text}` does not begin with a number that is not negative; {expected}"
        ));
    };
    if unit.is_empty() {
        return Err(format!("`{text}` has no unit; {expected}"));
    }
    match UNITS.iter().find(|(symbol, _, _)| *symbol == unit) {
        Some((_, quantity, factor)) if *quantity == wanted => Ok(value * factor),
        Some((_, quantity, _)) => Err(format!("`{text}` is {}; {expected}", quantity.words().0)),
        None => Err(format!("`{text}` has the unit `{unit}`, which is not known; {expected}")),
    }
}

/// A type that is read from text with a unit of its quantity.
macro_rules! quantity {
    ($(#[$doc:meta])* $name:ident, $quantity:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
        pub(crate) struct $name(pub(crate) f64);

        impl $name {
            /// Reads a number with its unit; else says what is expected.
            pub(crate) fn read(text: &str) -> Result<Self, String> {
                parse(text, $quantity).map(Self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::read(&Text::deserialize(deserializer)?.0).map_err(D::Error::custom)
            }
        }
    };
}

/// Text, or a bare number taken as text, so that what it lacks is said in the same words.
struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        #[serde(untagged, expecting = "expected text with a number and a unit")]
        enum Raw {
            Text(String),
            Whole(i64),
            Number(f64),
        }
        Ok(Self(match Raw::deserialize(deserializer)? {
            Raw::Text(text) => text,
            Raw::Whole(number) => number.to_string(),
            Raw::Number(number) => number.to_string(),
        }))
    }
}

quantity!(
    /// Bytes.
    Size,
    Quantity::Size
);
quantity!(
    /// Bits per second, as links are sold.
    LinkRate,
    Quantity::LinkRate
);
quantity!(
    /// Bytes per second, as disks and processors are measured.
    ByteRate,
    Quantity::ByteRate
);
quantity!(
    /// Seconds.
    Time,
    Quantity::Duration
);
quantity!(
    /// A part of a whole, 1 for all of it.
    Share,
    Quantity::Share
);
quantity!(
    /// What is added in a month, as a part of what was there.
    Growth,
    Quantity::Growth
);
quantity!(
    /// US dollars per month.
    Monthly,
    Quantity::Monthly
);
quantity!(
    /// A price that is paid once, in USD.
    Once,
    Quantity::Once
);
quantity!(
    /// US dollars per 10^9 bytes.
    PerGb,
    Quantity::PerGb
);
quantity!(
    /// US dollars per month and 10^6 bits per second.
    PerMbit,
    Quantity::PerMbit
);

impl LinkRate {
    /// The rate of so many bytes per second.
    pub(crate) fn of_bytes(bytes_per_s: f64) -> Self {
        Self(bytes_per_s * 8.0)
    }

    /// Bytes per second.
    pub(crate) fn bytes(self) -> f64 {
        self.0 / 8.0
    }
}

/// A number with the three digits that count, without zeros at its end.
fn digits(value: f64) -> String {
    let places = match value.abs() {
        0.0 => 0,
        size => (2 - size.log10().floor() as i32).clamp(0, 3) as usize,
    };
    let text = format!("{value:.places$}");
    if places == 0 { text } else { text.trim_end_matches('0').trim_end_matches('.').to_owned() }
}

/// `value` in the largest of the units that it has one of, or in the smallest.
fn scaled(value: f64, units: &[(&str, f64)]) -> String {
    // 999.6 would be shown as 1000.
    let fits = units.iter().rev().find(|(_, factor)| value >= factor * 0.9995);
    let (unit, factor) = fits.or(units.first()).copied().unwrap_or(("", 1.0));
    format!("{} {unit}", digits(value / factor))
}

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let units = [("B", 1.0), ("kB", 1e3), ("MB", 1e6), ("GB", 1e9), ("TB", 1e12), ("PB", 1e15)];
        f.pad(&scaled(self.0, &units))
    }
}

impl std::fmt::Display for LinkRate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let units = [("b/s", 1.0), ("kb/s", 1e3), ("Mb/s", 1e6), ("Gb/s", 1e9), ("Tb/s", 1e12)];
        f.pad(&scaled(self.0, &units))
    }
}

impl std::fmt::Display for ByteRate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let units = [("B/s", 1.0), ("kB/s", 1e3), ("MB/s", 1e6), ("GB/s", 1e9)];
        f.pad(&scaled(self.0, &units))
    }
}

impl std::fmt::Display for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let units = [("us", 1e-6), ("ms", 1e-3), ("s", 1.0), ("min", 60.0), ("h", 3600.0)];
        f.pad(&scaled(self.0, &units))
    }
}

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&format!("{} %", digits(self.0 * 100.0)))
    }
}

impl std::fmt::Display for Once {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&format!("{:.0} USD", self.0))
    }
}

impl std::fmt::Display for Monthly {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&format!("{:.0} USD/month", self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_unit_is_of_one_quantity() {
        assert_eq!(parse("64 GiB", Quantity::Size), Ok(68_719_476_736.0));
        assert_eq!(parse("64GB", Quantity::Size), Ok(64e9));
        assert_eq!(parse("1_500 MB", Quantity::Size), Ok(1.5e9));
        assert_eq!(parse("10 Gb/s", Quantity::LinkRate), Ok(1e10));
        assert_eq!(parse("2.5 GB/s", Quantity::ByteRate), Ok(2.5e9));
        assert_eq!(parse("40 ms", Quantity::Duration), Ok(0.04));
        assert_eq!(parse("50 %", Quantity::Share), Ok(0.5));
        assert_eq!(parse("0.09 USD/GB", Quantity::PerGb), Ok(0.09));
        for (number, (unit, _, _)) in UNITS.iter().enumerate() {
            assert!(UNITS[..number].iter().all(|(other, _, _)| other != unit), "{unit} twice");
        }
    }

    #[test]
    fn a_wrong_unit_is_told_with_what_is_expected() {
        let wrong = |text, quantity| parse(text, quantity).unwrap_err();
        assert_eq!(
            wrong("10 Gb/s", Quantity::Size),
            "`10 Gb/s` is a rate in bits; a size is expected, such as `64 GiB` or `500 GB`"
        );
        assert_eq!(
            wrong("10 GB/s", Quantity::LinkRate),
            "`10 GB/s` is a rate in bytes; a rate in bits is expected, such as `10 Gb/s`"
        );
        assert_eq!(
            wrong("64", Quantity::Size),
            "`64` has no unit; a size is expected, such as `64 GiB` or `500 GB`"
        );
        assert_eq!(
            wrong("10 Gbps", Quantity::LinkRate),
            "`10 Gbps` has the unit `Gbps`, which is not known; a rate in bits is expected, such \
             as `10 Gb/s`"
        );
        assert_eq!(
            wrong("-4 %", Quantity::Share),
            "`-4 %` does not begin with a number that is not negative; a share is expected, such \
             as `12.5 %`"
        );
    }

    #[test]
    fn numbers_are_shown_with_three_digits_and_a_unit() {
        let shown = [
            Size(0.0).to_string(),
            Size(90_194_313_216.0).to_string(),
            LinkRate(999_600_000.0).to_string(),
            LinkRate(1.234e9).to_string(),
            ByteRate(1.25e6).to_string(),
            Time(0.04).to_string(),
            Time(5400.0).to_string(),
            Share(0.934).to_string(),
            Monthly(1649.6).to_string(),
        ];
        let expected = [
            "0 B",
            "90.2 GB",
            "1 Gb/s",
            "1.23 Gb/s",
            "1.25 MB/s",
            "40 ms",
            "1.5 h",
            "93.4 %",
            "1650 USD/month",
        ];
        assert_eq!(shown, expected);
    }
}
