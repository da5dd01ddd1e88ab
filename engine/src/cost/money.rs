//! Money: an amount in millionths of a unit, and the currency that the unit is of.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// Millionths of a unit in one.
pub(super) const MICROS: u64 = 1_000_000;
/// Digits behind the point.
const PLACES: usize = 6;
/// Largest amount that is read, in units.
const UNITS_MAX: u64 = 1_000_000_000_000;

/// An amount of money, in millionths of a unit of the currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Money(pub u64);

/// Not an amount of money.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an amount is written like 25 or 0.09, with at most 6 digits behind the point")]
pub struct ParseMoneyError;

/// With two digits behind the point, or as many as there are.
impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (units, micros) = (self.0 / MICROS, self.0 % MICROS);
        let mut places = format!("{micros:0PLACES$}");
        while places.len() > 2 && places.ends_with('0') {
            places.pop();
        }
        f.pad(&format!("{units}.{places}"))
    }
}

impl FromStr for Money {
    type Err = ParseMoneyError;

    fn from_str(text: &str) -> Result<Self, ParseMoneyError> {
        let (units, places) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !digits(units) || !digits(places) || places.len() > PLACES {
            return Err(ParseMoneyError);
        }
        let units: u64 = units.parse().map_err(|_| ParseMoneyError)?;
        let micros: u64 = format!("{places:0<PLACES$}").parse().map_err(|_| ParseMoneyError)?;
        if units > UNITS_MAX {
            return Err(ParseMoneyError);
        }
        Ok(Self(units * MICROS + micros))
    }
}

/// As text: a number of JSON may lose digits.
impl Serialize for Money {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Money {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A currency by its three letters (ISO 4217), such as `USD`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency(pub(crate) [u8; 3]);

/// Not a currency.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a currency is three letters A-Z, such as USD")]
pub struct ParseCurrencyError;

impl Default for Currency {
    fn default() -> Self {
        Self(*b"USD")
    }
}

impl Currency {
    /// The one of these letters.
    pub fn from_bytes(bytes: [u8; 3]) -> Option<Self> {
        bytes.iter().all(u8::is_ascii_uppercase).then_some(Self(bytes))
    }

    /// Its letters.
    pub fn as_str(&self) -> &str {
        // Only letters get in.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl FromStr for Currency {
    type Err = ParseCurrencyError;

    fn from_str(text: &str) -> Result<Self, ParseCurrencyError> {
        let bytes = text.as_bytes().try_into().map_err(|_| ParseCurrencyError)?;
        Self::from_bytes(bytes).ok_or(ParseCurrencyError)
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Currency {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
