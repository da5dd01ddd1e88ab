//! Their answers.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portway::fuzzing::ANSWER.try_on(data);
});
