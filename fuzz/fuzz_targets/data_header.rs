//! Headers of data messages.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portway::fuzzing::DATA_HEADER.try_on(data);
});
