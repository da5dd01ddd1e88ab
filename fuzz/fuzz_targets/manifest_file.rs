//! A manifest file, read to its end; a record may claim 4 MiB before its end is seen.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portway::fuzzing::MANIFEST_FILE.try_on(data);
});
