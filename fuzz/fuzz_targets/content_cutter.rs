//! The content cutter and the fixed one.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portway::fuzzing::CONTENT_CUTTER.try_on(data);
});
