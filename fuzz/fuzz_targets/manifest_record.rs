//! Records of a manifest.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portway::fuzzing::MANIFEST_RECORD.try_on(data);
});
