//! The public face: engine, transfers, and what they report.

pub mod address;
mod admin;
mod audit;
mod basis;
mod begun;
mod calls;
mod caps;
mod checkup;
mod checkpoints;
mod connect;
mod crossing;
mod deadline;
pub mod doctor;
mod engine;
mod entering;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod fetches;
mod giving;
mod home;
mod keeper;
mod labels;
mod lanes;
mod lowering;
mod members;
mod path;
mod plan;
mod pull;
mod push;
mod ranges;
mod receipts;
mod rates;
mod raw;
mod reachable;
mod reading;
mod report;
mod retry;
mod roles;
mod route;
mod server;
mod serving;
mod site;
mod sources;
mod stage;
mod taking;
mod transfer;
mod types;
mod verify;

pub use crate::base::{Parts, PartsError, Priority};
pub use crate::runtime::copies::Copies;
pub use audit::{AuditFilter, PeerLog, PeerReport};
pub use engine::{Engine, JoinReport};
pub use error::{Advice, Error, Exit};
pub use lowering::Lowered;
pub use ranges::RemoteFile;
pub use report::{CostBy, CostReport, CostRow, LinkMonth};
pub use server::{ServeOptions, Server};
pub use stage::{Stage, StageOptions, StageProgress};
pub use transfer::Transfer;
pub use types::{
    Checkpoint, Compress, Finding, Keep, Level, LinkPlan, ListEntry, NodeAddress, Outcome, Plan,
    Remote, TransferOptions, TransportChoice, VerifyReport,
};
