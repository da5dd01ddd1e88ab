//! The public face: engine, transfers, and what they report.

pub mod address;
mod admin;
mod audit;
mod calls;
mod caps;
mod checkup;
mod checkpoints;
mod connect;
mod crossing;
pub mod doctor;
mod engine;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod giving;
mod home;
mod labels;
mod path;
mod pull;
mod push;
mod ranges;
mod receipts;
mod rates;
mod raw;
mod reachable;
mod reading;
mod retry;
mod server;
mod serving;
mod sources;
mod stage;
mod transfer;
mod types;
mod verify;

pub use audit::{AuditFilter, PeerLog, PeerReport};
pub use engine::{Engine, JoinReport};
pub use error::{Advice, Error, Exit};
pub use ranges::RemoteFile;
pub use server::{ServeOptions, Server};
pub use stage::{Stage, StageOptions, StageProgress};
pub use transfer::Transfer;
pub use types::{
    Checkpoint, Compress, Finding, Keep, Level, ListEntry, NodeAddress, Outcome, Plan, Remote,
    TransferOptions, TransportChoice, VerifyReport,
};
