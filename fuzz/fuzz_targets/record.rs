//! Checksummed records.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portway::fuzzing::RECORD.try_on(data);
});
