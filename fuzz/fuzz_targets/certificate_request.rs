//! Requests for a certificate.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portway::fuzzing::CERTIFICATE_REQUEST.try_on(data);
});
