//! The lengths at the head of a data message.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portway::fuzzing::DATA_LENGTHS.try_on(data);
});
