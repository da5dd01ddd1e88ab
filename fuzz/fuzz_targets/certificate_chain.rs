//! Chains of certificates as PEM text, which an invited node is sent.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portway::fuzzing::CERTIFICATE_CHAIN.try_on(data);
});
