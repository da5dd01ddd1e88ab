//! Portway moves training shards and checkpoints between GPU nodes: chunked, deduplicated,
//! verified end to end, resumable.
//!
//! The modules are an ordered list; a module names only modules before it. `tests/tidy.rs` holds
//! the order, and `docs/ARCHITECTURE.md` tells it as a story.

pub mod base;
pub mod cost;
pub mod buf;
pub mod gpu;
pub mod metrics;
pub mod chunk;
pub mod encode;
pub mod manifest;
pub mod policy;
pub mod wire;
pub mod protocol;
pub mod storage;
pub mod journal;
pub mod index;
pub mod transport;
pub mod identity;
pub mod audit;
pub mod config;
pub mod border;
pub mod runtime;
pub mod api;
pub mod sim;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
