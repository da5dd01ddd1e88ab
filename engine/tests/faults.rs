//! What goes wrong at disks, sources and peers, over real files and loopback QUIC.

mod common;

#[path = "faults/disk.rs"]
mod disk;
#[path = "faults/peers.rs"]
mod peers;
#[path = "faults/source.rs"]
mod source;
