//! Drivers that are there, not there, too old or broken.

use std::path::Path;

use super::Fake;
use crate::gpu::device::survey_by;
use crate::gpu::library::Driver;
use crate::gpu::{DeviceMemory, Gpu, GpuError, GpuInfo};

#[test]
fn no_library_is_an_absence_and_says_what_to_install() {
    let Err(error) = Driver::open(Path::new("/nowhere/libcuda.so.1")) else {
        panic!("a library that is not there was opened")
    };
    assert!(error.is_absence());
    let text = error.to_string();
    assert!(text.starts_with("libcuda.so.1 cannot be opened: "), "{text}");
    assert!(error.fix().contains("NVIDIA driver"));
}

#[test]
fn an_old_library_is_named_with_the_function_that_it_lacks() {
    let fake = Fake::variant(&["-DTOO_OLD"]);
    let Err(error) = fake.driver() else { panic!("a library that lacks a function was taken") };
    assert_eq!(error.to_string(), "libcuda.so is too old: it lacks cuStreamSynchronize");
    assert!(!error.is_absence() && error.fix().contains("515"));
}

#[test]
fn a_driver_that_does_not_start_says_why() {
    for (code, absence, words) in [
        (100, true, "cuInit: no CUDA-capable device is detected (CUDA error 100)"),
        (803, false, "cuInit: unknown error (CUDA error 803)"),
    ] {
        let fake = Fake::new();
        fake.fail("cuInit", code, 0);
        let Err(error) = fake.driver() else { panic!("a broken driver was taken") };
        assert_eq!((error.to_string().as_str(), error.is_absence()), (words, absence));
        assert!(!error.fix().is_empty());
    }
}

#[test]
fn gpus_are_listed_without_taking_anything_of_them() {
    let fake = Fake::new();
    let gpus = survey_by(&fake.driver().unwrap()).unwrap();
    let gpu = |index| GpuInfo {
        index,
        name: format!("Fake {index}"),
        memory_bytes: 512 << 20,
        dmabuf: true,
        cuda: (12, 4),
    };
    assert_eq!(gpus, [gpu(0), gpu(1)]);
    fake.assert_clean();
    fake.devices(0);
    assert_eq!(survey_by(&fake.driver().unwrap()), Ok(vec![]));
    fake.dmabuf(false);
    fake.devices(1);
    assert!(!survey_by(&fake.driver().unwrap()).unwrap()[0].dmabuf);
}

#[test]
fn a_driver_before_dmabuf_has_gpus_without_it() {
    let fake = Fake::new();
    fake.fail("cuDeviceGetAttribute", 1, 0);
    assert!(!fake.gpu().info().dmabuf);
}

#[test]
fn a_gpu_that_is_not_there_is_counted() {
    let fake = Fake::new();
    let error = Gpu::open_by(&fake.driver().unwrap(), 2).unwrap_err();
    assert_eq!(error, GpuError::NoSuchGpu { index: 2, count: 2 });
    fake.assert_clean();
}

#[test]
fn every_refused_call_is_an_error_and_leaves_nothing_behind() {
    for call in ["cuDeviceGetCount", "cuDeviceGet", "cuDeviceGetName", "cuDeviceTotalMem"] {
        let fake = Fake::new();
        fake.fail(call, 999, 0);
        let error = Gpu::open_by(&fake.driver().unwrap(), 0).unwrap_err();
        assert!(error.to_string().starts_with(call), "{error}");
        fake.assert_clean();
    }
    for call in ["cuCtxPushCurrent", "cuMemAlloc"] {
        let fake = Fake::new();
        let gpu = fake.gpu();
        fake.fail(call, 2, 0);
        let error = DeviceMemory::allocate(&gpu, 4096).unwrap_err();
        assert_eq!(error.to_string(), format!("{call}: out of memory (CUDA error 2)"));
        drop(gpu);
        fake.assert_clean();
    }
}

#[test]
fn a_gpu_is_open_as_long_as_something_of_it_is() {
    let fake = Fake::new();
    let memory = DeviceMemory::allocate(&fake.gpu(), 4096).unwrap();
    let part = memory.part(100..200).unwrap();
    drop(memory);
    assert_eq!((part.len(), part.gpu().info().index), (100, 0));
    drop(part);
    fake.assert_clean();
}

#[test]
fn parts_are_within_the_whole() {
    let fake = Fake::new();
    let memory = DeviceMemory::allocate(&fake.gpu(), 100).unwrap();
    let part = memory.part(10..30).unwrap();
    assert_eq!(part.part(5..20).unwrap().address(), memory.address() + 15);
    assert!(part.part(20..20).unwrap().is_empty());
    assert_eq!(part.part(5..21).unwrap_err(), GpuError::OutOfRange { at: 5, len: 16, whole: 20 });
    #[expect(clippy::reversed_empty_ranges, reason = "that is what is tried")]
    let reversed = part.part(7..5);
    assert!(reversed.is_err());
}

#[test]
fn borrowed_memory_must_be_within_one_allocation_of_a_device() {
    let fake = Fake::new();
    let gpu = fake.gpu();
    let owner = std::sync::Arc::new(DeviceMemory::allocate(&gpu, 1000).unwrap());
    let (address, len) = (owner.address(), owner.len());
    let borrow = |address, len| {
        // SAFETY: the keeper owns the memory, and nobody else uses it.
        unsafe { DeviceMemory::borrowed(&gpu, address, len, owner.clone()) }
    };
    let whole = borrow(address, len).unwrap();
    assert!(borrow(address + 1, len - 1).is_ok());
    assert_eq!(
        borrow(address + 1, len).unwrap_err(),
        GpuError::NotDeviceMemory { address: address + 1, len }
    );
    assert!(matches!(borrow(0x1000, 1).unwrap_err(), GpuError::Driver { code: 1, .. }));
    assert_eq!(whole.identity().unwrap().size, 1000);
    drop((owner, gpu));
    assert!(whole.identity().is_ok(), "the loan keeps it");
    drop(whole);
    fake.assert_clean();
}
