//! Entries of the index: a chunk and where it is.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portway::fuzzing::INDEX_ENTRY.try_on(data);
});
