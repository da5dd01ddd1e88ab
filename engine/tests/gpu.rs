//! A real GPU: content goes to its memory through pinned leases and back, and its memory is
//! exported. `PORTWAY_TEST_GPU` is the number of the GPU, 0 without it. Without a GPU every test
//! prints that it was skipped; the same code is tried over a faked driver in the unit tests.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Instant;

use portway::base::Digest;
use portway::base::limits::LEASE_BYTES;
use portway::buf::Slab;
use portway::gpu::{DeviceMemory, Exports, Gpu, GpuError, NoExport, Piece, Staging, survey};

/// The GPU to try, unless there is none. A driver that is there and does not work fails the test.
fn gpu() -> Option<Gpu> {
    let gpus = match survey() {
        Ok(gpus) => gpus,
        Err(error) if error.is_absence() => {
            println!("SKIPPED: no GPU: {error}");
            return None;
        }
        Err(error) => panic!("{error}: {}", error.fix()),
    };
    if gpus.is_empty() {
        println!("SKIPPED: no GPU: the driver has none");
        return None;
    }
    let index = std::env::var("PORTWAY_TEST_GPU").map_or(0, |text| text.parse().unwrap());
    let gpu = Gpu::open(index).unwrap();
    println!("{:?}", gpu.info());
    Some(gpu)
}

/// Bytes that look random and follow from a seed.
fn fill(bytes: &mut [u8], seed: u64) {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for chunk in bytes.chunks_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        chunk.copy_from_slice(&state.to_le_bytes()[..chunk.len()]);
    }
}

/// Fills `device` through leases and reads it back; the digests must agree.
fn there_and_back(staging: &Staging, slab: &Slab, device: &DeviceMemory) {
    let mut digests = Vec::new();
    let mut under_way = std::collections::VecDeque::new();
    let ranges: Vec<_> = (0..device.len())
        .step_by(LEASE_BYTES)
        .map(|at| at..(at + LEASE_BYTES).min(device.len()))
        .collect();
    let began = Instant::now();
    for (range, seed) in ranges.iter().zip(1..) {
        if under_way.len() == slab.leases() / 2 {
            let copy: portway::gpu::ToDevice = under_way.pop_front().unwrap();
            copy.wait().unwrap();
        }
        let mut lease = slab.try_lease().unwrap();
        fill(&mut lease[..range.len()], seed);
        let content = lease.freeze().slice(0..range.len());
        let digest = Digest::of(&content);
        digests.push(digest);
        let to = device.part(range.clone()).unwrap();
        under_way.push_back(staging.to_device(vec![Piece { content, digest, to }]).unwrap());
    }
    for copy in under_way {
        assert!(copy.wait().unwrap() > 0);
    }
    let there = began.elapsed();
    for (range, digest) in ranges.iter().zip(digests) {
        let from = device.part(range.clone()).unwrap();
        let back = staging.to_host(&from, slab.try_lease().unwrap()).unwrap();
        assert_eq!(Digest::of(&back.wait().unwrap()), digest, "{range:?} came back altered");
    }
    assert_eq!(slab.leases_out(), 0);
    println!("{} bytes {staging}, filled and digested in {there:?}", device.len());
}

#[test]
fn device_memory_is_filled_through_pinned_leases_and_comes_back_the_same() {
    let Some(gpu) = gpu() else { return };
    let slab = Slab::new(64 << 20);
    let staging = Staging::new(&gpu, &slab).unwrap();
    println!("pinned: {:?}", staging.unpinned());
    let device = DeviceMemory::allocate(&gpu, (256 << 20) + 12_345).unwrap();
    there_and_back(&staging, &slab, &device);
    // Odd addresses and sizes.
    for range in [1..2, 3..4099, 511..(3 << 20) + 7] {
        there_and_back(&staging, &slab, &device.part(range).unwrap());
    }
}

#[test]
fn altered_content_does_not_reach_the_device() {
    let Some(gpu) = gpu() else { return };
    let slab = Slab::new(0);
    let staging = Staging::new(&gpu, &slab).unwrap();
    let to = DeviceMemory::allocate(&gpu, LEASE_BYTES).unwrap();
    there_and_back(&staging, &slab, &to);
    let held = |staging: &Staging| {
        let back = staging.to_host(&to, slab.try_lease().unwrap()).unwrap();
        Digest::of(&back.wait().unwrap())
    };
    let before = held(&staging);
    let content = slab.try_lease().unwrap().freeze().slice(0..LEASE_BYTES);
    let piece = Piece { content, digest: Digest::of(b"another"), to: to.clone() };
    assert_eq!(staging.to_device(vec![piece]).err(), Some(GpuError::Altered { place: 0 }));
    assert_eq!(held(&staging), before);
}

#[test]
fn copies_that_are_dropped_are_waited_for() {
    let Some(gpu) = gpu() else { return };
    let slab = Slab::new(0);
    let staging = Staging::new(&gpu, &slab).unwrap();
    let to = DeviceMemory::allocate(&gpu, LEASE_BYTES).unwrap();
    for seed in 0..50 {
        let mut lease = slab.try_lease().unwrap();
        fill(&mut lease, seed);
        let content = lease.freeze().slice(0..LEASE_BYTES);
        let digest = Digest::of(&content);
        drop(staging.to_device(vec![Piece { content, digest, to: to.clone() }]).unwrap());
        let back = staging.to_host(&to, slab.try_lease().unwrap()).unwrap().wait().unwrap();
        assert_eq!(Digest::of(&back), digest);
    }
    assert_eq!(slab.leases_out(), 0);
}

/// Where in `memory` the pages begin that are its alone.
fn whole_pages(memory: &DeviceMemory) -> usize {
    let page = rustix::param::page_size() as u64;
    usize::try_from(memory.address().next_multiple_of(page) - memory.address()).unwrap()
}

#[test]
fn memory_is_exported_or_why_not_is_said() {
    let Some(gpu) = gpu() else { return };
    let exports = Exports::new(&gpu);
    let memory = DeviceMemory::allocate(&gpu, 8 << 20).unwrap();
    let start = whole_pages(&memory);
    let tensors = [0..1, 4095..4097, 12_345..(2 << 20) + 1]
        .map(|range| memory.part(start + range.start..start + range.end).unwrap());
    let first = match exports.of(&tensors[0]) {
        Ok(export) => export,
        Err(error @ NoExport::Unsupported { .. }) => {
            assert!(!gpu.info().dmabuf);
            println!("SKIPPED: {error}");
            return;
        }
        Err(error) => panic!("the device says that it exports memory: {error}"),
    };
    println!("{first:?}, {:?}", first.fd().as_fd());
    for tensor in &tensors {
        let export = exports.of(tensor).unwrap();
        assert!(Arc::ptr_eq(&export, &first), "one export for one allocation");
        assert_eq!(export.offset_of(tensor), Some(tensor.address() - first.start()));
    }
    let old = memory.identity().unwrap();
    drop((first, tensors, memory));
    let anew = DeviceMemory::allocate(&gpu, 8 << 20).unwrap();
    assert_ne!(anew.identity().unwrap().buffer_id, old.buffer_id);
    let start = whole_pages(&anew);
    exports.of(&anew.part(start..start + 1).unwrap()).unwrap();
}
