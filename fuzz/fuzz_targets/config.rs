//! `portway.toml`, environment and flags.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portway::fuzzing::CONFIG.try_on(data);
});
