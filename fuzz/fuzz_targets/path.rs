//! Paths below a root, and the texts of symbolic links.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portway::fuzzing::PATH.try_on(data);
});
