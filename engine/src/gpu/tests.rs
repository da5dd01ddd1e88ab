//! The CUDA driver faked in C (`tests/fake.c`), and what must hold however it behaves.

mod copies;
mod exports;
mod fake;
mod library;

pub(crate) use fake::Fake;

use bytes::Bytes;

use super::{DeviceMemory, Gpu, Piece};
use crate::base::Digest;
use crate::buf::Slab;

/// A slab of eight leases.
fn slab() -> Slab {
    Slab::new(0)
}

/// Bytes that differ from place to place and from seed to seed.
fn pattern(seed: u8, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at as u8).wrapping_mul(31).wrapping_add((at >> 8) as u8 ^ seed)).collect()
}

/// A lease of `slab` with a pattern in front, frozen.
fn content(slab: &Slab, seed: u8, len: usize) -> Bytes {
    let mut lease = slab.try_lease().expect("a free lease");
    lease[..len].copy_from_slice(&pattern(seed, len));
    lease.freeze().slice(0..len)
}

fn piece(content: Bytes, to: DeviceMemory) -> Piece {
    Piece { digest: Digest::of(&content), content, to }
}

/// Device memory of `len` bytes.
fn memory(gpu: &Gpu, len: usize) -> DeviceMemory {
    DeviceMemory::allocate(gpu, len).expect("device memory")
}
