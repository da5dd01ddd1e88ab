//! Prices of bytes, and exact sums of them.

use std::fmt;

use super::money::{Currency, Money};

/// Bytes of a GB, as links are sold.
const GB: u128 = 1_000_000_000;

/// What 10^9 bytes cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Price(pub Money);

impl Price {
    /// The most bytes that cost no more than `tally`; `None` where bytes cost nothing.
    pub fn bytes_within(self, tally: Tally) -> Option<u64> {
        let bytes = tally.0.checked_div(u128::from(self.0.0))?;
        Some(u64::try_from(bytes).unwrap_or(u64::MAX))
    }
}

/// A price and the currency that it is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tariff {
    /// What 10^9 bytes on the wire cost who sends them.
    pub price: Price,
    /// The currency.
    pub currency: Currency,
}

/// An exact sum of money, in 10^-15 of a unit: bytes times millionths of a unit for 10^9 of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Tally(u128);

impl Tally {
    /// What `bytes` cost.
    pub fn of(price: Price, bytes: u64) -> Self {
        Self(u128::from(price.0.0) * u128::from(bytes))
    }

    /// Both together.
    pub fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// What is left without `other`; nothing if that is more.
    pub fn minus(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// Rounded up to a millionth of a unit.
    pub fn money(self) -> Money {
        Money(u64::try_from(self.0.div_ceil(GB)).unwrap_or(u64::MAX))
    }

    /// As it lies in files.
    pub(crate) fn to_bytes(self) -> [u8; 16] {
        self.0.to_le_bytes()
    }

    /// As it lies in files.
    pub(crate) fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_le_bytes(bytes))
    }
}

impl From<Money> for Tally {
    fn from(money: Money) -> Self {
        Self(u128::from(money.0) * GB)
    }
}

/// What the provider of a link bills.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Billing {
    /// The bytes that were sent.
    Volume,
    /// The link, whatever is sent.
    Flat,
    /// The rate that is exceeded in one twentieth of the month.
    P95,
}

impl Billing {
    /// All of them.
    pub const ALL: &[Self] = &[Self::Volume, Self::Flat, Self::P95];

    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Volume => "volume",
            Self::Flat => "flat",
            Self::P95 => "p95",
        }
    }
}

impl fmt::Display for Billing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
