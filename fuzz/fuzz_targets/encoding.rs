//! Encoded content of data messages.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portway::fuzzing::ENCODING.try_on(data);
});
