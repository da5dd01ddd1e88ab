//! What the ends of an RDMA session tell each other.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portway::fuzzing::RDMA_MESSAGE.try_on(data);
});
