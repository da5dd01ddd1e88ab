//! Portway moves training shards and checkpoints between GPU nodes: chunked, deduplicated,
//! verified end to end, resumable.
//!
//! The modules are an ordered list; a module names only modules before it. `tests/tidy.rs` holds
//! the order, and `docs/ARCHITECTURE.md` tells it as a story.

pub mod api;
pub mod base;
pub mod buf;
pub mod chunk;
pub mod config;
pub mod identity;
pub mod index;
pub mod journal;
pub mod manifest;
pub mod metrics;
pub mod protocol;
pub mod runtime;
pub mod sim;
pub mod storage;
pub mod transport;
pub mod wire;
