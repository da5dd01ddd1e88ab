//! Direct where all sides can, staged with the reason where one cannot.

use super::*;
use crate::gpu::tests::Fake;
use rustix::io::Errno;
use std::cell::Cell;

/// A rail that registers no more than so many bytes at once, or nothing.
struct FakeRail {
    refuses: Cell<Option<Errno>>,
    bytes_max: u64,
    registered: Cell<usize>,
}

/// What a region must keep.
struct FakeRegion(Arc<Export>);

fn rail(bytes_max: u64) -> FakeRail {
    FakeRail { refuses: Cell::new(None), bytes_max, registered: Cell::new(0) }
}

impl Registrar for FakeRail {
    type Region = FakeRegion;

    fn register(&self, export: &Arc<Export>) -> Result<FakeRegion, RailError> {
        if let Some(error) = self.refuses.get() {
            return Err(RailError::new(format!("cannot register: {error}")));
        }
        if export.bytes() > self.bytes_max {
            return Err(RailError::new("no room"));
        }
        self.registered.set(self.registered.get() + 1);
        Ok(FakeRegion(Arc::clone(export)))
    }
}

fn direct(planned: Destination<FakeRegion>) -> Direct<FakeRegion> {
    assert_eq!(planned.to_string(), "direct (dmabuf)");
    let Destination::Direct(direct) = planned else { panic!("staged") };
    direct
}

#[test]
fn tensors_of_one_allocation_share_one_registration() {
    let (fake, rail) = (Fake::new(), rail(u64::MAX));
    let gpu = fake.gpu();
    let plans = Destinations::new(Arc::new(Exports::new(&gpu)));
    let memory = DeviceMemory::allocate(&gpu, 1 << 20).unwrap();
    let tensors = [0..10, 4000..5000, 777_777..1 << 20].map(|range| memory.part(range).unwrap());
    let direct = tensors.each_ref().map(|tensor| direct(plans.plan(Some(&rail), tensor)));
    assert_eq!((rail.registered.get(), fake.exports()), (1, 1));
    for (direct, tensor) in direct.iter().zip(&tensors) {
        assert!(Arc::ptr_eq(direct.region(), &plans_region(&plans)));
        assert_eq!(direct.memory().address(), tensor.address());
        assert!(direct.region().0.offset_of(tensor).is_some());
    }
    drop(direct);
    assert_eq!(plans.plan(Some(&rail), &memory).to_string(), "direct (dmabuf)");
    assert_eq!(rail.registered.get(), 2, "the first went with its last user");
    drop((plans, tensors, memory, gpu));
    fake.assert_clean();
}

/// The registration that `plans` shares now.
fn plans_region(plans: &Destinations<FakeRegion>) -> Arc<FakeRegion> {
    let made = plans.made.lock().unwrap();
    made.iter().find_map(|(_, region)| region.upgrade()).expect("a registration")
}

#[test]
fn the_memory_stays_allocated_while_it_is_a_destination() {
    let (fake, rail) = (Fake::new(), rail(u64::MAX));
    let gpu = fake.gpu();
    let plans = Destinations::new(Arc::new(Exports::new(&gpu)));
    let memory = DeviceMemory::allocate(&gpu, 1 << 20).unwrap();
    let direct = direct(plans.plan(Some(&rail), &memory));
    drop((plans, memory, gpu));
    assert!(direct.memory().identity().is_ok());
    drop(direct);
    fake.assert_clean();
}

#[test]
fn memory_made_anew_at_the_same_address_is_registered_anew() {
    let (fake, rail) = (Fake::new(), rail(u64::MAX));
    let gpu = fake.gpu();
    let plans = Destinations::new(Arc::new(Exports::new(&gpu)));
    let first = DeviceMemory::allocate(&gpu, 8192).unwrap();
    let region = Arc::clone(direct(plans.plan(Some(&rail), &first)).region());
    let address = first.address();
    drop(first);
    let second = DeviceMemory::allocate(&gpu, 8192).unwrap();
    assert_eq!(second.address(), address);
    let new = direct(plans.plan(Some(&rail), &second));
    assert!(!Arc::ptr_eq(&region, new.region()));
    assert_eq!(rail.registered.get(), 2);
}

#[test]
fn an_allocation_too_large_to_register_is_registered_by_the_pages_that_count() {
    let (fake, rail) = (Fake::new(), rail(8192));
    let gpu = fake.gpu();
    let plans = Destinations::new(Arc::new(Exports::new(&gpu)));
    let memory = DeviceMemory::allocate(&gpu, 1 << 20).unwrap();
    let tensor = memory.part(4100..8200).unwrap();
    let direct = direct(plans.plan(Some(&rail), &tensor));
    assert_eq!(direct.region().0.bytes(), 8192);
    assert_eq!(plans.plan(Some(&rail), &memory).to_string(), "staged, because no room");
    fake.assert_no_violation();
}

#[test]
fn what_makes_it_staged_is_said() {
    let (fake, rail) = (Fake::new(), rail(u64::MAX));
    let gpu = fake.gpu();
    let plans = Destinations::new(Arc::new(Exports::new(&gpu)));
    let memory = DeviceMemory::allocate(&gpu, 1 << 20).unwrap();
    let said = |rail: Option<&FakeRail>, memory| plans.plan(rail, memory).to_string();
    assert_eq!(said(None, &memory), "staged, because content comes by QUIC");
    for error in [Errno::OPNOTSUPP, Errno::NOSYS] {
        rail.refuses.set(Some(error));
        let text = said(Some(&rail), &memory);
        assert_eq!(text, format!("staged, because cannot register: {error}"));
    }
    rail.refuses.set(None);
    fake.fail("cuMemGetHandleForAddressRange", 801, 0);
    assert_eq!(
        said(Some(&rail), &memory),
        "staged, because cuMemGetHandleForAddressRange: operation not supported (CUDA error 801)"
    );
    fake.dmabuf(false);
    let closed = fake.gpu();
    let memory = DeviceMemory::allocate(&closed, 1 << 20).unwrap();
    let plans = Destinations::new(Arc::new(Exports::new(&closed)));
    let text = plans.plan(Some(&rail), &memory).to_string();
    assert!(text.starts_with("staged, because Fake 0 does not export"), "{text}");
    assert_eq!(rail.registered.get(), 0);
}
