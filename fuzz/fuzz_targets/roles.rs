//! Bundles of roles.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portway::fuzzing::ROLES.try_on(data);
});
