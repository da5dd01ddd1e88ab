//! The public face: engine, transfers, and what they report.

pub mod doctor;
mod error;
mod types;

pub use error::{Error, Exit};
pub use types::{
    Finding, Level, ListEntry, NodeAddress, Outcome, Plan, Remote, TransferOptions, VerifyReport,
};
