//! Records of a journal.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portway::fuzzing::JOURNAL_RECORD.try_on(data);
});
