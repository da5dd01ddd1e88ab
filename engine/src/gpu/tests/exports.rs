//! Exports: alignment, what they share, and what stands against them.

use std::sync::Arc;

use rustix::io::pread;

use super::{Fake, content, memory, pattern, piece, slab};
use crate::gpu::{DeviceMemory, Exports, GpuError, NoExport, Staging};

const PAGE: usize = 4096;

fn exports(fake: &Fake) -> Exports {
    Exports::with_pages(&fake.gpu(), PAGE as u64)
}

#[test]
fn tensors_of_one_allocation_share_one_export() {
    let fake = Fake::new();
    let (gpu, slab) = (fake.gpu(), slab());
    let exports = exports(&fake);
    let whole = memory(&gpu, 10 * PAGE);
    // Odd addresses, in one page, across pages, at the ends.
    let ranges = [0..1, 1..PAGE, PAGE - 1..PAGE + 1, 3 * PAGE..5 * PAGE, 7777..31_111];
    let tensors = ranges.map(|range| whole.part(range).unwrap());
    let made: Vec<_> = tensors.iter().map(|tensor| exports.of(tensor).unwrap()).collect();
    assert_eq!(fake.exports(), 1);
    assert!(made.iter().all(|export| Arc::ptr_eq(export, &made[0])));
    assert_eq!((made[0].start(), made[0].bytes()), (whole.address(), 10 * PAGE as u64));
    // What is at a tensor's offset in the dmabuf is the tensor.
    let staging = Staging::new(&gpu, &slab).unwrap();
    for (tensor, seed) in tensors.iter().zip(1..) {
        let there = piece(content(&slab, seed, tensor.len()), tensor.clone());
        staging.to_device(vec![there]).unwrap().wait().unwrap();
        let at = made[0].offset_of(tensor).unwrap() + fake.file_offset(made[0].start());
        let mut bytes = vec![0; tensor.len()];
        pread(made[0].fd(), &mut bytes, at).unwrap();
        assert_eq!(bytes, pattern(seed, tensor.len()));
    }
    assert_eq!(made[0].offset_of(&memory(&gpu, PAGE)), None);
    drop((staging, made, exports, tensors, whole, gpu));
    fake.assert_clean();
}

#[test]
fn an_export_goes_with_its_last_user_and_is_made_again() {
    let fake = Fake::new();
    let exports = exports(&fake);
    let whole = memory(&fake.gpu(), PAGE);
    drop(exports.of(&whole).unwrap());
    let kept = exports.of(&whole).unwrap();
    assert!(Arc::ptr_eq(&kept, &exports.of(&whole).unwrap()));
    assert_eq!(fake.exports(), 2);
}

#[test]
fn memory_made_anew_at_the_same_address_is_another_allocation() {
    let fake = Fake::new();
    let gpu = fake.gpu();
    let exports = exports(&fake);
    let first = memory(&gpu, 2 * PAGE);
    let (address, old) = (first.address(), exports.of(&first).unwrap());
    drop(first);
    let second = memory(&gpu, 2 * PAGE);
    assert_eq!(second.address(), address);
    let new = exports.of(&second).unwrap();
    assert!(!Arc::ptr_eq(&old, &new));
    assert_ne!(old.allocation().buffer_id, new.allocation().buffer_id);
    assert_eq!(fake.exports(), 2);
    fake.assert_no_violation();
}

#[test]
fn borrowed_memory_that_was_freed_is_not_exported() {
    let fake = Fake::new();
    let gpu = fake.gpu();
    let exports = exports(&fake);
    let owner = memory(&gpu, 2 * PAGE);
    // SAFETY: nothing is copied; that the keeper does not keep it is what is tried.
    let lent = unsafe { DeviceMemory::borrowed(&gpu, owner.address(), 2 * PAGE, Arc::new(())) };
    let lent = lent.unwrap();
    drop(owner);
    assert!(matches!(exports.of(&lent), Err(NoExport::Refused(GpuError::Driver { code: 1, .. }))));
    let _smaller = memory(&gpu, PAGE);
    let not_there = GpuError::NotDeviceMemory { address: lent.address(), len: 2 * PAGE };
    assert_eq!(exports.of(&lent).err(), Some(NoExport::Refused(not_there)));
    assert_eq!(fake.exports(), 0);
    fake.assert_no_violation();
}

