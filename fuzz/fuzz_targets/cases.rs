//! Tables of cases for policies.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portway::fuzzing::CASES.try_on(data);
});
