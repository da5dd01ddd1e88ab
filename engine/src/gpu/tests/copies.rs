//! Staged copies: what is owned while they are under way, and what is said when they fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use super::{Fake, content, memory, pattern, piece, slab};
use crate::base::Digest;
use crate::base::limits::LEASE_BYTES;
use crate::gpu::{DeviceMemory, GpuError, Staging};

#[test]
fn content_goes_to_the_device_and_back() {
    let fake = Fake::new();
    let (gpu, slab) = (fake.gpu(), slab());
    let staging = Staging::new(&gpu, &slab).unwrap();
    assert_eq!(staging.to_string(), "staged through pinned memory");
    let device = memory(&gpu, 3 * LEASE_BYTES);
    let mut pieces = Vec::new();
    // Odd sizes at odd addresses, and parts of one lease.
    let mut at = 1;
    for (seed, len) in [(1, LEASE_BYTES), (2, 4097), (3, 1), (4, 777_777)] {
        pieces.push(piece(content(&slab, seed, len), device.part(at..at + len).unwrap()));
        at += len + 13;
    }
    let lease = content(&slab, 5, 1000);
    for (from, to) in [(0..500, at), (500..1000, at + 500)] {
        let len = from.len();
        pieces.push(piece(lease.slice(from), device.part(to..to + len).unwrap()));
    }
    drop(lease);
    let places: Vec<_> =
        pieces.iter().map(|piece| (piece.to.clone(), piece.content.to_vec())).collect();
    let bytes: usize = places.iter().map(|(to, _)| to.len()).sum();
    let mut copy = staging.to_device(pieces).unwrap();
    assert_eq!((copy.is_done(), fake.reached()), (Ok(false), 0));
    assert_eq!(slab.leases_out(), 5, "leases are held while the copy is under way");
    while !copy.is_done().unwrap() {}
    assert_eq!(copy.wait(), Ok(bytes as u64));
    assert_eq!((slab.leases_out(), fake.reached()), (0, bytes as u64));
    for (to, bytes) in &places {
        assert_eq!(fake.read(to.address(), to.len()), *bytes);
        let back = staging.to_host(to, slab.try_lease().unwrap()).unwrap();
        assert_eq!(slab.leases_out(), 1);
        let back = back.wait().unwrap();
        assert_eq!(Digest::of(&back), Digest::of(bytes));
    }
    assert_eq!(slab.leases_out(), 0);
    drop((staging, device, places, gpu));
    fake.assert_clean();
}

#[test]
fn altered_content_is_refused_and_nothing_reaches_the_device() {
    let fake = Fake::new();
    let (gpu, slab) = (fake.gpu(), slab());
    let staging = Staging::new(&gpu, &slab).unwrap();
    let (first, second) = (memory(&gpu, 4096), memory(&gpu, 4096));
    let mut altered = piece(content(&slab, 2, 4096), second);
    let mut bytes = altered.content.to_vec();
    bytes[4095] ^= 1;
    altered.content = Bytes::from(bytes);
    let refused = staging.to_device(vec![piece(content(&slab, 1, 4096), first), altered]);
    assert_eq!(refused.err(), Some(GpuError::Altered { place: 1 }));
    assert_eq!((fake.pending(), fake.reached(), slab.leases_out()), (0, 0, 0));
    drop((staging, gpu));
    fake.assert_clean();
}

#[test]
fn sizes_must_agree_and_memory_be_of_the_same_gpu() {
    let (fake, other) = (Fake::new(), Fake::new());
    let (gpu, slab) = (fake.gpu(), slab());
    let staging = Staging::new(&gpu, &slab).unwrap();
    let refused = staging.to_device(vec![piece(content(&slab, 1, 100), memory(&gpu, 99))]);
    assert_eq!(refused.err(), Some(GpuError::WrongSize { content: 100, room: 99 }));
    let foreign = memory(&other.gpu(), 100);
    let refused = staging.to_device(vec![piece(content(&slab, 1, 100), foreign.clone())]);
    assert_eq!(refused.err(), Some(GpuError::OtherGpu));
    let refused = staging.to_host(&foreign, slab.try_lease().unwrap());
    assert_eq!(refused.err(), Some(GpuError::OtherGpu));
    let large = memory(&gpu, LEASE_BYTES + 1);
    let refused = staging.to_host(&large, slab.try_lease().unwrap());
    assert!(matches!(refused.err(), Some(GpuError::WrongSize { .. })));
    assert_eq!(slab.leases_out(), 0);
    drop((staging, large, foreign, gpu));
    fake.assert_clean();
    other.assert_clean();
}

