//! Rows of the index: blocks of paths.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portway::fuzzing::INDEX_BLOCK.try_on(data);
});
