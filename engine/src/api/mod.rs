//! The public face: engine, transfers, and what they report.

mod admin;
mod calls;
mod checkup;
mod connect;
pub mod doctor;
mod engine;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod path;
mod pull;
mod push;
mod rates;
mod raw;
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
