//! Frames of an audit log.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portway::fuzzing::AUDIT_FRAME.try_on(data);
});
