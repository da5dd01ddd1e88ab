//! Values as people read them.

use crate::model::unit::{ByteRate, LinkRate, Monthly, Once, Share, Size, Time};
use crate::result::Unit;

/// A value of a unit.
pub(super) fn shown(unit: Unit, value: f64) -> String {
    match unit {
        Unit::BytesPerSecond => ByteRate(value).to_string(),
        Unit::BitsPerSecond => LinkRate(value).to_string(),
        Unit::Bytes => Size(value).to_string(),
        Unit::Seconds => Time(value).to_string(),
        Unit::PerSecond => format!("{value:.0}/s"),
        Unit::Share => Share(value).to_string(),
        Unit::Count if value.fract() == 0.0 => format!("{value:.0}"),
        Unit::Count => format!("{value:.2}"),
        Unit::Usd => Once(value).to_string(),
        Unit::UsdPerMonth => Monthly(value).to_string(),
    }
}

/// A size of messages, which are powers of two.
pub(super) fn binary(bytes: f64) -> String {
    let units = [("B", 0), ("KiB", 10), ("MiB", 20), ("GiB", 30)];
    let fits = units.iter().rev().find(|(_, bits)| bytes >= f64::from(1 << bits));
    let (unit, bits) = fits.unwrap_or(&units[0]);
    let value = bytes / f64::from(1 << bits);
    let rounded = value.round();
    if (value - rounded).abs() < 0.05 {
        format!("{rounded} {unit}")
    } else {
        format!("{value:.1} {unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_processor_are_not_rounded_away() {
        assert_eq!(shown(Unit::Count, 0.224), "0.22");
        assert_eq!(shown(Unit::Count, 2.0), "2");
    }

    #[test]
    fn sizes_of_messages_are_binary() {
        assert_eq!(binary(64.0), "64 B");
        assert_eq!(binary(65536.0), "64 KiB");
        assert_eq!(binary(1.5 * 1024.0), "1.5 KiB");
        assert_eq!(binary(f64::from(1 << 30)), "1 GiB");
    }
}