#[test]
fn a_slab_that_is_not_pinned_is_copied_from_all_the_same_and_why_is_said() {
    let fake = Fake::new();
    let (gpu, slab) = (fake.gpu(), slab());
    fake.fail("cuMemHostRegister", 800, 0);
    let staging = Staging::new(&gpu, &slab).unwrap();
    assert_eq!(
        staging.to_string(),
        "staged through memory that is not pinned, because cuMemHostRegister: operation not \
         permitted (CUDA error 800)"
    );
    assert!(staging.unpinned().is_some());
    let device = memory(&gpu, 5000);
    let copy = staging.to_device(vec![piece(content(&slab, 9, 5000), device.clone())]).unwrap();
    assert_eq!(copy.wait(), Ok(5000));
    assert_eq!(fake.read(device.address(), 5000), pattern(9, 5000));
    drop((staging, device, gpu));
    fake.assert_clean();
}

#[test]
fn a_slab_is_pinned_once_however_many_use_it() {
    let fake = Fake::new();
    let (driver, slab) = (fake.driver().unwrap(), slab());
    let open = |index| crate::gpu::Gpu::open_by(&driver, index).unwrap();
    let (first, second) = (open(0), open(1));
    let (one, two) = (first.pin(&slab).unwrap(), second.pin(&slab).unwrap());
    let third = Staging::new(&second, &slab).unwrap();
    assert_eq!((third.unpinned(), fake.pins()), (None, 1));
    drop((one, first));
    assert_eq!(fake.pins(), 1);
    drop((two, third));
    assert_eq!(fake.pins(), 0);
    drop(second.pin(&slab).unwrap());
    drop((second, driver));
    fake.assert_clean();
}

#[test]
fn a_pinned_slab_stays_while_its_owner_is_gone() {
    let fake = Fake::new();
    let gpu = fake.gpu();
    let pinned = gpu.pin(&slab()).unwrap();
    let lease = pinned.slab().try_lease().unwrap();
    assert_eq!(lease.len(), LEASE_BYTES);
    drop((pinned, lease, gpu));
    fake.assert_clean();
}

#[test]
fn dropping_a_copy_waits_for_it() {
    let fake = Fake::new();
    let (gpu, slab) = (fake.gpu(), slab());
    let staging = Staging::new(&gpu, &slab).unwrap();
    let device = memory(&gpu, 4096);
    let address = device.address();
    let copy = staging.to_device(vec![piece(content(&slab, 7, 4096), device)]).unwrap();
    // All else of it is dropped first: the memory, the staging, the GPU.
    drop((staging, gpu));
    assert_eq!((fake.pending(), slab.leases_out()), (1, 1));
    drop(copy);
    assert_eq!((fake.pending(), slab.leases_out()), (0, 0));
    assert_eq!(fake.read(address, 4096), pattern(7, 4096));
    fake.assert_clean();
}

/// Device memory that says when it is given up.
struct Owner(DeviceMemory, Arc<AtomicBool>);
impl Drop for Owner {
    fn drop(&mut self) {
        self.1.store(true, Ordering::Relaxed);
    }
}

#[test]
fn memory_is_freed_only_after_the_copies_to_it() {
    let fake = Fake::new();
    let (gpu, slab) = (fake.gpu(), slab());
    let staging = Staging::new(&gpu, &slab).unwrap();
    let freed = Arc::new(AtomicBool::new(false));
    let owner = Arc::new(Owner(memory(&gpu, 4096), Arc::clone(&freed)));
    let address = owner.0.address();
    // SAFETY: the keeper owns the memory, and nobody else uses it.
    let lent = unsafe { DeviceMemory::borrowed(&gpu, address, 4096, owner) }.unwrap();
    let there = staging.to_device(vec![piece(content(&slab, 7, 4096), lent.clone())]).unwrap();
    let back = staging.to_host(&lent, slab.try_lease().unwrap()).unwrap();
    drop(lent);
    assert_eq!(there.wait(), Ok(4096));
    assert!(!freed.load(Ordering::Relaxed), "the second copy keeps it");
    assert_eq!(back.wait().unwrap(), pattern(7, 4096));
    assert!(freed.load(Ordering::Relaxed));
    drop((staging, gpu));
    fake.assert_clean();
}

