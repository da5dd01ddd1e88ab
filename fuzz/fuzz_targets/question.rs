//! Small questions between nodes, enrolment among them.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portway::fuzzing::QUESTION.try_on(data);
});
