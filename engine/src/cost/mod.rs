//! What content costs on its way: money, prices of bytes, the hours of a link, and the wire that a
//! transfer takes. Pure.
//!
//! All sums of money are exact: a [`Tally`] counts bytes times their price in whole numbers, and only
//! what is shown is rounded, up. `docs/cost.md` says what is counted and what is not.

mod hours;
mod money;
pub mod path;
mod period;
mod price;
pub mod rate;
#[cfg(test)]
mod tests;

pub use hours::{Hours, ParseHoursError};
pub use money::{Currency, Money, ParseCurrencyError, ParseMoneyError};
pub use period::Per;
pub use price::{Billing, Price, Tally, Tariff};
