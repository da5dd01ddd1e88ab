//! Content as copies of blocks and literals, and sums of blocks.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portway::fuzzing::NEAR.try_on(data);
});
