//! Rows of the index: where a chunk is.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portway::fuzzing::INDEX_SPOTS.try_on(data);
});
