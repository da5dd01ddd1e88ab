//! SPIFFE ids and trust domains.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portway::fuzzing::SPIFFE.try_on(data);
});
