//! The public face: engine, transfers, and what they report.

mod admin;
mod audit;
mod calls;
mod caps;
mod checkup;
mod connect;
mod crossing;
pub mod doctor;
mod engine;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod labels;
mod path;
mod pull;
mod push;
mod rates;
mod retry;
mod server;
mod serving;
mod sources;
mod transfer;
mod types;
mod verify;

pub use engine::{Engine, JoinReport};
pub use error::{Error, Exit};
pub use server::{ServeOptions, Server};
pub use transfer::Transfer;
pub use types::{
    Compress, Finding, Level, ListEntry, NodeAddress, Outcome, Plan, Remote, TransferOptions,
    TransportChoice, VerifyReport,
};
