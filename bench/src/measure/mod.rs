//! Measurements of each stage that a byte passes, on this machine and to another node.

pub(crate) mod local;
pub(crate) mod net;
mod rows;
pub(crate) mod transfer;
