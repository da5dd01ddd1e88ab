//! Invitation tokens.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portway::fuzzing::TOKEN.try_on(data);
});
