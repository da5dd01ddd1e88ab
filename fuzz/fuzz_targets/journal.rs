//! A whole journal, replayed and taken up; a record may claim 4 MiB before its end is seen.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portway::fuzzing::JOURNAL.try_on(data);
});
