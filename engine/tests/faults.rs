//! What goes wrong at disks, sources and peers, over real files and loopback QUIC.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot set up its scene fails")]

mod common;

#[path = "faults/disk.rs"]
mod disk;
#[path = "faults/peers.rs"]
mod peers;
#[path = "faults/source.rs"]
mod source;
