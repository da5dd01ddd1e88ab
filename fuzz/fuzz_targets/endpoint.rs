//! Addresses of nodes.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portway::fuzzing::ENDPOINT.try_on(data);
});
