//! A peer's certificate, read and judged.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portway::fuzzing::CERTIFICATE.try_on(data);
});
