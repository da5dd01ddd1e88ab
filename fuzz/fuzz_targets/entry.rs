//! Entries, as frames and records carry them.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portway::fuzzing::ENTRY.try_on(data);
});