#[test]
fn a_copy_that_cannot_begin_is_an_error_after_the_others_are_done() {
    for (call, after) in [("cuMemcpyHtoDAsync", 1), ("cuEventCreate", 0), ("cuEventRecord", 0)] {
        let fake = Fake::new();
        let (gpu, slab) = (fake.gpu(), slab());
        let staging = Staging::new(&gpu, &slab).unwrap();
        let device = memory(&gpu, 8192);
        let pieces = [0, 4096]
            .map(|at| piece(content(&slab, at as u8, 4096), device.part(at..at + 4096).unwrap()));
        fake.fail(call, 2, after);
        let refused = staging.to_device(pieces.to_vec()).err().unwrap();
        assert_eq!(refused.to_string(), format!("{call}: out of memory (CUDA error 2)"));
        drop(pieces);
        assert_eq!((fake.pending(), slab.leases_out()), (0, 0), "{call}");
        drop((staging, device, gpu));
        fake.assert_clean();
    }
}

#[test]
fn bytes_of_a_failed_copy_are_not_reported_and_its_memory_is_never_lent_again() {
    let waits: [fn(crate::gpu::ToDevice) -> GpuError; 2] = [
        |copy| copy.wait().unwrap_err(),
        |mut copy| {
            let error = loop {
                match copy.is_done() {
                    Ok(false) => {}
                    Ok(true) => panic!("a failed copy was called done"),
                    Err(error) => break error,
                }
            };
            assert_eq!((copy.is_done(), copy.wait()), (Err(GpuError::Lost), Err(GpuError::Lost)));
            error
        },
    ];
    for wait in waits {
        let fake = Fake::new();
        let (gpu, slab) = (fake.gpu(), slab());
        let staging = Staging::new(&gpu, &slab).unwrap();
        let device = memory(&gpu, 8192);
        let pieces = [0, 4096]
            .map(|at| piece(content(&slab, at as u8, 4096), device.part(at..at + 4096).unwrap()));
        fake.fail("copy", 719, 1);
        let copy = staging.to_device(pieces.to_vec()).unwrap();
        drop(pieces);
        let error = wait(copy);
        assert!(error.to_string().contains("unspecified launch failure (CUDA error 719)"));
        assert_eq!(slab.leases_out(), 2, "the device may still use them");
        // The context is broken for good: nothing panics, nothing is called done.
        let again =
            staging.to_device(vec![piece(content(&slab, 1, 10), device.part(0..10).unwrap())]);
        assert!(again.is_err());
        assert!(staging.to_host(&device, slab.try_lease().unwrap()).is_err());
        drop((staging, device, gpu));
        fake.assert_no_violation();
    }
}

#[test]
fn a_copy_that_fails_while_it_is_dropped_keeps_its_memory() {
    let fake = Fake::new();
    let (gpu, slab) = (fake.gpu(), slab());
    let staging = Staging::new(&gpu, &slab).unwrap();
    let device = memory(&gpu, 4096);
    fake.fail("copy", 719, 0);
    let back = staging.to_host(&device, slab.try_lease().unwrap()).unwrap();
    drop(back);
    drop((staging, device, gpu));
    assert_eq!((slab.leases_out(), fake.pins()), (1, 1));
    fake.assert_no_violation();
}

#[test]
fn many_threads_copy_at_once() {
    let fake = Fake::new();
    let (gpu, slab) = (fake.gpu(), slab());
    let staging = Staging::new(&gpu, &slab).unwrap();
    let device = memory(&gpu, 8 * 10_000);
    std::thread::scope(|scope| {
        for thread in 0..4_usize {
            let (staging, slab, device, fake) = (&staging, &slab, &device, &fake);
            scope.spawn(move || {
                for round in 0..20_usize {
                    let at = thread * 20_000 + round;
                    let to = device.part(at..at + 10_000).unwrap();
                    let seed = (thread * 20 + round) as u8;
                    let there = piece(content(slab, seed, 10_000), to.clone());
                    assert_eq!(staging.to_device(vec![there]).unwrap().wait(), Ok(10_000));
                    assert_eq!(fake.read(to.address(), 10_000), pattern(seed, 10_000));
                }
            });
        }
    });
    drop((staging, device, gpu));
    assert_eq!(slab.leases_out(), 0);
    fake.assert_clean();
}
