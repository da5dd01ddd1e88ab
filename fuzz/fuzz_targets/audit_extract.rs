//! The part of an audit log that a peer tells, in parts.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portway::fuzzing::AUDIT_EXTRACT.try_on(data);
});
