//! The public face: engine, transfers, and what they report.

mod admin;
mod calls;
mod checkup;
mod connect;
pub mod doctor;
mod engine;
mod error;
mod rates;
mod server;
mod sources;
mod transfer;
mod types;
mod verify;

pub use engine::{Engine, JoinReport};
pub use error::{Error, Exit};
pub use server::{ServeOptions, Server};
pub use transfer::Transfer;
pub use types::{
    Finding, Level, ListEntry, NodeAddress, Outcome, Plan, Remote, TransferOptions, VerifyReport,
};