#[test]
fn pages_that_hold_others_memory_are_not_exported() {
    let fake = Fake::new();
    let gpu = fake.gpu();
    let exports = exports(&fake);
    // The first ends within a page, so the second begins within one.
    let (first, second) = (memory(&gpu, 3 * PAGE + 100), memory(&gpu, 3 * PAGE));
    assert_ne!(second.address() % PAGE as u64, 0);
    let export = exports.of(&first.part(100..3 * PAGE).unwrap()).unwrap();
    assert_eq!((export.start(), export.bytes()), (first.address(), 3 * PAGE as u64));
    for (memory, range) in
        [(&first, 3 * PAGE - 1..3 * PAGE + 1), (&second, 0..1), (&second, 3 * PAGE - 1..3 * PAGE)]
    {
        let Err(error) = exports.of(&memory.part(range).unwrap()) else {
            panic!("a page of others was exported")
        };
        assert!(matches!(error, NoExport::SharedPage { .. }));
        assert!(error.to_string().contains("share a page of 4096 bytes"), "{error}");
    }
    // The pages between are the second's alone.
    let export = exports.of(&second.part(PAGE..2 * PAGE).unwrap()).unwrap();
    assert!(export.start() > second.address() && export.bytes() == 2 * PAGE as u64);
    let tiny = memory(&gpu, 10);
    assert!(matches!(exports.of(&tiny), Err(NoExport::SharedPage { .. })));
    assert_eq!(exports.of(&tiny.part(3..3).unwrap()).err(), Some(NoExport::Empty));
    drop((first, second, tiny, gpu));
    fake.assert_no_violation();
}

#[test]
fn pages_are_those_of_the_machine() {
    let fake = Fake::new();
    fake.page(64 << 10);
    let gpu = fake.gpu();
    let exports = Exports::with_pages(&gpu, 64 << 10);
    let whole = memory(&gpu, 200 << 10);
    let export = exports.of(&whole.part(70_000..70_001).unwrap()).unwrap();
    assert_eq!((export.start(), export.bytes()), (whole.address(), 192 << 10));
    assert!(matches!(exports.of(&whole), Err(NoExport::SharedPage { .. })));
    // Smaller pages than the driver's are refused by it, in its words.
    let refused = Exports::with_pages(&gpu, PAGE as u64).of(&whole.part(70_000..70_001).unwrap());
    assert!(refused.unwrap_err().to_string().contains("invalid argument"));
}

#[test]
fn only_asks_for_no_more_than_the_pages_of_the_range() {
    let fake = Fake::new();
    let gpu = fake.gpu();
    let exports = exports(&fake);
    let whole = memory(&gpu, 10 * PAGE);
    let tensor = whole.part(2 * PAGE + 5..3 * PAGE + 5).unwrap();
    let small = exports.only(&tensor).unwrap();
    assert_eq!((small.start(), small.bytes()), (whole.address() + 8192, 2 * PAGE as u64));
    assert_eq!(small.offset_of(&tensor), Some(5));
    let large = exports.of(&whole).unwrap();
    assert_eq!(large.bytes(), 10 * PAGE as u64);
    drop(small);
    assert!(Arc::ptr_eq(&large, &exports.only(&tensor).unwrap()));
}

#[test]
fn a_whole_that_is_refused_is_followed_by_the_pages_alone() {
    let fake = Fake::new();
    let exports = exports(&fake);
    let whole = memory(&fake.gpu(), 10 * PAGE);
    let tensor = whole.part(PAGE + 5..2 * PAGE).unwrap();
    fake.export_max(PAGE as u64);
    let export = exports.of(&tensor).unwrap();
    assert_eq!((export.start(), export.bytes()), (whole.address() + 4096, PAGE as u64));
    assert_eq!((export.offset_of(&tensor), fake.exports()), (Some(5), 1));
    let refused = exports.of(&whole).unwrap_err().to_string();
    assert_eq!(refused, "cuMemGetHandleForAddressRange: out of memory (CUDA error 2)");
    fake.assert_no_violation();
}

#[test]
fn what_stands_against_an_export_is_said() {
    let fake = Fake::new();
    fake.dmabuf(false);
    let refused = exports(&fake).of(&memory(&fake.gpu(), PAGE)).unwrap_err();
    assert_eq!(refused, NoExport::Unsupported { gpu: "Fake 0".to_owned() });
    assert!(refused.to_string().contains("open ones"));

    let fake = Fake::variant(&["-DNO_EXPORT"]);
    let refused = exports(&fake).of(&memory(&fake.gpu(), PAGE)).unwrap_err();
    assert_eq!(refused, NoExport::TooOld);

    let fake = Fake::new();
    let exports = exports(&fake);
    let device = memory(&fake.gpu(), PAGE);
    fake.fail("cuPointerSetAttribute", 1, 0);
    assert!(exports.of(&device).unwrap_err().to_string().starts_with("cuPointerSetAttribute"));
    let other = Fake::new();
    let refused = exports.of(&memory(&other.gpu(), PAGE)).unwrap_err();
    assert_eq!(refused, NoExport::Refused(GpuError::OtherGpu));
    assert_eq!(fake.exports(), 0);
}
