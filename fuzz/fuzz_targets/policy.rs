//! Policies in Cedar.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portway::fuzzing::POLICY.try_on(data);
});
