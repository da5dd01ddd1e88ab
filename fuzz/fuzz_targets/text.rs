//! Digests, identifiers, names and words.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portway::fuzzing::TEXT.try_on(data);
});
