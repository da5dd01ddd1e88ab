//! Records of an audit log.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portway::fuzzing::AUDIT_RECORD.try_on(data);
});
