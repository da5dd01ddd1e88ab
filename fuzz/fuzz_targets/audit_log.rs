//! A whole audit log, verified, read and exported.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portway::fuzzing::AUDIT_LOG.try_on(data);
});
