//! Lists of chunks.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portway::fuzzing::CHUNK_LIST.try_on(data);
});
