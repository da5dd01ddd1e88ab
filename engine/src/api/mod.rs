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
mod plan;
mod pull;
mod push;
mod ranges;
mod rates;
mod raw;
mod reachable;
mod report;
mod retry;
mod route;
mod server;
mod serving;
mod sources;
mod stage;
mod transfer;
mod types;
mod verify;

pub use engine::{Engine, JoinReport};
pub use error::{Advice, Error, Exit};
pub use ranges::RemoteFile;
pub use report::{CostBy, CostReport, CostRow};
pub use server::{ServeOptions, Server};
pub use stage::{Stage, StageOptions, StageProgress};
pub use transfer::Transfer;
pub use types::{
    Checkpoint, Compress, Finding, Keep, Level, LinkPlan, ListEntry, NodeAddress, Outcome, Plan,
    Remote, TransferOptions, TransportChoice, VerifyReport,
};
