//! What goes wrong at disks, sources and peers, over real files and loopback QUIC.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::items_after_statements,
    clippy::default_trait_access,
    clippy::needless_for_each,
    reason = "a test that cannot set up its scene fails, and reads top down"
)]

mod common;

#[path = "faults/disk.rs"]
mod disk;
#[path = "faults/peers.rs"]
mod peers;
#[path = "faults/race.rs"]
mod race;
#[path = "faults/source.rs"]
mod source;
