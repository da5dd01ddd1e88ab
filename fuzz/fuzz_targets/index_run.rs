//! Runs of the index, opened and asked.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portway::fuzzing::INDEX_RUN.try_on(data);
});
